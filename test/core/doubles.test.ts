import { test } from "uvu";
import * as assert from "uvu/assert";
import { Doubles } from "../../src/core/doubles.ts";
import { SECOND } from "../../src/core/time.ts";

const NOW = 1_000n * SECOND;
const NAMES: Record<number, string> = { 2: "eth0", 3: "eth1" };
const nameOf = (ifindex: number) => NAMES[ifindex];
const everywhere = () => true;

for (const [on, from] of [
  [2, 3],
  [3, 2],
] as const) {
  test(`of two interfaces on one wire, the first by name announces: a frame of ${NAMES[from]} came in on ${NAMES[on]}`, () => {
    const doubles = new Doubles();
    assert.is(
      doubles.hear(on, from, nameOf, NOW),
      "eth0 and eth1 are on one wire: announcing on eth0 only. Take eth1 out of interfaces:",
    );
    assert.equal(doubles.reasons(everywhere), new Map([[3, "it is on one wire with eth0, which announces for both"]]));
  });
}

test("a frame that comes back where it left is a loop, and bars no interface", () => {
  const doubles = new Doubles();
  assert.is(doubles.hear(2, 2, nameOf, NOW), "isat's own frames come back on eth0: there is a loop in the network");
  assert.is(doubles.reasons(everywhere).size, 0);
});

test("an interface that is not served may well be on the same wire: nothing is logged, and nothing is barred", () => {
  const doubles = new Doubles();
  assert.is(doubles.hear(9, 2, nameOf, NOW), undefined);
  assert.is(doubles.reasons(everywhere).size, 0);
});

test("an interface that is barred stays so while frames come in, and for a minute after the last", () => {
  const doubles = new Doubles();
  doubles.hear(3, 2, nameOf, NOW);
  // It is no longer served, so it has no name here.
  const onlyFirst = (ifindex: number) => (ifindex === 2 ? "eth0" : undefined);
  assert.is(doubles.hear(3, 2, onlyFirst, NOW + 50n * SECOND), undefined, "known already");
  assert.is(doubles.expire(NOW + 110n * SECOND - 1n), false);
  assert.is(doubles.reasons(everywhere).size, 1);
  assert.is(doubles.expire(NOW + 110n * SECOND), true);
  assert.is(doubles.reasons(everywhere).size, 0);
  assert.is(doubles.expire(NOW + 200n * SECOND), false);
});

test("an interface is barred only while the other one announces", () => {
  const doubles = new Doubles();
  doubles.hear(3, 2, nameOf, NOW);
  assert.is(doubles.reasons((kept) => kept !== 2).size, 0);
  assert.is(doubles.reasons((kept) => kept === 2).size, 1);
});

test.run();
