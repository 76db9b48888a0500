import { test } from "uvu";
import * as assert from "uvu/assert";
import { announcedAfter, figuresOf, type Outcome, outcomeOf } from "../../bench/failover/outcome.ts";
import { isMet } from "../../bench/figure.ts";
import type { Seen } from "../../lab/watch/watch.ts";

const [A, B] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
const seen = (fields: Partial<Seen>): Seen => ({
  vip: "10.9.0.1",
  asked: 100,
  unanswered: 0,
  doubled: 0,
  doubledAt: undefined,
  silence: 0,
  back: undefined,
  answerers: [{ mac: A, at: 0 }],
  announced: [],
  timeline: "",
  ...fields,
});
const calm: Outcome = { silence: 0, unanswered: 0, moves: 0, doubled: 0, mute: 0 };

test("requests are added up over all VIPs; silence and moves are those of the worst VIP", () => {
  const moved = seen({ unanswered: 3, silence: 30, back: 40, answerers: [A, B].map((mac, at) => ({ mac, at })) });
  const other = seen({ unanswered: 2, doubled: 1, silence: 20, back: 30 });
  assert.equal(outcomeOf({ vips: [seen({}), moved, other] }), {
    silence: 30,
    unanswered: 5,
    moves: 1,
    doubled: 1,
    mute: 0,
  });
});

test("a VIP that was never answered is mute, and has not moved", () => {
  const { mute, moves } = outcomeOf({ vips: [seen({ answerers: [], unanswered: 100, silence: 1000 })] });
  assert.equal({ mute, moves }, { mute: 1, moves: 0 });
});

test("an event has four figures, and its silence is in ns", () => {
  const figures = figuresOf("node dies", "isat", [{ ...calm, silence: 350, unanswered: 7, moves: 1 }], {});
  assert.equal(
    figures.map(({ what, unit, values }) => [what, unit, ...values]),
    [
      ["node dies: silence", "ns", 350e6],
      ["node dies: unanswered", "count", 7],
      ["node dies: moves of a VIP", "count", 1],
      ["node dies: double answers", "count", 0],
    ],
  );
});

test("an event is judged by its worst round, and only against the limits that are given", () => {
  const rounds = [calm, calm, { ...calm, silence: 51, moves: 1 }];
  const [silence, unanswered, moves] = figuresOf("drain", "isat", rounds, { silence: 50, moves: 1 });
  assert.equal(
    [silence, unanswered, moves].map((figure) => isMet(figure!)),
    [false, undefined, true],
  );
});

test("a silence that outlasted the watch is reported as longer than its figure", () => {
  const [silence, unanswered] = figuresOf("node dies", "other", [{ ...calm, silence: 9000, mute: 1 }], {});
  assert.match(silence!.note!, "still silent when the watch ended");
  assert.is(unanswered!.note, undefined);
});

test("after a death, the last VIP to be announced counts, and announcements of the dead node do not", () => {
  const announced = (...all: [string, number][]) => seen({ announced: all.map(([mac, at]) => ({ mac, at })) });
  assert.is(announcedAfter({ vips: [announced([B, 1400]), announced([A, 900], [B, 1700])] }, A, 1000), 700);
  assert.is(announcedAfter({ vips: [announced([A, 1100])] }, A, 1000), Number.POSITIVE_INFINITY);
});

test.run();
