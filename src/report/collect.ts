import process from "node:process";
import { list } from "../config/values.ts";
import { COUNTERS, type InterfaceEntry, NO_VERDICTS, vipState } from "../core/abi.ts";
import { type Address, compare, formatAddress, having, sizeOf } from "../core/address.ts";
import { formatMac } from "../core/arp.ts";
import { isGuardRange } from "../core/demand.ts";
import { matches } from "../core/glob.ts";
import { byAddress, ownerOf, type Ranking, ranking } from "../core/ownership.ts";
import type { Member } from "../core/peer.ts";
import { isFenced, isGone, stateName, stateOf } from "../core/state.ts";
import type { Entry } from "../core/step.ts";
import { type Ns, toMs } from "../core/time.ts";
import { ffi } from "../ffi/ffi.ts";
import { bootTime } from "../ffi/libc.ts";
import { Hooks } from "../kernel/hooks.ts";
import { layoutFolder, linksFolder } from "../kernel/kernel.ts";
import { type Maps, readPinnedMaps } from "../kernel/object.ts";
import { type Entries, keyOf, mapOf, readEntries } from "../kernel/vips.ts";
import type { SourceReport } from "../source/source.ts";
import type { SegmentSnapshot, Snapshot } from "./snapshot.ts";
import type { InterfaceStatus, MemberStatus, Status, VipStatus } from "./status.ts";

/** package.json's version; put in by the bundle. */
declare const ISAT_VERSION: string | undefined;
export const VERSION = typeof ISAT_VERSION === "undefined" ? "development" : ISAT_VERSION;

/** ms since a time; undefined where it never was. */
const age = (ns: Ns): number | undefined => (ns === 0n ? undefined : toMs(bootTime() - ns));

/** @param seen what is known of an interface beside the maps */
function interfaceStatuses(
  { interfaces, verdicts }: Maps,
  seen: (ifindex: number) => Pick<InterfaceStatus, "isUp" | "hooks" | "announcements" | "usurped">,
): InterfaceStatus[] {
  return [...interfaces.entries()].flatMap(([ifindex, entry]) => {
    if (entry.is_guard) return [];
    const its = verdicts.get(ifindex) ?? NO_VERDICTS;
    return {
      name: entry.name,
      ifindex,
      mac: entry.mac_text,
      address: entry.address.join("."),
      state: stateInWords(entry),
      tickAgeMs: age(entry.tick_ns),
      ...seen(ifindex),
      verdicts: Object.fromEntries(COUNTERS.map((name) => [name, Number(its[name])])) as InterfaceStatus["verdicts"],
    };
  });
}

/** The state that the kernel's programs see. */
function stateInWords(entry: InterfaceEntry): InterfaceStatus["state"] {
  const now = bootTime();
  if (entry.tick_ns === 0n) return "never ticked";
  if (isGone(entry, entry.heard_ns, now)) return "gone";
  return isFenced(entry, now) ? "fenced" : stateName(stateOf(entry, now));
}

const guardNames = ({ interfaces }: Maps): string[] =>
  [...interfaces.entries()].flatMap(([, { name, is_guard }]) => (is_guard ? [name] : []));

const VIP_STATES = ["not owned", "owned", "claiming", "leaving", "undecided"] as const;

/**
 * The VIPs one by one, so that who reads them can pause: 60,000 take some tenths of a second.
 * @param ownerOf the node that owns an address, where that is known
 */
function* vipStatuses(
  maps: Maps,
  entries: Entries,
  ownerOf: (ifindex: number, address: Address, isOwned: boolean) => string | undefined,
): Generator<VipStatus> {
  for (const ifindex of [...entries.keys()].sort((a, b) => a - b)) {
    const all = entries.get(ifindex)!;
    const its = maps.interfaces.get(ifindex);
    for (const address of [...all.keys()].sort(compare)) {
      const entry = all.get(address);
      if (!entry) continue; // it went while the reader paused
      const isOwned = entry.state === vipState.OWNED;
      const answered = mapOf(maps, address).get(keyOf(ifindex, address));
      yield {
        address: formatAddress(address),
        interface: its?.name ?? "",
        owner: ownerOf(ifindex, address, isOwned),
        state: VIP_STATES[entry.state],
        mac: isOwned ? its?.mac_text : undefined,
        answers: Number(answered?.answered ?? 0n),
        lastAnswerMs: age(answered?.last_answer_ns ?? 0n),
      };
    }
  }
}

/** The entry of one address alone; undefined: all. */
function only(entries: ReadonlyMap<Address, Entry>, address: Address | undefined): ReadonlyMap<Address, Entry> {
  if (address === undefined) return entries;
  const entry = entries.get(address);
  return new Map(entry && [[address, entry]]);
}

/** Facts beside the speaker: on where it takes its orders from. */
export interface Reports {
  /** Why the last change of the file was refused. */
  configError: string | undefined;
  /** undefined while isat starts. */
  source: SourceReport | undefined;
}

/** A running speaker's status, without the VIPs. */
export function runningSummary(snapshot: Snapshot, reports: Reports): Omit<Status, "vips" | "rankings"> {
  const { config, maps, segments } = snapshot;
  const interfaces = interfaceStatuses(maps, (ifindex) => {
    const segment = segments.find(({ link }) => link.ifindex === ifindex);
    const hooks = segment?.hooks.map(
      ({ kind, direction, isAttached }) => `${kind} ${direction}: ${isAttached ? "attached" : "NOT ATTACHED"}`,
    );
    return {
      isUp: segment?.link.isUp,
      hooks: hooks ?? [],
      announcements: segment?.announcements,
      usurped: segment?.usurped,
    };
  });
  return {
    node: config.node,
    pid: process.pid,
    version: VERSION,
    ffi: ffi.name,
    pinDir: config.pinDir,
    runDir: config.runDir,
    members: memberStatuses(snapshot),
    isDrained: snapshot.isDrained,
    isEnding: snapshot.isEnding,
    notes: snapshot.notes,
    guards: guardNames(maps),
    warnings: [...snapshot.warnings, ...(reports.source?.troubles ?? [])],
    isSourceStale: snapshot.isSourceStale,
    source: withPlan(reports.source?.counts, snapshot),
    contested: segments.reduce((sum, { contested }) => sum + contested, 0),
    interfaces,
    configError: reports.configError,
    lastError: snapshot.lastError,
  };
}

/** Addresses that the plan leaves out are counted beside those of the source, which knows no routes and no maps. */
function withPlan(counts: SourceReport["counts"], { demand, gateways, leftOut }: Snapshot): SourceReport["counts"] {
  const gateway = gateways.filter((address) => demand.vips.some(having(address))).length;
  return (
    counts && {
      ...counts,
      skipped: { ...counts.skipped, gateway, room: leftOut.reduce((sum, range) => sum + sizeOf(range), 0) },
    }
  );
}

function memberStatuses({ config, demand, segments, signs }: Snapshot): MemberStatus[] {
  if (config.membership.kind === "static") {
    return demand.nodes.map(({ name: node }) => ({ node, isAlive: true, state: "listed" }));
  }
  const own = { node: config.node, isAlive: true, ...(signs !== undefined && { key: signs }) };
  return segments.flatMap(({ link, state, members, unanswered }) => [
    { ...own, interface: link.name, state: stateName(state), mac: formatMac(link.mac) },
    ...members.map(({ heard, isAlive, isDeaf, hearing, presence: { answeredFor, answeredNs } }) => ({
      node: heard.name,
      interface: link.name,
      isAlive: isAlive || isDeaf || hearing !== undefined,
      state: isDeaf ? "deaf" : hearing ? "apart" : saidBy(heard),
      mac: formatMac(heard.mac),
      key: heard.keyId,
      echoedMs: age(heard.echoedNs),
      unanswered: unanswered.get(heard.node)?.count,
      arp: answeredFor === undefined ? undefined : { address: formatAddress(answeredFor), ms: age(answeredNs) ?? 0 },
    })),
  ]);
}

const saidBy = ({ state, sourceStale }: Member["heard"]) => `${stateName(state)}${sourceStale ? ", source stale" : ""}`;

/**
 * The entries of an interface, but for those of VIPs that are only guarded there.
 * @param address the only one to look for; undefined: all
 */
function announcedEntries({ entries, electorate, isGuard }: SegmentSnapshot, address: Address | undefined) {
  const all = only(entries, address);
  const guards = electorate?.ranges.filter(isGuardRange) ?? [];
  if (guards.length === 0) return all;
  if (isGuard) return new Map<Address, Entry>();
  if (address !== undefined) return guards.some(having(address)) ? new Map<Address, Entry>() : all;
  const guarded = byAddress(guards);
  return new Map([...all].filter(([its]) => !guarded.has(its)));
}

const isAnnounced = (segment: SegmentSnapshot, address: Address) => announcedEntries(segment, address).size > 0;

/** The VIPs of a running speaker, one by one. @param address the only one to tell of; undefined: all */
export function* runningVips({ maps, segments }: Snapshot, address: Address | undefined): Generator<VipStatus> {
  const entries = new Map(segments.map((segment) => [segment.link.ifindex, announcedEntries(segment, address)]));
  const owners = new Map(
    segments.map(({ link, electorate }) => {
      const ranges = address === undefined ? byAddress(electorate?.ranges ?? []) : undefined;
      const rangeOf = (its: Address) => (ranges ? ranges.get(its) : electorate?.ranges.find(having(its)));
      return [link.ifindex, (its: Address) => electorate && ownerOf(electorate, rangeOf(its), its)];
    }),
  );
  yield* vipStatuses(maps, entries, (ifindex, its) => owners.get(ifindex)?.(its));
}

/** Each node's place in the election for a VIP; undefined where no interface announces it. */
export function runningRankings({ segments, demand }: Snapshot, address: Address): Ranking[] | undefined {
  const electorate = segments.find((segment) => isAnnounced(segment, address))?.electorate;
  return electorate && ranking(electorate, demand, address);
}

/** The reason why this node does not announce a VIP; undefined where it does, or where the address is no VIP. */
export function whyAbsent({ demand, segments, leftOut }: Snapshot, address: Address): string | undefined {
  const range = demand.vips.find(having(address));
  if (!range || segments.some((segment) => isAnnounced(segment, address))) return undefined;
  const isLeftOut = leftOut.some(having(address));
  if (isLeftOut) return "a VIP, and left out on this node, as older ones take all room that the kernel's map has";
  const names = segments.filter(({ isGuard }) => !isGuard).map(({ link }) => link.name);
  const here = names.length > 0 ? `this node announces on ${list(names)}` : "this node announces on no interface";
  const { interfaces, nodes } = range;
  const isFor = interfaces && !names.some((name) => matches(name, interfaces));
  const why = isFor ? `it is for ${list(interfaces)} only, and ${here}` : `${here}; its warnings and notes say more`;
  return `a VIP, and not announced here: ${why}. ${nodes ? `The nodes that may own it: ${list(nodes) || "none"}` : "Any node may own it"}`;
}

/** The links that are pinned for a device. (A clsact filter has no link: it is not told without a speaker.) */
function pinnedHooks(pinDir: string, ifindex: number): string[] {
  const hooks = new Hooks(linksFolder(pinDir));
  const its = hooks.pinned().filter((pinned) => pinned.ifindex === ifindex);
  return its.map(({ point }) => {
    const state = hooks.hasDevice(point, ifindex) ? "attached" : "its device is gone";
    return `${point.kind} ${point.direction}: ${state}`;
  });
}

const announcedOnly = (maps: Maps, address: Address | undefined): Entries =>
  new Map(
    [...readEntries(maps)]
      .filter(([ifindex]) => maps.interfaces.get(ifindex)?.is_guard === false)
      .map(([ifindex, all]) => [ifindex, only(all, address)]),
  );

/** The status by the kernel's maps alone, while no speaker runs; undefined if nothing is pinned. */
export function pinnedStatus(
  { node, pinDir, runDir }: Pick<Status, "node" | "pinDir" | "runDir">,
  isDrained: boolean,
  address: Address | undefined,
): Status | undefined {
  return readPinnedMaps(layoutFolder(pinDir), (maps) => ({
    node,
    version: VERSION,
    pinDir,
    runDir,
    members: [],
    isDrained,
    warnings: [],
    notes: [],
    guards: guardNames(maps),
    isEnding: false,
    isSourceStale: false,
    contested: 0,
    interfaces: interfaceStatuses(maps, (ifindex) => ({ hooks: pinnedHooks(pinDir, ifindex) })),
    vips: [
      ...vipStatuses(maps, announcedOnly(maps, address), (_ifindex, _address, isOwned) => (isOwned ? node : undefined)),
    ],
  }));
}
