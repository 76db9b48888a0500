import { test } from "uvu";
import * as assert from "uvu/assert";
import { Notices } from "../../src/core/notices.ts";

test("a message is logged at once, and then once in the time of repetition for as long as it persists", () => {
  const notices = new Notices(60_000);
  const logged = [];
  for (let now = 500; now < 180_000; now += 500) if (notices.note("no route", now)) logged.push(now);
  assert.equal(logged, [500, 60_500, 120_500]);
});

test("each message is paced for itself", () => {
  const notices = new Notices(60_000);
  assert.ok(notices.note("no route", 0));
  assert.ok(notices.note("no carrier", 10));
  assert.not(notices.note("no route", 20));
  assert.equal(notices.current(20), ["no route", "no carrier"]);
});

test("a message that came back is logged at once if it was missing meanwhile", () => {
  const notices = new Notices(60_000);
  notices.note("no route", 0);
  notices.noteAll([], 1);
  assert.equal(notices.current(1), []);
  assert.ok(notices.note("no route", 2));
});

test("a message that is not noted again is over by itself, and takes no memory", () => {
  const notices = new Notices(60_000);
  notices.note("happened once", 0);
  assert.equal(notices.current(59_999), ["happened once"]);
  assert.equal(notices.current(60_000), []);
  notices.note("another", 60_000);
  assert.equal(notices.current(59_999), ["another"], "the first is forgotten");
});

test("without repetition a message is logged once and persists until it is missing", () => {
  const notices = new Notices(Number.POSITIVE_INFINITY);
  assert.ok(notices.note("no route", 0));
  assert.not(notices.note("no route", 1e12));
  assert.equal(notices.current(2e12), ["no route"]);
  notices.noteAll([], 3e12);
  assert.ok(notices.note("no route", 3e12));
});

test("of all that is true now, what is new is logged and what is missing is over", () => {
  const notices = new Notices(Number.POSITIVE_INFINITY);
  assert.equal(notices.noteAll(["a", "b", "a"], 0), ["a", "b"]);
  assert.equal(notices.noteAll(["b", "c"], 1), ["c"]);
  assert.equal(notices.current(1), ["b", "c"]);
  assert.equal(notices.noteAll(["a", "b"], 2), ["a"], "a was over, and is back");
});

test("a set that stays the same is logged again after the time of repetition", () => {
  const notices = new Notices(1_000);
  const logged = [];
  for (let now = 0; now <= 2_000; now += 250) if (notices.noteAll(["a"], now).length > 0) logged.push(now);
  assert.equal(logged, [0, 1_000, 2_000]);
});

test.run();
