/** A node that has heard no peer: who is there, by ARP; and when it takes itself for the only one. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Address, parseAddress, plus } from "../../src/core/address.ts";
import type { Question } from "../../src/core/step.ts";
import { MS, type Ns, SECOND } from "../../src/core/time.ts";
import { Unheard } from "../../src/core/unheard.ts";
import { nodeId } from "../../src/core/wire.ts";
import { START } from "./stage.ts";

const mac = (last: number) => Uint8Array.of(2, 0, 0, 0, 0, last);
const ip = parseAddress;
const OTHERS = ["b", "c"].map((name, i) => ({ name, address: plus(ip("10.9.255.2"), i) }));
const [B, C] = OTHERS.map(({ address }) => address) as [Address, Address];
const GATEWAY = ip("10.9.255.254");
const shares = { shareOf: (name: string) => [name === "b" ? ip("10.9.0.2") : ip("10.9.0.3")] };
const [OF_B, OF_C] = [ip("10.9.0.2"), ip("10.9.0.3")];

/** A wire on which some answer, asked every 100 ms. */
class Wire {
  now = START;
  readonly unheard = new Unheard(START);
  /** Who answers a question, by the last byte of its MAC. */
  answerers: (question: Question) => number[] = () => [];
  others: { name: string; address: Address | undefined }[] = OTHERS;
  readonly asked: Question[] = [];
  seen = 0n;
  hasPeers = false;
  isChanged = false;

  run(time: Ns): this {
    for (const end = this.now + time; this.now < end; this.now += 100n * MS) {
      const surroundings = { others: this.others, bystanders: [GATEWAY], hasPeers: this.hasPeers };
      this.unheard.see(this.seen);
      if (this.unheard.judge(surroundings, this.now)) this.isChanged = true;
      const questions = this.unheard.questions(surroundings, shares, this.now);
      this.asked.push(...questions);
      for (const question of questions)
        for (const last of this.answerers(question))
          this.unheard.hear(question.target, mac(last), surroundings, this.now);
    }
    return this;
  }

  get found() {
    const { unheard } = this;
    const names = (is: (name: string) => boolean) => this.others.map(({ name }) => name).filter(is);
    return {
      there: names((name) => unheard.isThere(name)),
      away: names((name) => unheard.isAway(name)),
      isAlone: unheard.isAlone,
      isUndecided: unheard.isUndecided,
    };
  }
}

/** Machines that answer for these addresses; to a question for one MAC only that one, to others all. */
const machines =
  (has: Record<number, Address[]>) =>
  ({ target, mac }: Question) =>
    Object.keys(has)
      .map(Number)
      .filter((last) => has[last]!.includes(target) && (!mac || mac[5] === last));

test("everybody is asked for the addresses of nodes and gateways, then each MAC that answered for the node's VIPs", () => {
  const wire = new Wire();
  wire.answerers = machines({ 2: [B, OF_B] });
  wire.run(300n * MS);
  assert.equal(wire.asked, [
    { node: nodeId("b"), target: B, mac: undefined },
    { node: nodeId("c"), target: C, mac: undefined },
    { node: undefined, target: GATEWAY, mac: undefined },
    { node: nodeId("b"), target: OF_B, mac: mac(2) },
  ]);
  assert.equal(wire.found, { there: ["b"], away: [], isAlone: false, isUndecided: true });
  wire.run(3n * SECOND);
  assert.equal(wire.found, { there: ["b"], away: ["c"], isAlone: false, isUndecided: false });
});

const rows: [what: string, has: Record<number, Address[]>, there: string[]][] = [
  ["nodes that answer for their VIPs are there", { 2: [B, OF_B], 3: [C, OF_C] }, ["b", "c"]],
  ["a node that only answers for its address does not serve", { 2: [B, OF_B], 3: [C] }, ["b"]],
  ["a MAC that answers for two nodes is nobody's", { 9: [B, C, OF_B, OF_C] }, []],
  ["a MAC that answers for a node and for the gateway is nobody's", { 9: [B, GATEWAY, OF_B] }, []],
  ["a node is there beside a proxy that answers for all", { 2: [B, OF_B], 9: [B, C, OF_B, OF_C] }, ["b"]],
  ["another MAC that answers for the VIPs is not the node's", { 3: [C], 9: [OF_C] }, []],
];
for (const [what, has, there] of rows) {
  test(`where no peer is heard, ${what}`, () => {
    const wire = new Wire();
    wire.answerers = machines(has);
    wire.seen = 1n;
    wire.run(SECOND);
    wire.seen = 2n;
    wire.run(4n * SECOND);
    assert.equal(wire.found.there, there);
    assert.is(wire.found.isAlone, there.length === 0);
    assert.is(wire.found.isUndecided, false);
  });
}

test("a switch that answers for nodes that are off, with their MACs, is not taken for them: their MACs answer nothing", () => {
  const wire = new Wire();
  // EVPN's suppression of ARP (RFC 9161) answers what is asked of all; what is asked of one MAC is forwarded to it.
  wire.answerers = ({ target, mac }) => (mac ? [] : target === B ? [2] : target === C ? [3] : []);
  wire.seen = 1n;
  wire.run(SECOND);
  wire.seen = 2n;
  wire.run(4n * SECOND);
  assert.equal(wire.found, { there: [], away: ["b", "c"], isAlone: true, isUndecided: false });
});

test("a node that is there late, or goes, is noticed", () => {
  const wire = new Wire();
  wire.answerers = machines({ 2: [B, OF_B] });
  wire.run(4n * SECOND);
  wire.answerers = machines({ 2: [B, OF_B], 3: [C, OF_C] });
  wire.run(2n * SECOND);
  assert.equal(wire.found.there, ["b", "c"]);
  wire.answerers = machines({ 3: [C, OF_C] });
  wire.run(5n * SECOND);
  assert.equal(wire.found, { there: ["c"], away: ["b"], isAlone: false, isUndecided: false });
});

test("a node that answers is a station, and remains one until it has left three questions without an answer", () => {
  const wire = new Wire();
  const names = () => wire.unheard.stations?.map(({ name }) => name);
  wire.answerers = machines({ 2: [B, OF_B], 3: [C, OF_C] });
  wire.run(300n * MS);
  assert.equal(names(), ["b", "c"]);
  wire.answerers = machines({ 3: [C, OF_C] });
  wire.run(2n * SECOND);
  assert.equal(names(), ["b", "c"], "two answers were lost");
  wire.answerers = machines({ 3: [C, OF_C], 4: [B, OF_B] });
  wire.run(SECOND);
  assert.equal(wire.unheard.stations, [
    { name: "b", mac: mac(4) },
    { name: "c", mac: mac(3) },
  ]);
  wire.answerers = machines({ 3: [C, OF_C] });
  wire.run(3n * SECOND);
  assert.equal(names(), ["c"]);
});

test("a node takes itself for the only one alive once three questions are unanswered and a frame of others was seen", () => {
  const wire = new Wire();
  wire.run(500n * MS);
  wire.seen = 1n;
  wire.run(1_700n * MS);
  assert.equal(wire.found, { there: [], away: [], isAlone: false, isUndecided: true });
  wire.run(SECOND);
  assert.equal(wire.found, { there: [], away: ["b", "c"], isAlone: true, isUndecided: false });
});

test("a link on which nothing of others was seen may be shut: a node owns nothing alone there for 30 s", () => {
  const wire = new Wire();
  wire.seen = 7n; // of before
  wire.run(30n * SECOND);
  assert.equal(wire.found, { there: [], away: [], isAlone: false, isUndecided: true });
  wire.run(200n * MS);
  assert.is(wire.found.isAlone, true);
});

test("where not all nodes could be asked, a node waits ten seconds to hear a peer", () => {
  const wire = new Wire();
  wire.others = [OTHERS[0]!, { name: "c", address: undefined }];
  wire.run(200n * MS);
  wire.seen = 1n;
  wire.run(9_800n * MS);
  assert.is(wire.found.isAlone, false);
  wire.run(200n * MS);
  assert.is(wire.found.isAlone, true);
});

test("beside peers, a node is decided on within 1.1 s, and its own address tells nothing", () => {
  const wire = new Wire();
  wire.hasPeers = true;
  wire.answerers = machines({ 2: [B, OF_B], 3: [C] });
  wire.run(300n * MS);
  assert.equal([wire.found.there, wire.unheard.strangers, wire.found.isUndecided], [["b"], ["b", "c"], true]);
  wire.run(900n * MS);
  assert.equal([wire.found.there, wire.unheard.strangers, wire.found.isUndecided], [["b"], ["b"], false]);
  wire.asked.length = 0;
  wire.answerers = machines({});
  wire.run(4n * SECOND);
  assert.equal([wire.unheard.strangers, wire.found.isUndecided], [[], false]);
});

test("beside peers, a node without an address, and any of too many, is not there", () => {
  const wire = new Wire();
  wire.hasPeers = true;
  wire.others = [{ name: "c", address: undefined }];
  wire.run(100n * MS);
  assert.equal([wire.unheard.strangers, wire.found.isUndecided], [[], false]);
  const many = new Wire();
  many.hasPeers = true;
  many.others = Array.from({ length: 101 }, (_, i) => ({ name: `x${i}`, address: plus(B, i) }));
  many.run(100n * MS);
  assert.equal([many.unheard.strangers, many.asked, many.found.isUndecided], [[], [], false]);
});

test.run();
