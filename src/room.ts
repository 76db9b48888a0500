import { plus, type Range, sizeOf } from "./core/address.ts";
import type { Demand, VipRange } from "./core/demand.ts";

/** The VIPs for which the kernel's map has room. */
export interface Fitting<T> {
  announced: readonly T[];
  /** Those that are left out, the oldest first. */
  leftOut: readonly VipRange[];
  /** A node with as much room as any has some of those. */
  isShort: boolean;
}

/**
 * Leaves out the youngest VIPs where there are more entries (VIPs x interfaces) than room. The oldest are kept in the order
 * of the source, so that nodes with equal interfaces keep the same.
 * @param most the room that a node has at best
 */
export function fitting<T extends { ranges: readonly VipRange[] }>(
  announced: readonly T[],
  { vips, inTurn = (all) => all }: Pick<Demand, "vips" | "inTurn">,
  room: number,
  most: number,
): Fitting<T> {
  const all = announced.flatMap(({ ranges }) => ranges);
  if (count(all) <= room) return { announced, leftOut: [], isShort: false };
  const times = new Map<VipRange, number>();
  for (const range of all) times.set(range, (times.get(range) ?? 0) + 1);
  const kept = new Map<VipRange, VipRange>();
  const leftOut: VipRange[] = [];
  let left = room;
  let before = 0;
  let isShort = false;
  for (const range of inTurn(vips)) {
    const entries = sizeOf(range) * (times.get(range) ?? 0);
    if (leftOut.length === 0 && entries <= left) {
      kept.set(range, range);
      left -= entries;
    } else if (entries > 0) {
      const fits = leftOut.length === 0 ? Math.floor(left / times.get(range)!) : 0; // of a block, the first ones
      if (leftOut.length === 0) isShort = before + fits < most;
      if (fits > 0) kept.set(range, { ...range, last: plus(range.first, fits - 1) } as VipRange);
      leftOut.push(fits > 0 ? ({ ...range, first: plus(range.first, fits) } as VipRange) : range);
    }
    before += sizeOf(range);
  }
  const its = (ranges: readonly VipRange[]) => ranges.flatMap((range) => kept.get(range) ?? []);
  return { announced: announced.map((one) => ({ ...one, ranges: its(one.ranges) })), leftOut, isShort };
}

const count = (ranges: readonly Range[]) => ranges.reduce((total, range) => total + sizeOf(range), 0);

/** The VIPs that are announced elsewhere only. */
export function others(vips: readonly VipRange[], ranges: readonly VipRange[]): readonly VipRange[] {
  const here = new Set(ranges);
  return vips.filter((range) => !here.has(range));
}
