import { whoHas as request } from "../lab/who-has.ts";
import { addressBytes, formatAddress, parseAddress, plus } from "../src/core/address.ts";

/** Every stand has one veth pair: eth0 of the node, and c0 of the client. */
export const NODE_INTERFACE = "eth0";
export const NODE_MAC = "02:00:00:00:01:01";
export const NODE_IP = "10.9.255.1";
export const CLIENT_INTERFACE = "c0";
export const CLIENT_MAC = "02:00:00:00:02:01";
export const CLIENT_IP = "10.9.255.254";
/** The prober's sender address, which tells its frames from a flood's. */
export const PROBER_IP = "10.9.255.253";
/** Addresses from here on are never VIPs. */
const OTHERS_FIRST = parseAddress("10.9.240.1");
const VIPS_FIRST = parseAddress("10.9.0.1");

/** The first and the last of `count` VIPs. */
export function vipRange(count: number): { first: string; last: string } {
  return { first: formatAddress(VIPS_FIRST), last: formatAddress(plus(VIPS_FIRST, count - 1)) };
}

/** The VIP at a place, from 0, in bytes. */
export const vipBytes = (place: number): Uint8Array => addressBytes(plus(VIPS_FIRST, place));

/** An address that no host has, in bytes. */
export const otherBytes = (place: number): Uint8Array => addressBytes(plus(OTHERS_FIRST, place % 1024));

/** A who-has from the client's MAC. */
export function whoHas(target: Uint8Array, asker = CLIENT_IP): Uint8Array {
  return request(target, { mac: CLIENT_MAC, ip: asker });
}
