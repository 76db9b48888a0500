/** What `npm start` shows: the outage on two labs at once, then every behaviour of the switch on both. */
import { globSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
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

const HELP = `npm start: brings up three nodes, a client and a simulated gateway switch in network namespaces, twice;
one with isat, one with OpenELB v0.4.4's way of answering. Replays the outage, then every behaviour of the switch; then a
node dies, comes back, and a speaker is upgraded, under a client that asks for every VIP each 10 ms.
Needs root. Ends by itself in less than 90 s, with status 0 only if all went as promised.

  npm start                 plays, and removes everything
  npm start -- --keep       leaves the isat lab up until Ctrl-C, and tells how to look inside
  npm start -- --kubernetes another one: three speakers on a real API server (--kubernetes --help)
  npm start -- --help       this`;

const PREFIX = "isat-lab-";
/** Milliseconds from the first ping to the last of the replay on the screen: three and a half ageings. */
const SHOW = 7000;
/** Where there is no terminal to redraw, the scene is printed at these milliseconds. */
const SNAPSHOTS = [1000, SHOW];

type Labs = Record<"isat" | "openelb", Lab>;

const display = new Display();
const stop = new AbortController();
const troubles: string[] = [];

function trouble(line: string): void {
  if (stop.signal.aborted) return; // Ctrl-C reaches the speakers as well
  troubles.push(line);
  display.print(`! ${line}`);
}

async function play(keep: boolean): Promise<number> {
  const started = performance.now();
  const { signal } = stop;
  display.print("Bringing up two labs, each three nodes, a client and a gateway switch");
  using namespaces = new Namespaces(PREFIX);
  using isat = new Lab(namespaces, "a", "isat", trouble);
  using openelb = new Lab(namespaces, "b", "openelb", trouble);
  const labs = { isat, openelb };
  await Promise.all([isat.ready(signal), openelb.ready(signal)]);
  display.print(`Three isat speakers are ready after ${seconds(started)} s, and OpenELB's leader on ${LEADER.name}\n`);

  const outage = await showOutage(labs);
  const broken = await askFromClient(isat);
  const rows = await fillTable(labs, outage);
  broken.push(...brokenPromises(rows), ...isat.witness.broken);
  broken.push(...(await showHandOver(namespaces)), ...troubles);

  display.print();
  const { claims, answers } = isat.witness;
  display.print(`On isat's wire ${claims} ARP frames claimed a VIP, ${answers} of them answers. ${wireVerdict(isat)}`);
  if (broken.length === 0) display.print(`All as promised, in ${seconds(started)} s.`);
  else display.settle(["Not as promised:", ...broken.map((line) => `  ${line}`)]);
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

/** What is not as promised. */
async function askFromClient(lab: Lab): Promise<string[]> {
  const silent = await lab.pingFromClient();
  const answered = VIPS.length - silent.length;
  display.print(
    `The client, an ordinary Linux host on isat's switch, pinged ${VIPS.length} VIPs: ${answered} answered\n`,
  );
  return silent.map((vip) => `${vip} did not answer the client`);
}

async function fillTable(labs: Labs, outage: Row): Promise<Row[]> {
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

/** Three more nodes, on a bridge of the kernel: what happens when one dies, and when one is upgraded. */
async function showHandOver(namespaces: Namespaces): Promise<string[]> {
  display.print();
  display.draw([" Three more nodes, on a bridge of the kernel ..."]);
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

function wireVerdict({ witness }: Lab): string {
  return witness.broken.size === 0
    ? "Each came\nout of its owner's port, with the owner's MAC as Ethernet source and SHA. No request had two answers."
    : `${witness.broken.size} things were wrong with them.`;
}

/** The switch goes on pinging, so that there is something to see. */
async function keepUp(lab: Lab, namespaces: Namespaces): Promise<void> {
  const { node, config, pinDir, runDir } = lab.isat!.first;
  const enter = `nsenter --net=/run/netns/${namespaces.full(`a-${node.name}`)}`;
  const vips = globSync(`${pinDir}/**/vips`)[0] ?? `${pinDir}/vips`;
  lab.isat!.pace();
  lab.reset(H3C);
  display.settle([
    "",
    `The isat lab stays up until Ctrl-C, and its switch goes on pinging. Looking into ${node.name}:`,
    `  ${enter} tcpdump -eni eth0 arp`,
    `  bpftool map dump pinned ${vips}`,
    `  scripts/isat status --run-dir ${runDir}`,
    `  ${config} is its configuration: a change applies at once`,
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
    display.print("Stopped; everything is removed");
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
