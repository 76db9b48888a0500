import { createHash } from "node:crypto";

/** A node, and its port on the switch. */
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

/** A host's address of IPv6, where a test has it speak that. */
export const ip6Of = ({ port }: { port: number }): string => `2001:db8::ff:${port}`;

/** An ordinary host on the same wire. */
export const CLIENT = {
  name: "client",
  port: 4,
  mac: "02:00:00:00:00:64",
  ip: "10.9.255.100",
  ip6: "2001:db8::ff:64",
} as const;
export const GATEWAY = { mac: "02:00:00:00:00:fe", ip: "10.9.255.254" } as const;
export const PORTS = 4;
export const PREFIX_LENGTH = 16;

export const VIPS: readonly string[] = Array.from({ length: 12 }, (_, index) => `10.9.0.${index + 1}`);
/** The VIPs as ranges, in isat's configuration. */
export const VIP_RANGES: readonly string[] = [VIPS[0]!, `${VIPS[1]}-${VIPS.at(-1)}`];
/** The VIP that moves, and the node that it moves to, whose port is neither its owner's nor the leader's. */
export const MOVING = { vip: VIPS[0]!, to: NODES[2]! };

/** The owner of a VIP: the lowest SHA-256 of `node#address`, as bytes. This does not use isat's own code. */
export function ownerOf(vip: string, nodes: readonly LabNode[] = NODES): LabNode {
  const hashes = nodes.map((node) => ({ node, hash: createHash("sha256").update(`${node.name}#${vip}`).digest() }));
  return hashes.sort((a, b) => Buffer.compare(a.hash, b.hash))[0]!.node;
}

export function nodeByMac(mac: string): LabNode | undefined {
  return NODES.find((node) => node.mac === mac);
}
