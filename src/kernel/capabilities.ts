import { readFileSync } from "node:fs";

/** Bit numbers of capabilities(7). */
const NEEDED = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_BPF: 39 } as const;
const CAP_SYS_ADMIN = 21;

/** @throws Error naming every capability that this process lacks. */
export function requireCapabilities(status = readFileSync("/proc/self/status", "utf8")): void {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  const has = (bit: number) => (effective >> BigInt(bit)) & 1n;
  const missing = Object.entries(NEEDED)
    .filter(([name, bit]) => !has(bit) && !(name === "CAP_BPF" && has(CAP_SYS_ADMIN)))
    .map(([name]) => name);
  if (missing.length === 0) return;
  throw new Error(
    `Cannot run as capabilities are missing: ${missing.join(", ")}. Run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW`,
  );
}
