/** A SipHash key: two little-endian halves of 64 bits. */
export interface SipKey {
  k0: bigint;
  k1: bigint;
}

/**
 * SipHash-2-4 (Aumasson and Bernstein, 2012) of the bytes: 64 bits, short enough for a frame, and cheap enough for a
 * kernel program. It computes in halves of 32 bits, because 64-bit numbers are ten times as slow here.
 */
export function sipHash({ k0, k1 }: SipKey, bytes: Uint8Array): bigint {
  const low = (value: bigint) => Number(value & 0xffffffffn) | 0;
  const high = (value: bigint) => Number(value >> 32n) | 0;
  let [v0l, v0h] = [low(k0) ^ 0x70736575, high(k0) ^ 0x736f6d65];
  let [v1l, v1h] = [low(k1) ^ 0x6e646f6d, high(k1) ^ 0x646f7261];
  let [v2l, v2h] = [low(k0) ^ 0x6e657261, high(k0) ^ 0x6c796765];
  let [v3l, v3h] = [low(k1) ^ 0x79746573, high(k1) ^ 0x74656462];

  function rounds(count: number): void {
    for (let i = 0; i < count; i++) {
      let l: number;
      let h: number;
      // v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
      l = (v0l >>> 0) + (v1l >>> 0);
      v0h = (v0h + v1h + (l > 0xffffffff ? 1 : 0)) | 0;
      v0l = l | 0;
      l = (v1l << 13) | (v1h >>> 19);
      h = (v1h << 13) | (v1l >>> 19);
      v1l = l ^ v0l;
      v1h = h ^ v0h;
      [v0l, v0h] = [v0h, v0l];
      // v2 += v3; v3 = rotl(v3, 16) ^ v2
      l = (v2l >>> 0) + (v3l >>> 0);
      v2h = (v2h + v3h + (l > 0xffffffff ? 1 : 0)) | 0;
      v2l = l | 0;
      l = (v3l << 16) | (v3h >>> 16);
      h = (v3h << 16) | (v3l >>> 16);
      v3l = l ^ v2l;
      v3h = h ^ v2h;
      // v0 += v3; v3 = rotl(v3, 21) ^ v0
      l = (v0l >>> 0) + (v3l >>> 0);
      v0h = (v0h + v3h + (l > 0xffffffff ? 1 : 0)) | 0;
      v0l = l | 0;
      l = (v3l << 21) | (v3h >>> 11);
      h = (v3h << 21) | (v3l >>> 11);
      v3l = l ^ v0l;
      v3h = h ^ v0h;
      // v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
      l = (v2l >>> 0) + (v1l >>> 0);
      v2h = (v2h + v1h + (l > 0xffffffff ? 1 : 0)) | 0;
      v2l = l | 0;
      l = (v1l << 17) | (v1h >>> 15);
      h = (v1h << 17) | (v1l >>> 15);
      v1l = l ^ v2l;
      v1h = h ^ v2h;
      [v2l, v2h] = [v2h, v2l];
    }
  }

  function absorb(l: number, h: number): void {
    v3l ^= l;
    v3h ^= h;
    rounds(2);
    v0l ^= l;
    v0h ^= h;
  }

  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const whole = bytes.length - (bytes.length % 8);
  for (let at = 0; at < whole; at += 8) absorb(view.getInt32(at, true), view.getInt32(at + 4, true));
  const tail = new Uint8Array(8);
  tail.set(bytes.subarray(whole));
  tail[7] = bytes.length & 255;
  const last = new DataView(tail.buffer);
  absorb(last.getInt32(0, true), last.getInt32(4, true));
  v2l ^= 0xff;
  rounds(4);
  const out = (half: number) => BigInt(half >>> 0);
  return (out(v0h ^ v1h ^ v2h ^ v3h) << 32n) | out(v0l ^ v1l ^ v2l ^ v3l);
}
