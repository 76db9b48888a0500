import { type VipKey, vip, vipKey, vipState } from "../core/abi.ts";
import { addressBytes } from "../core/address.ts";
import { difference } from "../core/difference.ts";
import { addressOf, type Entries, type EntryKey, entryKey, ifindexOf } from "../core/ownership.ts";
import type { Batch } from "./map.ts";
import type { Maps } from "./object.ts";

/** Entries that one verification reads: a map of up to this many is verified whole, a larger one in turns. */
const PART = 2048;

/** Where the fields stand, in bytes. */
const IP = vipKey.fields.get("ip")!.offset;
const IFINDEX = vipKey.fields.get("ifindex")!.offset;
const STATE = vip.fields.get("state")!.offset;
const NAME = vip.fields.get("interface")!;

const mapKey = (key: EntryKey): VipKey => ({ ip: addressBytes(addressOf(key)), ifindex: ifindexOf(key) });

export const keyOf = ({ ip, ifindex }: VipKey): EntryKey =>
  entryKey(ifindex, new DataView(ip.buffer, ip.byteOffset).getUint32(0));

/** Calls `each` for every entry of a batch. */
function forEach(
  { keys, values, count }: Batch,
  each: (key: EntryKey, isOwned: boolean, valueAt: number) => void,
): void {
  for (let i = 0; i < count; i++) {
    const keyAt = i * vipKey.size;
    const valueAt = i * vip.size;
    const key = entryKey(keys.getUint32(keyAt + IFINDEX, true), keys.getUint32(keyAt + IP));
    each(key, values.getUint32(valueAt + STATE, true) === vipState.OWNED, valueAt);
  }
}

/** What the map holds now, and the interfaces' names as they stand in its entries. */
function read({ vips }: Maps): { entries: Map<EntryKey, boolean>; names: Map<number, string> } {
  const entries = new Map<EntryKey, boolean>();
  const names = new Map<number, string>();
  for (const batch of vips.batches()) {
    forEach(batch, (key, isOwned, valueAt) => {
      entries.set(key, isOwned);
      if (names.has(ifindexOf(key))) return;
      names.set(ifindexOf(key), vip.decode(new Uint8Array(batch.values.buffer, valueAt, vip.size)).interface);
    });
  }
  return { entries, names };
}

/** What the map holds now. */
export const readEntries = (maps: Maps): Map<EntryKey, boolean> => read(maps).entries;

function writeKey(view: DataView, at: number, key: EntryKey): void {
  view.setUint32(at + IP, addressOf(key));
  view.setUint32(at + IFINDEX, ifindexOf(key), true);
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
  #parts: Iterator<Batch> | undefined;
  #seen = 0;

  constructor(maps: Maps) {
    this.#maps = maps;
    const { entries, names } = read(maps);
    this.#actual = entries;
    this.#names = names;
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
    answers.setMany(added.length, (i, keys, keyAt) => writeKey(keys, keyAt, added[i]![0]));
    const encoder = new TextEncoder();
    const texts = new Map(
      [...names].map(([ifindex, name]) => [ifindex, encoder.encode(name).subarray(0, NAME.size - 1)]),
    );
    vips.setMany(set.length, (i, keys, keyAt, values, valueAt) => {
      const [key, isOwned] = set[i]!;
      writeKey(keys, keyAt, key);
      values.setUint32(valueAt + STATE, isOwned ? vipState.OWNED : vipState.NOT_OWNED, true);
      const text = texts.get(ifindexOf(key)) ?? new Uint8Array();
      for (let at = 0; at < text.length; at++) values.setUint8(valueAt + NAME.offset + at, text[at]!);
    });
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
      const batch: Batch = value;
      this.#seen += batch.count;
      forEach(batch, (key, isOwned) => {
        if (this.#actual.get(key) !== isOwned) isIntact = false;
      });
      if (isIntact && batch.count < PART) return this.verify(); // the last part: what is missing shows now
    }
    if (!isIntact) this.#actual = readEntries(this.#maps);
    return isIntact;
  }
}
