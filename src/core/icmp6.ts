/** Encodes and decodes ICMPv6 in Ethernet (RFC 4443), which Neighbour Discovery and MLD are made of. */

export const ETH_P_IPV6 = 0x86dd;
/** Ethernet, and IPv6 (RFC 8200 3). */
const [ETHERNET, HEADER] = [14, 40];
const [HOP_BY_HOP, ICMPV6] = [0, 58];
/** The place of the message's type in a frame, and the same behind a hop-by-hop header of eight bytes. */
export const TYPE_AT = ETHERNET + HEADER;
const OPTIONS = 8;

/** An Ethernet frame with one message of ICMPv6. */
export interface Icmp6 {
  /** Ethernet destination and source, 6 bytes each. */
  destination: Uint8Array;
  source: Uint8Array;
  hopLimit: number;
  /** The addresses of the IPv6 header, 16 bytes each. */
  from: Uint8Array;
  to: Uint8Array;
  /** True if a Router Alert stands before the message (RFC 2711), as MLD needs. */
  hasAlert?: boolean;
  /** From its type on. The encoder fills in the checksum. */
  message: Uint8Array;
}

/** RFC 1071, over the pseudo-header of RFC 8200 8.1 and the message; 0 where the message has its right one. */
function checksum({ from, to, message }: Pick<Icmp6, "from" | "to" | "message">): number {
  let sum = message.length + ICMPV6;
  for (const bytes of [from, to, message])
    for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! << 8 : bytes[i]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export function encodeIcmp6(icmp: Icmp6): Uint8Array {
  const { destination, source, hopLimit, from, to, hasAlert = false, message } = icmp;
  const at = TYPE_AT + (hasAlert ? OPTIONS : 0);
  const frame = new Uint8Array(at + message.length);
  const view = new DataView(frame.buffer);
  frame.set(destination, 0);
  frame.set(source, 6);
  view.setUint16(12, ETH_P_IPV6);
  frame[ETHERNET] = 0x60; // version 6
  view.setUint16(18, at + message.length - TYPE_AT);
  frame.set([hasAlert ? HOP_BY_HOP : ICMPV6, hopLimit], 20);
  frame.set(from, 22);
  frame.set(to, 38);
  if (hasAlert) frame.set([ICMPV6, 0, 5, 2, 0, 0, 1, 0], TYPE_AT); // Router Alert: MLD; and two bytes of padding
  frame.set(message, at);
  frame.set([0, 0], at + 2);
  view.setUint16(at + 2, checksum({ from, to, message: frame.subarray(at) }));
  return frame;
}

/** Decodes an untagged frame; undefined for one that is no whole ICMPv6, or has a wrong checksum. */
export function decodeIcmp6(frame: Uint8Array): Required<Icmp6> | undefined {
  if (frame.length < TYPE_AT + 4) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const hasAlert = frame[20] === HOP_BY_HOP && frame[TYPE_AT] === ICMPV6 && frame[TYPE_AT + 1] === 0;
  const at = TYPE_AT + (hasAlert ? OPTIONS : 0);
  const end = TYPE_AT + view.getUint16(18);
  if (view.getUint16(12) !== ETH_P_IPV6 || frame[ETHERNET]! >> 4 !== 6 || end > frame.length || end < at + 4)
    return undefined;
  if (!hasAlert && frame[20] !== ICMPV6) return undefined;
  const [from, to, message] = [frame.subarray(22, 38), frame.subarray(38, 54), frame.subarray(at, end)];
  if (checksum({ from, to, message }) !== 0) return undefined;
  const [destination, source] = [frame.subarray(0, 6), frame.subarray(6, 12)];
  return { destination, source, hopLimit: frame[21]!, from, to, hasAlert, message };
}

/** The MAC to which a multicast address goes (RFC 2464 7). */
export const multicastMac = (group: Uint8Array): Uint8Array => Uint8Array.of(0x33, 0x33, ...group.subarray(12));
