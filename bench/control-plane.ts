import { setTimeout as sleep } from "node:timers/promises";
import { inNamespace } from "../lab/namespaces.ts";
import { vipKey } from "../src/core/abi.ts";
import { addressBytes, formatAddress } from "../src/core/address.ts";
import { elect } from "../src/core/ownership.ts";
import { errno } from "../src/ffi/libc.ts";
import { check, getPinned, libbpf } from "../src/kernel/libbpf.ts";
import { readPinnedMaps } from "../src/kernel/object.ts";
import { NODE_INTERFACE, vipAt, vipRange } from "./addresses.ts";
import type { Figure, Target } from "./figure.ts";
import { Prober } from "./prober.ts";
import { type Context, interleave, type Section } from "./section.ts";
import { Speaker } from "./speaker.ts";
import { layWire } from "./stand.ts";
import { ifindexOf } from "./system.ts";

const MANY = 60_000;
const FEW = 1_000;
/** The place of the VIP that comes and goes, behind all others. */
const EXTRA = 61_000;
const NODES = ["n1", "n2", "n3"];
/** Limit for anything here, ms. */
const PATIENCE = 10_000;
const MS = 1e6;

export const controlPlane: Section = {
  name: "control-plane",
  about: "how fast VIPs are written, changed, first answered and adopted",
  async run(context) {
    const { writes, changesOfMany, adoptions } = await changeAndAdopt(context);
    const changesOfFew = await changeFew(context);
    const starts = await startAnew(context);
    const most = (limit: number): Target => ({ is: "at most", limit: limit * MS });
    return [
      figure(
        "60,000 VIPs written, from the first to the last",
        writes.map(({ written }) => written),
        most(50),
      ),
      figure(
        "60,000 VIPs, from the file's change to the last",
        writes.map(({ applied }) => applied),
      ),
      figure("1 VIP of 60,000 changed in the file, to applied", changesOfMany, most(50)),
      figure("1 VIP of 1,000 changed in the file, to applied", changesOfFew, most(50)),
      figure("start to the first answer, 1,000 VIPs", starts, most(500)),
      figure("start to ready, adopting 60,000 VIPs", adoptions, most(500)),
    ];
  },
};

function figure(what: string, milliseconds: readonly number[], target?: Target): Figure {
  const values = milliseconds.map((value) => value * MS);
  const plain: Figure = { section: "control-plane", what, subject: "isat", unit: "ns", values, ratios: [] };
  return target ? { ...plain, target } : plain;
}

const ranges = (count: number, withExtra = false) => {
  const { first, last } = vipRange(count);
  return [`${first}-${last}`, ...(withExtra ? [formatAddress(vipAt(EXTRA))] : [])];
};

/** A node with a speaker that shares the VIPs with two other nodes, which exist by name only. */
class Site implements Disposable {
  readonly speaker: Speaker;
  readonly prober: Prober;
  readonly #ifindex: number;

  constructor({ ground }: Context) {
    const { namespaces } = ground;
    const { node, client } = layWire(namespaces);
    this.#ifindex = inNamespace(namespaces.full(node), () => ifindexOf(NODE_INTERFACE));
    this.speaker = new Speaker(namespaces, node, ground);
    this.prober = new Prober(namespaces.full(client));
  }

  /** Configures the VIPs. @returns performance.now() right after it */
  configure(count: number, withExtra = false): number {
    return this.speaker.configure({ hook: "auto", vips: ranges(count, withExtra), isShared: true });
  }

  /**
   * Polls the map `vips` without a pause until `isDone` accepts the number of these VIPs in it. @returns performance.now()
   * then
   */
  poll(places: readonly number[], isDone: (present: number) => boolean): number {
    using fd = getPinned(`${this.speaker.maps}/vips`)!;
    const keys = places.map((place) => vipKey.encode({ ip: addressBytes(vipAt(place)), ifindex: this.#ifindex }));
    const value = new Uint8Array(64);
    for (const end = performance.now() + PATIENCE; performance.now() < end; ) {
      let present = 0;
      for (const key of keys) {
        const result = libbpf.bpf_map_lookup_elem(fd.number, key, value);
        if (result === 0) present += 1;
        else if (result !== -errno.ENOENT) check("Cannot read map vips", result);
      }
      if (isDone(present)) return performance.now();
    }
    throw new Error(`the map vips did not become as wanted within ${PATIENCE / 1000} s`);
  }

  /** The number of entries in the map `vips`. */
  get size(): number {
    return readPinnedMaps(this.speaker.maps, ({ vips }) => [...vips.entries()].length) ?? 0;
  }

  [Symbol.dispose](): void {
    this.prober[Symbol.dispose]();
  }
}

/** Each round adds 60,000 VIPs, adds and removes one more, kills and restarts the speaker, and removes all VIPs. */
async function changeAndAdopt(context: Context) {
  using site = new Site(context);
  const { speaker } = site;
  const writes: { written: number; applied: number }[] = [];
  const changesOfMany: number[] = [];
  const adoptions: number[] = [];
  site.configure(1);
  speaker.start();
  await speaker.ready();
  await interleave(context, "control-plane, 60,000 VIPs", context.isQuick ? 2 : 7, [site], async () => {
    await sleep(100);
    const sample = Array.from({ length: 64 }, (_, i) => Math.round(1 + (i * (MANY - 2)) / 63));
    const changed = site.configure(MANY);
    const began = site.poll(sample, (present) => present > 0);
    const ended = site.poll(sample, (present) => present === sample.length);
    if (site.size !== MANY) throw new Error(`${site.size} of ${MANY} VIPs are in the map`);
    writes.push({ written: ended - began, applied: ended - changed });
    await comeAndGo(site, MANY, changesOfMany);

    await speaker.kill();
    speaker.start();
    await speaker.ready();
    adoptions.push(performance.now() - speaker.startedAt);

    site.configure(1);
    site.poll(sample, (present) => present === 0);
  });
  await speaker.kill();
  return { writes, changesOfMany, adoptions };
}

/** Adds and removes one VIP beside `count` others, twice. Adds the duration of each change to `times`, ms. */
async function comeAndGo(site: Site, count: number, times: number[]): Promise<void> {
  for (const isThere of [true, false, true, false]) {
    await sleep(150);
    const changed = site.configure(count, isThere);
    times.push(site.poll([EXTRA], (present) => present === (isThere ? 1 : 0)) - changed);
  }
}

async function changeFew(context: Context): Promise<number[]> {
  using site = new Site(context);
  const times: number[] = [];
  site.configure(FEW);
  site.speaker.start();
  await site.speaker.ready();
  await interleave(context, "control-plane, 1,000 VIPs", context.isQuick ? 2 : 5, [site], () =>
    comeAndGo(site, FEW, times),
  );
  await site.speaker.kill();
  return times;
}

/** Measures the time from the start of the process to the first answer, with nothing pinned before, ms. */
async function startAnew(context: Context): Promise<number[]> {
  const places = Array.from({ length: FEW }, (_, place) => place);
  const owned = places.find((place) => elect(NODES, formatAddress(vipAt(place))) === NODES[0])!;
  const times: number[] = [];
  await interleave(context, "control-plane, starts", context.isQuick ? 3 : 9, [undefined], async () => {
    using site = new Site(context);
    site.configure(FEW);
    site.speaker.start();
    const end = performance.now() + PATIENCE;
    while (site.prober.ask(vipAt(owned), 2) === undefined) {
      if (performance.now() > end) throw new Error(`no answer within ${PATIENCE / 1000} s of a start`);
    }
    times.push(performance.now() - site.speaker.startedAt);
    await site.speaker.ready();
    await site.speaker.kill();
  });
  return times;
}
