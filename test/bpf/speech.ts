/** Frames of the peer protocol (bpf/wire.h), built and read for the tests. */
import { type WireClaim, type WireHeader, type WireKey, wireClaim, wireHeader } from "../../src/core/abi.ts";
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

/** A signed frame: the header, with as many claims as it says where `count` is not given, and the tag. */
export function speak(
  header: Partial<WireHeader>,
  key: WireKey,
  claims: readonly Partial<WireClaim>[] = [],
): Uint8Array {
  const whole = wireHeader.of({
    protocol: ETH_P_ISAT,
    version: 1,
    key_id: key.id,
    max_version: 1,
    count: claims.length,
    ...header,
  });
  const parts = [wireHeader.encode(whole), ...claims.map((claim) => wireClaim.encode(wireClaim.of(claim)))];
  return sign(Buffer.concat([...parts, new Uint8Array(TAG)]), key);
}

/** The content of a frame that is long enough. */
export function understand(frame: Uint8Array): { header: WireHeader; claims: WireClaim[] } {
  const header = wireHeader.decode(frame);
  const claims = Array.from({ length: header.count }, (_, i) => {
    const at = wireHeader.size + i * wireClaim.size;
    return wireClaim.decode(frame.subarray(at, at + wireClaim.size));
  });
  return { header, claims };
}
