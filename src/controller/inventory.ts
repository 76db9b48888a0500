/** Pools with what is used and free, and the Services that wait: what `isat ipam` shows. Pure. */
import {
  type Address,
  addressBytes,
  compare,
  formatAddress,
  isIPv4,
  isIPv4Range,
  overlap,
  type Range,
} from "../core/address.ts";
import type { Refusal } from "../core/ipam.ts";
import { countOf, type Family, familyOf, gives, inOrder, rangesOf } from "../core/pools.ts";
import { formatDuration, table } from "../report/status.ts";
import type { ClusterNode } from "../source/kubernetes/objects.ts";
import type { Labels } from "../source/kubernetes/selector.ts";
import { configuredPool } from "./metallb.ts";
import { type Facts, merged, nodesOwn, type PoolSpec } from "./pools.ts";
import { remarksOn } from "./remarks.ts";
import { type Served, type View, viewOf } from "./services.ts";
import type { ClusterConfig } from "./term.ts";

/** A cluster as it was read once. */
export interface Survey {
  services: unknown[];
  namespaces: Map<string, Labels>;
  nodes: ClusterNode[];
  metallb: PoolSpec[];
  leader: { name: string; renewed: number } | undefined;
  /** The resources that could not be read, and what follows. */
  notes: string[];
}

export function factsOf({ services, nodes, metallb }: Survey, { pools, source }: ClusterConfig): Facts {
  return {
    views: services.flatMap((service) => viewIfAny(service, source)),
    pools: inOrder(merged(pools.map(configuredPool), metallb)) as PoolSpec[],
    never: nodesOwn(nodes),
  };
}

function viewIfAny(service: unknown, served: Served): View[] {
  try {
    return [viewOf(service, served)];
  } catch {
    return []; // the controller's log names it
  }
}

/** The addresses of a pool of one family. */
export interface Count {
  /** All that Services may be given; about, where there are more than 2^53. */
  size: number;
  used: number;
  /** The rests of released addresses, and what answers on the wire, are known to the controller alone: they count as free. */
  free: number;
}

export interface Inventory {
  leader: { name: string; renewedMs: number } | undefined;
  /** In the order in which a Service comes to them. */
  pools: { name: string; addresses: string[]; autoAssign: boolean; ipv4?: Count; ipv6?: Count }[];
  /** The Services that lack something, the oldest first. */
  waiting: Told[];
  /** The Services that have an address that they would not be given any more. */
  kept: Told[];
  notes: readonly string[];
}

interface Told {
  service: string;
  addresses: readonly string[];
  reason: string;
  message: string;
  /** The time since which it is told so, ms. */
  sinceMs: number | undefined;
}

/** @param now ms since 1970 */
export function inventory(found: Survey, config: ClusterConfig, now: number): Inventory {
  const facts = factsOf(found, config);
  const { leader } = found;
  return {
    leader: leader && { name: leader.name, renewedMs: now - leader.renewed },
    ...counted(facts, now),
    notes: [...found.notes, ...remarksOn(facts.pools, facts.never).map(({ message }) => message)],
  };
}

/** @param now ms since 1970 */
export function counted({ views, pools, never }: Facts, now: number): Pick<Inventory, "pools" | "waiting" | "kept"> {
  const held = new Set(views.filter(({ type }) => type !== "none").flatMap(({ applicant }) => applicant.standing));
  const own = views
    .filter(({ type }) => type === "balancer")
    .sort((a, b) => a.applicant.created - b.applicant.created || (a.key < b.key ? -1 : 1))
    .map((view) => told(view, now));
  return {
    pools: pools.map((pool) => ({
      name: pool.name,
      addresses: pool.ranges.map(formatRange),
      autoAssign: pool.autoAssign,
      ...countIf("ipv4", pool, 4, held, never),
      ...countIf("ipv6", pool, 6, held, never),
    })),
    waiting: own.filter(({ reason }) => !DONE.includes(reason)),
    kept: own.filter(({ reason }) => reason === "Kept"),
  };
}

const DONE = ["Assigned", "Kept"];

/** Tells what the controller has told the Service: it knows more than can be read. */
function told({ key, ingress, condition, applicant }: View, now: number): Told {
  const its = { service: key, addresses: ingress };
  if (condition) {
    const { status, reason, message, since } = condition;
    const sinceMs = Number.isNaN(Date.parse(since)) ? undefined : now - Date.parse(since);
    // A family that may come later is no fault.
    return { ...its, reason: status === "False" && reason === "Assigned" ? "Pending" : reason, message, sinceMs };
  }
  if (ingress.length > 0) return { ...its, reason: "Assigned", message: "", sinceMs: undefined };
  return { ...its, reason: "Pending", message: "no controller has looked at it yet", sinceMs: now - applicant.created };
}

function countIf(
  name: "ipv4" | "ipv6",
  pool: PoolSpec,
  family: Family,
  held: ReadonlySet<Address>,
  never: ReadonlyMap<Address, Refusal>,
): { [its in typeof name]?: Count } {
  const ranges = distinct(rangesOf(pool, family));
  if (ranges.length === 0) return {};
  const within = (addresses: Iterable<Address>) =>
    [...addresses].filter((address) => familyOf(address) === family && gives(pool, address)).length;
  const avoided = pool.avoidBuggy && family === 4 ? ranges.reduce(countBuggy, 0) : 0;
  const size =
    countOf({ ...pool, ranges }, family) - avoided - within([...never.keys()].filter((address) => !held.has(address)));
  const used = within(held);
  return { [name]: { size, used, free: Math.max(0, size - used) } };
}

/** Merges ranges that overlap, so that no address counts twice. */
function distinct(ranges: readonly Range[]): Range[] {
  const merged: Range[] = [];
  for (const range of [...ranges].sort((a, b) => compare(a.first, b.first))) {
    const last = merged.at(-1);
    if (!last || !overlap(last, range)) merged.push({ ...range });
    else if (last.last < range.last) last.last = range.last;
  }
  return merged;
}

/** The addresses that end in .0 and .255. */
function countBuggy(sum: number, range: Range): number {
  if (!isIPv4Range(range)) return sum;
  const ends = (last: number, end: number) => Math.floor((last + 256 - end) / 256);
  const within = (end: number) => ends(range.last, end) - ends(range.first - 1, end);
  return sum + within(0) + within(255);
}

/** 10.9.0.0/24, or 10.9.0.10-10.9.0.19. */
export function formatRange({ first, last }: Range): string {
  if (first === last) return formatAddress(first);
  const bits = addressBytes(first).length * 8;
  const size = isIPv4(first) ? BigInt(Number(last) - first + 1) : (last as bigint) - first + 1n;
  const isBlock = (size & (size - 1n)) === 0n && BigInt(first) % size === 0n;
  return isBlock
    ? `${formatAddress(first)}/${bits - size.toString(2).length + 1}`
    : `${formatAddress(first)}-${formatAddress(last)}`;
}

/** For a person. */
export function formatInventory({ leader, pools, waiting, kept, notes }: Inventory): string {
  const lines = [
    leader
      ? `controller: ${leader.name} leads, seen ${formatDuration(Math.max(0, leader.renewedMs))} ago`
      : "controller: none leads, as far as can be read",
    ...notes.map((note) => `note: ${note}`),
    "",
  ];
  const count = (its: Count | undefined, of: keyof Count) => (its ? its[of].toLocaleString("en") : "-");
  const rows = pools.map(({ name, addresses, ipv4, ipv6, autoAssign }) => [
    name,
    ...(["used", "free"] as const).flatMap((of) => [count(ipv4, of), count(ipv6, of)]),
    autoAssign ? "" : "asked for",
    addresses.length > 4
      ? `${addresses.slice(0, 4).join(", ")} and ${addresses.length - 4} more`
      : addresses.join(", "),
  ]);
  const header = ["POOL", "USED IPv4", "IPv6", "FREE IPv4", "IPv6", "GIVEN IF", "ADDRESSES"];
  lines.push(...(pools.length > 0 ? table([header, ...rows]) : ["there is no pool"]));
  lines.push(...formatTold("WAITING", waiting), ...formatTold("KEEPS", kept));
  return lines.join("\n");
}

function formatTold(title: string, all: readonly Told[]): string[] {
  if (all.length === 0) return [];
  const rows = all.map(({ service, addresses, reason, message, sinceMs }) => [
    service,
    addresses.join(", ") || "-",
    sinceMs === undefined ? "-" : formatDuration(Math.max(0, sinceMs)),
    reason,
    message,
  ]);
  return ["", ...table([[title, "HAS", "SINCE", "REASON", "WHY"], ...rows])];
}
