import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { noDeno, onDeno } from "../../../lab/runtimes.ts";
import { skip } from "../../../lab/skip.ts";
import type { KubernetesSource } from "../../../src/config/config.ts";
import { formatAddress, parseRange } from "../../../src/core/address.ts";
import type { Demand } from "../../../src/core/demand.ts";
import { type KubernetesWatch, type SourceTiming, watchKubernetes } from "../../../src/source/kubernetes/source.ts";
import { Api, type Identity } from "./api.ts";
import { advertisement, NODES, node, pool, type Sent, service, slice } from "./objects.ts";

const PLURALS = {
  Service: "services",
  EndpointSlice: "endpointslices",
  Node: "nodes",
  IPAddressPool: "ipaddresspools",
  L2Advertisement: "l2advertisements",
};

/** What a test waits for comes at last, or the test fails; how long it takes is no matter here. */
async function until(what: string, holds: () => boolean, found = () => ""): Promise<void> {
  for (const end = Date.now() + 20_000; !holds(); await sleep(2)) {
    if (Date.now() > end) throw new Error(`in 20 s it did not come to this: ${what}. Found: ${found()}`);
  }
}

/** One API server, and what watches it. */
class Rig implements AsyncDisposable {
  readonly api = new Api();
  readonly folder = mkdtempSync(join(tmpdir(), "isat-kubernetes-"));
  readonly #stops: AbortController[] = [];

  static async start(...objects: Sent[]): Promise<Rig> {
    const rig = new Rig();
    await rig.api.start();
    rig.put(...NODES, ...objects);
    return rig;
  }

  put(...objects: Sent[]): void {
    for (const [kind, object] of objects) this.api.put(PLURALS[kind], object);
  }

  serveMetalLB(versions = ["v1beta1"]): void {
    this.api.absent.clear();
    this.api.put("customresourcedefinitions", {
      metadata: { name: "l2advertisements.metallb.io" },
      spec: { versions: versions.map((name) => ({ name, served: true })) },
      status: { conditions: [{ type: "Established", status: "True" }] },
    });
  }

  writeKubeconfig(file = join(this.folder, "kubeconfig"), user: object = {}, trust: object = INSECURE): string {
    const cluster = { server: this.api.url, ...trust };
    writeFileSync(
      file,
      JSON.stringify({
        clusters: [{ name: "c", cluster }],
        users: [{ name: "u", user }],
        contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
        "current-context": "x",
      }),
    );
    return file;
  }

  watch(
    settings: Partial<KubernetesSource> = {},
    options: { node?: string; timing?: Partial<SourceTiming> } = {},
  ): Seen {
    const stop = new AbortController();
    this.#stops.push(stop);
    const runDir = join(this.folder, "run");
    mkdirSync(runDir, { recursive: true });
    return new Seen(stop, { kubeconfig: settings.kubeconfig ?? this.writeKubeconfig(), ...settings }, runDir, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#stops) stop.abort();
    await this.api.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What a watch said. */
class Seen {
  readonly demands: Demand[] = [];
  readonly lines: string[] = [];
  readonly freshness: boolean[] = [];
  readonly watch: KubernetesWatch;
  readonly #stop: AbortController;
  failure: Error | undefined;
  wasFresh: boolean | undefined;

  constructor(
    stop: AbortController,
    settings: Partial<KubernetesSource>,
    runDir: string,
    { node = "n1", timing = {} }: { node?: string; timing?: Partial<SourceTiming> },
  ) {
    this.#stop = stop;
    const source: KubernetesSource = {
      kind: "kubernetes",
      kubeconfig: undefined,
      loadBalancerClass: undefined,
      addresses: [parseRange("10.9.0.0/16")],
      interfaces: undefined,
      nodeSelector: undefined,
      serviceSelector: undefined,
      ignoreExcludeLabel: false,
      ...settings,
    };
    this.watch = watchKubernetes(source, {
      node,
      runDir,
      signal: stop.signal,
      timing: { retry: [5, 50], deliver: 0, ...timing },
      onDemand: (demand, { isFresh }) => {
        this.wasFresh = isFresh;
        if (this.failure) throw this.failure;
        this.demands.push(demand);
      },
      onFreshness: (isFresh) => this.freshness.push(isFresh),
      report: (level, message) => this.lines.push(`${level}: ${message}`),
    });
  }

  /** `10.9.0.1 n1,n2,n3`, for each VIP. */
  get vips(): string[] {
    const { vips = [] } = this.demands.at(-1) ?? {};
    return vips.map(({ first, nodes }) => `${formatAddress(first)} ${nodes?.join() || "nobody"}`).sort();
  }

  async shows(...vips: string[]): Promise<void> {
    const found = () => [...this.vips, ...this.lines].join("\n");
    await until(`the VIPs ${vips}`, () => String(this.vips) === String(vips), found);
  }

  async says(...pieces: string[]): Promise<void> {
    const said = (line: string) => pieces.every((piece) => line.includes(piece));
    await until(
      `a line with ${pieces}`,
      () => this.lines.some(said),
      () => this.lines.join("\n"),
    );
  }

  stop(): void {
    this.#stop.abort();
  }
}

const INSECURE = { "insecure-skip-tls-verify": true };

/** Certificates of one authority for the server and for isat, or why there are none. */
function makeIdentities(folder: string): { server: Identity; client: Identity } | string {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  try {
    writeFileSync(join(folder, "san"), "subjectAltName=IP:127.0.0.1");
    const request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(...request, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt");
    for (const name of ["server", "client"]) {
      openssl(...request, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
      const signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"];
      openssl("x509", "-req", "-in", `${name}.csr`, ...signed, "-out", `${name}.crt`);
    }
  } catch (error) {
    return `openssl makes no certificates: ${(error as Error).message}`;
  }
  const read = (name: string) => readFileSync(join(folder, name), "utf8");
  const of = (name: string) => ({ key: read(`${name}.key`), cert: read(`${name}.crt`), ca: read("ca.crt") });
  return { server: of("server"), client: of("client") };
}

const READY: [string][] = [["n1"], ["n2"], ["n3"]];
const WEB = [service("web", ["10.9.0.1"]), slice("web", READY)];
const ALL = "n1,n2,n3";

const test = suite("kubernetes");

test("what the API has is demanded, and each change of it", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  assert.is(seen.demands.length, 1, "only once all of it had been read");
  assert.ok(seen.watch.isFresh());
  assert.is(seen.wasFresh, true);
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  rig.put(slice("mail", [["n2"]]));
  await seen.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  rig.put(service("mail", ["10.9.0.2"], { policy: "Local" }));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 n2");
  rig.api.remove("services", "web");
  await seen.shows("10.9.0.2 n2");
  rig.api.remove("nodes", "n2");
  await seen.shows("10.9.0.2 nobody");
  assert.equal(seen.lines, []);
});

test("at rest nothing is asked and nothing is written", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("four watches", () => rig.api.watches.length === 4);
  const before = [...rig.api.requests];
  rig.put(service("web", ["10.9.0.1"], { labels: { of: "no matter" } }));
  rig.api.bookmark();
  await sleep(300);
  assert.equal(rig.api.requests, before);
  assert.ok(
    before.every((request) => request.startsWith("GET ") && request.includes("watch=true")),
    before.join("\n"),
  );
  assert.is(seen.demands.length, 1);
});

for (const watchList of ["error", "refused"] as const) {
  test(`a server where WatchList is met with ${watchList} is listed in pages of 100`, async () => {
    await using rig = await Rig.start();
    rig.api.watchList = watchList;
    const count = 250;
    for (let index = 0; index < count; index++) rig.put(service(`s${index}`, [`10.9.1.${index}`]));
    const seen = rig.watch();
    await until("all of them", () => seen.vips.length === count);
    const lists = rig.api.requests.filter(
      (request) => request.startsWith("GET services?") && !request.includes("watch"),
    );
    assert.equal(lists, [
      "GET services?limit=100",
      "GET services?limit=100&continue=100",
      "GET services?limit=100&continue=200",
    ]);
    await seen.says("info: services are listed in pages, as WatchList fails");
    rig.api.remove("services", "s0");
    await until("one less", () => seen.vips.length === count - 1);
  });
}

test("pages that expire are begun anew", async () => {
  await using rig = await Rig.start();
  rig.api.watchList = "refused";
  rig.api.expirePages = 2;
  for (let index = 0; index < 120; index++) rig.put(service(`s${index}`, [`10.9.1.${index}`]));
  const seen = rig.watch();
  await until("all of them", () => seen.vips.length === 120);
  await seen.says("services are listed anew");
});

test("a version that is gone (410 in an answer of 200) lists anew, and only differences are applied", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  const lists = () => rig.api.requests.filter((request) => request.includes("sendInitialEvents")).length;
  rig.api.compact();
  await until("four lists more", () => lists() >= 8 && rig.api.watches.length === 4);
  await sleep(50);
  assert.is(seen.demands.length, 1, "nothing had changed");
  assert.equal(seen.lines, [], "which happens now and then");
  const [kept] = seen.demands[0]!.vips;
  rig.api.isFrozen = true; // what follows is seen by no watch
  rig.api.remove("services", "mail");
  rig.api.isFrozen = false;
  rig.api.compact();
  await seen.shows(`10.9.0.1 ${ALL}`);
  assert.is(seen.demands.at(-1)!.vips[0], kept, "the same object");
  await seen.says("warn: services are listed anew, as the API has let go of the version");
});

const broken: [what: string, line: string, ...says: string[]][] = [
  ["an ERROR event", '{"type":"ERROR","object":{"code":500,"message":"etcdserver: no leader"}}', "500", "no leader"],
  ["malformed JSON", '{"type":"MODIFIED","object":{"metada', "services is begun anew", "no JSON"],
  ["an event of no type", '{"object":{}}', "services is begun anew", "type undefined"],
];
for (const [what, line, ...says] of broken) {
  test(`${what} in a watch is told, and lists anew`, async () => {
    await using rig = await Rig.start(...WEB);
    const seen = rig.watch();
    await seen.shows(`10.9.0.1 ${ALL}`);
    await until("a watch", () => rig.api.watches.includes("services"));
    rig.api.isFrozen = true; // what follows is what the broken line stood for
    rig.api.remove("services", "web");
    rig.api.isFrozen = false;
    rig.api.say(line, "services");
    await seen.shows();
    await seen.says(...says);
    await seen.says("info: The API is read again");
  });
}

test("an object that cannot be read costs itself alone: one line, one Event of all nodes, none again", async () => {
  await using rig = await Rig.start(...WEB);
  const one = rig.watch();
  const two = rig.watch({}, { node: "n2" });
  await one.shows(`10.9.0.1 ${ALL}`);
  await two.shows(`10.9.0.1 ${ALL}`);
  rig.put(service("bad", ["10.9.0.999"]), service("mail", ["10.9.0.2"]));
  await one.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  await two.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  const line = 'warn: Service default/bad cannot be used: status.loadBalancer.ingress[0].ip is "10.9.0.999"';
  await one.says(line);
  await two.says(line);
  rig.put(service("bad", ["10.9.0.999"], { labels: { again: "yes" } }));
  await until(
    "two attempts",
    () => rig.api.requests.filter((request) => request.startsWith("POST events")).length === 2,
  );
  await sleep(100);
  assert.is(rig.api.events.length, 1);
  assert.equal(rig.api.events[0]?.involvedObject, {
    apiVersion: "v1",
    kind: "Service",
    namespace: "default",
    name: "bad",
    uid: "uid-bad",
  });
  assert.is(one.lines.length, 1, one.lines.join("\n"));
  assert.is(two.lines.length, 1, two.lines.join("\n"));
  assert.is(one.watch.counts.unreadable, 1);
  rig.put(service("bad", ["10.9.0.3"]));
  await one.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody", "10.9.0.3 nobody");
  assert.is(one.watch.counts.unreadable, 0);
});

test("a bookmark moves the version from which a watch goes on", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("four watches", () => rig.api.watches.length === 4);
  for (let count = 0; count < 40; count++) rig.api.bookmark();
  rig.put(service("last", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  rig.api.end();
  await until("watches from there", () =>
    rig.api.requests.some((request) => /^GET nodes\?.*resourceVersion=4\d$/.test(request)),
  );
  assert.equal(seen.lines, [], "that a watch ends in good order is no news");
});

test("a watch that ends in the middle of a line is told, and gone on with", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("four watches", () => rig.api.watches.length === 4);
  rig.api.end('{"type":"MODIFIED","object":{"metada');
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.says("it ended in the middle of a line");
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
});

test("a watch in which nothing is heard is begun anew from where it was", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { timing: { stall: 150 } });
  await seen.shows(`10.9.0.1 ${ALL}`);
  const watches = () => rig.api.requests.filter((request) => /^GET services\?.*resourceVersion=/.test(request)).length;
  await until("two watches more", () => watches() >= 2);
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  const lists = rig.api.requests.filter((request) => request.includes("sendInitialEvents"));
  assert.is(lists.length, 4, "nothing was listed anew");
  assert.equal(seen.lines, [], "a quiet resource is no news");
  assert.equal(seen.freshness, [true]);
});

test("a server that hangs with its connections open makes the source stale, and what was applied is served", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { timing: { stall: 200, stale: 300 } });
  await seen.shows(`10.9.0.1 ${ALL}`);
  rig.api.isFrozen = true;
  await until("stale", () => !seen.watch.isFresh());
  await until("told", () => seen.freshness.at(-1) === false);
  assert.equal(seen.vips, [`10.9.0.1 ${ALL}`]);
  rig.api.isFrozen = false;
  rig.api.cut();
  await until("fresh", () => seen.watch.isFresh() && seen.freshness.at(-1) === true);
});

test("a server that is killed and comes back: one line each, and what was applied is served meanwhile", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { timing: { stale: 300 } });
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("four watches", () => rig.api.watches.length === 4);
  await rig.api.stop();
  await seen.says("warn: The connection to the API is lost: the server has closed it");
  await seen.says("warn: Cannot reach the API at http://127.0.0.1:", "ECONNREFUSED");
  await until("stale", () => seen.freshness.at(-1) === false);
  assert.equal(seen.vips, [`10.9.0.1 ${ALL}`]);
  assert.is(seen.lines.filter((line) => line.includes("ECONNREFUSED")).length, 1, seen.lines.join("\n"));
  assert.is(seen.demands.length, 1);
  rig.put(service("mail", ["10.9.0.2"]));
  await rig.api.start();
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  await seen.says("info: The API is read again");
  await until("fresh", () => seen.freshness.at(-1) === true);
});

test("a watch that is cut for less than the source may be away leaves it fresh", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  for (let count = 0; count < 5; count++) {
    await until("four watches", () => rig.api.watches.length === 4);
    rig.api.cut();
    assert.ok(seen.watch.isFresh());
  }
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  assert.equal(seen.freshness, [true]);
});

test("a start while the API is away serves what was saved, as stale, and applies what has changed since", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const first = rig.watch();
  await first.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  first.stop();
  await rig.api.stop();
  rig.api.remove("services", "mail");
  rig.put(node("n3", "10.0.0.3", { "node.kubernetes.io/exclude-from-external-load-balancers": "" }));
  const second = rig.watch();
  await second.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  assert.is(second.wasFresh, false);
  assert.not(second.watch.isFresh());
  await second.says("what was saved of the cluster is served");
  await rig.api.start();
  await second.shows("10.9.0.1 n1,n2");
  await until("fresh", () => second.freshness.at(-1) === true);
});

test("a start while the API is there waits for it, and does not serve what was saved", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const first = rig.watch();
  await first.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  first.stop();
  rig.api.remove("services", "mail");
  const second = rig.watch();
  await second.shows(`10.9.0.1 ${ALL}`);
  assert.is(second.demands.length, 1);
});

test("what was saved and cannot be read is told, and left alone", async () => {
  await using rig = await Rig.start(...WEB);
  mkdirSync(join(rig.folder, "run"));
  writeFileSync(join(rig.folder, "run", "cluster.json"), '{"form":1,"objects":{');
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await seen.says("warn: What was saved of the cluster is not used");
  seen.stop();
  assert.equal(readdirSync(join(rig.folder, "run")), ["cluster.json"]);
  assert.is(JSON.parse(readFileSync(join(rig.folder, "run", "cluster.json"), "utf8")).objects.Service.length, 1);
});

test("a server that comes back refuses for a moment what it gave, which is not told; for long, and it is", async () => {
  for (const [steady, isTold] of [
    [20_000, false],
    [200, true],
  ] as const) {
    await using rig = await Rig.start(...WEB);
    const seen = rig.watch({}, { timing: { steady } });
    await seen.shows(`10.9.0.1 ${ALL}`);
    await until("four watches", () => rig.api.watches.length === 4);
    await rig.api.stop();
    await seen.says("Cannot reach the API");
    for (const plural of ["services", "endpointslices", "nodes"]) rig.api.denied.add(plural);
    await rig.api.start();
    const refused = () => rig.api.requests.slice(before).filter((line) => line.startsWith("GET nodes")).length;
    const before = rig.api.requests.length;
    await until("some refusals", () => refused() > 4);
    if (isTold) await seen.says("Cannot list and watch nodes");
    rig.api.denied.clear();
    await seen.says("info: The API is read again");
    assert.is(
      seen.lines.some((line) => line.includes("Cannot list")),
      isTold,
      seen.lines.join("\n"),
    );
  }
});

test("a refusal names the verbs, the resource and the rule to grant, once; a grant is noticed", async () => {
  await using rig = await Rig.start(...WEB);
  rig.api.denied.add("endpointslices");
  const seen = rig.watch();
  await seen.says(
    'warn: Cannot list and watch endpointslices: endpointslices is forbidden: User "isat" cannot',
    '{ apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] }',
  );
  await until(
    "it is tried again",
    () => rig.api.requests.filter((line) => line.startsWith("GET endpoints")).length > 4,
  );
  assert.is(seen.lines.length, 1, seen.lines.join("\n"));
  assert.equal(seen.demands, [], "half of what there is decides nothing");
  rig.api.denied.clear();
  await seen.shows(`10.9.0.1 ${ALL}`);
});

test("a refusal of Events is told, and costs nothing else", async () => {
  await using rig = await Rig.start(...WEB, service("bad", ["x"]));
  rig.api.denied.add("events");
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await seen.says("Cannot write Events", '{ apiGroups: [""], resources: ["events"], verbs: ["create"] }');
});

test("Events: none of what is deleted with its namespace, and one of the longest name", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  rig.api.terminating.add("default");
  rig.put(service("bad", ["x"]));
  const posts = () => rig.api.requests.filter((request) => request.startsWith("POST events")).length;
  await until("an attempt", () => posts() === 1);
  rig.api.terminating.clear();
  rig.put(service("b".repeat(253), ["y"]));
  await until("an Event", () => rig.api.events.length === 1);
  assert.not.match(seen.lines.join("\n"), "Events");
});

test("a kubeconfig that is not there is told once, and read when it is", async () => {
  await using rig = await Rig.start(...WEB);
  const kubeconfig = join(rig.folder, "later");
  const seen = rig.watch({ kubeconfig });
  await seen.says(`warn: Cannot use the kubeconfig ${kubeconfig}`, "ENOENT");
  await sleep(200);
  assert.is(seen.lines.length, 1, seen.lines.join("\n"));
  writeFileSync(kubeconfig, "clusters: []");
  await seen.says("its context names no server");
  rig.writeKubeconfig(kubeconfig);
  await seen.shows(`10.9.0.1 ${ALL}`);
});

test("a busy server is asked again", async () => {
  await using rig = await Rig.start(...WEB);
  rig.api.busy = 6;
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await seen.says("429", "too many requests");
});

test("MetalLB's resources are followed from when they are served until they are not", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  rig.put(
    pool("p1", ["10.9.0.0/24"]),
    advertisement("a", { nodeSelectors: [{ matchLabels: { "kubernetes.io/hostname": "n2" } }] }),
  );
  rig.serveMetalLB();
  await seen.shows("10.9.0.1 n2");
  assert.not(
    seen.demands.some(({ vips }) => vips[0]?.nodes?.length === 0),
    "there was no time without an owner",
  );
  rig.put(advertisement("a", { nodeSelectors: [] }));
  await seen.shows(`10.9.0.1 ${ALL}`);
  rig.api.remove("l2advertisements", "a", "metallb-system");
  await seen.shows("10.9.0.1 nobody");
  rig.api.absent.add("ipaddresspools").add("l2advertisements");
  rig.api.remove("customresourcedefinitions", "l2advertisements.metallb.io");
  await seen.shows(`10.9.0.1 ${ALL}`);
  assert.ok(seen.watch.isFresh());
});

test("where MetalLB's resources are served but may not be read, nothing is announced without them", async () => {
  await using rig = await Rig.start(...WEB);
  rig.serveMetalLB();
  rig.api.denied.add("l2advertisements");
  const seen = rig.watch();
  await seen.says("Cannot list and watch l2advertisements", '{ apiGroups: ["metallb.io"]');
  await sleep(100);
  assert.equal(seen.demands, []);
});

test("MetalLB's resources that come to be served and may not be read keep nothing else from being heard of", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  rig.api.denied.add("l2advertisements");
  rig.serveMetalLB();
  await seen.says("Cannot list and watch l2advertisements");
  rig.put(service("mail", ["10.9.0.2"]), slice("mail", READY));
  await seen.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  rig.api.denied.clear();
  await seen.shows();
});

test("L2Advertisements of an unknown version are named and ignored", async () => {
  await using rig = await Rig.start(...WEB);
  rig.serveMetalLB(["v1", "v2"]);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await seen.says("the API serves v1, v2 of them, and isat knows v1beta1");
  rig.serveMetalLB(["v1", "v1beta1"]);
  await seen.shows();
});

test("a node that is no Node of the cluster is told of those that are", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { node: "elsewhere" });
  await seen.says('warn: This node owns nothing as the cluster has no Node "elsewhere"', "n1, n2, n3", "NODE_NAME");
});

test("a demand that cannot be taken is told, and costs nothing else", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  seen.failure = new Error("the kernel's map is full");
  await seen.says("error: the kernel's map is full");
  seen.failure = undefined;
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
});

test("settings and gateways may change while it runs", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  seen.watch.addGateways(new Set([parseRange("10.9.0.2").first]));
  await seen.shows(`10.9.0.1 ${ALL}`);
});

test("a text of more than one byte a letter may be cut anywhere", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  const labels = { name: "ä€𝄞".repeat(30_000) };
  rig.put(service("big", ["10.9.0.2"], { labels }));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  assert.equal(seen.lines, []);
});

const keys = mkdtempSync(join(tmpdir(), "isat-identities-"));
const identities = makeIdentities(keys);
test.after(() => rmSync(keys, { recursive: true, force: true }));
const base64 = (text: string) => Buffer.from(text).toString("base64");

/** A user with a certificate and a token in a file, as it stands in a kubeconfig. */
const userOf = ({ key, cert }: Identity, tokenFile: string) => ({
  "client-key-data": base64(key),
  "client-certificate-data": base64(cert),
  tokenFile,
});

const secure = "over TLS, with a certificate and a token that is replaced while it runs";
if (typeof identities === "string") skip(test, secure, identities);
else {
  test(secure, async () => {
    await using rig = await Rig.start(...WEB);
    const { server, client } = identities;
    await rig.api.stop();
    await rig.api.start(server);
    const tokenFile = join(rig.folder, "token");
    writeFileSync(tokenFile, "first");
    rig.api.token = "first";
    const user = userOf(client, tokenFile);
    const kubeconfig = rig.writeKubeconfig(undefined, user, { "certificate-authority-data": base64(server.ca) });
    const seen = rig.watch({ kubeconfig });
    await seen.shows(`10.9.0.1 ${ALL}`);
    rig.api.token = "second";
    rig.api.cut();
    await seen.says("warn: The API takes isat's credentials for nobody's (401)");
    writeFileSync(tokenFile, "second\n");
    rig.put(service("mail", ["10.9.0.2"]));
    await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");

    const stranger = rig.watch({ kubeconfig: rig.writeKubeconfig(join(rig.folder, "stranger"), user, {}) });
    await stranger.says("warn: Cannot reach the API at https://127.0.0.1", "certificate");
    assert.equal(stranger.demands, [], "an authority that is not known is not trusted");
  });
}

const onDenoToo = "on Deno, over TLS";
const noStage = noDeno ?? (typeof identities === "string" ? identities : undefined);
if (noStage) skip(test, onDenoToo, noStage);
else {
  test(onDenoToo, async () => {
    await using rig = await Rig.start(...WEB);
    const { server, client } = identities as Exclude<typeof identities, string>;
    await rig.api.stop();
    await rig.api.start(server);
    const tokenFile = join(rig.folder, "token");
    writeFileSync(tokenFile, "t");
    rig.api.token = "t";
    const trust = { "certificate-authority-data": base64(server.ca) };
    const kubeconfig = rig.writeKubeconfig(undefined, userOf(client, tokenFile), trust);
    const { command, args, env } = onDeno("test/source/kubernetes/watcher.ts", join(rig.folder, "cache"));
    const child = spawn(command, [...args, kubeconfig, rig.folder], { env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    try {
      const saw = (line: string) =>
        until(
          line,
          () => output.includes(`${line}\n`),
          () => output,
        );
      await saw("10.9.0.1");
      rig.put(service("mail", ["10.9.0.2"]));
      await saw("10.9.0.1 10.9.0.2");
      rig.api.cut();
      rig.api.remove("services", "web");
      await saw("10.9.0.2");
      await rig.api.stop();
      await until(
        "it says so",
        () => /ECONNREFUSED|refused/.test(output),
        () => output,
      );
      rig.put(service("web", ["10.9.0.3"]));
      await rig.api.start(server);
      await saw("10.9.0.2 10.9.0.3");
    } finally {
      child.kill();
    }
  });
}

test("10,000 Services over HTTP", async () => {
  await using rig = await Rig.start();
  const count = 10_000;
  for (let index = 0; index < count; index++) {
    rig.put(service(`s${index}`, [formatAddress(0x0a090000 + index)]), slice(`s${index}`, READY));
  }
  const started = performance.now();
  const seen = rig.watch();
  await until("all of them", () => seen.vips.length === count);
  console.log(
    `MEASURED ${count} Services and EndpointSlices from the start to a demand, the server in the same process: ${Math.round(performance.now() - started)} ms`,
  );
});

test.run();
