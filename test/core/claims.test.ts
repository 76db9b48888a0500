import TinyQueue from "tinyqueue";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  claimVerdict,
  interfaceEntry,
  nodeState,
  peer as peerLayout,
  vipState,
  wireHeader,
  wireType,
} from "../../src/core/abi.ts";
import { type Address, addressBytes, formatAddress, parseAddress, plus } from "../../src/core/address.ts";
import { Claims, Nonces, type Send } from "../../src/core/claims.ts";
import type { Census } from "../../src/core/liveness.ts";
import { type Entry, type Heard, Step, UNOWNED } from "../../src/core/step.ts";
import { MS, type Ns, SECOND, toMs, toNs } from "../../src/core/time.ts";
import { type Claim, claimsWithin, MAX_CLAIMS, nodeId } from "../../src/core/wire.ts";
import type { Message } from "../bpf/model.ts";
import { Kernel } from "./machine.ts";
import { heardOf } from "./stage.ts";

const { OWNED, CLAIMING, NOT_OWNED, LEAVING } = vipState;
const FOREVER = 2n ** 62n;

const vip = (i: number): Address => plus(parseAddress("10.9.0.0"), i);
const vips = (count: number) => Array.from({ length: count }, (_, i) => vip(i + 1));
const A = vip(1);

/** Time that passes only when a test lets it pass, and what is to happen in it. */
class Town {
  now = 1_000n * SECOND;
  readonly nodes: Node[] = [];
  private readonly queue = new TinyQueue<{ at: Ns; order: number; body: () => void }>(
    [],
    (a, b) => Number(a.at - b.at) || a.order - b.order,
  );
  private order = 0;
  /** Whether a frame is lost. */
  loses: (from: Node, to: Node, message: Message) => boolean = () => false;
  /** How long a frame travels, ms. */
  latency: (from: Node, to: Node, message: Message) => number = () => 0.1;
  /** Whether peers answer probes. */
  isEchoing = true;
  /** Frames that left, as `a claims of b`. */
  sent: string[] = [];
  /** Two nodes may answer a VIP at the moment, or looking after each event would take too long. */
  mayBeTwo = false;

  /** Nodes that all know each other; the first one has the best hash. */
  constructor(...names: string[]) {
    for (const [i, name] of names.entries()) this.nodes.push(new Node(this, name, BigInt(i + 1)));
    for (const node of this.nodes) for (const other of this.nodes) if (other !== node) node.meet(other);
  }

  /** @returns a function that takes it back */
  at(milliseconds: number, body: () => void): () => void {
    const event = { at: this.now + toNs(milliseconds), order: this.order++, body };
    this.queue.push(event);
    return () => {
      event.body = () => undefined;
    };
  }

  run(milliseconds: number): void {
    const end = this.now + toNs(milliseconds);
    for (let next = this.queue.peek(); next && next.at <= end; next = this.queue.peek()) {
      this.queue.pop();
      if (next.at > this.now) this.now = next.at;
      next.body();
      for (const [address, names] of this.mayBeTwo ? [] : this.answering) {
        assert.ok(names.length <= 1, `${names.join(" and ")} both answer ${formatAddress(address)}`);
      }
    }
    this.now = end;
  }

  /** Who answers each VIP. */
  get answering(): Map<Address, string[]> {
    const found = new Map<Address, string[]>();
    for (const { kernel, name, isUp } of this.nodes) {
      for (const address of isUp ? kernel.addresses : []) {
        if (kernel.answers(address, this.now)) found.set(address, [...(found.get(address) ?? []), name]);
      }
    }
    return found;
  }

  /** The names of those who answer the VIP. */
  who(address: Address): string {
    return (this.answering.get(address) ?? []).join(" and ") || "nobody";
  }

  transmit(from: Node, to: Node, message: Message): void {
    if (this.loses(from, to, message) || !to.isUp) return;
    this.at(this.latency(from, to, message), () => to.isUp && to.hear(from, message));
  }
}

/** The claims of one control plane over a kernel, by the model that test/bpf holds against the compiled programs. */
class Node {
  readonly town: Town;
  readonly name: string;
  readonly id: bigint;
  readonly hash: bigint;
  readonly kernel = new Kernel();
  readonly claims: Claims;
  readonly entries = new Map<Address, Entry>();
  /** The peers that this node knows to be alive. */
  readonly alive = new Map<bigint, Heard>();
  readonly events: string[] = [];
  isUp = true;
  /** Whether it knows all of its peers. */
  isComplete = true;
  /** Called when the kernel is read. */
  onRead: () => void = () => undefined;
  private readonly nonces = new Nonces();
  private cancel: (() => void) | undefined;

  constructor(town: Town, name: string, hash: bigint) {
    this.town = town;
    this.name = name;
    this.id = nodeId(name);
    this.hash = hash;
    this.claims = new Claims(this.nonces, () => hash, 1500);
    this.keep("defends");
  }

  /**
   * What its kernel keeps from a claim. `defends`: from worse hashes, as its control plane is live; `holds`: what it
   * answers, from a node that stands in for it, as it is headless; `releases`: nothing, as its source is stale.
   */
  keep(stance: "defends" | "holds" | "releases"): void {
    const { mac, incarnation } = this.heard;
    this.kernel.interface = interfaceEntry.of({
      ...{ node: this.id, node_name: this.name, mac, incarnation, tick_ns: this.town.now },
      state: stance === "releases" ? nodeState.LAGGING : nodeState.LIVE,
      ...{ live_ns: stance === "holds" ? 0n : FOREVER, hold_ns: FOREVER, fence_ns: FOREVER, gone_ns: FOREVER },
    });
  }

  get heard(): Heard {
    return heardOf(this.name);
  }

  meet({ id, heard }: Node): void {
    this.alive.set(id, heard);
    const { name, mac, incarnation } = heard;
    this.kernel.peers.set(id, peerLayout.of({ node: name, mac, incarnation }));
  }

  lose({ id }: Node): void {
    this.alive.delete(id);
  }

  private get census(): Census {
    const echoedNs = this.town.isEchoing ? this.town.now : 0n;
    const alive = new Map([...this.alive].map(([id, heard]) => [id, { ...heard, echoedNs }]));
    return { alive, isComplete: () => this.isComplete } as unknown as Census;
  }

  /** One step; and, where it asks for that, the reading that follows it. */
  private step(body: (step: Step, send: Send) => unknown): void {
    const step = new Step(this.town.now, this.entries);
    const left: (() => void)[] = [];
    body(step, (type, peer, nonce, claims) => left.push(() => this.send(type, peer, nonce, claims)));
    this.write(step.write);
    for (const send of left) send();
    if (step.gained.size > 0) this.events.push(`gained ${step.gained.size}`);
    if (step.lost.size > 0) this.events.push(`lost ${step.lost.size}`);
    for (const { message } of step.notices) this.events.push(message);
    this.cancel?.();
    const { wakeAt } = this.claims;
    if (wakeAt !== undefined) this.cancel = this.town.at(toMs(wakeAt - this.town.now), () => this.run());
    if (step.look === undefined) return;
    this.onRead();
    const { released } = this.kernel.read(step.look);
    this.step((step, send) => this.claims.finish(this.census, released, step, send));
  }

  private run(): void {
    this.step((step, send) => this.claims.run(this.census, step, send));
  }

  /** Wants these, and those on behalf of a headless node. */
  want(addresses: readonly Address[], standIn: readonly Address[] = []): void {
    const wanted = new Map<Address, { isStandIn: boolean }>();
    for (const address of addresses) wanted.set(address, { isStandIn: false });
    for (const address of standIn) wanted.set(address, { isStandIn: true });
    this.step((step, send) => {
      this.claims.want(wanted, step);
      this.claims.run(this.census, step, send);
    });
  }

  /** Peers joined. */
  reassert(...peers: Node[]): void {
    this.step((step, send) => {
      this.claims.reassert(
        peers.map(({ heard }) => heard),
        step,
        send,
      );
      this.claims.run(this.census, step, send);
    });
  }

  private send(type: Parameters<Send>[0], { node }: Heard, nonce: bigint, claims: readonly Claim[]): void {
    const peer = this.town.nodes.find(({ id }) => id === node)!;
    this.town.sent.push(`${this.name} ${type === wireType.WIRE_CLAIM ? "claims of" : "tells"} ${peer.name}`);
    this.town.transmit(this, peer, this.message(peer, type, nonce, claims));
  }

  message({ heard: to }: Node, type: Parameters<Send>[0], nonce: bigint, claims: readonly Claim[]): Message {
    const { mac, incarnation } = this.heard;
    const from = { node: this.id, name: this.name, source: mac, incarnation };
    return {
      header: wireHeader.of({ ...from, type, nonce, to: to.incarnation, destination: to.mac, stamp: this.town.now }),
      claims,
    };
  }

  /** Writes entries into the kernel's map. */
  write(entries: Iterable<readonly [Address, Entry]>): void {
    for (const [address, entry] of entries) this.kernel.write(address, entry);
  }

  private set(addresses: readonly Address[], entry: Entry): void {
    for (const address of addresses) this.entries.set(address, entry);
    this.write(addresses.map((address) => [address, entry]));
  }

  /** Owns these, since a while ago. */
  own(addresses: readonly Address[], claimNs = this.town.now - SECOND): void {
    this.set(addresses, { state: OWNED, claimNs, untilNs: 0n, hash: this.hash });
  }

  /** Manages these, and owns none of them. */
  manage(addresses: readonly Address[]): void {
    this.set(addresses, UNOWNED);
  }

  /** Answers A for another second, and then no more. */
  leave(): void {
    this.set([A], { ...this.entries.get(A)!, state: LEAVING, untilNs: this.town.now + SECOND });
  }

  /** What it had claimed of A was never granted. */
  isClaiming(): void {
    this.set([A], { ...this.entries.get(A)!, state: CLAIMING });
  }

  hear(from: Node, message: Message): void {
    const { reply, isPassed } = this.kernel.hear(message, this.town.now);
    if (reply) this.town.transmit(this, from, reply);
    if (!isPassed) return;
    const { header, claims } = message;
    if (header.type === wireType.WIRE_REPLY)
      this.step((step) => this.claims.reply({ ...header, claims: [...claims] }, step));
    else this.events.push(`told of ${claims.length} by ${from.name}`);
  }

  state(address = A): Entry["state"] | undefined {
    return this.entries.get(address)?.state;
  }

  /** Finds what its kernel released, as a segment does. */
  checkReleases(): void {
    const { released } = this.kernel.read("all");
    const held = released.filter((address) => this.state(address) !== NOT_OWNED);
    if (held.length === 0) return;
    this.step((step) => {
      for (const address of held) step.set(address, UNOWNED);
      this.claims.lose(held, step.now);
    });
  }

  get contested(): number {
    return this.claims.contested(this.town.now);
  }
}

/** A better claim than any node's comes to the kernel of the node. */
function claimByAnother(node: Node, hash: bigint): void {
  const peer = node.town.nodes.at(-1)!;
  const claim = { ip: addressBytes(A), verdict: claimVerdict.CLAIMED, hash };
  node.kernel.hear(peer.message(node, wireType.WIRE_CLAIM, 1n, [claim]), node.town.now);
}

const CONTESTED = "10.9.0.1 is wanted here, and a does not release it: the nodes' views differ";

/** Three nodes that manage A, of whom a has the best hash and c the worst. */
function three(): { town: Town; a: Node; b: Node; c: Node } {
  const town = new Town("a", "b", "c");
  const [a, b, c] = town.nodes as [Node, Node, Node];
  for (const node of town.nodes) node.manage([A]);
  return { town, a, b, c };
}

test("a VIP that no peer has is owned after one round trip", () => {
  const { town, a } = three();
  a.want([A]);
  assert.is(a.state(), CLAIMING);
  assert.is(town.who(A), "nobody");
  town.run(0.19);
  assert.is(a.state(), CLAIMING);
  town.run(0.02);
  assert.is(town.who(A), "a");
  assert.equal(a.events, ["gained 1"]);
  assert.equal(town.sent, ["a claims of b", "a claims of c"]);
  assert.ok(a.claims.isIdle);
});

test("without a peer, a VIP is owned at once", () => {
  const { town, a } = three();
  a.alive.clear();
  a.want([A]);
  assert.is(town.who(A), "a");
});

test("an owner with a worse hash releases a VIP in the instant in which it is claimed, and is told", () => {
  const { town, a, b } = three();
  b.own([A]);
  a.want([A]);
  town.run(0.15);
  assert.is(town.who(A), "nobody", "between the two, and not for longer than a round trip");
  town.run(0.2);
  assert.is(town.who(A), "a");
  assert.equal(b.events, ["told of 1 by a"]);
});

test("a live owner with a better hash keeps a VIP; it is asked again after 50 ms, then after twice as long, up to a second", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.want([A]);
  town.run(1);
  assert.equal([town.who(A), b.state()], ["a", NOT_OWNED]);
  const asked: number[] = [];
  let seen = town.sent.length;
  for (let at = 1; at < 8000; at++) {
    town.run(1);
    if (town.sent.length > seen) asked.push(at);
    seen = town.sent.length;
  }
  const pauses = asked.map((at, i) => at - (asked[i - 1] ?? 0));
  const expected = [50, 100, 200, 400, 800, 1000, 1000, 1000];
  pauses.slice(0, 8).forEach((pause, i) => {
    assert.ok(Math.abs(pause - expected[i]!) <= 15, `pauses of ${pauses.join(", ")} ms`);
  });
  assert.equal(b.events, [CONTESTED], "once, after more than a second");
  assert.is(b.contested, 1);
});

for (const [what, change] of [
  ["that is headless", (owner: Node) => owner.keep("holds")],
  ["that is leaving it", (owner: Node) => owner.leave()],
] as const) {
  test(`an owner with a better hash ${what} releases it to a worse one`, () => {
    const { town, a, b } = three();
    a.own([A]);
    change(a);
    b.want([A]);
    town.run(1);
    assert.is(town.who(A), "b");
  });
}

test("a VIP that was refused is owned once the owner has it no more", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.want([A]);
  town.run(100);
  a.manage([A]);
  town.run(200);
  assert.is(town.who(A), "b");
  assert.is(b.contested, 0);
});

test("of the VIPs that are claimed together, only those that are refused are not owned", () => {
  const { town, a, b } = three();
  const keys = vips(10);
  for (const node of [a, b]) node.manage(keys);
  a.own(keys.slice(0, 3));
  b.want(keys);
  town.run(1);
  assert.equal(
    keys.map((key) => town.who(key)),
    keys.map((_, i) => (i < 3 ? "a" : "b")),
  );
  assert.equal(b.events, ["gained 7"]);
});

test("claims fit the interface's MTU, also those that were under way when it became smaller", () => {
  const { town, a, c } = three();
  const keys = vips(200);
  a.manage(keys);
  c.manage(keys);
  const most: number[] = [];
  let isLost = true;
  const { latency } = town;
  town.latency = (...args) => {
    const { header, claims } = args[2];
    if (header.type === wireType.WIRE_CLAIM) most.push(claims.length);
    return isLost ? 1e9 : latency(...args);
  };
  a.want(keys);
  town.run(10);
  assert.is(Math.max(...most), MAX_CLAIMS);
  a.claims.fit(300);
  isLost = false;
  most.length = 0;
  town.run(1_000);
  const { answering } = town;
  assert.is(keys.filter((key) => answering.get(key)?.join() === "a").length, keys.length);
  assert.ok(most.length > 0 && Math.max(...most) === claimsWithin(300), most.join());
});

test("65,000 VIPs are claimed in frames of 32, a window at a time, and all are owned", () => {
  const { town, a, c } = three();
  const keys = vips(65_000);
  a.manage(keys);
  c.manage(keys.slice(0, 100));
  let open = 0;
  let most = 0;
  const { latency } = town;
  town.latency = (...args) => {
    open += args[2].header.type === wireType.WIRE_CLAIM ? 1 : -1;
    most = Math.max(most, open);
    assert.ok(args[2].claims.length <= MAX_CLAIMS);
    return latency(...args);
  };
  town.mayBeTwo = true;
  a.want(keys);
  town.run(100);
  const { answering } = town;
  assert.is(keys.filter((key) => answering.get(key)?.join() === "a").length, keys.length);
  assert.ok(most <= 256 + 2, `${most} frames unanswered`);
});

for (const what of [wireType.WIRE_CLAIM, wireType.WIRE_REPLY]) {
  test(`where the first ${what === wireType.WIRE_CLAIM ? "claims" : "answers"} are lost, the peer is asked again, later each time`, () => {
    const { town, a, b } = three();
    let lost = 0;
    town.loses = (from, to, { header: { type } }) => type === what && [from, to].includes(b) && lost++ < 6;
    a.want([A]);
    town.run(1_250);
    assert.is(a.state(), CLAIMING);
    town.run(50);
    assert.is(town.who(A), "a");
    assert.is(town.sent.filter((line) => line === "a claims of b").length, 7);
    assert.is(
      town.sent.filter((line) => line === "a claims of c").length,
      1,
      "a peer that has granted is not asked again",
    );
  });
}

test("where a third of all frames is lost, every VIP is owned by one node in the end", () => {
  const { town, a, b, c } = three();
  let seed = 1;
  town.loses = () => (seed = (seed * 7919 + 13) % 1000) < 333;
  const keys = vips(300);
  for (const node of town.nodes) node.manage(keys);
  c.own(keys);
  a.want(keys.slice(0, 150));
  b.want(keys.slice(150));
  town.run(10_000);
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a", "b"]));
});

for (const latency of [30, 400, 1_500]) {
  test(`a peer whose answers come after ${latency} ms grants by its first one, however often it was asked meanwhile`, () => {
    const { town, a, b } = three();
    town.latency = (from) => (from === b ? latency : 0.1);
    const keys = vips(100);
    for (const node of town.nodes) node.manage(keys);
    a.want(keys);
    town.run(latency);
    assert.is(a.state(keys[0]), CLAIMING);
    town.run(10);
    assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a"]));
    town.run(5_000);
    assert.ok(a.claims.isIdle);
  });
}

test("where large frames do not pass to a peer that echoes, claims go in smaller ones", () => {
  const { town, a, b, c } = three();
  const keys = vips(1_000);
  for (const node of town.nodes) node.manage(keys);
  c.own(keys.slice(0, 100));
  town.loses = (from, to, { claims }) => claims.length > 10 && [from, to].includes(b);
  a.want(keys);
  town.run(1_000);
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a"]));
  assert.equal([a.claims.isIdle, a.claims.unanswered.size], [true, 0]);
  const told = c.events.map((event) => Number(/^told of (\d+)/.exec(event)?.[1] ?? 0));
  assert.is(
    told.reduce((sum, count) => sum + count),
    100,
    "each release is told once",
  );
});

test("a frame is as large as ever where answers come late because there are many: smaller ones would be more", () => {
  const { town, a, b, c } = three();
  const keys = vips(6_000);
  for (const node of town.nodes) node.manage(keys);
  let free = town.now;
  town.latency = (_, to) => {
    if (to !== a) return 0.1;
    free = (free > town.now ? free : town.now) + 2n * MS; // one after the other
    return toMs(free - town.now);
  };
  const sizes = new Set<number>();
  town.loses = (from, _to, { claims }) => from === a && sizes.add(claims.length) && false;
  town.mayBeTwo = true;
  a.want(keys);
  town.run(20_000);
  assert.equal(new Set(keys.map((key) => a.state(key))), new Set([OWNED]));
  assert.ok(Math.min(...sizes) >= keys.length % MAX_CLAIMS, [...sizes].join());
  // Where large frames pass no more, they are made smaller all the same.
  town.loses = (from, to, { claims }) => claims.length > 10 && [from, to].includes(b);
  const more = Array.from({ length: 100 }, (_, i) => vip(6_001 + i));
  for (const node of [a, b, c]) node.manage(more);
  a.want(more);
  town.run(5_000);
  assert.equal(new Set(more.map((key) => a.state(key))), new Set([OWNED]));
});

test("a frame is as large as ever where a peer does not even echo: it may have died", () => {
  const { town, a, b } = three();
  town.isEchoing = false;
  town.loses = (_, to) => to === b;
  const keys = vips(MAX_CLAIMS);
  a.manage(keys);
  a.want(keys);
  town.run(2_000);
  assert.equal([town.sent.filter((line) => line === "a claims of c").length, a.claims.unanswered.size], [1, 0]);
});

test("a peer that echoes and answers no claim is told after a second, with how many VIPs wait; it is asked ever more seldom", () => {
  const { town, a, b } = three();
  let isMute = true;
  town.loses = (_, to) => isMute && to === b;
  const keys = vips(20);
  a.manage(keys);
  a.want(keys);
  town.run(990);
  assert.is(a.claims.unanswered.size, 0);
  town.run(30);
  assert.equal([...a.claims.unanswered], [[b.id, { name: "b", count: 20 }]]);
  town.run(20_000);
  town.sent.length = 0;
  town.run(10_000);
  assert.ok(town.sent.length <= 3 * keys.length, `${town.sent.length} frames in 10 s`);
  isMute = false;
  town.run(5_100);
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a"]));
  assert.is(a.claims.unanswered.size, 0);
});

test("an answer of another node, to another claim, or to no claim changes nothing", () => {
  const { town, a, b, c } = three();
  const claims = new Map<Node, Message>();
  town.loses = (_, to, message) => claims.set(to, message).size > 0;
  a.want([A]);
  const answer = (from: Node, to: Node) =>
    a.hear(from, from.message(a, wireType.WIRE_REPLY, claims.get(to)!.header.nonce, []));
  town.run(5);
  answer(c, b);
  answer(b, c);
  answer(b, b);
  answer(b, b);
  assert.is(a.state(), CLAIMING);
  answer(c, c);
  assert.is(a.state(), OWNED);
  answer(c, c);
  assert.is(a.state(), OWNED);
});

test("a claim waits for a silent peer until it is dead, and not longer", () => {
  const { town, a, b } = three();
  b.isUp = false;
  a.want([A]);
  town.run(300);
  assert.is(a.state(), CLAIMING);
  a.lose(b);
  town.run(11);
  assert.is(town.who(A), "a");
});

test("a peer that appears while a claim is under way is asked too, even if the last answer is what shows it", () => {
  const { town, a, b, c } = three();
  a.lose(b);
  b.own([A]);
  a.onRead = () => {
    if (town.sent.includes("a claims of c")) a.meet(b);
  };
  a.want([A]);
  town.run(0.25);
  assert.equal([a.state(), town.who(A), c.state()], [CLAIMING, "b", NOT_OWNED]);
  town.run(1);
  assert.is(town.who(A), "a");
  assert.equal(town.sent.slice(0, 2), ["a claims of c", "a claims of b"]);
});

test("a peer that granted a VIP, died, and came back with the VIP is asked again", () => {
  const { town, a, b, c } = three();
  town.loses = (from, to) => [from, to].includes(b); // so that the claim waits for b
  a.want([A]);
  town.run(15);
  a.lose(c);
  town.run(15);
  c.own([A], town.now); // a was dead to it
  a.meet(c);
  town.loses = () => false;
  town.run(300);
  assert.is(town.who(A), "a");
});

test("a grant that a peer gave before it joined again does not count", () => {
  const { town, a, b, c } = three();
  town.loses = (from, to) => [from, to].includes(b); // so that the claim waits for b
  a.want([A]);
  town.run(15);
  assert.not.ok(town.sent.includes("a tells c"));
  c.own([A], town.now); // a was dead to it, and never knew
  a.reassert(c);
  town.loses = () => false;
  town.run(300);
  assert.is(town.who(A), "a");
});

test("a node that does not know all of its peers claims nothing, and claims when it knows them", () => {
  const { town, a, b } = three();
  b.own([A]);
  a.isComplete = false;
  a.want([A]);
  town.run(500);
  assert.equal([town.who(A), town.sent, a.claims.isIdle], ["b", [], false]);
  a.isComplete = true;
  town.run(15);
  assert.is(town.who(A), "a");
});

test("of two nodes that claim a VIP at once, the one with the better hash wins, whichever is first", () => {
  for (const latency of [0.1, 1, 5]) {
    for (const [first, second] of [
      [0, 1],
      [1, 0],
    ] as const) {
      for (const gap of [0, 0.05, 0.15, 0.25]) {
        const { town, a, b } = three();
        town.latency = () => latency;
        const pair = [a, b];
        pair[first]!.want([A]);
        town.at(gap * latency * 10, () => pair[second]!.want([A]));
        for (let at = 0; at < 2000; at += 100) {
          town.run(100);
          for (const node of town.nodes) node.checkReleases();
        }
        assert.is(town.who(A), "a", `${latency} ms, ${pair[first]!.name} first by ${gap}`);
      }
    }
  }
});

test("where all nodes claim at once over a slow wire that loses a tenth, each VIP has one owner in the end, and never two", () => {
  const town = new Town("a", "b", "c", "d", "e");
  let seed = 7;
  const random = () => (seed = (seed * 7919 + 13) % 1000) / 1000;
  town.loses = () => random() < 0.1;
  town.latency = () => 0.1 + 8 * random();
  const keys = vips(70);
  for (const node of town.nodes) node.manage(keys);
  for (const node of town.nodes) town.at(20 * random(), () => node.want(keys));
  for (let at = 0; at < 5000; at += 100) {
    town.run(100);
    for (const node of town.nodes) node.checkReleases();
  }
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a"]));
});

test("a VIP that is released between the last grant and the write of its entry is not answered", () => {
  const { town, a, b } = three();
  const { write } = a;
  a.write = (entries) => {
    // The kernel is faster than the control plane: a better claim is granted right before this is written.
    if ([...entries].some(([, { state }]) => state === OWNED)) claimByAnother(a, 0n);
    write.call(a, entries);
  };
  a.want([A]);
  town.run(1);
  assert.equal([town.who(A), a.kernel.read("all").released, b.state()], ["nobody", [A], NOT_OWNED]);
});

test("a VIP that is released between the beginning of its claim and the write of its entry is claimed again", () => {
  const { town, a } = three();
  const { write } = a;
  let isFirst = true;
  a.write = (entries) => {
    // The process pauses before it writes, and meanwhile a peer is granted the VIP, and gives it up again.
    if (isFirst) claimByAnother(a, 3n);
    isFirst = false;
    write.call(a, entries);
  };
  a.want([A]);
  town.run(1);
  assert.equal([town.who(A), a.state(), a.events], ["nobody", NOT_OWNED, []]);
  town.run(100);
  assert.equal([town.who(A), a.events], ["a", ["gained 1"]]);
});

const standIns: [what: string, holder: (node: Node) => void, who: string][] = [
  ["one that it has is left to it", (holder) => holder.keep("holds"), "b"],
  [
    "one that it is leaving is taken",
    (holder) => {
      holder.keep("holds");
      holder.leave();
    },
    "a",
  ],
  [
    "one that it was only claiming is taken",
    (holder) => {
      holder.keep("holds");
      holder.isClaiming();
    },
    "a",
  ],
  ["one that a live node with a worse hash has is taken", () => undefined, "a"],
  ["one that a lagging node has is taken", (holder) => holder.keep("releases"), "a"],
  ["one that nobody has is taken", (holder) => holder.manage([A]), "a"],
];
for (const [what, change, who] of standIns) {
  test(`of the VIPs that are claimed on behalf of a headless node, ${what}`, () => {
    const { town, a, b } = three();
    b.own([A]);
    change(b);
    a.want([], [A]);
    town.run(1);
    assert.is(town.who(A), who);
    town.run(5000);
    assert.is(town.who(A), who);
    assert.equal(
      a.events.filter((event) => event.includes("views differ")),
      [],
      "that is no dispute",
    );
    assert.is(a.contested, 0);
  });
}

test("a VIP that a headless node keeps is claimed again after a second, then every two, and at once when the election changes", () => {
  const { town, a, b } = three();
  b.own([A]);
  b.keep("holds");
  a.want([], [A]);
  town.run(30_000);
  const asked = town.sent.filter((line) => line === "a claims of b").length;
  assert.ok(asked >= 15 && asked <= 17, `asked ${asked} times`);
  b.isUp = false;
  a.lose(b);
  a.want([A]);
  town.run(1);
  assert.is(town.who(A), "a");
});

test("a VIP that is leaving is answered while it is claimed again, and owned when it is granted", () => {
  const { town, a } = three();
  a.own([A]);
  a.leave();
  a.want([A]);
  for (let at = 0; at < 5; at++) {
    assert.is(town.who(A), "a");
    town.run(0.05);
  }
  assert.equal([a.state(), a.entries.get(A)!.untilNs], [OWNED, 0n]);
});

test("a VIP that is leaving ends at once where a peer that joined has it, and is taken from nobody", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  b.keep("holds");
  a.leave();
  a.reassert(b);
  town.run(0.3);
  assert.equal([town.who(A), a.state(), a.events], ["b", NOT_OWNED, []]);
  town.run(3000);
  assert.is(town.sent.filter((line) => line === "a claims of b").length, 1, "it is not wanted here");
});

test("a VIP that was lost is claimed again after a second, then after twice as long, up to a minute", () => {
  const { town, a } = three();
  const pauses: number[] = [];
  for (let i = 0; i < 8; i++) {
    a.own([A]);
    a.claims.lose([A], town.now);
    a.manage([A]);
    a.want([A]);
    const began = town.now;
    while (a.state() !== OWNED) town.run(10);
    pauses.push(toMs(town.now - began));
  }
  for (const [i, expected] of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000].entries()) {
    assert.ok(Math.abs(pauses[i]! - expected) <= 30, `pauses of ${pauses.join(", ")} ms`);
  }
});

test("after a grant, refusals begin anew: the next pause is 50 ms long, and a warning is logged after a second", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.want([A]);
  town.run(5000);
  a.manage([A]);
  town.run(1100);
  assert.is(town.who(A), "b");
  b.manage([A]);
  a.own([A], town.now);
  b.events.length = 0;
  town.sent = [];
  b.want([A]);
  town.run(70);
  assert.is(town.sent.filter((line) => line === "b claims of a").length, 2);
  assert.equal(b.events, []);
  town.run(3000);
  assert.equal(b.events, [CONTESTED]);
});

test("a VIP that is no longer wanted is not claimed any more", () => {
  const { town, a, b } = three();
  a.own([A]);
  b.want([A]);
  town.run(60);
  b.want([]);
  const said = town.sent.length;
  town.run(5000);
  assert.is(town.sent.length, said);
  assert.ok(b.claims.isIdle);
});

test("a VIP that was given up while it was claimed is not owned", () => {
  const { town, a } = three();
  a.want([A]);
  a.manage([A]); // the view gives it to another node
  a.want([]);
  town.run(100);
  assert.equal([town.who(A), a.state(), a.events], ["nobody", NOT_OWNED, []]);
  assert.ok(a.claims.isIdle);
});

test("a VIP that was given up while it was claimed, and is wanted again, is claimed again", () => {
  const { town, a, b } = three();
  town.loses = (from, to) => [from, to].includes(b);
  a.want([A]);
  town.run(50);
  a.manage([A]);
  a.want([]);
  town.run(50);
  a.want([A]);
  town.run(50);
  town.loses = () => false;
  town.run(300);
  assert.is(town.who(A), "a");
});

test("a peer that joins with the same VIPs loses those for which it has the worse hash", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  a.reassert(b);
  town.run(0.15);
  town.mayBeTwo = false;
  town.run(0.1);
  assert.is(town.who(A), "a");
  assert.equal([a.events, b.events], [[], []], "nothing is won by it");
  town.run(0.1);
  assert.equal(b.events, ["told of 1 by a"]);
});

test("a node that finds that a peer that joined has the better hash stops to answer, and claims again", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  b.reassert(a);
  town.run(0.25);
  town.mayBeTwo = false;
  assert.is(town.who(A), "a");
  assert.equal(b.events, ["lost 1"]);
  b.want([A]); // as the election that follows
  town.run(60);
  assert.is(town.sent.filter((line) => line === "b claims of a").length, 2);
});

test("of several peers that join at once, each is asked", () => {
  const { town, a, b, c } = three();
  town.mayBeTwo = true;
  const keys = vips(100);
  for (const node of town.nodes) node.own(keys);
  a.reassert(b);
  a.reassert(c);
  town.run(0.2);
  town.mayBeTwo = false;
  town.run(1);
  assert.equal(new Set(keys.map((key) => town.who(key))), new Set(["a"]));
});

test("a peer that joins again and again, and does not answer, is asked each VIP as often as if it had joined once", () => {
  const framesOf = (joins: number) => {
    const { town, a, b } = three();
    a.own(vips(1_000));
    town.loses = () => true;
    for (let i = 0; i < joins; i++) {
      a.reassert(b);
      town.run(10);
    }
    town.sent.length = 0;
    town.run(2_000);
    return town.sent.length;
  };
  assert.ok(framesOf(20) <= 2 * framesOf(1), `${framesOf(20)} frames, and ${framesOf(1)}`);
});

test("a re-assertion outlives lost frames, and ends with a peer that dies", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  let lost = 0;
  town.loses = () => lost++ < 5;
  a.reassert(b);
  town.run(700);
  assert.is(town.who(A), "a");
  town.loses = () => true;
  a.reassert(b);
  town.run(100);
  assert.not.ok(a.claims.isIdle);
  a.lose(b);
  town.run(100);
  assert.ok(a.claims.isIdle);
  assert.is(town.who(A), "a");
});

test("a refusal of a re-assertion does not take a VIP that was claimed anew meanwhile", () => {
  const { town, a, b } = three();
  town.mayBeTwo = true;
  a.own([A]);
  b.own([A]);
  let replies = 0;
  town.latency = (from) => (from === a && replies++ === 0 ? 15 : 0.1);
  b.reassert(a);
  town.run(1);
  a.manage([A]);
  b.manage([A]);
  b.want([A]);
  town.run(1);
  assert.is(b.state(), OWNED, "by a claim that a has granted since");
  town.run(50);
  assert.equal([replies, b.state()], [2, OWNED], "nor is it claimed once more, which would make it silent meanwhile");
});

test.run();
