import { test } from "uvu";
import * as assert from "uvu/assert";
import { nodeState } from "../../src/core/abi.ts";
import { Census, MOST } from "../../src/core/liveness.ts";
import type { Heard } from "../../src/core/step.ts";
import { MS, SECOND } from "../../src/core/time.ts";

const OPTIONS = { interval: 100n * MS, dead: 3 };
/** Not zero, like the clock of a machine that has been running for a while. */
const START = 1_000n * SECOND;

const heard = (node: bigint, more: Partial<Heard> = {}): Heard => ({
  node,
  name: `n${node}`,
  mac: Uint8Array.of(2, 0, 0, 0, 0, Number(node % 256n)),
  state: nodeState.LIVE,
  sourceStale: false,
  onlyIPv4: false,
  knowsUs: true,
  incarnation: node * 10n,
  maxVersion: 2,
  keyId: 1,
  interfaceName: "eth0",
  stamp: 1n,
  echoedNs: 0n,
  heardNs: 0n,
  ...more,
});

/** A prober, its clock, and peers that answer at once or not at all. */
class Stand {
  now = START;
  readonly census: Census;
  readonly peers = new Map<bigint, Heard>();
  readonly silent = new Set<bigint>();
  probes = 0;
  hellos = 0;
  changes = 0;

  constructor(peers = 1, options = OPTIONS, random = () => 0.5) {
    this.census = new Census(options, this.now, random);
    for (let id = 1n; id <= peers; id++) this.peers.set(id, heard(id, { echoedNs: this.now + 1n }));
    this.now += MS;
    this.observe();
  }

  observe(): boolean {
    const isChanged = this.census.observe(this.peers.values(), this.now);
    if (isChanged) this.changes += 1;
    return isChanged;
  }

  isAlive(node = 1n): boolean {
    return this.census.members.get(node)!.isAlive;
  }

  /** A probe leaves, and is answered a microsecond later, unless the peer is silent. */
  probe(node = 1n): void {
    this.census.probed(node, this.now);
    this.probes += 1;
    if (!this.silent.has(node)) this.answer(node);
  }

  answer(node = 1n): void {
    this.peers.set(node, { ...this.peers.get(node)!, echoedNs: this.now + 1000n });
  }

  /** One round, as a segment makes them: look, then probe the peers that are due. */
  round(): void {
    this.observe();
    if (this.census.isHelloDue(this.now)) {
      this.census.greeted(this.now);
      this.hellos += 1;
    }
    for (const node of this.census.due(this.now)) this.probe(node);
  }

  /** Rounds for so long, `step` apart. */
  run(time: bigint, step = 50n * MS): void {
    for (const end = this.now + time; this.now < end; this.now += step) this.round();
  }
}

test("a peer that answered a probe is alive; a peer that only sent one is not", () => {
  const stand = new Stand(2);
  assert.equal([stand.isAlive(1n), stand.isAlive(2n)], [true, true]);
  stand.peers.set(3n, heard(3n));
  assert.ok(stand.observe());
  assert.is(stand.isAlive(3n), false);
  assert.equal([...stand.census.alive.keys()], [1n, 2n]);
});

test("an answer from before the census began does not count", () => {
  const census = new Census(OPTIONS, START, () => 0.5);
  census.observe([heard(1n, { echoedNs: START - 1n }), heard(2n, { echoedNs: START })], START + MS);
  assert.is(census.alive.size, 0);
});

for (const dead of [1, 2, 3, 10]) {
  test(`a peer is dead once it has left ${dead} probes in a row unanswered, and not before`, () => {
    const stand = new Stand(1, { ...OPTIONS, dead });
    stand.silent.add(1n);
    for (let sent = 1; sent <= dead; sent++) {
      assert.ok(stand.isAlive(), `alive with ${sent - 1} unanswered`);
      stand.probe();
      stand.now += stand.census.patience - 1n;
      stand.observe();
      assert.ok(stand.isAlive(), "the last one may still be answered");
      stand.now += 1n;
      assert.is(stand.observe(), sent === dead);
      stand.now += OPTIONS.interval / 2n;
    }
    assert.not.ok(stand.isAlive());
  });
}

test("a probe that never left is not counted as missed", () => {
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
  assert.equal(stand.census.due(stand.now), [1n]);
  assert.equal(stand.census.due(stand.now), [1n]);
  stand.probe();
  assert.equal(stand.census.due(stand.now), []);
});

test("an answer to a probe counts for all probes that left before it", () => {
  const stand = new Stand();
  stand.silent.add(1n);
  for (let i = 0; i < 20; i++) {
    stand.probe();
    if (i % 3 === 2) stand.answer(); // two are missed, the third is answered
    stand.now += 100n * MS;
    stand.observe();
    assert.ok(stand.isAlive(), `after ${i + 1} probes`);
  }
});

test("an answer that comes late, but before the last probe is missed, keeps a peer alive", () => {
  const stand = new Stand();
  stand.silent.add(1n);
  for (let i = 0; i < 3; i++) {
    stand.probe();
    stand.now += 100n * MS;
    if (i < 2) stand.observe();
  }
  stand.peers.set(1n, { ...stand.peers.get(1n)!, echoedNs: stand.now - 10n * MS }); // it is in the map, and was not looked at yet
  stand.observe();
  assert.ok(stand.isAlive());
});

test("a dead peer stays dead until it answers again", () => {
  const stand = new Stand();
  stand.run(SECOND);
  stand.silent.add(1n);
  stand.run(SECOND);
  assert.not.ok(stand.isAlive());
  stand.now += 60n * SECOND; // a pause, after which the open probes count against nobody
  stand.run(SECOND);
  assert.not.ok(stand.isAlive());
  const { changes } = stand;
  stand.silent.delete(1n);
  stand.run(200n * MS);
  assert.ok(stand.isAlive());
  assert.is(stand.changes, changes + 1);
});

test("a dead peer is probed like a live one", () => {
  const stand = new Stand();
  stand.silent.add(1n);
  stand.run(SECOND);
  const { probes } = stand;
  stand.run(SECOND);
  assert.ok(stand.probes - probes >= 9, `${stand.probes - probes} probes`);
});

for (const [what, pause] of [
  ["a little more than two intervals", 201n * MS],
  ["an hour", 3600n * SECOND],
] as const) {
  test(`after a pause of ${what}, nothing is concluded until probes have left again`, () => {
    const stand = new Stand();
    stand.run(SECOND);
    stand.silent.add(1n);
    stand.probe();
    stand.now += 30n * MS;
    stand.probe();
    stand.now += 30n * MS;
    stand.probe();
    stand.now += pause; // by the clock, three are unanswered by now
    stand.observe();
    assert.ok(stand.isAlive());
    stand.run(150n * MS);
    assert.ok(stand.isAlive(), "after one or two probes");
    stand.run(250n * MS);
    assert.not.ok(stand.isAlive());
  });
}

test("a death is noticed also where each round is late, by less than two intervals", () => {
  const stand = new Stand();
  stand.run(2n * SECOND, 190n * MS);
  stand.silent.add(1n);
  stand.run(2n * SECOND, 190n * MS);
  assert.not.ok(stand.isAlive());
});

for (const step of [250n * MS, 2n * SECOND]) {
  test(`a process that pauses for ${step / MS} ms between any two rounds notices a death in the end, and takes no peer that answers for dead`, () => {
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
  ["IPv6 that it cannot speak", { onlyIPv4: true }, true],
  ["that it does not count this node among its peers", { knowsUs: false }, true],
  ["another incarnation", { incarnation: 99n }, true],
  ["nothing new", {}, false],
];
for (const [what, more, isChanged] of changes) {
  test(`a peer that reports ${what} makes ${isChanged ? "a" : "no"} difference to others`, () => {
    const stand = new Stand();
    stand.probe();
    stand.now += MS;
    stand.peers.set(1n, { ...stand.peers.get(1n)!, ...more });
    assert.is(stand.observe(), isChanged);
    assert.is(stand.observe(), false);
  });
}

test("a peer that was forgotten and is heard again is a new one", () => {
  const stand = new Stand();
  stand.census.forget(1n);
  assert.is(stand.census.members.size, 0);
  assert.ok(stand.observe());
  assert.ok(stand.isAlive());
});

/**
 * The interval by the number of peers. Probes leave 5 to 15 % early, so as not to wait for another round: with long rounds
 * that makes no difference, and with short ones about 12 % more than MOST leave.
 */
const intervals: [peers: number, interval: bigint][] = [
  [1, 100n * MS],
  [100, 100n * MS],
  [101, 101n * MS],
  [999, 999n * MS],
];
for (const [peers, interval] of intervals) {
  for (const step of [10n * MS, 50n * MS, 100n * MS]) {
    test(`each of ${peers} peers is probed about every ${interval / MS} ms; with rounds of ${step / MS} ms, no more than about ${MOST} probes leave in a second`, () => {
      let seed = 1;
      const stand = new Stand(peers, OPTIONS, () => (seed = (seed * 7919 + 13) % 1000) / 1000);
      assert.is(stand.census.interval, interval);
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
  test(`${nodes} nodes together send about 20 hellos a second, and each node at most about one`, () => {
    let seed = 1;
    const stand = new Stand(nodes - 1, OPTIONS, () => (seed = (seed * 7919 + 13) % 1000) / 1000);
    const say = (time: bigint) => {
      const before = stand.hellos;
      for (const end = stand.now + time; stand.now < end; stand.now += 50n * MS) {
        if (!stand.census.isHelloDue(stand.now)) continue;
        stand.census.greeted(stand.now);
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

test("`dead` + 1 hellos leave in the first `dead` + 1 intervals; the peers are known when the last one could be answered", () => {
  const stand = new Stand(0);
  const { census } = stand;
  let waited: bigint | undefined;
  for (const began = stand.now; stand.now < began + SECOND; stand.now += MS) {
    if (census.isHelloDue(stand.now)) census.greeted(stand.now);
    if (census.hasCalled(stand.now)) waited ??= stand.now - began;
  }
  assert.is(census.hellos, OPTIONS.dead + 1);
  assert.ok(waited! >= 3n * 90n * MS + census.patience && waited! <= 400n * MS, `${waited! / MS} ms`);
});

/** How often the peer has joined. */
const joins = (stand: Stand) => stand.census.members.get(1n)!.joins;

test("a peer joins once; and again after it was dead, with a new incarnation, and after a silence in which this node may have been dead to it", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  assert.is(joins(stand), 1);

  stand.silent.add(1n);
  stand.run(SECOND);
  assert.is(stand.isAlive(), false);
  stand.silent.clear();
  stand.run(SECOND);
  assert.is(joins(stand), 2);

  stand.peers.set(1n, { ...stand.peers.get(1n)!, incarnation: 99n });
  assert.is(stand.observe(), true);
  assert.is(joins(stand), 3);

  // This process paused while the wire was cut: here, the peer has never been dead.
  stand.run(SECOND);
  stand.now += 10n * SECOND;
  stand.answer();
  assert.is(stand.observe(), true);
  assert.equal([stand.isAlive(), joins(stand)], [true, 4]);
  stand.run(SECOND);
  assert.is(joins(stand), 4);
});

for (const peers of [1, 105, 110, 120, 130, 140, 250]) {
  test(`none of ${peers} peers that answer joins twice, also where probes are rarer than rounds`, () => {
    const stand = new Stand(peers, OPTIONS, () => Math.random());
    stand.run(10n * SECOND, 101n * MS);
    const all = [...stand.census.members.values()].map(({ joins }) => joins);
    assert.equal(all, Array(peers).fill(1));
  });
}

test("a peer that left a probe unanswered for too long joins again: it may have missed `dead` probes of its own", () => {
  const stand = new Stand();
  stand.run(2n * SECOND, 100n * MS);
  stand.silent.add(1n);
  stand.round();
  stand.silent.clear();
  stand.now += 100n * MS;
  stand.run(SECOND, 100n * MS);
  assert.equal([stand.isAlive(), joins(stand)], [true, 2]);
});

test("a peer that is heard only at the second look after a pause joins again all the same", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  stand.now += 10n * SECOND;
  stand.observe();
  assert.is(joins(stand), 1);
  stand.run(SECOND);
  assert.is(joins(stand), 2);
});

test("a hello from before a long pause is sent again after it", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  stand.now += 300n * MS;
  stand.round();
  const before = stand.hellos;
  stand.now += 60n * SECOND;
  stand.round();
  assert.equal([stand.hellos - before, stand.census.isComplete(stand.now)], [1, false]);
  stand.now += 50n * MS;
  stand.round();
  assert.is(stand.census.isComplete(stand.now), true);
});

test("after a pause, the peers are not all known until a hello had the time to be answered", () => {
  const stand = new Stand();
  stand.run(2n * SECOND);
  stand.round();
  const isComplete = () => stand.census.isComplete(stand.now);
  assert.is(isComplete(), true);
  stand.now += 240n * MS;
  assert.is(isComplete(), true);
  stand.now += 20n * MS;
  assert.is(isComplete(), false, "nobody has looked since");
  const before = stand.hellos;
  stand.round();
  assert.equal([stand.hellos - before, isComplete()], [1, false], "a hello leaves at once");
  stand.now += 49n * MS;
  stand.round();
  assert.is(isComplete(), false);
  stand.now += MS;
  stand.round();
  assert.is(isComplete(), true);
});

test("a process that pauses between any two rounds knows its peers half of the time", () => {
  const stand = new Stand();
  let complete = 0;
  for (let round = 0; round < 20; round++) {
    stand.now += 400n * MS;
    stand.round();
    if (stand.census.isComplete(stand.now)) complete += 1;
  }
  assert.is(complete, 10);
});

test.run();
