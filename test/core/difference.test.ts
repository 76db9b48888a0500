import { test } from "uvu";
import * as assert from "uvu/assert";
import { vipState } from "../../src/core/abi.ts";
import { type Change, countEntries, difference, isInTransit, isLeaving, LEAVE } from "../../src/core/difference.ts";
import { Wish } from "../../src/core/ownership.ts";
import { type Entry, UNDECIDED, UNOWNED } from "../../src/core/step.ts";
import { SECOND } from "../../src/core/time.ts";

const { OWNED, CLAIMING, LEAVING } = vipState;
const NOW = 10n * SECOND;
const HASH = 7n;

const entryOf = (state: Entry["state"], untilNs = 0n): Entry => ({ state, claimNs: 1n, untilNs, hash: HASH });
const none = UNOWNED;
const own = entryOf(OWNED);
const claiming = entryOf(CLAIMING);
const leaving = entryOf(LEAVING, NOW + 1n);
const left = entryOf(LEAVING, NOW);
/** Owned from this instant on, without having asked anybody. */
const taken: Entry = { ...own, claimNs: NOW };
/** Answered for another second. */
const goes: Entry = { ...own, state: LEAVING, untilNs: NOW + LEAVE };

type Became = Entry | "as it was" | "claimed";

/** What becomes of an entry where peers have to be asked, and where there are none. */
const table: [wish: keyof typeof Wish, entry: Entry | undefined, amongPeers: Became, alone: Became][] = [
  ["ours", undefined, "claimed", taken],
  ["ours", none, "claimed", taken],
  ["ours", UNDECIDED, "claimed", taken],
  ["ours", own, "as it was", "as it was"],
  ["ours", claiming, "claimed", taken],
  ["ours", leaving, "claimed", own],
  ["ours", left, "claimed", taken],
  ["standIn", undefined, "claimed", taken],
  ["standIn", none, "claimed", taken],
  ["standIn", own, "as it was", "as it was"],
  ["standIn", claiming, "claimed", taken],
  ["standIn", leaving, "claimed", own],
  ["standIn", left, "claimed", taken],
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
  ["unknown", undefined, UNDECIDED, UNDECIDED],
  ["unknown", UNDECIDED, "as it was", "as it was"],
  ["nobody", UNDECIDED, none, none],
  ["other", UNDECIDED, none, none],
  ["unknown", none, "as it was", "as it was"],
  ["unknown", own, "as it was", "as it was"],
  ["unknown", claiming, "as it was", "as it was"],
  ["unknown", leaving, "as it was", "as it was"],
  ["unknown", left, none, none],
];

const NAMES = new Map<Entry | undefined, string>([
  [undefined, "is new"],
  [none, "is not owned"],
  [UNDECIDED, "is not decided"],
  [own, "is owned"],
  [claiming, "is being claimed"],
  [leaving, "is leaving"],
  [left, "has left"],
  [taken, "owned from now on"],
  [goes, "leaving for a second"],
]);
const say = (became: Became) => (typeof became === "string" ? became : NAMES.get(became));
const hash = () => HASH;

for (const [wish, entry, amongPeers, alone] of table) {
  for (const [where, mustAsk, became] of [
    ["among peers", true, amongPeers],
    ["alone", false, alone],
  ] as const) {
    test(`${where}, an entry that is to be ${wish} and ${NAMES.get(entry)} becomes: ${say(became)}`, () => {
      const found = difference(Wish[wish], entry, NOW, mustAsk, hash);
      assert.is(found.claim, became === "claimed" ? (wish === "standIn" ? "standIn" : "own") : undefined);
      if (typeof became === "object") assert.equal(found.entry, became);
      else if (entry === left) assert.is(found.entry, UNOWNED, "an entry that has left is written so");
      else assert.is(found.entry, entry ?? UNOWNED, "the same object: nothing is written");
    });
  }
}

test("a VIP that is to be claimed is managed meanwhile, so that nothing else on this node answers", () => {
  assert.equal(difference(Wish.ours, undefined, NOW, true, hash), { entry: UNOWNED, claim: "own" });
});

test("the hash is computed only where a VIP becomes owned without a claim", () => {
  const refuse = () => {
    throw new Error("computed");
  };
  for (const [wish, entry, amongPeers, alone] of table) {
    for (const [mustAsk, became] of [
      [true, amongPeers],
      [false, alone],
    ] as const) {
      if (became !== taken) difference(Wish[wish], entry, NOW, mustAsk, refuse);
    }
  }
});

test("applied, the difference leaves nothing to do but to claim", () => {
  for (const [wish, entry] of table) {
    for (const mustAsk of [true, false]) {
      const first: Change = difference(Wish[wish], entry, NOW, mustAsk, hash);
      assert.is(difference(Wish[wish], first.entry, NOW, mustAsk, hash).entry, first.entry);
    }
  }
});

const properties: [what: string, entry: Entry | undefined, leaving: boolean, inTransit: boolean][] = [
  ["no entry", undefined, false, false],
  ["an entry that is not owned", none, false, false],
  ["an owned entry", own, false, false],
  ["an entry that is being claimed", claiming, false, true],
  ["an entry that is leaving", leaving, true, true],
  ["an entry that has left", left, false, true],
];
for (const [what, entry, ...expected] of properties) {
  test(`${what} is ${expected[0] ? "" : "not "}leaving, ${expected[1] ? "" : "not "}in transit`, () => {
    assert.equal([isLeaving(entry, NOW), isInTransit(entry)], expected);
  });
}

test("entries are counted: those that are owned, and all", () => {
  const entries = new Map([none, own, claiming, leaving, own].map((entry, i) => [i, entry]));
  assert.equal(countEntries(entries), { owned: 2, managed: 5 });
});

test.run();
