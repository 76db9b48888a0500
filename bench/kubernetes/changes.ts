import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { best, NODES, type Scene } from "../../lab/cluster/scene.ts";
import { until } from "../../lab/kernel/process.ts";
import type { Speaker } from "../../lab/speaker.ts";
import { LAYOUT, vip as vipEntry, vipKey, vipState } from "../../src/core/abi.ts";
import { addressBytes, formatAddress, parseAddress, plus } from "../../src/core/address.ts";
import { getPinned, libbpf } from "../../src/kernel/libbpf.ts";
import type { Figure } from "../figure.ts";
import type { Context } from "../section.ts";
import { EXTRA, figure, MANY, MS, most, PATIENCE, spent } from "./common.ts";

/** Looks up single VIPs in a node's map, without reading the whole map. */
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

/**
 * Watches one Service as a bare client. `seen` has the time at which each of its addresses arrived, by
 * performance.now().
 */
async function watchAddresses(scene: Scene, name: string) {
  const { api } = scene.cluster;
  const seen = new Map<string, number>();
  const stop = new AbortController();
  const from = (await api.list("/api/v1/services?limit=1")).metadata.resourceVersion;
  const watching = (async () => {
    const path = `/api/v1/services?fieldSelector=metadata.name=${name}&resourceVersion=${from}`;
    for await (const { object } of api.watch(path, stop.signal)) {
      const ip = object.status?.loadBalancer?.ingress?.[0]?.ip;
      if (ip && !seen.has(ip)) seen.set(ip, performance.now());
    }
  })().catch(() => {});
  const end = async () => {
    stop.abort();
    await watching;
  };
  return { seen, [Symbol.asyncDispose]: end };
}

/** Measures the time from setting a Service's address to the first answer for it. */
export async function addresses({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { cluster, speakers } = scene;
  const rounds = isQuick ? 20 : 200;
  await cluster.applyService("extra");
  await cluster.setEndpoints("extra", [...NODES]);
  await using watch = await watchAddresses(scene, "extra");
  const { seen } = watch;
  using stack = new DisposableStack();
  const kernels = new Map(speakers.all.map((speaker) => [speaker.node.name, stack.use(answers(speaker))]));
  const [bare, whole, above]: number[][] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    if (round % 20 === 0) progress(`kubernetes: an address is set, ${round} of ${rounds}`);
    const vip = formatAddress(plus(EXTRA, round));
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
  const at = (values: number[], part: number) => [values.toSorted((a, b) => a - b)[Math.floor(values.length * part)]!];
  const note = `${rounds} times, beside ${MANY} Services; the bare watch is another client's, of that Service alone`;
  figures.push(
    figure("an address is set -> bare watch, p50", "ns", at(bare!, 0.5)),
    figure("an address is set -> answered, p50", "ns", at(whole!, 0.5)),
    figure("answered above the bare watch, p50", "ns", at(above!, 0.5), most(10 * MS), note),
    figure("answered above the bare watch, p99", "ns", at(above!, 0.99), most(50 * MS), note),
  );
}

/** Measures what a changed endpoint costs each speaker. */
export async function endpoints({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { cluster, speakers } = scene;
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
