import { test } from "uvu";
import * as assert from "uvu/assert";
import { difference } from "../../src/core/difference.ts";
import { type EntryKey, entryKey } from "../../src/core/ownership.ts";

type Content = Record<string, boolean>;

const keys: Record<string, EntryKey> = {
  a: entryKey(2, 0x0a090001),
  b: entryKey(2, 0x0a090002),
  c: entryKey(3, 0x0a090001), // a's address on another interface
};
const name = (key: EntryKey) => Object.keys(keys).find((name) => keys[name] === key)!;
const entries = (content: Content) => new Map(Object.entries(content).map(([name, isOwned]) => [keys[name]!, isOwned]));

const rows: [what: string, wanted: Content, actual: Content, set: Content, remove: string[]][] = [
  ["nothing changes where nothing is wanted and nothing there", {}, {}, {}, []],
  ["nothing changes where all is as wanted", { a: true, b: false }, { a: true, b: false }, {}, []],
  ["the order of the entries plays no part", { a: true, b: false }, { b: false, a: true }, {}, []],
  ["all is written where nothing is there", { a: true, b: false }, {}, { a: true, b: false }, []],
  ["all is removed where nothing is wanted", {}, { a: true, b: false }, {}, ["a", "b"]],
  ["a VIP gained is written", { a: true }, { a: false }, { a: true }, []],
  ["a VIP lost is written, not removed", { a: false }, { a: true }, { a: false }, []],
  ["a VIP on another interface is another entry", { c: true }, { a: true }, { c: true }, ["a"]],
  ["only what differs is touched", { a: true, b: true }, { a: true, b: false, c: false }, { b: true }, ["c"]],
];
for (const [what, wanted, actual, set, remove] of rows) {
  test(what, () => {
    const found = difference(entries(wanted), entries(actual));
    assert.equal(Object.fromEntries(found.set.map(([key, isOwned]) => [name(key), isOwned])), set);
    assert.equal(found.remove.map(name).sort(), remove);
  });
}

test("applied, the difference makes the actual entries the wanted ones", () => {
  const states = [undefined, false, true];
  const contents = states.flatMap((a) => states.flatMap((b) => states.map((c) => ({ a, b, c }))));
  const present = (content: object) =>
    entries(Object.fromEntries(Object.entries(content).filter(([, state]) => state !== undefined)));
  for (const wanted of contents.map(present)) {
    for (const actual of contents.map(present)) {
      const { set, remove } = difference(wanted, actual);
      for (const [key, isOwned] of set) actual.set(key, isOwned);
      for (const key of remove) actual.delete(key);
      assert.equal([...actual].sort(), [...wanted].sort());
    }
  }
});

test("neither side is changed", () => {
  const wanted = entries({ a: true });
  const actual = entries({ a: false, b: true });
  difference(wanted, actual);
  assert.equal([...wanted], [...entries({ a: true })]);
  assert.equal([...actual], [...entries({ a: false, b: true })]);
});

test.run();
