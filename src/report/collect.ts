import process from "node:process";
import type { Config } from "../config/config.ts";
import { isDrained } from "../control/drain.ts";
import { type InterfaceEntry, NO_VERDICTS, type Verdicts, vipState, nodeState as wireState } from "../core/abi.ts";
import { type Address, formatAddress } from "../core/address.ts";
import { formatMac } from "../core/arp.ts";
import type { Held } from "../core/difference.ts";
import { addressOf, type EntryKey, ifindexOf, ownerOf, standings } from "../core/ownership.ts";
import { ffi } from "../ffi/ffi.ts";
import { bootTime } from "../ffi/libc.ts";
import { Hooks } from "../kernel/hooks.ts";
import { layoutFolder, linksFolder } from "../kernel/kernel.ts";
import { type Maps, readPinnedMaps } from "../kernel/object.ts";
import { keyOf, readEntries } from "../kernel/vips.ts";
import type { Speaker } from "../speaker.ts";
import {
  type InterfaceStatus,
  type MemberStatus,
  nodeState,
  type SourceStatus,
  type Status,
  type VipStatus,
} from "./status.ts";

/** Written into runDir, so that `status` and `clean` find a speaker by its runDir alone, running or not. */
export interface RunFile {
  node: string;
  pid: number;
  pinDir: string;
  runDir: string;
  membership: Config["membership"]["kind"];
}

/** package.json's version; put in by the bundle. */
declare const ISAT_VERSION: string | undefined;
export const VERSION = typeof ISAT_VERSION === "undefined" ? "development" : ISAT_VERSION;

const NANOSECONDS = 1_000_000;

const age = (ns: bigint): number | undefined => (ns === 0n ? undefined : Number(bootTime() - ns) / NANOSECONDS);

/** Fields of the map's value that count nothing. */
const NO_COUNTERS = ["interface", "heard_ns", "own_ns"];

/** A node's state, as the wire has it. */
const stateName = (state: number) =>
  Object.entries(wireState)
    .find(([, value]) => value === state)![0]
    .toLowerCase()
    .replace("_", " ");

function interfaceStatus(ifindex: number, entry: InterfaceEntry, verdicts: Verdicts | undefined): InterfaceStatus {
  const tickAgeMs = age(entry.tick_ns);
  const [hold, fence, gone] = [entry.hold_ns, entry.fence_ns, entry.gone_ns].map((ns) => Number(ns) / NANOSECONDS) as [
    number,
    number,
    number,
  ];
  const counted = Object.entries(verdicts ?? NO_VERDICTS).filter(([name]) => !NO_COUNTERS.includes(name));
  return {
    name: entry.name,
    ifindex,
    mac: entry.mac_text,
    address: entry.address.join("."),
    isUp: undefined,
    hooks: [],
    state: stateOf(entry.state, nodeState(tickAgeMs, hold, fence, gone)),
    tickAgeMs,
    announcements: undefined,
    verdicts: Object.fromEntries(counted.map(([name, count]) => [name, Number(count)])) as InterfaceStatus["verdicts"],
  };
}

/** What the tick's age says, unless the node has said otherwise: the twin of state_of() in bpf/speak.h. */
function stateOf(said: number, byAge: InterfaceStatus["state"]): InterfaceStatus["state"] {
  if (["never ticked", "fenced", "gone"].includes(byAge)) return byAge;
  if (said === wireState.DRAINED) return "drained";
  if (said === wireState.LAGGING) return "lagging";
  return said === wireState.JOINING && byAge === "live" ? "joining" : byAge;
}

function interfaceStatuses(maps: Maps): InterfaceStatus[] {
  return [...maps.interfaces.entries()].map(([ifindex, entry]) =>
    interfaceStatus(ifindex, entry, maps.verdicts.get(ifindex)),
  );
}

const VIP_STATES = ["not owned", "owned", "claiming", "leaving"] as const;

/** @param ownerOf the node that owns an address, where that is known */
function vipStatuses(
  maps: Maps,
  entries: ReadonlyMap<EntryKey, Held>,
  only: Address | undefined,
  ownerOf: (key: EntryKey, isOwned: boolean) => string | undefined,
): VipStatus[] {
  const interfaces = new Map(maps.interfaces.entries());
  const keys = [...entries.keys()].filter((key) => only === undefined || addressOf(key) === only).sort((a, b) => a - b);
  const answers = new Map([...maps.answers.entries()].map(([key, value]) => [keyOf(key), value]));
  return keys.map((key) => {
    const { state } = entries.get(key)!;
    const isOwned = state === vipState.OWNED;
    const its = interfaces.get(ifindexOf(key));
    return {
      address: formatAddress(addressOf(key)),
      interface: its?.name ?? "",
      owner: ownerOf(key, isOwned),
      state: VIP_STATES[state],
      mac: isOwned ? its?.mac_text : undefined,
      answers: Number(answers.get(key)?.answered ?? 0n),
      lastAnswerMs: age(answers.get(key)?.last_answer_ns ?? 0n),
    };
  });
}

/** What is known beside the speaker, of where it takes its orders from. */
export interface Reports {
  /** Why the last change of the file was refused. */
  configError: string | undefined;
  /** What stands between the source and the VIPs, a line each. */
  sourceTroubles: readonly string[];
  source: SourceStatus | undefined;
}

/** What a running speaker tells of itself, without the VIPs. */
export function runningSummary(speaker: Speaker, reports: Reports): Omit<Status, "vips" | "standings"> {
  const { plan, points, maps, lastError, announcements, isAttached, contested } = speaker.view;
  const { config, links } = plan;
  const interfaces = interfaceStatuses(maps).map((each) => ({
    ...each,
    isUp: links.find(({ ifindex }) => ifindex === each.ifindex)?.isUp,
    hooks: points.map(
      (point) => `${point.kind} ${point.direction}: ${isAttached(each.ifindex, point) ? "attached" : "NOT ATTACHED"}`,
    ),
    announcements: announcements(each.ifindex),
  }));
  return {
    node: config.node,
    pid: process.pid,
    version: VERSION,
    ffi: ffi.name,
    pinDir: config.pinDir,
    runDir: config.runDir,
    members: memberStatuses(speaker),
    isDrained: speaker.isDrained,
    warnings: [...plan.warnings, ...reports.sourceTroubles],
    isSourceStale: speaker.isSourceStale,
    source: reports.source,
    contested,
    interfaces,
    configError: reports.configError,
    lastError,
  };
}

function memberStatuses(speaker: Speaker): MemberStatus[] {
  const { plan, members, standing } = speaker.view;
  const { config, demand, links } = plan;
  if (config.membership.kind === "static") {
    const known = { interface: undefined, isAlive: true, state: "listed", mac: undefined, echoedMs: undefined };
    return demand.nodes.map(({ name }) => ({ ...known, node: name }));
  }
  return links.flatMap(({ ifindex, name, mac }) => [
    {
      node: config.node,
      interface: name,
      isAlive: true,
      state: stateName(standing(ifindex).state),
      mac: formatMac(mac),
      echoedMs: undefined,
    },
    ...members(ifindex).map(({ peer, isAlive }) => ({
      node: peer.node,
      interface: name,
      isAlive,
      state: `${stateName(peer.state)}${peer.source_stale ? ", source stale" : ""}`,
      mac: formatMac(peer.mac),
      echoedMs: age(peer.echoed_ns),
    })),
  ]);
}

/** The status of a running speaker. @param only one VIP, with each node's standing; undefined: all of them */
export function runningStatus(speaker: Speaker, reports: Reports, only: Address | undefined): Status {
  const { plan, maps, entries } = speaker.view;
  return {
    ...runningSummary(speaker, reports),
    vips: vipStatuses(maps, entries, only, (key) => ownerOf(plan.view, ifindexOf(key), addressOf(key))),
    standings: only === undefined ? undefined : standings(plan.view, plan.demand, ifindexFor(entries, only), only),
  };
}

/** The first interface that announces the address. */
const ifindexFor = (entries: ReadonlyMap<EntryKey, Held>, address: Address) =>
  Math.min(...[...entries.keys()].filter((key) => addressOf(key) === address).map(ifindexOf));

/** The links that are pinned for a device. (A clsact filter has no link: it is not told without a speaker.) */
function pinnedHooks(pinDir: string, ifindex: number): string[] {
  const hooks = new Hooks(linksFolder(pinDir));
  const its = hooks.pinned().filter((pinned) => pinned.ifindex === ifindex);
  return its.map(({ point }) => {
    const state = hooks.hasDevice(point, ifindex) ? "attached" : "its device is gone";
    return `${point.kind} ${point.direction}: ${state}`;
  });
}

/** What stands in the kernel while no speaker runs; undefined where nothing does. */
export function pinnedStatus({ node, pinDir, runDir }: RunFile, only: Address | undefined): Status | undefined {
  return readPinnedMaps(layoutFolder(pinDir), (maps) => ({
    node,
    pid: undefined,
    version: VERSION,
    ffi: undefined,
    pinDir,
    runDir,
    members: [],
    isDrained: isDrained(runDir),
    warnings: [],
    isSourceStale: false,
    source: undefined,
    contested: 0,
    interfaces: interfaceStatuses(maps).map((each) => ({ ...each, hooks: pinnedHooks(pinDir, each.ifindex) })),
    vips: vipStatuses(maps, readEntries(maps), only, (_, isOwned) => (isOwned ? node : undefined)),
    configError: undefined,
    lastError: undefined,
    standings: undefined,
  }));
}
