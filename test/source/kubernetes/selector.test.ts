import { test } from "uvu";
import * as assert from "uvu/assert";
import { type LabelSelector, selects } from "../../../src/source/kubernetes/selector.ts";

const LABELS = { a: "1", b: "2" };
const requirements: [
  operator: LabelSelector["matchExpressions"][0]["operator"],
  key: string,
  values: string[],
  holds: boolean,
][] = [
  ["In", "a", ["1", "9"], true],
  ["In", "a", ["9"], false],
  ["In", "c", ["1"], false],
  ["NotIn", "a", ["9"], true],
  ["NotIn", "a", ["1"], false],
  ["NotIn", "c", ["1"], true],
  ["Exists", "a", [], true],
  ["Exists", "toString", [], false],
  ["DoesNotExist", "c", [], true],
  ["DoesNotExist", "a", [], false],
];
for (const [operator, key, values, holds] of requirements) {
  test(`${key} ${operator} [${values}] ${holds ? "holds" : "does not hold"} of a=1, b=2`, () => {
    assert.is(selects({ matchLabels: {}, matchExpressions: [{ key, operator, values }] }, LABELS), holds);
    assert.is(selects({ matchLabels: { b: "2" }, matchExpressions: [{ key, operator, values }] }, LABELS), holds);
    assert.is(selects({ matchLabels: { b: "3" }, matchExpressions: [{ key, operator, values }] }, LABELS), false);
  });
}

test.run();
