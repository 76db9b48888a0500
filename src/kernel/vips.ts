import { answers, type Layout, type VipKey, vip, vip6Key, vipKey, vipState } from "../core/abi.ts";
import { type Address, addressBytes, addressOfBytes, isIPv4 } from "../core/address.ts";
import { type Entry, isHeld, UNOWNED } from "../core/step.ts";
import type { Batch } from "./map.ts";
import type { Maps } from "./object.ts";
import { Room } from "./room.ts";

const CHANGED = "the kernel's map does not hold what was written (changed by another program?): writing it anew";

/** Entries that one verification reads: a map of up to this many is verified whole, a larger one in turns. */
const PART = 1024;

/** Offsets of the fields in a value, bytes. */
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

/** The maps of one family. */
interface Family {
  readonly key: Layout<VipKey>;
  readonly vips: Maps["vips"];
  readonly answers: Maps["answers"];
  has(address: Address): boolean;
}

const familiesOf = ({ vips, answers, vips6, answers6 }: Maps): readonly Family[] => [
  { key: vipKey, vips, answers, has: isIPv4 },
  { key: vip6Key, vips: vips6, answers: answers6, has: (address) => !isIPv4(address) },
];

/** The maps that have the entries of an address. */
export const mapsOf = (maps: Maps, address: Address): Pick<Maps, "vips" | "answers"> =>
  familiesOf(maps).find(({ has }) => has(address))!;

/** The entries that one call has read. */
interface Part extends Batch {
  readonly key: Layout<VipKey>;
}

/** Reads the maps of both families. */
function* partsOf(maps: Maps, name: "vips" | "answers", size?: number): Generator<Part> {
  for (const family of familiesOf(maps)) {
    for (const batch of family[name].batches(size)) yield { ...batch, key: family.key };
  }
}

/** Calls `each` for every entry. */
function forEach(
  { key, keys, count }: Part,
  valueSize: number,
  each: (ifindex: number, address: Address, valueAt: number) => void,
): void {
  const ip = key.fields.get("ip")!.size;
  for (let i = 0; i < count; i++) {
    const at = i * key.size;
    const address = ip === 4 ? keys.getUint32(at) : (keys.getBigUint64(at) << 64n) | keys.getBigUint64(at + 8);
    each(keys.getUint32(at + ip, true), address, i * valueSize);
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

/** Reads the VIPs of both families. */
function read(maps: Maps): Map<number, Map<Address, Entry>> {
  const entries = new Map<number, Map<Address, Entry>>();
  for (const part of partsOf(maps, "vips")) {
    forEach(part, vip.size, (ifindex, address, valueAt) => {
      let its = entries.get(ifindex);
      if (!its) entries.set(ifindex, (its = new Map()));
      its.set(address, entryAt(part.values, valueAt));
    });
  }
  return entries;
}

/** Reads `answers`: what the kernel released since it was claimed, and elements that belong to no entry. */
function survey(entries: Entries, parts: Iterable<Part>) {
  const released: [ifindex: number, address: Address][] = [];
  const stray: [ifindex: number, address: Address][] = [];
  let total = 0;
  for (const part of parts) {
    total += part.count;
    forEach(part, answers.size, (ifindex, address, valueAt) => {
      const entry = entries.get(ifindex)?.get(address);
      if (!entry) stray.push([ifindex, address]);
      else if (isReleased(entry, part.values.getBigUint64(valueAt + RELEASED, true))) released.push([ifindex, address]);
    });
  }
  return { released, stray, own: total - stray.length };
}

/** An entry counts only while its claim is later than the kernel's last release of the VIP. */
const isReleased = (entry: Entry, releasedNs: bigint) => isHeld(entry) && releasedNs >= entry.claimNs;

/** Reads both maps; VIPs that the kernel has released count as not owned. */
function readBoth(maps: Maps) {
  const entries = read(maps);
  const { released, stray } = survey(entries, partsOf(maps, "answers"));
  for (const [ifindex, address] of released) entries.get(ifindex)!.set(address, UNOWNED);
  return { entries, released, stray };
}

export const readEntries = (maps: Maps): Entries => readBoth(maps).entries;

/**
 * The kernel's VIPs of both families, and the elements of `answers` that go with them: written through, and read back in
 * parts. The entries as they should be are the segments' own maps ({@link entriesOf}), so that there is one copy of them.
 */
export class VipTable {
  readonly #maps: Maps;
  readonly #entries: Map<number, Map<Address, Entry>>;
  #parts: Iterator<Part> | undefined;
  #answers: Iterator<Part> | undefined;
  #seen = 0;
  readonly room = new Room();

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
    this.#delete(["answers"], stray);
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
    return survey(this.#entries, partsOf(this.#maps, "answers")).released.flatMap(([on, address]) =>
      on === ifindex ? [address] : [],
    );
  }

  /**
   * Reads the next part of `answers`, as {@link verify} does of `vips`.
   * @returns the VIPs in it that are held here, though the kernel has released them
   */
  lost(): ReadonlyMap<number, Address[]> {
    const released: [ifindex: number, address: Address][] = [];
    this.#answers ??= partsOf(this.#maps, "answers", PART);
    for (let next = this.#answers.next(); ; next = this.#answers.next()) {
      if (next.done) {
        this.#answers = undefined;
        break;
      }
      released.push(...survey(this.#entries, [next.value]).released);
      if (next.value.count === PART) break;
    }
    const byInterface = Map.groupBy(released, ([ifindex]) => ifindex);
    return new Map([...byInterface].map(([ifindex, all]) => [ifindex, all.map(([, address]) => address)]));
  }

  /** Like {@link released}, but only of the given VIPs. */
  releasedOf(ifindex: number, addresses: Iterable<Address>): Address[] {
    const entries = this.#entries.get(ifindex);
    const releasedNs = (address: Address) =>
      mapsOf(this.#maps, address).answers.getField(keyOf(ifindex, address), "released_ns") ?? 0n;
    return [...addresses].filter((address) => {
      const entry = entries?.get(address);
      return entry && isReleased(entry, releasedNs(address));
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
    const known = former.map(({ key, isOwned }) => ({ ...decodeKey(key), isOwned }));
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
      const { ip, ifindex } = decodeKey(key);
      const entries = this.#entries.get(ifindex);
      if (isOwned || entries?.get(addressOf({ ip }))?.state !== vipState.OWNED) continue;
      entries.set(addressOf({ ip }), UNOWNED);
      this.write(ifindex, [[addressOf({ ip }), UNOWNED]]);
    }
  }

  /** Writes entries. @param added those that the kernel has none for yet @returns false where it has no room for all */
  write(
    ifindex: number,
    set: readonly (readonly [Address, Entry])[],
    added: ReadonlySet<Address> = new Set(),
  ): boolean {
    return this.#asFits(() => this.#write(ifindex, set, added));
  }

  #asFits(body: () => void): boolean {
    return this.room.asFits(body, () => {
      const answers = survey(this.#entries, partsOf(this.#maps, "answers")).own;
      if (answers < this.#size) return answers; // they come first
      const ownOf = (on: number, all: Iterable<Address>) => [...all].filter((one) => this.#entries.get(on)?.has(one));
      return [...read(this.#maps)].flatMap(([on, its]) => ownOf(on, its.keys())).length;
    });
  }

  #write(ifindex: number, set: readonly (readonly [Address, Entry])[], added: ReadonlySet<Address>): void {
    for (const family of familiesOf(this.#maps)) {
      const fresh = [...added].filter(family.has);
      family.answers.setMany(fresh.length, (i, keys, keyAt) => writeKey(keys, keyAt, ifindex, fresh[i]!));
      const its = set.filter(([address]) => family.has(address));
      family.vips.setMany(its.length, (i, keys, keyAt, values, valueAt) => {
        const [address, { state, claimNs, untilNs, hash }] = its[i]!;
        writeKey(keys, keyAt, ifindex, address);
        values.setUint32(valueAt + OWN_IP, ownIpOf(address));
        values.setUint32(valueAt + OWN_IFINDEX, ifindex, true);
        if (state === vipState.NOT_OWNED) return;
        values.setUint32(valueAt + STATE, state, true);
        values.setBigUint64(valueAt + CLAIM, claimNs, true);
        values.setBigUint64(valueAt + UNTIL, untilNs, true);
        values.setBigUint64(valueAt + HASH, hash, true);
      });
    }
    this.#parts = undefined;
  }

  /**
   * Writes entries, then removes others. A hash map gives a freed element to the next new entry at once, and a program that
   * is reading it would read that one's state: so removals come last, unless the map has no room for both.
   * @returns false where there is no room for all of them: {@link room} says for how many there is
   */
  replace(
    ifindex: number,
    set: readonly (readonly [Address, Entry])[],
    added: ReadonlySet<Address>,
    gone: readonly Address[],
  ): boolean {
    // The entries are as they will be.
    const all =
      this.#size + gone.length > this.room.entries ? [...this.#entries.values()].flatMap((its) => [...its.keys()]) : [];
    const isTooMuch = familiesOf(this.#maps).some(
      ({ has }) => [...all, ...gone].filter(has).length > this.room.entries,
    );
    if (isTooMuch) this.#remove(ifindex, gone);
    const fits = set.length === 0 || this.write(ifindex, set, added);
    if (!isTooMuch) this.#remove(ifindex, gone);
    return fits;
  }

  #remove(ifindex: number, addresses: readonly Address[]): void {
    if (addresses.length === 0) return;
    this.#delete(
      ["vips", "answers"],
      addresses.map((address) => [ifindex, address]),
    );
    this.#parts = undefined;
  }

  #delete(names: readonly ("vips" | "answers")[], gone: readonly (readonly [ifindex: number, address: Address])[]) {
    for (const family of familiesOf(this.#maps)) {
      const its = gone.filter(([, address]) => family.has(address));
      const keys = its.map(([ifindex, address]) => keyOf(ifindex, address));
      for (const name of names) family[name].deleteMany(keys);
    }
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
      this.#parts = partsOf(this.#maps, "vips", PART);
      this.#seen = 0;
    }
    const { value, done } = this.#parts.next();
    if (done) {
      this.#parts = undefined;
      return this.#seen === this.#size;
    }
    const part: Part = value;
    let isIntact = true;
    this.#seen += part.count;
    forEach(part, vip.size, (ifindex, address, valueAt) => {
      const isItsOwn = isOf(ifindex, address, part.values, valueAt);
      if (!isItsOwn || !isSame(this.#entries.get(ifindex)?.get(address), part.values, valueAt)) isIntact = false;
    });
    return isIntact && part.count < PART ? this.verify() : isIntact; // after a map's last part, missing entries show
  }

  /** Writes what the map should hold, and removes what it should not. @param say takes the reason, where it is a fault */
  mend(say: (message: string) => void = () => {}): void {
    if (!this.room.isPartial) say(CHANGED);
    for (const [ifindex, its] of read(this.#maps)) {
      const stray = [...its.keys()].filter((address) => !this.#entries.get(ifindex)?.has(address));
      this.#remove(ifindex, stray);
    }
    for (const [ifindex, entries] of this.#entries) {
      const add = (address: Address) =>
        mapsOf(this.#maps, address).answers.add(keyOf(ifindex, address), answers.of({}));
      if (!this.#asFits(() => [...entries.keys()].forEach(add)) || !this.write(ifindex, [...entries])) return;
    }
    this.room.isPartial = false;
    this.#delete(["answers"], survey(this.#entries, partsOf(this.#maps, "answers")).stray);
  }
}

function writeKey(view: DataView, at: number, ifindex: number, address: Address): void {
  const size = writeAddress(view, at, address);
  view.setUint32(at + size, ifindex, true);
}

/** @returns how many bytes it has */
function writeAddress(view: DataView, at: number, address: Address): 4 | 16 {
  if (isIPv4(address)) {
    view.setUint32(at, address);
    return 4;
  }
  view.setBigUint64(at, address >> 64n);
  view.setBigUint64(at + 8, address);
  return 16;
}

const decodeKey = (key: Uint8Array): VipKey => (key.length === vipKey.size ? vipKey : vip6Key).decode(key);

const scratch = new DataView(new ArrayBuffer(16));

/** The part of its address that an entry repeats: see `struct vip` in bpf/abi.h. */
export function ownIpOf(address: Address): number {
  let own = 0;
  const size = writeAddress(scratch, 0, address);
  for (let at = 0; at < size; at += 4) own ^= scratch.getUint32(at);
  return own >>> 0;
}

const isOf = (ifindex: number, address: Address, values: DataView, at: number) =>
  values.getUint32(at + OWN_IP) === ownIpOf(address) && values.getUint32(at + OWN_IFINDEX, true) === ifindex;

function isSame(entry: Entry | undefined, values: DataView, at: number): boolean {
  if (entry?.state !== values.getUint32(at + STATE, true)) return false;
  return !isHeld(entry) || entry.claimNs === values.getBigUint64(at + CLAIM, true);
}
