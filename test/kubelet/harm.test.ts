// limit: 600 s
/**
 * Harm to nodes and pods, and bad input, on real kubelets: nodes that are deleted or lose their power, a pod out of memory, an
 * image that comes slowly or is for another machine, and hosts that lack something. A client asks for every VIP each 10 ms.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { REGISTRY, startRegistry } from "../../lab/kubelet/images.ts";
import { answerersOf, Kubelets, noNodes, PATIENCE } from "../../lab/kubelet/kubelets.ts";
import { checker } from "../../lab/skip.ts";
import { GATEWAY, NODES, ownerOf } from "../../lab/topology.ts";
import { type Report, sumOf } from "../../lab/watch/watch.ts";
import { ADDRESSES, install, nothingHappens as nothing, VIPS } from "./steady.ts";

const test = suite("harm");
const check = checker(test, noNodes);
const { name: N3 } = NODES[2]!;
const OLD = "isat-old";
/** An image comes for so long to the first node that pulls it, s. */
const PULL = 60;
let cluster: Kubelets;

if (!noNodes) {
  test.before(async () => {
    cluster = await Kubelets.start("isat-t-harm-");
    await startRegistry(cluster.namespaces, PULL);
    await cluster.serve(VIPS);
    await install(cluster);
    await patch({ spec: { minReadySeconds: 1 } });
    await cluster.allReady();
    await settled();
  });
  test.after(async () => await cluster?.[Symbol.asyncDispose]());
}

const nothingHappens = (what: string, body: () => Promise<void>) => nothing(cluster, what, body);
const inSystem = (...args: string[]) => cluster.kubectl("-n", "isat-system", ...args);
const patch = (change: object) => inSystem("patch", "ds", "isat", "-p", JSON.stringify(change));

/** What kubectl says of isat's pods: their logs, those of the containers before, and their descriptions. */
async function words(namespace = "isat-system"): Promise<string> {
  const names = (await cluster.kubectl("-n", namespace, "get", "pods", "-o", "name")).split("\n").filter(Boolean);
  const asked = names.flatMap((name) => [
    ["logs", name],
    ["logs", "--previous", name],
    ["describe", name],
  ]);
  const said = await Promise.all(asked.map((args) => cluster.run("kubectl", ["-n", namespace, ...args])));
  return said.map(({ stdout }) => stdout).join("");
}

/** Waits until the words of isat's pods have that line. */
async function said(line: RegExp, namespace?: string): Promise<void> {
  let last = "";
  const isSaid = async () => line.test((last = await words(namespace)));
  await until(`${line} is said`, isSaid, PATIENCE).catch(() => assert.unreachable(`${line} is not in ${last}`));
  console.log(
    `\nMEASURED in its own words: ${last
      .split("\n")
      .find((each) => line.test(each))!
      .trim()}`,
  );
}

/** Waits until each VIP is answered by its owner, and by nobody else. */
async function settled(): Promise<void> {
  const isSo = async () => {
    const { vips } = await cluster.watched(VIPS, () => sleep(300));
    return vips.every((seen) => answerersOf(seen).join() === ownerOf(seen.vip).name && seen.unanswered === 0);
  };
  await until("each VIP is answered by its owner", isSo, PATIENCE);
}

/** VIPs of n3 went to one other node and came back, all others never moved; and all were silent for so long at most, ms. */
function awayAndBack(report: Report, silence: number): void {
  for (const seen of report.vips) {
    const home = ownerOf(seen.vip).name;
    const turns = answerersOf(seen);
    if (home !== N3) assert.equal([turns, seen.unanswered], [[home], 0], seen.vip);
    else assert.equal([turns.length, turns[0], turns[2]], [3, home, home], `${seen.vip}: ${turns}`);
    assert.ok(seen.silence <= silence, `${seen.vip} was silent for ${seen.silence.toFixed(0)} ms`);
  }
}

async function restarts(): Promise<number> {
  return (await cluster.pods()).reduce(
    (sum, { status }) => sum + (status.containerStatuses?.[0]?.restartCount ?? 0),
    0,
  );
}

/**
 * Limits for the silence, ms, so far above what is printed that a busy machine does not reach them: of a hand-over, in which
 * nobody answers until the winner's process has run (20 ms at most were seen), and of a node that dies (360 ms).
 */
const HAND_OVER = 1_000;
const DEATH = 3_000;

check("a node is deleted, and comes back: its VIPs are handed over, and no other is touched", async () => {
  const report = await cluster.watched(VIPS, async () => {
    await sleep(300);
    await cluster.kubectl("delete", "node", N3);
    await sleep(5_000);
    await cluster.machine(N3).kill("kubelet"); // only a kubelet that starts registers its node
    await cluster.nodesReady(NODES.length);
    await cluster.allReady();
    await sleep(5_000);
  });
  const { asked, unanswered, moves, silence } = sumOf(report);
  console.log(
    `\nMEASURED node deleted, and back: ${asked} requests, ${unanswered} unanswered, ${moves} moves, silent for ${silence.toFixed(0)} ms at most`,
  );
  awayAndBack(report, HAND_OVER);
});

check("a pod is out of memory: the kernel kills isat, and kubelet says so", () =>
  nothingHappens("out of memory", async () => {
    const pod = await cluster.podOn("n2");
    // Of the processes in a cgroup that is full, the kernel kills the one that this names.
    const first = "echo 1000 >/proc/$(grep -l '[i]sat/isat.mjs' /proc/[0-9]*/cmdline | cut -d/ -f3)/oom_score_adj";
    await cluster.machine("n2").must("sh", "-c", first);
    const before = await restarts();
    const hog = "const all=[];for(;;)all.push(Buffer.alloc(4e6,1))";
    await cluster.run("kubectl", ["-n", "isat-system", "exec", pod, "--", "node", "-e", hog]);
    await until("it is started again", async () => (await restarts()) > before, PATIENCE);
    await said(/Reason:\s+OOMKilled/);
    await cluster.allReady();
  }),
);

check("two speakers on each node, as an old DaemonSet is still there: the second says so, and stands by", () =>
  nothingHappens("two DaemonSets", async () => {
    const documents = readFileSync("deploy/isat.yaml", "utf8").replaceAll("isat-system", OLD).split("\n---\n");
    const its = documents
      .filter((each) => !/^kind: ClusterRole$/m.test(each))
      .map((each) =>
        each.includes("kind: ClusterRoleBinding") ? each.replace("name: isat\n", `name: ${OLD}\n`) : each,
      );
    await cluster.must("kubectl", ["apply", "-f", "-"], its.join("\n---\n"));
    const key = `--from-literal=wire.key=${"k".repeat(44)}`;
    await cluster.kubectl("-n", OLD, "create", "secret", "generic", "isat-wire", key);
    await said(/another speaker serves this node/, OLD);
    await sleep(2_000);
    await cluster.kubectl("delete", "namespace", OLD, "--timeout=60s");
    await cluster.kubectl("delete", "clusterrolebinding", OLD);
  }),
);

check("a chart value that is no key is refused, and named, before anything changes", () =>
  nothingHappens("chart value that is no key", async () => {
    const args = ["install", "other", "deploy/chart", "--set", "config.nonsense=1"];
    const { status, stderr } = await cluster.run("helm", args);
    assert.not.equal(status, 0);
    assert.match(stderr, /nonsense/);
    console.log(
      `\nMEASURED in its own words: ${stderr
        .split("\n")
        .find((line) => line.includes("nonsense"))!
        .trim()}`,
    );
  }),
);

check("an image for another architecture: the pods say so, and the old speakers serve on", () =>
  nothingHappens("image of another architecture, and back", async () => {
    await inSystem("set", "image", "ds/isat", `isat=${REGISTRY}/foreign:1`);
    await said(/no match for platform|exec format error/);
    await inSystem("rollout", "undo", "ds/isat");
    await cluster.rolledOut();
  }),
);

check(`an upgrade of which the image comes for ${PULL} s`, () =>
  nothingHappens("image that comes slowly", async () => {
    const started = performance.now();
    await inSystem("set", "image", "ds/isat", `isat=${REGISTRY}/isat:next`);
    await cluster.rolledOut();
    assert.ok(performance.now() - started > PULL * 1000, "the pull took so long");
    const pulls = (await inSystem("get", "events")).matchAll(/Successfully pulled image \S+ in (\S+)/g);
    // Both times are whole seconds.
    const running = (await cluster.pods()).filter(({ status }) => status.containerStatuses?.[0]?.state.running);
    const waits = running.map(({ status }) => {
      const ready = status.conditions.find(({ type }: { type: string }) => type === "Ready").lastTransitionTime;
      return (Date.parse(ready) - Date.parse(status.containerStatuses[0].state.running.startedAt)) / 1000;
    });
    const times = [...pulls].map(([, time]) => time);
    console.log(`\nMEASURED the pulls took ${times.join(", ")}, and from there to READY ${waits.join(", ")} s`);
  }),
);

/** What isat on a node costs: CPU of its container and of its process, ns, and memory, MB. */
async function cost(node: string) {
  const script = `
    pid=$(grep -l '[i]sat/isat.mjs' /proc/[0-9]*/cmdline | cut -d/ -f3)
    group() { echo /sys/fs/cgroup/$1$(sed -n "s/^[0-9]*:[a-z,]*\\b$1\\b[a-z,]*:\\(.*\\)/\\1/p" /proc/$pid/cgroup); }
    cat $(group cpuacct)/cpuacct.usage $(group memory)/memory.usage_in_bytes
    cut -d' ' -f14,15 /proc/$pid/stat
    sed -n 's/^VmRSS:\\s*\\([0-9]*\\).*/\\1/p' /proc/$pid/status
    sed -n 's/^Pss:\\s*\\([0-9]*\\).*/\\1/p' /proc/$pid/smaps_rollup`;
  const found = (await cluster.machine(node).must("sh", "-c", script)).trim().split(/\s+/).map(Number);
  const [container, charged, user, system, resident, shared] = found as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const [mb, kb] = [1e6, 1e3];
  return {
    container,
    process: (user + system) * 1e7,
    memory: `${(resident / kb).toFixed(0)} MB resident, ${(shared / kb).toFixed(0)} MB by its share of pages that others use too, ${(charged / mb).toFixed(0)} MB charged to the container`,
  };
}

check("what isat costs in its pod: memory, and a probe", async () => {
  const before = await cost("n1");
  const pod = await cluster.podOn("n1");
  const probes = 10;
  for (let count = 0; count < probes; count++) await inSystem("exec", pod, "--", "isat", "ready");
  const after = await cost("n1");
  const spent = (after.container - before.container - (after.process - before.process)) / probes / 1e6;
  console.log(`\nMEASURED ${VIPS.length} VIPs in a pod: ${after.memory}; a probe takes ${spent.toFixed(1)} ms of CPU`);
  assert.ok(spent < 200);
});

check("a power cut; the host boots without a bpffs: its pod says so, and serves once there is one", async () => {
  const machine = cluster.machine(N3);
  const report = await cluster.watched(VIPS, async () => {
    await sleep(500);
    await machine.cutPower();
    await sleep(1_000);
    await machine.boot("none");
    await said(/no bpffs is mounted/);
    await machine.must("mount", "-t", "bpf", "bpf", "/sys/fs/bpf");
    await cluster.nodesReady(NODES.length);
    await cluster.allReady();
    await sleep(4_000);
  });
  console.log(`\nMEASURED power cut: VIPs were silent for ${sumOf(report).silence.toFixed(0)} ms at most`);
  awayAndBack(report, DEATH);
});

check("a node that boots without the interface: its pod says so, and serves once it is there", async () => {
  const text = `interfaces: [eth0]\nsource: { kind: kubernetes, addresses: [${ADDRESSES}] }\n`;
  await inSystem("patch", "configmap", "isat", "--type=merge", "-p", JSON.stringify({ data: { "isat.yaml": text } }));
  await settled();
  const machine = cluster.machine(N3);
  const rename = (from: string, to: string) =>
    cluster.namespaces.ip(N3, [
      `link set ${from} down`,
      `link set ${from} name ${to}`,
      `link set ${to} up`,
      `route add default via ${GATEWAY.ip}`,
    ]);
  const report = await cluster.watched(VIPS, async () => {
    await sleep(500);
    await machine.cutPower();
    rename("eth0", "lan0");
    await machine.boot();
    await said(/Cannot announce on eth0 as there is no such interface/);
    rename("lan0", "eth0");
    await cluster.nodesReady(NODES.length);
    await cluster.allReady();
    await sleep(4_000);
  });
  awayAndBack(report, 1_000);
});

test.run();
