import { hash } from "node:crypto";

/**
 * What a node bids for a VIP: SHA-256 of `node#address` in hex, so that the order of strings is that of bytes. The rule
 * is MetalLB's (internal/layer2 `usableNodes`, sorted by sha256.Sum256(node + "#" + ip)): who moves from MetalLB sees no
 * VIP move.
 */
export function bid(node: string, address: string): string {
  return hash("sha256", `${node}#${address}`, "hex");
}

/** The node with the lowest bid; undefined where nobody stands. The order of `nodes` plays no part. */
export function elect(nodes: readonly string[], address: string): string | undefined {
  let winner: string | undefined;
  let lowest = "";
  for (const node of nodes) {
    const its = bid(node, address);
    if (winner === undefined || its < lowest) {
      winner = node;
      lowest = its;
    }
  }
  return winner;
}

/** A bid as the kernel compares it: the first 64 bits. */
export const bidNumber = (hex: string): bigint => BigInt(`0x${hex.slice(0, 16)}`);
