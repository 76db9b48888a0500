import { createHash } from "node:crypto";

/** A node, and the port of the switch that it hangs on. */
export interface LabNode {
  name: string;
  port: number;
  mac: string;
  ip: string;
}

export const NODES: readonly LabNode[] = [1, 2, 3].map((number) => ({
  name: `n${number}`,
  port: number,
  mac: `02:00:00:00:00:0${number}`,
  ip: `10.9.255.${number}`,
}));

/** An ordinary host on the same wire. */
export const CLIENT = { name: "client", port: 4, mac: "02:00:00:00:00:64", ip: "10.9.255.100" } as const;
export const GATEWAY = { mac: "02:00:00:00:00:fe", ip: "10.9.255.254" } as const;
export const PORTS = 4;
export const PREFIX_LENGTH = 16;

export const VIPS: readonly string[] = Array.from({ length: 12 }, (_, index) => `10.9.0.${index + 1}`);
/** The same as isat's configuration has it. */
export const VIP_RANGES: readonly string[] = [VIPS[0]!, `${VIPS[1]}-${VIPS.at(-1)}`];
/** The one that moves where a VIP must move, and to where: neither its owner's port nor the leader's. */
export const MOVING = { vip: VIPS[0]!, to: NODES[2]! };

/** Who of them owns a VIP, worked out apart from isat's own code: the lowest SHA-256 of `node#address`, bytes ascending. */
export function ownerOf(vip: string, nodes: readonly LabNode[] = NODES): LabNode {
  const hashes = nodes.map((node) => ({ node, hash: createHash("sha256").update(`${node.name}#${vip}`).digest() }));
  return hashes.sort((a, b) => Buffer.compare(a.hash, b.hash))[0]!.node;
}

export function nodeByMac(mac: string): LabNode | undefined {
  return NODES.find((node) => node.mac === mac);
}
