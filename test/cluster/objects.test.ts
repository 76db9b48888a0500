// limit: 300 s
/** Odd objects and tenants, on a real API server: what a speaker's source makes of them. No speaker and no kube-proxy runs. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { KubeObject } from "../../lab/cluster/api.ts";
import { noCluster } from "../../lab/cluster/binaries.ts";
import { Cluster } from "../../lab/cluster/cluster.ts";
import { advertisement, METALLB, pool } from "../../lab/cluster/metallb.ts";
import { endpointSlice, service } from "../../lab/cluster/objects.ts";
import { best, NODES, vipsOf } from "../../lab/cluster/scene.ts";
import { RULES } from "../../lab/cluster/speakers.ts";
import { until } from "../../lab/kernel/process.ts";
import { Namespaces } from "../../lab/namespaces.ts";
import { checker } from "../../lab/skip.ts";

const PATIENCE = 60_000;
const TENANT = "tenant";
/** All rights on what a source reads, in one namespace. */
const ALL = [
  { apiGroups: [""], resources: ["services", "services/status"], verbs: ["*"] },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["*"] },
  { apiGroups: ["metallb.io"], resources: ["*"], verbs: ["*"] },
];

/** A source in a process of its own, as in a speaker. */
class Reader {
  owners: Record<string, string> = {};
  /** Every demand since the start. */
  readonly demands: Record<string, string>[] = [];
  readonly log: string[] = [];
  rss = 0;
  mostRss = 0;
  /** The longest time that the loop was held since {@link forget}, ms. */
  held = 0;
  readonly #child: ChildProcess;

  constructor(kubeconfig: string, folder: string, node = "n1") {
    const flags = ["--no-warnings", "--single-threaded", "--max-semi-space-size=1", "--import", "./scripts/ts.mjs"];
    const args = [...flags, "test/cluster/source.ts", kubeconfig, folder, node];
    this.#child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.#take(JSON.parse(line)));
  }

  #take(line: { owners?: Record<string, string>; log?: string; rss?: number; held?: number }): void {
    if (line.owners) this.demands.push((this.owners = line.owners));
    if (line.log) this.log.push(line.log);
    if (line.rss) this.mostRss = Math.max(this.mostRss, (this.rss = line.rss));
    this.held = Math.max(this.held, line.held ?? 0);
  }

  forget(): void {
    [this.held, this.mostRss] = [0, 0];
  }

  async shows(vip: string, node: string | undefined): Promise<void> {
    await until(`${vip} is at ${node}`, () => this.owners[vip] === node, PATIENCE).catch((error: Error) => {
      throw new Error(`${error.message}: ${this.owners[vip]}. ${this.log.slice(-5).join("; ")}`);
    });
  }

  async says(pattern: RegExp): Promise<void> {
    const last = () => this.log.slice(-5).join("; ");
    await until(`${pattern}`, () => this.log.some((line) => pattern.test(line)), PATIENCE).catch((error: Error) => {
      throw new Error(`${error.message}. It said: ${last()}`);
    });
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.on("exit", resolve));
    if (this.#child.exitCode === null && this.#child.kill()) await ended;
  }
}

const test = suite("objects on a real API server");
const check = checker(test, noCluster);
const stack = new AsyncDisposableStack();
const folder = mkdtempSync(join(tmpdir(), "isat-t-objects-"));
let cluster: Cluster;
let reader: Reader;

const read = (node = "n1") => new Reader(cluster.kubeconfig("speaker", "here"), join(folder, node), node);

test.before(async () => {
  if (noCluster) return;
  const namespaces = stack.use(new Namespaces("isat-t-objects-"));
  cluster = stack.use(await Cluster.start(namespaces, { proxy: false, wire: "bridge", metallb: true }));
  await cluster.grant(RULES);
  await cluster.addTenant(TENANT, ALL);
  await cluster.api.apply(pool("first", ["10.9.1.0/24"]));
  await cluster.api.apply(advertise({}));
  reader = read();
});

test.after(async () => {
  await reader?.end();
  await stack.disposeAsync();
  rmSync(folder, { recursive: true, force: true });
});

/** A spec that never gets empty: server-side apply would leave null of it. */
const advertise = (spec: object) => advertisement("all", { interfaces: [], ...spec });

let count = 0;
/** A VIP that no test has used yet, for which the node has the lowest hash. */
const freshVip = (node: string) => vipsOf(node, 1, 40)[count++]!;

/** A Service at a fresh VIP. */
async function serve(
  bestAt: string,
  options: Parameters<Cluster["serve"]>[2] = {},
): Promise<[name: string, vip: string]> {
  const vip = freshVip(bestAt);
  const name = `s${count}`;
  await cluster.serve(name, vip, options);
  return [name, vip];
}

async function eventsOn(namespace: string, name: string): Promise<{ reason: string; message: string }[]> {
  const { items } = await cluster.api.list(`/api/v1/namespaces/${namespace}/events`);
  return items.filter(({ involvedObject }) => involvedObject.name === name) as never;
}

const hasEvent = (namespace: string, name: string, reason: string) =>
  until(
    `an Event ${reason} on ${name}`,
    async () => (await eventsOn(namespace, name)).find((event) => event.reason === reason),
    PATIENCE,
  );

check("a Node that comes to list a VIP withdraws nothing, and the Event names the Node", async () => {
  const [name, vip] = await serve("n2");
  await reader.shows(vip, "n2");
  const { ip } = cluster.node("n1");
  await cluster.setNodeAddresses("n1", [ip, vip]);
  const { message } = await hasEvent("default", name, "NodeAddress");
  assert.match(message, new RegExp(`^${vip} is served, though Node n1 lists it`));
  assert.is(reader.owners[vip], "n2");
  const later = freshVip("n3");
  await cluster.setNodeAddresses("n1", [ip, later]);
  await sleep(1_000); // Nodes and Services are watched apart
  await cluster.serve("later", later);
  await reader.says(new RegExp(`${later} of default/later is announced by nobody: it is Node n1's own address`));
  assert.is(reader.owners[later], undefined);
  await cluster.setNodeAddresses("n1", [ip]);
  await reader.shows(later, "n3");
});

check("whoever had an address first decides, also for a speaker that starts later", async () => {
  const old: KubeObject = service("old", { namespace: TENANT, policy: "Local" });
  await cluster.apiAs("tenant").apply(old);
  await sleep(1_100); // creation times are in seconds
  const [name, vip] = await serve("n2");
  await reader.shows(vip, "n2");
  const from = reader.demands.length;
  const second = read("n2");
  await second.shows(vip, "n2");
  await second.end();
  await cluster.setEndpoints("old", ["n3"], TENANT);
  const ingress = { status: { loadBalancer: { ingress: [{ ip: vip }] } } };
  await cluster.apiAs("tenant").patch(old, ingress, "status");
  const { message } = await hasEvent(TENANT, "old", "SharedAddress");
  assert.not.match(message, new RegExp(`default|${name}\\b`));
  const restarted = read("n2");
  await restarted.shows(vip, "n2");
  assert.ok(restarted.demands.every((owners) => owners[vip] === "n2"));
  await restarted.end();
  assert.ok(reader.demands.slice(from).every((owners) => owners[vip] === "n2"));
  await cluster.deleteService("old", TENANT);
});

check("pools of another namespace are not even read", async () => {
  const [, vip] = await serve("n1");
  await reader.shows(vip, "n1");
  const theirs = (object: KubeObject) => ({ ...object, metadata: { ...object.metadata, namespace: TENANT } });
  await cluster.apiAs("tenant").apply(theirs(pool("aaa", ["10.9.0.0/16"])));
  await cluster
    .apiAs("tenant")
    .apply(theirs(advertisement("aaa", { nodeSelectors: [{ matchLabels: { no: "where" } }] })));
  await cluster.serve("out", "10.9.7.1", { namespace: TENANT });
  await sleep(1_000);
  assert.equal([reader.owners[vip], reader.owners["10.9.7.1"]], ["n1", undefined]);
});

check("a pool that gets a bad address keeps its last good form, over a restart too", async () => {
  const [, vip] = await serve("n3");
  await reader.shows(vip, "n3");
  await cluster.api.apply(pool("first", ["10.9.1.0"]));
  await hasEvent(METALLB, "first", "Unreadable");
  assert.is(reader.owners[vip], "n3");
  await reader.end(); // which saves
  reader = read();
  await reader.says(/IPAddressPool metallb-system\/first cannot be used: .*What it said before still counts/);
  await reader.shows(vip, "n3");
  await cluster.api.apply(pool("first", ["10.9.1.0/24"]));
});

check("endpoints of another family, and those that terminate beside ready ones, do not count", async () => {
  const [name, vip] = await serve("n2", { policy: "Local", endpoints: ["n3"] });
  await reader.shows(vip, "n3");
  const six = endpointSlice(name, [{ node: cluster.node("n2") }]);
  six.metadata.name = `${name}-six`;
  six.addressType = "IPv6";
  for (const endpoint of six.endpoints) endpoint.addresses = ["fd00::2"];
  await cluster.api.apply(six);
  const leaving = { ready: false, serving: true, terminating: true };
  await cluster.setEndpoints(name, [{ node: "n2", conditions: leaving }, "n3"]);
  await sleep(500);
  assert.is(reader.owners[vip], "n3");
  await cluster.setEndpoints(name, [{ node: "n2", conditions: leaving }]);
  await reader.shows(vip, "n2");
});

check("preferred nodes go first", async () => {
  const [, vip] = await serve("n1");
  await reader.shows(vip, "n1");
  const preference = { matchLabels: { "kubernetes.io/hostname": "n3" } };
  await cluster.api.apply(advertise({ preferredNodeSelectors: [{ weight: 10, preference }] }));
  await reader.shows(vip, "n3");
  await cluster.api.apply(advertise({}));
  await reader.shows(vip, "n1");
});

check("a Node that comes back from a boot owns nothing until it is Ready", async () => {
  const [, vip] = await serve("n2");
  await reader.shows(vip, "n2");
  const node = { apiVersion: "v1", kind: "Node", metadata: { name: "n2" } };
  const boot = (bootID: string) => ({ status: { nodeInfo: { ...INFO, bootID } } });
  await cluster.api.patch(node, boot("one"), "status");
  await cluster.setNodeCondition("n2", "Ready", "False");
  await sleep(300);
  assert.is(reader.owners[vip], "n2");
  await cluster.api.patch(node, boot("two"), "status");
  await reader.shows(
    vip,
    best(
      vip,
      NODES.filter((name) => name !== "n2"),
    ),
  );
  await cluster.setNodeCondition("n2", "Ready", "True");
  await reader.shows(vip, "n2");
});

const INFO = Object.fromEntries(
  [
    ...["machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion"],
    ...["kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture"],
  ].map((field) => [field, "x"]),
);

check("what nobody announces is a line and an Event for each cause", async () => {
  const strange = freshVip("n1");
  await cluster.serve("strange", strange, { class: "isat.example/l2" });
  const { message } = await hasEvent("default", "strange", "NotAnnounced");
  assert.match(message, /isat does not serve the class isat\.example\/l2/);
  await cluster.api.apply(pool("second", ["10.9.2.0/24"]));
  await cluster.api.apply(advertise({ ipAddressPools: ["first"] }));
  await cluster.serve("mute", "10.9.2.1");
  const event = await hasEvent("default", "mute", "NotAnnounced");
  assert.is(
    event.message,
    "10.9.2.1 is announced by nobody: no L2Advertisement selects a Node for it in pool metallb-system/second",
  );
  await cluster.api.apply(advertise({}));
  await reader.shows("10.9.2.1", best("10.9.2.1"));
});

check("MetalLB's definitions are deleted and made again: no VIP is withdrawn at any moment", async () => {
  const [, vip] = await serve("n3");
  await reader.shows(vip, "n3");
  for (let round = 0; round < 3; round++) {
    const from = reader.demands.length;
    await cluster.deleteDefinitions();
    await reader.says(/The definition of MetalLB's L2Advertisements was deleted/);
    await cluster.serve("meanwhile", `10.9.1.${250 + round}`);
    await reader.shows(`10.9.1.${250 + round}`, best(`10.9.1.${250 + round}`));
    await cluster.installMetallb();
    await cluster.api.apply(pool("first", ["10.9.1.0/24"]));
    await cluster.api.apply(pool("second", ["10.9.2.0/24"]));
    await cluster.api.apply(advertise({}));
    const preference = { matchLabels: { "kubernetes.io/hostname": "n1" } };
    await cluster.api.apply(advertise({ preferredNodeSelectors: [{ weight: 1, preference }] }));
    await reader.shows(vip, "n1"); // they are read again
    assert.ok(
      reader.demands.slice(from).every((owners) => owners[vip] === "n3" || owners[vip] === "n1"),
      "no hole",
    );
    await cluster.api.apply(advertise({}));
    await reader.shows(vip, "n3");
  }
});

/** Makes numbers that look random and are the same in each run (mulberry32). */
function randomOf(seed: number) {
  let state = seed;
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const MEMORY = 50 * 2 ** 20;
/** A loop that is held for longer than this is far from what is meant (50 ms); a busy machine alone can hold it for long. */
const FAR_TOO_LONG = 2_000;

check(
  "a tenant with all rights in his namespace can give no VIP away, silence none, and use no speaker up",
  async () => {
    const victims = await Promise.all(NODES.map((node) => serve(node)));
    const vips = victims.map(([, vip]) => vip);
    for (const vip of vips) await reader.shows(vip, best(vip));
    await sleep(2_000);
    const before = reader.rss;
    reader.forget();
    const from = reader.demands.length;
    const random = randomOf(15);
    const tenant = cluster.apiAs("tenant");
    const pick = <T>(...all: T[]): T => all[random(all.length)]!;
    const labels = (size: number) =>
      Object.fromEntries(
        Array.from({ length: size }, (_, index) => [`tenant.example/${random(1e9)}-${index}`, "x".repeat(60)]),
      );
    const forbidden = [
      "127.0.0.1",
      "0.0.0.0",
      "224.0.0.1",
      "255.255.255.255",
      "10.9.255.1",
      "10.9.255.254",
      "10.8.0.1",
      "192.0.2.1",
    ];
    const ip = () =>
      pick(
        ...vips,
        ...forbidden,
        "fd00::1",
        `10.9.${random(256)}.${random(256)}`,
        `10.9.2.${random(256)}`,
        `10.9.2.${random(256)}`,
      );
    const mine = (object: KubeObject): KubeObject => ({
      ...object,
      metadata: { ...object.metadata, namespace: TENANT },
    });
    const refusals: string[] = [];
    const send = (what: string, request: Promise<unknown>) =>
      request.catch((error: Error) => refusals.push(`${what}: ${error.message.slice(0, 120)}`));
    for (let round = 0; round < 50; round++) {
      const name = `t${round}`;
      const namespace = TENANT;
      if (round % 5 < 3) {
        const size = pick(0, 10, 2_000, 5_000);
        const policy = pick("Cluster", "Local") as "Cluster" | "Local";
        const annotations = pick<Record<string, string>>({}, { "metallb.io/allow-shared-ip": "x" });
        await send(
          name,
          tenant.create(
            service(name, { namespace, labels: labels(size), policy, annotations, ...pick({}, { class: "x/y" }) }),
          ),
        );
        const ingress = Array.from({ length: pick(1, 3, 60, 5_000) }, () => ({
          ip: ip(),
          ...pick({}, { ipMode: "VIP" }),
        }));
        await send(
          name,
          tenant.patch(service(name, { namespace }), { status: { loadBalancer: { ingress } } }, "status"),
        );
        const its = endpointSlice(name, [{ node: cluster.node(pick(...NODES)) }], namespace);
        const many = Array.from({ length: pick(1, 100, 1_000) }, (_, index) => ({
          ...its.endpoints[0],
          addresses: [`10.1.${index >> 8}.${index & 255}`],
          nodeName: pick("n1", "n3", `${"n".repeat(200)}${random(1e6)}`),
        }));
        await send(name, tenant.apply({ ...its, endpoints: many, addressType: "IPv4" }));
      } else if (round % 5 === 3) {
        const addresses = Array.from({ length: pick(1, 5_000) }, () => pick("0.0.0.0/0", "10.9.1.0/24", "x", ip()));
        await send(name, tenant.apply(mine(pool(name, addresses, labels(pick(0, 3_000))))));
      } else {
        const nodeSelectors = Array.from({ length: pick(1, 2_000) }, () => ({
          matchLabels: { [`a${random(9)}`]: "b" },
        }));
        const spec = { nodeSelectors, serviceSelectors: nodeSelectors, interfaces: [`${"*".repeat(500)}x`] };
        await send(name, tenant.apply(mine(advertisement(name, spec))));
      }
    }
    const outside = await tenant.request("GET", "/api/v1/namespaces/default/services");
    assert.is(outside.status, 403, "he has rights in his namespace only");
    await sleep(5_000);
    const demands = reader.demands.slice(from);
    for (const vip of vips)
      assert.ok(
        demands.every((owners) => owners[vip] === best(vip)),
        `${vip} stayed`,
      );
    const allowed = (vip: string) => vip.startsWith("10.9.1.") || vip.startsWith("10.9.2.");
    const strange = demands.flatMap((owners) => Object.keys(owners).filter((vip) => !allowed(vip)));
    assert.equal(strange, [], "nothing outside of the pools");
    assert.ok(demands.length > 1 && refusals.length < 40, `${demands.length} demands; ${refusals.join("; ")}`);
    const more = reader.mostRss - before;
    console.log(
      `\nMEASURED a tenant's fifty objects: ${Math.round(more / 2 ** 20)} MB more at most (${Math.round(before / 2 ** 20)} before), the loop held for ${Math.round(reader.held)} ms`,
    );
    assert.ok(more < MEMORY, `${more} bytes more`);
    assert.ok(reader.held < FAR_TOO_LONG, `${reader.held} ms`);
  },
);

test.run();
