/** Neighbour Discovery, byte by byte as RFC 4861 has it. */
/** `02 15 a7` as bytes; whatever is no hex digit only separates. */
export const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replace(/[^0-9a-f]/gi, ""), "hex"));

export const ND = 54;
const SOLICITATION = 78;

/** The sum in ones' complement of 16-bit words, folded (RFC 1071). */
export function onesSum(data: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += (data[at]! << 8) | (data[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** The sum of a message of ICMPv6 and of its pseudo-header (RFC 8200 8.1); 0xffff: its checksum is right. */
export function sumOfMessage(frame: Uint8Array): number {
  const length = (frame[18]! << 8) | frame[19]!;
  const pseudo = Uint8Array.of(...frame.subarray(22, 54), 0, 0, length >> 8, length & 255, 0, 0, 0, 58);
  return onesSum(Uint8Array.of(...pseudo, ...frame.subarray(ND, ND + length)));
}

/** Puts the right checksum into a frame of ICMPv6 that has no tag. */
export function seal(frame: Uint8Array): Uint8Array {
  const sealed = frame.slice();
  sealed.set([0, 0], ND + 2);
  const sum = 0xffff - sumOfMessage(sealed);
  sealed.set([sum >> 8, sum & 255], ND + 2);
  return sealed;
}

/** A Solicitation's fields in hex, in the order in which they are sent. */
export interface NdFields {
  to: string;
  from: string;
  type: string;
  version: string;
  /** Of what follows the IPv6 header; undefined: as it is. */
  length?: string | undefined;
  next: string;
  hops: string;
  source: string;
  destination: string;
  kind: string;
  code: string;
  /** undefined: the right one. */
  checksum?: string | undefined;
  flags: string;
  target: string;
  options: string;
  /** Bytes behind the packet. */
  padding: string;
}

export function ndFrame(fields: NdFields): Uint8Array {
  const { to, from, type, version, next, hops, source, destination, kind, code, flags, target, options } = fields;
  const size = SOLICITATION - ND + bytes(options).length;
  const length = fields.length ?? size.toString(16).padStart(4, "0");
  const head = [to, from, type, version, length, next, hops, source, destination, kind, code];
  const frame = bytes([...head, fields.checksum ?? "00 00", flags, target, options].join(" "));
  const packet = fields.checksum === undefined ? seal(frame) : frame;
  return Uint8Array.of(...packet, ...bytes(fields.padding));
}
