import { answers, MAX_VIPS, type VipKey, vip, vipKey, vipState } from "../core/abi.ts";
import { addressBytes } from "../core/address.ts";
import { type Held, UNOWNED } from "../core/difference.ts";
import { addressOf, type EntryKey, entryKey, ifindexOf } from "../core/ownership.ts";
import type { Batch } from "./map.ts";
import type { Maps } from "./object.ts";

/** Entries that one verification reads: a map of up to this many is verified whole, a larger one in turns. */
const PART = 1024;

/** Where the fields stand, in bytes. */
const IP = vipKey.fields.get("ip")!.offset;
const IFINDEX = vipKey.fields.get("ifindex")!.offset;
const STATE = vip.fields.get("state")!.offset;
const CLAIM = vip.fields.get("claim_ns")!.offset;
const UNTIL = vip.fields.get("until_ns")!.offset;
const BID = vip.fields.get("hash")!.offset;
const NAME = vip.fields.get("interface")!;
const RELEASED = answers.fields.get("released_ns")!.offset;

const mapKey = (key: EntryKey): VipKey => ({ ip: addressBytes(addressOf(key)), ifindex: ifindexOf(key) });

export const keyOf = ({ ip, ifindex }: VipKey): EntryKey =>
  entryKey(ifindex, new DataView(ip.buffer, ip.byteOffset).getUint32(0));

/** Calls `each` for every entry of a batch. */
function forEach({ keys, count }: Batch, valueSize: number, each: (key: EntryKey, valueAt: number) => void): void {
  for (let i = 0; i < count; i++) {
    const keyAt = i * vipKey.size;
    each(entryKey(keys.getUint32(keyAt + IFINDEX, true), keys.getUint32(keyAt + IP)), i * valueSize);
  }
}

function heldAt(values: DataView, at: number): Held {
  const state = values.getUint32(at + STATE, true) as Held["state"];
  if (state === vipState.NOT_OWNED) return UNOWNED;
  return {
    state,
    claimNs: values.getBigUint64(at + CLAIM, true),
    untilNs: values.getBigUint64(at + UNTIL, true),
    hash: values.getBigUint64(at + BID, true),
  };
}

/** What the map holds now, and the interfaces' names as they stand in its entries. */
function read({ vips }: Maps): { entries: Map<EntryKey, Held>; names: Map<number, string> } {
  const entries = new Map<EntryKey, Held>();
  const names = new Map<number, string>();
  for (const batch of vips.batches()) {
    forEach(batch, vip.size, (key, valueAt) => {
      entries.set(key, heldAt(batch.values, valueAt));
      if (names.has(ifindexOf(key))) return;
      names.set(ifindexOf(key), vip.decode(new Uint8Array(batch.values.buffer, valueAt, vip.size)).interface);
    });
  }
  return { entries, names };
}

/**
 * What the map `answers` says of the entries: those that the kernel has given away since they were claimed, and keys that no
 * entry has, as a write that failed half-way leaves them, or a process that was killed in one.
 */
function survey({ answers: map }: Maps, entries: ReadonlyMap<EntryKey, Held>) {
  const released: EntryKey[] = [];
  const stray: EntryKey[] = [];
  for (const batch of map.batches()) {
    forEach(batch, answers.size, (key, valueAt) => {
      const held = entries.get(key);
      if (!held) stray.push(key);
      else if (held.state === vipState.NOT_OWNED) return;
      else if (batch.values.getBigUint64(valueAt + RELEASED, true) >= held.claimNs) released.push(key);
    });
  }
  return { released, stray };
}

/** What the map holds now; what was given away counts as not held. */
export function readEntries(maps: Maps): Map<EntryKey, Held> {
  const { entries } = read(maps);
  for (const key of survey(maps, entries).released) entries.set(key, UNOWNED);
  return entries;
}

function writeKey(view: DataView, at: number, key: EntryKey): void {
  view.setUint32(at + IP, addressOf(key));
  view.setUint32(at + IFINDEX, ifindexOf(key), true);
}

/** The kernel's map `vips` (and the entries of `answers` that go with it), written through and read back in parts. */
export class VipTable {
  readonly #maps: Maps;
  readonly #actual: Map<EntryKey, Held>;
  /** The interfaces' names as they stand in the entries. */
  #names: ReadonlyMap<number, string>;
  /** Entries that were written since, or are on their way to something else: to be looked at again. */
  #unsettled = new Set<EntryKey>();
  #parts: Iterator<Batch> | undefined;
  #seen = 0;

  constructor(maps: Maps) {
    this.#maps = maps;
    const { entries, names } = read(maps);
    this.#actual = entries;
    this.#names = names;
    const { released, stray } = survey(maps, entries);
    this.write(released.map((key) => [key, UNOWNED]));
    this.#maps.answers.deleteMany(stray.map(mapKey));
  }

  get entries(): ReadonlyMap<EntryKey, Held> {
    return this.#actual;
  }

  /** Entries that were written since the last call, and those that were kept. */
  takeUnsettled(): ReadonlySet<EntryKey> {
    const taken = this.#unsettled;
    this.#unsettled = new Set();
    return taken;
  }

  /** These are not as they are to be: they are among the next {@link takeUnsettled}. */
  keepUnsettled(keys: Iterable<EntryKey>): void {
    for (const key of keys) this.#unsettled.add(key);
  }

  /** Those that the kernel has given away since they were claimed. Reads all of a map: call it when there is reason to. */
  released(): EntryKey[] {
    return survey(this.#maps, this.#actual).released;
  }

  /**
   * Takes over what another layout's map had: what was owned there is owned from now on, and what was not stays silent.
   * Where both stand side by side, the programs of this one know what those of the other knew.
   */
  takeOver(
    former: readonly { key: Uint8Array; isOwned: boolean }[],
    now: bigint,
    hash: (key: EntryKey) => bigint,
  ): void {
    const set = former.map(({ key: raw, isOwned }) => {
      const key = keyOf(vipKey.decode(raw));
      const owned = { state: vipState.OWNED, claimNs: now, untilNs: 0n, hash: hash(key) };
      return [key, isOwned ? owned : UNOWNED] as const;
    });
    this.write(set.filter(([key]) => !this.#actual.has(key)));
  }

  /** The same of these entries only. */
  releasedOf(keys: readonly EntryKey[]): EntryKey[] {
    return keys.filter((key) => {
      const held = this.#actual.get(key);
      const releasedNs = this.#maps.answers.get(mapKey(key))?.released_ns ?? 0n;
      return held && held.state !== vipState.NOT_OWNED && releasedNs >= held.claimNs;
    });
  }

  /** Names the interfaces as they are called now: in the entries that say otherwise too. */
  rename(names: ReadonlyMap<number, string>): void {
    const renamed = new Set(
      [...names].flatMap(([ifindex, name]) => (this.#names.get(ifindex) === name ? [] : [ifindex])),
    );
    this.#names = names;
    if (renamed.size > 0) this.write([...this.#actual].filter(([key]) => renamed.has(ifindexOf(key))));
  }

  /** Sets the entries; one that is new may be answered from then on, if it is owned. */
  write(set: readonly (readonly [EntryKey, Held])[]): void {
    const { vips, answers } = this.#maps;
    const added = set.filter(([key]) => !this.#actual.has(key));
    answers.setMany(added.length, (i, keys, keyAt) => writeKey(keys, keyAt, added[i]![0]));
    const encoder = new TextEncoder();
    const texts = new Map(
      [...this.#names].map(([ifindex, name]) => [ifindex, encoder.encode(name).subarray(0, NAME.size - 1)]),
    );
    vips.setMany(set.length, (i, keys, keyAt, values, valueAt) => {
      const [key, { state, claimNs, untilNs, hash }] = set[i]!;
      writeKey(keys, keyAt, key);
      const text = texts.get(ifindexOf(key)) ?? new Uint8Array();
      for (let at = 0; at < text.length; at++) values.setUint8(valueAt + NAME.offset + at, text[at]!);
      if (state === vipState.NOT_OWNED) return;
      values.setUint32(valueAt + STATE, state, true);
      values.setBigUint64(valueAt + CLAIM, claimNs, true);
      values.setBigUint64(valueAt + UNTIL, untilNs, true);
      values.setBigUint64(valueAt + BID, hash, true);
    });
    for (const [key, held] of set) {
      this.#actual.set(key, held);
      this.#unsettled.add(key);
    }
    this.#parts = undefined;
  }

  /** Sets the one entries, and removes the others. */
  replace(set: readonly (readonly [EntryKey, Held])[], gone: readonly EntryKey[]): void {
    const isNew = ([key]: readonly [EntryKey, Held]) => !this.#actual.has(key);
    const isTooMuch = this.#actual.size + set.filter(isNew).length > MAX_VIPS;
    if (isTooMuch) this.remove(gone);
    this.write(set);
    if (!isTooMuch) this.remove(gone);
  }

  /**
   * Removes the entries. To be called after {@link write}, where the map has room for both: a hash map gives a freed element to the next new entry at once,
   * and a program reading it meanwhile would read that one's state.
   */
  remove(keys: readonly EntryKey[]): void {
    this.#maps.vips.deleteMany(keys.map(mapKey));
    this.#maps.answers.deleteMany(keys.map(mapKey));
    for (const key of keys) {
      this.#actual.delete(key);
      this.#unsettled.delete(key);
    }
    this.#parts = undefined;
  }

  /**
   * Reads the next part of the map back.
   * @returns false where it does not hold what was written: {@link mend} puts it right
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
      forEach(batch, vip.size, (key, valueAt) => {
        if (!isSame(this.#actual.get(key), batch.values, valueAt)) isIntact = false;
      });
      if (isIntact && batch.count < PART) return this.verify(); // the last part: what is missing shows now
    }
    return isIntact;
  }

  /** Writes what the map should hold, and removes what it should not. */
  mend(): void {
    const stray = [...read(this.#maps).entries.keys()].filter((key) => !this.#actual.has(key));
    for (const key of this.#actual.keys()) this.#maps.answers.add(mapKey(key), answers.of({}));
    this.write([...this.#actual]);
    this.remove(stray);
    this.#maps.answers.deleteMany(survey(this.#maps, this.#actual).stray.map(mapKey));
  }
}

function isSame(held: Held | undefined, values: DataView, at: number): boolean {
  if (held?.state !== values.getUint32(at + STATE, true)) return false;
  return held.state === vipState.NOT_OWNED || held.claimNs === values.getBigUint64(at + CLAIM, true);
}
