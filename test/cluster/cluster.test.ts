// limit: 300 s
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { pathOf, type WatchEvent } from "../../lab/cluster/api.ts";
import { binary, noCluster } from "../../lab/cluster/binaries.ts";
import { Cluster } from "../../lab/cluster/cluster.ts";
import { ADDRESS, PORT } from "../../lab/cluster/control-plane.ts";
import { curl, mustInside } from "../../lab/cluster/inside.ts";
import { advertisement, pool } from "../../lab/cluster/metallb.ts";
import { service } from "../../lab/cluster/objects.ts";
import { becomes, until } from "../../lab/kernel/process.ts";
import { Namespaces } from "../../lab/namespaces.ts";
import { checker } from "../../lab/skip.ts";

const VIP = "10.9.0.1";
/** A generous limit for anything that should take a second or two, ms. */
const PATIENCE = 60_000;

const test = suite("cluster");
const check = checker(test, noCluster);
const stack = new AsyncDisposableStack();
let cluster: Cluster;

test.before(async () => {
  if (noCluster) return;
  const namespaces = stack.use(new Namespaces("isat-t-cluster-"));
  const started = performance.now();
  cluster = stack.use(await Cluster.start(namespaces));
  console.log(`\nMEASURED a cluster of three nodes was ready after ${Math.round(performance.now() - started)} ms`);
});

test.after(() => stack.disposeAsync());

/** Does isat's part: leads the client to the node, here by a neighbour entry. */
function lead(vip: string, node: string): void {
  const { mac } = cluster.node(node);
  cluster.namespaces.ip("client", [`neigh replace ${vip} lladdr ${mac} nud permanent dev eth0`]);
}

/** Serves `web` from all nodes, leads the client to `node`, and waits until it works. */
async function webAt(node: string): Promise<void> {
  await cluster.serve("web", VIP);
  lead(VIP, node);
  await servedBy(VIP, ["n1", "n2", "n3"]);
}

/** Lets the client send `count` requests. @returns the nodes that served them */
async function curls(vip: string, count: number): Promise<(string | undefined)[]> {
  const found = [];
  while (found.length < count) found.push((await cluster.curl(vip)).node);
  return found;
}

async function rejects(promise: Promise<unknown>, pattern: RegExp): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (error) => error,
  );
  assert.match(String(error), pattern);
}

/** Waits until the client is served by all of these nodes, and by no other. */
async function servedBy(vip: string, nodes: readonly string[]): Promise<void> {
  const missing = new Set(nodes);
  await until(
    `${vip} is served by ${nodes}`,
    async () => {
      const { node } = await cluster.curl(vip);
      if (node !== undefined) missing.delete(node);
      return missing.size === 0;
    },
    PATIENCE,
  );
}

/** The last resource version of all Services. */
async function version(): Promise<string> {
  return (await cluster.api.list("/api/v1/services")).metadata.resourceVersion;
}

/** The first event of a watch on Services that begins at a version. */
async function firstEvent(from: string): Promise<WatchEvent> {
  const path = `/api/v1/namespaces/default/services?resourceVersion=${from}`;
  for await (const event of cluster.api.watch(path, AbortSignal.timeout(PATIENCE))) return event;
  throw new Error("the watch ended without an event");
}

/** True if a node gets an answer from the API server: 401, as it sends no token. */
async function reaches(node: string): Promise<boolean> {
  const url = `https://${ADDRESS}:${PORT}/readyz`;
  const { stdout } = await curl(cluster.namespaces, node, "--insecure", "--write-out", "%{http_code}", url);
  return stdout.endsWith("401");
}

check("the API server knows three nodes", async () => {
  const { items } = await cluster.api.list("/api/v1/nodes");
  const names = items.map(({ metadata }) => metadata.name);
  assert.equal(names, ["n1", "n2", "n3"]);
});

check("a VIP that no node announces is not answered for", async () => {
  await cluster.serve("web", VIP);
  const { node, error } = await cluster.curl(VIP);
  assert.is(node, undefined);
  assert.match(error!, /connect|timed out/i);
});

check("the client's curl goes through any node's real kube-proxy to the web servers of all nodes", async () => {
  for (const { name } of cluster.nodes) await webAt(name);
});

check("removed endpoints are not used, and with none left the client is refused", async () => {
  await webAt("n1");
  await cluster.setEndpoints("web", ["n3", { node: "n2", conditions: { ready: false, serving: false } }]);
  await becomes(async () => (await curls(VIP, 10)).join(), Array(10).fill("n3").join());
  await cluster.setEndpoints("web", []);
  await becomes(
    async () => /^curl: \(7\)/.test((await cluster.curl(VIP)).error ?? ""),
    true,
    "refused, and not silent",
  );
});

check("with externalTrafficPolicy Local the node itself serves, and sees the client's own address", async () => {
  const vip = "10.9.0.2";
  await cluster.serve("local", vip, { policy: "Local" });
  lead(vip, "n2");
  await servedBy(vip, ["n2"]);
  for (let count = 0; count < 10; count++) {
    const found = await cluster.curl(vip);
    assert.equal([found.node, found.seenFrom], ["n2", cluster.client.ip]);
  }
});

check("a deleted Service is no longer served", async () => {
  await cluster.deleteService("local");
  await becomes(async () => (await cluster.curl("10.9.0.2")).node, undefined);
});

check("an unplugged node cannot be reached over the wire, and can be reached again once it is plugged in", async () => {
  await webAt("n1");
  cluster.unplug("n1");
  try {
    assert.is((await cluster.curl(VIP)).node, undefined);
    assert.ok(await reaches("n1"), "the management network is another");
  } finally {
    cluster.plug("n1");
  }
  await servedBy(VIP, ["n1"]);
});

check("the switch learns nodes as a gateway does, and pings them", async () => {
  const ips = cluster.nodes.map(({ ip }) => ip);
  cluster.ping(ips);
  await becomes(() => ips.map((ip) => cluster.gateway.tally(ip).answered), [1, 1, 1]);
});

check(
  "a node that is cut off from the API server cannot reach it, goes on serving, and reaches it again later",
  async () => {
    await webAt("n2");
    assert.ok(await reaches("n2"));
    await cluster.cut("n2");
    try {
      assert.not.ok(await reaches("n2"));
      assert.ok(await reaches("n1"), "another can");
      await servedBy(VIP, ["n1", "n2", "n3"]);
    } finally {
      await cluster.mend("n2");
    }
    assert.ok(await reaches("n2"));
  },
);

check("a node that was cut off learns of a change once it is back", async () => {
  await webAt("n2");
  await cluster.cut("n2");
  try {
    await cluster.setEndpoints("web", ["n3"]);
    lead(VIP, "n1");
    await becomes(async () => (await curls(VIP, 10)).join(), Array(10).fill("n3").join());
    lead(VIP, "n2");
    await servedBy(VIP, ["n1", "n2", "n3"]);
  } finally {
    await cluster.mend("n2");
  }
  await until("n2 has heard", async () => (await curls(VIP, 10)).every((node) => node === "n3"), PATIENCE);
});

check("a half-open connection is silent but stays open, while a new one works", async () => {
  const args = [
    `--kubeconfig=${cluster.speakerEnv("n3").KUBECONFIG}`,
    "get",
    "service",
    "web",
    "--watch",
    "-L",
    "step",
  ];
  await cluster.grant([{ apiGroups: [""], resources: ["services"], verbs: ["get", "list", "watch"] }]);
  const watch = cluster.namespaces.spawn("n3", binary("kubectl"), args, { stdio: ["ignore", "pipe", "inherit"] });
  let seen = "";
  watch.stdout!.on("data", (chunk) => (seen += chunk));
  const step = (value: string) => cluster.api.patch(service("web"), { metadata: { labels: { step: value } } });
  const sees = (value: string) => until(`the watch sees ${value}`, () => seen.includes(` ${value}\n`), PATIENCE);
  await until("the watch begins", () => seen.includes("web"), PATIENCE);
  await step("before");
  await sees("before");

  await cluster.halfOpen("n3");
  try {
    await step("during");
    assert.ok(await reaches("n3"), "a new connection works");
    await sleep(1000);
    assert.not.match(seen, /during/);
    assert.is(watch.exitCode, null);
  } finally {
    await cluster.mend("n3");
  }
  await sees("during");
  watch.kill();
});

check("an API server that is killed and started again has kept its objects", async () => {
  await webAt("n1");
  const before = await cluster.api.get(service("web"));
  await cluster.killServer();
  try {
    await rejects(cluster.api.get(service("web")), /ECONNREFUSED|ECONNRESET|socket/);
    await servedBy(VIP, ["n1", "n2", "n3"]);
  } finally {
    await cluster.startServer();
  }
  const after = await cluster.api.get(service("web"));
  assert.equal([after.metadata.uid, after.status], [before.metadata.uid, before.status]);
});

check("a frozen API server answers once it is resumed", async () => {
  cluster.freezeServer();
  let isAnswered = false;
  const answer = version().finally(() => (isAnswered = true));
  try {
    await sleep(500);
    assert.not.ok(isAnswered);
  } finally {
    cluster.resumeServer();
  }
  assert.ok(await answer);
});

check("a watch from a version continues from there", async () => {
  await cluster.applyService("web");
  const from = await version();
  await cluster.api.patch(service("web"), { metadata: { labels: { step: "one" } } });
  const { type, object } = await firstEvent(from);
  assert.equal([type, object.metadata.labels], ["MODIFIED", { step: "one" }]);
});

check("after a compaction and a restart, a watch from an old version ends with 410 inside a 200 stream", async () => {
  await cluster.applyService("web");
  const from = await version();
  await cluster.api.patch(service("web"), { metadata: { labels: { step: "two" } } });
  const list = `/api/v1/services?resourceVersionMatch=Exact&resourceVersion=${from}`;
  assert.is((await cluster.api.request("GET", list)).status, 200);
  await cluster.compact();
  await cluster.killServer();
  await cluster.startServer();
  const { type, object } = await firstEvent(from);
  assert.equal([type, object.code, object.reason], ["ERROR", 410, "Expired"]);
  assert.is((await cluster.api.request("GET", list)).status, 410, "etcd has forgotten as well");
});

check("a Node can be labelled, given a condition and other addresses, removed and created again", async () => {
  await cluster.labelNode("n3", { zone: "west" });
  await cluster.setNodeCondition("n3", "NetworkUnavailable", "True");
  await cluster.setNodeAddresses("n3", ["10.9.255.3", "10.9.255.33"]);
  const find = async () => {
    const { items } = await cluster.api.list("/api/v1/nodes");
    const found = items.find(({ metadata }) => metadata.name === "n3");
    if (!found) return undefined;
    const { conditions, addresses } = found.status;
    const labels = found.metadata.labels as Record<string, string>;
    return {
      zone: labels.zone,
      conditions: conditions.map(({ type, status }: Record<string, string>) => `${type}=${status}`),
      addresses: addresses.map(({ address }: { address: string }) => address),
    };
  };
  const changed = { conditions: ["Ready=True", "NetworkUnavailable=True"], addresses: ["10.9.255.3", "10.9.255.33"] };
  assert.equal(await find(), { zone: "west", ...changed });
  await cluster.removeNode("n3");
  assert.is(await find(), undefined);
  await cluster.addNode("n3");
  const fresh = { conditions: ["Ready=True", "NetworkUnavailable=False"], addresses: ["10.9.255.3", "n3"] };
  assert.equal(await find(), { zone: undefined, ...fresh });
});

check("MetalLB's custom resources are served only once they are installed, with their defaults", async () => {
  const path = "/apis/metallb.io/v1beta1/ipaddresspools";
  assert.is((await cluster.api.request("GET", path)).status, 404);
  await cluster.installMetallb();
  await cluster.api.apply(pool("first", ["10.9.0.0/24"], { kind: "lab" }));
  await cluster.api.apply(advertisement("all", { ipAddressPools: ["first"], interfaces: ["eth0"] }));
  const [found] = (await cluster.api.list(path)).items;
  assert.equal(found!.spec, { addresses: ["10.9.0.0/24"], autoAssign: true, avoidBuggyIPs: false });
});

check("a pool without addresses is refused, and an advertisement needs no spec", async () => {
  await rejects(cluster.api.apply({ ...pool("bad", []), spec: {} }), /422 .*spec.addresses: Required value/);
  await cluster.api.apply({ ...advertisement("bare"), spec: undefined });
});

check("MetalLB's custom resources can be removed", async () => {
  await cluster.removeMetallb();
  assert.is((await cluster.api.request("GET", "/apis/metallb.io/v1beta1/l2advertisements")).status, 404);
});

check("a speaker may do what it was granted, and everything else is refused with 403", async () => {
  const speaker = cluster.apiAs("speaker");
  await cluster.grant([]);
  const read = async () => (await speaker.request("GET", "/api/v1/services")).status;
  await becomes(read, 403);
  await cluster.grant([{ apiGroups: [""], resources: ["services"], verbs: ["list"] }]);
  await becomes(read, 200);
  const write = await speaker.request("DELETE", pathOf(service("web")));
  assert.is(write.status, 403);
  assert.match(write.body.message, /system:serviceaccount:isat-system:isat.* cannot delete resource "services"/);
});

check("a request without a token is refused with 401", async () => {
  assert.ok(await reaches("n1"));
});

check("kubectl reads a node's kubeconfig", async () => {
  const { KUBECONFIG, NODE_NAME } = cluster.speakerEnv("n1");
  assert.is(NODE_NAME, "n1");
  const command: [string, ...string[]] = [binary("kubectl"), `--kubeconfig=${KUBECONFIG}`, "get", "services"];
  const printed = await mustInside(cluster.namespaces, "n1", ...command);
  assert.match(printed, /^web +LoadBalancer +\S+ +10\.9\.0\.1 /m);
});

check("the wire can be a bridge of the kernel", async () => {
  await using own = new AsyncDisposableStack();
  const namespaces = own.use(new Namespaces("isat-t-bridge-"));
  const small = own.use(await Cluster.start(namespaces, { nodes: 1, wire: "bridge", metallb: true }));
  await small.serve("web", VIP);
  namespaces.ip("client", [`neigh replace ${VIP} lladdr ${small.node("n1").mac} nud permanent dev eth0`]);
  await becomes(async () => (await small.curl(VIP)).node, "n1");
});

test.run();
