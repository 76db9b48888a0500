import { hash as digest } from "node:crypto";

/**
 * What a node hashes for a VIP: SHA-256 of `node#address` in hex, so that the order of strings is that of bytes. The rule
 * is MetalLB's (internal/layer2 `usableNodes`, sorted by sha256.Sum256(node + "#" + ip)): who moves from MetalLB sees no
 * VIP move.
 */
export function hash(node: string, address: string): string {
  return digest("sha256", `${node}#${address}`, "hex");
}

/** The node with the lowest hash; undefined where nobody stands. The order of `nodes` plays no part. */
export function elect(nodes: readonly string[], address: string): string | undefined {
  let winner: string | undefined;
  let lowest = "";
  for (const node of nodes) {
    const its = hash(node, address);
    if (winner === undefined || its < lowest) {
      winner = node;
      lowest = its;
    }
  }
  return winner;
}

/** A hash as the kernel compares it: the first 64 bits. */
export const hashNumber = (hex: string): bigint => BigInt(`0x${hex.slice(0, 16)}`);
