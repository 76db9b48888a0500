/** `npm start -- --kubernetes`: three speakers on a real API server, and the faults around them. */
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

const HELP = `\
npm start -- --kubernetes: shows isat on Kubernetes. It starts etcd, a real kube-apiserver, and three nodes in network
namespaces, each with kube-proxy, a web server and an isat speaker. A node dies and boots, the API server dies and comes
back, speakers are upgraded, and an L2Advertisement is narrowed, while a client asks for every VIP every 10 ms.

It needs root, and the first time Go >= 1.24, to compile Kubernetes (some minutes). It ends by itself within two minutes,
and removes everything that it has made. Its status is 0 only if isat kept all of its promises.

  npm start -- --kubernetes           plays the story
  npm start -- --kubernetes --keep    then leaves the cluster up until Ctrl-C, and prints how to look inside
  npm start -- --kubernetes --help    prints this text`;

const PREFIX = "isat-kubernetes-lab-";
/** Three VIPs for each node. */
const VIPS = NODES.flatMap((node) => vipsOf(node, 0, 3));
/** Times that the client fetches from each VIP. */
const CURLS = 6;
/** The API server stays away longer than it takes until a speaker counts its source as stale, ms. */
const API_AWAY = 13_000;

/** An event, and the nodes among which the VIPs must be afterwards. */
interface Step {
  name: string;
  act(): Promise<void>;
  nodes: readonly string[];
}

/** A Service with externalTrafficPolicy Local, whose only endpoint is on n3. */
const LOCAL = { vip: VIPS[0]!, node: "n3" } as const;
const ownerAmong = (vip: string, nodes: readonly string[]) =>
  vip === LOCAL.vip ? (nodes.includes(LOCAL.node) ? LOCAL.node : undefined) : best(vip, nodes);

const display = new Display();
const started = performance.now();
const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
const paint = (style: "green" | "red" | "bold", text: string) =>
  display.look.colour ? styleText(style, text, { validateStream: false }) : text;

/** Draws the VIPs and their owners, by the kernels' maps, until it is disposed of. */
function show(scene: Scene, what: string): Disposable {
  const draw = () => {
    const rows = VIPS.map((vip) => ` ${vip.padEnd(12)} ${scene.speakers.owners(vip).join(" AND ") || "nobody"}`);
    display.draw([` ${what} ... ${seconds()} s`, "", ` ${"VIP".padEnd(12)} answered by`, ...rows]);
  };
  const timer = display.isTerminal ? setInterval(draw, 200) : undefined;
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Lets the client fetch from each VIP. @returns the nodes whose web servers answered */
async function curlAll(scene: Scene): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const vip of VIPS) {
    const nodes: string[] = [];
    for (let count = 0; count < CURLS; count++) nodes.push((await scene.cluster.curl(vip)).node ?? "nobody");
    found.set(vip, nodes);
  }
  return found;
}

/** Plays one event under the watching client. @returns broken promises, a line each */
async function play(scene: Scene, step: Step): Promise<string[]> {
  const before = new Map(VIPS.map((vip) => [vip, scene.speakers.owners(vip)[0]]));
  let report: Report;
  {
    using _ = show(scene, step.name);
    await using watch = await scene.speakers.watch(VIPS, 10);
    await sleep(300);
    await step.act();
    const isSo = () => VIPS.every((vip) => scene.speakers.owners(vip).join() === ownerAmong(vip, step.nodes));
    await until("each VIP is at its owner", isSo, 20_000).catch(() => {});
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
    { name: "node n2 loses its power and its link", act: () => scene.die("n2"), nodes: ["n1", "n3"] },
    { name: "n2 boots again", act: () => scene.revive("n2"), nodes: NODES },
    {
      name: `the API server is killed, and is away for ${API_AWAY / 1000} s`,
      act: async () => {
        await cluster.killServer();
        await sleep(API_AWAY);
      },
      nodes: NODES,
    },
    { name: "meanwhile n1's speaker is upgraded", act: () => speakers.restart(speakers.of("n1")), nodes: NODES },
    {
      name: "the API server comes back",
      act: async () => {
        await cluster.startServer();
        const areFresh = async () =>
          (await Promise.all(NODES.map((node) => speakers.ask(node)))).every((its) => !its.isSourceStale);
        await until("all speakers read it again", areFresh, 30_000);
      },
      nodes: NODES,
    },
    {
      name: "n3's speaker is upgraded: killed, and started",
      act: () => speakers.restart(speakers.of("n3")),
      nodes: NODES,
    },
    { name: "the L2Advertisement is narrowed to n1 and n3", act: advertise(["n1", "n3"]), nodes: ["n1", "n3"] },
    { name: "the L2Advertisement covers all nodes again", act: advertise(NODES), nodes: NODES },
  ];
}

/** Starts the cluster, the Services and the speakers. */
async function start(): Promise<Scene> {
  display.print("Starting etcd, a kube-apiserver, and three nodes with kube-proxy and a web server each.");
  const scene = await Scene.start(PREFIX, { wire: "bridge", metallb: true });
  const { cluster, speakers } = scene;
  display.print(
    `The cluster is ready after ${seconds()} s. Creating ${VIPS.length} Services and starting isat on each node.`,
  );
  await cluster.api.apply(pool("lab", ["10.9.0.0/20"]));
  await cluster.api.apply(advertisement("all"));
  for (const [index, vip] of VIPS.entries()) {
    const isLocal = vip === LOCAL.vip;
    await cluster.serve(`web${index + 1}`, vip, isLocal ? { policy: "Local", endpoints: [LOCAL.node] } : {});
  }
  await speakers.startAll();
  await until("all VIPs are owned", () => VIPS.every((vip) => speakers.owners(vip).length === 1), 20_000);
  display.print(`Each VIP has an owner after ${seconds()} s.\n`);
  return scene;
}

/** Prints each Service, its owner, and the nodes that served it. @returns broken promises, a line each */
async function showServices(scene: Scene): Promise<string[]> {
  const broken: string[] = [];
  const row = (cells: readonly string[]) =>
    ` ${[12, 13, 12].map((width, i) => cells[i]!.padEnd(width)).join("")}${cells[3]}`;
  display.print(
    `The client runs curl http://VIP/ ${CURLS} times for each Service. The owner receives the packets, and kube-proxy`,
  );
  display.print(
    "passes them to any node's web server; a Service with externalTrafficPolicy Local has its own node only.\n",
  );
  display.print(paint("bold", row(["VIP", "Service", "owner", "served by"])));
  for (const [vip, nodes] of await curlAll(scene)) {
    const name = `web${VIPS.indexOf(vip) + 1}${vip === LOCAL.vip ? " (Local)" : ""}`;
    const counts = NODES.map((node) => `${node}: ${nodes.filter((each) => each === node).length}`);
    const [owner] = scene.speakers.owners(vip);
    display.print(row([vip, name, owner ?? "nobody", counts.join("  ")]));
    if (owner !== ownerAmong(vip, NODES))
      broken.push(`${vip} is at ${owner}, and should be at ${ownerAmong(vip, NODES)}`);
    if (nodes.includes("nobody")) broken.push(`a curl of ${vip} failed`);
  }
  return broken;
}

async function lab(keep: boolean): Promise<number> {
  await using scene = await start();
  const broken = await showServices(scene);
  display.print("\nNow things go wrong, while the client asks for every VIP every 10 ms:\n");
  const heading = ["VIPs moved", "longest silence", "answered twice"].map((text) => text.padEnd(17));
  display.print(paint("bold", ` ${"event".padEnd(WIDTH)} ${heading.join("")}`));
  for (const step of stepsOf(scene)) broken.push(...(await play(scene, step)));
  const last = await curlAll(scene);
  const failed = [...last.values()].flat().filter((node) => node === "nobody").length;
  if (failed > 0) broken.push(`at the end ${failed} curls failed`);

  display.print(`\nAt the end ${CURLS * VIPS.length - failed} of ${CURLS * VIPS.length} curls were served.`);
  if (broken.length === 0) display.print(`isat kept all of its promises. This took ${seconds()} s.`);
  else display.settle(["isat did not keep its promises:", ...broken.map((line) => `  ${line}`)]);
  if (keep) await keepUp(scene);
  return broken.length === 0 ? 0 : 1;
}

async function keepUp({ cluster, speakers }: Scene): Promise<void> {
  const { node, pinDir, runDir } = speakers.of("n1");
  const enter = (name: string) => `nsenter --net=/run/netns/${cluster.namespaces.full(name)}`;
  const vips = globSync(`${pinDir}/**/vips`)[0] ?? `${pinDir}/vips`;
  display.settle([
    "",
    "The cluster stays up until Ctrl-C. To look inside, run in another terminal:",
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
      display.print("Stopped. Everything is removed.");
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
