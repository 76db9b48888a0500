import { MAX_VIPS } from "./abi.ts";
import { type Address, formatAddress } from "./address.ts";
import type { VipRange } from "./demand.ts";
import { bid, elect } from "./election.ts";

/** An interface of this node on which it announces. */
export interface AnnouncingInterface {
  ifindex: number;
  name: string;
}

/** One VIP on one interface, in one number: ifindex x 2^32 + address. */
export type EntryKey = number;

const SHIFT = 2 ** 32;
export const entryKey = (ifindex: number, address: Address): EntryKey => ifindex * SHIFT + address;
export const ifindexOf = (key: EntryKey): number => Math.floor(key / SHIFT);
export const addressOf = (key: EntryKey): Address => key % SHIFT;

/** What the kernel's map is to hold: each managed VIP, and whether it is owned here. */
export type Entries = ReadonlyMap<EntryKey, boolean>;

/** What ownership is a function of. */
export interface View {
  /** This node's name. */
  self: string;
  /** The nodes that the source names, of those the membership holds alive. */
  alive: readonly string[];
  vips: readonly VipRange[];
  interfaces: readonly AnnouncingInterface[];
}

const eligible = ({ alive }: View, range: VipRange) => {
  const { nodes } = range;
  return nodes ? alive.filter((node) => nodes.includes(node)) : alive;
};

/** Whether a name matches one of the globs: `*` is any text, `?` any character. */
export function matches(name: string, globs: readonly string[]): boolean {
  return globs.some((glob) => {
    const pattern = glob
      .replace(/[.+^${}()|[\]\\]/g, "\\$&")
      .replaceAll("*", ".*")
      .replaceAll("?", ".");
    return new RegExp(`^${pattern}$`).test(name);
  });
}

/**
 * The entries of this node: every VIP on every interface that announces it, owned where this node wins the election.
 * @throws Error where they are more than the kernel's map holds.
 */
export function entriesOf(view: View): Entries {
  const entries = new Map<EntryKey, boolean>();
  for (const range of view.vips) {
    const candidates = eligible(view, range);
    const announcing = view.interfaces.filter(({ name }) => !range.interfaces || matches(name, range.interfaces));
    const size = entries.size + (range.last - range.first + 1) * announcing.length;
    if (size > MAX_VIPS) {
      throw new Error(
        `Cannot hold ${size} or more entries (VIPs x announcing interfaces) in the kernel's map: it takes ${MAX_VIPS}. Take VIPs out, or announce them on fewer interfaces`,
      );
    }
    for (let address = range.first; address <= range.last; address++) {
      const isOwned = elect(candidates, formatAddress(address)) === view.self;
      for (const { ifindex } of announcing) entries.set(entryKey(ifindex, address), isOwned);
    }
  }
  return entries;
}

/** One node's standing for one VIP. */
export interface Standing {
  node: string;
  /** Why the node may not own it; undefined where it may. */
  excluded: string | undefined;
  /** SHA-256 of `node#address`, hex: among those who may, the lowest owns. */
  bid: string;
  isOwner: boolean;
}

const rangeOf = ({ vips }: View, address: Address) =>
  vips.find(({ first, last }) => first <= address && address <= last);

/** The node that owns the address; undefined where nobody does, or it is no VIP. */
export function ownerOf(view: View, address: Address): string | undefined {
  const range = rangeOf(view, address);
  return range && elect(eligible(view, range), formatAddress(address));
}

/** Why this node and not the others, the best bid first; undefined where the address is no VIP. */
export function standings(view: View, nodes: readonly string[], address: Address): Standing[] | undefined {
  const range = rangeOf(view, address);
  if (!range) return undefined;
  const owner = ownerOf(view, address);
  const all = nodes.map((node) => ({
    node,
    excluded: !view.alive.includes(node)
      ? "not alive"
      : range.nodes && !range.nodes.includes(node)
        ? "not among the VIP's nodes"
        : undefined,
    bid: bid(node, formatAddress(address)),
    isOwner: node === owner,
  }));
  const rank = ({ excluded, bid }: Standing) => `${excluded ? 1 : 0}${bid}`;
  return all.sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
}
