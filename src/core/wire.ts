import { createHash } from "node:crypto";
import { claimVerdict, type WireClaim, type WireHeader, wireClaim, wireHeader, type wireType } from "./abi.ts";
import { type SipKey, sipHash } from "./siphash.ts";

/** What isat's nodes say to each other: docs/wire.md. The twin of this file is bpf/wire.h. */

/** IEEE 802, local experimental EtherType 1. */
export const ETH_P_ISAT = 0x88b5;
/** The version that this isat sends, and the highest that it knows. */
export const VERSION = 1;
/** Claims that one frame holds at most. */
export const MAX_CLAIMS = 64;
export const SOURCE_STALE = 1;
export const KNOWN = 2;

const TAG = 8;
const PROTOCOL = Uint8Array.of(ETH_P_ISAT >> 8, ETH_P_ISAT & 255);

/** A key as the kernel's map has it. */
export interface WireKey extends SipKey {
  /** Sent with each frame, so that it is verified with one key only: 1 to 255. */
  id: number;
}

/** What a sender says; what is the same in all of its frames is filled in. */
export type Message = Partial<WireHeader> & {
  type: (typeof wireType)[keyof typeof wireType];
  claims?: readonly WireClaim[];
};

/** Signed by the key: the bytes to send. */
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

/** What an authentic frame says; undefined for one that is none. */
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

/** What signs where there is no key: anybody can. */
export const PUBLIC_KEY: WireKey = wireKeyOf("none");

export const isMine = ({ verdict }: WireClaim): boolean => verdict === claimVerdict.MINE;
