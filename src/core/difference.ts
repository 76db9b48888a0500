import { vipState } from "./abi.ts";
import type { Address } from "./address.ts";
import { Wish } from "./ownership.ts";
import { type Entry, isHeld, UNDECIDED, UNOWNED } from "./step.ts";
import { type Ns, SECOND } from "./time.ts";

/** How long a node goes on answering for a VIP that its view gives to another node: so a hand-over has no hole. */
export const LEAVE: Ns = SECOND;

const { OWNED, LEAVING } = vipState;

/** The change of one VIP: its next entry, and whether peers are asked for it first. */
export interface Change {
  entry: Entry;
  /** `own`: claimed; `standIn`: claimed on behalf of a headless node, and only if that node does not have it. */
  claim: "own" | "standIn" | undefined;
}

/**
 * Turns the entry that a VIP has into the one that is wanted.
 * @param entry undefined: it has none yet
 * @param mustAsk whether peers have to release the VIP before it is owned here
 * @param hash this node's rendezvous hash for it; called only where it becomes owned
 */
export function difference(
  wish: Wish,
  entry: Entry | undefined,
  now: Ns,
  mustAsk: boolean,
  hash: () => bigint,
): Change {
  const before = entry ?? UNOWNED;
  const hasLeft = before.state === LEAVING && before.untilNs <= now;
  const next = hasLeft ? UNOWNED : before;
  const stay = (entry: Entry): Change => ({ entry, claim: undefined });
  switch (wish) {
    case Wish.unknown:
      return stay(entry ? next : UNDECIDED);
    case Wish.nobody:
      return stay(UNOWNED);
    case Wish.other:
      // Alone, nobody would take it over from here: whoever owns it now answers already.
      if (next.state === OWNED) return stay(mustAsk ? { ...next, state: LEAVING, untilNs: now + LEAVE } : UNOWNED);
      return stay(next.state === LEAVING ? next : UNOWNED);
    default:
      if (next.state === OWNED) return stay(next);
      // A claim goes on or begins anew: one in the map may be that of a speaker that is no more.
      if (mustAsk) return { entry: next, claim: wish === Wish.ours ? "own" : "standIn" };
      if (next.state === LEAVING) return stay({ ...next, state: OWNED, untilNs: 0n });
      return stay({ state: OWNED, claimNs: now, untilNs: 0n, hash: hash() });
  }
}

export const isLeaving = (entry: Entry | undefined, now: Ns): boolean =>
  entry?.state === LEAVING && now < entry.untilNs;

/** Entries that are owned, and all. */
export function countEntries(entries: ReadonlyMap<Address, Entry>): { owned: number; managed: number } {
  let owned = 0;
  for (const { state } of entries.values()) if (state === OWNED) owned += 1;
  return { owned, managed: entries.size };
}

export const isInTransit = (entry: Entry | undefined): boolean => isHeld(entry) && entry!.state !== OWNED;
