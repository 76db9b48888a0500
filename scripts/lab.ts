/** `npm start`: plays the outage and other behaviours of a switch on two labs at once, then a failover. */
import { globSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, styleText } from "node:util";
import { Display } from "../lab/display.ts";
import { Namespaces } from "../lab/namespaces.ts";
import { Lab, LEADER } from "../lab/outage/lab.ts";
import { replay } from "../lab/outage/replay.ts";
import { render, renderRow, type Scene, tableHeading } from "../lab/outage/screen.ts";
import { brokenPromises, type Row } from "../lab/outage/verdict.ts";
import { BEHAVIOURS, H3C, OUTAGE } from "../lab/switch/settings.ts";
import { VIP_RANGES, VIPS } from "../lab/topology.ts";
import { comeback, death, upgrade } from "../lab/trio/hand-over.ts";
import { Trio } from "../lab/trio/trio.ts";

const HELP = `\
npm start: shows isat at work, beside OpenELB v0.4.4's way of answering. Each gets three nodes, a client and a simulated
gateway switch, in network namespaces.

  1. The outage is replayed on a switch like the one that it happened on.
  2. The same is played on switches that behave in eight other ways.
  3. A node dies, comes back, and a speaker is upgraded, while a client asks for every VIP every 10 ms.

It needs root, ends by itself within 90 s, and removes everything that it has made. Its status is 0 only if isat kept all
of its promises.

  npm start                    plays the three parts
  npm start -- --keep          then leaves the isat lab up until Ctrl-C, and prints how to look inside
  npm start -- --kubernetes    plays another story: isat in pods on three real kubelets
  npm start -- --help          prints this text (add --kubernetes for the other story's)`;

const PREFIX = "isat-lab-";
/** Time from the first ping of the outage to the last, ms: three and a half ageings of the ARP entries. */
const SHOW = 7000;
/** Without a terminal, on which the scene can be redrawn, it is printed at these times, ms. */
const SNAPSHOTS = [1000, SHOW];

type Labs = Record<"isat" | "openelb", Lab>;

const display = new Display();
const stop = new AbortController();
const troubles: string[] = [];

function trouble(line: string): void {
  if (stop.signal.aborted) return; // Ctrl-C ends the speakers as well
  troubles.push(line);
  display.print(`! ${line}`);
}

async function play(keep: boolean): Promise<number> {
  const started = performance.now();
  const { signal } = stop;
  display.print("Building two labs, each with three nodes, a client and a simulated gateway switch.");
  display.print("The nodes of one run isat. In the other, one leader answers for all nodes, as OpenELB 0.4.4 does.");
  using namespaces = new Namespaces(PREFIX);
  using isat = new Lab(namespaces, "a", "isat", trouble);
  using openelb = new Lab(namespaces, "b", "openelb", trouble);
  const labs = { isat, openelb };
  await Promise.all([isat.ready(signal), openelb.ready(signal)]);
  display.print(`Both are ready after ${seconds(started)} s; OpenELB's leader is ${LEADER.name}.\n`);
  heading("1. The outage: a switch that learns an entry's port from ARP replies, and forwards by it");

  const outage = await showOutage(labs);
  const broken = await askFromClient(isat);
  const rows = await fillTable(labs, outage);
  broken.push(...brokenPromises(rows), ...isat.witness.broken);
  display.settle(["", ...wireVerdict(isat)]);
  // From here on the simulated switch stalls at times, as this process waits for others, and its nodes lose each other.
  broken.push(...(await showHandOver(namespaces)), ...troubles);

  if (broken.length === 0) display.print(`isat kept all of its promises. This took ${seconds(started)} s.`);
  else display.settle(["isat did not keep its promises:", ...broken.map((line) => `  ${line}`)]);
  if (keep) await keepUp(isat, namespaces);
  return broken.length === 0 ? 0 : 1;
}

async function showOutage(labs: Labs): Promise<Row> {
  const scene = (elapsed: number): Scene => ({
    clock: (elapsed * H3C.timeScale) / 1000,
    arpAgeing: H3C.arpAgeing,
    leader: LEADER.name,
    isat: labs.isat.view(),
    openelb: labs.openelb.view(),
  });
  const onRound = (elapsed: number) => {
    const lines = render(scene(elapsed), display.look);
    if (elapsed === SHOW || (!display.isTerminal && SNAPSHOTS.includes(elapsed))) display.settle([...lines, ""]);
    else display.draw(lines);
  };
  return await replay(labs, OUTAGE, { signal: stop.signal, end: SHOW, onRound });
}

/** Lets the client ping every VIP. @returns broken promises, a line each */
async function askFromClient(lab: Lab): Promise<string[]> {
  const silent = await lab.pingFromClient();
  const answered = VIPS.length - silent.length;
  display.print(
    ` The client, an ordinary Linux host on isat's switch, pinged the ${VIPS.length} VIPs: ${answered} answered.\n`,
  );
  return silent.map((vip) => `${vip} did not answer the client`);
}

async function fillTable(labs: Labs, outage: Row): Promise<Row[]> {
  heading("2. Other switches: pings answered of those sent, and why the others were lost");
  display.print(tableHeading(display.look));
  const rows: Row[] = [];
  for (const behaviour of BEHAVIOURS) {
    const onRound = (elapsed: number) => {
      const { columns } = display.look;
      display.draw([` ${behaviour.name} ... ${(elapsed / 1000).toFixed(1)} s`.slice(0, columns)]);
    };
    const row = behaviour === OUTAGE ? outage : await replay(labs, behaviour, { signal: stop.signal, onRound });
    display.print(renderRow(row.behaviour.name, row.isat, row.openelb, display.look));
    rows.push(row);
  }
  return rows;
}

/** Plays a death, a return and an upgrade on three more nodes. @returns broken promises, a line each */
async function showHandOver(namespaces: Namespaces): Promise<string[]> {
  display.print();
  heading("3. Failover: three more nodes on a Linux bridge, and a client that asks for every VIP every 10 ms\n");
  display.draw([" starting three more speakers ..."]);
  await using trio = new Trio(namespaces, "c", { vips: VIP_RANGES });
  await trio.start();
  const broken: string[] = [];
  for (const play of [death, comeback, upgrade]) {
    stop.signal.throwIfAborted();
    display.draw([` ${play.name} ...`]);
    const act = await play(trio);
    display.settle(act.lines);
    broken.push(...act.broken);
  }
  return broken;
}

function heading(text: string): void {
  display.print(display.look.colour ? styleText("bold", text, { validateStream: false }) : text);
}

/** The sum of all ARP frames on isat's switch. */
function wireVerdict({ witness: { claims, answers, broken } }: Lab): string[] {
  const counts = ` Up to here, ${claims} ARP frames on isat's switch claimed a VIP; ${answers} of them were answers.`;
  if (broken.size > 0) return [`${counts} Not all were right:`, ...[...broken].map((line) => `  ${line}`)];
  return [
    `${counts} Each came out of`,
    " the port of the VIP's owner, with the owner's MAC as Ethernet source and sender. No request had two answers.",
  ];
}

/** Leaves the isat lab up. Its switch goes on pinging, so that there is something to see. */
async function keepUp(lab: Lab, namespaces: Namespaces): Promise<void> {
  const { node, config, pinDir, runDir } = lab.isat!.first;
  const enter = `nsenter --net=/run/netns/${namespaces.full(`a-${node.name}`)}`;
  const vips = globSync(`${pinDir}/**/vips`)[0] ?? `${pinDir}/vips`;
  lab.isat!.pace();
  lab.reset(H3C);
  display.settle([
    "",
    `The isat lab stays up until Ctrl-C, and its switch goes on pinging. To look into ${node.name}, run in another terminal:`,
    `  ${enter} tcpdump -eni eth0 arp     # ARP on its wire`,
    `  bpftool map dump pinned ${vips}     # the VIPs in its kernel`,
    `  scripts/isat status --run-dir ${runDir}     # what it owns and answers`,
    `  $EDITOR ${config}     # its configuration: a change applies at once`,
  ]);
  while (!stop.signal.aborted) {
    lab.ping();
    await sleep(1000, undefined, { signal: stop.signal }).catch(() => {});
  }
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { keep: { type: "boolean" }, help: { type: "boolean", short: "h" } } });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stop.abort());
  try {
    return await play(values.keep === true);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    display.print("Stopped. Everything is removed.");
    return 130;
  }
}

main().then(
  (status) => process.exit(status),
  (error: Error) => {
    console.error(`lab: ${error.message}`);
    process.exit(1);
  },
);
