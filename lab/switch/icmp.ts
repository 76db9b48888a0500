/** Encodes and decodes ICMP echo in IPv4 in Ethernet, as far as a ping needs it. MACs and IPs are raw bytes. */

export const ECHO_REPLY = 0;
export const ECHO_REQUEST = 8;

export interface Echo {
  /** Ethernet destination and source, 6 bytes each. */
  destination: Uint8Array;
  source: Uint8Array;
  /** IPv4 source and destination, 4 bytes each. */
  from: Uint8Array;
  to: Uint8Array;
  type: typeof ECHO_REPLY | typeof ECHO_REQUEST;
  identifier: number;
  sequence: number;
}

const ETHERNET = 14;
const IPV4 = 20;
const ICMP = 8;

/** Encodes an echo without payload, in 60 bytes, the shortest Ethernet frame. */
export function encodeEcho(echo: Echo): Uint8Array {
  const frame = new Uint8Array(60);
  const view = new DataView(frame.buffer);
  frame.set(echo.destination, 0);
  frame.set(echo.source, 6);
  view.setUint16(12, 0x0800);

  view.setUint16(ETHERNET, 0x4500);
  view.setUint16(ETHERNET + 2, IPV4 + ICMP);
  view.setUint16(ETHERNET + 8, 0x4001); // time to live 64, protocol ICMP
  frame.set(echo.from, ETHERNET + 12);
  frame.set(echo.to, ETHERNET + 16);
  view.setUint16(ETHERNET + 10, checksum(frame.subarray(ETHERNET, ETHERNET + IPV4)));

  frame.set(encodeEchoMessage(echo.type, echo.identifier, echo.sequence), ETHERNET + IPV4);
  return frame;
}

/** Encodes the ICMP part alone, which a raw socket takes. */
export function encodeEchoMessage(type: Echo["type"], identifier: number, sequence: number): Uint8Array {
  const message = new Uint8Array(ICMP);
  const view = new DataView(message.buffer);
  view.setUint8(0, type);
  view.setUint16(4, identifier);
  view.setUint16(6, sequence);
  view.setUint16(2, checksum(message));
  return message;
}

/** Decodes the echo in an untagged Ethernet frame; undefined if it is something else, or cut short. */
export function decodeEcho(frame: Uint8Array): Echo | undefined {
  if (frame.length < ETHERNET + IPV4 + ICMP) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (view.getUint16(12) !== 0x0800) return undefined;
  const echo = decodeEchoPacket(frame.subarray(ETHERNET));
  return echo && { ...echo, destination: frame.subarray(0, 6), source: frame.subarray(6, 12) };
}

/** Decodes the echo in an IPv4 packet, which a raw socket returns. */
export function decodeEchoPacket(packet: Uint8Array): Omit<Echo, "destination" | "source"> | undefined {
  const header = (packet[0]! & 15) * 4;
  if (packet[0]! >> 4 !== 4 || packet[9] !== 1 || packet.length < header + ICMP) return undefined;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const type = view.getUint8(header);
  if (type !== ECHO_REPLY && type !== ECHO_REQUEST) return undefined;
  return {
    from: packet.subarray(12, 16),
    to: packet.subarray(16, 20),
    type,
    identifier: view.getUint16(header + 4),
    sequence: view.getUint16(header + 6),
  };
}

/** RFC 1071, for an even number of bytes. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes[at]! * 256 + bytes[at + 1]!;
  sum = (sum & 0xffff) + (sum >>> 16);
  return ~(sum + (sum >>> 16)) & 0xffff;
}

/** Makes the answer to an echo request from a copy of the request, so that any payload comes back. */
export function answerEcho(request: Uint8Array): Uint8Array {
  const answer = request.slice();
  const at = ETHERNET + (request[ETHERNET]! & 15) * 4;
  answer.set(request.subarray(6, 12), 0);
  answer.set(request.subarray(0, 6), 6);
  answer.set(request.subarray(ETHERNET + 12, ETHERNET + 16), ETHERNET + 16);
  answer.set(request.subarray(ETHERNET + 16, ETHERNET + 20), ETHERNET + 12);
  answer[at] = ECHO_REPLY;
  const view = new DataView(answer.buffer);
  const sum = view.getUint16(at + 2) + (ECHO_REQUEST << 8); // RFC 1624
  view.setUint16(at + 2, (sum & 0xffff) + (sum >>> 16));
  return answer;
}
