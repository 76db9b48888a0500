import { type VipKey, vipState } from "../core/abi.ts";
import { addressBytes } from "../core/address.ts";
import { difference } from "../core/difference.ts";
import { addressOf, type Entries, type EntryKey, entryKey, ifindexOf } from "../core/ownership.ts";
import type { Maps } from "./object.ts";

/** Entries that one verification reads: a map of up to this many is verified whole, a larger one in turns. */
const PART = 2048;

const NO_ANSWERS = { answered: 0n, last_answer_ns: 0n };

const mapKey = (key: EntryKey): VipKey => ({ ip: addressBytes(addressOf(key)), ifindex: ifindexOf(key) });

export const keyOf = ({ ip, ifindex }: VipKey): EntryKey =>
  entryKey(ifindex, new DataView(ip.buffer, ip.byteOffset).getUint32(0));

/** What the map holds now. */
export function readEntries({ vips }: Maps): Map<EntryKey, boolean> {
  const entries = new Map<EntryKey, boolean>();
  for (const [key, { state }] of vips.entries()) entries.set(keyOf(key), state === vipState.OWNED);
  return entries;
}

/** What became of VIPs here. */
export interface Change {
  /** Owned now, and not before. */
  gained: EntryKey[];
  /** Owned before, and not now. */
  lost: EntryKey[];
  written: number;
  removed: number;
}

/** The kernel's map `vips` (and the entries of `answers` that go with it), written through and read back in parts. */
export class VipTable {
  readonly #maps: Maps;
  #actual: Map<EntryKey, boolean>;
  /** The interfaces' names as they stand in the entries. */
  #names: ReadonlyMap<number, string>;
  #parts: Iterator<[VipKey, { state: number }][]> | undefined;
  #seen = 0;

  constructor(maps: Maps) {
    this.#maps = maps;
    this.#actual = readEntries(this.#maps);
    this.#names = new Map([...maps.vips.entries()].map(([{ ifindex }, vip]) => [ifindex, vip.interface]));
  }

  get entries(): Entries {
    return this.#actual;
  }

  /**
   * Makes the map hold what is wanted, and touches only what differs. Removals come last: a hash map gives a freed
   * element to the next new entry at once, and a program reading it meanwhile would read that one's state.
   */
  apply(wanted: Entries, names: ReadonlyMap<number, string>): Change {
    const isRenamed = ([key]: [EntryKey, boolean]) => names.get(ifindexOf(key)) !== this.#names.get(ifindexOf(key));
    const { set, remove } = difference(wanted, this.#actual, isRenamed);
    const gained = set.filter(([key, isOwned]) => isOwned && !this.#actual.get(key)).map(([key]) => key);
    const noLonger = set.filter(([, isOwned]) => !isOwned).map(([key]) => key);
    const lost = [...noLonger, ...remove].filter((key) => this.#actual.get(key));
    const { vips, answers } = this.#maps;
    const added = set.filter(([key]) => !this.#actual.has(key));
    answers.setMany(added.map(([key]) => [mapKey(key), NO_ANSWERS]));
    vips.setMany(
      set.map(([key, isOwned]) => [
        mapKey(key),
        { state: isOwned ? vipState.OWNED : vipState.NOT_OWNED, interface: names.get(ifindexOf(key)) ?? "" },
      ]),
    );
    vips.deleteMany(remove.map(mapKey));
    answers.deleteMany(remove.map(mapKey));
    for (const [key, isOwned] of set) this.#actual.set(key, isOwned);
    for (const key of remove) this.#actual.delete(key);
    this.#names = names;
    this.#parts = undefined;
    return { gained, lost, written: set.length, removed: remove.length };
  }

  /**
   * Reads the next part of the map back.
   * @returns false where it does not hold what was written: {@link apply} will then mend it
   */
  verify(): boolean {
    if (!this.#parts) {
      this.#parts = this.#maps.vips.batches(PART);
      this.#seen = 0;
    }
    const { value, done } = this.#parts.next();
    let isIntact = true;
    if (done) {
      this.#parts = undefined;
      isIntact = this.#seen === this.#actual.size;
    } else {
      this.#seen += value.length;
      isIntact = value.every(
        ([key, { state }]: [VipKey, { state: number }]) => this.#actual.get(keyOf(key)) === (state === vipState.OWNED),
      );
      if (isIntact && value.length < PART) return this.verify(); // the last part: what is missing shows now
    }
    if (!isIntact) this.#actual = readEntries(this.#maps);
    return isIntact;
  }
}
