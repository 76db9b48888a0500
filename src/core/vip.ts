import { type Vip, type VipKey, vip6Key, vipKey, vipState } from "./abi.ts";
import type { Entry } from "./step.ts";

/** The fields of a VIP's entry in the kernel that are the control plane's: `struct vip` in bpf/abi.h. */
type Fields = Pick<Vip, "state" | "state_ns" | "hash" | "claim_ns">;

/** A claim that is still being made has its time in another field than one by which a VIP is owned. */
export function fieldsOf({ state, claimNs, untilNs, hash }: Entry): Fields {
  const isClaiming = state === vipState.CLAIMING;
  return { state, state_ns: isClaiming ? claimNs : untilNs, hash, claim_ns: isClaiming ? 0n : claimNs };
}

export function entryOf({ state, state_ns, hash, claim_ns }: Fields): Entry {
  const isClaiming = state === vipState.CLAIMING;
  return { state, claimNs: isClaiming ? state_ns : claim_ns, untilNs: isClaiming ? 0n : state_ns, hash };
}

/** The check of the key that stands there: see check_of() and check6_of() in bpf/state.h. */
export function checkAt(keys: DataView, at: number, isIPv6: boolean): bigint {
  const first = keys.getBigUint64(at, true);
  if (!isIPv6) return first;
  const [low, ifindex] = [keys.getBigUint64(at + 8, true), keys.getUint32(at + 16, true)];
  return BigInt.asUintN(64, first * 0x9e3779b97f4a7c15n + low + BigInt(ifindex) * 0xc2b2ae3d27d4eb4fn);
}

/** The check of a key. */
export function checkOf({ ip, ifindex }: VipKey): bigint {
  const layout = ip.length === 4 ? vipKey : vip6Key;
  return checkAt(new DataView(layout.encode({ ip, ifindex }).buffer), 0, layout === vip6Key);
}
