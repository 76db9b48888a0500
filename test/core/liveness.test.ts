import { test } from "uvu";
import * as assert from "uvu/assert";
import { nodeState } from "../../src/core/abi.ts";
import { candidates, Freshness, type Heard, Liveness, MOST } from "../../src/core/liveness.ts";

const MS = 1_000_000n;
const SECOND = 1000n * MS;
const OPTIONS = { interval: 100n * MS, dead: 3 };
/** Not zero, as a clock that has run for a while. */
const START = 1_000n * SECOND;

const heard = (node: bigint, more: Partial<Heard> = {}): Heard => ({
  node,
  name: `n${node}`,
  state: nodeState.LIVE,
  sourceStale: false,
  knowsUs: true,
  incarnation: node * 10n,
  echoedNs: 0n,
  ...more,
});

/** A prober, its clock, and peers that answer at once or not at all. */
class Stand {
  now = START;
  readonly liveness: Liveness;
  readonly peers = new Map<bigint, Heard>();
  readonly silent = new Set<bigint>();
  probes = 0;
  hellos = 0;
  changes = 0;

  constructor(peers = 1, options = OPTIONS, random = () => 0.5) {
    this.liveness = new Liveness(options, this.now, random);
    for (let id = 1n; id <= peers; id++) this.peers.set(id, heard(id, { echoedNs: this.now + 1n }));
    this.now += MS;
    this.observe();
  }

  observe(): boolean {
    const isChanged = this.liveness.observe(this.peers.values(), this.now);
    if (isChanged) this.changes += 1;
    return isChanged;
  }

  isAlive(node = 1n): boolean {
    return this.liveness.members.get(node)!.isAlive;
  }

  /** A probe leaves, and is answered a microsecond later, unless the peer is silent. */
  probe(node = 1n): void {
    this.liveness.sent(node, this.now);
    this.probes += 1;
    if (!this.silent.has(node)) this.answer(node);
  }

  answer(node = 1n): void {
    this.peers.set(node, { ...this.peers.get(node)!, echoedNs: this.now + 1000n });
  }

  /** One round, as the wire membership makes them: look, then probe whom it is time to probe. */
  round(): void {
    this.observe();
    if (this.liveness.isHelloDue(this.now)) {
      this.liveness.helloSent(this.now);
      this.hellos += 1;
    }
    for (const node of this.liveness.due(this.now)) this.probe(node);
  }

  /** Rounds for so long, `step` apart. */
  run(time: bigint, step = 50n * MS): void {
    for (const end = this.now + time; this.now < end; this.now += step) this.round();
  }
}

test("a peer that answered is alive; one that was only heard of is not", () => {
  const stand = new Stand(2);
  assert.equal([stand.isAlive(1n), stand.isAlive(2n)], [true, true]);
  stand.peers.set(3n, heard(3n));
  assert.ok(stand.observe());
  assert.is(stand.isAlive(3n), false);
  assert.equal(
    stand.liveness.alive.map(({ node }) => node),
    [1n, 2n],
  );
});

test("what was answered before this prober began does not count", () => {
  const liveness = new Liveness(OPTIONS, START, () => 0.5);
  liveness.observe([heard(1n, { echoedNs: START - 1n }), heard(2n, { echoedNs: START })], START + MS);
  assert.equal(liveness.alive, []);
});

for (const dead of [1, 2, 3, 10]) {
  test(`a peer is dead once ${dead} probes that were sent stay unanswered, and not before`, () => {
    const stand = new Stand(1, { ...OPTIONS, dead });
    stand.silent.add(1n);
    for (let sent = 1; sent <= dead; sent++) {
      assert.ok(stand.isAlive(), `alive with ${sent - 1} unanswered`);
      stand.probe();
      stand.now += stand.liveness.patience - 1n;
      stand.observe();
      assert.ok(stand.isAlive(), "the last one may still be answered");
      stand.now += 1n;
      assert.is(stand.observe(), sent === dead);
      stand.now += OPTIONS.interval / 2n;
    }
    assert.not.ok(stand.isAlive());
  });
}

test("a probe that never left is not missed", () => {
  const stand = new Stand();
  stand.silent.add(1n);
  for (let i = 0; i < 100; i++) {
    stand.now += 50n * MS;
    stand.observe();
  }
  assert.ok(stand.isAlive());
});

test("a peer that cannot be probed stays due", () => {
  const stand = new Stand();
  stand.now += SECOND;
  assert.equal(stand.liveness.due(stand.now), [1n]);
  assert.equal(stand.liveness.due(stand.now), [1n]);
  stand.probe();
  assert.equal(stand.liveness.due(stand.now), []);
});

test("an answer to any probe clears those before it", () => {
  const stand = new Stand();
  stand.silent.add(1n);
  for (let i = 0; i < 20; i++) {
    stand.probe();
    if (i % 3 === 2) stand.answer(); // two missed, the third answered
    stand.now += 100n * MS;
    stand.observe();
    assert.ok(stand.isAlive(), `after ${i + 1} probes`);
  }
});

test("an answer that comes later than the patience, and before the last probe is missed, keeps a peer alive", () => {
  const stand = new Stand();
  stand.silent.add(1n);
  for (let i = 0; i < 3; i++) {
    stand.probe();
    stand.now += 100n * MS;
    if (i < 2) stand.observe();
  }
  stand.peers.set(1n, { ...stand.peers.get(1n)!, echoedNs: stand.now - 10n * MS }); // in the map, and not looked at yet
  stand.observe();
  assert.ok(stand.isAlive());
});

test("a dead peer is alive again with its next answer, and with nothing less", () => {
  const stand = new Stand();
  stand.run(SECOND);
  stand.silent.add(1n);
  stand.run(SECOND);
  assert.not.ok(stand.isAlive());
  stand.now += 60n * SECOND; // a sleep, with whose end nothing is held against anybody
  stand.run(SECOND);
  assert.not.ok(stand.isAlive());
  const { changes } = stand;
  stand.silent.delete(1n);
  stand.run(200n * MS);
  assert.ok(stand.isAlive());
  assert.is(stand.changes, changes + 1);
});

test("a dead peer goes on being probed", () => {
  const stand = new Stand();
  stand.silent.add(1n);
  stand.run(SECOND);
  const { probes } = stand;
  stand.run(SECOND);
  assert.ok(stand.probes - probes >= 9, `${stand.probes - probes} probes`);
});

for (const [what, sleep] of [
  ["a little more than two intervals", 201n * MS],
  ["an hour", 3600n * SECOND],
] as const) {
  test(`a prober that slept for ${what} concludes nothing until it has probed again`, () => {
    const stand = new Stand();
    stand.run(SECOND);
    stand.silent.add(1n);
    stand.probe();
    stand.now += 30n * MS;
    stand.probe();
    stand.now += 30n * MS;
    stand.probe();
    stand.now += sleep; // three are unanswered by now, by the clock
    stand.observe();
    assert.ok(stand.isAlive());
    stand.run(150n * MS);
    assert.ok(stand.isAlive(), "after one or two probes");
    stand.run(250n * MS);
    assert.not.ok(stand.isAlive());
  });
}

test("a prober that is late each time, and not by two intervals, still notices a death", () => {
  const stand = new Stand();
  stand.run(2n * SECOND, 190n * MS);
  stand.silent.add(1n);
  stand.run(2n * SECOND, 190n * MS);
  assert.not.ok(stand.isAlive());
});

for (const step of [250n * MS, 2n * SECOND]) {
  test(`a prober that is ${step / MS} ms late each time notices a death by and by, and takes no peer that answers for dead`, () => {
    const stand = new Stand(2);
    stand.run(20n * step, step);
    stand.silent.add(1n);
    stand.run(8n * step, step);
    assert.ok(stand.isAlive());
    stand.run(4n * step, step);
    assert.equal([stand.isAlive(1n), stand.isAlive(2n)], [false, true]);
    stand.silent.delete(1n);
    stand.run(3n * step, step);
    assert.ok(stand.isAlive());
  });
}

for (const [step, what] of [
  [5n * MS, "rounds of 5 ms"],
  [50n * MS, "rounds of half an interval"],
] as const) {
  test(`with ${what}, a peer that falls silent is dead within dead + 1 intervals, and not within dead - 1`, () => {
    for (let i = 0; i < 200; i++) {
      let seed = i;
      const stand = new Stand(1, OPTIONS, () => (seed = (seed * 7919 + 13) % 1000) / 1000);
      stand.run(SECOND + BigInt(i) * step, step);
      stand.silent.add(1n);
      const died = stand.now;
      while (stand.isAlive()) {
        stand.run(step, step);
        assert.ok(stand.now - died <= 400n * MS, `alive after ${(stand.now - died) / MS} ms`);
      }
      assert.ok(stand.now - died >= 200n * MS, `dead after ${(stand.now - died) / MS} ms`);
    }
  });
}

const changes: [what: string, more: Partial<Heard>, isChanged: boolean][] = [
  ["another state", { state: nodeState.HEADLESS }, true],
  ["a stale source", { sourceStale: true }, true],
  ["that it does not count with us", { knowsUs: false }, true],
  ["another speaker", { incarnation: 99n }, true],
  ["nothing new", {}, false],
];
for (const [what, more, isChanged] of changes) {
  test(`a peer that says ${what} is ${isChanged ? "" : "no "}change`, () => {
    const stand = new Stand();
    stand.probe();
    stand.now += MS;
    stand.peers.set(1n, { ...stand.peers.get(1n)!, ...more });
    assert.is(stand.observe(), isChanged);
    assert.is(stand.observe(), false);
  });
}

test("a peer that was forgotten is a new one when it is heard again", () => {
  const stand = new Stand();
  stand.liveness.forget(1n);
  assert.is(stand.liveness.members.size, 0);
  assert.ok(stand.observe());
  assert.ok(stand.isAlive());
});

/**
 * What many peers make of the interval. Probes leave 5 to 15 % early, so as not to wait for a round more: with rounds as
 * long as that, it makes no difference, and with short ones it is what is above MOST.
 */
const intervals: [peers: number, interval: bigint][] = [
  [1, 100n * MS],
  [100, 100n * MS],
  [101, 101n * MS],
  [999, 999n * MS],
];
for (const [peers, interval] of intervals) {
  for (const step of [10n * MS, 50n * MS, 100n * MS]) {
    test(`${peers} peers are probed each ${interval / MS} ms, about, and in rounds of ${step / MS} ms about ${MOST} probes a second leave at most`, () => {
      let seed = 1;
      const stand = new Stand(peers, OPTIONS, () => (seed = (seed * 7919 + 13) % 1000) / 1000);
      assert.is(stand.liveness.interval, interval);
      stand.run(5n * SECOND, step);
      const { probes } = stand;
      stand.run(10n * SECOND, step);
      const each = (stand.probes - probes) / 10;
      assert.ok(each <= Number(MOST) * 1.12, `${each} probes a second`);
      const wanted = peers / (Number(interval) / 1e9);
      assert.ok(each >= wanted * 0.8, `${each} of ${wanted} probes a second`);
    });
  }
}

for (const nodes of [3, 20, 100, 1000]) {
  test(`of ${nodes} nodes, about 20 broadcast probes a second are on the wire, or one of each node`, () => {
    let seed = 1;
    const stand = new Stand(nodes - 1, OPTIONS, () => (seed = (seed * 7919 + 13) % 1000) / 1000);
    // Only what is said of broadcasts matters here, so the peers are not probed.
    const say = (time: bigint) => {
      const before = stand.hellos;
      for (const end = stand.now + time; stand.now < end; stand.now += 50n * MS) {
        if (!stand.liveness.isHelloDue(stand.now)) continue;
        stand.liveness.helloSent(stand.now);
        stand.hellos += 1;
      }
      return stand.hellos - before;
    };
    say(60n * SECOND);
    const seconds = 20n * BigInt(nodes);
    const onTheWire = (nodes * say(seconds * SECOND)) / Number(seconds);
    assert.ok(onTheWire <= Math.min(nodes, 20) * 1.2, `${onTheWire} a second`);
    assert.ok(onTheWire >= Math.min(nodes, 20) * 0.7, `${onTheWire} a second`);
  });
}

test("dead + 1 broadcast probes leave in the first dead + 1 intervals, and then one has to wait for the answers", () => {
  const stand = new Stand(0);
  const { liveness } = stand;
  let waited: bigint | undefined;
  for (const began = stand.now; stand.now < began + SECOND; stand.now += MS) {
    if (liveness.isHelloDue(stand.now)) liveness.helloSent(stand.now);
    if (liveness.hellos > OPTIONS.dead && liveness.hasWaited(stand.now)) waited ??= stand.now - began;
  }
  assert.is(liveness.hellos, OPTIONS.dead + 1);
  assert.ok(waited! >= 3n * 90n * MS + liveness.patience && waited! <= 400n * MS, `${waited! / MS} ms`);
});

const { JOINING, LIVE, HEADLESS, PAST_HOLD, DRAINED, LAGGING, UNKNOWN } = nodeState;
type Node = [name: string, state: number, isStale?: boolean];
const rules: [what: string, nodes: Node[], chosen: string[], countsAge?: boolean][] = [
  ["a live node may own", [["a", LIVE]], ["a"]],
  ["a held node keeps what it has", [["a", HEADLESS]], ["a"]],
  [
    "a node past hold is counted out",
    [
      ["a", PAST_HOLD],
      ["b", LIVE],
    ],
    ["b"],
  ],
  ["a node past hold that is the only one is counted out too", [["a", PAST_HOLD]], []],
  [
    "whoever came just now does not count old ticks against anybody",
    [
      ["a", PAST_HOLD],
      ["b", LIVE],
    ],
    ["a", "b"],
    false,
  ],
  [
    "a drained node owns nothing",
    [
      ["a", DRAINED],
      ["b", LIVE],
    ],
    ["b"],
  ],
  [
    "a joining node owns nothing yet",
    [
      ["a", JOINING],
      ["b", LIVE],
    ],
    ["b"],
  ],
  [
    "a joining or drained node owns nothing, whether ages count or not",
    [
      ["a", JOINING],
      ["b", DRAINED],
    ],
    [],
    false,
  ],
  ["of a node of which nothing is known nothing is expected", [["a", UNKNOWN]], [], false],
  [
    "a node that is behind owns nothing",
    [
      ["a", LAGGING],
      ["b", LIVE],
    ],
    ["b"],
  ],
  [
    "where all are stale, all go on",
    [
      ["a", LIVE, true],
      ["b", HEADLESS, true],
    ],
    ["a", "b"],
  ],
  ["nobody is nobody", [], []],
];
for (const [what, nodes, chosen, countsAge = true] of rules) {
  test(`of candidates: ${what}`, () => {
    const standing = nodes.map(([name, state, sourceStale = false]) => [name, { state, sourceStale }] as const);
    assert.equal(
      candidates(standing, countsAge).map(({ node }) => node),
      chosen,
    );
  });
}

/** Whether this node's source is stale, and its peers', second by second; whether it is behind at the end. */
const histories: [
  what: string,
  seconds: [from: number, self: boolean, ...peers: boolean[]][],
  end: number,
  behind: boolean,
  state?: number,
][] = [
  ["stale beside fresh ones for 8 s it is behind", [[0, true, false, false]], 8, true],
  ["for less it is not", [[0, true, false, false]], 7, false],
  ["one fresh peer is enough", [[0, true, true, false]], 8, true],
  ["where all are stale nobody is", [[0, true, true, true]], 60, false],
  ["alone nobody is", [[0, true]], 60, false],
  ["fresh it never is", [[0, false, true, false]], 60, false],
  [
    "all were stale for long, and others have been fresh for a moment",
    [
      [0, true, true, true],
      [30, true, false, false],
    ],
    37,
    false,
  ],
  [
    "all were stale for long, and others have been fresh for 8 s",
    [
      [0, true, true, true],
      [30, true, false, false],
    ],
    38,
    true,
  ],
  [
    "one that was fresh in between begins anew",
    [
      [0, true, false],
      [5, false, false],
      [6, true, false],
    ],
    13,
    false,
  ],
  ["a fresh node that may not own makes nobody behind", [[0, true, false]], 60, false, DRAINED],
  [
    "one that is fresh again is not behind any more",
    [
      [0, true, false],
      [20, false, false],
    ],
    20,
    false,
  ],
  [
    "when the last fresh peer is stale too it goes on",
    [
      [0, true, false],
      [20, true, true],
    ],
    20,
    false,
  ],
];
for (const [what, seconds, end, behind, state = LIVE] of histories) {
  test(`of sources: ${what}`, () => {
    const freshness = new Freshness();
    for (let second = 0; second <= end; second++) {
      const [, self, ...peers] = seconds.findLast(([from]) => from <= second)!;
      const standings = peers.map((sourceStale) => ({ state, sourceStale }));
      freshness.observe(self, standings, START + BigInt(second) * SECOND);
    }
    assert.is(freshness.isLagging, behind);
  });
}

/** How often the peer has come. */
const comings = (stand: Stand) => stand.liveness.members.get(1n)!.comings;

test("a peer comes once, and again: after it was dead, with another speaker, and after a silence in which it may have died", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  assert.is(comings(stand), 1);

  stand.silent.add(1n);
  stand.run(SECOND);
  assert.is(stand.isAlive(), false);
  stand.silent.clear();
  stand.run(SECOND);
  assert.is(comings(stand), 2);

  stand.peers.set(1n, { ...stand.peers.get(1n)!, incarnation: 99n });
  assert.is(stand.observe(), true);
  assert.is(comings(stand), 3);

  // The prober slept while the wire was cut: to it, the peer has never been dead.
  stand.run(SECOND);
  stand.now += 10n * SECOND;
  stand.answer();
  assert.is(stand.observe(), true);
  assert.equal([stand.isAlive(), comings(stand)], [true, 4]);
  stand.run(SECOND);
  assert.is(comings(stand), 4);
});

for (const peers of [1, 105, 110, 120, 130, 140, 250]) {
  test(`of ${peers} peers that answer none comes a second time, though rounds are as often as before`, () => {
    const stand = new Stand(peers, OPTIONS, () => Math.random());
    stand.run(10n * SECOND, 101n * MS);
    const all = [...stand.liveness.members.values()].map(({ comings }) => comings);
    assert.equal(all, Array(peers).fill(1));
  });
}

test("a peer that left a probe unanswered comes again: of its own, a little more frequent, it may have missed three", () => {
  const stand = new Stand();
  stand.run(2n * SECOND, 100n * MS);
  stand.silent.add(1n);
  stand.round();
  stand.silent.clear();
  stand.now += 100n * MS;
  stand.run(SECOND, 100n * MS);
  assert.equal([stand.isAlive(), comings(stand)], [true, 2]);
});

test("a peer that is heard only by the second look after a sleep comes again all the same", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  stand.now += 10n * SECOND;
  stand.observe();
  assert.is(comings(stand), 1);
  stand.run(SECOND);
  assert.is(comings(stand), 2);
});

test("what was asked before a long sleep is asked again", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  stand.now += 300n * MS;
  stand.round();
  const before = stand.hellos;
  stand.now += 60n * SECOND;
  stand.round();
  assert.equal([stand.hellos - before, stand.liveness.isSure(stand.now)], [1, false]);
  stand.now += 50n * MS;
  stand.round();
  assert.is(stand.liveness.isSure(stand.now), true);
});

test("after a nap it is not known who is there, until all were asked and have had the time to answer", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  stand.round();
  const isSure = () => stand.liveness.isSure(stand.now);
  assert.is(isSure(), true);
  stand.now += 240n * MS;
  assert.is(isSure(), true);
  stand.now += 20n * MS;
  assert.is(isSure(), false, "nobody has looked");
  const before = stand.hellos;
  stand.round();
  assert.equal([stand.hellos - before, isSure()], [1, false], "asked at once");
  stand.now += 49n * MS;
  stand.round();
  assert.is(isSure(), false);
  stand.now += MS;
  stand.round();
  assert.is(isSure(), true);
});

test("one who naps between any two rounds is sure now and then", () => {
  const stand = new Stand();
  let sure = 0;
  for (let round = 0; round < 20; round++) {
    stand.now += 400n * MS;
    stand.round();
    if (stand.liveness.isSure(stand.now)) sure += 1;
  }
  assert.is(sure, 10);
});

test.run();
