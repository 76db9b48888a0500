import { parseMac } from "../lab/mac.ts";
import { whoHas as request } from "../lab/who-has.ts";
import { type Address, addressBytes, formatAddress, isIPv4, parseAddress, plus } from "../src/core/address.ts";
import { solicitation } from "../src/core/ndp.ts";

/** Every stand has one veth pair: eth0 of the node, and c0 of the client. */
export const NODE_INTERFACE = "eth0";
export const NODE_MAC = "02:00:00:00:01:01";
export const NODE_IP = "10.9.255.1";
export const CLIENT_INTERFACE = "c0";
export const CLIENT_MAC = "02:00:00:00:02:01";
export const CLIENT_IP = "10.9.255.254";

export type Family = "IPv4" | "IPv6";

/**
 * The first VIP, the first of the addresses that are never VIPs, and the senders of requests: the client, and the prober,
 * whose frames are told from a flood's by their sender.
 */
const NETWORKS = {
  IPv4: {
    vips: parseAddress("10.9.0.1"),
    others: parseAddress("10.9.240.1"),
    client: addressBytes(parseAddress(CLIENT_IP)),
    prober: addressBytes(parseAddress("10.9.255.253")),
  },
  IPv6: {
    vips: parseAddress("2001:db8:9::1"),
    others: parseAddress("2001:db8:9:1::1"),
    client: addressBytes(parseAddress("fe80::ff:fe00:201")), // as the client's kernel makes it from CLIENT_MAC
    prober: addressBytes(parseAddress("fe80::253")),
  },
} as const;

/** The first and the last of `count` VIPs. */
export function vipRange(count: number, family: Family = "IPv4"): { first: string; last: string } {
  return { first: formatAddress(vipAt(0, family)), last: formatAddress(vipAt(count - 1, family)) };
}

/** The VIP at a place, from 0. */
export const vipAt = (place: number, family: Family = "IPv4"): Address => plus(NETWORKS[family].vips, place);

/** An address that no host has. */
export const otherAt = (place: number, family: Family = "IPv4"): Address => plus(NETWORKS[family].others, place % 1024);

/** The address of the client or of its prober, of the family of `target`, in bytes. */
export const asker = (target: Address, who: "client" | "prober" = "client"): Uint8Array =>
  NETWORKS[isIPv4(target) ? "IPv4" : "IPv6"][who];

/** The frame that asks who has the address, from the client's MAC: an ARP request, or a Neighbour Solicitation. */
export function question(target: Address, who: "client" | "prober" = "client"): Uint8Array {
  const from = asker(target, who);
  if (isIPv4(target)) return request(addressBytes(target), { mac: CLIENT_MAC, ip: from });
  return solicitation(target, parseMac(CLIENT_MAC), from);
}
