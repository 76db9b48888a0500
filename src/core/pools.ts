/** Pools of addresses, and which address of a pool is given next. */
import { hash } from "node:crypto";
import { type Address, addressBytes, type Family, familyOf, having, plus, type Range, sizeOf } from "./address.ts";

export { type Family, familyOf };

/** A pool, wherever it is written. */
export interface Pool {
  name: string;
  ranges: readonly Range[];
  /** Among the pools that select a Service, 1 comes first, and 0 after all other numbers. */
  priority: number;
  /** It is for some Services only. For these it comes before the pools that are for all. */
  isSelective: boolean;
  /** False: its addresses are only given to Services that name the pool or the address. */
  autoAssign: boolean;
  /** IPv4 addresses that end in .0 and .255 are not given: some old devices drop packets for them. */
  avoidBuggy: boolean;
  /** Services of different namespaces may share an address. */
  acrossNamespaces: boolean;
}

/** `stable`: by a hash of the Service's name, so that a cluster that is built again gives the same; or the lowest. */
export type Choice = "stable" | "lowest";

const endsBuggy = (address: Address) => [0, 255].includes(addressBytes(address)[3]!);
const isAvoided = ({ avoidBuggy }: Pool, address: Address) =>
  avoidBuggy && familyOf(address) === 4 && endsBuggy(address);

export const rangesOf = ({ ranges }: Pool, family: Family): readonly Range[] =>
  ranges.filter(({ first }) => familyOf(first) === family);

/** The address is one that the pool gives. */
export const gives = (pool: Pool, address: Address): boolean =>
  pool.ranges.some(having(address)) && !isAvoided(pool, address);

/** How many addresses the pool has of a family, those that it avoids included. */
export const countOf = (pool: Pool, family: Family): number =>
  rangesOf(pool, family).reduce((sum, range) => sum + sizeOf(range), 0);

/** Sorts pools into the order in which a Service comes to them. It depends on nothing but the pools. */
export const inOrder = (pools: Iterable<Pool>): Pool[] => {
  const rank = ({ priority }: Pool) => (priority === 0 ? Number.POSITIVE_INFINITY : priority);
  return [...pools].sort((a, b) => {
    if (a.isSelective !== b.isSelective) return a.isSelective ? -1 : 1;
    if (rank(a) !== rank(b)) return rank(a) - rank(b);
    return a.name < b.name ? -1 : 1;
  });
};

/** The place in a pool at which a Service's search for an address begins, from 0. */
const startOf = (key: string, count: number): number =>
  Number.parseInt(hash("sha256", key, "hex").slice(0, 12), 16) % count;

/** The ranges from a place on, and then around to it. */
function around(ranges: readonly Range[], start: number): Range[] {
  const [after, before]: [Range[], Range[]] = [[], []];
  let left = start;
  for (const range of ranges) {
    const size = sizeOf(range);
    if (left >= size) before.push(range);
    else if (left <= 0) after.push(range);
    else {
      const split = plus(range.first, left);
      after.push({ first: split, last: range.last });
      before.push({ first: range.first, last: plus(split, -1) });
    }
    left -= size;
  }
  return [...after, ...before];
}

/**
 * Finds an address that nobody has. A search may go over many addresses that are taken, so where none was found, or where
 * the lowest free one was, is remembered until an address gets free.
 */
export class Search {
  readonly #choice: Choice;
  readonly #isFree: (address: Address) => boolean;
  readonly #full = new Set<string>();
  /** The lowest address that may be free, by pool and family. */
  readonly #lowest = new Map<string, Address>();

  constructor(choice: Choice, isFree: (address: Address) => boolean) {
    this.#choice = choice;
    this.#isFree = isFree;
  }

  /** Some address has become free, or a pool has changed. */
  forget(): void {
    this.#full.clear();
    this.#lowest.clear();
  }

  /** @returns undefined if the pool has no free address of the family */
  find(pool: Pool, family: Family, key: string): Address | undefined {
    const id = `${family} ${pool.name}`;
    if (this.#full.has(id)) return undefined;
    const ranges = rangesOf(pool, family);
    const found = ranges.length === 0 ? undefined : this.#scan(pool, ranges, key, this.#lowest.get(id));
    if (found === undefined) this.#full.add(id);
    else if (this.#choice === "lowest") this.#lowest.set(id, found);
    return found;
  }

  #scan(pool: Pool, ranges: readonly Range[], key: string, lowest: Address | undefined): Address | undefined {
    const isStable = this.#choice === "stable";
    const from = lowest === undefined ? 0 : Math.max(0, ranges.findIndex(having(lowest)));
    const parts = isStable
      ? around(ranges, startOf(key, countOf(pool, familyOf(ranges[0]!.first))))
      : ranges.slice(from);
    for (const [index, { first, last }] of parts.entries()) {
      const begin = !isStable && index === 0 && lowest !== undefined ? lowest : first;
      for (let address = begin; address <= last; address = plus(address, 1)) {
        if (this.#isFree(address) && !isAvoided(pool, address)) return address;
      }
    }
    return undefined;
  }
}
