/** Frames of the peer protocol (bpf/wire.h), built and read for the tests. */
import { type WireHeader, type WireKey, wireClaim, wireHeader, wireOldClaim } from "../../src/core/abi.ts";
import { formatAddress, ipv6OfBytes } from "../../src/core/address.ts";
import { siphash } from "./siphash.ts";

/**
 * BPF_PROG_TEST_RUN without a context runs a program as on `lo`, whose ifindex is 1 in every network namespace, at TC and
 * at XDP alike (net/bpf/test_run.c). Nothing arrives on the real `lo`; only the maps' entries have to name it.
 */
export const IFINDEX = 1;

export const ETH_P_ISAT = Uint8Array.of(0x88, 0xb5);
const TAG = 8;

const keyBytes = ({ k0, k1 }: WireKey) => new Uint8Array(BigUint64Array.of(k0, k1).buffer);

/** The last tags, for a frame that is signed is verified next, and by more than one. */
const tags = new Map<string, bigint>();
const REMEMBERED = 200;

function computeTag(key: WireKey, message: Uint8Array): bigint {
  const name = `${key.k0} ${key.k1} ${Buffer.from(message).toString("latin1")}`;
  const known = tags.get(name);
  if (known !== undefined) return known;
  const tag = siphash(keyBytes(key), message);
  if (tags.size >= REMEMBERED) tags.delete(tags.keys().next().value!);
  tags.set(name, tag);
  return tag;
}

/** The frame with its last eight bytes made the tag of all before them. */
export function sign(frame: Uint8Array, key: WireKey): Uint8Array {
  const signed = Uint8Array.from(frame);
  const tag = computeTag(key, signed.subarray(0, -TAG));
  new DataView(signed.buffer).setBigUint64(signed.length - TAG, tag, true);
  return signed;
}

/** The tag at the end of the frame, right or wrong. */
export const tagOf = (frame: Uint8Array): bigint =>
  new DataView(frame.buffer, frame.byteOffset + frame.length - TAG).getBigUint64(0, true);

export const isSigned = (frame: Uint8Array, key: WireKey): boolean => Buffer.compare(sign(frame, key), frame) === 0;

/** A claim of either version as it stands in a frame: an IPv4 address may have 4 bytes, or 16. */
export interface Claim {
  ip: Uint8Array;
  verdict: number;
  hash: bigint;
  /** @default by the length of `ip`; 0: the claim asks for a node */
  family?: number;
}

const OLD = 1;
/** Bytes of a header without claims and tag, and of a claim. */
export const sizeOf = (version: number): { header: number; claim: number } =>
  version === OLD ? { header: 96, claim: 16 } : { header: 128, claim: 32 };

/** The family of a claim's address; 0: it asks for a node. */
export const familyOf = ({ ip, family = ip.length === 0 ? 0 : ip.length === 4 ? 4 : 6 }: Claim): number => family;

/** The address that a claim is for, as text; undefined for one of another family than IPv4 and IPv6. */
export function addressOf(claim: Claim): string | undefined {
  const family = familyOf(claim);
  if (family === 4) return claim.ip.subarray(0, 4).join(".");
  return family === 6 && claim.ip.length === 16 ? formatAddress(ipv6OfBytes(claim.ip)) : undefined;
}

function encodeClaim({ ip = new Uint8Array(4), verdict = 0, hash = 0n, family }: Partial<Claim>, version: number) {
  if (version === OLD) return wireOldClaim.encode({ ip, verdict, hash });
  return wireClaim.encode({
    ip,
    verdict,
    hash,
    family: familyOf({ ip, verdict, hash, ...(family !== undefined && { family }) }),
  });
}

function decodeClaim(bytes: Uint8Array, version: number): Claim {
  return version === OLD ? { ...wireOldClaim.decode(bytes), family: 4 } : wireClaim.decode(bytes);
}

/** A signed frame: the header, with as many claims as it says where `count` is not given, and the tag. */
export function speak(header: Partial<WireHeader>, key: WireKey, claims: readonly Partial<Claim>[] = []): Uint8Array {
  const whole = wireHeader.of({
    protocol: ETH_P_ISAT,
    version: 2,
    key_id: key.id,
    max_version: 2,
    count: claims.length,
    cluster: key.cluster,
    ...header,
  });
  const size = sizeOf(whole.version);
  const parts = claims.map((claim) => encodeClaim(claim, whole.version));
  return sign(Buffer.concat([wireHeader.encode(whole).subarray(0, size.header), ...parts, new Uint8Array(TAG)]), key);
}

/** The header of a frame that has at least that of version 1, which has nothing in the others' fields. */
export function headerOf(frame: Uint8Array): WireHeader {
  const bytes = new Uint8Array(wireHeader.size);
  const version = frame[14]!;
  bytes.set(frame.subarray(0, sizeOf(version).header));
  return wireHeader.decode(bytes);
}

/** The content of a frame that is long enough. */
export function understand(frame: Uint8Array): { header: WireHeader; claims: Claim[] } {
  const header = headerOf(frame);
  const size = sizeOf(header.version);
  const claims = Array.from({ length: header.count }, (_, i) => {
    const at = size.header + i * size.claim;
    return decodeClaim(frame.subarray(at, at + size.claim), header.version);
  });
  return { header, claims };
}
