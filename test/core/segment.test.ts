import { test } from "uvu";
import * as assert from "uvu/assert";
import { claimVerdict, nodeState, vipState, wireHeader, wireType } from "../../src/core/abi.ts";
import { type Address, parseAddress, plus } from "../../src/core/address.ts";
import { elect } from "../../src/core/ownership.ts";
import type { Effects, Entry, Frame } from "../../src/core/step.ts";
import { MS, SECOND } from "../../src/core/time.ts";
import { isAbout, nodeId } from "../../src/core/wire.ts";
import { heardOf, range, START, Stage } from "./stage.ts";

const { NOT_OWNED, OWNED, CLAIMING, LEAVING, UNDECIDED } = vipState;
const { JOINING, LIVE, DRAINED, HEADLESS } = nodeState;
const { WIRE_PROBE, WIRE_CLAIM, WIRE_NOTICE } = wireType;
const A = parseAddress("10.9.0.1");
const B = parseAddress("10.9.0.2");

const owned = (claimNs = START - SECOND): Entry => ({ state: OWNED, claimNs, untilNs: 0n, hash: 7n });
const frame = (header: Partial<Frame>): Frame => ({ ...wireHeader.of(header), claims: [] });
/** A peer tells that it has taken VIPs over. */
const noticeOf = (name: string) => frame({ type: WIRE_NOTICE, node: nodeId(name), source: heardOf(name).mac });

/** The first step of which this is so. */
function find(steps: readonly Effects[], is: (step: Effects) => boolean): Effects {
  const found = steps.find(is);
  assert.ok(found, "there is such a step");
  return found!;
}
const claims = ({ send }: Effects) => send.some(({ type }) => type === WIRE_CLAIM);

test("a node that knows no peer yet says that it joins, and owns nothing", () => {
  const stage = new Stage();
  const [first] = stage.replan();
  assert.is(stage.segment.said.state, JOINING);
  assert.equal(
    [...first!.write].map(([address, { state }]) => [address, state]),
    [[A, UNDECIDED]],
    "it is managed, so that nothing else on this node answers",
  );
});

test("the nonce of a hello is in `self` of the step in which the hello leaves", () => {
  const stage = new Stage();
  stage.replan();
  stage.run(1_000);
  const hellos = stage.steps.filter(({ send }) => send.some(({ node }) => node === undefined));
  assert.ok(hellos.length >= 4);
  let before = 0n;
  for (const { self, send } of hellos) {
    const { nonce } = send.find(({ node }) => node === undefined)!;
    assert.equal([self!.helloNonce, self!.lastHelloNonce], [nonce, before]);
    assert.ok(stage.segment.isOwnHello(nonce) === nonce >= stage.segment.said.lastHelloNonce);
    before = nonce;
  }
});

test("a probe's nonce is in `probes` of the step in which the probe leaves, with the nonce before it", () => {
  const stage = Stage.among(["b"]);
  stage.run(1_000);
  const probes = stage.steps.flatMap(({ probes, send }) => {
    for (const { nonce } of probes) assert.ok(send.some((frame) => frame.type === WIRE_PROBE && frame.nonce === nonce));
    return probes;
  });
  assert.ok(probes.length >= 5);
  assert.equal(
    probes.slice(1).map(({ lastNonce }) => lastNonce),
    probes.slice(0, -1).map(({ nonce }) => nonce),
  );
});

test("a VIP is written as claimed in the step in which its claim leaves, before anybody hears of it", () => {
  const stage = new Stage();
  stage.answering.add("b").add("c");
  stage.replan();
  stage.run(3_000);
  const claiming = find(stage.steps, claims);
  assert.is(claiming.write.get(A)!.state, CLAIMING);
  assert.equal(
    stage.sent(WIRE_CLAIM).map(({ node, claims }) => [node, claims!.length, claims![0]!.hash]),
    ["b", "c"].map((name) => [nodeId(name), 1, claiming.write.get(A)!.hash]),
  );
  assert.equal(stage.written(A), [UNDECIDED, CLAIMING, OWNED]);
});

/** A segment that has claimed A of b and c, who have not answered yet. */
function claimed(interval = 100n * MS): { stage: Stage; asked: ReturnType<Stage["sent"]> } {
  const stage = new Stage({ isDrained: true, probes: { interval, dead: 3 } });
  stage.answering.add("b").add("c");
  stage.verdict = undefined;
  stage.replan();
  stage.run(20_000);
  return { stage, asked: stage.sent(WIRE_CLAIM, stage.replan({ isDrained: false })) };
}

test("a VIP is owned only after a reading of the kernel that followed the last grant", () => {
  const { stage, asked } = claimed();
  const [ofB, ofC] = asked.map((claim) => stage.replyTo(claim, claimVerdict.FREE));
  const first = stage.segment.handle({ kind: "frame", frame: ofB! }, stage.now);
  assert.equal([first.look, first.write.size], [undefined, 0]);
  const early = { peers: [...stage.peers.values()], releases: 0n, released: [], seen: 0n };
  assert.is(stage.segment.handle({ kind: "reading", reading: early }, stage.now).write.size, 0, "c has not granted it");
  const last = stage.segment.handle({ kind: "frame", frame: ofC! }, stage.now);
  assert.equal([[...(last.look as Set<Address>)], last.write.size], [[A], 0]);
  const read = stage.segment.handle({ kind: "reading", reading: early }, stage.now);
  assert.is(read.write.get(A)!.state, OWNED);
});

test("a VIP that the kernel released to another claim before that reading is not owned", () => {
  const { stage, asked } = claimed();
  stage.released.add(A);
  for (const claim of asked) stage.handle({ kind: "frame", frame: stage.replyTo(claim, claimVerdict.FREE) });
  assert.is(stage.written(A).at(-1), NOT_OWNED);
});

test("a peer that appeared between the last grant and the reading is asked too", () => {
  const { stage, asked } = claimed();
  stage.handle({ kind: "frame", frame: stage.replyTo(asked[0]!, claimVerdict.FREE) });
  stage.peers.set(nodeId("d"), heardOf("d", { echoedNs: stage.now }));
  const from = stage.steps.length;
  stage.handle({ kind: "frame", frame: stage.replyTo(asked[1]!, claimVerdict.FREE) });
  const steps = stage.steps.slice(from);
  assert.equal(stage.written(A, steps), []);
  const again = stage.sent(WIRE_CLAIM, steps).at(-1);
  assert.is(again!.node, nodeId("d"));
  stage.handle({ kind: "frame", frame: stage.replyTo(again!, claimVerdict.FREE) });
  assert.is(stage.written(A).at(-1), OWNED);
});

test("a VIP that was gained is announced and logged in the same step", () => {
  const stage = new Stage();
  stage.answering.add("b");
  stage.replan();
  stage.run(3_000);
  const { announce, notices } = find(stage.steps, ({ write }) => write.get(A)?.state === OWNED);
  assert.equal(announce, [A]);
  assert.equal(notices, [
    { level: "info", message: "10.9.0.1 is owned here now", fields: { gained: 1, owned: 1, managed: 1 } },
  ]);
});

test("a VIP that is lost is not announced any more", () => {
  const stage = Stage.among(["b"]);
  stage.replan({ ranges: [] });
  const { remove, notices } = stage.steps[0]!;
  assert.equal([remove, notices[0]!.message], [[A], "10.9.0.1 is no longer owned here"]);
  stage.run(200_000);
  assert.equal(
    stage.steps.flatMap(({ announce }) => announce),
    [],
  );
});

test("the next window of claims leaves at once when a batch of the last one has ended", () => {
  const stage = Stage.among(["b"], { ranges: [] });
  const count = 256 * 32 + 1;
  const from = stage.steps.length;
  stage.replan({
    ranges: [{ ...range("10.9.0.0/16", { nodes: ["a"] }), last: plus(parseAddress("10.9.0.0"), count - 1) }],
  });
  const all = stage.sent(WIRE_CLAIM, stage.steps.slice(from));
  assert.is(all.length, 257);
  assert.is([...stage.segment.entries.values()].filter(({ state }) => state === OWNED).length, count);
});

test("a claim that is not answered is sent again in time, however many other events come in between", () => {
  const { stage } = claimed(2n * SECOND); // rounds are rare, and no occasion
  const from = stage.steps.length;
  for (let i = 0; i < 40; i++) {
    stage.run(1);
    stage.handle({ kind: "frame", frame: noticeOf("b") });
  }
  assert.is(stage.sent(WIRE_CLAIM, stage.steps.slice(from)).length, 2, "once to each of the two peers");
});

test("where the link goes down, nothing is owned and the kernel forgets the peers; when it is up again, they are looked for", () => {
  const stage = Stage.among(["b"]);
  const [down] = stage.replan({ isUp: false });
  assert.equal([down!.forget, down!.write.get(A)!.state, down!.self!.state], ["all", NOT_OWNED, JOINING]);
  stage.steps.length = 0;
  stage.run(5_000);
  assert.equal([stage.sent(WIRE_PROBE), stage.segment.members, stage.segment.isReady], [[], [], true]);
  const [up] = stage.replan({ isUp: true });
  assert.equal([up!.forget, stage.segment.isReady], [[], false]);
  stage.run(3_000);
  assert.equal([stage.written(A), stage.segment.isReady], [[CLAIMING, OWNED], true]);
});

test("a change of MAC is announced for each VIP that is owned, and each peer is told of it", () => {
  const stage = Stage.among(["b"]);
  stage.run(10_000);
  stage.steps.length = 0;
  const [changed] = stage.replan({ mac: "02:00:00:00:00:99" });
  assert.equal(changed!.announce, [A]);
  stage.run(1_000);
  assert.equal(
    stage.sent(WIRE_NOTICE).map(({ node }) => node),
    Array(3).fill(nodeId("b")),
  );
});

test("all that is owned is announced anew where the kernel says that the interface has moved", () => {
  const stage = Stage.among(["b"], {
    ranges: [range("10.9.0.1", { nodes: ["a"] }), range("10.9.0.2", { nodes: ["b"] })],
  });
  stage.run(10_000);
  const [moved] = stage.handle({ kind: "moved" });
  assert.equal(moved!.announce, [A]);
});

test("an announcement that is refused is repeated until it leaves, and said after 3 s", () => {
  const stage = Stage.among(["b"]);
  stage.run(10_000);
  stage.steps.length = 0;
  let isRefusing = true;
  const refuse = (steps: readonly Effects[]) => {
    for (const { announce } of steps)
      if (isRefusing && announce.length > 0) refuse(stage.handle({ kind: "refused", addresses: announce }));
  };
  const tries = () => stage.steps.flatMap(({ announce }) => announce).length;
  refuse(stage.replan({ mac: "02:00:00:00:00:99" }));
  for (let i = 0; i < 200; i++) {
    const from = stage.steps.length;
    stage.run(10);
    refuse(stage.steps.slice(from));
  }
  assert.is(tries(), 5, "after 0, 0.1, 0.3, 0.7 and 1.5 s");
  assert.equal(stage.notices(), []);
  for (let i = 0; i < 200; i++) {
    const from = stage.steps.length;
    stage.run(10);
    refuse(stage.steps.slice(from));
  }
  assert.match(stage.notices().join(), /^announcements are refused on eth0, .* They are repeated until they leave$/);
  isRefusing = false;
  stage.run(10_000);
  assert.is(tries(), 10, "the three of the burst");
});

const pinned = { state: LIVE, tick: START - SECOND };

test("after a restart, an earlier speaker's tick stands until this speaker has joined its peers", () => {
  const stage = new Stage({}, { pinned, entries: new Map([[A, owned()]]) });
  stage.answering.add("b");
  stage.tick();
  stage.replan({}, true);
  for (;;) {
    stage.run(10);
    if (stage.segment.isJoined) break;
    assert.equal([stage.segment.said.state, stage.segment.said.tick], [LIVE, pinned.tick]);
  }
  assert.ok(stage.segment.said.tick > START - 1n, "the tick is this speaker's own");
  stage.run(3_000);
  assert.equal(stage.written(A), [], "the VIP stays where it is");
});

test("after a restart, VIPs that were announced already are not announced again at once", () => {
  for (const isAnnounced of [true, false]) {
    const stage = new Stage({}, { pinned, entries: new Map([[A, owned()]]) });
    stage.answering.add("b");
    stage.replan({}, isAnnounced);
    stage.run(5_000);
    const count = stage.steps.flatMap(({ announce }) => announce).length;
    assert.is(count, isAnnounced ? 0 : 3);
  }
});

for (const [what, stage] of [
  ["that has joined", () => Stage.among(["b"])],
  ["that waits to join after a restart", () => new Stage({}, { pinned, entries: new Map([[A, owned()]]) })],
] as const) {
  test(`a node ${what} and is drained says so in that very step`, () => {
    const its = stage();
    its.tick();
    const [first] = its.replan({ isDrained: true });
    assert.equal([first!.self!.state, first!.self!.tick], [DRAINED, its.now]);
  });
}

test("a drained node answers on for a second, while others take over, and then no more", () => {
  const text = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4"].find((text) => elect(["a", "b"], text) === "a")!;
  const vip = parseAddress(text);
  const stage = Stage.among(["b"], { ranges: [range(text)] });
  stage.replan({ isDrained: true });
  assert.equal(stage.written(vip), [LEAVING]);
  assert.is(stage.segment.entries.get(vip)!.untilNs, stage.now + SECOND);
  stage.run(1_100);
  assert.equal(stage.written(vip), [LEAVING, NOT_OWNED]);
});

test("a VIP that the kernel released to a peer is claimed again after a second, though nothing else changed", () => {
  const stage = Stage.among(["b"]);
  stage.replan(); // from now on, nothing about the VIP is under way
  stage.released.add(A);
  stage.releases = 1n;
  stage.handle({ kind: "frame", frame: noticeOf("b") });
  assert.equal(stage.written(A), [NOT_OWNED]);
  stage.released.clear();
  stage.run(900);
  assert.equal(stage.written(A), [NOT_OWNED]);
  stage.run(200);
  assert.equal(stage.written(A), [NOT_OWNED, CLAIMING, OWNED]);
});

test("a VIP that a peer refuses when it joins is given up, and claimed again", () => {
  const stage = Stage.among(["b"]);
  stage.verdict = claimVerdict.MINE;
  stage.answering.add("c");
  stage.run(2_000);
  assert.is(stage.written(A)[0], NOT_OWNED);
  stage.verdict = claimVerdict.FREE;
  stage.run(2_000);
  assert.is(stage.written(A).at(-1), OWNED);
});

test("releases that no notice told of are found by the kernel's own counter", () => {
  const stage = Stage.among(["b"]);
  stage.released.add(A);
  stage.releases = 1n;
  stage.run(200);
  assert.is(stage.written(A)[0], NOT_OWNED);
});

test("after a pause of this process, nothing is claimed until all peers were asked and could answer", () => {
  const stage = Stage.among(["b"]);
  stage.now += 10n * SECOND;
  stage.steps.length = 0;
  stage.replan({ ranges: [...stage.plan.ranges, range("10.9.0.2", { nodes: ["a"] })] });
  stage.handle({ kind: "wake" });
  assert.equal([stage.written(B), stage.sent(WIRE_CLAIM)], [[NOT_OWNED], []]);
  assert.ok(stage.sent(WIRE_PROBE).some(({ node }) => node === undefined));
  stage.run(300);
  assert.is(stage.written(B).at(-1), OWNED);
});

test("VIPs that peers took during a pause of this process are claimed again at once: that is no dispute", () => {
  const stage = Stage.among(["b"]);
  stage.now += 10n * SECOND;
  stage.steps.length = 0;
  stage.released.add(A);
  stage.releases = 1n;
  stage.tick();
  stage.handle({ kind: "wake" });
  stage.released.clear();
  stage.run(300);
  assert.equal(stage.written(A), [NOT_OWNED, CLAIMING, OWNED]);
});

test("a node whose only peer is dead goes on answering after a pause longer than `hold`", () => {
  const stage = Stage.among(["b"]);
  stage.answering.clear();
  stage.run(40_000);
  assert.is(stage.segment.entries.get(A)!.state, OWNED);
  stage.now += 60n * SECOND;
  stage.steps.length = 0;
  stage.tick();
  stage.handle({ kind: "wake" });
  stage.run(2_000);
  assert.equal(stage.written(A), []);
});

test("a node whose tick is old is headless by its own account, and live again with the next verification", () => {
  const stage = Stage.among(["b"]);
  stage.tick();
  assert.is(stage.segment.state(stage.now + 3n * SECOND - 1n), LIVE);
  assert.is(stage.segment.state(stage.now + 3n * SECOND), HEADLESS);
  stage.now += 3n * SECOND;
  stage.tick();
  assert.is(stage.segment.state(stage.now), LIVE);
});

const namesake = frame({
  version: 2,
  type: WIRE_NOTICE,
  node: nodeId("a"),
  incarnation: 5n,
  stamp: 6n,
  source: Uint8Array.of(2, 0, 0, 0, 0, 9),
});

test("before it has joined, a node whose name another one has tells that one, and must not serve", () => {
  const stage = new Stage();
  stage.replan();
  const [step] = stage.handle({ kind: "frame", frame: namesake });
  assert.match(
    step!.conflict!,
    /^Cannot serve as another node on eth0, with MAC 02:00:00:00:00:09, has this node's name: a/,
  );
  const { nonce, ...told } = step!.send[0]!;
  assert.equal(told, {
    type: WIRE_NOTICE,
    version: 2,
    node: undefined,
    destination: namesake.source,
    to: 5n,
    stamp: 6n,
  });
});

test("a node that goes on with what an earlier speaker of that name left stays, though it has not joined", () => {
  const stage = new Stage({}, { isRightful: true });
  stage.replan();
  const [step] = stage.handle({ kind: "frame", frame: namesake });
  assert.equal([step!.conflict, step!.send, step!.notices.map(({ level }) => level)], [undefined, [], ["error"]]);
});

test("a node that has joined stays when another one comes with its name, and logs an error", () => {
  const stage = Stage.among(["b"]);
  const [step] = stage.handle({ kind: "frame", frame: namesake });
  assert.equal([step!.conflict, step!.send, step!.notices.map(({ level }) => level)], [undefined, [], ["error"]]);
});

test("a VIP that is owned here is announced again where a machine announces it that is no peer, and a warning names it", () => {
  const stage = Stage.among(["b"]);
  stage.run(10_000);
  stage.steps.length = 0;
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x77);
  const claim = (address: Address, by: Uint8Array) => stage.handle({ kind: "announced", address, mac: by })[0]!;
  assert.equal(claim(A, heardOf("b").mac).announce, [], "peers settle it among themselves");
  assert.equal(claim(B, mac).announce, [], "it is not owned here");
  assert.is(stage.segment.usurped, 0);
  assert.equal(claim(A, mac).announce, [A]);
  assert.equal(claim(A, mac).announce, [], "a burst has begun just now");
  assert.is(stage.segment.usurped, 2);
  assert.match(
    stage.segment.warnings(stage.now).join(),
    "says on eth0 that it has 10.9.0.1: its MAC is 02:00:00:00:00:77",
  );
  stage.steps.length = 0;
  for (let times = 0; times < 600; times++) {
    claim(A, mac);
    stage.run(100);
  }
  const count = stage.steps.flatMap(({ announce }) => announce).length;
  assert.ok(count >= 5 && count <= 12, `${count} announcements in a minute`);
});

test("where one of 10,000 VIPs changed, only that one is looked at", () => {
  let looks = 0;
  class Counting extends Map<Address, Entry> {
    override get(address: Address): Entry | undefined {
      looks += 1;
      return super.get(address);
    }
  }
  const nodes = ["b"];
  const ranges = Array.from({ length: 10_000 }, (_, i) => ({
    ...range("10.9.0.0"),
    first: plus(A, i),
    last: plus(A, i),
    nodes,
  }));
  const stage = Stage.among(["b"], { ranges }, { entries: new Counting() });
  stage.replan();
  looks = 0;
  stage.replan({ ranges: ranges.with(5_000, { ...ranges[5_000]!, nodes: ["a"] }) });
  assert.is(stage.written(plus(A, 5_000)).at(-1), OWNED);
  assert.ok(looks > 0 && looks < 30, `${looks} looks at entries`);
});

test("with static membership everything is owned at once, nothing is sent, and only announcements wake the segment", () => {
  const stage = new Stage({ probes: undefined });
  const [first] = stage.replan();
  assert.equal([first!.write.get(A)!.state, first!.write.get(A)!.hash, first!.announce], [OWNED, 0n, [A]]);
  assert.equal([first!.self!.state, stage.segment.isReady], [LIVE, true]);
  stage.run(20_000);
  assert.equal([stage.steps.flatMap(({ send }) => send), stage.sent(WIRE_CLAIM)], [[], []]);
});

test("a node that hears no peer, and by ARP one that answers for a VIP, leaves it there though one answer is lost", () => {
  const address = parseAddress("10.9.255.2");
  const stage = new Stage({
    nodes: [
      { name: "a", address: undefined },
      { name: "b", address },
    ],
  });
  for (const its of [address, A]) stage.arp.set(its, "b");
  stage.replan();
  stage.run(10_000);
  assert.not.equal(stage.segment.entries.get(A)?.state, OWNED);
  for (let round = 0; round < 10; round++) {
    stage.arp.delete(address);
    stage.run(1_000);
    stage.arp.set(address, "b");
    stage.run(1_000);
    assert.not.equal(stage.segment.entries.get(A)?.state, OWNED, `round ${round}`);
  }
});

test("a peer that has been dead for ten minutes is forgotten, and no longer probed", () => {
  const stage = Stage.among(["b"]);
  stage.answering.clear();
  stage.run(599_000);
  assert.is(stage.segment.members.length, 1);
  stage.steps.length = 0;
  stage.run(3_000);
  assert.equal(
    stage.steps.flatMap(({ forget }) => (forget === "all" ? [] : forget)),
    [nodeId("b")],
  );
  assert.is(stage.segment.members.length, 0);
});

test("a node that only peers hear is no longer one once the source does not name it", () => {
  const stage = Stage.among(["b"]);
  stage.verdict = undefined;
  const tell = () => {
    const asked = stage.steps.flatMap(({ send }) => send.filter(({ claims }) => claims?.some(isAbout)));
    stage.steps.length = 0;
    for (const frame of asked) {
      const claims = frame.claims!.map((claim) => ({ ...claim, verdict: LIVE, hash: 0n }));
      stage.handle({ kind: "frame", frame: { ...stage.replyTo(frame, LIVE), claims } });
    }
  };
  for (let i = 0; i < 20; i++) {
    stage.run(200);
    tell();
  }
  const warnings = () => stage.segment.warnings(stage.now).join();
  assert.match(warnings(), /^c is not heard on eth0, though b hears it/);
  stage.replan({ nodes: stage.plan.nodes.slice(0, 2) });
  stage.run(1_000);
  assert.is(warnings(), "");
});

test("echoes that come one after another within milliseconds are looked at together", () => {
  const stage = Stage.among(["b"]);
  stage.run(50);
  stage.steps.length = 0;
  const from = stage.now;
  for (let i = 0; i < 100; i++) {
    stage.now = from + BigInt(i) * (MS / 10n);
    stage.handle({ kind: "frame", frame: frame({ type: wireType.WIRE_ECHO, node: nodeId("b") }) });
  }
  stage.run(6);
  const looks = stage.steps.filter(({ look }) => look !== undefined).length;
  assert.ok(looks >= 2 && looks <= 5, `${looks} looks`);
});

test.run();
