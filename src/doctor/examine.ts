import { existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import process from "node:process";
import { programsInFront } from "../chain.ts";
import { readConfig } from "../config/config.ts";
import { readWireKeys } from "../config/keys.ts";
import type { Demand } from "../core/demand.ts";
import { Election, equals, Wish } from "../core/ownership.ts";
import { SECOND } from "../core/time.ts";
import { ffi } from "../ffi/ffi.ts";
import { bootTime } from "../ffi/libc.ts";
import { requireCapabilities } from "../kernel/capabilities.ts";
import { describeProgram, hasTcx, type Point, programIds } from "../kernel/hooks.ts";
import { ALL_POINTS, layoutFolder, pinnedProgramIds } from "../kernel/kernel.ts";
import { libbpf } from "../kernel/libbpf.ts";
import { readPinnedMaps } from "../kernel/object.ts";
import { requireBpffs } from "../kernel/pins.ts";
import { driverOf, stripsVlanTags } from "../link/ethtool.ts";
import { countGroups } from "../link/groups.ts";
import { type Filter, hasNativeXdp, readFilters } from "../link/hooked.ts";
import { Links } from "../link/links.ts";
import { makePlan, type Plan, type PlannedLink, requireFit } from "../plan.ts";
import { announcedBefore } from "../planner.ts";
import { fileDemand } from "../source/file.ts";
import { type Finding, type InterfaceFacts, judge, type MachineFacts } from "./judge.ts";

/** Stands for the demand of a cluster, which doctor does not contact. */
const NOTHING: Demand = { cluster: "", nodes: [], vips: [], checks: () => [] };

/** Runs the body. @returns its value, or the message of the error that it throws */
function attempt<T>(body: () => T): { value?: T; error?: string } {
  try {
    return { value: body() };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

function readText(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, "utf8").trim() : undefined;
}

const formatFilter = ({ direction, priority, kind, name, programId }: Filter) =>
  `clsact ${direction}, priority ${priority}: ${kind} ${name}${programId === undefined ? "" : `, program id ${programId}`}`;

function otherPrograms(ifindex: number, ownIds: ReadonlySet<number>): string[] {
  const attached = ALL_POINTS.filter(({ kind }) => kind !== "tc").flatMap((point: Point) =>
    programIds(ifindex, point)
      .filter((id) => !ownIds.has(id))
      .map((id) => `${point.kind} ${point.direction}: ${describeProgram(id)}`),
  );
  const filters = readFilters(ifindex).filter(({ programId }) => programId === undefined || !ownIds.has(programId));
  return [...attached, ...filters.map(formatFilter)];
}

/** The programs of others that run before isat's where it is attached. */
function programsBefore(ifindex: number, ownIds: ReadonlySet<number>): string[] {
  return ALL_POINTS.flatMap((point) => {
    const own = programIds(ifindex, point).find((id) => ownIds.has(id));
    return own === undefined ? [] : programsInFront(ifindex, point, own, (id) => ownIds.has(id));
  });
}

/** Peers that have answered a probe in the last seconds, by the kernel's map; undefined if there is no map. */
const heardPeers = (pinDir: string): string[] | undefined =>
  readPinnedMaps(layoutFolder(pinDir), ({ peers }) => {
    const RECENT = 5n * SECOND;
    const recent = [...peers.entries()].filter(([, { echoed_ns }]) => bootTime() - echoed_ns < RECENT);
    return [...new Set(recent.map(([, { node }]) => node))].sort();
  });

/** The number of VIPs that this node owns there if all nodes are alive. */
function countOwned({ config, demand }: Plan, { ranges }: PlannedLink): number {
  const election = new Election();
  election.hold({ self: config.node, ranges, ...equals(demand.nodes.map(({ name }) => name)) });
  return [...election.keys()].filter((address) => election.get(address) === Wish.ours).length;
}

function examineInterface(planned: PlannedLink, ownIds: ReadonlySet<number>, plan: Plan): InterfaceFacts {
  const { link } = planned;
  // The kernel takes the higher value of the two (ip-sysctl: "the maximum of conf/{all,interface}", or "at least one").
  const sysctl = (name: string) =>
    Math.max(...["all", link.name].map((of) => Number(readText(`/proc/sys/net/ipv4/conf/${of}/${name}`) ?? 0)));
  const bond = readText(`/proc/net/bonding/${link.name}`);
  return {
    name: link.name,
    driver: driverOf(link.name),
    hasNativeXdp: hasNativeXdp(link.ifindex),
    stripsVlanTags: stripsVlanTags(link.name),
    bondMode: bond && (/Bonding Mode: (.*)/.exec(bond)?.[1] ?? "unknown"),
    otherPrograms: otherPrograms(link.ifindex, ownIds),
    inFront: programsBefore(link.ifindex, ownIds),
    sysctls: { arp_ignore: sysctl("arp_ignore"), arp_announce: sysctl("arp_announce"), proxy_arp: sysctl("proxy_arp") },
    owned: countOwned(plan, planned),
    groups: countGroups(link.name),
  };
}

/** Collects the facts for `isat doctor`, without changing anything, and judges them. @throws ConfigError */
export function examineMachine(path: string): Finding[] {
  const config = readConfig(path);
  const { membership } = config;
  using links = new Links();
  const { value: plan, error: refused } = attempt(() => {
    const demand = config.source.kind === "file" ? fileDemand(config.source) : NOTHING;
    const network = {
      ...links.defaults(),
      links: links.read(),
      served: announcedBefore(config.pinDir),
      barred: new Map(),
    };
    const drafted = makePlan(config, demand, network);
    requireFit(drafted);
    return drafted;
  });
  const announcing = plan?.links.filter(({ isGuard }) => !isGuard) ?? [];
  const jit = readText("/proc/sys/net/core/bpf_jit_enable");
  // A fact that cannot be read is as if absent: the finding about capabilities or the bpffs gives the reason.
  const ownIds = attempt(() => pinnedProgramIds(config.pinDir)).value ?? new Set();
  const facts: MachineFacts = {
    release: release(),
    hasTcx: hasTcx(),
    hasBtf: existsSync("/sys/kernel/btf/vmlinux"),
    jit: jit === undefined ? undefined : Number(jit),
    capabilities: attempt(requireCapabilities).error,
    bpffs: attempt(() => requireBpffs(config.pinDir)).error,
    libbpf: libbpf.libbpf_version_string() ?? "unknown",
    ffi: ffi.name,
    runtime: "Deno" in globalThis ? "Deno" : `Node ${process.versions.node}`,
    hook: config.hook,
    garp: config.garp,
    membership,
    keys: membership.kind === "wire" ? attempt(() => readWireKeys(membership.keys)).error : undefined,
    heard: attempt(() => heardPeers(config.pinDir)).value,
    plan: refused,
    warnings: plan?.warnings ?? [],
    interfaces: announcing.map((planned) => examineInterface(planned, ownIds, plan!)),
  };
  return judge(facts);
}
