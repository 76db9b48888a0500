import { test } from "uvu";
import * as assert from "uvu/assert";
import { sipHash } from "../../src/core/siphash.ts";

/**
 * SipHash-2-4 with the key 00 01 .. 0f of the empty text, of 00, of 00 01, and so on: the test vectors of the paper, as
 * OpenSSL computes them (openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:8 SIPHASH).
 */
const VECTORS = `
  310e0edd47db6f72 fd67dc93c539f874 5a4fa9d909806c0d 2d7efbd796666785 b7877127e09427cf 8da699cd64557618
  cee3fe586e46c9cb 37d1018bf50002ab 6224939a79f5f593 b0e4a90bdf82009e f3b9dd94c5bb5d7a a7ad6b22462fb3f4
  fbe50e86bc8f1e75 903d84c02756ea14 eef27a8e90ca23f7 e545be4961ca29a1 db9bc2577fcc2a3f 9447be2cf5e99a69
  9cd38d96f0b3c14b bd6179a71dc96dbb 98eea21af25cd6be c7673b2eb0cbf2d0 883ea3e395675393 c8ce5ccd8c030ca8
  94af49f6c650adb8 eab8858ade92e1bc f315bb5bb835d817 adcf6b0763612e2f a5c91da7acaa4dde 716595876650a2a6
  28ef495c53a387ad 42c341d8fa92d832 ce7cf2722f512771 e37859f94623f3a7 381205bb1ab0e012 ae97a10fd434e015
  b4a31508beff4d31 81396229f0907902 4d0cf49ee5d4dcca 5c73336a76d8bf9a d0a704536ba93e0e 925958fcd6420cad
  a915c29bc8067318 952b79f3bc0aa6d4 f21df2e41d4535f9 87577519048f53a9 10a56cf5dfcd9adb eb75095ccd986cd0
  51a9cb9ecba312e6 96afadfc2ce666c7 72fe52975a4364ee 5a1645b276d592a1 b274cb8ebf87870a 6f9bb4203de7b381
  eaecb2a30b22a87f 9924a43cc1315724 bd838d3aafbf8db7 0b1a2a3265d51aea 135079a3231ce660 932b2846e4d70666
  e1915f5cb1eca46c f325965ca16d629f 575ff28e60381be5 724506eb4c328a95
`
  .trim()
  .split(/\s+/);

const key = { k0: 0x0706050403020100n, k1: 0x0f0e0d0c0b0a0908n };
const count = (length: number) => Uint8Array.from({ length }, (_, i) => i);
const hex = (hash: bigint) => Buffer.from(BigUint64Array.of(hash).buffer).toString("hex");

test("the empty text and those of up to 63 bytes hash as the reference says", () => {
  assert.is(VECTORS.length, 64);
  VECTORS.forEach((vector, length) => {
    assert.is(hex(sipHash(key, count(length))), vector, `${length} bytes`);
  });
});

test("15 bytes hash as in the paper's appendix", () => assert.is(sipHash(key, count(15)), 0xa129ca6149be45e5n));

test("bytes in the middle of a buffer hash as they do alone", () => {
  for (const length of [7, 8, 9, 63]) {
    const buffer = new Uint8Array(80).fill(0xa5);
    buffer.set(count(length), 5);
    assert.is(hex(sipHash(key, buffer.subarray(5, 5 + length))), VECTORS[length]);
  }
});

test("each bit of the key and of the text counts", () => {
  const hashes = new Set([sipHash(key, count(16))]);
  for (let bit = 0n; bit < 64n; bit++) {
    hashes.add(sipHash({ ...key, k0: key.k0 ^ (1n << bit) }, count(16)));
    hashes.add(sipHash({ ...key, k1: key.k1 ^ (1n << bit) }, count(16)));
  }
  for (let bit = 0; bit < 128; bit++) {
    const text = count(16);
    text[bit >> 3]! ^= 1 << (bit & 7);
    hashes.add(sipHash(key, text));
  }
  assert.is(hashes.size, 1 + 128 + 128);
});

test("zeros at the end are not as if they were not there", () => {
  const hashes = new Set(Array.from({ length: 64 }, (_, length) => sipHash(key, new Uint8Array(length))));
  assert.is(hashes.size, 64);
});

test.run();
