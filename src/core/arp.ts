/** Encodes and decodes ARP for Ethernet and IPv4 (RFC 826). MACs and IPs are raw bytes here. */

export const ETH_P_ARP = 0x0806;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;
export const BROADCAST = Uint8Array.of(255, 255, 255, 255, 255, 255);
export const NO_MAC = new Uint8Array(6);

/** An Ethernet frame with an ARP packet. The packet's hardware type is Ethernet, and its protocol type IPv4. */
export interface Arp {
  /** Ethernet destination, 6 bytes. */
  destination: Uint8Array;
  /** Ethernet source, 6 bytes. */
  source: Uint8Array;
  op: number;
  /** Sender hardware address, 6 bytes. */
  sha: Uint8Array;
  /** Sender protocol address, 4 bytes. */
  spa: Uint8Array;
  /** Target hardware address, 6 bytes. */
  tha: Uint8Array;
  /** Target protocol address, 4 bytes. */
  tpa: Uint8Array;
}

/** Returns 60 bytes, the shortest Ethernet frame (without its checksum). */
export function encodeArp(arp: Arp): Uint8Array {
  const frame = new Uint8Array(60);
  frame.set(arp.destination, 0);
  frame.set(arp.source, 6);
  frame.set([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, arp.op >> 8, arp.op & 255], 12);
  frame.set(arp.sha, 22);
  frame.set(arp.spa, 28);
  frame.set(arp.tha, 32);
  frame.set(arp.tpa, 38);
  return frame;
}

/** Decodes an untagged Ethernet frame; undefined if it is too short, or not ARP for Ethernet and IPv4. */
export function decodeArp(frame: Uint8Array): Arp | undefined {
  if (frame.length < 42) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const isIPv4Arp =
    view.getUint16(12) === ETH_P_ARP &&
    view.getUint16(14) === 1 &&
    view.getUint16(16) === 0x0800 &&
    frame[18] === 6 &&
    frame[19] === 4;
  if (!isIPv4Arp) return undefined;
  return {
    destination: frame.subarray(0, 6),
    source: frame.subarray(6, 12),
    op: view.getUint16(20),
    sha: frame.subarray(22, 28),
    spa: frame.subarray(28, 32),
    tha: frame.subarray(32, 38),
    tpa: frame.subarray(38, 42),
  };
}

/** The forms in which a VIP is announced, by the operations of their frames. */
export const FORMS = { request: [ARP_REQUEST], reply: [ARP_REPLY], both: [ARP_REQUEST, ARP_REPLY] } as const;
export type Form = keyof typeof FORMS;

/**
 * A gratuitous ARP: broadcast, SPA = TPA = the VIP. The dst-mac check of DAI would drop the reply form, and Linux accepts
 * the request form at once, even within its locktime. In the reply form THA = SHA: otherwise Linux takes it for an answer
 * to somebody else (arp_is_garp()).
 */
export function announcement(mac: Uint8Array, vip: Uint8Array, op: number = ARP_REQUEST): Uint8Array {
  const tha = op === ARP_REPLY ? mac : NO_MAC;
  return encodeArp({ destination: BROADCAST, source: mac, op, sha: mac, spa: vip, tha, tpa: vip });
}

const PAIRS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Formats a MAC as `9e:a4:2c:fb:05:98`. */
export function formatMac(mac: Uint8Array): string {
  let text = "";
  for (const byte of mac) text += text ? `:${PAIRS[byte]}` : PAIRS[byte];
  return text;
}
