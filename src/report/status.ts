import type { Counter } from "../core/abi.ts";
import type { Ranking } from "../core/ownership.ts";
import type { StateName } from "../core/state.ts";
import type { SourceReport } from "../source/source.ts";

export interface InterfaceStatus {
  name: string;
  ifindex: number;
  mac: string;
  address: string;
  /** Absent where no speaker runs, as are the announcements. */
  isUp?: boolean | undefined;
  /** `tcx ingress: attached`, ... */
  hooks: string[];
  state: StateName | "fenced" | "gone" | "never ticked";
  tickAgeMs: number | undefined;
  /** Gratuitous ARP frames that left. */
  announcements?: number | undefined;
  /** How often a machine that is no peer has said that it has a VIP that is owned here. */
  usurped?: number | undefined;
  verdicts: Record<Counter, number>;
}

export interface VipStatus {
  address: string;
  interface: string;
  /** undefined where no speaker runs, and another node owns it. */
  owner: string | undefined;
  state: "owned" | "not owned" | "claiming" | "leaving" | "undecided";
  /** The MAC that answers, where this node does. */
  mac: string | undefined;
  answers: number;
  lastAnswerMs: number | undefined;
}

/** A node as seen from here. */
export interface MemberStatus {
  node: string;
  /** Absent with static membership, where all are alive everywhere. */
  interface?: string;
  /** It answers probes; or it is deaf to them, and answers ARP. */
  isAlive: boolean;
  state: string;
  mac?: string;
  /** The id of the key that it signs with. */
  key?: number;
  /** VIPs whose claims it has left unanswered for more than a second, though it answers probes. */
  unanswered?: number | undefined;
  /** ms since it last answered a probe. */
  echoedMs?: number | undefined;
  /** The VIP or address of it for which it last answered ARP; absent where it never had to be asked. */
  arp?: { address: string; ms: number | undefined } | undefined;
}

/** The object that `isat status --json` prints. */
export interface Status {
  node: string;
  /** Absent where no speaker runs, and this is what stands in the kernel. */
  pid?: number;
  version: string;
  ffi?: string;
  pinDir: string;
  runDir: string;
  members: MemberStatus[];
  /** It is to give everything away and take nothing. */
  isDrained: boolean;
  /** This machine is being shut down by order. */
  isEnding: boolean;
  /** The source of the VIPs has been out of reach: what it said last is served. */
  isSourceStale: boolean;
  /** Absent where the source is a file, or no speaker runs. */
  source?: SourceReport["counts"];
  /** Faults that a person should know, and may mend. */
  warnings: string[];
  /** Facts that are meant so on some nodes, and to know on this one. */
  notes: readonly string[];
  /** Interfaces where isat keeps this node silent about VIPs, and announces nothing. */
  guards: readonly string[];
  /** VIPs that a peer has refused for more than a second. */
  contested: number;
  interfaces: InterfaceStatus[];
  vips: VipStatus[];
  /** Why the file on disk is not what is served. */
  configError?: string | undefined;
  lastError?: { at: string; message: string } | undefined;
  /** For one VIP that this node does not announce: why not. Absent where it does, or where the address is no VIP. */
  absent?: string | undefined;
  /** For one VIP: each node's place in its election, the lowest hash first. */
  rankings?: Ranking[] | undefined;
}

/** 850 ms, 12.0 s, 5 min: for a person. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 3_600_000)
    return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`.replace(" 0 s", "");
  return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} min`;
}

/** Columns padded to their widest cell. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
}

const ago = (ms: number | undefined) => (ms === undefined ? "never" : `${formatDuration(ms)} ago`);

/** 12 Services, 12 EndpointSlices; not announced: proxied 2. */
function formatSource({ services, endpointSlices, unreadable, skipped }: NonNullable<SourceReport["counts"]>): string {
  const left = Object.entries(skipped).filter(([, count]) => count > 0);
  const parts = [
    `${services} Services with an address, ${endpointSlices} EndpointSlices`,
    ...(unreadable > 0 ? [`${unreadable} objects that cannot be read`] : []),
    ...(left.length > 0 ? [`not announced: ${left.map(([why, count]) => `${why} ${count}`).join(", ")}`] : []),
  ];
  return parts.join("; ");
}

export function formatStatus(status: Status): string {
  const lines: string[] = [];
  const speaker = status.pid === undefined ? "no speaker runs; this is what stands in the kernel" : `pid ${status.pid}`;
  lines.push(`node ${status.node}: ${speaker}, pins ${status.pinDir}`);
  if (status.configError) lines.push(`CONFIG REFUSED, the old one is served: ${status.configError}`);
  if (status.lastError) lines.push(`last error, ${status.lastError.at}: ${status.lastError.message}`);
  for (const warning of status.warnings) lines.push(`WARNING: ${warning}`);
  for (const note of status.notes) lines.push(`note: ${note}`);
  if (status.isSourceStale) lines.push("SOURCE STALE: what it said last is served");
  if (status.source) lines.push(`source: ${formatSource(status.source)}`);
  if (status.isEnding) lines.push("SHUTTING DOWN: the other nodes take what they may own of its VIPs");
  if (status.isDrained) lines.push("DRAINED: this node owns nothing until isat undrain");
  if (status.contested > 0) lines.push(`${status.contested} VIPs are wanted here, and a peer does not give them`);
  if (status.members.length > 0) {
    const header = ["NODE", "INTERFACE", "ALIVE", "STATE", "MAC", "KEY", "LAST ECHO", "LAST ARP"];
    const rows = status.members.map((member) => [
      member.node,
      member.interface ?? "-",
      member.isAlive ? "alive" : "not alive",
      member.unanswered ? `${member.state}, answers no claims (${member.unanswered} VIPs wait)` : member.state,
      member.mac ?? "-",
      member.key === undefined ? "-" : String(member.key),
      member.echoedMs === undefined ? "-" : ago(member.echoedMs),
      member.arp ? `${member.arp.address}, ${ago(member.arp.ms)}` : "-",
    ]);
    lines.push("", ...table([header, ...rows]), "");
  }
  for (const each of status.interfaces) {
    const link = each.isUp === undefined ? "" : each.isUp ? ", up" : ", DOWN";
    lines.push(
      `interface ${each.name}: ${each.mac}, ${each.address}${link}, ${each.state}, tick ${ago(each.tickAgeMs)}`,
    );
    for (const hook of each.hooks) lines.push(`  hook ${hook}`);
    const counted = Object.entries(each.verdicts).filter(([, count]) => count > 0);
    lines.push(`  verdicts: ${counted.map(([name, count]) => `${name} ${count}`).join(", ") || "none yet"}`);
    if (each.usurped) lines.push(`  VIPs that others said to have: ${each.usurped} times`);
    if (each.announcements !== undefined) lines.push(`  announcements sent: ${each.announcements}`);
  }
  if (status.guards.length > 0) lines.push(`guarded, nothing is announced there: ${status.guards.join(", ")}`);
  const header = ["VIP", "OWNER", "STATE", "INTERFACE", "MAC", "ANSWERS", "LAST ANSWER"];
  const rows = status.vips.map((vip) => [
    vip.address,
    vip.owner ?? "another node",
    vip.state,
    vip.interface,
    vip.mac ?? "-",
    vip.state === "owned" || vip.answers > 0 ? String(vip.answers) : "-",
    vip.state === "owned" || vip.answers > 0 ? ago(vip.lastAnswerMs) : "-",
  ]);
  lines.push("", ...table([header, ...rows]));
  if (status.rankings?.length) lines.push("", ...formatRankings(status.rankings));
  return lines.join("\n");
}

function formatRankings(rankings: readonly Ranking[]): string[] {
  const checks = rankings[0]!.checks.map(({ what }) => what.toUpperCase());
  const rows = rankings.map(({ node, isAlive, checks, excluded, hash, isOwner }) => [
    node,
    isAlive ? "yes" : "no",
    ...checks.map(({ refusal }) => refusal ?? "yes"),
    `${hash.slice(0, 16)}…`,
    isOwner ? "owner" : (excluded ?? "allowed, but its hash is higher"),
  ]);
  return [
    "why: among the alive nodes allowed for the VIP, the lowest SHA-256 of node#address owns it",
    ...table([["NODE", "ALIVE", ...checks, "HASH", "SO"], ...rows]),
  ];
}
