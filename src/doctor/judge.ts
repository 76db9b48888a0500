import type { Config } from "../config/config.ts";
import { UNSIGNED } from "../config/keys.ts";
import { formatDuration } from "../report/status.ts";

/** What is known of one interface on which isat would announce. */
export interface InterfaceFacts {
  name: string;
  driver: string | undefined;
  /** Whether the driver runs XDP itself and transmits from it; undefined: the kernel does not tell (before 6.3). */
  xdp: { isNative: boolean; transmits: boolean } | undefined;
  stripsVlanTags: boolean;
  /** The bonding mode, as `active-backup 1`; undefined where it is no bond. */
  bondMode: string | undefined;
  /** Programs other than isat's at the hooks, with the hook, as `tcx ingress: program id 7 (cil_from_netdev)`. */
  otherPrograms: string[];
  /** net.ipv4.conf.<interface>.* */
  sysctls: { arp_ignore: number; arp_announce: number; proxy_arp: number };
  /** VIPs that this node owns on it. */
  owned: number;
}

/** What `doctor` finds out, before it judges. */
export interface Facts {
  /** As `6.18.1`. */
  release: string;
  hasTcx: boolean;
  hasBtf: boolean;
  /** net.core.bpf_jit_enable; undefined where the kernel does not show it, as outside of the first network namespace. */
  jit: number | undefined;
  /** Why the process may not; undefined where it may. */
  capabilities: string | undefined;
  bpffs: string | undefined;
  libbpf: string;
  ffi: string;
  runtime: string;
  hook: Config["hook"];
  garp: Config["garp"];
  membership: Config["membership"];
  /** Why the wire keys cannot be used; undefined where they can, or there are none to read. */
  keys: string | undefined;
  /** Names of the peers that answered a probe in the last seconds; undefined where nothing runs here. */
  heard: string[] | undefined;
  /** Why the configuration does not fit this machine. */
  plan: string | undefined;
  warnings: string[];
  interfaces: InterfaceFacts[];
}

export interface Finding {
  what: string;
  level: "ok" | "warning" | "error";
  found: string;
  /** What to do; undefined where all is well. */
  advice?: string;
}

const ok = (what: string, found: string): Finding => ({ what, level: "ok", found });
const warning = (what: string, found: string, advice: string): Finding => ({ what, level: "warning", found, advice });
const error = (what: string, found: string, advice: string): Finding => ({ what, level: "error", found, advice });

function isAtLeast(version: string, wanted: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > wanted[0] || (major === wanted[0] && minor >= wanted[1]);
}

function judgeMachine(facts: Facts): Finding[] {
  const { release, hasTcx, hasBtf, jit, capabilities, bpffs, libbpf, ffi, runtime, plan, warnings } = facts;
  const tcx = hasTcx ? "tcx" : "no tcx (Linux >= 6.6 has it): auto means clsact";
  return [
    isAtLeast(release, [5, 10])
      ? ok("kernel", `Linux ${release}, ${tcx}`)
      : error("kernel", `Linux ${release}`, "isat needs Linux 5.10 or newer"),
    capabilities === undefined
      ? ok("capabilities", "CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW are there")
      : error("capabilities", capabilities, "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW"),
    hasBtf
      ? ok("BTF", "/sys/kernel/btf/vmlinux is there")
      : warning("BTF", "this kernel has no BTF", "isat works without it; bpftool may not show the maps by field"),
    jit === 0
      ? warning("JIT", "net.core.bpf_jit_enable is 0: programs are interpreted", "sysctl net.core.bpf_jit_enable=1")
      : ok("JIT", "programs are compiled"),
    isAtLeast(libbpf.replace(/^v/, ""), [1, 0])
      ? ok("libbpf", libbpf)
      : error("libbpf", libbpf, "isat needs libbpf 1.0 or newer (Debian: libbpf1)"),
    bpffs === undefined ? ok("bpffs", "pins can be kept") : error("bpffs", bpffs, "mount -t bpf bpf /sys/fs/bpf"),
    ok("FFI", `${ffi}, under ${runtime}`),
    plan === undefined
      ? ok("configuration", "fits this machine")
      : error("configuration", plan, "correct the file; isat run would refuse it"),
    ...warnings.map((text) => warning("configuration", text, "correct the file, or route those addresses here")),
  ];
}

function judgeInterface(each: InterfaceFacts, { hook, garp }: Facts): Finding[] {
  const { name, driver, xdp, stripsVlanTags, bondMode, otherPrograms, sysctls, owned } = each;
  const what = `interface ${name}`;
  const findings: Finding[] = [];

  const native = xdp === undefined ? "unknown to this kernel" : xdp.isNative ? "in the driver" : "generic only";
  const driverText = `driver ${driver ?? "unknown"}, XDP ${native}`;
  if (hook === "xdp" && xdp && !xdp.isNative) {
    findings.push(warning(what, driverText, "generic XDP is no faster than tcx: set hook: tcx"));
  } else findings.push(ok(what, driverText));
  if (hook === "xdp" && stripsVlanTags) {
    findings.push(
      warning(what, "the NIC strips VLAN tags, to which XDP is blind", "isat run tells it not to; or set hook: tcx"),
    );
  }

  // balance-tlb and balance-alb (5, 6): alb's receive balancing rewrites the MAC in ARP replies, slave by slave.
  if (bondMode?.endsWith(" 6")) {
    findings.push(error(what, `bond mode ${bondMode} rewrites the MAC in ARP`, "use active-backup or 802.3ad"));
  } else if (bondMode?.endsWith(" 5")) {
    findings.push(
      warning(
        what,
        `bond mode ${bondMode} sends from several MACs`,
        "use active-backup or 802.3ad, or see that the switch does not mind",
      ),
    );
  } else if (bondMode) findings.push(ok(what, `bond mode ${bondMode}`));

  for (const program of otherPrograms) {
    findings.push(
      warning(what, `another program: ${program}`, "see that it passes ARP on to isat (bpftool prog show id ID)"),
    );
  }
  if (otherPrograms.length === 0) findings.push(ok(what, "no other program at the hooks"));

  const { arp_ignore, arp_announce, proxy_arp } = sysctls;
  if (proxy_arp !== 0) {
    findings.push(
      warning(
        what,
        "proxy_arp is on: the kernel answers for addresses that it routes",
        `sysctl net.ipv4.conf.${name}.proxy_arp=0, unless it is meant`,
      ),
    );
  }
  findings.push(
    ok(
      what,
      `arp_ignore ${arp_ignore}, arp_announce ${arp_announce}: any will do, isat's programs guard both directions`,
    ),
  );

  const seconds = owned / garp.rate;
  const pace = `${owned} VIPs at ${garp.rate}/s: a move takes ${formatDuration(seconds * 1000)} to announce`;
  if (seconds * 1000 > garp.refresh) {
    findings.push(
      error(
        what,
        `${pace}, longer than the refresh of ${formatDuration(garp.refresh)}`,
        "raise garp.rate, or garp.refresh",
      ),
    );
  } else if (seconds > 10) {
    findings.push(warning(what, pace, "raise garp.rate, if the switch does not police ARP"));
  } else findings.push(ok(what, pace));
  return findings;
}

/** How the nodes know each other. */
function judgeMembership({ membership, keys, heard }: Facts): Finding[] {
  const what = "membership";
  if (membership.kind === "static") {
    return [ok(what, "static: every node that is listed counts as alive, and a dead one keeps its VIPs")];
  }
  const { interval, dead } = membership;
  const most = formatDuration(interval * (dead + 0.5));
  const findings = [ok(what, `wire: a peer is dead after ${dead} probes, at most ${most} after its last echo`)];
  if (keys !== undefined) findings.push(error("wire keys", keys, "isat run would refuse them"));
  else if (membership.keys === "none") findings.push(warning("wire keys", UNSIGNED, SIGN));
  else findings.push(ok("wire keys", `${membership.keys[0]} signs, ${membership.keys.length} verify`));
  if (heard?.length === 0) {
    const advice =
      "let the switch pass EtherType 0x88b5, start isat on the other nodes, and give all of them the same key";
    findings.push(warning("peers", "none has answered a probe", advice));
  } else if (heard) findings.push(ok("peers", `${heard.join(", ")} answered`));
  return findings;
}

const SIGN = "head -c 32 /dev/urandom | base64 > /etc/isat/wire.key, chmod 600, the same file on every node";

function judgeProfile({ garp }: Facts): Finding[] {
  const what = "gratuitous ARP";
  const findings: Finding[] = [];
  if (garp.rate > 15) {
    const text = `up to ${garp.rate}/s`;
    findings.push(
      ok(
        what,
        `${text}; a switch that polices ARP (Cisco DAI disables a port at 15/s) needs garp: { profile: guarded }`,
      ),
    );
  } else findings.push(ok(what, `up to ${garp.rate}/s: below what switches police`));
  if (garp.refresh < 60_000) {
    findings.push(
      warning(
        what,
        `refreshed each ${formatDuration(garp.refresh)}`,
        "H3C's active-ack ignores a new MAC for 60 s after each: set garp.refresh to 95s",
      ),
    );
  } else if (garp.refresh > 100_000) {
    findings.push(
      warning(
        what,
        `refreshed each ${formatDuration(garp.refresh)}`,
        "a switch forgets a MAC after 300 s, and a frame may be lost: set garp.refresh to 95s",
      ),
    );
  } else findings.push(ok(what, `refreshed each ${formatDuration(garp.refresh)}`));
  return findings;
}

/** What the facts mean. */
export function judge(facts: Facts): Finding[] {
  return [
    ...judgeMachine(facts),
    ...judgeMembership(facts),
    ...judgeProfile(facts),
    ...facts.interfaces.flatMap((each) => judgeInterface(each, facts)),
  ];
}

/** What `isat doctor` prints. */
export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ what }) => what.length));
  return findings
    .map(({ what, level, found, advice }) => {
      const line = `${level.padEnd("warning".length)}  ${what.padEnd(width)}  ${found}`;
      return advice ? `${line}\n${" ".repeat("warning".length + width + 4)}-> ${advice}` : line;
    })
    .join("\n");
}
