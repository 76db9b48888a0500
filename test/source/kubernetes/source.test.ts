import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { noDeno, onDeno } from "../../../lab/runtimes.ts";
import { skip } from "../../../lab/skip.ts";
import { formatAddress, parseAddress, parseRange } from "../../../src/core/address.ts";
import type { Demand } from "../../../src/core/demand.ts";
import type { Unserved } from "../../../src/core/unserved.ts";
import type { KubernetesSettings } from "../../../src/source/kubernetes/settings.ts";
import { KubernetesSource } from "../../../src/source/kubernetes/source.ts";
import type { SourceTiming } from "../../../src/source/kubernetes/timing.ts";
import type { SourceEvent } from "../../../src/source/source.ts";
import { Api, type Identity } from "./api.ts";
import { PLAIN } from "./clusters.ts";
import { advertisement, NODES, node, pool, type Sent, service, slice } from "./objects.ts";

const PLURALS = {
  Service: "services",
  EndpointSlice: "endpointslices",
  Node: "nodes",
  IPAddressPool: "ipaddresspools",
  L2Advertisement: "l2advertisements",
};

const METALLB = ["ipaddresspools", "l2advertisements"];

/** Waits until it holds. How long that takes does not matter; after 20 s the test fails. */
async function until(what: string, holds: () => boolean, found = () => ""): Promise<void> {
  for (const end = Date.now() + 20_000; !holds(); await sleep(2)) {
    if (Date.now() > end) throw new Error(`in 20 s it did not come to this: ${what}. Found: ${found()}`);
  }
}

/** An API server, and the sources that watch it. */
class Rig implements AsyncDisposable {
  readonly api = new Api();
  readonly folder = mkdtempSync(join(tmpdir(), "isat-kubernetes-"));
  readonly #seen: Seen[] = [];

  static async start(...objects: Sent[]): Promise<Rig> {
    const rig = new Rig();
    await rig.api.start();
    rig.api.put("namespaces", { metadata: { name: "kube-system", uid: "uid-of-the-cluster" } });
    rig.put(...NODES, ...objects);
    return rig;
  }

  put(...objects: Sent[]): void {
    for (const [kind, object] of objects) this.api.put(PLURALS[kind], object);
  }

  serveMetalLB(versions = ["v1beta1"]): void {
    this.api.absent.clear();
    for (const plural of METALLB) {
      this.api.put("customresourcedefinitions", {
        metadata: { name: `${plural}.metallb.io` },
        spec: { versions: versions.map((name) => ({ name, served: true })) },
        status: { conditions: [{ type: "Established", status: "True" }] },
      });
    }
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

  watch(settings: Partial<KubernetesSettings> = {}, options: SeenOptions = {}): Seen {
    const runDir = join(this.folder, "run");
    mkdirSync(runDir, { recursive: true });
    const seen = new Seen({ kubeconfig: settings.kubeconfig ?? this.writeKubeconfig(), ...settings }, runDir, options);
    this.#seen.push(seen);
    return seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const seen of this.#seen) seen.stop();
    await this.api.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface SeenOptions {
  /** @default "n1" */
  node?: string;
  timing?: Partial<SourceTiming>;
}

const SETTINGS: KubernetesSettings = { kind: "kubernetes", kubeconfig: undefined, ...PLAIN };

/** A source, and what it has given. */
class Seen {
  readonly settings: KubernetesSettings;
  readonly demands: Demand[] = [];
  readonly lines: string[] = [];
  readonly freshness: boolean[] = [];
  readonly endings: boolean[] = [];
  readonly source: KubernetesSource;
  /** VIPs that the speaker says that nobody announces. */
  unserved: readonly Unserved[] = [];
  /** The source was fresh when it gave the last demand. */
  wasFresh: boolean | undefined;

  constructor(settings: Partial<KubernetesSettings>, runDir: string, { node = "n1", timing = {} }: SeenOptions) {
    this.settings = { ...SETTINGS, ...settings };
    this.source = new KubernetesSource(this.settings, {
      node,
      folders: [runDir],
      timing: { retry: [5, 50], deliver: 0, ...timing },
      unserved: () => this.unserved,
      emit: (event) => this.#take(event),
      log: (level, message) => this.lines.push(`${level}: ${message}`),
    });
    void this.source.start().then((demand) => this.#take({ kind: "demand", demand }));
  }

  #take(event: SourceEvent): void {
    if (event.kind === "stale") this.freshness.push(!event.isStale);
    else if (event.kind === "ending") this.endings.push(event.isEnding);
    else {
      this.wasFresh = this.freshness.at(-1);
      this.demands.push(event.demand);
    }
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
    this.source[Symbol.dispose]();
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

test("the demand follows the API, and each change of it", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  assert.is(seen.demands.length, 1, "only once all of it had been read");
  assert.ok(seen.source.isFresh);
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
  await until("five watches", () => rig.api.watches.length === 5);
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
  test(`a server whose WatchList fails (${watchList}) is listed in pages of 100`, async () => {
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

/** More labels than isat reads of an object, in bytes. */
const HUGE = Object.fromEntries(Array.from({ length: 8_000 }, (_, index) => [`example.org/${index}`, "x".repeat(60)]));

for (const watchList of ["served", "refused"] as const) {
  test(`an object that is too large costs itself, keeps its last good form, and is never parsed (WatchList ${watchList})`, async () => {
    await using rig = await Rig.start(...WEB);
    rig.api.watchList = watchList;
    rig.put(service("big", ["10.9.0.2"], { labels: HUGE }));
    const seen = rig.watch();
    const says = ["Service default/big cannot be used: it has", "bytes, and isat reads objects of at most 524288"];
    await seen.shows(`10.9.0.1 ${ALL}`);
    await seen.says(...says, "It counts as absent");
    rig.put(service("web", ["10.9.0.1"], { labels: HUGE }));
    await seen.says("Service default/web cannot be used: it has", "What it said before still counts");
    assert.equal(seen.vips, [`10.9.0.1 ${ALL}`]);
    rig.put(service("big", ["10.9.0.2"]));
    await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
    rig.api.remove("services", "web");
    await seen.shows("10.9.0.2 nobody");
    assert.is(seen.source.report.counts?.unreadable, 0);
  });
}

test("pages are bounded by bytes", async () => {
  await using rig = await Rig.start();
  rig.api.watchList = "refused";
  const count = 60;
  const labels = Object.fromEntries(Object.entries(HUGE).slice(0, 1_000));
  for (let index = 0; index < count; index++) rig.put(service(`s${index}`, [`10.9.1.${index}`], { labels }));
  rig.put(service("s7", ["10.9.1.7"], { labels: HUGE }));
  const seen = rig.watch();
  await until("all of them but one", () => seen.vips.length === count - 1);
  const limits = rig.api.requests.flatMap((request) => /^GET services\?limit=(\d+)/.exec(request)?.[1] ?? []);
  assert.equal(limits.slice(0, 3), ["100", "25", "7"], "100 Services would be 8 MB");
  assert.ok(limits.includes("1"), `the one that is too large is read alone: ${limits}`);
});

test("a Service with more ingress entries than any balancer gives is too large, too", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  rig.put(
    service(
      "wide",
      Array.from({ length: 5_000 }, (_, index) => formatAddress(0x0a090100 + index)),
    ),
  );
  await seen.says(
    "Service default/wide cannot be used: status.loadBalancer.ingress has 5000 entries, and isat reads at most 64",
  );
  await seen.shows(`10.9.0.1 ${ALL}`);
});

test("where lists succeed and each watch is refused, that is said once", async () => {
  await using rig = await Rig.start(...WEB);
  rig.api.watchList = "refused";
  rig.api.behind.add("services");
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await seen.says("The API refuses services (504): Too large resource version");
  const lists = () => rig.api.requests.filter((request) => /^GET services\?limit/.test(request)).length;
  const before = lists();
  await until("three lists more", () => lists() >= before + 3);
  assert.is(seen.lines.filter((line) => /refuses services/.test(line)).length, 1);
  rig.api.behind.clear();
  await seen.says("The API is read again");
});

test("a list whose pages expire begins anew", async () => {
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
  const lists = () =>
    rig.api.requests.filter((request) => /^GET (?!namespaces).*sendInitialEvents/.test(request)).length;
  rig.api.compact();
  await until("five lists more", () => lists() >= 10 && rig.api.watches.length === 5);
  await sleep(50);
  assert.is(seen.demands.length, 1, "nothing had changed");
  assert.equal(seen.lines, [], "which happens now and then");
  const kept = seen.demands[0]!.vips.find(({ first }) => first === parseAddress("10.9.0.1"));
  rig.api.isFrozen = true; // what follows is seen by no watch
  rig.api.remove("services", "mail");
  rig.api.isFrozen = false;
  rig.api.compact();
  await seen.shows(`10.9.0.1 ${ALL}`);
  assert.is(seen.demands.at(-1)!.vips[0], kept, "the same object");
  await seen.says("warn: services are listed anew, because the API no longer has the version");
});

const broken: [what: string, line: string, ...says: string[]][] = [
  ["an ERROR event", '{"type":"ERROR","object":{"code":500,"message":"etcdserver: no leader"}}', "500", "no leader"],
  ["malformed JSON", '{"type":"MODIFIED","object":{"metada', "services begins anew", "not JSON"],
  ["an event of no type", '{"object":{}}', "services begins anew", "type undefined"],
];
for (const [what, line, ...says] of broken) {
  test(`${what} in a watch is logged, and lists anew`, async () => {
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

test("an object that cannot be read costs itself alone: one line a node, one Event for all nodes, none again", async () => {
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
  assert.is(one.source.report.counts?.unreadable, 1);
  rig.put(service("bad", ["10.9.0.3"]));
  await one.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody", "10.9.0.3 nobody");
  assert.is(one.source.report.counts?.unreadable, 0);
});

test("a VIP that nobody announces, as the speaker says, is an Event on its Service, and no second line", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  const says = "is announced by nobody: it is for eth9 only";
  seen.unserved = [
    { address: parseAddress("10.9.0.1"), says },
    { address: parseAddress("10.9.0.7"), says }, // no longer in the demand
  ];
  await until("an Event", () => rig.api.events.length === 1);
  const { reason, message, involvedObject } = rig.api.events[0] as Record<string, unknown>;
  assert.equal([reason, message], ["NotAnnounced", `10.9.0.1 ${says}`]);
  assert.is((involvedObject as { name: string }).name, "web");
  assert.equal(seen.lines, []);
});

test("a bookmark moves the version from which a watch goes on", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("five watches", () => rig.api.watches.length === 5);
  for (let count = 0; count < 40; count++) rig.api.bookmark();
  rig.put(service("last", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  rig.api.end();
  await until("watches from there", () =>
    rig.api.requests.some((request) => /^GET nodes\?.*resourceVersion=4\d$/.test(request)),
  );
  assert.equal(seen.lines, [], "a watch that ends in good order is not logged");
});

test("a watch that ends in the middle of a line is logged, and goes on", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("five watches", () => rig.api.watches.length === 5);
  rig.api.end('{"type":"MODIFIED","object":{"metada');
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.says("it ended in the middle of a line");
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
});

test("a silent watch begins anew where it was", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { timing: { stall: 150 } });
  await seen.shows(`10.9.0.1 ${ALL}`);
  const watches = () => rig.api.requests.filter((request) => /^GET services\?.*resourceVersion=/.test(request)).length;
  await until("two watches more", () => watches() >= 2);
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  const lists = rig.api.requests.filter((request) => /^GET (?!namespaces).*sendInitialEvents/.test(request));
  assert.is(lists.length, 5, "nothing was listed anew");
  assert.equal(seen.lines, [], "a quiet resource is not logged");
  assert.equal(seen.freshness, [true]);
});

test("a server that hangs with its connections open makes the source stale, and the last demand stays", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { timing: { stall: 200, stale: 300 } });
  await seen.shows(`10.9.0.1 ${ALL}`);
  rig.api.isFrozen = true;
  await until("stale", () => !seen.source.isFresh);
  await until("told", () => seen.freshness.at(-1) === false);
  assert.equal(seen.vips, [`10.9.0.1 ${ALL}`]);
  rig.api.isFrozen = false;
  rig.api.cut();
  await until("fresh", () => seen.source.isFresh && seen.freshness.at(-1) === true);
});

test("a server that is killed and comes back: one line each, and the last demand stays meanwhile", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { timing: { stale: 300 } });
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("five watches", () => rig.api.watches.length === 5);
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
  assert.is(seen.wasFresh, false, "what was missed comes in before the source is fresh");
  await seen.says("info: The API is read again");
  await until("fresh", () => seen.freshness.at(-1) === true);
});

test("one watch loses the API: all begin anew before the source is fresh, as none knows what it missed", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]));
  const seen = rig.watch({}, { timing: { stale: 300 } });
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  await until("five watches", () => rig.api.watches.length === 5);
  rig.api.isFrozen = true;
  rig.api.cut("services");
  rig.put(slice("mail", READY)); // lost: the watch of EndpointSlices stays open, and the server believes that it was sent
  await until("stale", () => seen.freshness.at(-1) === false);
  rig.api.isFrozen = false;
  rig.api.cut("services"); // the request that came while it was frozen
  await until("fresh", () => seen.freshness.at(-1) === true);
  assert.equal(seen.vips, [`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`]);
  assert.is(seen.wasFresh, false, "what was missed comes in before the source is fresh");
});

test("a watch that is cut for less than the source may be away leaves it fresh", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  for (let count = 0; count < 5; count++) {
    await until("five watches", () => rig.api.watches.length === 5);
    rig.api.cut();
    assert.ok(seen.source.isFresh);
  }
  rig.put(service("mail", ["10.9.0.2"]));
  await seen.shows(`10.9.0.1 ${ALL}`, "10.9.0.2 nobody");
  assert.equal(seen.freshness, [true]);
});

test("a start while the API is away serves the snapshot as stale, and takes later changes", async () => {
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
  assert.not(second.source.isFresh);
  await second.says("what was saved of the cluster is served");
  await rig.api.start();
  await second.shows("10.9.0.1 n1,n2");
  await until("fresh", () => second.freshness.at(-1) === true);
});

test("the uid of kube-system is the cluster's identity; a start that may not read it waits and says so, or takes what was saved", async () => {
  await using rig = await Rig.start(...WEB);
  rig.api.denied.add("namespaces");
  const first = rig.watch();
  await first.says("Cannot list and watch namespaces");
  assert.equal(first.demands, []);
  rig.api.denied.clear();
  await first.shows(`10.9.0.1 ${ALL}`);
  await until("no watch of namespaces", () => !rig.api.watches.includes("namespaces"));
  first.stop();
  rig.api.denied.add("namespaces");
  const second = rig.watch();
  await second.shows(`10.9.0.1 ${ALL}`);
  assert.equal(
    [first, second].map(({ demands }) => demands[0]!.cluster),
    Array(2).fill("uid-of-the-cluster"),
  );
});

test("a start while the API is there waits for it, and does not serve the snapshot", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const first = rig.watch();
  await first.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  first.stop();
  rig.api.remove("services", "mail");
  const second = rig.watch();
  await second.shows(`10.9.0.1 ${ALL}`);
  assert.is(second.demands.length, 1);
});

test("a start whose lists come in slowly waits for them: it is neither stale nor served from the snapshot", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const first = rig.watch();
  await first.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  first.stop();
  rig.api.remove("services", "mail");
  rig.api.pause = 400; // so that a list takes longer than the patience
  const second = rig.watch({}, { timing: { patience: 700, stale: 700 } });
  await second.shows(`10.9.0.1 ${ALL}`);
  assert.equal([second.demands.length, second.freshness], [1, [true]]);
  assert.not(second.lines.some((line) => /what was saved/.test(line)));
});

test("a start that waited long enough serves the snapshot, and is not stale while there is progress", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const first = rig.watch();
  await first.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  first.stop();
  rig.api.remove("services", "mail");
  rig.api.pause = 1_000;
  const second = rig.watch({}, { timing: { patience: 1_200, stale: 1_800, slow: 1_000 } });
  await second.shows(`10.9.0.1 ${ALL}`);
  await second.says("what was saved of the cluster is served");
  assert.equal(second.freshness, [true]);
});

test("a start whose lists stop coming in serves the snapshot, as stale", async () => {
  await using rig = await Rig.start(...WEB);
  const first = rig.watch();
  await first.shows(`10.9.0.1 ${ALL}`);
  first.stop();
  rig.api.pause = 20_000;
  const second = rig.watch({}, { timing: { patience: 300, stale: 300 } });
  await second.shows(`10.9.0.1 ${ALL}`);
  assert.equal([second.freshness, second.source.isFresh], [[false], false]);
});

test("a snapshot that cannot be read is logged, and left alone until it is replaced", async () => {
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

test("a refusal by a server that comes back is logged only if it persists", async () => {
  for (const [steady, isTold] of [
    [20_000, false],
    [200, true],
  ] as const) {
    await using rig = await Rig.start(...WEB);
    const seen = rig.watch({}, { timing: { steady } });
    await seen.shows(`10.9.0.1 ${ALL}`);
    await until("five watches", () => rig.api.watches.length === 5);
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

test("a refusal of Events is logged, and costs nothing else", async () => {
  await using rig = await Rig.start(...WEB, service("bad", ["x"]));
  rig.api.denied.add("events");
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`);
  await seen.says("Cannot write Events", '{ apiGroups: [""], resources: ["events"], verbs: ["create"] }');
});

test("no Event is written in a namespace that is deleted; the longest name fits into one", async () => {
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

test("a missing kubeconfig is logged once, and read when it is there", async () => {
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

test("MetalLB's resources are watched for as long as they are served", async () => {
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
  assert.ok(seen.source.isFresh);
});

/** What the API does when somebody deletes MetalLB's definitions: it deletes all of their objects first. */
async function deleteDefinitions(api: Api): Promise<void> {
  for (const plural of METALLB) {
    const metadata = { name: `${plural}.metallb.io`, deletionTimestamp: "2026-01-01T00:00:00Z" };
    api.put("customresourcedefinitions", { metadata, spec: {}, status: {} });
  }
  api.remove("ipaddresspools", "p1", "metallb-system");
  api.remove("l2advertisements", "a", "metallb-system");
  await sleep(20);
  for (const plural of METALLB) {
    api.absent.add(plural);
    api.remove("customresourcedefinitions", `${plural}.metallb.io`);
  }
}

const ON_N2 = advertisement("a", { nodeSelectors: [{ matchLabels: { "kubernetes.io/hostname": "n2" } }] });

test("definitions of MetalLB that are deleted and made again withdraw nothing", async () => {
  await using rig = await Rig.start(...WEB, pool("p1", ["10.9.0.0/24"]), ON_N2);
  rig.serveMetalLB();
  const seen = rig.watch();
  await seen.shows("10.9.0.1 n2");
  await deleteDefinitions(rig.api);
  await seen.says(
    "The definition of MetalLB's IPAddressPools was deleted: what they said counts until all of them are back, for 10 minutes at most",
  );
  await seen.says("The definition of MetalLB's L2Advertisements was deleted");
  rig.put(service("mail", ["10.9.0.2"]), slice("mail", READY));
  await seen.shows("10.9.0.1 n2", "10.9.0.2 n2");
  assert.ok(seen.source.isFresh);
  rig.serveMetalLB();
  await until("they are watched", () => METALLB.every((plural) => rig.api.watches.includes(plural)));
  await sleep(50);
  assert.equal(seen.vips, ["10.9.0.1 n2", "10.9.0.2 n2"]);
  rig.put(pool("p1", ["10.9.0.0/24"]));
  rig.put(advertisement("a"));
  await seen.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  assert.ok(
    seen.demands.every(
      ({ vips }) => vips.length > 0 && vips.every(({ first, nodes }) => nodes?.length || first > 0x0a090001),
    ),
    "no hole",
  );
  rig.api.remove("ipaddresspools", "p1", "metallb-system");
  await seen.shows();
});

test("a definition and its objects may vanish in any order", async () => {
  await using rig = await Rig.start(...WEB, pool("p1", ["10.9.0.0/24"]), ON_N2);
  rig.serveMetalLB();
  const seen = rig.watch();
  await seen.shows("10.9.0.1 n2");
  rig.api.remove("ipaddresspools", "p1", "metallb-system");
  rig.api.remove("l2advertisements", "a", "metallb-system");
  await sleep(100);
  for (const plural of METALLB) rig.api.remove("customresourcedefinitions", `${plural}.metallb.io`);
  await seen.says("The definition of MetalLB's L2Advertisements was deleted");
  await sleep(600);
  assert.equal(seen.vips, ["10.9.0.1 n2"]);
});

test("after a while, what a deleted definition's objects said counts no longer; nor what did not come back with it", async () => {
  await using rig = await Rig.start(...WEB, pool("p1", ["10.9.0.0/24"]), ON_N2, pool("p2", ["10.9.1.0/24"]));
  rig.serveMetalLB();
  rig.put(service("mail", ["10.9.1.1"]), slice("mail", READY));
  const timing = { grace: 400, linger: 50 };
  const [for_good, back] = [rig.watch({}, { timing }), rig.watch({}, { timing: { ...timing, grace: 1_500 } })];
  for (const seen of [for_good, back]) await seen.shows("10.9.0.1 n2", "10.9.1.1 n2");
  rig.api.remove("ipaddresspools", "p2", "metallb-system");
  await deleteDefinitions(rig.api);
  await for_good.shows(`10.9.0.1 ${ALL}`, `10.9.1.1 ${ALL}`); // source.addresses has both
  assert.equal(back.vips, ["10.9.0.1 n2", "10.9.1.1 n2"]);
  rig.serveMetalLB();
  rig.put(pool("p1", ["10.9.0.0/24"]));
  rig.put(ON_N2);
  await back.shows("10.9.0.1 n2");
  await for_good.shows("10.9.0.1 n2");
});

test("a start finds no definitions: what was saved counts for a while", async () => {
  await using rig = await Rig.start(...WEB, pool("p1", ["10.9.0.0/24"]), ON_N2);
  rig.serveMetalLB();
  const first = rig.watch({}, { timing: { save: 20 } });
  await first.shows("10.9.0.1 n2");
  await sleep(200);
  first.stop();
  await deleteDefinitions(rig.api);
  const second = rig.watch();
  await second.shows("10.9.0.1 n2");
  await second.says("The definition of MetalLB's L2Advertisements was deleted");
});

test("labels that no selector names are not kept, and a selector that names a new one waits until it is read", async () => {
  await using rig = await Rig.start(
    service("web", ["10.9.0.1"], { labels: { tier: "front", of: "no matter" } }),
    slice("web", READY),
  );
  rig.serveMetalLB();
  const onlyFront = { serviceSelectors: [{ matchLabels: { tier: "front" } }] };
  rig.put(pool("p1", ["10.9.0.0/24"]), advertisement("a"));
  const seen = rig.watch({}, { timing: { save: 20 } });
  const saved = () => readFileSync(join(rig.folder, "run", "cluster.json"), "utf8");
  await seen.shows(`10.9.0.1 ${ALL}`);
  await until("it is saved", () => readdirSync(join(rig.folder, "run")).includes("cluster.json"));
  assert.not.match(saved(), /front|matter/);
  rig.put(advertisement("a", onlyFront));
  await until("the label is saved", () => saved().includes('{"tier":"front"}'));
  assert.not.match(saved(), /matter/);
  rig.put(advertisement("a", { serviceSelectors: [{ matchLabels: { of: "another" } }] }));
  await seen.shows("10.9.0.1 nobody");
  rig.put(advertisement("a", { serviceSelectors: [{ matchLabels: { of: "no matter" } }] }));
  await seen.shows(`10.9.0.1 ${ALL}`);
  seen.source.configure({ ...seen.settings, serviceSelector: { matchLabels: { size: "big" }, matchExpressions: [] } });
  await seen.shows();
  rig.put(service("web", ["10.9.0.1"], { labels: { of: "no matter", size: "big" } }));
  await seen.shows(`10.9.0.1 ${ALL}`);
  const withoutOwner = seen.demands.filter(({ vips }) => vips[0]?.nodes?.length === 0);
  assert.is(withoutOwner.length, 1, "only while no selector held");
});

test("nothing is announced at a start as long as MetalLB's resources are served and may not be read", async () => {
  await using rig = await Rig.start(...WEB);
  rig.serveMetalLB();
  rig.api.denied.add("l2advertisements");
  const seen = rig.watch();
  await seen.says("Cannot list and watch l2advertisements", '{ apiGroups: ["metallb.io"]');
  await sleep(100);
  assert.equal(seen.demands, []);
});

test("MetalLB's resources that come to be served and may not be read hold up nothing else", async () => {
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

test("a node that is not a Node of the cluster logs the names of those that are", async () => {
  await using rig = await Rig.start(...WEB);
  const seen = rig.watch({}, { node: "elsewhere" });
  await seen.says('warn: This node owns nothing as the cluster has no Node "elsewhere"', "n1, n2, n3", "NODE_NAME");
});

test("settings may change while it runs", async () => {
  await using rig = await Rig.start(...WEB, service("mail", ["10.9.0.2"]), slice("mail", READY));
  const seen = rig.watch();
  await seen.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  assert.is(seen.source.demandFor(), seen.demands.at(-1), "settings that are not in force yet change nothing");
  seen.source.configure({ ...seen.settings, addresses: [parseRange("10.9.0.2-10.9.0.9")] });
  await seen.shows(`10.9.0.2 ${ALL}`);
  seen.source.configure({ ...seen.settings, kubeconfig: "/elsewhere" });
  await seen.shows(`10.9.0.1 ${ALL}`, `10.9.0.2 ${ALL}`);
  await seen.says("warn: source.kubeconfig changed in the file: it takes effect when isat is started again");
});

test("a text with letters of several bytes may be cut anywhere", async () => {
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

/** A user with a certificate and a token in a file, in the form of a kubeconfig. */
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
    await seen.says("warn: The API server rejects isat's credentials (401)");
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
