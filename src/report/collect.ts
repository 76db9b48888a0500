import process from "node:process";
import { COUNTERS, type InterfaceEntry, NO_VERDICTS, vipState } from "../core/abi.ts";
import { type Address, compare, formatAddress, having } from "../core/address.ts";
import { formatMac } from "../core/arp.ts";
import { isGuardRange } from "../core/demand.ts";
import { ownerOf, ranking } from "../core/ownership.ts";
import type { Member } from "../core/peer.ts";
import { isFenced, isGone, stateName, stateOf } from "../core/state.ts";
import type { Entry } from "../core/step.ts";
import { type Ns, toMs } from "../core/time.ts";
import { ffi } from "../ffi/ffi.ts";
import { bootTime } from "../ffi/libc.ts";
import { Hooks } from "../kernel/hooks.ts";
import { layoutFolder, linksFolder } from "../kernel/kernel.ts";
import { type Maps, readPinnedMaps } from "../kernel/object.ts";
import { addressOf, type Entries, readEntries } from "../kernel/vips.ts";
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

/** @param ownerOf the node that owns an address, where that is known */
function vipStatuses(
  maps: Maps,
  entries: Entries,
  only: Address | undefined,
  ownerOf: (ifindex: number, address: Address, isOwned: boolean) => string | undefined,
): VipStatus[] {
  const interfaces = new Map(maps.interfaces.entries());
  const answers = new Map(
    [...maps.answers.entries()].map(([key, value]) => [`${key.ifindex} ${addressOf(key)}`, value]),
  );
  const all = [...entries].flatMap(([ifindex, its]) =>
    [...its].map(([address, entry]) => ({ ifindex, address, entry })),
  );
  const wanted = all.filter(({ address }) => only === undefined || address === only);
  wanted.sort((a, b) => a.ifindex - b.ifindex || compare(a.address, b.address));
  return wanted.map(({ ifindex, address, entry: { state } }) => {
    const isOwned = state === vipState.OWNED;
    const its = interfaces.get(ifindex);
    const answered = answers.get(`${ifindex} ${address}`);
    return {
      address: formatAddress(address),
      interface: its?.name ?? "",
      owner: ownerOf(ifindex, address, isOwned),
      state: VIP_STATES[state],
      mac: isOwned ? its?.mac_text : undefined,
      answers: Number(answered?.answered ?? 0n),
      lastAnswerMs: age(answered?.last_answer_ns ?? 0n),
    };
  });
}

/** What is known beside the speaker, of where it takes its orders from. */
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
    source: reports.source?.counts,
    contested: segments.reduce((sum, { contested }) => sum + contested, 0),
    interfaces,
    configError: reports.configError,
    lastError: snapshot.lastError,
  };
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

/** The entries of an interface, but for those of VIPs that are only guarded there. */
function announcedEntries({ entries, electorate, isGuard }: SegmentSnapshot): ReadonlyMap<Address, Entry> {
  if (!electorate?.ranges.some(isGuardRange)) return entries;
  if (isGuard) return new Map();
  const guarded = electorate.ranges.filter(isGuardRange);
  return new Map([...entries].filter(([address]) => !guarded.some(having(address))));
}

/** A running speaker's status. @param only one VIP, with each node's place in its election; undefined: all VIPs */
export function runningStatus(snapshot: Snapshot, reports: Reports, only: Address | undefined): Status {
  const { maps, segments, demand } = snapshot;
  const electorates = new Map(segments.map(({ link, electorate }) => [link.ifindex, electorate]));
  const entries: Entries = new Map(segments.map((segment) => [segment.link.ifindex, announcedEntries(segment)]));
  const announcing = only === undefined ? undefined : segments.find(({ link }) => entries.get(link.ifindex)!.has(only));
  return {
    ...runningSummary(snapshot, reports),
    vips: vipStatuses(maps, entries, only, (ifindex, address) => {
      const electorate = electorates.get(ifindex);
      return electorate && ownerOf(electorate, address);
    }),
    rankings: announcing?.electorate && ranking(announcing.electorate, demand, only!),
  };
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

const announcedOnly = (maps: Maps): Entries =>
  new Map([...readEntries(maps)].filter(([ifindex]) => maps.interfaces.get(ifindex)?.is_guard === false));

/** What the kernel's maps hold while no speaker runs; undefined if nothing is pinned. */
export function pinnedStatus(
  { node, pinDir, runDir }: Pick<Status, "node" | "pinDir" | "runDir">,
  isDrained: boolean,
  only: Address | undefined,
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
    vips: vipStatuses(maps, announcedOnly(maps), only, (_ifindex, _address, isOwned) => (isOwned ? node : undefined)),
  }));
}
