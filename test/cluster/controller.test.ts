// limit: 900 s
/** Two controllers on a real API server. No speaker and no kube-proxy runs. */
import type { SpawnOptions } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ISAT } from "../../lab/bundle.ts";
import type { KubeObject } from "../../lab/cluster/api.ts";
import { noCluster } from "../../lab/cluster/binaries.ts";
import { Cluster } from "../../lab/cluster/cluster.ts";
import { pool } from "../../lab/cluster/metallb.ts";
import { type Rule, type ServiceOptions, service } from "../../lab/cluster/objects.ts";
import { RULES } from "../../lab/cluster/speakers.ts";
import { Process, until } from "../../lab/kernel/process.ts";
import { Namespaces } from "../../lab/namespaces.ts";
import { checker } from "../../lab/skip.ts";
import { formatAddress, parseAddress } from "../../src/core/address.ts";

const PATIENCE = 60_000;
const MANY = 10_000;
const CONDITION = "isat.io/AddressAssigned";
const POOLS = "pools: [10.9.64.0/18, { name: small, addresses: [10.9.3.0/30], autoAssign: false }]";
const REST = "allocation: { rest: 1s }";
/** The rights that the controller needs besides: those that the chart grants. */
const MORE: readonly Rule[] = [
  { apiGroups: [""], resources: ["services/status"], verbs: ["patch"] },
  { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "update"] },
];

const test = suite("controller on a real API server");
const check = checker(test, noCluster);
const stack = new AsyncDisposableStack();
let cluster: Cluster;
let folder: string;
const controllers: Process[] = [];

/** Starts a controller in a process of its own, as a pod with the host's network. */
function start(node: string): Process {
  const env = Object.entries(cluster.speakerEnv(node)).map(([name, value]) => `${name}=${value}`);
  const args = ["controller", "--config", join(folder, "isat.yaml")];
  const process = new Process(cluster.namespaces, node, args, ["env", ...env]);
  controllers.push(process);
  return process;
}

const configure = (text: string) =>
  writeFileSync(join(folder, "isat.yaml"), `${text}\nsource: { kind: kubernetes, addresses: [10.9.0.0/16] }\n`);
const LEADS = /addresses are given from now on/;

test.before(async () => {
  if (noCluster) return;
  const namespaces = stack.use(new Namespaces("isat-t-controller-"));
  folder = namespaces.folder();
  cluster = stack.use(await Cluster.start(namespaces, { nodes: 2, proxy: false, wire: "bridge", metallb: true }));
  await cluster.grant([...RULES, ...MORE]);
  configure(`${POOLS}\n${REST}`);
});

test.after(async () => {
  for (const process of controllers) {
    if (process.isClosed) continue;
    process.child.kill("SIGCONT");
    await process.end("SIGKILL");
  }
  await stack.disposeAsync();
});

const get = (name: string): Promise<KubeObject> => cluster.api.get(service(name));
const ipsOf = ({ status }: KubeObject): string[] =>
  (status?.loadBalancer?.ingress ?? []).map(({ ip }: { ip: string }) => ip);
const conditionOf = ({ status }: KubeObject): { status: string; reason: string; message: string } | undefined =>
  status?.conditions?.find(({ type }: { type: string }) => type === CONDITION);

async function apply(name: string, options: ServiceOptions = {}): Promise<void> {
  await cluster.applyService(name, options);
}

/** Waits for a reason. @returns the Service's addresses */
async function becomes(name: string, reason: string): Promise<string[]> {
  let last: KubeObject | undefined;
  const isSo = async () => conditionOf((last = await get(name)))?.reason === reason;
  await until(`${name} is ${reason}`, isSo, PATIENCE).catch((error: Error) => {
    throw new Error(`${error.message}: ${JSON.stringify(last?.status)}. ${controllers.at(-1)?.stderr}`);
  });
  return ipsOf(last!);
}

async function all(): Promise<KubeObject[]> {
  const { items } = await cluster.api.list("/api/v1/services");
  return items.filter(({ spec }) => spec.type === "LoadBalancer");
}

check("a Service gets an address, which it is told, and the same one when it is made again", async () => {
  await start("n1").says(LEADS, { limit: PATIENCE });
  await apply("first");
  const [ip] = await becomes("first", "Assigned");
  assert.match(ip!, /^10\.9\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+$/);
  const { status, message } = conditionOf(await get("first"))!;
  assert.equal([status, message], ["True", ip]);
  await cluster.deleteService("first");
  await apply("first");
  assert.equal(await becomes("first", "Assigned"), [ip]);
});

check("an address that is asked for is given, refused with the reason, or waited for", async () => {
  await apply("wants", { annotations: { "metallb.io/loadBalancerIPs": "10.9.3.1" } });
  assert.equal(await becomes("wants", "Assigned"), ["10.9.3.1"]);
  await apply("late", { annotations: { "isat.io/addresses": "10.9.3.1" } });
  assert.equal(await becomes("late", "InUse"), []);
  assert.is(conditionOf(await get("late"))!.message, "default/wants has 10.9.3.1");
  const told = async () => {
    const { items } = await cluster.api.list("/api/v1/namespaces/default/events");
    return items.some(({ involvedObject, reason }) => involvedObject.name === "late" && reason === "InUse");
  };
  await until("an Event tells it", told, PATIENCE);
  await cluster.deleteService("wants");
  assert.equal(await becomes("late", "Assigned"), ["10.9.3.1"]);
  await apply("outside", { annotations: { "isat.io/addresses": "10.99.0.1" } });
  assert.equal(await becomes("outside", "NoPool"), []);
  await apply("node", { annotations: { "isat.io/addresses": cluster.node("n1").ip } });
  assert.equal(await becomes("node", "InUse"), []);
  await apply("odd", { annotations: { "isat.io/addresses": "next" } });
  assert.equal(await becomes("odd", "AmbiguousRequest"), []);
});

check("a Service that is no LoadBalancer any more loses its address and its condition at once", async () => {
  const before = await becomes("first", "Assigned");
  await cluster.api.patch(service("first"), { spec: { type: "ClusterIP" } });
  const isClear = async () => {
    const its = await get("first");
    return ipsOf(its).length === 0 && conditionOf(its) === undefined;
  };
  await until("first is clear", isClear, PATIENCE);
  await cluster.api.patch(service("first"), { spec: { type: "LoadBalancer" } });
  assert.equal(await becomes("first", "Assigned"), before);
});

check("a pool that is full makes Services wait, and the oldest gets what is freed", async () => {
  // MetalLB's IPAddressPools count as well; the network's own address and the gateway are given to nobody.
  await cluster.api.apply({
    ...pool("tiny", ["10.9.4.1-10.9.4.2"]),
    spec: { addresses: ["10.9.4.1-10.9.4.2"], autoAssign: false },
  });
  const tiny = { annotations: { "metallb.universe.tf/address-pool": "tiny" } };
  for (const name of ["t1", "t2"]) {
    await apply(name, tiny);
    await becomes(name, "Assigned");
  }
  for (const name of ["t3", "t4"]) {
    await apply(name, tiny);
    assert.equal(await becomes(name, "PoolExhausted"), []);
    await sleep(1_100); // creation times are in seconds
  }
  const [freed] = ipsOf(await get("t1"));
  await cluster.deleteService("t1");
  assert.equal(await becomes("t3", "Assigned"), [freed]);
  assert.is(conditionOf(await get("t4"))!.reason, "PoolExhausted");
  // An edit of the pools takes nothing away.
  await cluster.api.delete(pool("tiny", []));
  assert.equal(await becomes("t3", "Kept"), [freed]);
});

check("isat ipam shows this with the rights of the controller, and plan what would change", async () => {
  const run = async (...args: string[]) => {
    const env = { ...process.env, ...cluster.speakerEnv("n1") };
    const [command, ...rest] = [...ISAT, "ipam", ...args, "--config", join(folder, "isat.yaml")];
    const options = { env, stdio: ["ignore", "pipe", "inherit"] } satisfies SpawnOptions;
    const its = cluster.namespaces.spawn("n1", command!, rest, options);
    return JSON.parse(await text(its.stdout!));
  };
  const { leader, waiting, pools, notes } = await run("--json");
  assert.equal(notes, []);
  assert.match(leader.name, /_/);
  assert.equal(waiting.find(({ service }: { service: string }) => service === "default/t4")?.reason, "NoPool");
  assert.ok(
    pools.some(({ name, ipv4 }: { name: string; ipv4: { used: number } }) => name === "small" && ipv4.used === 1),
  );
  const file = join(folder, "next.yaml");
  writeFileSync(file, "pools: [10.9.99.0/24]\nsource: { kind: kubernetes, addresses: [10.9.0.0/16] }\n");
  const { changes } = await run("plan", file, "--json");
  assert.is(changes.find(({ service }: { service: string }) => service === "default/late")?.what, "keeps");
});

check("a Service of another class, and one with another balancer's hostname, are left alone", async () => {
  await apply("theirs", { class: "example.com/other" });
  await apply("named");
  await becomes("named", "Assigned");
  await cluster.setIngress("named", [{ hostname: "lb.example" }]);
  await sleep(2_000);
  assert.equal((await get("named")).status.loadBalancer.ingress, [{ hostname: "lb.example" }]);
  const theirs = await get("theirs");
  assert.equal([ipsOf(theirs), conditionOf(theirs)], [[], undefined]);
  await cluster.deleteService("named");
});

check("an address that somebody takes out of a status is written again, and not ten times a second", async () => {
  const before = await becomes("first", "Assigned");
  const from = cluster.speakersRequests().filter(({ verb }) => verb === "patch").length;
  const end = performance.now() + 5_000;
  while (performance.now() < end) {
    await cluster.setIngress("first", []);
    await sleep(50);
  }
  const writes = cluster.speakersRequests().filter(({ verb }) => verb === "patch").length - from;
  assert.ok(writes <= 8, `${writes} writes in 5 s`);
  assert.ok(writes >= 1, `${writes} writes in 5 s`);
  await until("it is back", async () => ipsOf(await get("first")).join() === before.join(), PATIENCE);
});

check("a leader that is paused is followed by another, and writes nothing when it goes on", async () => {
  const [one] = controllers;
  const two = start("n2");
  await sleep(3_000);
  assert.is(two.said(LEADS), undefined);
  const before = new Map((await all()).map((its) => [its.metadata.name, ipsOf(its).join()]));
  one!.child.kill("SIGSTOP");
  await apply("while-paused");
  await two.says(LEADS, { limit: PATIENCE });
  const [ip] = await becomes("while-paused", "Assigned");
  one!.child.kill("SIGCONT");
  await one!.says(/no longer gives addresses/, { limit: PATIENCE });
  await sleep(3_000);
  for (const its of await all()) {
    const { name } = its.metadata;
    assert.is(ipsOf(its).join(), before.get(name) ?? ip, name);
  }
  assert.is(one!.log.filter(({ msg }) => LEADS.test(msg)).length, 1);
});

check("an API server that is away takes no address, and what was made meanwhile is served after", async () => {
  const before = (await all()).map((its) => ipsOf(its).join()).join(";");
  await cluster.killServer();
  await sleep(12_000);
  await cluster.startServer();
  await apply("after");
  await becomes("after", "Assigned");
  const after = (await all()).filter(({ metadata }) => metadata.name !== "after");
  assert.is(after.map((its) => ipsOf(its).join()).join(";"), before);
});

/** A Service with the fields that the API server's registry would fill in. */
function seeded(index: number): [string, object] {
  const name = `big${index}`;
  const its = service(name);
  const clusterIP = formatAddress(Number(parseAddress("10.96.128.0")) + index);
  const metadata = {
    ...its.metadata,
    uid: randomUUID(),
    creationTimestamp: new Date().toISOString().replace(/\.\d+/, ""),
  };
  const spec = {
    ...its.spec,
    clusterIP,
    clusterIPs: [clusterIP],
    ipFamilies: ["IPv4"],
    ipFamilyPolicy: "SingleStack",
    sessionAffinity: "None",
    internalTrafficPolicy: "Cluster",
  };
  return [`services/specs/default/${name}`, { ...its, metadata, spec, status: { loadBalancer: {} } }];
}

check(
  "10,000 Services that are made at once have their addresses, each its own, by at most two writes each",
  async () => {
    const count = () => cluster.speakersRequests().filter(({ verb }) => verb === "patch").length;
    const before = count();
    for (const process of controllers) await process.end("SIGKILL");
    await cluster.api.delete({
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "isat-controller", namespace: "isat-system" },
    });
    // What is written past the API server has the same version by the dozen, so no watch must be open meanwhile.
    await cluster.seed(Array.from({ length: MANY }, (_, index) => seeded(index)));
    start("n1");
    const began = performance.now();
    const seconds = () => ((performance.now() - began) / 1000).toFixed(1);
    // A list of all takes the API server a second, so the writes are counted.
    for (const end = began + 600_000; count() - before < MANY; await sleep(1_000)) {
      if (performance.now() > end) throw new Error(`${count() - before} writes. ${controllers.at(-1)!.stderr}`);
    }
    const took = seconds();
    const isServed = async () =>
      (await all()).every((its) => ipsOf(its).length === 1 || !its.metadata.name.startsWith("big"));
    await until("all have one", isServed, PATIENCE);
    const ips = (await all()).flatMap(ipsOf);
    assert.is(new Set(ips).size, ips.length);
    const writes = count() - before;
    assert.ok(writes <= 2 * MANY, `${writes} writes`);
    const rss = controllers
      .filter(({ isClosed }) => !isClosed)
      .map(({ pid }) => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024);
    console.log(
      `MEASURED 10,000 Services: all addressed ${took} s after the controller was started, ${writes} writes, ${rss.map((it) => it.toFixed(0)).join(" and ")} MB at most`,
    );
  },
);

check("both controllers are killed, and nothing that has an address notices", async () => {
  const before = (await all()).map((its) => ipsOf(its).join()).join(";");
  for (const process of controllers.filter(({ isClosed }) => !isClosed)) await process.end("SIGKILL");
  await start("n1").says(LEADS, { limit: PATIENCE });
  await sleep(3_000);
  assert.is((await all()).map((its) => ipsOf(its).join()).join(";"), before);
  const last = controllers.at(-1)!;
  assert.is(await last.end(), 0);
});

test.run();
