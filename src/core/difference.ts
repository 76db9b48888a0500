import { vipState } from "./abi.ts";
import { type Entries, type EntryKey, Wish } from "./ownership.ts";

/** What an entry of the kernel's map holds. Times are ns of CLOCK_BOOTTIME. */
export interface Held {
  readonly state: (typeof vipState)[keyof typeof vipState];
  /** When the claim began by which it is owned, or is to be. */
  readonly claimNs: bigint;
  /** LEAVING: not answered from then on. */
  readonly untilNs: bigint;
  /** The first 64 bits of this node's hash; the lower wins. */
  readonly hash: bigint;
}

/** Managed, and answered by some other node. */
export const UNOWNED: Held = Object.freeze({ state: vipState.NOT_OWNED, claimNs: 0n, untilNs: 0n, hash: 0n });

/** For so long a node goes on answering for a VIP that its view gives to another one, ns: a hand-over has no hole. */
export const LEAVE = 1_000_000_000n;

/** What turns the actual entries into the wanted ones. */
export interface Difference {
  set: [EntryKey, Held][];
  /** Entries that are to be owned, and of which peers must be asked first, or are being asked. */
  claim: EntryKey[];
  /** The same in a held node's stead: to be owned only if that one does not have it. */
  stead: EntryKey[];
  remove: EntryKey[];
}

export interface DifferenceOptions {
  now: bigint;
  /** Whether there are peers who must be asked before the entry is owned, or one of them has taken it a moment ago. */
  mustAsk(key: EntryKey): boolean;
  /** The hash that an entry is owned by. */
  hash(key: EntryKey): bigint;
  /** The entries that are looked at; undefined: all. */
  only?: Iterable<EntryKey> | undefined;
}

export function difference(
  wanted: Entries,
  actual: ReadonlyMap<EntryKey, Held>,
  { now, mustAsk, hash, only }: DifferenceOptions,
): Difference {
  const set: [EntryKey, Held][] = [];
  const claim: EntryKey[] = [];
  const stead: EntryKey[] = [];
  const remove: EntryKey[] = [];
  if (!only) for (const key of actual.keys()) if (!wanted.has(key)) remove.push(key);
  for (const key of only ?? wanted.keys()) {
    const wish = wanted.get(key);
    if (wish === undefined) {
      if (actual.has(key)) remove.push(key);
      continue;
    }
    const before = actual.get(key);
    let next = before ?? UNOWNED;
    const { state } = next;
    const isOver = state === vipState.LEAVING && next.untilNs <= now;
    if (isOver) next = UNOWNED;
    if (wish === Wish.nobody) next = state === vipState.NOT_OWNED ? next : UNOWNED;
    else if (wish === Wish.other) {
      if (state === vipState.OWNED) {
        // Without peers nobody would take it over from here: who owns it now answers already.
        next = mustAsk(key) ? { ...next, state: vipState.LEAVING, untilNs: now + LEAVE } : UNOWNED;
      }
      if (state === vipState.CLAIMING) next = UNOWNED;
    } else if (wish === Wish.ours || wish === Wish.stead) {
      // Alone, it is owned as before. A peer, when it came, may have had it too, and was not asked for what is leaving.
      if (state === vipState.LEAVING && !isOver && !mustAsk(key))
        next = { ...next, state: vipState.OWNED, untilNs: 0n };
      else if (state !== vipState.OWNED) {
        // Being asked for already, too: it may have been by a speaker that is no more.
        if (mustAsk(key)) (wish === Wish.ours ? claim : stead).push(key);
        else next = { state: vipState.OWNED, claimNs: now, untilNs: 0n, hash: hash(key) };
      }
    }
    if (next !== before) set.push([key, next]);
  }
  return { set, claim, stead, remove };
}
