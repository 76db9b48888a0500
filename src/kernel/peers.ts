import type { Peer } from "../core/abi.ts";
import type { Heard } from "../core/step.ts";
import type { Maps } from "./object.ts";

/** What the programs know of the peers that are heard on an interface. */
export function readPeers({ peers }: Maps, ifindex: number): Heard[] {
  return [...peers.entries(64)].flatMap(([key, peer]) => (key.ifindex === ifindex ? [heardOf(key.node, peer)] : []));
}

function heardOf(node: bigint, peer: Peer): Heard {
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
