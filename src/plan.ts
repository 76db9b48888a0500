import type { Config } from "./config/config.ts";
import { MAX_INTERFACES, MAX_PEERS, MAX_VIPS } from "./core/abi.ts";
import { type Address, formatAddress, having, isIPv4Range, neverVips, sizeOf, without } from "./core/address.ts";
import { FORMS, formatMac } from "./core/arp.ts";
import { type Demand, guardOf, isGuardRange, type VipRange } from "./core/demand.ts";
import { matches } from "./core/glob.ts";
import type { Electorate } from "./core/ownership.ts";
import type { SegmentPlan } from "./core/segment.ts";
import { toNs } from "./core/time.ts";
import type { Pace } from "./core/timetable.ts";
import { type Lack, lacksOf } from "./core/unserved.ts";
import {
  cannotAnnounceOn,
  cannotSpeakIPv6,
  type Defaults,
  isInSubnet,
  isNamed,
  isPodsWire,
  type Link,
} from "./link/links.ts";
import { fitting, others } from "./room.ts";

/** A link, and the VIPs that this node manages there. */
export interface PlannedLink {
  link: Link;
  /** VIPs that are announced there. */
  ranges: readonly VipRange[];
  /** VIPs that are never owned there: what this node's kernel has of them on `lo`, it must not answer there either. */
  guarded: readonly VipRange[];
  /** The link is only guarded: nothing is announced there, and no peer is looked for. */
  isGuard: boolean;
}

/** The result of a configuration, a source's demand and this machine's links. */
export interface Plan {
  config: Config;
  demand: Demand;
  links: readonly PlannedLink[];
  /** VIPs for which the kernel has no room, the oldest first. */
  leftOut: readonly VipRange[];
  /** It has none for VIPs that other nodes may have room for. */
  isShort: boolean;
  /** Why a configuration is to be refused as a whole; under one that is served already, these are warnings. */
  problems: readonly string[];
  /** Facts that are allowed, and probably not meant. */
  warnings: readonly string[];
  /** Facts that are meant so on some nodes, and to know on this one. */
  notes: readonly string[];
  /** Links without a guard, though a client could be there. */
  unguarded: readonly Link[];
  /** VIPs for interfaces that this node lacks. */
  lacks: readonly Lack[];
  /** The default gateways of this machine. */
  gateways: readonly Address[];
}

/** This machine's network, as far as plans go by it. */
export interface Network extends Defaults {
  links: readonly Link[];
  /** Interfaces on which this speaker or an earlier one has announced: by ifindex, their names. */
  served: ReadonlyMap<number, string>;
  /** Links on which nothing is announced though the configuration means them: by ifindex, why. */
  barred: ReadonlyMap<number, string>;
  /** How many entries the kernel has memory for, where these are not as many as its map takes. */
  room?: number | undefined;
}

/**
 * Takes over a changed configuration as far as it can be without a restart.
 * @param warn called for each key that takes effect with the next start
 * @throws Error where a key has changed that cannot be left as it was
 */
export function adoptConfig(next: Config, current: Config, warn: (message: string) => void): Config {
  requireRestart("node", next.node, current.node);
  requireRestart("membership.kind", next.membership.kind, current.membership.kind);
  const clusterOf = ({ source }: Config) => (source.kind === "file" ? source.cluster : "");
  requireRestart("source.cluster", clusterOf(next), clusterOf(current));
  const adopted = { ...next };
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

/** Works out what is to be managed where. It changes nothing, and throws nothing. */
export function makePlan(config: Config, demand: Demand, network: Network): Plan {
  const { chosen, problems, warnings, notes } = choose(config, demand, network);
  const able = chosen.map(speakable);
  const meant = able.map((each) => ({
    ...each,
    never: neverVips(network.gateways, each.link.addresses),
    others: each.ranges === demand.vips ? [] : others(demand.vips, each.ranges),
  }));
  const own = [...meant.flatMap((each) => refusals(each, config)), ...meant.flatMap(ownAddresses)];
  const { room = MAX_VIPS } = network;
  const { announced: fit, leftOut, isShort } = fitting(meant, demand, room, MAX_VIPS);
  const announced = fit.map(({ link, ranges, never, others }) => ({
    ...{ link, others },
    ranges: without(ranges, [...never.keys(), ...link.addresses.map(({ address }) => address)]),
  }));
  const names = chosen.map(({ link }) => link.name);
  const size = sum(announced.map(({ ranges }) => countAddresses(ranges)));
  const { links, unguarded } = guard(config, demand, network, announced, room - size);
  const peers = demand.nodes.length * announced.length;
  if (config.membership.kind === "wire" && peers > MAX_PEERS) problems.push(tooManyPeers(peers));
  // A file is refused for what it says; a Service of a cluster that cannot be served costs that Service alone.
  const refused = config.source.kind === "file" ? [...problems, ...own] : problems;
  const all = [
    ...problems,
    ...warnings,
    ...own,
    ...chosen.flatMap(unspoken),
    ...announced.flatMap(outside),
    ...unguarded.map(withoutGuard),
    ...(leftOut.length > 0 || room < MAX_VIPS ? [TOO_MANY] : []),
  ];
  return {
    config,
    demand,
    links,
    ...{ leftOut, isShort },
    problems: refused,
    warnings: [...new Set(all)],
    notes,
    unguarded,
    lacks: lacksOf(config.node, demand.vips, names),
    gateways: [...network.gateways],
  };
}

/** @throws Error in one or more lines where the plan's configuration is to be refused */
export function requireFit({ problems }: Plan): void {
  if (problems.length > 0) throw new Error(problems.join("\n"));
}

/** The plan of one segment. @param status what this node is, whatever the interface */
export function segmentPlan(
  { config, demand, gateways, isShort }: Plan,
  { link, ranges, guarded, isGuard }: PlannedLink,
  status: Pick<SegmentPlan, "isDrained" | "isEnding" | "isSourceStale" | "isOldSpoken">,
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
    gateways,
    ranges: guarded.length > 0 ? [...ranges, ...guarded] : ranges,
    ...status,
    // Others may have room for what this node leaves out: it stands back for them, as one whose source is stale.
    isSourceStale: status.isSourceStale || isShort,
    isShort,
    probes: isWire && !isGuard ? { interval: toNs(membership.interval), dead: membership.dead } : undefined,
    hold: toNs(config.hold),
    pace: paceOf(config.garp),
  };
}

/** The VIPs of an electorate that are announced, those left out that are only guarded. */
export const announcedOf = (electorate: Electorate | undefined): readonly VipRange[] =>
  electorate?.ranges.filter((range) => !isGuardRange(range)) ?? [];

/** The pace of announcements: in both forms, each takes two frames. */
export const paceOf = ({ refresh, rate, form }: Config["garp"]): Pace => ({
  refresh,
  rate: rate / FORMS[form].length,
});

/** The VIPs whose packets this node is to accept by itself: those that it may own. */
export function acceptedVips({ config, links }: Plan): Set<Address> {
  const { node, source } = config;
  const accepted = new Set<Address>();
  if (source.kind !== "file" || !source.accept) return accepted;
  for (const { first, last, nodes } of links.flatMap(({ ranges }) => ranges)) {
    if (nodes && !nodes.includes(node)) continue;
    for (let address = first; address <= last; address++) accepted.add(address);
  }
  return accepted;
}

export const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

export const countAddresses = (ranges: readonly VipRange[]): number => sum(ranges.map(sizeOf));

/** Without numbers, as these change all the time, and it is said once. */
const TOO_MANY = `Cannot hold all VIPs in the kernel's map, which takes ${MAX_VIPS} entries (VIPs x announcing interfaces) if there is memory for them: the youngest are left out on this node. isat status VIP says whether one is. Take VIPs out, announce them on fewer interfaces, or give isat more memory`;

const tooManyPeers = (peers: number) =>
  `Cannot hold ${peers} peers (nodes x announcing interfaces) in the kernel's map: it takes ${MAX_PEERS}. Nodes beyond that would answer for the same VIPs. Announce on fewer interfaces`;

/** A link on which VIPs are announced, and which ones. */
type Chosen = Pick<PlannedLink, "link" | "ranges">;
/** The addresses that are never VIPs there, with the reasons. */
type Meant = Chosen & { never: ReadonlyMap<Address, string> };

interface Choice {
  chosen: Chosen[];
  problems: string[];
  warnings: string[];
  notes: string[];
}

function choose(config: Config, demand: Demand, network: Network): Choice {
  const choice = config.interfaces
    ? chooseNamed(config.interfaces, demand, network)
    : chooseBySubnets(config, demand, network);
  const { length } = choice.chosen;
  if (length <= MAX_INTERFACES) return choice;
  const tooMany = `Cannot announce on ${length} interfaces as ${MAX_INTERFACES} are the most. Narrow interfaces:`;
  return { ...choice, chosen: choice.chosen.slice(0, MAX_INTERFACES), problems: [...choice.problems, tooMany] };
}

/**
 * The links that the configuration names, each with all VIPs. One configuration may be for nodes with different names, and
 * an interface may come later: so it is refused only where it means nothing that is there, and nothing that ever was.
 */
function chooseNamed(interfaces: readonly string[], { vips }: Demand, network: Network): Choice {
  const { links, served } = network;
  const meant = links.filter((link) => isNamed(link, interfaces));
  const why = (link: Link) => cannotAnnounceOn(link, links) ?? network.barred.get(link.ifindex);
  const fit = meant.filter((link) => why(link) === undefined);
  const unusable: string[] = [];
  const absent: string[] = [];
  for (const pattern of interfaces.filter((pattern) => !fit.some((link) => isNamed(link, [pattern])))) {
    const refused = meant.find((link) => isNamed(link, [pattern]));
    if (refused) unusable.push(`Cannot announce on ${pattern} as ${why(refused)}`);
    else absent.push(pattern);
  }
  const names = links.map(({ name }) => name).join(", ");
  const missing = absent.map((name) => `Cannot announce on ${name} as there is no such interface. There are: ${names}`);
  const isKnown = fit.length > 0 || [...served.values()].some((name) => matches(name, interfaces));
  return {
    chosen: fit.map((link) => ({ link, ranges: rangesOf(vips, (range) => isFor(range, link)) })),
    problems: isKnown ? [] : [...unusable, ...missing],
    warnings: fit.length > 0 ? unusable : [...unusable, ...missing],
    notes: fit.length > 0 ? absent.map((name) => `${name}: no interface of this node has that name (yet)`) : [],
  };
}

/**
 * True if nothing of the VIP's own says that it is announced elsewhere only. Altnames do not count, as in MetalLB: nodes tell
 * each other their interfaces' names, and all have to see alike who has one.
 */
const isFor = ({ interfaces }: VipRange, { name }: Link) => !interfaces || matches(name, interfaces);

/**
 * Without `interfaces:`, each VIP is announced where its own interfaces say, or where a subnet has it; where none has it, on
 * the default route's interface. What was announced on stays so: a route may be away for a moment.
 */
function chooseBySubnets({ excludeInterfaces, source }: Config, { vips }: Demand, network: Network): Choice {
  const { links, served, device, device6, barred } = network;
  const fit = links.filter(
    (link) => !cannotAnnounceOn(link, links) && !barred.has(link.ifindex) && !isNamed(link, excludeInterfaces),
  );
  const hasSubnet = ({ first, last }: VipRange, link: Link) => isInSubnet(link, first) || isInSubnet(link, last);
  const strays = new Set(vips.filter((range) => !range.interfaces && !fit.some((link) => hasSubnet(range, link))));
  const routedBy = (its: number | undefined) => {
    const routed = fit.filter(({ ifindex }) => ifindex === its);
    return new Set(routed.length > 0 ? routed : fit.filter(({ ifindex }) => served.has(ifindex)));
  };
  const [fallback4, fallback6] = [routedBy(device), routedBy(device6 ?? device)];
  const fallbackOf = (range: VipRange) => (isIPv4Range(range) ? fallback4 : fallback6);
  const isHere = (range: VipRange, link: Link) =>
    range.interfaces
      ? isFor(range, link)
      : hasSubnet(range, link) || (strays.has(range) && fallbackOf(range).has(link));
  const placed = fit.map((link) => ({ link, ranges: rangesOf(vips, (range) => isHere(range, link)) }));
  const hasAny = placed.some(({ ranges }) => ranges.length > 0);
  const fallback = fallback4.size > 0 ? fallback4 : fallback6;
  const isChosen = ({ link, ranges }: (typeof placed)[number]) =>
    served.has(link.ifindex) || (link.isUp && (hasAny ? ranges.length > 0 : fallback.has(link)));
  const chosen = placed.filter(isChosen);
  const names = fit.map(({ name }) => name).join(", ") || "an Ethernet interface";
  const stray = [...strays].find((range) => fallbackOf(range).size === 0);
  const why = stray && `${formatAddress(stray.first)} as no subnet has it, and there is no default route`;
  const isUnknown = fit.length === 0 || (!hasAny && fallback.size === 0);
  const refusal = `Cannot tell on which interface to announce ${why ?? "as there is no default route"}. Set interfaces: to one of ${names}`;
  const warnings = why || isUnknown ? [refusal] : [];
  // A cluster's VIPs come and go; those of a file are known.
  const isFatal = chosen.length === 0 && (fit.length === 0 || (why !== undefined && source.kind === "file"));
  return { chosen, problems: isFatal ? [refusal] : [], warnings, notes: [] };
}

/** The part of it that this node can answer: VIPs of IPv6 only where the interface has that family. */
const speakable = (chosen: Chosen): Chosen => {
  const ranges = cannotSpeakIPv6(chosen.link) ? rangesOf(chosen.ranges, isIPv4Range) : chosen.ranges;
  return { ...chosen, ranges };
};

/** VIPs of IPv6 on a link without it. */
function unspoken({ link, ranges }: Chosen): string[] {
  const reason = cannotSpeakIPv6(link);
  const lost = ranges.find((range) => !isIPv4Range(range));
  return reason && lost
    ? [`This node does not stand for VIPs of IPv6 (${formatAddress(lost.first)}) as ${reason}`]
    : [];
}

/** The VIPs that pass; the demand's own list where that is all of them. */
const rangesOf = (vips: readonly VipRange[], isHere: (range: VipRange) => boolean): readonly VipRange[] =>
  vips.every(isHere) ? vips : vips.filter(isHere);

const withoutGuard = ({ name }: Link) =>
  `Cannot keep this node silent about its VIPs on ${name} as the kernel's map is full, or a macvlan takes its frames. Set net.ipv4.conf.${name}.arp_ignore=1 and arp_announce=2, or take VIPs out`;

/**
 * Adds the guard: wherever a client could be, the kernel must not answer for a VIP that it has on `lo`, whether or not isat
 * announces there, and whatever it announces there.
 * @param room entries that the kernel's map has left
 */
function guard(
  { interfaces = [], excludeInterfaces }: Config,
  { vips }: Demand,
  { links, gateways, barred }: Network,
  announced: readonly (Chosen & { others: readonly VipRange[] })[],
  room: number,
): Pick<Plan, "links" | "unguarded"> {
  const known = new Set(announced.map(({ link }) => link));
  // A macvlan does not see the frames that programs drop on the device below it.
  const below = new Set(announced.map(({ link }) => link.over));
  const unguarded = links.filter((link) => !known.has(link) && below.has(link.ifindex));
  const isNetworks = (link: Link) =>
    !known.has(link) &&
    !unguarded.includes(link) &&
    !cannotAnnounceOn(link, links) &&
    !isNamed(link, excludeInterfaces) &&
    (!isPodsWire(link) || isNamed(link, interfaces) || barred.has(link.ifindex));
  const guards = links.filter(isNetworks).slice(0, MAX_INTERFACES - announced.length);
  const own = links.filter(({ name }) => name !== "lo").flatMap(({ addresses }) => addresses);
  const never = new Set([...gateways, ...own.map(({ address }) => address)]);
  // The kernel answers a solicitation only for addresses of the interface on which it comes in (ndisc_recv_ns()).
  const guarded = (ranges: readonly VipRange[]) => without(ranges.filter(isIPv4Range), never).map(guardOf);
  const everything = guards.length > 0 ? guarded(vips) : [];
  const wanted: PlannedLink[] = [
    ...announced.map(({ link, ranges, others }) => ({ link, ranges, guarded: guarded(others), isGuard: false })),
    ...guards.map((link) => ({ link, ranges: [], guarded: everything, isGuard: true })),
  ];
  let left = room;
  const planned = wanted.map((each) => {
    const count = countAddresses(each.guarded);
    const isTooMuch = left < count;
    if (isTooMuch) unguarded.push(each.link);
    else left -= count;
    return isTooMuch ? { ...each, guarded: [] } : each;
  });
  return { links: planned.filter(({ isGuard, guarded }) => !isGuard || guarded.length > 0), unguarded };
}

/**
 * VIPs that are the node's own address on an interface that announces them: its kernel would answer for them anyway.
 */
function ownAddresses({ link, ranges }: Chosen): string[] {
  return link.addresses
    .filter(({ address }) => ranges.some(having(address)))
    .map(
      ({ address }) =>
        `Cannot announce ${formatAddress(address)} as it is this node's own address on ${link.name}. Take it out of the VIPs, or off the interface (ip addr del)`,
    );
}

/** VIPs that are never answered for, with the lines of the file that name them. */
function refusals({ ranges, never }: Meant, { source }: Config): string[] {
  return [...never].flatMap(([address, reason]) => {
    if (!ranges.some(having(address))) return [];
    const line = source.kind === "file" ? source.vips.find(having(address))?.line : undefined;
    const where = line === undefined ? "" : ` (line ${line})`;
    return [`Cannot announce ${formatAddress(address)}${where} as ${reason}. Take it out of the VIPs`];
  });
}

/** A VIP outside every subnet of its interface: nobody on that wire asks for it, unless a route says so. */
function outside({ link, ranges }: Chosen): string[] {
  const isInside = (address: Address) => isInSubnet(link, address);
  const stray = ranges.find(({ first, last }) => !(isInside(first) && isInside(last)));
  if (!stray) return [];
  const text = formatAddress(isInside(stray.first) ? stray.last : stray.first);
  return [`${text} lies outside of every subnet of ${link.name}: nobody there asks for it unless a route says so`];
}
