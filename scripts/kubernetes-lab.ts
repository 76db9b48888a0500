/** `npm start -- --kubernetes`: isat in pods on three kubelets, and the faults around them. */
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, styleText } from "node:util";
import { binary } from "../lab/cluster/binaries.ts";
import { Display } from "../lab/display.ts";
import { answerersOf, Kubelets, noNodes } from "../lab/kubelet/kubelets.ts";
import { VIPS as ALL, CLIENT, NODES, ownerOf } from "../lab/topology.ts";
import { type Report, sumOf } from "../lab/watch/watch.ts";

const HELP = `\
npm start -- --kubernetes: shows isat on Kubernetes, in pods. It starts etcd, a kube-apiserver, controllers and a scheduler,
and three nodes in network namespaces, each with a kubelet, containerd, kube-proxy and a web server. isat is installed as
docs/install.md tells. Then it is rolled out anew, a pod is killed, a node loses its power and boots, the API server
is away, and a node is deleted, while a client asks for every VIP every 10 ms. At the end isat is removed.

It needs root, cgroup v1, an x86-64 machine, and the first time Go >= 1.24, to compile Kubernetes (some minutes). It ends by
itself within four minutes, and removes everything that it has made. Its status is 0 only if isat kept all of its promises.

  npm start -- --kubernetes           plays the story
  npm start -- --kubernetes --keep    then leaves the cluster and isat up until Ctrl-C, and prints how to look inside
  npm start -- --kubernetes --help    prints this text`;

const PREFIX = "isat-kubernetes-lab-";
const VIPS = ALL.slice(0, 9);
/** The VIP of a node that stays, through which the client fetches over HTTP meanwhile. */
const WEB = VIPS.find((vip) => ownerOf(vip).name === NODES[0]!.name)!;
const [, N2, N3] = NODES.map(({ name }) => name) as [string, string, string];
/** The API server stays away longer than it takes until a speaker counts its source as stale, ms. */
const API_AWAY = 13_000;
/** The longest silence of a VIP whose node dies, and of one that is handed over, ms. */
const [DEATH, HAND_OVER] = [1_000, 50];

/** An event, and the node from which VIPs go meanwhile, and come back to it. */
interface Step {
  name: string;
  act(): Promise<void>;
  away?: { node: string; silence: number };
  /** Web servers die: until Kubernetes has noticed, kube-proxy sends to them. */
  losesServers?: boolean;
}

const display = new Display();
const started = performance.now();
const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
const paint = (style: "green" | "red" | "bold", text: string) =>
  display.look.colour ? styleText(style, text, { validateStream: false }) : text;
const WIDTH = 56;

/** Plays one event under the watching client. @returns broken promises, a line each */
async function play(cluster: Kubelets, { name, act, away, losesServers }: Step): Promise<string[]> {
  display.draw([` ${name} ... ${seconds()} s`]);
  let report!: Report;
  const fetches = await cluster.fetched(WEB, async () => {
    report = await cluster.watched(VIPS, async () => {
      await sleep(300);
      await act();
      await sleep(4_000);
    });
  });
  const broken: string[] = [];
  let moved = 0;
  for (const seen of report.vips) {
    const home = ownerOf(seen.vip).name;
    const turns = answerersOf(seen);
    const isAway = away?.node === home;
    if (isAway) moved++;
    const isRight = isAway ? turns.length === 3 && turns[0] === home && turns[2] === home : turns.join() === home;
    if (!isRight)
      broken.push(`${seen.vip} was answered by ${turns.join(", then ") || "nobody"}, and ${home} is its owner`);
    if (seen.silence > (isAway ? away.silence : 0))
      broken.push(`${seen.vip} was silent for ${seen.silence.toFixed(0)} ms`);
    if (seen.doubled > 0) broken.push(`${seen.vip}: ${seen.doubled} requests had two answers`);
  }
  if (!losesServers) broken.push(...fetches.failed.slice(0, 3).map((line) => `a fetch failed: ${line}`));
  const { asked, unanswered, silence } = sumOf(report);
  const verdict = broken.length === 0 ? paint("green", "as promised") : paint("red", "NOT as promised");
  const silent = silence > 0 ? `${silence.toFixed(0)} ms` : "-";
  const served = fetches.asked - fetches.failed.length;
  const cells = [`${moved} of ${VIPS.length}`, silent, `${unanswered} of ${asked}`, `${served} of ${fetches.asked}`];
  display.print(` ${name.padEnd(WIDTH)} ${cells.map((cell) => cell.padEnd(17)).join("")}${verdict}`);
  return broken.map((line) => `${name}: ${line}`);
}

function stepsOf(cluster: Kubelets): Step[] {
  const inSystem = (...args: string[]) => cluster.kubectl("-n", "isat-system", ...args);
  const boot = async () => {
    await cluster.nodesReady(NODES.length);
    await cluster.allReady();
  };
  return [
    {
      name: "kubectl rollout restart daemonset/isat",
      act: async () => {
        await inSystem("rollout", "restart", "daemonset/isat");
        await cluster.rolledOut();
      },
    },
    {
      name: `${N2}'s pod is deleted without a grace`,
      act: async () => {
        await inSystem("delete", "pod", await cluster.podOn(N2), "--force", "--grace-period=0");
        await sleep(2_000);
        await cluster.allReady();
      },
    },
    {
      name: `${N2} loses its power, and boots`,
      act: async () => {
        await cluster.machine(N2).cutPower();
        await sleep(2_000);
        await cluster.machine(N2).boot();
        await boot();
      },
      away: { node: N2, silence: DEATH },
      losesServers: true,
    },
    {
      name: `the API server is killed, and is away for ${API_AWAY / 1000} s`,
      act: async () => {
        await cluster.plane.killServer();
        await sleep(API_AWAY);
        await cluster.plane.startServer();
        await boot();
      },
    },
    {
      name: `${N3} is deleted from the cluster, and registers again`,
      act: async () => {
        await cluster.kubectl("delete", "node", N3);
        await sleep(4_000);
        await cluster.machine(N3).kill("kubelet");
        await boot();
      },
      away: { node: N3, silence: HAND_OVER },
      losesServers: true,
    },
  ];
}

/** Installs isat by the commands of docs/install.md. */
async function install(cluster: Kubelets): Promise<void> {
  const manifest = readFileSync("deploy/isat.yaml", "utf8");
  const text = manifest.replace("kind: kubernetes\n", "kind: kubernetes\n      addresses: [10.9.0.0/18]\n");
  await cluster.must("kubectl", ["apply", "-f", "-"], text);
  await cluster.shell(
    'kubectl -n isat-system create secret generic isat-wire --from-literal=wire.key="$(head -c 32 /dev/urandom | base64)"',
  );
  await cluster.allReady();
}

async function lab(keep: boolean): Promise<number> {
  display.print("Starting etcd, a kube-apiserver, and three nodes with a kubelet, containerd and kube-proxy each.");
  await using cluster = await Kubelets.start(PREFIX);
  display.print(
    `The nodes are Ready after ${seconds()} s. Creating ${VIPS.length} Services, and a web server on each node.`,
  );
  await cluster.serve(VIPS);
  const report = await cluster.watched(VIPS, () => install(cluster));
  const silent = report.vips
    .filter(({ answerers }) => answerers.length === 0)
    .map(({ vip }) => `${vip}: nobody answers`);
  display.print(`isat's pods are ready after ${seconds()} s. Its own words, by kubectl exec ds/isat -- isat status:\n`);
  display.print(await cluster.kubectl("-n", "isat-system", "exec", "ds/isat", "--", "isat", "status"));
  display.print("Now things go wrong, while the client asks for every VIP every 10 ms:\n");
  const heading = ["VIPs moved", "longest silence", "unanswered", "fetches served"].map((text) => text.padEnd(17));
  display.print(paint("bold", ` ${"event".padEnd(WIDTH)} ${heading.join("")}`));
  const broken = [...silent];
  for (const step of stepsOf(cluster)) broken.push(...(await play(cluster, step)));
  if (keep) await keepUp(cluster);
  await cluster.must("kubectl", ["apply", "-f", "deploy/clean.yaml"]);
  await cluster.rolledOut();
  await cluster.kubectl("delete", "-f", "deploy/isat.yaml", "--wait=true", "--timeout=60s");
  if (broken.length === 0) display.print(`isat kept all of its promises, and is removed. This took ${seconds()} s.`);
  else display.settle(["isat did not keep its promises:", ...broken.map((line) => `  ${line}`)]);
  return broken.length === 0 ? 0 : 1;
}

async function keepUp(cluster: Kubelets): Promise<void> {
  const enter = (name: string) => `nsenter --net=/run/netns/${cluster.namespaces.full(name)}`;
  display.settle([
    "",
    "The cluster stays up until Ctrl-C. To look inside, run in another terminal:",
    `  alias k='${enter("api")} env KUBECONFIG=${cluster.plane.kubeconfig("admin")} ${relative(".", binary("kubectl"))}'`,
    "  k get services; k -n isat-system exec ds/isat -- isat status",
    `  ${enter(CLIENT.name)} curl http://${VIPS[0]}/`,
    `  ${enter("n1")} tcpdump -eni eth0 arp`,
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
  if (noNodes) {
    console.error(`lab: cannot start nodes: ${noNodes}`);
    return 2;
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
