import { test } from "uvu";
import * as assert from "uvu/assert";
import { differences, median, quantile, ratios, slope, spread } from "../../bench/statistics.ts";

test("the median of an odd number of values is the one in the middle, whatever their order", () => {
  assert.is(median([9, 1, 5]), 5);
});

test("the median of an even number of values is the mean of the two in the middle", () => {
  assert.is(median([4, 1, 3, 100]), 3.5);
});

test("values are sorted as numbers, and the argument is not changed", () => {
  const values = [10, 9, 100];
  assert.is(median(values), 10);
  assert.equal(values, [10, 9, 100]);
});

test("without values there is no median and no quantile", () => {
  assert.ok(Number.isNaN(median([])));
  assert.ok(Number.isNaN(quantile([], 0.5)));
});

for (const [q, expected] of [
  [0, 1],
  [0.5, 50],
  [0.99, 99],
  [0.999, 100],
  [1, 100],
] as const) {
  test(`of 1 to 100, the quantile ${q} is ${expected}`, () => {
    assert.is(
      quantile(
        Array.from({ length: 100 }, (_, i) => i + 1),
        q,
      ),
      expected,
    );
  });
}

test("a spread has the median, the least and the greatest value", () => {
  assert.equal(spread([3, 1, 2]), { median: 2, min: 1, max: 3 });
});

test("ratios and differences are computed round by round", () => {
  assert.equal(ratios([2, 9], [4, 3]), [0.5, 3]);
  assert.equal(differences([2, 9], [4, 3]), [-2, 6]);
});

test("the slope of a line is found, and through noise that cancels out", () => {
  assert.is(
    slope([
      [0, 1],
      [1, 3],
      [2, 5],
    ]),
    2,
  );
  assert.is(
    slope([
      [0, 1],
      [1, -1],
      [2, 1],
      [3, -1],
      [4, 1],
    ]),
    0,
  );
});

test("one point has no slope", () => assert.ok(Number.isNaN(slope([[1, 1]]))));

test.run();
