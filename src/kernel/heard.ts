import type { peer as layout } from "../core/abi.ts";
import type { Heard } from "../core/step.ts";

/** A peer's entry of the kernel's map, as segments read it. */
export function heardOf(node: bigint, peer: ReturnType<typeof layout.decode>): Heard {
  return {
    node,
    name: peer.node,
    mac: peer.mac,
    state: peer.state,
    sourceStale: peer.source_stale,
    knowsUs: peer.knows_us,
    incarnation: peer.incarnation,
    stamp: peer.stamp_ns,
    echoedNs: peer.echoed_ns,
  };
}
