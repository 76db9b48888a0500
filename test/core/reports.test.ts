import { suite } from "uvu";
import * as assert from "uvu/assert";
import { nodeState, peer as peerLayout } from "../../src/core/abi.ts";
import { Bound } from "../../src/core/notices.ts";
import { stateName } from "../../src/core/state.ts";
import { heardOf } from "../../src/core/step.ts";
import { nodeId } from "../../src/core/wire.ts";
import { Stage } from "./stage.ts";

const test = suite("what is reported");

const notices = (stage: Stage) => stage.steps.splice(0).flatMap(({ notices }) => notices.map(({ message }) => message));
const about = (text: RegExp) => (message: string) => text.test(message);

test("a peer's death and return are reported once each", () => {
  const stage = Stage.among(["b", "c"]);
  stage.answering.delete("b");
  stage.run(5_000);
  assert.equal(notices(stage).filter(about(/peer/)), [
    "peer b on eth0 is dead: it no longer answers, and other nodes take its VIPs",
  ]);
  stage.answering.add("b");
  stage.run(5_000);
  assert.equal(notices(stage).filter(about(/peer/)), ["peer b on eth0 answers again"]);
});

test("a peer that is heard at a start is reported once", () => {
  const stage = new Stage();
  stage.answering.add("b");
  stage.replan();
  stage.run(5_000);
  assert.equal(notices(stage).filter(about(/peer/)), ["peer b on eth0 answers"]);
});

test("a peer that lags, and no longer lags, is reported once each", () => {
  const stage = Stage.among(["b", "c"]);
  const before = stage.peers.get(nodeId("b"))!;
  const say = (state: number, sourceStale = false) => stage.peers.set(nodeId("b"), { ...before, state, sourceStale });
  say(nodeState.LAGGING, true);
  stage.run(2_000);
  assert.equal(notices(stage).filter(about(/peer/)), [
    "peer b on eth0 lags: its source is stale, and fresh nodes take its VIPs",
  ]);
  say(nodeState.LIVE);
  stage.run(2_000);
  assert.equal(notices(stage).filter(about(/peer/)), ["peer b on eth0 no longer lags"]);
});

test("a peer whose machine is being shut down lags for another reason", () => {
  const stage = Stage.among(["b"]);
  const b = nodeId("b");
  stage.peers.set(b, { ...stage.peers.get(b)!, state: nodeState.LAGGING, sourceStale: false });
  stage.run(2_000);
  assert.equal(notices(stage).filter(about(/peer/)), [
    "peer b on eth0 lags: its machine is being shut down, and fresh nodes take its VIPs",
  ]);
  stage.replan({ isEnding: true });
  assert.equal(notices(stage).filter(about(/this node/)), [
    "this node lags on eth0: its machine is being shut down, so that fresh peers take the VIPs that they may own",
  ]);
});

test("this node's own lagging and its end are reported once each", () => {
  const stage = Stage.among(["b", "c"]);
  stage.replan({ isSourceStale: true });
  stage.run(20_000);
  const lags =
    "this node lags on eth0: its source is stale and a peer's is not, so that fresh peers take the VIPs that they may own";
  assert.equal(notices(stage).filter(about(/this node/)), [lags]);
  stage.replan({ isSourceStale: false });
  stage.run(20_000);
  assert.equal(notices(stage).filter(about(/this node/)), ["this node no longer lags on eth0"]);
});

test("F12: a node that leaves out VIPs lags beside one that leaves out none, and not beside one that does too", () => {
  const stage = Stage.among(["b"]);
  const b = nodeId("b");
  stage.peers.set(b, { ...stage.peers.get(b)!, sourceStale: true });
  stage.replan({ isSourceStale: true, isShort: true });
  stage.run(20_000);
  assert.equal(notices(stage).filter(about(/this node/)), []);
  stage.peers.set(b, { ...stage.peers.get(b)!, sourceStale: false });
  stage.run(20_000);
  assert.equal(notices(stage).filter(about(/this node/)), [
    "this node lags on eth0: it has no room for VIPs that others may hold, so that fresh peers take the VIPs that they may own",
  ]);
});

test("what a peer says of itself is printed in the letters that names of nodes have, and an unknown state is one", () => {
  const { name, state } = heardOf(1n, peerLayout.of({ node: "n2\u001b[2J\nroot", state: 99 }));
  assert.equal([name, stateName(state)], ["n2??2J?root", "unknown"]);
  const stage = new Stage();
  stage.answering.add("b");
  stage.replan();
  stage.run(5_000);
  stage.peers.set(nodeId("b"), { ...stage.peers.get(nodeId("b"))!, state: 99 });
  stage.run(2_000);
  assert.is(stage.segment.isJoined, true);
});

test("a kind of line that comes ten times a second is logged once a second, and what was left out is counted", () => {
  const bound = new Bound();
  let logged = 0;
  let leftOut = 0;
  for (let now = 0; now < 100_000; now += 100) {
    const before = bound.take(`10.9.0.${now % 7} (and ${now} more) is owned here now`, now);
    if (before === undefined) continue;
    logged += 1;
    leftOut += before;
  }
  assert.ok(logged >= 100 && logged <= 121, String(logged));
  leftOut += bound.flush(100_000).reduce((sum, each) => sum + each.leftOut, 0);
  assert.is(logged + leftOut, 1_000);
});

test("kinds of lines do not hinder each other, and a burst is logged whole", () => {
  const bound = new Bound();
  const take = (text: string) => bound.take(text, 0);
  for (let at = 0; at < 20; at++) assert.is(take(`10.9.0.${at} is owned here now`), 0);
  assert.is(take("10.9.0.99 is owned here now"), undefined);
  assert.is(take("configuration applied"), 0);
});

test("the last line that was left out is told when no other comes, and once", () => {
  const bound = new Bound();
  for (let at = 0; at < 25; at++) bound.take(`Service web-${at} has no address`, 0);
  assert.equal(bound.flush(10), [{ text: "Service web-24 has no address", leftOut: 5 }]);
  assert.equal(bound.flush(20), []);
});

test("a peer that cannot speak IPv6 says so, and one that knows version 1 of the wire format only has no VIP of IPv6", () => {
  const isOnlyIPv4 = (max_version: number, only_ipv4 = false) =>
    heardOf(1n, peerLayout.of({ max_version, only_ipv4 })).onlyIPv4;
  assert.equal([isOnlyIPv4(2), isOnlyIPv4(3), isOnlyIPv4(2, true), isOnlyIPv4(1)], [false, false, true, true]);
});

test.run();
