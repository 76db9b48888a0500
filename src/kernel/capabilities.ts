import { readFileSync } from "node:fs";

/** Bit numbers of capabilities(7). */
const BITS = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_SYS_ADMIN: 21, CAP_PERFMON: 38, CAP_BPF: 39 } as const;
const NEEDED = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"] as const;

type Capability = keyof typeof BITS;

/** True if this process has the capability. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON. */
export function hasCapability(name: Capability, status = readFileSync("/proc/self/status", "utf8")): boolean {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  const has = (one: Capability) => ((effective >> BigInt(BITS[one])) & 1n) === 1n;
  return has(name) || ((name === "CAP_BPF" || name === "CAP_PERFMON") && has("CAP_SYS_ADMIN"));
}

/** The capabilities that isat needs and this process lacks. */
export function missingCapabilities(): Capability[] {
  const status = readFileSync("/proc/self/status", "utf8");
  return NEEDED.filter((name) => !hasCapability(name, status));
}

/** @throws Error naming every capability that this process lacks. */
export function requireCapabilities(): void {
  const missing = missingCapabilities();
  if (missing.length === 0) return;
  throw new Error(
    `Cannot run as capabilities are missing: ${missing.join(", ")}. Run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW`,
  );
}
