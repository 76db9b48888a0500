/** Faults of pools that a person should know: they stop nothing. Pure. */
import { type Address, formatAddress, overlap, type Range } from "../core/address.ts";
import type { Refusal } from "../core/ipam.ts";
import { gives } from "../core/pools.ts";
import type { PoolSpec } from "./pools.ts";

export interface Remark {
  pool: PoolSpec;
  reason: "PoolsOverlap" | "PoolHasTakenAddresses";
  message: string;
}

/** At most so many addresses of a pool are named. */
const NAMED = 3;

/** One remark for each pair of pools that overlap, on the later one, and one for each pool with addresses that it cannot give. */
export function remarksOn(pools: readonly PoolSpec[], never: ReadonlyMap<Address, Refusal>): Remark[] {
  const remarks: Remark[] = [];
  for (const [index, pool] of pools.entries()) {
    for (const before of pools.slice(0, index)) {
      const common = commonOf(before, pool);
      if (!common) continue;
      const message = `pools ${before.name} and ${pool.name} both have ${formatAddress(common.first)}: an address of both is given once, by the first that has it free`;
      remarks.push({ pool, reason: "PoolsOverlap", message });
    }
    const taken = [...never].filter(([address]) => gives(pool, address));
    if (taken.length === 0) continue;
    const named = taken.slice(0, NAMED).map(([, { message }]) => message);
    const more = taken.length > NAMED ? `; and ${taken.length - NAMED} more` : "";
    const message = `pool ${pool.name} has addresses that are given to nobody: ${named.join("; ")}${more}`;
    remarks.push({ pool, reason: "PoolHasTakenAddresses", message });
  }
  return remarks;
}

const commonOf = (a: PoolSpec, b: PoolSpec): Range | undefined => {
  const its = b.ranges.find((range) => a.ranges.some((other) => overlap(range, other)));
  const other = its && a.ranges.find((range) => overlap(range, its));
  return other && its && (other.first > its.first ? other : its);
};
