/** A SipHash key: two little-endian halves of 64 bits. */
export interface SipKey {
  k0: bigint;
  k1: bigint;
}

const low = (value: bigint) => Number(value & 0xffffffffn) | 0;
const high = (value: bigint) => Number(value >> 32n) | 0;

/** The four words of a hash under way, each in halves of 32 bits, because 64-bit numbers are ten times as slow here. */
class State {
  private v0l: number;
  private v0h: number;
  private v1l: number;
  private v1h: number;
  private v2l: number;
  private v2h: number;
  private v3l: number;
  private v3h: number;

  constructor({ k0, k1 }: SipKey) {
    this.v0l = low(k0) ^ 0x70736575;
    this.v0h = high(k0) ^ 0x736f6d65;
    this.v1l = low(k1) ^ 0x6e646f6d;
    this.v1h = high(k1) ^ 0x646f7261;
    this.v2l = low(k0) ^ 0x6e657261;
    this.v2h = high(k0) ^ 0x6c796765;
    this.v3l = low(k1) ^ 0x79746573;
    this.v3h = high(k1) ^ 0x74656462;
  }

  absorb(l: number, h: number): void {
    this.v3l ^= l;
    this.v3h ^= h;
    this.round();
    this.round();
    this.v0l ^= l;
    this.v0h ^= h;
  }

  finish(): bigint {
    this.v2l ^= 0xff;
    for (let i = 0; i < 4; i++) this.round();
    const half = (value: number) => BigInt(value >>> 0);
    const { v0l, v0h, v1l, v1h, v2l, v2h, v3l, v3h } = this;
    return (half(v0h ^ v1h ^ v2h ^ v3h) << 32n) | half(v0l ^ v1l ^ v2l ^ v3l);
  }

  private round(): void {
    this.firstHalf();
    this.secondHalf();
  }

  /** v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32); v2 += v3; v3 = rotl(v3, 16) ^ v2 */
  private firstHalf(): void {
    const { v1l, v1h, v3l, v3h } = this;
    const sum0 = (this.v0l >>> 0) + (v1l >>> 0);
    const v0l = sum0 | 0;
    const v0h = (this.v0h + v1h + (sum0 > 0xffffffff ? 1 : 0)) | 0;
    this.v1l = ((v1l << 13) | (v1h >>> 19)) ^ v0l;
    this.v1h = ((v1h << 13) | (v1l >>> 19)) ^ v0h;
    this.v0l = v0h;
    this.v0h = v0l;
    const sum2 = (this.v2l >>> 0) + (v3l >>> 0);
    this.v2l = sum2 | 0;
    this.v2h = (this.v2h + v3h + (sum2 > 0xffffffff ? 1 : 0)) | 0;
    this.v3l = ((v3l << 16) | (v3h >>> 16)) ^ this.v2l;
    this.v3h = ((v3h << 16) | (v3l >>> 16)) ^ this.v2h;
  }

  /** v0 += v3; v3 = rotl(v3, 21) ^ v0; v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32) */
  private secondHalf(): void {
    const { v1l, v1h, v3l, v3h } = this;
    const sum0 = (this.v0l >>> 0) + (v3l >>> 0);
    this.v0l = sum0 | 0;
    this.v0h = (this.v0h + v3h + (sum0 > 0xffffffff ? 1 : 0)) | 0;
    this.v3l = ((v3l << 21) | (v3h >>> 11)) ^ this.v0l;
    this.v3h = ((v3h << 21) | (v3l >>> 11)) ^ this.v0h;
    const sum2 = (this.v2l >>> 0) + (v1l >>> 0);
    const v2l = sum2 | 0;
    const v2h = (this.v2h + v1h + (sum2 > 0xffffffff ? 1 : 0)) | 0;
    this.v1l = ((v1l << 17) | (v1h >>> 15)) ^ v2l;
    this.v1h = ((v1h << 17) | (v1l >>> 15)) ^ v2h;
    this.v2l = v2h;
    this.v2h = v2l;
  }
}

/**
 * SipHash-2-4 (Aumasson and Bernstein, 2012) of the bytes: 64 bits, short enough for a frame, and cheap enough for a
 * kernel program.
 */
export function sipHash(key: SipKey, bytes: Uint8Array): bigint {
  const state = new State(key);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const whole = bytes.length - (bytes.length % 8);
  for (let at = 0; at < whole; at += 8) state.absorb(view.getInt32(at, true), view.getInt32(at + 4, true));
  const tail = new Uint8Array(8);
  tail.set(bytes.subarray(whole));
  tail[7] = bytes.length & 255;
  const last = new DataView(tail.buffer);
  state.absorb(last.getInt32(0, true), last.getInt32(4, true));
  return state.finish();
}
