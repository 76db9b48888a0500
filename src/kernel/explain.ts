import { ffi } from "../ffi/ffi.ts";
import { errno, errnoName } from "../ffi/libc.ts";
import { fn } from "../ffi/port.ts";
import { explain } from "../files.ts";
import { missingCapabilities } from "./capabilities.ts";

const { if_indextoname } = ffi.open(null, { if_indextoname: fn(["u32", "buffer"], "pointer") });

/** The interface's name, or its index where it has none any more. */
export function deviceName(ifindex: number): string {
  const name = new Uint8Array(16);
  if (!if_indextoname(ifindex, name)) return `interface ${ifindex}`;
  return new TextDecoder().decode(name).split("\0")[0]!;
}

/**
 * The kernel's refusal of a call to bpf(). Its errno does not tell a missing capability from a filter of system calls.
 */
export function explainRefusal(missing: readonly string[] = missingCapabilities()): string {
  if (missing.length > 0) return explain("EPERM");
  return (
    "EPERM. The kernel refuses bpf(), though this process has the capabilities: a seccomp profile, a security module" +
    " (AppArmor, SELinux) or lockdown forbids it. In a pod, set seccompProfile: { type: RuntimeDefault }"
  );
}

/** The causes that keep a program from a device, and what to do, by kind of hook and errno. */
const CAUSES: Record<"tcx" | "tc" | "xdp", Record<string, string>> = {
  tcx: {
    EINVAL: "this kernel has no tcx (Linux >= 6.6 has it). Set hook: tc",
    E2BIG: "64 programs are attached there already. Detach one: bpftool net show",
    ERANGE: "64 programs are attached there already. Detach one: bpftool net show",
  },
  tc: {
    EINVAL:
      "another kind of filter, or one of another protocol, has isat's priority 1. Give it another priority" +
      " (tc filter show dev DEVICE DIRECTION), or set hook: tcx or xdp",
    ENOENT:
      "this kernel has no clsact or no BPF filters. Run: modprobe -a sch_ingress cls_bpf, or set hook: tcx or xdp",
    EOPNOTSUPP: "this kernel has no clsact. Run: modprobe sch_ingress, or set hook: tcx or xdp",
  },
  xdp: {
    ERANGE:
      "its MTU, or that of a veth's peer, is too large for XDP. Run: ip link set DEVICE mtu 1500, or set hook: tcx or tc",
    EINVAL:
      "the driver refuses XDP as the NIC is set up: often the MTU is too large, or LRO is on. Run: ip link set DEVICE mtu" +
      " 1500; ethtool -K DEVICE lro off. Or set hook: tcx or tc",
    EOPNOTSUPP: "its driver has no XDP, or not beside LRO or header split. Set hook: tcx or tc",
    ENOSPC:
      "the NIC has too few queues for XDP, which takes one for each CPU. Run: ethtool -L DEVICE, or set hook: tcx or tc",
  },
};
const ANY: Record<string, string> = {
  ENODEV: "the interface is gone, or has moved to another network namespace",
  ENOMEM: "the kernel has no memory left. Raise the pod's limit, or free some",
  ENOSYS:
    "this kernel has no bpf(), or a seccomp profile hides it. In a pod, set seccompProfile: { type: RuntimeDefault }",
};

/** The cause of a failed attachment, and what to do, in one line. */
export function explainAttach(
  kind: keyof typeof CAUSES,
  direction: string,
  device: string,
  number: number,
  missing?: readonly string[],
): string {
  if (number === errno.EPERM) return explainRefusal(missing);
  const name = number === errno.EOPNOTSUPP ? "EOPNOTSUPP" : errnoName(number); // ENOTSUP has the same number
  const cause = CAUSES[kind][name] ?? ANY[name];
  return cause ? `${cause.replaceAll("DEVICE", device).replaceAll("DIRECTION", direction)} (${name})` : explain(name);
}
