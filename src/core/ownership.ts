import { MAX_VIPS } from "./abi.ts";
import { type Address, formatAddress } from "./address.ts";
import type { Check, Demand, VipRange } from "./demand.ts";
import { elect, hash } from "./election.ts";

/** An interface of this node on which it announces. */
export interface AnnouncingInterface {
  ifindex: number;
  name: string;
  /** The nodes that may own what is announced there; undefined: not known yet, and all stays as it is. */
  candidates: readonly string[] | undefined;
  /** Those of them whose speakers do not run: they keep what they have, and can ask for nothing. None where not given. */
  held?: readonly string[];
}

/** One VIP on one interface, in one number: ifindex x 2^32 + address. */
export type EntryKey = number;

const SHIFT = 2 ** 32;
export const entryKey = (ifindex: number, address: Address): EntryKey => ifindex * SHIFT + address;
export const ifindexOf = (key: EntryKey): number => Math.floor(key / SHIFT);
export const addressOf = (key: EntryKey): Address => key % SHIFT;

/**
 * Whose a VIP is to be. `unknown`: it stays as it is, for this node does not know its peers there yet. `stead`: it would be
 * a held node's, which cannot ask for it; this one, the next best, takes it if that one does not have it already, and keeps
 * it until that one asks.
 */
export const Wish = { unknown: 0, nobody: 1, other: 2, ours: 3, stead: 4 } as const;
export type Wish = (typeof Wish)[keyof typeof Wish];

/** Each managed VIP on each interface, and whose it is to be. */
export type Entries = ReadonlyMap<EntryKey, Wish>;

/** What ownership is a function of. */
export interface View {
  /** This node's name. */
  self: string;
  vips: readonly VipRange[];
  interfaces: readonly AnnouncingInterface[];
}

/** The nodes that stand for election, in the order of `candidates`. */
function eligible(candidates: readonly string[], { nodes }: VipRange): readonly string[] {
  return nodes ? candidates.filter((node) => nodes.includes(node)) : candidates;
}

/** Whether a name matches one of the globs: `*` is any text, `?` any character. */
export function matches(name: string, globs: readonly string[]): boolean {
  return globs.some((glob) => {
    if (glob === name) return true;
    if (!/[*?]/.test(glob)) return false;
    const pattern = glob
      .replace(/[.+^${}()|[\]\\]/g, "\\$&")
      .replaceAll("*", ".*")
      .replaceAll("?", ".");
    return new RegExp(`^${pattern}$`).test(name);
  });
}

const announces = ({ interfaces }: VipRange, name: string) => !interfaces || matches(name, interfaces);

/** The text that is hashed with each node's name for the VIP. */
export const hashText = (range: VipRange, address: Address): string => range.hashAs ?? formatAddress(address);

/** Who owns what, and what of it is not as it was. */
export interface Election {
  entries: Entries;
  /** The entries that came, went or are another's now; undefined: all may be. */
  changed: ReadonlySet<EntryKey> | undefined;
}

/**
 * The entries of this node: every VIP on every interface that announces it, and whose it is to be.
 * @param before the view and its entries of the last time, which are used up: what has not changed since is not elected anew
 * @throws Error where they are more than the kernel's map holds.
 */
export function entriesOf(view: View, before?: { view: View; entries: Entries }): Entries {
  return electAll(view, before).entries;
}

/**
 * {@link entriesOf}, and what changed: at 10,000 VIPs of which one changes, what is done for the others is what costs.
 * @param before its entries are used up: they may become the new ones
 */
export function electAll(view: View, before?: { view: View; entries: Entries }): Election {
  return before && areAlike(before.view, view) ? electChanged(view, before) : electAnew(view);
}

function tooMany(size: number): Error {
  return new Error(
    `Cannot hold ${size} or more entries (VIPs x announcing interfaces) in the kernel's map: it takes ${MAX_VIPS}. Take VIPs out, or announce them on fewer interfaces`,
  );
}

/** @throws Error where the VIPs are more entries than the kernel's map holds; without counting them one by one. */
export function refuseTooMany({ vips, interfaces }: Pick<View, "vips"> & { interfaces: readonly { name: string }[] }) {
  let size = 0;
  for (const range of vips) {
    for (const { name } of interfaces) if (announces(range, name)) size += range.last - range.first + 1;
  }
  if (size > MAX_VIPS) throw tooMany(size);
}

function electAnew(view: View): Election {
  refuseTooMany(view);
  const entries = new Map<EntryKey, Wish>();
  for (const range of view.vips) elect1(view, range, entries);
  return { entries, changed: undefined };
}

/** Puts the range's entries in. */
function elect1({ self, interfaces }: View, range: VipRange, entries: Map<EntryKey, Wish>): void {
  for (const { ifindex, name, candidates, held = [] } of interfaces) {
    if (!announces(range, name)) continue;
    const standing = candidates && eligible(candidates, range);
    for (let address = range.first; address <= range.last; address++) {
      entries.set(entryKey(ifindex, address), wish(standing, held, range, address, self));
    }
  }
}

/** Whether the same nodes stand on the same interfaces. */
function areAlike(before: View, now: View): boolean {
  const describe = ({ ifindex, name, candidates, held = [] }: AnnouncingInterface) =>
    `${ifindex} ${name} ${candidates?.join() ?? "?"} ${held.join()}`;
  return before.self === now.self && before.interfaces.map(describe).join() === now.interfaces.map(describe).join();
}

/** Of the ranges only those that are not as before: a source gives those that are as the same objects, or a file anew. */
function electChanged(view: View, before: { view: View; entries: Entries }): Election {
  const [gone, added] = differing(before.view.vips, view.vips);
  refuseTooMany({ vips: added, interfaces: view.interfaces });
  const changed = new Set<EntryKey>();
  const removed: EntryKey[] = [];
  for (const { first, last } of gone) {
    for (const { ifindex } of view.interfaces) {
      for (let address = first; address <= last; address++) removed.push(entryKey(ifindex, address));
    }
  }
  const fresh = new Map<EntryKey, Wish>();
  for (const range of added) elect1(view, range, fresh);
  // In the very map: at 10,000 entries a copy would be most of the work. So what is refused is refused before.
  const entries = before.entries as Map<EntryKey, Wish>;
  const isNew = (key: EntryKey) => !entries.has(key);
  const isGone = (key: EntryKey) => entries.has(key) && !fresh.has(key);
  const size = entries.size + [...fresh.keys()].filter(isNew).length - removed.filter(isGone).length;
  if (size > MAX_VIPS) throw tooMany(size);
  for (const key of removed) {
    entries.delete(key);
    changed.add(key);
  }
  for (const [key, its] of fresh) {
    entries.set(key, its);
    changed.add(key);
  }
  return { entries, changed };
}

/** The ranges of which only the one or the other list has an equal; most are alike, and stand where they stood. */
function differing(before: readonly VipRange[], now: readonly VipRange[]): [gone: VipRange[], added: VipRange[]] {
  const shorter = Math.min(before.length, now.length);
  let head = 0;
  while (head < shorter && before[head] === now[head]) head += 1;
  let tail = 0;
  while (tail < shorter - head && before[before.length - 1 - tail] === now[now.length - 1 - tail]) tail += 1;
  const [old, fresh] = [before.slice(head, before.length - tail), now.slice(head, now.length - tail)];
  const [oldSet, freshSet] = [new Set(old), new Set(fresh)];
  const gone = old.filter((range) => !freshSet.has(range));
  const added = fresh.filter((range) => !oldSet.has(range));
  const known = new Set(gone.map(describe));
  const same = new Set(added.map(describe).filter((text) => known.has(text)));
  const isUnlike = (range: VipRange) => !same.has(describe(range));
  return [gone.filter(isUnlike), added.filter(isUnlike)];
}

function wish(
  standing: readonly string[] | undefined,
  held: readonly string[],
  range: VipRange,
  address: Address,
  self: string,
): Wish {
  if (!standing) return Wish.unknown;
  if (standing.length === 0) return Wish.nobody;
  const winnerOf = (nodes: readonly string[]) =>
    nodes.length === 1 ? nodes[0] : elect(nodes, hashText(range, address));
  const winner = winnerOf(standing);
  if (winner === self) return Wish.ours;
  if (!held.includes(winner!)) return Wish.other;
  return winnerOf(standing.filter((node) => !held.includes(node))) === self ? Wish.stead : Wish.other;
}

const describe = ({ first, last, nodes, hashAs, interfaces }: VipRange) =>
  `${first}-${last} ${nodes?.join() ?? "*"} ${hashAs ?? ""} ${interfaces?.join() ?? "*"}`;

/** One node's standing for one VIP on one interface. */
export interface Standing {
  node: string;
  isAlive: boolean;
  /** What the source found, check by check. */
  checks: Check[];
  /** Why the node may not own it; undefined where it may. */
  excluded: string | undefined;
  /** SHA-256 of `node#address`, hex: among those who may, the lowest owns. */
  hash: string;
  isOwner: boolean;
}

const rangeOf = (vips: readonly VipRange[], address: Address) =>
  vips.find(({ first, last }) => first <= address && address <= last);

/** The node that owns the address on the interface; undefined where nobody does, or it is not announced there. */
export function ownerOf({ vips, interfaces }: View, ifindex: number, address: Address): string | undefined {
  const range = rangeOf(vips, address);
  const candidates = interfaces.find((each) => each.ifindex === ifindex)?.candidates;
  return range && candidates && elect(eligible(candidates, range), hashText(range, address));
}

/**
 * Why this node and not the others, the best hash first; undefined where the address is no VIP.
 * @param ifindex the interface on which it is asked
 */
export function standings(view: View, demand: Demand, ifindex: number, address: Address): Standing[] | undefined {
  const range = rangeOf(view.vips, address);
  if (!range) return undefined;
  const owner = ownerOf(view, ifindex, address);
  const candidates = view.interfaces.find((each) => each.ifindex === ifindex)?.candidates ?? [];
  const all = demand.nodes.map(({ name: node }) => {
    const isAlive = candidates.includes(node);
    const checks = demand.checks(address, node);
    const refused = checks.find(({ refusal }) => refusal !== undefined)?.refusal;
    const isAllowed = !range.nodes || range.nodes.includes(node);
    return {
      node,
      isAlive,
      checks,
      excluded: isAlive ? (isAllowed ? undefined : (refused ?? "not among the VIP's nodes")) : "not alive",
      hash: hash(node, hashText(range, address)),
      isOwner: node === owner,
    };
  });
  const rank = ({ excluded, hash }: Standing) => `${excluded ? 1 : 0}${hash}`;
  return all.sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
}
