// limit: 900 s
/**
 * isat as it is installed: its image, its manifests, its chart, on real kubelets. A client asks for every VIP each 10 ms, and
 * fetches over HTTP through one of them, while things happen.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { answerersOf, Kubelets, noNodes, PATIENCE } from "../../lab/kubelet/kubelets.ts";
import { checker } from "../../lab/skip.ts";
import { NODES, ownerOf } from "../../lab/topology.ts";
import { sumOf } from "../../lab/watch/watch.ts";
import type { Status } from "../../src/report/status.ts";
import { ADDRESSES, install, nothingHappens as nothing, VIPS } from "./steady.ts";

const test = suite("pods");

let cluster: Kubelets;

const check = checker(test, noNodes);
if (!noNodes) {
  test.before(async () => {
    cluster = await Kubelets.start("isat-t-pods-");
    await cluster.serve(VIPS);
  });
  test.after(async () => await cluster?.[Symbol.asyncDispose]());
}

/** Ends the isat of a node, from outside of its container. */
const KILL = "kill -9 $(grep -l '[i]sat/isat.mjs' /proc/[0-9]*/cmdline | cut -d/ -f3)";
const inSystem = (...args: string[]) => cluster.kubectl("-n", "isat-system", ...args);
const nothingHappens = (what: string, body: () => Promise<void>) => nothing(cluster, what, body);

/** What isat on a node says of itself, by the command that an operator types. */
async function ask(node: string): Promise<Status> {
  return JSON.parse(await inSystem("exec", await cluster.podOn(node), "--", "isat", "status", "--json"));
}

/** From `body`'s beginning until every VIP is answered, and until all pods are ready, in s. */
async function timed(what: string, body: () => Promise<void>): Promise<void> {
  let started = 0;
  let ready = 0;
  const report = await cluster.watched(VIPS, async () => {
    started = Date.now();
    await body();
    await cluster.allReady();
    ready = (Date.now() - started) / 1000;
    await sleep(300);
  });
  const firsts = report.vips.map(({ answerers }) => (answerers[0] ? (answerers[0].at - started) / 1000 : Infinity));
  const all = Math.max(...firsts);
  console.log(`\nMEASURED ${what}: all VIPs answered ${all.toFixed(1)} s after it, READY ${ready.toFixed(1)} s`);
  assert.ok(all < Infinity, "each VIP is answered");
  for (const seen of report.vips) assert.is(answerersOf(seen).at(-1), ownerOf(seen.vip).name, seen.vip);
  assert.is(sumOf(report).doubled, 0);
}

/** What is left of isat on the nodes: attached programs, pins, folders. */
async function leftovers(): Promise<string[]> {
  const found = await Promise.all(
    cluster.machines.map(async (machine) => {
      const { name } = machine.node;
      const net = JSON.parse(await machine.must("bpftool", "--json", "net", "show", "dev", "eth0"));
      const hooks = net.flatMap((each: { tc: object[]; xdp: object[] }) => [...each.tc, ...each.xdp]);
      const files = await machine.must("find", "/sys/fs/bpf", "/run", "/var/lib", "-maxdepth", "1", "-name", "*isat*");
      return [...hooks.map((hook: object) => `${name}: ${JSON.stringify(hook)}`), ...files.split("\n").filter(Boolean)];
    }),
  );
  return found.flat();
}

check("kubectl apply: all VIPs are answered, and READY follows", async () => {
  await timed("kubectl apply", () => install(cluster));
  await cluster.rolledOut();
});

check("in the pod: four capabilities, no new privileges, seccomp's filter, a root that is read-only", async () => {
  const pod = await cluster.podOn("n1");
  const script = "const f=require('fs');console.log(f.readFileSync('/proc/1/status','utf8'));f.writeFileSync('/x','')";
  const { stdout, stderr } = await cluster.run("kubectl", [
    "-n",
    "isat-system",
    "exec",
    pod,
    "--",
    "node",
    "-e",
    script,
  ]);
  for (const line of ["CapEff:\t000000c000003000", "CapBnd:\t000000c000003000", "NoNewPrivs:\t1", "Seccomp:\t2"])
    assert.ok(stdout.includes(line), `${line} is missing in ${stdout}`);
  assert.match(stderr, /EROFS/);
  console.log(`\nMEASURED isat in its pod, ${VIPS.length} VIPs: ${/VmRSS:\s+(.*)/.exec(stdout)![1]} resident`);
});

check("isat in the pod finds its key, its configuration and its node by itself", async () => {
  const { node, membership } = (await ask("n2")) as unknown as { node: string; membership: unknown };
  assert.is(node, "n2");
  assert.match(JSON.stringify(membership ?? ""), /./);
  const doctor = await cluster.run("kubectl", ["-n", "isat-system", "exec", "ds/isat", "--", "isat", "doctor"]);
  assert.is(doctor.status, 0, doctor.stdout);
});

check("rollout restart", () =>
  nothingHappens("rollout restart", async () => {
    await inSystem("rollout", "restart", "ds/isat");
    await cluster.rolledOut();
    await hurry();
  }),
);

/** From here on a rollout takes seconds: that the next node waits for 10 s has been seen. */
const hurry = () => inSystem("patch", "ds", "isat", "-p", JSON.stringify({ spec: { minReadySeconds: 1 } }));

check("a pod is deleted, without a grace", () =>
  nothingHappens("pod deleted", async () => {
    await inSystem("delete", "pod", await cluster.podOn("n1"), "--force", "--grace-period=0");
    await until("another one is there", async () => (await cluster.daemonSet()).numberReady < 3, 10_000).catch(
      () => {},
    );
    await cluster.allReady();
  }),
);

check("isat is killed in its pod, as by the kernel that is out of memory", () =>
  nothingHappens("isat killed", async () => {
    const restarts = async () =>
      (await cluster.pods()).reduce((sum, { status }) => sum + status.containerStatuses[0].restartCount, 0);
    const before = await restarts();
    const machine = cluster.machine("n2");
    await machine.must("sh", "-c", KILL);
    await until("it is started again", async () => (await restarts()) > before, PATIENCE);
    await cluster.allReady();
  }),
);

check("kubelet and containerd are killed on every node", () =>
  nothingHappens("kubelet, containerd killed", async () => {
    for (const machine of cluster.machines)
      for (const program of ["kubelet", "containerd"]) await machine.kill(program);
    await sleep(5_000);
    await cluster.nodesReady(3);
    await cluster.allReady();
    await until("exec works again", async () => (await ask("n1").catch(() => undefined)) !== undefined, PATIENCE);
  }),
);

check("the API server is away, and a pod is started again meanwhile", () =>
  nothingHappens("API away", async () => {
    await cluster.plane.killServer();
    try {
      await cluster.machine("n3").must("sh", "-c", KILL);
      await sleep(8_000);
    } finally {
      await cluster.plane.startServer();
    }
    await cluster.nodesReady(3);
    await cluster.allReady();
  }),
);

check("a changed ConfigMap takes effect without a restart", () =>
  nothingHappens("ConfigMap changed", async () => {
    const patch = JSON.stringify({
      data: { "isat.yaml": `garp: { profile: guarded }\nsource: { kind: kubernetes, addresses: [${ADDRESSES}] }\n` },
    });
    const pods = (await cluster.pods()).map(({ metadata }) => metadata.name).toSorted();
    await inSystem("patch", "configmap", "isat", "--type=merge", "-p", patch);
    const applied = async () => {
      const logs = await Promise.all(pods.map((pod) => inSystem("logs", pod)));
      return logs.every((log) => log.includes("configuration applied"));
    };
    await until("all have applied it", applied, PATIENCE); // kubelet looks once a minute
    assert.equal((await cluster.pods()).map(({ metadata }) => metadata.name).toSorted(), pods);
  }),
);

check("a CPU limit of 200m, which makes each start slow", () =>
  nothingHappens("rollout with 200m of CPU", async () => {
    const container = { name: "isat", resources: { limits: { cpu: "200m" } } };
    const limit = { spec: { template: { spec: { containers: [container] } } } };
    await inSystem("patch", "ds", "isat", "-p", JSON.stringify(limit));
    await cluster.rolledOut();
  }),
);

check("an image that does not exist, and back", async () => {
  // The old pod is stopped first: its node's VIPs are held for 30 s, and the way back must be shorter.
  await nothingHappens("missing image, and back", async () => {
    await inSystem("set", "image", "ds/isat", "isat=isat:none");
    const isWaiting = async () =>
      (await cluster.pods()).some(({ status }) =>
        /Image/.test(status.containerStatuses?.[0]?.state.waiting?.reason ?? ""),
      );
    await until("a pod waits for its image", isWaiting, PATIENCE);
    await inSystem("rollout", "undo", "ds/isat");
    await cluster.rolledOut();
  });
});

check("the wire key is rotated by the documented steps", () =>
  nothingHappens("key rotated", async () => {
    const keys = async (...names: string[]) => {
      const files = names.map((name) => `/etc/isat/${name}.key`).join(", ");
      const text = `membership: { keys: [${files}] }\nsource: { kind: kubernetes, addresses: [${ADDRESSES}] }\n`;
      await inSystem(
        "patch",
        "configmap",
        "isat",
        "--type=merge",
        "-p",
        JSON.stringify({ data: { "isat.yaml": text } }),
      );
      await inSystem("rollout", "restart", "ds/isat");
      await cluster.rolledOut();
    };
    await inSystem(
      "patch",
      "secret",
      "isat-wire",
      "-p",
      JSON.stringify({ stringData: { "next.key": "n".repeat(44) } }),
    );
    await keys("wire", "next");
    await keys("next", "wire");
    await keys("next");
  }),
);

check("a node is drained and powered off, and boots again", async () => {
  const gone = NODES[1]!;
  await nothingHappens("drained", async () => {
    await cluster.kubectl("drain", gone.name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s");
  });
  const report = await cluster.watched(VIPS, async () => {
    await sleep(500);
    await cluster.machine(gone.name).cutPower();
    await sleep(2_000);
    await cluster.machine(gone.name).boot();
    await until(
      "its pod is ready again",
      async () => (await ask(gone.name).catch(() => undefined)) !== undefined,
      PATIENCE,
    );
    await cluster.allReady();
    await sleep(500);
  });
  const longest = sumOf(report).silence;
  console.log(`\nMEASURED power cut: VIPs of the node were silent for ${longest.toFixed(0)} ms at most`);
  for (const seen of report.vips) {
    const home = ownerOf(seen.vip).name;
    const turns = answerersOf(seen);
    if (home !== gone.name) assert.equal([turns, seen.unanswered], [[home], 0], seen.vip);
    else assert.equal([turns.length, turns[0], turns[2]], [3, home, home], `${seen.vip}: ${turns}`);
  }
  await cluster.kubectl("uncordon", gone.name);
});

check("uninstalled by the documented steps, nothing is left", async () => {
  assert.not.equal(await leftovers(), [], "there is something to find");
  await cluster.must("kubectl", ["apply", "-f", "deploy/clean.yaml"]);
  await cluster.rolledOut();
  assert.equal(await leftovers(), []);
  await cluster.kubectl("delete", "-f", "deploy/isat.yaml", "--wait=true", "--timeout=60s");
  await noObjects();
  assert.equal(await leftovers(), []);
});

async function noObjects(): Promise<void> {
  for (const kind of ["clusterroles", "clusterrolebindings", "namespaces"]) {
    const names = await cluster.kubectl("get", kind, "-o", "name");
    assert.not.match(names, /isat/, kind);
  }
}

check("helm install: all VIPs are answered, and READY follows", () =>
  timed("helm install", async () => {
    const args = ["install", "isat", "deploy/chart", "--set", `config.source.addresses={${ADDRESSES}}`];
    const said = await cluster.must("helm", args);
    assert.match(said, /kubectl -n isat-system rollout status ds\/isat/);
    await hurry();
  }),
);

check("helm upgrade keeps the key, and nothing happens", async () => {
  const key = () => inSystem("get", "secret", "isat-wire", "-o", "jsonpath={.data.wire\\.key}");
  const before = await key();
  assert.ok(before.length > 40);
  await nothingHappens("helm upgrade", async () => {
    await cluster.must("helm", ["upgrade", "isat", "deploy/chart", "--reuse-values", "--set", "podAnnotations.a=b"]);
    await hurry();
    await cluster.rolledOut();
  });
  assert.is(await key(), before);
});

check("a Secret that is missing is named in the pod's events, and nothing happens", () =>
  nothingHappens("Secret missing, and back", async () => {
    const upgrade = ["upgrade", "isat", "deploy/chart", "--reuse-values"];
    await cluster.must("helm", [...upgrade, "--set", "wireKey.existingSecret=none"]);
    const isNamed = async () => (await inSystem("get", "events")).includes('secret "none" not found');
    await until("the pod's events name it", isNamed, PATIENCE);
    await cluster.must("helm", ["rollback", "isat"]);
    await hurry();
    await cluster.rolledOut();
  }),
);

check("helm uninstall, after a clean one, leaves nothing", async () => {
  const said = await cluster.must("helm", ["upgrade", "isat", "deploy/chart", "--reuse-values", "--set", "clean=true"]);
  assert.match(said, /helm uninstall isat/);
  await cluster.rolledOut();
  await cluster.must("helm", ["uninstall", "isat", "--wait", "--timeout=60s"]);
  await noObjects();
  assert.equal(await leftovers(), []);
});

test.run();
