/**
 * SipHash-2-4 from the paper ("SipHash: a fast short-input PRF", Aumasson and Bernstein, 2012, section 2), in big integers
 * and written only to be right: the kernel's and the control plane's are compared with it.
 */

const word = (value: bigint) => BigInt.asUintN(64, value);
const rotate = (value: bigint, bits: bigint) => word((value << bits) | (value >> (64n - bits)));

/** @param key 16 bytes */
export function siphash(key: Uint8Array, message: Uint8Array): bigint {
  const k = new DataView(key.buffer, key.byteOffset);
  const [k0, k1] = [k.getBigUint64(0, true), k.getBigUint64(8, true)];
  let [v0, v1, v2, v3] = [
    k0 ^ 0x736f6d6570736575n,
    k1 ^ 0x646f72616e646f6dn,
    k0 ^ 0x6c7967656e657261n,
    k1 ^ 0x7465646279746573n,
  ];
  function rounds(count: number): void {
    for (let i = 0; i < count; i++) {
      v0 = word(v0 + v1);
      v2 = word(v2 + v3);
      v1 = rotate(v1, 13n) ^ v0;
      v3 = rotate(v3, 16n) ^ v2;
      v0 = rotate(v0, 32n);
      v2 = word(v2 + v1);
      v0 = word(v0 + v3);
      v1 = rotate(v1, 17n) ^ v2;
      v3 = rotate(v3, 21n) ^ v0;
      v2 = rotate(v2, 32n);
    }
  }
  // Whole words, then one of what is left over, with the length in its highest byte.
  const padded = new Uint8Array((Math.floor(message.length / 8) + 1) * 8);
  padded.set(message);
  padded[padded.length - 1] = message.length & 255;
  const view = new DataView(padded.buffer);
  for (let at = 0; at < padded.length; at += 8) {
    const m = view.getBigUint64(at, true);
    v3 ^= m;
    rounds(2);
    v0 ^= m;
  }
  v2 ^= 0xffn;
  rounds(4);
  return v0 ^ v1 ^ v2 ^ v3;
}
