import type { Config } from "../config/config.ts";
import { UNSIGNED } from "../config/keys.ts";
import { paceOf } from "../plan.ts";
import { formatDuration } from "../report/status.ts";

/** Facts about one interface on which isat would announce. */
export interface InterfaceFacts {
  name: string;
  driver: string | undefined;
  /** The driver has XDP; undefined if the kernel does not report it (before Linux 6.3). */
  hasNativeXdp: boolean | undefined;
  stripsVlanTags: boolean;
  /** The bonding mode, as `active-backup 1`; undefined if the interface is not a bond. */
  bondMode: string | undefined;
  /** Programs of others at the hooks, as `tcx ingress: program id 7 (cil_from_netdev)`. */
  otherPrograms: string[];
  /** Those of them that run before isat's, so that isat owns nothing there. */
  inFront: string[];
  /** net.ipv4.conf.*, of the interface or of `all`, whichever is higher: that is what counts. */
  sysctls: { arp_ignore: number; arp_announce: number; proxy_arp: number };
  /** The number of VIPs that this node owns on the interface. */
  owned: number;
  /** The number of multicast groups that the NIC receives, for solicitations for VIPs of IPv6. */
  groups: number;
}

/** A switch may hold fewer groups, of all hosts together; a Linux bridge holds this number (mcast_hash_max). */
const MANY_GROUPS = 1_000;
const BRIDGE_GROUPS = 4_096;

/** Everything that `isat doctor` examines, before it judges. */
export interface MachineFacts extends Pick<Config, "hook" | "garp" | "membership"> {
  /** The kernel's release, as `6.18.1`. */
  release: string;
  hasTcx: boolean;
  hasBtf: boolean;
  /** net.core.bpf_jit_enable; undefined if hidden, as in network namespaces other than the first. */
  jit: number | undefined;
  capabilities: string | undefined;
  bpffs: string | undefined;
  libbpf: string;
  ffi: string;
  runtime: string;
  /** The error about the wire keys; undefined if they can be used, or if none are configured. */
  keys: string | undefined;
  /** Names of the peers that have answered a probe in the last seconds; undefined if isat does not run here. */
  heard: string[] | undefined;
  /** The error about a configuration that does not fit this machine, if any. */
  plan: string | undefined;
  warnings: readonly string[];
  interfaces: InterfaceFacts[];
}

export interface Finding {
  what: string;
  level: "ok" | "warning" | "error";
  found: string;
  /** The advice; absent if all is well. */
  advice?: string;
}

const ok = (what: string, found: string): Finding => ({ what, level: "ok", found });
const warning = (what: string, found: string, advice: string): Finding => ({ what, level: "warning", found, advice });
const error = (what: string, found: string, advice: string): Finding => ({ what, level: "error", found, advice });

function isAtLeast(version: string, wanted: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > wanted[0] || (major === wanted[0] && minor >= wanted[1]);
}

function judgeMachine(facts: MachineFacts): Finding[] {
  const { release, hasTcx, hasBtf, jit, capabilities, bpffs, libbpf, ffi, runtime, plan, warnings } = facts;
  const tcx = hasTcx ? "tcx" : "no tcx (Linux >= 6.6 has it): auto means clsact";
  return [
    isAtLeast(release, [5, 10])
      ? ok("kernel", `Linux ${release}, ${tcx}`)
      : error("kernel", `Linux ${release}`, "isat needs Linux 5.10 or newer"),
    capabilities === undefined
      ? ok("capabilities", "isat has CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW")
      : error("capabilities", capabilities, "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW"),
    hasBtf
      ? ok("BTF", "the kernel has BTF (/sys/kernel/btf/vmlinux)")
      : warning("BTF", "this kernel has no BTF", "isat works without it, but bpftool may not show the maps' fields"),
    jit === 0
      ? warning("JIT", "net.core.bpf_jit_enable is 0: programs are interpreted", "sysctl net.core.bpf_jit_enable=1")
      : ok("JIT", "programs are compiled"),
    isAtLeast(libbpf.replace(/^v/, ""), [1, 0])
      ? ok("libbpf", libbpf)
      : error("libbpf", libbpf, "isat needs libbpf 1.0 or newer (Debian: libbpf1)"),
    bpffs === undefined
      ? ok("bpffs", "mounted: pins outlive the process")
      : error("bpffs", bpffs, "mount -t bpf bpf /sys/fs/bpf"),
    ok("FFI", `${ffi}, under ${runtime}`),
    plan === undefined
      ? ok("configuration", "fits this machine")
      : error("configuration", plan, "correct the file: isat run would refuse it"),
    ...warnings.map((text) => warning("configuration", text, "correct the file, or route those addresses here")),
  ];
}

const subject = ({ name }: InterfaceFacts) => `interface ${name}`;

function judgeXdp(each: InterfaceFacts, { hook }: MachineFacts): Finding[] {
  const { driver, hasNativeXdp, stripsVlanTags } = each;
  const what = subject(each);
  const native = hasNativeXdp ? "in the driver" : hasNativeXdp === false ? "generic only" : "unknown to this kernel";
  const found = `driver ${driver ?? "unknown"}, XDP ${native}`;
  const isGeneric = hook === "xdp" && hasNativeXdp === false;
  const findings = [
    isGeneric ? warning(what, found, "generic XDP is no faster than tcx: set hook: tcx") : ok(what, found),
  ];
  if (hook === "xdp" && stripsVlanTags) {
    const advice = "isat run turns that off; if the NIC does not allow it, set hook: tcx";
    findings.push(warning(what, "the NIC strips VLAN tags, so that XDP cannot see them", advice));
  }
  return findings;
}

/** balance-tlb (5) and balance-alb (6) use several MACs, and alb rewrites ARP replies to balance receiving. */
function judgeBond(each: InterfaceFacts): Finding[] {
  const { bondMode } = each;
  if (bondMode === undefined) return [];
  const what = subject(each);
  const advice = "use active-backup or 802.3ad";
  if (bondMode.endsWith(" 6")) return [error(what, `bond mode ${bondMode} rewrites the MAC in ARP`, advice)];
  if (bondMode.endsWith(" 5")) {
    const found = `bond mode ${bondMode} sends from several MACs`;
    return [warning(what, found, `${advice}, or make sure that the switch accepts it`)];
  }
  return [ok(what, `bond mode ${bondMode}`)];
}

function judgeOtherPrograms(each: InterfaceFacts): Finding[] {
  const what = subject(each);
  const before = each.inFront.map((program) => {
    const advice = "detach it, or attach it after isat: until then this node owns nothing there";
    return error(what, `${program} runs before isat, and may keep ARP from it`, advice);
  });
  if (each.otherPrograms.length === 0) return [ok(what, "no other program at the hooks")];
  const advice = "make sure that it passes ARP on to isat (bpftool prog show id ID)";
  return [...before, ...each.otherPrograms.map((program) => warning(what, `another program: ${program}`, advice))];
}

function judgeSysctls(each: InterfaceFacts): Finding[] {
  const { arp_ignore, arp_announce, proxy_arp } = each.sysctls;
  const what = subject(each);
  const arp = `arp_ignore ${arp_ignore}, arp_announce ${arp_announce}: any value works, isat filters both directions`;
  if (proxy_arp === 0) return [ok(what, arp)];
  const found = "proxy_arp is on: the kernel answers for addresses that it routes";
  return [
    warning(
      what,
      found,
      `sysctl net.ipv4.conf.all.proxy_arp=0 net.ipv4.conf.${each.name}.proxy_arp=0, unless you need it`,
    ),
    ok(what, arp),
  ];
}

/** VIPs of IPv6 are asked for by groups, of which switches that snoop MLD hold a limited number. */
function judgeGroups(each: InterfaceFacts): Finding[] {
  if (each.groups === 0) return [];
  const found = `${each.groups} multicast groups for VIPs of IPv6`;
  const advice = `look how many groups the switches hold that snoop MLD (a Linux bridge: ${BRIDGE_GROUPS}, beyond which it stops snooping), or give VIPs the same last 24 bits`;
  return [each.groups > MANY_GROUPS ? warning(subject(each), found, advice) : ok(subject(each), found)];
}

/** Compares the time that it takes to announce all VIPs with the time between two refreshes. */
function judgePace(each: InterfaceFacts, { garp }: MachineFacts): Finding {
  const what = subject(each);
  const { rate } = paceOf(garp);
  const ms = (each.owned / rate) * 1000;
  const pace = `${each.owned} VIPs at ${rate}/s: a move takes ${formatDuration(ms)} to announce`;
  if (ms > garp.refresh) {
    const found = `${pace}, longer than the refresh of ${formatDuration(garp.refresh)}`;
    return error(what, found, "raise garp.rate, or garp.refresh");
  }
  return ms > 10_000 ? warning(what, pace, "raise garp.rate, if the switch does not police ARP") : ok(what, pace);
}

function judgeMembership({ membership, keys, heard }: MachineFacts): Finding[] {
  const what = "membership";
  if (membership.kind === "static") {
    return [ok(what, "static: every listed node counts as alive, so a dead one keeps its VIPs")];
  }
  const { interval, dead } = membership;
  const most = formatDuration(interval * (dead + 0.5));
  const findings = [ok(what, `wire: a peer is dead after ${dead} missed probes, at most ${most} after its last echo`)];
  if (keys !== undefined) findings.push(error("wire keys", keys, "isat run would refuse them"));
  else if (membership.keys.includes("none")) findings.push(warning("wire keys", UNSIGNED, SIGN));
  else findings.push(ok("wire keys", `${membership.keys[0]} signs, ${membership.keys.length} verify`));
  if (heard?.length === 0) {
    const advice =
      "let the switch pass EtherType 0x88b5, start isat on the other nodes, and give all of them the same key";
    findings.push(warning("peers", "none has answered a probe", advice));
  } else if (heard) findings.push(ok("peers", `${heard.join(", ")} answered`));
  return findings;
}

const SIGN = "head -c 32 /dev/urandom | base64 > /etc/isat/wire.key, chmod 600, and copy the file to every node";

function judgeGarp({ garp }: MachineFacts): Finding[] {
  const what = "gratuitous ARP";
  const polices = "for a switch that polices ARP (Cisco DAI disables a port at 15/s), set garp: { profile: guarded }";
  const rate = garp.rate > 15 ? `up to ${garp.rate}/s; ${polices}` : `up to ${garp.rate}/s: below what switches police`;
  const refresh = `refreshed every ${formatDuration(garp.refresh)}`;
  const tooOften = "H3C's active-ack ignores a new MAC for 60 s after each announcement: set garp.refresh to 95s";
  const tooRare = "a switch forgets a MAC after 300 s, and a frame may be lost: set garp.refresh to 95s";
  if (garp.refresh < 60_000) return [ok(what, rate), warning(what, refresh, tooOften)];
  if (garp.refresh > 100_000) return [ok(what, rate), warning(what, refresh, tooRare)];
  return [ok(what, rate), ok(what, refresh)];
}

/** Judges the facts: what is in order, and what to do about the rest. */
export function judge(facts: MachineFacts): Finding[] {
  return [
    ...judgeMachine(facts),
    ...judgeMembership(facts),
    ...judgeGarp(facts),
    ...facts.interfaces.flatMap((each) => [
      ...judgeXdp(each, facts),
      ...judgeBond(each),
      ...judgeOtherPrograms(each),
      ...judgeSysctls(each),
      ...judgeGroups(each),
      judgePace(each, facts),
    ]),
  ];
}

export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ what }) => what.length));
  return findings
    .map(({ what, level, found, advice }) => {
      const line = `${level.padEnd("warning".length)}  ${what.padEnd(width)}  ${found}`;
      return advice ? `${line}\n${" ".repeat("warning".length + width + 4)}-> ${advice}` : line;
    })
    .join("\n");
}
