import { test } from "uvu";
import * as assert from "uvu/assert";
import { vipState } from "../../src/core/abi.ts";
import { difference, type Held, LEAVE, UNOWNED } from "../../src/core/difference.ts";
import { type EntryKey, entryKey, Wish } from "../../src/core/ownership.ts";

const { OWNED, CLAIMING, LEAVING } = vipState;
const NOW = 10_000_000_000n;
const BID = 7n;

const held = (state: Held["state"], untilNs = 0n): Held => ({ state, claimNs: 1n, untilNs, hash: BID });
const own = held(OWNED);
const claiming = held(CLAIMING);
const leaving = held(LEAVING, NOW + 1n);
const left = held(LEAVING, NOW);
/** Owned from this instant on, without having asked anybody. */
const taken: Held = { ...own, claimNs: NOW };
/** Answered for another second. */
const goes: Held = { ...own, state: LEAVING, untilNs: NOW + LEAVE };
const none = UNOWNED;

const alone = { now: NOW, mustAsk: () => false, hash: () => BID };
const among = { ...alone, mustAsk: () => true };

type Became = Held | "as it was" | "asked for";

const A = entryKey(2, 0x0a090001);

/** What one entry becomes, where there are peers and where there are none. */
const table: [wish: keyof typeof Wish, actual: Held | undefined, amongPeers: Became, alone: Became][] = [
  ["ours", undefined, "asked for", taken],
  ["ours", none, "asked for", taken],
  ["ours", own, "as it was", "as it was"],
  ["ours", claiming, "asked for", taken],
  ["ours", leaving, "asked for", own],
  ["ours", left, "asked for", taken],
  ["stead", undefined, "asked for", taken],
  ["stead", none, "asked for", taken],
  ["stead", own, "as it was", "as it was"],
  ["stead", claiming, "asked for", taken],
  ["stead", leaving, "asked for", own],
  ["stead", left, "asked for", taken],
  ["other", undefined, none, none],
  ["other", none, "as it was", "as it was"],
  ["other", own, goes, none],
  ["other", claiming, none, none],
  ["other", leaving, "as it was", "as it was"],
  ["other", left, none, none],
  ["nobody", undefined, none, none],
  ["nobody", none, "as it was", "as it was"],
  ["nobody", own, none, none],
  ["nobody", claiming, none, none],
  ["nobody", leaving, none, none],
  ["nobody", left, none, none],
  ["unknown", undefined, none, none],
  ["unknown", none, "as it was", "as it was"],
  ["unknown", own, "as it was", "as it was"],
  ["unknown", claiming, "as it was", "as it was"],
  ["unknown", leaving, "as it was", "as it was"],
  ["unknown", left, none, none],
];

const NAMES = new Map<Held | undefined, string>([
  [undefined, "is new"],
  [none, "is not owned"],
  [own, "is owned"],
  [claiming, "is being asked for"],
  [leaving, "is leaving"],
  [left, "has left"],
  [taken, "owned from now on"],
  [goes, "leaving for a second"],
]);
const say = (became: Became) => (typeof became === "string" ? became : NAMES.get(became));

for (const [wish, actual, amongPeers, byItself] of table) {
  for (const [where, options, became] of [
    ["among peers", among, amongPeers],
    ["alone", alone, byItself],
  ] as const) {
    test(`${where}, what is to be ${wish} and ${NAMES.get(actual)} becomes: ${say(became)}`, () => {
      const found = difference(new Map([[A, Wish[wish]]]), new Map(actual ? [[A, actual] as const] : []), options);
      assert.equal(found.remove, []);
      assert.equal(found.claim, became === "asked for" && wish === "ours" ? [A] : []);
      assert.equal(found.stead, became === "asked for" && wish === "stead" ? [A] : []);
      if (typeof became === "object") assert.equal(found.set, [[A, became]]);
      else for (const [, next] of found.set) assert.is(next.state, vipState.NOT_OWNED); // what has left is written so
    });
  }
}

test("what nobody wants any more is removed, whatever it is", () => {
  const actual = new Map([none, own, claiming, leaving].map((entry, i) => [entryKey(2, i), entry]));
  const found = difference(new Map(), actual, among);
  assert.equal(found, { set: [], claim: [], stead: [], remove: [...actual.keys()] });
});

test("whether peers are asked is each entry's own matter", () => {
  const [asked, unasked] = [entryKey(2, 0x0a090001), entryKey(3, 0x0a090001)];
  const wanted = new Map([asked, unasked].map((key) => [key, Wish.ours]));
  const found = difference(wanted, new Map(), { ...alone, mustAsk: (key) => key === asked });
  assert.equal(found.claim, [asked]);
  const owned = found.set.filter(([, { state }]) => state === OWNED).map(([key]) => key);
  assert.equal(owned, [unasked]);
});

test("an entry that is asked for is managed meanwhile, so that nothing else here answers", () => {
  const { set, claim } = difference(new Map([[A, Wish.ours]]), new Map(), among);
  assert.equal([set, claim], [[[A, UNOWNED]], [A]]);
});

test("applied, the difference leaves nothing to do but to ask", () => {
  const states = [undefined, none, own, claiming, leaving, left];
  for (const wish of Object.values(Wish)) {
    for (const before of states) {
      for (const options of [alone, among]) {
        const wanted = new Map([[A, wish]]);
        const actual = new Map<EntryKey, Held>(before ? [[A, before]] : []);
        for (const [key, next] of difference(wanted, actual, options).set) actual.set(key, next);
        assert.equal(difference(wanted, actual, options).set, []);
      }
    }
  }
});

test("neither side is changed", () => {
  const wanted = new Map([[A, Wish.other]]);
  const actual = new Map([
    [A, own],
    [entryKey(2, 0x0a090002), own],
  ]);
  const copies = [new Map(wanted), new Map(actual)];
  difference(wanted, actual, among);
  assert.equal([wanted, actual], copies);
});

test.run();
