/** Encodes and decodes Neighbour Solicitations and Advertisements (RFC 4861). MACs and IPs are raw bytes here. */
import { addressBytes, type IPv6, parseAddress } from "./address.ts";
import { decodeIcmp6, encodeIcmp6, type Icmp6, multicastMac } from "./icmp6.ts";

export const SOLICITATION = 135;
export const ADVERTISEMENT = 136;
/** RFC 4861 7.1: what has another hop limit came through a router. */
const HOP_LIMIT = 255;
/** The flags of an Advertisement: its sender is a router, was asked, and what others say is to be replaced. */
export const FLAG = { router: 0x80, solicited: 0x40, override: 0x20 } as const;
/** The options: the sender's MAC in a Solicitation, and the target's in an Advertisement. */
const OPTION = { [SOLICITATION]: 1, [ADVERTISEMENT]: 2 } as const;
/** The length of a message without options. */
const LEAST = 24;

const ALL_NODES = addressBytes(parseAddress("ff02::1"));

/** The solicited-node group of an address (RFC 4291 2.7.1): addresses with the same last 24 bits have one in common. */
export const solicitedNode = (address: IPv6): IPv6 => SOLICITED_NODES | (address & 0xff_ffffn);
const SOLICITED_NODES = parseAddress("ff02::1:ff00:0") as IPv6;

/** A Solicitation or an Advertisement. */
export interface Ndp extends Pick<Icmp6, "destination" | "source" | "from" | "to"> {
  type: typeof SOLICITATION | typeof ADVERTISEMENT;
  /** {@link FLAG} of an Advertisement; 0 in a Solicitation. */
  flags: number;
  /** 16 bytes. */
  target: Uint8Array;
  /** The MAC in its option; undefined: it has none. */
  mac: Uint8Array | undefined;
}

export function encodeNdp({ type, flags, target, mac, ...rest }: Ndp): Uint8Array {
  const message = new Uint8Array(LEAST + (mac ? 8 : 0));
  message[0] = type;
  message[4] = flags;
  message.set(target, 8);
  if (mac) message.set([OPTION[type], 1, ...mac], LEAST);
  return encodeIcmp6({ ...rest, hopLimit: HOP_LIMIT, message });
}

/** Decodes an untagged frame; undefined for what is no such message, or not a valid one (RFC 4861 7.1). */
export function decodeNdp(frame: Uint8Array): Ndp | undefined {
  const icmp = decodeIcmp6(frame);
  if (!icmp || icmp.hopLimit !== HOP_LIMIT || icmp.hasAlert || icmp.message.length < LEAST) return undefined;
  const { destination, source, from, to, message } = icmp;
  const [type, code] = message;
  const target = message.subarray(8, LEAST);
  if ((type !== SOLICITATION && type !== ADVERTISEMENT) || code !== 0 || target[0] === 0xff) return undefined;
  let mac: Uint8Array | undefined;
  for (let at = LEAST; at < message.length; ) {
    const length = 8 * (message[at + 1] ?? 0);
    if (length === 0 || at + length > message.length) return undefined;
    if (message[at] === OPTION[type] && length === 8) mac ??= message.subarray(at + 2, at + 8);
    at += length;
  }
  return { type, destination, source, from, to, flags: type === ADVERTISEMENT ? message[4]! : 0, target, mac };
}

/**
 * An Advertisement that nobody has asked for, to all nodes (RFC 4861 7.2.6): S=0, and O=1, so that hosts replace the MAC that
 * they have. R=0, as isat knows no routers: a host that took the VIP for a router of its own takes it off its list.
 */
export const unsolicited = (mac: Uint8Array, vip: Uint8Array): Uint8Array =>
  encodeNdp({
    ...{ type: ADVERTISEMENT, flags: FLAG.override, target: vip, mac },
    ...{ destination: multicastMac(ALL_NODES), source: mac, from: vip, to: ALL_NODES },
  });

/**
 * A Solicitation, to the target's group, or to one MAC alone. @param from 16 bytes: an address of the asker's own, or `::`
 * to learn whether anybody has the target. No MAC may go with that (RFC 4861 7.1.1).
 */
export function solicitation(target: IPv6, source: Uint8Array, from: Uint8Array, mac?: Uint8Array): Uint8Array {
  const group = addressBytes(solicitedNode(target));
  const its = addressBytes(target);
  const where = mac ? { destination: mac, to: its } : { destination: multicastMac(group), to: group };
  return encodeNdp({
    type: SOLICITATION,
    flags: 0,
    target: its,
    mac: from.some(Boolean) ? source : undefined,
    source,
    from,
    ...where,
  });
}
