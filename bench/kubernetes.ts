import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { noCluster } from "../lab/cluster/binaries.ts";
import { endpointSlice, service, status } from "../lab/cluster/objects.ts";
import { best, NODES, Scene } from "../lab/cluster/scene.ts";
import { until } from "../lab/kernel/process.ts";
import type { Speaker } from "../lab/speaker.ts";
import { sumOf } from "../lab/watch/watch.ts";
import { LAYOUT, vip as vipEntry, vipKey, vipState } from "../src/core/abi.ts";
import { addressBytes, formatAddress, parseAddress } from "../src/core/address.ts";
import { getPinned, libbpf } from "../src/kernel/libbpf.ts";
import type { Figure, Target, Unit } from "./figure.ts";
import type { Context, Section } from "./section.ts";

const SECTION = "kubernetes";
const PREFIX = "isat-kbench-";
const MS = 1e6;
const FEW = 5;
const MANY = 10_000;
const WATCHED = 400;
/** How often each of the watched VIPs is asked for, ms. */
const ASKED = 50;
const PATIENCE = 120_000;
const FIRST = parseAddress("10.9.0.1");
/** Behind the others: what comes and goes. */
const EXTRA = parseAddress("10.9.60.1");
export const kubernetes: Section = {
  name: SECTION,
  about: "10,000 Services on a real API server: starts, a death, changes, memory, CPU and requests at rest",
  async run(context) {
    if (noCluster) throw new Error(noCluster);
    const figures: Figure[] = [];
    context.progress("kubernetes: starting etcd, the API server and three nodes");
    await using scene = await Scene.start(PREFIX, { wire: "bridge", proxy: false });
    await few(context, scene, figures);
    context.progress(`kubernetes: making ${MANY} Services`);
    await seed(scene);
    await starts(context, scene, figures);
    await changes(context, scene, figures);
    await rest(context, scene, figures);
    await death(context, scene, figures);
    return figures;
  },
};

function figure(what: string, unit: Unit, values: readonly number[], target?: Target, note?: string): Figure {
  const plain: Figure = { section: SECTION, what, subject: "isat", unit, values, ratios: [] };
  return { ...plain, ...(target && { target }), ...(note && { note }) };
}

const most = (limit: number): Target => ({ is: "at most", limit });
const vipAt = (index: number) => formatAddress(FIRST + index);

/** Written past the API server's registry, so with what that would fill in. */
function objectsOf(scene: Scene, index: number): [string, object][] {
  const name = `big${index}`;
  const known = { uid: randomUUID(), creationTimestamp: "2026-01-01T00:00:00Z" };
  const its = service(name);
  const spec = {
    ...its.spec,
    clusterIP: formatAddress(parseAddress("10.96.0.10") + index),
    clusterIPs: [formatAddress(parseAddress("10.96.0.10") + index)],
    ipFamilies: ["IPv4"],
    ipFamilyPolicy: "SingleStack",
    sessionAffinity: "None",
    internalTrafficPolicy: "Cluster",
  };
  const slice = endpointSlice(
    name,
    scene.cluster.nodes.map((node) => ({ node })),
  );
  return [
    [
      `services/specs/default/${name}`,
      { ...its, metadata: { ...its.metadata, ...known }, spec, ...status([vipAt(index)]) },
    ],
    [`endpointslices/default/${slice.metadata.name}`, { ...slice, metadata: { ...slice.metadata, ...known } }],
  ];
}

async function seed(scene: Scene): Promise<void> {
  await scene.cluster.seed(Array.from({ length: MANY }, (_, index) => objectsOf(scene, index)).flat());
  const counted = async () =>
    (await scene.cluster.api.request("GET", "/api/v1/services?limit=1")).body.metadata.remainingItemCount;
  await until("the API server has them", async () => (await counted()) >= MANY - 1, PATIENCE);
}

/** Nothing of earlier speakers is left, in files or kernels. */
async function clear({ speakers }: Scene): Promise<void> {
  for (const speaker of speakers.all) {
    await speaker.signal("SIGKILL").catch(() => {}); // it may not run
    speaker.isat("clean");
  }
}

const sizeOf = (scene: Scene, speaker: Speaker) => {
  try {
    return scene.speakers.vips(speaker).size;
  } catch {
    return 0; // not pinned yet
  }
};

/** ns of processor time of all threads of a process. */
function processorTime({ pid }: Speaker): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  return tasks.reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]),
    0,
  );
}

async function few({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { cluster, speakers } = scene;
  for (let index = 0; index < FEW; index++) await cluster.serve(`few${index}`, formatAddress(EXTRA - 1 - index));
  await speakers.startAll();
  const pause = isQuick ? 5_000 : 20_000;
  progress(`kubernetes: ${FEW} Services at rest for ${pause / 1000} s`);
  await sleep(pause);
  figures.push(
    figure(
      `resident memory, ${FEW} Services`,
      "MB",
      speakers.all.map(({ memory }) => memory / 1e6),
      most(80),
    ),
  );
  await clear(scene);
}

async function starts({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { speakers } = scene;
  const rounds = isQuick ? 1 : 3;
  const isFull = (speaker: Speaker) => sizeOf(scene, speaker) >= MANY;
  const [one, three, shares]: number[][] = [[], [], []];
  for (let round = 1; round <= rounds; round++) {
    progress(`kubernetes: starts with ${MANY} Services, round ${round} of ${rounds}`);
    const alone = speakers.all[(round - 1) % 3]!;
    let began = performance.now();
    alone.start();
    await until("the map is full", () => isFull(alone), PATIENCE);
    one!.push((performance.now() - began) * MS);
    await clear(scene);

    began = performance.now();
    for (const speaker of speakers.all) speaker.start();
    await until("the maps are full", () => speakers.all.every(isFull), PATIENCE);
    three!.push((performance.now() - began) * MS);
    await Promise.all(speakers.all.map((speaker) => speaker.ready(PATIENCE)));
    const owned = () =>
      speakers.all.reduce(
        (sum, speaker) => sum + [...speakers.vips(speaker).values()].filter((state) => state === "owned").length,
        0,
      );
    await until("all are owned", () => owned() >= MANY, PATIENCE);
    shares!.push((performance.now() - began) * MS);
    if (round < rounds) await clear(scene);
  }
  figures.push(
    figure(`start to map full, ${MANY} Services, one speaker`, "ns", one!, most(2_000 * MS)),
    figure(`start to maps full, ${MANY} Services, three at once`, "ns", three!, most(5_000 * MS)),
    figure("the same, to each VIP owned by one of them", "ns", shares!),
  );
}

/** Whether a node's kernel answers for the VIP, without reading the whole map. */
function answers(speaker: Speaker): { owns(vip: string): boolean } & Disposable {
  const fd = getPinned(`${speaker.pinDir}/v${LAYOUT}/vips`)!;
  const ifindex = speaker.maps(({ interfaces }) => [...interfaces.entries()][0]![0]);
  const value = new Uint8Array(64);
  return {
    owns(vip) {
      const key = vipKey.encode({ ip: addressBytes(parseAddress(vip)), ifindex });
      return (
        libbpf.bpf_map_lookup_elem(fd.number, key, value) === 0 &&
        vipEntry.decode(value.subarray(0, vipEntry.size)).state === vipState.OWNED
      );
    },
    [Symbol.dispose]: () => fd[Symbol.dispose](),
  };
}

async function changes({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { cluster, speakers } = scene;
  const rounds = isQuick ? 20 : 200;
  await cluster.applyService("extra");
  await cluster.setEndpoints("extra", [...NODES]);
  const seen = new Map<string, number>();
  const stop = new AbortController();
  const from = (await cluster.api.list("/api/v1/services?limit=1")).metadata.resourceVersion;
  const watching = (async () => {
    const path = `/api/v1/services?fieldSelector=metadata.name=extra&resourceVersion=${from}`;
    for await (const { object } of cluster.api.watch(path, stop.signal)) {
      const ip = object.status?.loadBalancer?.ingress?.[0]?.ip;
      if (ip && !seen.has(ip)) seen.set(ip, performance.now());
    }
  })().catch(() => {});
  using stack = new DisposableStack();
  const kernels = new Map(speakers.all.map((speaker) => [speaker.node.name, stack.use(answers(speaker))]));
  const [bare, whole, above]: number[][] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    if (round % 20 === 0) progress(`kubernetes: an address is set, ${round} of ${rounds}`);
    const vip = formatAddress(EXTRA + round);
    const kernel = kernels.get(best(vip))!;
    await sleep(60);
    const began = performance.now();
    const patched = cluster.setIngress("extra", [vip]);
    while (!kernel.owns(vip)) {
      if (performance.now() - began > PATIENCE) throw new Error(`${vip} is not answered`);
      await turn();
    }
    const answered = performance.now();
    await patched;
    await until("the watch has it", () => seen.has(vip));
    bare!.push((seen.get(vip)! - began) * MS);
    whole!.push((answered - began) * MS);
    above!.push(Math.max(0, answered - seen.get(vip)!) * MS);
  }
  stop.abort();
  await watching;
  const at = (values: number[], part: number) => [values.toSorted((a, b) => a - b)[Math.floor(values.length * part)]!];
  const note = `${rounds} times, beside ${MANY} Services; the bare watch is another client's, of that Service alone`;
  figures.push(
    figure("an address is set -> bare watch, p50", "ns", at(bare!, 0.5)),
    figure("an address is set -> answered, p50", "ns", at(whole!, 0.5)),
    figure("answered above the bare watch, p50", "ns", at(above!, 0.5), most(10 * MS), note),
    figure("answered above the bare watch, p99", "ns", at(above!, 0.99), most(50 * MS), note),
  );

  progress("kubernetes: one endpoint changes");
  const times = isQuick ? 20 : 100;
  const cost: number[] = [];
  for (const speaker of speakers.all) {
    const idle = await spent(speaker, async () => void (await sleep(2_000)));
    const began = performance.now();
    const busy = await spent(speaker, async () => {
      for (let index = 0; index < times; index++) {
        await cluster.setEndpoints("big7", index % 2 === 0 ? ["n1", "n2"] : [...NODES]);
        await sleep(30); // each is delivered for itself
      }
    });
    cost.push((busy - (idle / 2_000) * (performance.now() - began)) / times);
  }
  figures.push(
    figure(
      `one endpoint changed among ${MANY} Services: CPU time`,
      "ns",
      cost,
      most(5 * MS),
      `${times} changes on each speaker, less what it uses at rest`,
    ),
  );
}

async function spent(speaker: Speaker, body: () => Promise<void>): Promise<number> {
  const before = processorTime(speaker);
  await body();
  return processorTime(speaker) - before;
}

async function rest({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { cluster, speakers } = scene;
  const seconds = isQuick ? 20 : 600;
  progress(`kubernetes: at rest for ${seconds} s`);
  await sleep(5_000);
  const memory = speakers.all.map(({ memory }) => memory / 1e6);
  const before = cluster.speakersRequests().length;
  const began = performance.now();
  const used = await Promise.all(
    speakers.all.map((speaker) => spent(speaker, async () => void (await sleep(seconds * 1000)))),
  );
  const time = (performance.now() - began) * MS;
  const asked = cluster.speakersRequests().slice(before);
  const count = (isMeant: (verb: string) => boolean) => [asked.filter(({ verb }) => isMeant(verb)).length];
  const note = `three speakers, ${seconds} s, by the API server's audit log`;
  figures.push(
    figure(`resident memory, ${MANY} Services`, "MB", memory, most(110)),
    figure(
      `CPU at rest, ${MANY} Services`,
      "%",
      used.map((ns) => (ns / time) * 100),
      most(1),
    ),
    figure(
      "API requests at rest: writes",
      "count",
      count((verb) => !["get", "list", "watch"].includes(verb)),
      most(0),
      note,
    ),
    figure(
      "API requests at rest: reads that are no watches",
      "count",
      count((verb) => ["get", "list"].includes(verb)),
      most(0),
      note,
    ),
    figure(
      "API requests at rest: watches begun anew",
      "count",
      count((verb) => verb === "watch"),
      undefined,
      note,
    ),
  );
}

async function death({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const silences: number[] = [];
  for (const node of isQuick ? NODES.slice(0, 1) : NODES) {
    progress(`kubernetes: ${node} dies with ${MANY} Services`);
    const its = Array.from({ length: MANY }, (_, index) => vipAt(index)).filter((vip) => best(vip) === node);
    const step = its.length / WATCHED;
    const watched = Array.from({ length: WATCHED }, (_, index) => its[Math.floor(index * step)]!);
    const report = await scene.speakers.watched(
      watched,
      async () => {
        await sleep(500);
        await scene.die(node);
        await sleep(6_000);
      },
      ASKED,
    );
    const { silence, mute, doubled } = sumOf(report);
    if (mute > 0 || doubled > 0)
      throw new Error(`${mute} VIPs were not answered again, ${doubled} requests had two answers`);
    silences.push(silence * MS);
    await scene.revive(node);
    await sleep(5_000);
  }
  const note = `each is asked for each ${ASKED} ms: the silence may have been so much shorter`;
  figures.push(
    figure(
      `a node dies, ${MANY} Services: the last of ${WATCHED} VIPs answered again`,
      "ns",
      silences,
      most(700 * MS),
      note,
    ),
  );
}
