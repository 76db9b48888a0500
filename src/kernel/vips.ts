import { type Layout, MAX_CHANGES, type VipKey, vip, vip6Key, vipChange, vipKey, vipState } from "../core/abi.ts";
import { type Address, addressBytes, addressOfBytes, isIPv4 } from "../core/address.ts";
import { type Entry, isHeld, UNOWNED } from "../core/step.ts";
import { checkAt, entryOf, fieldsOf } from "../core/vip.ts";
import type { Batch } from "./map.ts";
import type { Maps } from "./object.ts";
import { Room } from "./room.ts";
import type { Writer } from "./writer.ts";

const CHANGED = "the kernel's map does not hold what was written (changed by another program?): writing it anew";

/** Entries that one verification reads: a map of up to this many is verified whole, a larger one in turns. */
const PART = 1024;

/** Offsets of the fields in a value, and in a change, bytes. */
const AT = offsetsOf(vip);
const IN_CHANGE = offsetsOf(vipChange);

function offsetsOf<T>({ fields }: Layout<T>): Readonly<Record<keyof T & string, number>> {
  return Object.fromEntries([...fields].map(([name, { offset }]) => [name, offset])) as never;
}

/** The entries of each interface, by ifindex. */
export type Entries = ReadonlyMap<number, ReadonlyMap<Address, Entry>>;
/** An entry as it is to be; undefined: it is removed. */
type Change = readonly [Address, Entry | undefined];
type Released = [ifindex: number, address: Address];

export const keyOf = (ifindex: number, address: Address): VipKey => ({ ip: addressBytes(address), ifindex });

export const addressOf = ({ ip }: Pick<VipKey, "ip">): Address => addressOfBytes(ip);

/** The map that has the entries of an address. */
export const mapOf = ({ vips, vips6 }: Maps, address: Address): Maps["vips"] => (isIPv4(address) ? vips : vips6);

/** The entries that one call has read. */
interface Part extends Batch {
  readonly key: Layout<VipKey>;
}

/** Reads the maps of both families. */
function* partsOf({ vips, vips6 }: Maps, size?: number): Generator<Part> {
  for (const batch of vips.batches(size)) yield { ...batch, key: vipKey };
  for (const batch of vips6.batches(size)) yield { ...batch, key: vip6Key };
}

/** Calls `each` for every entry. */
function forEach(
  { key, keys, count }: Part,
  each: (ifindex: number, address: Address, valueAt: number, check: bigint) => void,
): void {
  const isIPv6 = key === vip6Key;
  for (let i = 0; i < count; i++) {
    const at = i * key.size;
    const address = isIPv6 ? (keys.getBigUint64(at) << 64n) | keys.getBigUint64(at + 8) : keys.getUint32(at);
    each(keys.getUint32(at + key.size - 4, true), address, i * vip.size, checkAt(keys, at, isIPv6));
  }
}

function entryAt(values: DataView, at: number): Entry {
  const state = values.getUint32(at + AT.state, true) as Entry["state"];
  if (state === vipState.NOT_OWNED) return UNOWNED;
  const read = (offset: number) => values.getBigUint64(at + offset, true);
  return entryOf({ state, state_ns: read(AT.state_ns), hash: read(AT.hash), claim_ns: read(AT.claim_ns) });
}

/** True if the kernel has released since it was claimed what the entry holds: then it does not count. */
const isReleased = (entry: Entry | undefined, releasedNs: bigint) =>
  entry !== undefined && isHeld(entry) && releasedNs >= entry.claimNs;

/** Reads the VIPs of both families. Those that the kernel has released count as not owned. */
function read(maps: Maps) {
  const entries = new Map<number, Map<Address, Entry>>();
  const released: Released[] = [];
  for (const part of partsOf(maps)) {
    forEach(part, (ifindex, address, valueAt) => {
      let its = entries.get(ifindex);
      if (!its) entries.set(ifindex, (its = new Map()));
      const entry = entryAt(part.values, valueAt);
      const isGone = isReleased(entry, part.values.getBigUint64(valueAt + AT.released_ns, true));
      if (isGone) released.push([ifindex, address]);
      its.set(address, isGone ? UNOWNED : entry);
    });
  }
  return { entries, released };
}

export const readEntries = (maps: Maps): Entries => read(maps).entries;

const byInterface = (released: readonly Released[]): ReadonlyMap<number, Address[]> =>
  new Map(
    [...Map.groupBy(released, ([ifindex]) => ifindex)].map(([ifindex, all]) => [ifindex, all.map(([, vip]) => vip)]),
  );

/**
 * The kernel's VIPs of both families: written through, and read back in parts. The entries as they should be are the
 * segments' own maps ({@link entriesOf}), so that there is one copy of them.
 */
export class VipTable {
  readonly #maps: Maps;
  readonly #writer: Writer;
  readonly #entries: Map<number, Map<Address, Entry>>;
  #parts: Iterator<Part> | undefined;
  #seen = 0;
  readonly room = new Room();

  /** Reads what an earlier speaker left. */
  constructor(maps: Maps, writer: Writer) {
    this.#maps = maps;
    this.#writer = writer;
    const { entries, released } = read(maps);
    this.#entries = entries;
    for (const [ifindex, its] of byInterface(released)) {
      this.write(
        ifindex,
        its.map((address) => [address, UNOWNED]),
      );
    }
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

  /** Reads the whole map: call it only where there is reason to. @returns VIPs that the kernel has released */
  released(ifindex: number): Address[] {
    const released: Address[] = [];
    const entries = this.#entries.get(ifindex);
    for (const part of partsOf(this.#maps)) {
      forEach(part, (on, address, valueAt) => {
        const releasedNs = part.values.getBigUint64(valueAt + AT.released_ns, true);
        if (on === ifindex && isReleased(entries?.get(address), releasedNs)) released.push(address);
      });
    }
    return released;
  }

  /** Like {@link released}, but only of the given VIPs. */
  releasedOf(ifindex: number, addresses: Iterable<Address>): Address[] {
    const entries = this.#entries.get(ifindex);
    const releasedNs = (address: Address) =>
      mapOf(this.#maps, address).getField(keyOf(ifindex, address), "released_ns") ?? 0n;
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
      this.write(ifindex, [...added]);
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

  /** Writes entries. @returns false where the kernel has no room for all */
  write(ifindex: number, set: readonly Change[]): boolean {
    return this.replace(ifindex, set, []);
  }

  /** Makes changes in their order. */
  #make(ifindex: number, changes: readonly Change[]): void {
    if (changes.length === 0) return; // most steps: the verification goes on
    this.#parts = undefined;
    for (let from = 0; from < changes.length; from += MAX_CHANGES) {
      const part = changes.slice(from, from + MAX_CHANGES);
      this.#writer.writeVips(part.length, (i, view, at) => {
        const [address, entry] = part[i]!;
        if (isIPv4(address)) view.setUint32(at + IN_CHANGE.ip, address);
        else {
          view.setBigUint64(at + IN_CHANGE.ip, address >> 64n);
          view.setBigUint64(at + IN_CHANGE.ip + 8, address);
          view.setUint8(at + IN_CHANGE.is_ipv6, 1);
        }
        view.setUint32(at + IN_CHANGE.ifindex, ifindex, true);
        if (!entry) view.setUint8(at + IN_CHANGE.is_removed, 1);
        if (!entry || entry === UNOWNED) return;
        const { state, state_ns, hash, claim_ns } = fieldsOf(entry);
        view.setUint16(at + IN_CHANGE.state, state, true);
        view.setBigUint64(at + IN_CHANGE.state_ns, state_ns, true);
        view.setBigUint64(at + IN_CHANGE.hash, hash, true);
        view.setBigUint64(at + IN_CHANGE.claim_ns, claim_ns, true);
      });
    }
  }

  /**
   * Writes entries, then removes others. A hash map gives a freed element to the next new entry at once, and a program that
   * is reading it would read that one's state: so removals come last, unless there is no room for both.
   * @returns false where there is no room for all of them: {@link room} says for how many there is
   */
  replace(ifindex: number, set: readonly Change[], gone: readonly Address[]): boolean {
    const removals = gone.map((address): Change => [address, undefined]);
    let isRefused = false;
    const make = () => {
      const order = isRefused ? [removals, set] : [set, removals];
      isRefused = true;
      this.#make(ifindex, order.flat());
    };
    const ownOf = (on: number, all: Iterable<Address>) => [...all].filter((one) => this.#entries.get(on)?.has(one));
    return this.room.asFits(
      make,
      () => [...readEntries(this.#maps)].flatMap(([on, its]) => ownOf(on, its.keys())).length,
    );
  }

  get #size(): number {
    return [...this.#entries.values()].reduce((sum, its) => sum + its.size, 0);
  }

  /** Removes all entries of an interface. */
  drop(ifindex: number): void {
    this.replace(ifindex, [], [...(this.#entries.get(ifindex)?.keys() ?? [])]);
    this.#entries.delete(ifindex);
  }

  /**
   * Reads the next part of the map back.
   * @returns the VIPs in it that are held here, though the kernel has released them; undefined where it does not hold what
   * was written: {@link mend} puts it right
   */
  verify(): ReadonlyMap<number, Address[]> | undefined {
    if (!this.#parts) {
      this.#parts = partsOf(this.#maps, PART);
      this.#seen = 0;
    }
    const released: Released[] = [];
    // After a map's last part, missing entries show.
    for (let count = 0; count < PART; ) {
      const { value, done } = this.#parts.next();
      if (done) {
        this.#parts = undefined;
        if (this.#seen !== this.#size) return undefined;
        break;
      }
      const part: Part = value;
      this.#seen += part.count;
      count = part.count;
      let isIntact = true;
      forEach(part, (ifindex, address, valueAt, check) => {
        const entry = this.#entries.get(ifindex)?.get(address);
        const isItsOwn = part.values.getBigUint64(valueAt + AT.check, true) === check;
        if (!entry || !isItsOwn || !isSame(entry, entryAt(part.values, valueAt))) isIntact = false;
        else if (isReleased(entry, part.values.getBigUint64(valueAt + AT.released_ns, true)))
          released.push([ifindex, address]);
      });
      if (!isIntact) return undefined;
    }
    return byInterface(released);
  }

  /** Writes what the map should hold, and removes what it should not. @param say takes the reason, where it is a fault */
  mend(say: (message: string) => void = () => {}): void {
    if (!this.room.isPartial) say(CHANGED);
    for (const [ifindex, its] of read(this.#maps).entries) {
      const stray = [...its.keys()].filter((address) => !this.#entries.get(ifindex)?.has(address));
      this.replace(ifindex, [], stray);
    }
    for (const [ifindex, entries] of this.#entries) if (!this.write(ifindex, [...entries])) return;
    this.room.isPartial = false;
  }
}

const decodeKey = (key: Uint8Array): VipKey => (key.length === vipKey.size ? vipKey : vip6Key).decode(key);

const isSame = (entry: Entry, found: Entry): boolean =>
  entry.state === found.state && (!isHeld(entry) || entry.claimNs === found.claimNs);
