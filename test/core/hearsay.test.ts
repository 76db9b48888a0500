/** Nodes that do not answer here, as peers hear them: who is asked, and which words count. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { nodeState, wireHeader, wireType } from "../../src/core/abi.ts";
import { Hearsay, type Missing } from "../../src/core/hearsay.ts";
import type { Heard } from "../../src/core/step.ts";
import { MS, type Ns, SECOND } from "../../src/core/time.ts";
import { type Claim, isAbout } from "../../src/core/wire.ts";
import { START } from "./stage.ts";

const INTERVAL = 100n * MS;
const DEAD = 3;
const { LIVE, DRAINED } = nodeState;

const peer = (node: bigint, maxVersion = 2): Heard => ({
  ...{
    node,
    name: `n${node}`,
    mac: new Uint8Array(6),
    state: LIVE,
    sourceStale: false,
    onlyIPv4: false,
    knowsUs: true,
  },
  ...{ incarnation: node, maxVersion, keyId: 1, interfaceName: "eth0", stamp: 1n, echoedNs: 1n, heardNs: 1n },
});

/** A node that asks, its clock, and peers that say of each node when they heard it. */
class Stand {
  now = START;
  readonly hearsay = new Hearsay();
  peers = [peer(2n)];
  /** The age of each node, at each peer; undefined: that says nothing. */
  ageOf: (node: bigint, helper: bigint) => Ns | undefined = () => 30n * MS;
  state: number = LIVE;
  missing: Missing | undefined;
  most = 32;
  asked: bigint[][] = [];
  private nonce = 0n;

  judge(): boolean {
    return this.hearsay.judge(() => this.missing, INTERVAL, DEAD, this.now);
  }

  ask(nodes: readonly bigint[]) {
    const inquiries = this.hearsay.ask(nodes, this.most, this.peers, () => ++this.nonce, this.now);
    this.asked.push(inquiries.map(({ peer }) => peer.node));
    return inquiries;
  }

  answer(inquiries: ReturnType<Stand["ask"]>): void {
    for (const { peer, nonce, claims } of inquiries) {
      const told = claims.map(
        ({ ip, hash }): Claim => ({ ip, verdict: this.state, hash: this.ageOf(hash, peer.node)! }),
      );
      if (told.some(({ hash }) => hash === undefined)) continue;
      const header = wireHeader.of({ type: wireType.WIRE_REPLY, node: peer.node, name: peer.name, nonce });
      assert.ok(this.hearsay.reply({ ...header, claims: told }));
    }
  }

  /** So many rounds. */
  run(rounds: number, nodes: readonly bigint[] = [3n]): this {
    for (let i = 0; i < rounds; i++, this.now += INTERVAL) {
      this.judge();
      this.answer(this.ask(nodes));
    }
    this.judge();
    return this;
  }

  get heard() {
    return [...this.hearsay.heard].map(([node, { by, state }]) => `${node} by ${by}, ${state}`);
  }
}

test("a node that a peer heard since it should have answered here is heard of, and for as long as that lasts", () => {
  const stand = new Stand();
  stand.missing = { isAlive: false, isDeaf: false, lostAt: START };
  assert.equal(stand.run(2).heard, [`3 by n2, ${LIVE}`]);
  assert.equal(stand.run(50).heard, [`3 by n2, ${LIVE}`]);
  assert.is(stand.judge(), false);
  const died = stand.now;
  stand.ageOf = () => stand.now - died;
  for (; stand.heard.length > 0; stand.run(1)) assert.ok(stand.now - died < 600n * MS);
});

const rows: [what: string, missing: Missing | undefined, age: Ns][] = [
  ["alive here", { isAlive: true, isDeaf: false, lostAt: 0n }, 10n * MS],
  ["deaf", { isAlive: false, isDeaf: true, lostAt: 0n }, 10n * MS],
  [
    "was heard no later than it should have answered here",
    { isAlive: false, isDeaf: false, lostAt: START + SECOND },
    0n,
  ],
  ["was never heard", undefined, 2n ** 64n - 1n],
];
for (const [what, missing, age] of rows) {
  test(`a node that ${what} is not heard of`, () => {
    const stand = new Stand();
    stand.missing = missing;
    stand.ageOf = () => age;
    assert.equal(stand.run(5).heard, []);
  });
}

test("a node that was never heard here is heard of by one answer, and its state is what it said last", () => {
  const stand = new Stand();
  assert.equal(stand.run(1).heard, [`3 by n2, ${LIVE}`]);
  stand.state = DRAINED;
  stand.answer(stand.ask([3n]));
  assert.is(stand.judge(), true, "its state is different");
  assert.equal(stand.heard, [`3 by n2, ${DRAINED}`]);
});

test("a node that peers cannot have heard for a moment, as neither spoke, is not dead yet", () => {
  const stand = new Stand().run(3);
  const since = stand.now;
  stand.ageOf = () => stand.now - since;
  for (let i = 0; i < 7; i++) {
    stand.now += 50n * MS;
    stand.answer(stand.ask([3n]));
    stand.judge();
    assert.is(stand.heard.length, 1, `after ${(i + 1) * 50} ms`);
  }
});

test("an answer to what was not asked, or of another peer, is none", () => {
  const stand = new Stand();
  const [{ nonce, claims }] = stand.ask([3n]) as [ReturnType<Stand["ask"]>[number]];
  const header = wireHeader.of({ type: wireType.WIRE_REPLY, node: 2n, nonce });
  const told = claims.map((claim) => ({ ...claim, verdict: LIVE, hash: 0n }));
  assert.is(stand.hearsay.reply({ ...header, node: 5n, claims: told }), false);
  assert.is(stand.hearsay.reply({ ...header, nonce: nonce + 1n, claims: told }), false);
  assert.is(stand.hearsay.reply({ ...header, claims: told }), true);
  assert.is(stand.hearsay.reply({ ...header, claims: told }), false, "the same once more");
});

test("of many peers a few are asked at a time, all in the end, and always the one that heard the node", () => {
  const stand = new Stand();
  stand.peers = Array.from({ length: 10 }, (_, i) => peer(BigInt(i + 10)));
  stand.ageOf = (_node, helper) => (helper === 15n ? 10n * MS : 2n ** 64n - 1n);
  stand.run(4);
  assert.ok(stand.asked.every(({ length }) => length <= 4));
  assert.is(new Set(stand.asked.flat()).size, 10);
  stand.asked = [];
  stand.run(20);
  assert.ok(stand.asked.every((helpers) => helpers.includes(15n)));
  assert.equal(stand.heard, [`3 by n15, ${LIVE}`]);
});

test("who speaks version 1 is not asked, and frames fit the MTU", () => {
  const stand = new Stand();
  stand.peers = [peer(2n, 1), peer(4n)];
  stand.most = 10;
  const nodes = Array.from({ length: 25 }, (_, i) => BigInt(i + 100));
  const inquiries = stand.ask(nodes);
  assert.equal(
    inquiries.map(({ peer, claims }) => [peer.node, claims.length]),
    [
      [4n, 10],
      [4n, 10],
      [4n, 5],
    ],
  );
  assert.ok(inquiries.every(({ claims }) => claims.every(isAbout)));
  stand.peers = [peer(2n, 1)];
  assert.equal(stand.ask(nodes), []);
});

test("a node that only others hear is warned of after a second", () => {
  const stand = new Stand().run(1);
  const warnings = () => stand.hearsay.warnings("eth0", (node) => `n${node}`, stand.now);
  assert.equal(warnings(), []);
  stand.run(11);
  assert.match(warnings().join(), /^n3 is not heard on eth0, though n2 hears it: look at the switches/);
});

test("a node that the source no longer names is not heard of any more, and an answer about it is none", () => {
  const stand = new Stand().run(2);
  const late = stand.ask([3n, 4n]);
  stand.hearsay.only(new Map([[4n, "d"]]));
  stand.judge();
  assert.equal(stand.heard, []);
  stand.answer(late);
  stand.judge();
  assert.equal(stand.heard, [`4 by n2, ${LIVE}`]);
});

test.run();
