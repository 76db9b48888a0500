import { hash as digest } from "node:crypto";
import { type Address, formatAddress, having, isIPv4Range } from "./address.ts";
import type { Check, Demand, VipRange } from "./demand.ts";
import { matches } from "./glob.ts";
import { FEW } from "./presence.ts";

/**
 * A node's rendezvous hash for a VIP: SHA-256 of `node#address` in hex, so that strings sort as their bytes do. The lowest
 * hash wins. The rule is MetalLB's (internal/layer2, `usableNodes` sorted by sha256.Sum256(node + "#" + ip)), so that no
 * VIP moves when a cluster migrates from MetalLB.
 */
export function hash(node: string, address: string): string {
  return digest("sha256", `${node}#${address}`, "hex");
}

/** Scores are bounded by what two bytes hold. */
const MOST = 0xffff;

/**
 * A node's rank for a VIP: its hash, or where some nodes are preferred, that behind the complement of its score in two
 * bytes. So the lowest rank has the highest score, and kernels, which compare 64 bits, need not know of scores.
 */
export function rank(node: string, address: string, scores?: VipRange["scores"]): string {
  const its = hash(node, address);
  if (!scores) return its;
  const score = Object.hasOwn(scores, node) ? Math.min(scores[node]!, MOST) : 0;
  return `${(MOST - score).toString(16).padStart(4, "0")}${its}`;
}

/** The node with the lowest rank; undefined where there is none. The order of `nodes` plays no part. */
export function elect(nodes: readonly string[], address: string, scores?: VipRange["scores"]): string | undefined {
  let winner: string | undefined;
  let lowest = "";
  for (const node of nodes) {
    const its = rank(node, address, scores);
    if (winner === undefined || its < lowest) {
      winner = node;
      lowest = its;
    }
  }
  return winner;
}

/** A hash as the kernel compares it: the first 64 bits. */
export const hashNumber = (hex: string): bigint => BigInt(`0x${hex.slice(0, 16)}`);

/** The text that is hashed with each node's name for the VIP. */
export const hashText = (range: VipRange, address: Address): string => range.hashAs ?? formatAddress(address);

/** A node's rank for each address, as the kernel compares it. What is not ranked by its address alone takes memory. */
export function ranker(node: string, ranges: readonly VipRange[]): (address: Address) => bigint {
  const ranked = byAddress(ranges.filter(({ hashAs, scores }) => hashAs !== undefined || scores));
  return (address) => {
    const { hashAs = formatAddress(address), scores } = ranked.get(address) ?? {};
    return hashNumber(rank(node, hashAs, scores));
  };
}

/**
 * The wish for a VIP. `unknown`: it stays as it is, because this node does not know its peers yet. `standIn`: the winner
 * is headless (its control plane is down, so it cannot claim) and this node is the runner-up: it takes the VIP unless the
 * winner already answers it, and keeps it until the winner claims it.
 */
export const Wish = { unknown: 0, nobody: 1, other: 2, ours: 3, standIn: 4 } as const;
export type Wish = (typeof Wish)[keyof typeof Wish];

/** The inputs that decide who owns the VIPs of one interface. */
export interface Electorate {
  /** This node's name. */
  self: string;
  ranges: readonly VipRange[];
  /** Nodes that may own; undefined: not known yet. */
  candidates: readonly string[] | undefined;
  /** Those of them that are headless: they keep what they have, and cannot claim. */
  headless: readonly string[];
  /** Those that lag: they stand back where a fresh one may own the VIP, and go on where there is none. */
  lagging: readonly string[];
  /** Those whose source is fresh; not told where nobody lags. */
  fresh: readonly string[];
  /** The nodes that cannot answer for VIPs of IPv6 on this network. */
  onlyIPv4: readonly string[];
  /** The name by which each candidate is on this network, as it says itself; empty or absent: not known. */
  names: ReadonlyMap<string, string>;
}

const NO_NAMES: ReadonlyMap<string, string> = new Map();

/** The nodes that may own a VIP, while no more is known of them than that they are alive. */
export const equals = (candidates: readonly string[] | undefined) => ({
  candidates,
  ...{ headless: [], lagging: [], fresh: [], onlyIPv4: [], names: NO_NAMES },
});

/**
 * The candidates that may own the VIP, in the order of `candidates`: those of its own list of nodes that are on this network
 * by an interface that it names. A node does not manage a VIP where it has not the interface, and would answer nothing.
 */
function allowed(candidates: readonly string[], range: VipRange, { names, onlyIPv4 }: Electorate) {
  const { nodes, interfaces } = range;
  const able = onlyIPv4.length > 0 && !isIPv4Range(range) ? without(candidates, onlyIPv4) : candidates;
  const its = nodes ? able.filter((node) => nodes.includes(node)) : able;
  return interfaces ? its.filter((node) => hasInterface(names.get(node), interfaces)) : its;
}

/** @param name as the node says it; a node that speaks version 1 of the wire format does not */
const hasInterface = (name: string | undefined, interfaces: readonly string[]) => !name || matches(name, interfaces);

/** The allowed nodes that stand for election: all, but for those that lag where one of them is fresh. */
function eligible(nodes: readonly string[], { lagging, fresh }: Electorate): readonly string[] {
  if (lagging.length === 0 || !nodes.some((node) => fresh.includes(node))) return nodes;
  return nodes.filter((node) => !lagging.includes(node));
}

/** The managed VIPs of one interface and who is to own each: an election that is repeated where its inputs changed. */
export class Election {
  private electorate: Electorate | undefined;
  private readonly wishes = new Map<Address, Wish>();
  /** A few of the VIPs that each node wins. */
  private readonly shares = new Map<string, Set<Address>>();

  get(address: Address): Wish | undefined {
    return this.wishes.get(address);
  }

  keys(): IterableIterator<Address> {
    return this.wishes.keys();
  }

  get inputs(): Electorate | undefined {
    return this.electorate;
  }

  /** A few of the VIPs that the node wins; none where it wins none. */
  shareOf(node: string): readonly Address[] {
    return [...(this.shares.get(node) ?? [])];
  }

  /**
   * Holds the election. Among 10,000 VIPs of which one changed, only that one is elected anew.
   * @returns the addresses that came, went or may have another owner; `all`: any of them
   */
  hold(now: Electorate): ReadonlySet<Address> | "all" {
    const before = this.electorate;
    this.electorate = now;
    if (before && isSameVote(before, now)) {
      const changed = this.holdChanged(before.ranges, now);
      // The rest of a node's share is not known where the few of it that were kept are gone.
      const isKnown = [...this.shares.values()].every(({ size }) => size > 0);
      if (!isKnown) this.shares.clear();
      if (!isKnown) for (const range of now.ranges) this.holdFor(range, now);
      return changed;
    }
    this.wishes.clear();
    this.shares.clear();
    for (const range of now.ranges) this.holdFor(range, now);
    return "all";
  }

  private holdFor(range: VipRange, electorate: Electorate, changed?: Set<Address>): void {
    const { candidates, headless } = electorate;
    const nodes = candidates && allowed(candidates, range, electorate);
    const standing = nodes && eligible(nodes, electorate);
    // A lagging node stands in where only headless ones are fresh.
    const able = nodes && headless.length > 0 ? eligible(without(nodes, headless), electorate) : [];
    for (let address = range.first; address <= range.last; address++) {
      const winner = standing && winnerOf(standing, range, address);
      const its = winner === undefined ? Wish.nobody : wish(winner, able, electorate, range, address);
      this.wishes.set(address, standing ? its : Wish.unknown);
      changed?.add(address);
      if (winner !== undefined && winner !== electorate.self) this.keepSome(winner, address);
    }
  }

  private keepSome(winner: string, address: Address): void {
    const share = this.shares.get(winner) ?? new Set();
    if (share.size < FEW) this.shares.set(winner, share.add(address));
  }

  private holdChanged(before: readonly VipRange[], now: Electorate): ReadonlySet<Address> {
    const [gone, added] = differing(before, now.ranges);
    const changed = new Set<Address>();
    for (const { first, last } of gone) {
      for (let address = first; address <= last; address++) {
        this.wishes.delete(address);
        for (const share of this.shares.values()) share.delete(address);
        changed.add(address);
      }
    }
    for (const range of added) this.holdFor(range, now, changed);
    return changed;
  }
}

/** True if the same nodes stand for election. */
function isSameVote(before: Electorate, now: Electorate): boolean {
  const describe = ({ self, candidates, headless, lagging, fresh, onlyIPv4, names }: Electorate) =>
    [self, candidates ?? "?", headless, lagging, fresh, onlyIPv4, ...names.values()].join(" ");
  return describe(before) === describe(now);
}

/** The ranges of which only one of the lists has an equal. Most are the same objects, where they were. */
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
  const known = new Set(gone.map(rangeText));
  const same = new Set(added.map(rangeText).filter((text) => known.has(text)));
  const isUnlike = (range: VipRange) => !same.has(rangeText(range));
  return [gone.filter(isUnlike), added.filter(isUnlike)];
}

const rangeText = ({ first, last, nodes, hashAs, scores, interfaces }: VipRange) =>
  `${typeof first} ${first}-${last} ${nodes?.join() ?? "*"} ${hashAs ?? ""} ${JSON.stringify(scores)} ${interfaces?.join() ?? "*"}`;

const without = (nodes: readonly string[], left: readonly string[]) => nodes.filter((node) => !left.includes(node));

const winnerOf = (names: readonly string[], range: VipRange, address: Address) =>
  names.length <= 1 ? names[0] : elect(names, hashText(range, address), range.scores);

/** @param able those that stand for election once the headless ones are left out */
function wish(
  winner: string,
  able: readonly string[],
  { self, headless }: Electorate,
  range: VipRange,
  address: Address,
): Wish {
  if (winner === self) return Wish.ours;
  if (!headless.includes(winner)) return Wish.other;
  return winnerOf(able, range, address) === self ? Wish.standIn : Wish.other;
}

/** One node's place in the election for one VIP. */
export interface Ranking {
  node: string;
  isAlive: boolean;
  /** The source's checks, one by one. */
  checks: Check[];
  /** Why the node may not own the VIP; undefined where it may. */
  excluded: string | undefined;
  /** The rendezvous hash, hex, behind the score if there are any: among those who may own, the lowest owns. */
  hash: string;
  isOwner: boolean;
}

const NO_IPV6 = "it cannot speak IPv6 on this network: its interface has no link-local address, or its isat is too old";
const LAGS = "it lags: its source is stale, and a node with a fresh one may own the VIP";

/** The node that the election names for an address of the range; undefined where it names nobody. */
export function ownerOf(electorate: Electorate, range: VipRange | undefined, address: Address): string | undefined {
  const { candidates } = electorate;
  if (!range || !candidates) return undefined;
  return elect(eligible(allowed(candidates, range, electorate), electorate), hashText(range, address), range.scores);
}

/** The range of each address. */
export function byAddress(ranges: readonly VipRange[]): Map<Address, VipRange> {
  const ranged = new Map<Address, VipRange>();
  for (const range of ranges) {
    for (let address = range.first; address <= range.last; address++) ranged.set(address, range);
  }
  return ranged;
}

/** Why this node and not the others, the lowest hash first; undefined where the address is no VIP of the interface. */
export function ranking(electorate: Electorate, demand: Demand, address: Address): Ranking[] | undefined {
  const range = electorate.ranges.find(having(address));
  if (!range) return undefined;
  const owner = ownerOf(electorate, range, address);
  const { candidates = [] } = electorate;
  const standing = eligible(allowed(candidates, range, electorate), electorate);
  const all = demand.nodes.map(({ name: node }) => {
    const isAlive = candidates.includes(node);
    const checks = demand.checks(address, node);
    const refused = checks.find(({ refusal }) => refusal !== undefined)?.refusal;
    const isAllowed = !range.nodes || range.nodes.includes(node);
    const name = electorate.names.get(node);
    const has = !range.interfaces || hasInterface(name, range.interfaces);
    const lacks = `it is on this network by ${name}, and the VIP is for ${range.interfaces?.join(", ")} only`;
    const cannot = electorate.onlyIPv4.includes(node) && !isIPv4Range(range) ? NO_IPV6 : undefined;
    const unfit = !isAllowed ? (refused ?? "not among the VIP's nodes") : (cannot ?? (has ? LAGS : lacks));
    return {
      node,
      isAlive,
      checks,
      excluded: standing.includes(node) ? undefined : isAlive ? unfit : "not alive",
      hash: rank(node, hashText(range, address), range.scores),
      isOwner: node === owner,
    };
  });
  const place = ({ excluded, hash }: Ranking) => `${excluded ? 1 : 0}${hash}`;
  return all.sort((a, b) => (place(a) < place(b) ? -1 : 1));
}
