import { createHash } from "node:crypto";
import {
  claimVerdict,
  ETH_P_ISAT,
  WIRE_MAX_CLAIMS as MAX_CLAIMS,
  MAX_KEYS,
  WIRE_OLD_MAX_CLAIMS as OLD_MAX_CLAIMS,
  WIRE_OLD_VERSION as OLD_VERSION,
  WIRE_TAG as TAG,
  WIRE_VERSION as VERSION,
  WIRE_NODE_STALE,
  WIRE_NODE_STATE,
  type WireClaim,
  type WireHeader,
  type WireKey,
  type WireType,
  wireClaim,
  wireHeader,
  wireOldClaim,
} from "./abi.ts";
import { sipHash } from "./siphash.ts";
import type { Ns } from "./time.ts";

/** The wire format of the peer protocol: docs/peer-protocol.md. The kernel's side of it is bpf/wire.h. */

export {
  ETH_P_ISAT,
  WIRE_KNOWN as KNOWN,
  WIRE_MAX_CLAIMS as MAX_CLAIMS,
  WIRE_OLD_VERSION as OLD_VERSION,
  WIRE_ONLY_IPV4 as ONLY_IPV4,
  WIRE_SOURCE_STALE as SOURCE_STALE,
  WIRE_VERSION as VERSION,
} from "./abi.ts";

const PROTOCOL = Uint8Array.of(ETH_P_ISAT >> 8, ETH_P_ISAT & 255);
/** The part of the header that version 1 has. */
const OLD_HEADER = wireHeader.fields.get("cluster")!.offset;

/** A claim of either version. */
export interface Claim extends Pick<WireClaim, "verdict" | "hash"> {
  /** 4 bytes, or 16; none: the claim is a question about a node. */
  ip: Uint8Array;
}

/** The keys that sign and verify a node's frames, with the identity of its cluster. */
export interface Keyring {
  /** The keys of the current version: the first signs, all verify. */
  keys: readonly WireKey[];
  /** The keys of version 1; none where it is not spoken. */
  oldKeys: readonly WireKey[];
}

/** The content of a frame; encodeWire() fills in the fields that are the same in all frames. */
export type Message = Partial<WireHeader> & {
  type: WireType;
  claims?: readonly Claim[];
};

/**
 * The bytes to send, signed by the first key of the version. Version 1 has claims of IPv4 VIPs only, and the others are left
 * out: whoever knows no other version has no IPv6 VIP, so nothing has to be released there.
 */
export function encodeWire({ claims: all = [], ...header }: Message, ring: Keyring, version = VERSION): Uint8Array {
  const claims = version === OLD_VERSION ? all.filter(({ ip }) => ip.length === 4) : all;
  const { keys, size, claimSize } = formOf(version, ring);
  const key = keys[0]!;
  const end = size + claims.length * claimSize;
  const frame = new Uint8Array(end + TAG);
  const whole = { ...header, protocol: PROTOCOL, version, max_version: VERSION, key_id: key.id, cluster: key.cluster };
  frame.set(wireHeader.encode(wireHeader.of({ ...whole, count: claims.length })).subarray(0, size));
  claims.forEach((claim, i) => {
    frame.set(encodeClaim(claim, version), size + i * claimSize);
  });
  new DataView(frame.buffer).setBigUint64(end, sipHash(key, frame.subarray(0, end)), true);
  return frame;
}

/** The content of a frame; undefined for one that is not authentic. */
export function decodeWire(frame: Uint8Array, ring: Keyring): (WireHeader & { claims: Claim[] }) | undefined {
  const header = decodeHeader(frame);
  if (!header) return undefined;
  const { keys, size, claimSize, mostClaims } = formOf(header.version, ring);
  const end = size + header.count * claimSize;
  const key = keys.find(
    ({ id, cluster }) => id === header.key_id && (size === OLD_HEADER || cluster === header.cluster),
  );
  if (!key || header.count > mostClaims || frame.length !== end + TAG) return undefined;
  const tag = new DataView(frame.buffer, frame.byteOffset).getBigUint64(end, true);
  if (tag !== sipHash(key, frame.subarray(0, end))) return undefined;
  const claims = Array.from({ length: header.count }, (_, i) =>
    decodeClaim(frame.subarray(size + i * claimSize), header.version),
  );
  return { ...header, claims };
}

/** Bytes of an Ethernet header, which an MTU does not count. */
const ETHERNET = 14;

/** The most claims that a frame has on a link of this MTU; 0: not even one fits. */
export const claimsWithin = (mtu: number): number =>
  Math.max(0, Math.min(MAX_CLAIMS, Math.floor((mtu + ETHERNET - wireHeader.size - TAG) / wireClaim.size)));
/** The header of a frame, be it authentic or not; undefined for one of an unknown version, or cut short. */
export function decodeHeader(frame: Uint8Array): WireHeader | undefined {
  const version = frame[wireHeader.fields.get("version")!.offset];
  const size = version === OLD_VERSION ? OLD_HEADER : wireHeader.size;
  if ((version !== VERSION && version !== OLD_VERSION) || frame.length < size + TAG) return undefined;
  const whole = new Uint8Array(wireHeader.size);
  whole.set(frame.subarray(0, size));
  const header = wireHeader.decode(whole);
  return { ...header, name: printable(header.name) };
}

function formOf(version: number, { keys, oldKeys }: Keyring) {
  return version === OLD_VERSION
    ? { keys: oldKeys, size: OLD_HEADER, claimSize: wireOldClaim.size, mostClaims: OLD_MAX_CLAIMS }
    : { keys, size: wireHeader.size, claimSize: wireClaim.size, mostClaims: MAX_CLAIMS };
}

function encodeClaim(claim: Claim, version: number): Uint8Array {
  return version === OLD_VERSION ? wireOldClaim.encode(claim) : wireClaim.encode({ ...claim, family: familyOf(claim) });
}

/** The families of addresses, and 0: a question about a node. */
const FAMILIES = new Map<number, WireClaim["family"]>([
  [0, 0],
  [4, 4],
  [16, 6],
]);
const familyOf = ({ ip }: Claim) => FAMILIES.get(ip.length) ?? 6;

function decodeClaim(bytes: Uint8Array, version: number): Claim {
  if (version === OLD_VERSION) return wireOldClaim.decode(bytes);
  const { ip, verdict, hash, family } = wireClaim.decode(bytes);
  return { ip: family === 4 || family === 0 ? ip.slice(0, family) : ip, verdict, hash };
}

/** A peer's word of another node. */
export interface Word {
  /** The time since it was last heard. */
  age: Ns;
  /** Its state, and whether its source is stale, as it said itself. */
  state: number;
  sourceStale: boolean;
}

/** The question when the receiver has heard a node last. */
export const claimAbout = (node: bigint): Claim => ({ ip: NO_ADDRESS, verdict: claimVerdict.CLAIMED, hash: node });
const NO_ADDRESS = new Uint8Array(0);

export const isAbout = ({ ip }: Claim): boolean => ip.length === 0;

/** The answer to such a question. A peer that does not know of it answers as for an address that it does not have. */
export const wordOf = ({ verdict, hash }: Claim): Word => ({
  age: hash,
  state: verdict & WIRE_NODE_STATE,
  sourceStale: (verdict & WIRE_NODE_STALE) !== 0,
});

const digest = (text: string) => createHash("sha256").update(text).digest();

/** A node's name in 64 bits: the first 8 bytes of its SHA-256. */
export const nodeId = (name: string): bigint => digest(name).readBigUInt64BE(0);

/**
 * A name off the wire, as names of nodes are: a terminal obeys some other characters, and the reader of a log others.
 */
export const printable = (text: string): string => text.replace(/[^A-Za-z0-9.-]/g, "?");

/** The identity of a cluster, out of a text that no other cluster has. */
export const clusterId = (text: string): bigint => digest(`isat cluster ${text}`).readBigUInt64BE(0);

/** The content of a key file as a key. */
export type FileKey = Omit<WireKey, "cluster">;

/**
 * The key that a key file's text stands for: the first 16 bytes of its SHA-256, and one byte of the rest as its id.
 * White space around the text does not count. It signs frames of version 1.
 */
export function wireKeyOf(text: string): FileKey {
  const bytes = digest(`isat wire key ${text.trim()}`);
  return { k0: bytes.readBigUInt64LE(0), k1: bytes.readBigUInt64LE(8), id: 1 + (bytes[16]! % 255) };
}

/** The key that signs where none is configured; anybody can sign with it. */
export const PUBLIC_KEY: FileKey = wireKeyOf("none");

/** A cluster's own key out of a key file's: a frame of another cluster with the same key file has another tag. */
function keyOfCluster({ k0, k1, id }: FileKey, cluster: bigint): WireKey {
  const bytes = createHash("sha256")
    .update("isat wire key of a cluster")
    .update(new Uint8Array(BigUint64Array.of(k0, k1, cluster).buffer))
    .digest();
  return { k0: bytes.readBigUInt64LE(0), k1: bytes.readBigUInt64LE(8), id, cluster };
}

/** @param isOldSpoken whether frames of version 1, which name no cluster, are sent and believed */
export function keyring(files: readonly FileKey[], cluster: bigint, isOldSpoken: boolean): Keyring {
  const keys = files.map((key) => keyOfCluster(key, cluster));
  return { keys, oldKeys: isOldSpoken ? files.map((key) => ({ ...key, cluster })) : [] };
}

/** The kernel's map `keys`, place by place: those of version 1 behind the others. */
export function keyPlaces({ keys, oldKeys }: Keyring): WireKey[] {
  const none = { k0: 0n, k1: 0n, id: 0, cluster: 0n };
  return [keys, oldKeys].flatMap((its) => Array.from({ length: MAX_KEYS }, (_, i) => its[i] ?? none));
}

export const isMine = ({ verdict }: Claim): boolean => verdict === claimVerdict.MINE;
