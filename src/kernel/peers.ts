import { formatMac } from "../core/arp.ts";
import { type Heard, heardOf, type ProbeEntry } from "../core/step.ts";
import type { Maps } from "./object.ts";

/** The programs' knowledge of the peers that are heard on an interface. */
export function readPeers({ peers }: Maps, ifindex: number): Heard[] {
  return [...peers.entries(64)].flatMap(([key, peer]) => (key.ifindex === ifindex ? [heardOf(key.node, peer)] : []));
}

/** From now on, the echoes of this probe count. */
export function writeProbe({ probes }: Maps, ifindex: number, { peer, nonce, lastNonce }: ProbeEntry): void {
  const { name, mac, incarnation } = peer;
  const value = { node: name, mac_text: formatMac(mac), mac, incarnation, nonce, last_nonce: lastNonce };
  probes.set({ node: peer.node, ifindex, zero: 0 }, value);
}

export function forgetPeers({ probes, peers }: Maps, ifindex: number, nodes: readonly bigint[] | "all"): void {
  if (nodes.length === 0) return;
  const keys =
    nodes === "all"
      ? [...probes.entries()].map(([key]) => key).filter((key) => key.ifindex === ifindex)
      : nodes.map((node) => ({ node, ifindex, zero: 0 }));
  probes.deleteMany(keys);
  peers.deleteMany(keys);
}
