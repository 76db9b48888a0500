import process from "node:process";
import { type InterfaceEntry, NO_VERDICTS, type Verdicts } from "../core/abi.ts";
import { type Address, formatAddress } from "../core/address.ts";
import { addressOf, type Entries, ifindexOf, ownerOf, standings } from "../core/ownership.ts";
import { ffi } from "../ffi/ffi.ts";
import { bootTime } from "../ffi/libc.ts";
import { Hooks } from "../kernel/hooks.ts";
import { layoutFolder, linksFolder } from "../kernel/kernel.ts";
import { type Maps, readPinnedMaps } from "../kernel/object.ts";
import { keyOf, readEntries } from "../kernel/vips.ts";
import type { Speaker } from "../speaker.ts";
import { type InterfaceStatus, nodeState, type Status, type VipStatus } from "./status.ts";

/** Written into runDir, so that `status` and `clean` find a speaker by its runDir alone, running or not. */
export interface RunFile {
  node: string;
  pid: number;
  pinDir: string;
  runDir: string;
  /** ms */
  hold: number;
}

/** package.json's version; put in by the bundle. */
declare const ISAT_VERSION: string | undefined;
export const VERSION = typeof ISAT_VERSION === "undefined" ? "development" : ISAT_VERSION;

const NANOSECONDS = 1_000_000;

const age = (ns: bigint): number | undefined => (ns === 0n ? undefined : Number(bootTime() - ns) / NANOSECONDS);

function interfaceStatus(
  ifindex: number,
  entry: InterfaceEntry,
  verdicts: Verdicts | undefined,
  hold: number,
): InterfaceStatus {
  const tickAgeMs = age(entry.tick_ns);
  const [fence, gone] = [Number(entry.fence_ns) / NANOSECONDS, Number(entry.gone_ns) / NANOSECONDS];
  const counted = Object.entries(verdicts ?? NO_VERDICTS).filter(([name]) => name !== "interface");
  return {
    name: entry.name,
    ifindex,
    mac: entry.mac_text,
    address: entry.address.join("."),
    isUp: undefined,
    hooks: [],
    state: nodeState(tickAgeMs, hold, fence, gone),
    tickAgeMs,
    announcements: undefined,
    verdicts: Object.fromEntries(counted.map(([name, count]) => [name, Number(count)])) as InterfaceStatus["verdicts"],
  };
}

function interfaceStatuses(maps: Maps, hold: number): InterfaceStatus[] {
  return [...maps.interfaces.entries()].map(([ifindex, entry]) =>
    interfaceStatus(ifindex, entry, maps.verdicts.get(ifindex), hold),
  );
}

/** @param ownerOf the node that owns an address, where that is known */
function vipStatuses(
  maps: Maps,
  entries: Entries,
  only: Address | undefined,
  ownerOf: (address: Address, isOwned: boolean) => string | undefined,
): VipStatus[] {
  const interfaces = new Map(maps.interfaces.entries());
  const keys = [...entries.keys()].filter((key) => only === undefined || addressOf(key) === only).sort((a, b) => a - b);
  const answers = new Map([...maps.answers.entries()].map(([key, value]) => [keyOf(key), value]));
  return keys.map((key) => {
    const isOwned = entries.get(key) === true;
    const its = interfaces.get(ifindexOf(key));
    return {
      address: formatAddress(addressOf(key)),
      interface: its?.name ?? "",
      owner: ownerOf(addressOf(key), isOwned),
      state: isOwned ? "owned" : "not owned",
      mac: isOwned ? its?.mac_text : undefined,
      answers: Number(answers.get(key)?.answered ?? 0n),
      lastAnswerMs: age(answers.get(key)?.last_answer_ns ?? 0n),
    };
  });
}

/** What a running speaker tells of itself, without the VIPs. */
export function runningSummary(speaker: Speaker, configError: string | undefined): Omit<Status, "vips" | "standings"> {
  const { plan, points, maps, lastError, announcements, isAttached } = speaker.view;
  const { config, links } = plan;
  const interfaces = interfaceStatuses(maps, config.hold).map((each) => ({
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
    members: config.source.nodes.map((node) => ({ node, isAlive: plan.view.alive.includes(node) })),
    interfaces,
    configError,
    lastError,
  };
}

/** The status of a running speaker. @param only one VIP, with each node's standing; undefined: all of them */
export function runningStatus(speaker: Speaker, configError: string | undefined, only: Address | undefined): Status {
  const { plan, maps, entries } = speaker.view;
  return {
    ...runningSummary(speaker, configError),
    vips: vipStatuses(maps, entries, only, (address) => ownerOf(plan.view, address)),
    standings: only === undefined ? undefined : standings(plan.view, plan.config.source.nodes, only),
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

/** What stands in the kernel while no speaker runs; undefined where nothing does. */
export function pinnedStatus({ node, pinDir, runDir, hold }: RunFile, only: Address | undefined): Status | undefined {
  return readPinnedMaps(layoutFolder(pinDir), (maps) => ({
    node,
    pid: undefined,
    version: VERSION,
    ffi: undefined,
    pinDir,
    runDir,
    members: [],
    interfaces: interfaceStatuses(maps, hold).map((each) => ({ ...each, hooks: pinnedHooks(pinDir, each.ifindex) })),
    vips: vipStatuses(maps, readEntries(maps), only, (_, isOwned) => (isOwned ? node : undefined)),
    configError: undefined,
    lastError: undefined,
    standings: undefined,
  }));
}
