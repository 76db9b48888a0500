import { createHash } from "node:crypto";
import {
  claimVerdict,
  ETH_P_ISAT,
  WIRE_MAX_CLAIMS as MAX_CLAIMS,
  WIRE_TAG as TAG,
  WIRE_VERSION as VERSION,
  type WireClaim,
  type WireHeader,
  type WireType,
  wireClaim,
  wireHeader,
} from "./abi.ts";
import { type SipKey, sipHash } from "./siphash.ts";

/** The wire format of the peer protocol: docs/peer-protocol.md. The kernel's side of it is bpf/wire.h. */

export {
  ETH_P_ISAT,
  WIRE_KNOWN as KNOWN,
  WIRE_MAX_CLAIMS as MAX_CLAIMS,
  WIRE_SOURCE_STALE as SOURCE_STALE,
  WIRE_VERSION as VERSION,
} from "./abi.ts";

const PROTOCOL = Uint8Array.of(ETH_P_ISAT >> 8, ETH_P_ISAT & 255);

/** A key as the kernel's map has it. */
export interface WireKey extends SipKey {
  /** Sent with each frame, so that it is verified with one key only: 1 to 255. */
  id: number;
}

/** The content of a frame; encodeWire() fills in the fields that are the same in all frames. */
export type Message = Partial<WireHeader> & {
  type: WireType;
  claims?: readonly WireClaim[];
};

/** The bytes to send, signed by the key. */
export function encodeWire({ claims = [], ...header }: Message, key: WireKey): Uint8Array {
  const end = wireHeader.size + claims.length * wireClaim.size;
  const frame = new Uint8Array(end + TAG);
  const whole = { ...header, protocol: PROTOCOL, version: VERSION, max_version: VERSION, key_id: key.id };
  frame.set(wireHeader.encode(wireHeader.of({ ...whole, count: claims.length })));
  claims.forEach((claim, i) => {
    frame.set(wireClaim.encode(claim), wireHeader.size + i * wireClaim.size);
  });
  new DataView(frame.buffer).setBigUint64(end, sipHash(key, frame.subarray(0, end)), true);
  return frame;
}

/** The content of a frame; undefined for one that is not authentic. */
export function decodeWire(
  frame: Uint8Array,
  keys: readonly WireKey[],
): (WireHeader & { claims: WireClaim[] }) | undefined {
  if (frame.length < wireHeader.size + TAG) return undefined;
  const header = wireHeader.decode(frame);
  const end = wireHeader.size + header.count * wireClaim.size;
  const key = keys.find(({ id }) => id === header.key_id);
  if (!key || header.version !== VERSION || header.count > MAX_CLAIMS || frame.length !== end + TAG) return undefined;
  const tag = new DataView(frame.buffer, frame.byteOffset).getBigUint64(end, true);
  if (tag !== sipHash(key, frame.subarray(0, end))) return undefined;
  const claims = Array.from({ length: header.count }, (_, i) =>
    wireClaim.decode(frame.subarray(wireHeader.size + i * wireClaim.size)),
  );
  return { ...header, claims };
}

/** Bytes of an Ethernet header, which an MTU does not count. */
const ETHERNET = 14;

/** How many claims a frame has at most on a link of this MTU; 0: not even one fits. */
export const claimsWithin = (mtu: number): number =>
  Math.max(0, Math.min(MAX_CLAIMS, Math.floor((mtu + ETHERNET - wireHeader.size - TAG) / wireClaim.size)));

const digest = (text: string) => createHash("sha256").update(text).digest();

/** A node's name in 64 bits: the first 8 bytes of its SHA-256. */
export const nodeId = (name: string): bigint => digest(name).readBigUInt64BE(0);

/**
 * The key that a key file's text stands for: the first 16 bytes of its SHA-256, and one byte of the rest as its id.
 * White space around the text does not count.
 */
export function wireKeyOf(text: string): WireKey {
  const bytes = digest(`isat wire key ${text.trim()}`);
  return { k0: bytes.readBigUInt64LE(0), k1: bytes.readBigUInt64LE(8), id: 1 + (bytes[16]! % 255) };
}

/** The key that signs where none is configured; anybody can sign with it. */
export const PUBLIC_KEY: WireKey = wireKeyOf("none");

export const isMine = ({ verdict }: WireClaim): boolean => verdict === claimVerdict.MINE;
