import TinyQueue from "tinyqueue";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { peer as peerLayout, vipState, wireType } from "../../src/core/abi.ts";
import { formatAddress, parseAddress } from "../../src/core/address.ts";
import { type Held, UNOWNED } from "../../src/core/difference.ts";
import { addressOf, type EntryKey, entryKey } from "../../src/core/ownership.ts";
import { MAX_CLAIMS, type Message } from "../../src/core/wire.ts";
import { Claims } from "../../src/membership/claims.ts";
import type { Frame, Neighbour } from "../../src/membership/wire.ts";
import { ModelKernel } from "./kernel.ts";

const IFINDEX = 2;
const MS = 1_000_000n;
const { OWNED, CLAIMING, NOT_OWNED } = vipState;

const vip = (i: number): EntryKey => entryKey(IFINDEX, parseAddress("10.9.0.0") + i);
const vips = (count: number) => Array.from({ length: count }, (_, i) => vip(i + 1));
const A = vip(1);

/** Time that passes when it is told to, in milliseconds, and what is to happen in it. */
class Town {
  now = 1_000_000n * MS;
  readonly nodes: Node[] = [];
  readonly #queue = new TinyQueue<{ at: bigint; seq: number; body: () => void }>(
    [],
    (a, b) => Number(a.at - b.at) || a.seq - b.seq,
  );
  #seq = 0;
  /** Of each frame, whether it is lost. */
  loses: (from: Node, to: Node, message: Message) => boolean = () => false;
  /** How long a frame travels, ms. */
  latency: (from: Node, to: Node, message: Message) => number = () => 0.1;
  /** Frames that left, as `a claims b`. */
  said: string[] = [];

  /** Nodes that all know each other. The hash is the first one's best. */
  constructor(...names: string[]) {
    for (const [i, name] of names.entries()) this.nodes.push(new Node(this, name, BigInt(i + 1)));
    for (const node of this.nodes) for (const other of this.nodes) if (other !== node) node.peers.add(other);
  }

  at(milliseconds: number, body: () => void): () => void {
    const event = { at: this.now + BigInt(Math.round(milliseconds * 1e6)), seq: this.#seq++, body };
    this.#queue.push(event);
    return () => {
      event.body = () => undefined;
    };
  }

  run(milliseconds: number): void {
    const end = this.now + BigInt(Math.round(milliseconds * 1e6));
    for (let next = this.#queue.peek(); next && next.at <= end; next = this.#queue.peek()) {
      this.#queue.pop();
      if (next.at > this.now) this.now = next.at;
      next.body();
      for (const [key, names] of this.mayBeTwo ? [] : this.answering) {
        assert.ok(names.length <= 1, `${names.join(" and ")} both answer ${formatAddress(addressOf(key))}`);
      }
    }
    this.now = end;
  }

  /** Two may answer for the moment, or it takes too long to look after each event. */
  mayBeTwo = false;

  /** Who answers what. */
  get answering(): Map<EntryKey, string[]> {
    const found = new Map<EntryKey, string[]>();
    for (const { kernel, name, isUp } of this.nodes) {
      for (const key of isUp ? kernel.vips.keys() : []) {
        if (kernel.isAnswered(key, this.now)) found.set(key, [...(found.get(key) ?? []), name]);
      }
    }
    return found;
  }

  /** The names of those who answer the VIP. */
  who(key: EntryKey): string {
    return (this.answering.get(key) ?? []).join(" and ") || "nobody";
  }

  send(from: Node, to: Node, message: Message): void {
    if (this.loses(from, to, message) || !to.isUp) return;
    this.at(this.latency(from, to, message), () => to.isUp && to.hear(from, message));
  }
}

/** A control plane's claims, and its kernel. */
class Node {
  readonly town: Town;
  readonly name: string;
  readonly hash: bigint;
  readonly kernel = new ModelKernel(IFINDEX);
  readonly claims: Claims;
  readonly entries = new Map<EntryKey, Held>();
  /** Those that this one knows to be alive. */
  readonly peers = new Set<Node>();
  readonly events: string[] = [];
  isUp = true;
  /** Whether it knows who is there. */
  isSure = true;
  #nonce = 0n;
  /** Called when the claims look anew who is there. */
  refresh: () => void = () => undefined;

  constructor(town: Town, name: string, hash: bigint) {
    this.town = town;
    this.name = name;
    this.hash = hash;
    const clock = {
      now: () => town.now,
      after: (milliseconds: number, body: () => void) => town.at(milliseconds, body),
      random: () => 0.5,
    };
    const note = (what: string) => (keys: readonly EntryKey[], peer?: string) => {
      this.events.push([what, keys.length, ...(peer ? ["by", peer] : [])].join(" "));
    };
    this.claims = new Claims(
      {
        has: () => true,
        isSure: () => this.isSure,
        alive: () => [...this.peers].map(({ neighbour }) => neighbour),
        refresh: () => this.refresh(),
        send: (_, to, message) => {
          const peer = town.nodes.find(({ id }) => id === to.id)!;
          town.said.push(`${name} ${message.type === wireType.WIRE_CLAIM ? "claims of" : "tells"} ${peer.name}`);
          town.send(this, peer, message);
          return true;
        },
        nextNonce: () => ++this.#nonce,
        hash: () => this.hash,
        entries: this.entries,
        released: (keys) => this.kernel.releasedOf(new Map(keys.map((key) => [key, this.entries.get(key)!]))),
        write: (set) => this.write(set),
        won: note("won"),
        lost: note("lost"),
        contested: note("contested"),
      },
      clock,
    );
  }

  get id(): bigint {
    return BigInt(this.town.nodes.indexOf(this) + 1);
  }

  get neighbour(): Neighbour {
    this.#neighbour ??= { ...peerLayout.of({ node: this.name, incarnation: this.id * 10n }), id: this.id };
    return this.#neighbour;
  }

  #neighbour: Neighbour | undefined;

  write(set: readonly (readonly [EntryKey, Held])[]): void {
    for (const [key, held] of set) this.entries.set(key, held);
    this.kernel.write(set);
  }

  /** Owns these, since a while ago. */
  own(keys: readonly EntryKey[], claimNs = this.town.now - 1000n * MS): void {
    const held = { state: OWNED, claimNs, untilNs: 0n, hash: this.hash };
    this.write(keys.map((key) => [key, held]));
  }

  /** Manages these, and owns none of them. */
  manage(keys: readonly EntryKey[]): void {
    this.write(keys.map((key) => [key, UNOWNED]));
  }

  hear(from: Node, message: Message): void {
    if (message.type === wireType.WIRE_CLAIM) {
      const claims = this.kernel.claim(message.claims!, this.town.now);
      this.town.send(this, from, { ...message, type: wireType.WIRE_REPLY, claims });
    } else if (message.type === wireType.WIRE_REPLY) {
      this.claims.reply(IFINDEX, { ...message, node: from.id, name: from.name } as Frame);
    } else {
      this.events.push(`told of ${message.claims!.length} by ${from.name}`);
    }
  }

  state(key = A): Held["state"] | undefined {
    return this.entries.get(key)?.state;
  }

  /** What the speaker does when it finds that its kernel has given something away. */
  checkReleases(): void {
    const keys = this.kernel.releasedOf(this.entries);
    this.write(keys.map((key) => [key, UNOWNED]));
    this.claims.pause(keys);
    if (keys.length > 0) this.events.push(`released ${keys.length}`);
  }
}

/** Three nodes that manage A, of whom a has the best hash and c the worst. */
function three(): { town: Town; a: Node; b: Node; c: Node } {
  const town = new Town("a", "b", "c");
  const [a, b, c] = town.nodes as [Node, Node, Node];
  for (const node of town.nodes) node.manage([A]);
  return { town, a, b, c };
}

test("what all peers say is free is owned after one round trip", () => {
  const { town, a } = three();
  a.claims.want([A]);
  assert.is(a.state(), CLAIMING);
  assert.is(town.who(A), "nobody");
  town.run(0.19);
  assert.is(a.state(), CLAIMING);
  town.run(0.02);
  assert.is(town.who(A), "a");
  assert.equal(a.events, ["won 1"]);
  assert.equal(town.said, ["a claims of b", "a claims of c"]);
  assert.ok(a.claims.isIdle);
});

test("without a peer it is owned at once", () => {
  const { town, a } = three();
  a.peers.clear();
  a.claims.want([A]);
  assert.is(town.who(A), "a");
});

test("the owner of a worse hash gives it away in the instant in which it is claimed, and is told", () => {
  const { town, a, b } = three();
  b.own([A]);
  a.claims.want([A]);
  town.run(0.15);
  assert.is(town.who(A), "nobody", "between two, and not for longer than a round trip");
  town.run(0.2);
  assert.is(town.who(A), "a");
  assert.equal(b.events, ["told of 1 by a"]);
});

test("a live owner of a better hash keeps it; it is asked again after 50 ms, doubling up to a second", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.claims.want([A]);
  town.run(1);
  assert.equal([town.who(A), b.state()], ["a", NOT_OWNED]);
  const asked: number[] = [];
  let seen = town.said.length;
  for (let at = 1; at < 8000; at++) {
    town.run(1);
    if (town.said.length > seen) asked.push(at);
    seen = town.said.length;
  }
  const pauses = asked.map((at, i) => at - (asked[i - 1] ?? 0));
  const expected = [50, 100, 200, 400, 800, 1000, 1000, 1000];
  pauses.slice(0, 8).forEach((pause, i) => {
    assert.ok(Math.abs(pause - expected[i]!) <= 15, `pauses of ${pauses.join(", ")} ms`);
  });
  assert.equal(b.events, ["contested 1 by a"], "said once, after more than a second");
  assert.is(b.claims.contested, 1);
});

for (const [what, change] of [
  ["whose tick is old", (owner: Node) => (owner.kernel.stance = "holds")],
  [
    "that is leaving it",
    (owner: Node) =>
      owner.write([[A, { ...owner.entries.get(A)!, state: vipState.LEAVING, untilNs: owner.town.now + 1000n * MS }]]),
  ],
] as const) {
  test(`an owner of a better hash ${what} gives it away to a worse one`, () => {
    const { town, a, b } = three();
    a.own([A]);
    change(a);
    b.claims.want([A]);
    town.run(1);
    assert.is(town.who(A), "b");
  });
}

test("what was refused is owned once the owner has it no more", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.claims.want([A]);
  town.run(100);
  a.manage([A]);
  town.run(200);
  assert.is(town.who(A), "b");
  assert.is(b.claims.contested, 0);
});

test("of one batch only what is refused is not owned", () => {
  const { town, a, b } = three();
  const keys = vips(10);
  for (const node of [a, b]) node.manage(keys);
  a.own(keys.slice(0, 3));
  b.claims.want(keys);
  town.run(1);
  assert.equal(
    keys.map((key) => town.who(key)),
    keys.map((_, i) => (i < 3 ? "a" : "b")),
  );
  assert.equal(b.events, ["won 7"]);
});

test("65,000 VIPs are asked for in frames of 64, a window at a time, and all are owned", () => {
  const { town, a, c } = three();
  const keys = vips(65_000);
  a.manage(keys);
  c.manage(keys.slice(0, 100));
  let open = 0;
  let most = 0;
  const { latency } = town;
  town.latency = (...args) => {
    open += args[2].type === wireType.WIRE_CLAIM ? 1 : -1;
    most = Math.max(most, open);
    assert.ok(args[2].claims!.length <= MAX_CLAIMS);
    return latency(...args);
  };
  town.mayBeTwo = true;
  a.claims.want(keys);
  town.run(100);
  const { answering } = town;
  assert.is(keys.filter((key) => answering.get(key)?.join() === "a").length, keys.length);
  assert.ok(most <= 256 + 2, `${most} frames unanswered`);
});

for (const what of [wireType.WIRE_CLAIM, wireType.WIRE_REPLY]) {
  test(`where the first ${what === wireType.WIRE_CLAIM ? "claims" : "answers"} are lost, they are asked again, later each time`, () => {
    const { town, a, b } = three();
    let lost = 0;
    town.loses = (from, to, { type }) => type === what && [from, to].includes(b) && lost++ < 6;
    a.claims.want([A]);
    town.run(600);
    assert.is(a.state(), CLAIMING);
    town.run(300);
    assert.is(town.who(A), "a");
    assert.is(town.said.filter((line) => line === "a claims of b").length, 7);
    assert.is(town.said.filter((line) => line === "a claims of c").length, 1, "who has granted is not asked again");
  });
}

test("a third of all frames lost: every VIP is owned by one node in the end", () => {
  const { town, a, b, c } = three();
  let seed = 1;
  town.loses = () => (seed = (seed * 7919 + 13) % 1000) < 333;
  const keys = vips(300);
  for (const node of town.nodes) node.manage(keys);
  c.own(keys);
  a.claims.want(keys.slice(0, 150));
  b.claims.want(keys.slice(150));
  town.run(10_000);
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a", "b"]));
});

test("an answer that comes after the claim was sent again counts for nothing, and the next one does", () => {
  const { town, a, b } = three();
  town.latency = (from) => (from === b ? 30 : 0.1);
  a.claims.want([A]);
  town.run(31);
  assert.is(a.state(), CLAIMING);
  town.run(60);
  assert.is(town.who(A), "a");
});

test("an answer of another interface, of another node, or to no claim changes nothing", () => {
  const { town, a, b, c } = three();
  town.loses = (from) => from !== a;
  a.claims.want([A]);
  const free = (from: Node, nonce: bigint): Frame =>
    ({ type: wireType.WIRE_REPLY, node: from.id, name: from.name, nonce, claims: [] }) as unknown as Frame;
  a.claims.reply(IFINDEX + 1, free(b, 1n));
  a.claims.reply(IFINDEX, free(c, 1n)); // b was asked with 1, c with 2
  a.claims.reply(IFINDEX, free(b, 3n));
  a.claims.reply(IFINDEX, free(b, 1n));
  assert.is(a.state(), CLAIMING);
  a.claims.reply(IFINDEX, free(c, 2n));
  assert.is(a.state(), OWNED);
  town.run(100);
});

test("a silent peer is waited for until it counts as dead, and not longer", () => {
  const { town, a, b } = three();
  b.isUp = false;
  a.claims.want([A]);
  town.run(300);
  assert.is(a.state(), CLAIMING);
  a.peers.delete(b);
  town.run(11);
  assert.is(town.who(A), "a");
});

test("a peer that appears while a claim is under way is asked too, even if the last answer is what shows it", () => {
  const { town, a, b, c } = three();
  a.peers.delete(b);
  b.own([A]);
  a.refresh = () => {
    if (town.said.includes("a claims of c")) a.peers.add(b);
  };
  a.claims.want([A]);
  town.run(0.25);
  assert.equal([a.state(), town.who(A), c.state()], [CLAIMING, "b", NOT_OWNED]);
  town.run(1);
  assert.is(town.who(A), "a");
  assert.equal(town.said.slice(0, 2), ["a claims of c", "a claims of b"]);
});

test("a peer that granted, died, and came back with the VIP is asked again", () => {
  const { town, a, b, c } = three();
  town.loses = (from, to) => [from, to].includes(b); // so that the claim waits for b
  a.claims.want([A]);
  town.run(15);
  a.peers.delete(c);
  town.run(15);
  c.own([A], town.now); // a was dead to it
  a.peers.add(c);
  town.loses = () => false;
  town.run(300);
  assert.is(town.who(A), "a");
});

test("what a peer that came granted before counts no more", () => {
  const { town, a, b, c } = three();
  town.loses = (from, to) => [from, to].includes(b); // so that the claim waits for b
  a.claims.want([A]);
  town.run(15);
  assert.not.ok(town.said.includes("a tells c"));
  c.own([A], town.now); // a was dead to it, and never knew
  a.claims.defend(IFINDEX, [c.neighbour]);
  town.loses = () => false;
  town.run(300);
  assert.is(town.who(A), "a");
});

test("who does not know who is there asks nobody to give anything away, and asks when it knows", () => {
  const { town, a, b } = three();
  b.own([A]);
  a.isSure = false;
  a.claims.want([A]);
  town.run(500);
  assert.equal([town.who(A), town.said, a.claims.isIdle], ["b", [], false]);
  a.isSure = true;
  town.run(15);
  assert.is(town.who(A), "a");
});

test("of two who claim at once the better hash wins, whoever is first", () => {
  for (const latency of [0.1, 1, 5]) {
    for (const [first, second] of [
      [0, 1],
      [1, 0],
    ] as const) {
      for (const gap of [0, 0.05, 0.15, 0.25]) {
        const { town, a, b } = three();
        town.latency = () => latency;
        const pair = [a, b];
        pair[first]!.claims.want([A]);
        town.at(gap * latency * 10, () => pair[second]!.claims.want([A]));
        for (let at = 0; at < 2000; at += 100) {
          town.run(100);
          for (const node of town.nodes) node.checkReleases();
        }
        assert.is(town.who(A), "a", `${latency} ms, ${pair[first]!.name} first by ${gap}`);
      }
    }
  }
});

test("all at once, over a slow wire that loses a tenth: one owner each, and never two", () => {
  const town = new Town("a", "b", "c", "d", "e");
  let seed = 7;
  const random = () => (seed = (seed * 7919 + 13) % 1000) / 1000;
  town.loses = () => random() < 0.1;
  town.latency = () => 0.1 + 8 * random();
  const keys = vips(70);
  for (const node of town.nodes) node.manage(keys);
  for (const node of town.nodes) town.at(20 * random(), () => node.claims.want(keys));
  for (let at = 0; at < 5000; at += 100) {
    town.run(100);
    for (const node of town.nodes) node.checkReleases();
  }
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a"]));
});

test("what is released between the last grant and the entry is not answered", () => {
  const { town, a, b } = three();
  const { write } = a;
  a.write = (set) => {
    // The kernel is faster than the control plane: a better claim is granted right before this is written.
    if (set.some(([, { state }]) => state === OWNED)) {
      a.kernel.claim([{ ip: Uint8Array.of(10, 9, 0, 1), verdict: 0, hash: 0n }], town.now);
    }
    write.call(a, set);
  };
  a.claims.want([A]);
  town.run(1);
  assert.equal([town.who(A), a.kernel.releasedOf(a.entries), b.state()], ["nobody", [A], NOT_OWNED]);
});

test("what is released between the claim's beginning and its entry is not owned, and asked for again", () => {
  const { town, a, b } = three();
  const { write } = a;
  let isFirst = true;
  a.write = (set) => {
    // The control plane is put aside before it writes, and meanwhile a peer is granted the VIP, and gives it up again.
    if (isFirst) a.kernel.claim([{ ip: Uint8Array.of(10, 9, 0, 1), verdict: 0, hash: b.hash }], town.now);
    isFirst = false;
    write.call(a, set);
  };
  a.claims.want([A]);
  town.run(1);
  assert.equal([town.who(A), a.state(), a.events], ["nobody", NOT_OWNED, []]);
  town.run(100);
  assert.equal([town.who(A), a.events], ["a", ["won 1"]]);
});

const steads: [what: string, holder: (node: Node) => void, who: string][] = [
  ["a held node has is left to it", (holder) => (holder.kernel.stance = "holds"), "b"],
  [
    "a held node is leaving is taken",
    (holder) => {
      holder.kernel.stance = "holds";
      holder.write([
        [A, { ...holder.entries.get(A)!, state: vipState.LEAVING, untilNs: holder.town.now + 1000n * MS }],
      ]);
    },
    "a",
  ],
  [
    "a held node was only asking for is taken",
    (holder) => {
      holder.kernel.stance = "holds";
      holder.write([[A, { ...holder.entries.get(A)!, state: CLAIMING }]]);
    },
    "a",
  ],
  ["a live node of a worse hash has is taken", () => undefined, "a"],
  ["a node with a stale source has is taken", (holder) => (holder.kernel.stance = "releases"), "a"],
  ["nobody has is taken", (holder) => holder.manage([A]), "a"],
];
for (const [what, change, who] of steads) {
  test(`of what is wanted in a held node's stead, what ${what}`, () => {
    const { town, a, b } = three();
    b.own([A]);
    change(b);
    a.claims.want([], [A]);
    town.run(1);
    assert.is(town.who(A), who);
    town.run(5000);
    assert.is(town.who(A), who);
    assert.equal(
      a.events.filter((event) => event.startsWith("contested")),
      [],
      "that is no quarrel",
    );
    assert.is(a.claims.contested, 0);
  });
}

test("what a held node keeps is asked for each second, doubling, and at once when the view changes", () => {
  const { town, a, b } = three();
  b.own([A]);
  b.kernel.stance = "holds";
  a.claims.want([], [A]);
  town.run(30_000);
  const asked = town.said.filter((line) => line === "a claims of b").length;
  assert.ok(asked >= 4 && asked <= 6, `asked ${asked} times`);
  b.isUp = false;
  a.peers.delete(b);
  a.claims.want([A]);
  town.run(1);
  assert.is(town.who(A), "a");
});

test("what is leaving is answered while it is asked for again, and owned when it is granted", () => {
  const { town, a } = three();
  a.own([A]);
  a.write([[A, { ...a.entries.get(A)!, state: vipState.LEAVING, untilNs: town.now + 1000n * MS }]]);
  a.claims.want([A]);
  for (let at = 0; at < 5; at++) {
    assert.is(town.who(A), "a");
    town.run(0.05);
  }
  assert.equal([a.state(), a.entries.get(A)!.untilNs], [OWNED, 0n]);
});

test("what is leaving ends at once where a peer that came has it, and takes it from nobody", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  b.kernel.stance = "holds";
  a.write([[A, { ...a.entries.get(A)!, state: vipState.LEAVING, untilNs: town.now + 1000n * MS }]]);
  a.claims.defend(IFINDEX, [b.neighbour]);
  town.run(0.3);
  assert.equal([town.who(A), a.state(), a.events], ["b", NOT_OWNED, []]);
  town.run(3000);
  assert.is(town.said.filter((line) => line === "a claims of b").length, 1, "nobody wants it here");
});

test("what was lost is not asked for at once: after a second, then two, doubling up to a minute", () => {
  const { town, a } = three();
  const pauses: number[] = [];
  for (let i = 0; i < 8; i++) {
    a.own([A]);
    a.claims.pause([A]);
    a.manage([A]);
    a.claims.want([A]);
    const began = town.now;
    while (a.state() !== OWNED) town.run(10);
    pauses.push(Number((town.now - began) / MS));
  }
  for (const [i, expected] of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000].entries()) {
    assert.ok(Math.abs(pauses[i]! - expected) <= 30, `pauses of ${pauses.join(", ")} ms`);
  }
});

test("what was refused for long and then granted begins anew: 50 ms, and it is said again after a second", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.claims.want([A]);
  town.run(5000);
  a.manage([A]);
  town.run(1100);
  assert.is(town.who(A), "b");
  b.manage([A]);
  a.own([A], town.now);
  b.events.length = 0;
  town.said = [];
  b.claims.want([A]);
  town.run(70);
  assert.is(town.said.filter((line) => line === "b claims of a").length, 2);
  assert.equal(b.events, []);
  town.run(3000);
  assert.equal(b.events, ["contested 1 by a"]);
});

test("what is no longer wanted is not asked for any more", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.claims.want([A]);
  town.run(60);
  b.claims.want([]);
  const said = town.said.length;
  town.run(5000);
  assert.is(town.said.length, said);
  assert.ok(b.claims.isIdle);
});

test("what was given up while it was asked for is not owned", () => {
  const { town, a } = three();
  a.claims.want([A]);
  a.manage([A]); // the view gives it to another node
  a.claims.want([]);
  town.run(100);
  assert.equal([town.who(A), a.state(), a.events], ["nobody", NOT_OWNED, []]);
  assert.ok(a.claims.isIdle);
});

test("what was given up while it was asked for, and is wanted again, is asked for again", () => {
  const { town, a, b } = three();
  town.loses = (from, to) => [from, to].includes(b);
  a.claims.want([A]);
  town.run(50);
  a.manage([A]);
  a.claims.want([]);
  town.run(50);
  a.claims.want([A]);
  town.run(50);
  town.loses = () => false;
  town.run(300);
  assert.is(town.who(A), "a");
});

test("a peer that comes back with the same VIPs loses those for which it has the worse hash", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  a.claims.defend(IFINDEX, [b.neighbour]);
  town.run(0.15);
  town.mayBeTwo = false;
  town.run(0.1);
  assert.is(town.who(A), "a");
  assert.equal([a.events, b.events], [[], []], "nothing is won by it");
  town.run(0.1);
  assert.equal(b.events, ["told of 1 by a"]);
});

test("who finds that a peer that came back has the better hash stops, says so, and asks again", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  b.claims.defend(IFINDEX, [a.neighbour]);
  town.run(0.25);
  town.mayBeTwo = false;
  assert.is(town.who(A), "a");
  assert.equal(b.events, ["lost 1"]);
  town.run(60);
  assert.is(town.said.filter((line) => line === "b claims of a").length, 2);
});

test("several peers that come back at once are each asked", () => {
  const { town, a, b, c } = three();
  town.mayBeTwo = true;
  const keys = vips(100);
  for (const node of town.nodes) node.own(keys);
  a.claims.defend(IFINDEX, [b.neighbour]);
  a.claims.defend(IFINDEX, [c.neighbour]);
  town.run(0.2);
  town.mayBeTwo = false;
  town.run(1);
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a"]));
});

test("a defence outlives lost frames, and ends with a peer that dies", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  let lost = 0;
  town.loses = () => lost++ < 5;
  a.claims.defend(IFINDEX, [b.neighbour]);
  town.run(700);
  assert.is(town.who(A), "a");
  town.loses = () => true;
  a.claims.defend(IFINDEX, [b.neighbour]);
  town.run(100);
  assert.not.ok(a.claims.isIdle);
  a.peers.delete(b);
  town.run(100);
  assert.ok(a.claims.isIdle);
  assert.is(town.who(A), "a");
});

test("a refusal of what was defended does not take what was claimed anew meanwhile", () => {
  const { town, a, b } = three();
  b.own([A]);
  b.peers.delete(a);
  town.mayBeTwo = true;
  a.own([A]);
  town.latency = (from) => (from === a ? 15 : 0.1);
  b.claims.defend(IFINDEX, [a.neighbour]);
  town.run(1);
  b.manage([A]);
  b.claims.want([A]);
  town.run(1);
  assert.is(b.state(), OWNED, "by a claim of which a was not asked");
  town.run(50);
  assert.is(b.state(), OWNED);
});

test("after its end nothing is sent any more", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.claims.want([A]);
  town.run(10);
  b.claims[Symbol.dispose]();
  const said = town.said.length;
  town.run(5000);
  assert.is(town.said.length, said);
});

test.run();
