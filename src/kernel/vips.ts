import { answers, MAX_VIPS, type VipKey, vip, vipKey, vipState } from "../core/abi.ts";
import { type Address, addressBytes, addressOfBytes, type IPv4 } from "../core/address.ts";
import { type Entry, isHeld, UNOWNED } from "../core/step.ts";
import type { Batch } from "./map.ts";
import type { Maps } from "./object.ts";

/** Entries that one verification reads: a map of up to this many is verified whole, a larger one in turns. */
const PART = 1024;

/** Offsets of the fields in a key or a value, bytes. */
const IP = vipKey.fields.get("ip")!.offset;
const IFINDEX = vipKey.fields.get("ifindex")!.offset;
const STATE = vip.fields.get("state")!.offset;
const CLAIM = vip.fields.get("claim_ns")!.offset;
const UNTIL = vip.fields.get("until_ns")!.offset;
const HASH = vip.fields.get("hash")!.offset;
const OWN_IP = vip.fields.get("ip")!.offset;
const OWN_IFINDEX = vip.fields.get("ifindex")!.offset;
const RELEASED = answers.fields.get("released_ns")!.offset;

/** The entries of each interface, by ifindex. */
export type Entries = ReadonlyMap<number, ReadonlyMap<Address, Entry>>;

export const keyOf = (ifindex: number, address: Address): VipKey => ({ ip: addressBytes(address), ifindex });

export const addressOf = ({ ip }: Pick<VipKey, "ip">): Address => addressOfBytes(ip);

/** Calls `each` for every entry of a batch. */
function forEach(
  { keys, count }: Batch,
  valueSize: number,
  each: (ifindex: number, address: Address, valueAt: number) => void,
): void {
  for (let i = 0; i < count; i++) {
    const keyAt = i * vipKey.size;
    each(keys.getUint32(keyAt + IFINDEX, true), keys.getUint32(keyAt + IP), i * valueSize);
  }
}

function entryAt(values: DataView, at: number): Entry {
  const state = values.getUint32(at + STATE, true) as Entry["state"];
  if (state === vipState.NOT_OWNED) return UNOWNED;
  return {
    state,
    claimNs: values.getBigUint64(at + CLAIM, true),
    untilNs: values.getBigUint64(at + UNTIL, true),
    hash: values.getBigUint64(at + HASH, true),
  };
}

/** Reads the whole map `vips`. */
function read({ vips }: Maps): Map<number, Map<Address, Entry>> {
  const entries = new Map<number, Map<Address, Entry>>();
  for (const batch of vips.batches()) {
    forEach(batch, vip.size, (ifindex, address, valueAt) => {
      let its = entries.get(ifindex);
      if (!its) entries.set(ifindex, (its = new Map()));
      its.set(address, entryAt(batch.values, valueAt));
    });
  }
  return entries;
}

/** Reads the map `answers`: what the kernel released since it was claimed, and elements that belong to no entry. */
function survey({ answers: map }: Maps, entries: Entries, batches: Iterable<Batch> = map.batches()) {
  const released: [ifindex: number, address: Address][] = [];
  const stray: VipKey[] = [];
  for (const batch of batches) {
    forEach(batch, answers.size, (ifindex, address, valueAt) => {
      const entry = entries.get(ifindex)?.get(address);
      if (!entry) stray.push(keyOf(ifindex, address));
      else if (isReleased(entry, batch.values.getBigUint64(valueAt + RELEASED, true)))
        released.push([ifindex, address]);
    });
  }
  return { released, stray };
}

/** An entry counts only while its claim is later than the kernel's last release of the VIP. */
const isReleased = (entry: Entry, releasedNs: bigint) => isHeld(entry) && releasedNs >= entry.claimNs;

/** Reads both maps; VIPs that the kernel has released count as not owned. */
function readBoth(maps: Maps) {
  const entries = read(maps);
  const { released, stray } = survey(maps, entries);
  for (const [ifindex, address] of released) entries.get(ifindex)!.set(address, UNOWNED);
  return { entries, released, stray };
}

export const readEntries = (maps: Maps): Entries => readBoth(maps).entries;

/**
 * The kernel's map `vips`, and the elements of `answers` that go with it: written through, and read back in parts. The
 * entries as they should be are the segments' own maps ({@link entriesOf}), so that there is one copy of them.
 */
export class VipTable {
  readonly #maps: Maps;
  readonly #entries: Map<number, Map<Address, Entry>>;
  #parts: Iterator<Batch> | undefined;
  #answers: Iterator<Batch> | undefined;
  #seen = 0;

  /** Reads what an earlier speaker left. */
  constructor(maps: Maps) {
    this.#maps = maps;
    const { entries, released, stray } = readBoth(maps);
    this.#entries = entries;
    for (const [ifindex, its] of Map.groupBy(released, ([ifindex]) => ifindex)) {
      this.write(
        ifindex,
        its.map(([, address]) => [address, UNOWNED]),
      );
    }
    this.#maps.answers.deleteMany(stray);
  }

  get entries(): Entries {
    return this.#entries;
  }

  /** The entries of one interface as they should be: whoever changes them writes them here. */
  entriesOf(ifindex: number): Map<Address, Entry> {
    let its = this.#entries.get(ifindex);
    if (!its) this.#entries.set(ifindex, (its = new Map()));
    return its;
  }

  /** Reads all of `answers`: call it only where there is reason to. @returns VIPs that the kernel has released */
  released(ifindex: number): Address[] {
    return survey(this.#maps, this.#entries).released.flatMap(([on, address]) => (on === ifindex ? [address] : []));
  }

  /**
   * Reads the next part of `answers`, as {@link verify} does of `vips`.
   * @returns the VIPs in it that are held here, though the kernel has released them
   */
  lost(): ReadonlyMap<number, Address[]> {
    let next = this.#answers?.next();
    if (!next || next.done) {
      this.#answers = this.#maps.answers.batches(PART);
      next = this.#answers.next();
    }
    const { released } = survey(this.#maps, this.#entries, [next.value]);
    const byInterface = Map.groupBy(released, ([ifindex]) => ifindex);
    return new Map([...byInterface].map(([ifindex, all]) => [ifindex, all.map(([, address]) => address)]));
  }

  /** Like {@link released}, but only of the given VIPs. */
  releasedOf(ifindex: number, addresses: Iterable<Address>): Address[] {
    const entries = this.#entries.get(ifindex);
    return [...addresses].filter((address) => {
      const entry = entries?.get(address);
      return entry && isReleased(entry, this.#maps.answers.getField(keyOf(ifindex, address), "released_ns") ?? 0n);
    });
  }

  /**
   * Takes over what a map of another layout had: what was owned there is owned now, and what was not stays silent. While
   * both stand side by side, this layout's programs know what those of the other knew.
   */
  takeOver(
    former: readonly { key: Uint8Array; isOwned: boolean }[],
    now: bigint,
    hashOf: (address: Address) => bigint,
  ): void {
    const known = former.map(({ key, isOwned }) => ({ ...vipKey.decode(key), isOwned }));
    for (const [ifindex, its] of Map.groupBy(known, ({ ifindex }) => ifindex)) {
      const entries = this.entriesOf(ifindex);
      const added = new Map<Address, Entry>();
      for (const { ip, isOwned } of its) {
        const address = addressOf({ ip });
        if (entries.has(address)) continue;
        const owned = { state: vipState.OWNED, claimNs: now, untilNs: 0n };
        added.set(address, isOwned ? { ...owned, hash: hashOf(address) } : UNOWNED);
      }
      for (const [address, entry] of added) entries.set(address, entry);
      this.write(ifindex, [...added], new Set(added.keys()));
    }
  }

  /**
   * Reads the other layout's map once more, after its programs were replaced: what they released since {@link takeOver}
   * is not owned.
   */
  release(former: readonly { key: Uint8Array; isOwned: boolean }[]): void {
    for (const { key, isOwned } of former) {
      const { ip, ifindex } = vipKey.decode(key);
      const entries = this.#entries.get(ifindex);
      if (isOwned || entries?.get(addressOf({ ip }))?.state !== vipState.OWNED) continue;
      entries.set(addressOf({ ip }), UNOWNED);
      this.write(ifindex, [[addressOf({ ip }), UNOWNED]]);
    }
  }

  /** Writes entries. @param added those that the kernel has none for yet */
  write(ifindex: number, set: readonly (readonly [Address, Entry])[], added: ReadonlySet<Address> = new Set()): void {
    const fresh = [...added];
    this.#maps.answers.setMany(fresh.length, (i, keys, keyAt) => writeKey(keys, keyAt, ifindex, fresh[i]!));
    this.#maps.vips.setMany(set.length, (i, keys, keyAt, values, valueAt) => {
      const [address, { state, claimNs, untilNs, hash }] = set[i]!;
      writeKey(keys, keyAt, ifindex, address);
      writeOwnKey(values, valueAt, ifindex, address);
      if (state === vipState.NOT_OWNED) return;
      values.setUint32(valueAt + STATE, state, true);
      values.setBigUint64(valueAt + CLAIM, claimNs, true);
      values.setBigUint64(valueAt + UNTIL, untilNs, true);
      values.setBigUint64(valueAt + HASH, hash, true);
    });
    this.#parts = undefined;
  }

  /**
   * Writes entries, then removes others. A hash map gives a freed element to the next new entry at once, and a program that
   * is reading it would read that one's state: so removals come last, unless the map has no room for both.
   */
  replace(
    ifindex: number,
    set: readonly (readonly [Address, Entry])[],
    added: ReadonlySet<Address>,
    gone: readonly Address[],
  ): void {
    const isTooMuch = this.#size + gone.length > MAX_VIPS; // the entries are as they will be
    if (isTooMuch) this.#remove(ifindex, gone);
    if (set.length > 0) this.write(ifindex, set, added);
    if (!isTooMuch) this.#remove(ifindex, gone);
  }

  #remove(ifindex: number, addresses: readonly Address[]): void {
    if (addresses.length === 0) return;
    const keys = addresses.map((address) => keyOf(ifindex, address));
    this.#maps.vips.deleteMany(keys);
    this.#maps.answers.deleteMany(keys);
    this.#parts = undefined;
  }

  get #size(): number {
    return [...this.#entries.values()].reduce((sum, its) => sum + its.size, 0);
  }

  /** Removes all entries of an interface. */
  drop(ifindex: number): void {
    this.#remove(ifindex, [...(this.#entries.get(ifindex)?.keys() ?? [])]);
    this.#entries.delete(ifindex);
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
    if (done) {
      this.#parts = undefined;
      return this.#seen === this.#size;
    }
    const batch: Batch = value;
    let isIntact = true;
    this.#seen += batch.count;
    forEach(batch, vip.size, (ifindex, address, valueAt) => {
      const isItsOwn = isOf(ifindex, address, batch.values, valueAt);
      if (!isItsOwn || !isSame(this.#entries.get(ifindex)?.get(address), batch.values, valueAt)) isIntact = false;
    });
    return isIntact && batch.count < PART ? this.verify() : isIntact; // after the last part, missing entries show
  }

  /** Writes what the map should hold, and removes what it should not. */
  mend(): void {
    for (const [ifindex, its] of read(this.#maps)) {
      const stray = [...its.keys()].filter((address) => !this.#entries.get(ifindex)?.has(address));
      this.#remove(ifindex, stray);
    }
    for (const [ifindex, entries] of this.#entries) {
      for (const address of entries.keys()) this.#maps.answers.add(keyOf(ifindex, address), answers.of({}));
      this.write(ifindex, [...entries]);
    }
    this.#maps.answers.deleteMany(survey(this.#maps, this.#entries).stray);
  }
}

function writeKey(view: DataView, at: number, ifindex: number, address: Address): void {
  view.setUint32(at + IP, address as IPv4);
  view.setUint32(at + IFINDEX, ifindex, true);
}

/** An entry repeats its key: see `struct vip` in bpf/abi.h. */
function writeOwnKey(view: DataView, at: number, ifindex: number, address: Address): void {
  view.setUint32(at + OWN_IP, address as IPv4);
  view.setUint32(at + OWN_IFINDEX, ifindex, true);
}

const isOf = (ifindex: number, address: Address, values: DataView, at: number) =>
  values.getUint32(at + OWN_IP) === address && values.getUint32(at + OWN_IFINDEX, true) === ifindex;

function isSame(entry: Entry | undefined, values: DataView, at: number): boolean {
  if (entry?.state !== values.getUint32(at + STATE, true)) return false;
  return !isHeld(entry) || entry.claimNs === values.getBigUint64(at + CLAIM, true);
}
