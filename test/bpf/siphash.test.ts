import { test } from "uvu";
import * as assert from "uvu/assert";
import { siphash } from "./siphash.ts";

const count = (length: number) => Uint8Array.from({ length }, (_, i) => i);

/** The authors' test vectors (vectors.h of their implementation): key 00 01 .. 0f, message 00 01 .. of that length. */
const vectors: [length: number, hash: bigint][] = [
  [0, 0x726fdb47dd0e0e31n],
  [1, 0x74f839c593dc67fdn],
  [7, 0xab0200f58b01d137n],
  [8, 0x93f5f5799a932462n],
  [15, 0xa129ca6149be45e5n], // the paper's own example, appendix A
  [16, 0x3f2acc7f57c29bdbn],
  [63, 0x958a324ceb064572n],
];
for (const [length, hash] of vectors) {
  test(`of ${length} bytes, it is what its authors say`, () => assert.is(siphash(count(16), count(length)), hash));
}

test.run();
