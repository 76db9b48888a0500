import type { Config } from "./config/config.ts";
import { MAX_INTERFACES, MAX_VIPS } from "./core/abi.ts";
import { type Address, formatAddress, neverVips, type Range, without } from "./core/address.ts";
import { formatMac } from "./core/arp.ts";
import type { Demand, VipRange } from "./core/demand.ts";
import { matches } from "./core/glob.ts";
import type { SegmentPlan } from "./core/segment.ts";
import { toNs } from "./core/time.ts";
import { cannotAnnounceOn, type Link, type Links } from "./link/links.ts";

/** A configuration that says where to announce. */
export type ResolvedConfig = Config & { interfaces: string[] };

/** A link on which this node announces, and the VIPs that it manages there. */
export interface PlannedLink {
  link: Link;
  ranges: readonly VipRange[];
}

/** What a configuration, a source's demand and this machine's links come to. */
export interface Plan {
  config: ResolvedConfig;
  demand: Demand;
  links: readonly PlannedLink[];
  /** Entries in the kernel's map: VIPs x announcing interfaces. */
  size: number;
  /** Why a configuration is to be refused as a whole; under one that is served already, these are warnings. */
  problems: readonly string[];
  /** What is allowed, and probably not meant. */
  warnings: readonly string[];
}

/**
 * Decides where to announce if the configuration does not say: on the interface of the default route, as it is now. To be
 * asked once, at the start: a route that flaps later, or goes with a link that is set down, must not silence VIPs.
 * @throws Error where there is no default route
 */
export function resolveInterfaces(config: Config, links: Links): ResolvedConfig {
  if (config.interfaces) return { ...config, interfaces: config.interfaces };
  const route = links.defaultRoute();
  const all = links.read();
  const found = all.find(({ ifindex }) => ifindex === route);
  if (found) return { ...config, interfaces: [found.name] };
  const fit = all.filter((link) => cannotAnnounceOn(link, all) === undefined);
  const names = fit.map(({ name }) => name).join(", ") || "an Ethernet interface";
  throw new Error(
    `Cannot tell on which interface to announce as there is no default route. Set interfaces: to one of ${names}`,
  );
}

/**
 * Takes over a changed configuration as far as it can be without a restart.
 * @param warn called for each key that takes effect with the next start
 * @throws Error where a key has changed that cannot be left as it was
 */
export function adoptConfig(next: Config, current: ResolvedConfig, warn: (message: string) => void): ResolvedConfig {
  requireRestart("node", next.node, current.node);
  requireRestart("membership.kind", next.membership.kind, current.membership.kind);
  const adopted: ResolvedConfig = { ...next, interfaces: next.interfaces ?? current.interfaces };
  for (const key of ["hook", "pinDir", "runDir", "stateDir", "metrics"] as const) {
    if (JSON.stringify(next[key]) === JSON.stringify(current[key])) continue;
    warn(`${key} changed in the file: it takes effect when isat is started again`);
    Object.assign(adopted, { [key]: current[key] });
  }
  return adopted;
}

/** @throws Error where the value is another than it was */
export function requireRestart(key: string, value: string, before: string): void {
  if (value !== before) throw new Error(`${key} is now ${value}: that takes effect when isat is started again`);
}

/** Links on which nothing is announced though the configuration means them, by ifindex: why. */
export type Barred = ReadonlyMap<number, string>;

/**
 * Works out what is to be managed where. It changes nothing, and throws nothing.
 * @param gateways the default gateways of this node
 */
export function makePlan(
  config: ResolvedConfig,
  demand: Demand,
  links: readonly Link[],
  barred: Barred,
  gateways: ReadonlySet<Address> = new Set(),
): Plan {
  const { chosen, problems } = choose(config, links, barred);
  const meant = chosen.map((link) => {
    const never = neverVips(gateways, link.addresses);
    return { link, ranges: rangesOf(demand, link), never };
  });
  const own = [...meant.flatMap((each) => refusals(each, each.never, config)), ...meant.flatMap(ownAddresses)];
  const planned = meant.map(({ link, ranges, never }) => {
    const own = link.addresses.map(({ address }) => address);
    return { link, ranges: without(ranges, [...never.keys(), ...own]) };
  });
  const size = planned.reduce((sum, { ranges }) => sum + countAddresses(ranges), 0);
  if (size > MAX_VIPS) problems.push(tooMany(size));
  // A file is refused for what it says; a Service of a cluster that cannot be served costs that Service alone.
  const refused = config.source.kind === "file" ? [...problems, ...own] : problems;
  const warnings = [...problems, ...own, ...planned.flatMap(outside)];
  return { config, demand, links: planned, size, problems: refused, warnings: [...new Set(warnings)] };
}

/** @throws Error in one or more lines where the plan's configuration is to be refused */
export function requireFit({ problems }: Plan): void {
  if (problems.length > 0) throw new Error(problems.join("\n"));
}

/** The plan of one segment. @param status what this node is, whatever the interface */
export function segmentPlan(
  { config, demand }: Plan,
  { link, ranges }: PlannedLink,
  status: Pick<SegmentPlan, "isDrained" | "isSourceStale">,
): SegmentPlan {
  const { membership } = config;
  const isWire = membership.kind === "wire";
  return {
    name: link.name,
    mac: formatMac(link.mac),
    mtu: link.mtu,
    isUp: link.isUp,
    node: config.node,
    nodes: demand.nodes,
    ranges,
    ...status,
    probes: isWire ? { interval: toNs(membership.interval), dead: membership.dead } : undefined,
    hold: toNs(config.hold),
    pace: config.garp,
  };
}

/** Whether a plan has more entries than the kernel's map holds. */
export const isTooLarge = ({ size }: Plan): boolean => size > MAX_VIPS;

const countAddresses = (ranges: readonly VipRange[]) =>
  ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);

const tooMany = (size: number) =>
  `Cannot hold ${size} entries (VIPs x announcing interfaces) in the kernel's map: it takes ${MAX_VIPS}. Take VIPs out, or announce them on fewer interfaces`;

/** The links that the configuration means, and why others that it means cannot be used. */
function choose({ interfaces }: ResolvedConfig, links: readonly Link[], barred: Barred) {
  const meant = links.filter(({ name }) => matches(name, interfaces));
  const why = (link: Link) => cannotAnnounceOn(link, links) ?? barred.get(link.ifindex);
  const chosen = meant.filter((link) => why(link) === undefined);
  const problems: string[] = [];
  for (const pattern of interfaces) {
    if (chosen.some(({ name }) => matches(name, [pattern]))) continue;
    const refused = meant.find(({ name }) => matches(name, [pattern]));
    const names = links.map(({ name }) => name).join(", ");
    const reason = refused ? why(refused) : `there is no such interface. There are: ${names}`;
    problems.push(`Cannot announce on ${pattern} as ${reason}`);
  }
  if (chosen.length > MAX_INTERFACES) {
    problems.push(
      `Cannot announce on ${chosen.length} interfaces as ${MAX_INTERFACES} are the most. Narrow interfaces:`,
    );
  }
  return { chosen: chosen.slice(0, MAX_INTERFACES), problems };
}

/** The VIPs that are announced on a link; the demand's own list where that is all of them. */
function rangesOf({ vips }: Demand, { name }: Link): readonly VipRange[] {
  const isHere = ({ interfaces }: VipRange) => !interfaces || matches(name, interfaces);
  return vips.every(isHere) ? vips : vips.filter(isHere);
}

/** VIPs that are the node's own address on an interface that announces them: its kernel would answer for them anyway. */
function ownAddresses({ link, ranges }: PlannedLink): string[] {
  return link.addresses
    .filter(({ address }) => ranges.some(({ first, last }) => first <= address && address <= last))
    .map(
      ({ address }) =>
        `Cannot announce ${formatAddress(address)} as it is this node's own address on ${link.name}. Take it out of the VIPs, or off the interface (ip addr del)`,
    );
}

/** VIPs that are never answered for, with the lines of the file that name them. */
function refusals({ ranges }: PlannedLink, never: ReadonlyMap<Address, string>, { source }: ResolvedConfig): string[] {
  const has = (address: Address) => (range: Range) => range.first <= address && address <= range.last;
  return [...never].flatMap(([address, reason]) => {
    if (!ranges.some(has(address))) return [];
    const line = source.kind === "file" ? source.vips.find(has(address))?.line : undefined;
    const where = line === undefined ? "" : ` (line ${line})`;
    return [`Cannot announce ${formatAddress(address)}${where} as ${reason}. Take it out of the VIPs`];
  });
}

/** A VIP outside every subnet of its interface: nobody on that wire asks for it, unless a route says so. */
function outside({ link, ranges }: PlannedLink): string[] {
  const isInside = (address: Address) =>
    link.addresses.some(({ address: own, prefix }) => prefix === 0 || (own ^ address) >>> (32 - prefix) === 0);
  const stray = ranges.find(({ first, last }) => !(isInside(first) && isInside(last)));
  if (!stray) return [];
  const text = formatAddress(isInside(stray.first) ? stray.last : stray.first);
  return [`${text} lies outside of every subnet of ${link.name}: nobody there asks for it unless a route says so`];
}
