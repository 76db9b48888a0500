/** What `npm start -- --kubernetes` shows: three speakers on a real API server, and what goes wrong around them. */
import { globSync } from "node:fs";
import { relative } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, styleText } from "node:util";
import { binary } from "../lab/cluster/binaries.ts";
import { advertisement, pool } from "../lab/cluster/metallb.ts";
import { best, NODES, Scene, vipsOf } from "../lab/cluster/scene.ts";
import { Display } from "../lab/display.ts";
import { until } from "../lab/kernel/process.ts";
import { type Report, sumOf, turns } from "../lab/watch/watch.ts";

const HELP = `npm start -- --kubernetes: brings up etcd, a real kube-apiserver and three nodes with kube-proxy, a web server and an
isat speaker each, in network namespaces. Nodes die, the API server dies, a speaker is upgraded, an L2Advertisement is
narrowed, while a client asks for every VIP all the time. Needs root, and Go >= 1.24 the first time, to compile
Kubernetes (some minutes). Ends by itself in less than two minutes, with status 0 only if all went as promised.

  npm start -- --kubernetes           plays, and removes everything
  npm start -- --kubernetes --keep    leaves the cluster up until Ctrl-C, and tells how to look inside
  npm start -- --kubernetes --help    this`;

const PREFIX = "isat-kubernetes-lab-";
/** Each node's three, and what is special about the first of them. */
const VIPS = NODES.flatMap((node) => vipsOf(node, 0, 3));
const CURLS = 6;
/** Longer than a node that is cut off may keep its VIPs, ms. */
const API_AWAY = 13_000;

/** Something that happens, and where each VIP has to be then. */
interface Step {
  name: string;
  act(): Promise<void>;
  /** The nodes that may own then. */
  nodes: readonly string[];
}

/** Whom a Service that only n3 can serve is left to. */
const LOCAL = { vip: VIPS[0]!, node: "n3" } as const;
const ownerAmong = (vip: string, nodes: readonly string[]) =>
  vip === LOCAL.vip ? (nodes.includes(LOCAL.node) ? LOCAL.node : undefined) : best(vip, nodes);

const display = new Display();
const started = performance.now();
const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
const paint = (style: "green" | "red" | "bold", text: string) =>
  display.look.colour ? styleText(style, text, { validateStream: false }) : text;

/** Draws the VIPs and their owners, as the kernels have them, until it is stopped. */
function show(scene: Scene, what: string): Disposable {
  const draw = () => {
    const rows = VIPS.map((vip) => ` ${vip.padEnd(12)} ${scene.speakers.owners(vip).join(" AND ") || "nobody"}`);
    display.draw([` ${what} ... ${seconds()} s`, "", ` ${"VIP".padEnd(12)} answered by`, ...rows]);
  };
  const timer = display.isTerminal ? setInterval(draw, 200) : undefined;
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Which nodes' web servers answered the client's curls. */
async function curlAll(scene: Scene): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const vip of VIPS) {
    const nodes: string[] = [];
    for (let count = 0; count < CURLS; count++) nodes.push((await scene.cluster.curl(vip)).node ?? "nobody");
    found.set(vip, nodes);
  }
  return found;
}

/** What was not as promised: a line each. */
async function play(scene: Scene, step: Step): Promise<string[]> {
  const before = new Map(VIPS.map((vip) => [vip, scene.speakers.owners(vip)[0]]));
  let report: Report;
  {
    using _ = show(scene, step.name);
    await using watch = await scene.speakers.watch(VIPS, 10);
    await sleep(300);
    await step.act();
    const isSo = () => VIPS.every((vip) => scene.speakers.owners(vip).join() === ownerAmong(vip, step.nodes));
    await until("each VIP is where it should be", isSo, 20_000).catch(() => {});
    await sleep(500);
    report = await watch.stop();
  }
  return judge(scene, step, before, report);
}

function judge(scene: Scene, step: Step, before: ReadonlyMap<string, string | undefined>, report: Report): string[] {
  const broken: string[] = [];
  const inTurn = turns(report);
  let moved = 0;
  for (const { vip, unanswered, doubled } of report.vips) {
    const [from, to] = [before.get(vip), ownerAmong(vip, step.nodes)];
    const expected = from === to ? from! : `${from} > ${to}`;
    if (from !== to) moved++;
    if (inTurn[vip] !== expected) broken.push(`${vip} was answered by ${inTurn[vip]}, and should be by ${expected}`);
    if (scene.speakers.owners(vip).join() !== to) broken.push(`${vip} is not at ${to}`);
    if (from === to && unanswered > 0) broken.push(`${vip} did not move, and ${unanswered} requests had no answer`);
    if (doubled > 0) broken.push(`${vip}: ${doubled} requests had two answers`);
  }
  const { asked, doubled, silence } = sumOf(report);
  const silent = silence > 0 ? `${silence.toFixed(0)} ms` : "-";
  const verdict = broken.length === 0 ? paint("green", "as promised") : paint("red", "NOT as promised");
  const cells = [`${moved} of ${VIPS.length}`, silent, `${doubled} of ${asked}`];
  display.print(` ${step.name.padEnd(WIDTH)} ${cells.map((cell) => cell.padEnd(17)).join("")}${verdict}`);
  return broken.map((line) => `${step.name}: ${line}`);
}

const WIDTH = 46;

function stepsOf(scene: Scene): Step[] {
  const { cluster, speakers } = scene;
  const advertise = (values: readonly string[]) => {
    const nodeSelectors = [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values }] }];
    return async () => void (await cluster.api.apply(advertisement("all", { nodeSelectors })));
  };
  return [
    { name: "node n2 dies: power and plug", act: () => scene.die("n2"), nodes: ["n1", "n3"] },
    { name: "n2 boots", act: () => scene.revive("n2"), nodes: NODES },
    {
      name: `the API server is killed, and stays away ${API_AWAY / 1000} s`,
      act: async () => {
        await cluster.killServer();
        await sleep(API_AWAY);
      },
      nodes: NODES,
    },
    { name: "n1's speaker is upgraded meanwhile", act: () => speakers.restart(speakers.of("n1")), nodes: NODES },
    {
      name: "the API server comes back",
      act: async () => {
        await cluster.startServer();
        const areFresh = async () =>
          (await Promise.all(NODES.map((node) => speakers.ask(node)))).every((its) => !its.isSourceStale);
        await until("all read it again", areFresh, 30_000);
      },
      nodes: NODES,
    },
    {
      name: "n3's speaker is upgraded: killed and started",
      act: () => speakers.restart(speakers.of("n3")),
      nodes: NODES,
    },
    { name: "the L2Advertisement is narrowed to n1 and n3", act: advertise(["n1", "n3"]), nodes: ["n1", "n3"] },
    { name: "and covers all nodes again", act: advertise(NODES), nodes: NODES },
  ];
}

async function lab(keep: boolean): Promise<number> {
  display.print("Bringing up etcd, a kube-apiserver, and three nodes with kube-proxy, a web server and isat");
  await using scene = await Scene.start(PREFIX, { wire: "bridge", metallb: true });
  const { cluster, speakers } = scene;
  display.print(`The cluster is ready after ${seconds()} s`);
  await cluster.api.apply(pool("lab", ["10.9.0.0/20"]));
  await cluster.api.apply(advertisement("all"));
  for (const [index, vip] of VIPS.entries()) {
    const isLocal = vip === LOCAL.vip;
    await cluster.serve(`web${index + 1}`, vip, isLocal ? { policy: "Local", endpoints: [LOCAL.node] } : {});
  }
  await speakers.startAll();
  await until("all VIPs are owned", () => VIPS.every((vip) => speakers.owners(vip).length === 1), 20_000);
  display.print(`Three speakers have their shares of ${VIPS.length} VIPs after ${seconds()} s\n`);

  const broken: string[] = [];
  display.print(
    paint(
      "bold",
      ` ${"VIP".padEnd(12)} ${"Service".padEnd(12)} ${"owner".padEnd(7)} ${CURLS} times curl http://VIP/ from the client`,
    ),
  );
  for (const [vip, nodes] of await curlAll(scene)) {
    const index = VIPS.indexOf(vip);
    const name = `web${index + 1}${vip === LOCAL.vip ? " Local" : ""}`;
    const counts = NODES.map((node) => `${node} ${nodes.filter((each) => each === node).length}`);
    const [owner] = speakers.owners(vip);
    display.print(` ${vip.padEnd(12)} ${name.padEnd(12)} ${owner!.padEnd(7)} served by ${counts.join("  ")}`);
    if (owner !== ownerAmong(vip, NODES)) broken.push(`${vip} is at ${owner}`);
    if (nodes.includes("nobody")) broken.push(`a curl of ${vip} failed`);
  }
  display.print();
  const heading = ["VIPs moved", "longest silence", "two answers"].map((text) => text.padEnd(17));
  display.print(paint("bold", ` ${"what happens".padEnd(WIDTH)} ${heading.join("")}`));
  for (const step of stepsOf(scene)) broken.push(...(await play(scene, step)));
  for (const [vip, nodes] of await curlAll(scene))
    if (nodes.includes("nobody")) broken.push(`at the end a curl of ${vip} failed`);

  display.print();
  if (broken.length === 0)
    display.print(
      `All as promised, in ${seconds()} s. At the end ${CURLS * VIPS.length} of ${CURLS * VIPS.length} curls were served.`,
    );
  else display.settle(["Not as promised:", ...broken.map((line) => `  ${line}`)]);
  if (keep) await keepUp(scene);
  return broken.length === 0 ? 0 : 1;
}

async function keepUp({ cluster, speakers }: Scene): Promise<void> {
  const { node, pinDir, runDir } = speakers.of("n1");
  const enter = (name: string) => `nsenter --net=/run/netns/${cluster.namespaces.full(name)}`;
  const vips = globSync(`${pinDir}/**/vips`)[0] ?? `${pinDir}/vips`;
  display.settle([
    "",
    "The cluster stays up until Ctrl-C. Looking inside:",
    `  export KUBECONFIG=${cluster.kubeconfig("admin", "here")}; ${relative(".", binary("kubectl"))} get services`,
    `  ${enter("client")} curl http://${VIPS[0]}/`,
    `  scripts/isat status ${VIPS[0]} --run-dir ${runDir}`,
    `  bpftool map dump pinned ${vips}`,
    `  ${enter(node.name)} tcpdump -eni eth0 arp`,
  ]);
  for (;;) await sleep(60_000);
}

async function main(): Promise<number> {
  const options = {
    keep: { type: "boolean" },
    kubernetes: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  } as const;
  const { values } = parseArgs({ options });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      display.print("Stopped; everything is removed");
      process.exit(130);
    });
  }
  return await lab(values.keep === true);
}

main().then(
  (status) => process.exit(status),
  (error: Error) => {
    console.error(`lab: ${error.message}`);
    process.exit(1);
  },
);
