// limit: 900 s
/**
 * Orders of events among the shipped segments: none breaks a rule of the protocol; and where a rule is left out of the
 * sources, an order is found that does. What is searched is bounded by the options, so that each run sees the same states.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { copy, textOf } from "./copy.ts";
import { DEFAULTS, explore, type Options } from "./exploration.ts";
import { type Mutant, mutate } from "./mutants.ts";

test("a copy shares nothing that changes, and what was one object is one in it", () => {
  class Counter {
    private count = 1;
    readonly seen = new Map([["a", [1n]]]);
    add = () => this.count;
  }
  const counter = new Counter();
  const frozen = Object.freeze({ at: 1 });
  const before = { one: counter, other: counter, frozen, set: new Set([1]) };
  const after = copy(before);
  assert.equal(Object.getPrototypeOf(after.one), Counter.prototype);
  assert.is(after.one, after.other);
  assert.is.not(after.one, counter);
  assert.is(after.frozen, frozen);
  after.one.seen.get("a")!.push(2n);
  after.set.add(2);
  assert.equal(before.one.seen.get("a"), [1n]);
  assert.is(before.set.size, 1);
});

test("two moments have the same text where all is alike but the time", () => {
  const [one, other] = [1_000e9, 1_020e9].map((now) => {
    const state = {
      began: BigInt(now - 5e9),
      claimed: 1n,
      left: now % 7,
      nodes: new Map([[2n ** 63n, { since: now - 1e6 }]]),
    };
    return textOf(state, now, new Set(["left"]));
  });
  assert.is(one, other);
  assert.is.not(one, textOf({ began: 996n * 10n ** 9n }, 1_000e9, new Set()));
});

/** The peer protocol is lost between two nodes, and ARP is not. */
const DEAF: Partial<Options> = { menu: ["deafness"], silence: 50 };
/** A node that is undrained while the other one is deaf comes to want what it cannot claim. */
const DEAF_DRAINS: Partial<Options> = { faults: 2, window: 50, menu: ["deafness", "drains"] };
/** One node's speaker does not run, and its kernel answers. */
const HEADLESS: Partial<Options> = { start: "headless", window: 100, menu: ["deafness"] };

/** Another speaker has the VIP, on a node on which isat does not run yet. */
const BESIDE: Partial<Options> = { nodes: 3, start: "beside", window: 100, menu: ["kills", "processes"], silence: 50 };

/** Searched whole. The last number: states that are seen at least, so that a search that sees nothing does not pass. */
const searches: [what: string, options: Partial<Options>, states: number][] = [
  ["two nodes, one fault at any event", { isFine: true, window: 300 }, 500],
  ["two nodes that start, one fault", { start: "cold", window: 1_000 }, 4_000],
  ["two nodes whose speakers start again, one fault", { start: "restart", window: 800 }, 3_000],
  ["three nodes, one fault at any event", { nodes: 3, isFine: true, window: 200 }, 500],
  ["three nodes that start, one fault", { nodes: 3, start: "cold", window: 700 }, 3_000],
  ["two nodes, two faults of speakers", { faults: 2, window: 50, menu: ["processes", "kills"] }, 3_000],
  ["two nodes, two faults of links and power", { faults: 2, window: 50, menu: ["links", "power"] }, 3_000],
  ["two nodes, one of which may own the VIP and loses its source", { eligible: [0], menu: ["outages"] }, 50],
  [
    "three nodes, of which the two that may own the VIP lag, one fault",
    { nodes: 3, eligible: [0, 1], start: "lagging", window: 100, menu: [...DEFAULTS.menu, "demands"] },
    100,
  ],
  ["two nodes, of which one is deaf: no hole of 50 ms", DEAF, 100],
  ["three nodes, of which one is deaf: no hole of 50 ms", { ...DEAF, nodes: 3 }, 300],
  ["two nodes, deaf, of which one is headless", HEADLESS, 50],
  ["two nodes, deaf twice, or deaf and cut off", { faults: 2, window: 50, menu: ["deafness", "links"] }, 1_000],
  ["two nodes, deaf, of which one is drained, or not any more", DEAF_DRAINS, 4_000],
  ["three nodes, of which two do not hear each other", { nodes: 3, isFine: true, menu: ["gaps"], silence: 50 }, 20],
  ["two nodes, of which one has not the VIP's interface", { lacking: [1] }, 100],
  [
    "three nodes that start, of which one has not the VIP's interface",
    { nodes: 3, lacking: [1], start: "cold", window: 500 },
    1_000,
  ],
  ["three nodes, of which isat runs on two beside another speaker", BESIDE, 50],
  ["three nodes, drained: no hole of 50 ms", { nodes: 3, menu: ["drains"], silence: 50 }, 50],
  ["three nodes, shut down: no hole of 50 ms", { nodes: 3, menu: ["shutdowns"], silence: 50 }, 50],
  ["two nodes, of which the only one that may own the VIP is shut down", { eligible: [0], menu: ["shutdowns"] }, 10],
];
for (const [what, options, states] of searches) {
  test(`${what}: no rule is broken`, () => {
    const found = explore(options);
    console.log(`\nMEASURED ${what}: ${found.states} states on ${found.paths} paths`);
    assert.is(found.story, undefined);
    assert.ok(found.isComplete);
    assert.ok(found.states >= states, `${found.states} states`);
  });
}

const [CLAIMS, SEGMENT, STATE] = ["src/core/claims.ts", "src/core/segment.ts", "src/core/state.ts"];
/** Two nodes that lag own what is theirs, beside a fresh third one. */
const LAGGING: Partial<Options> = { nodes: 3, eligible: [0, 1], start: "lagging", window: 100 };
const LIVENESS = "src/core/liveness.ts";
const BATCH = "src/core/batch.ts";
const HOLDERS = "src/core/holders.ts";
const PEER = "src/core/peer.ts";
const OWNERSHIP = "src/core/ownership.ts";
const HEARSAY = "src/core/hearsay.ts";
const ANNOUNCER = "src/core/announcer.ts";
const MODEL = "test/bpf/model.ts";
/** A node is on the wire by another interface than the one for which the VIP is. */
const LACKING: Partial<Options> = { lacking: [1], window: 100, menu: ["links"] };
const mutants: (Mutant & { search: Partial<Options> })[] = [
  {
    rule: "ask every live peer before a VIP is owned",
    edits: [[SEGMENT, "peering?.claims.hasOthers(peering.census, now) ?? false", "false"]],
    search: { isFine: true, window: 150 },
  },
  {
    rule: "wait for the grants of all",
    edits: [
      [
        BATCH,
        "for (const question of asked.values()) if (question) return true;\n  return false;",
        "return asked.size > 0 && [...asked.values()].every((question) => question);",
      ],
    ],
    search: { nodes: 3, isFine: true, window: 100 },
  },
  {
    rule: "re-assert what is owned against peers that joined",
    edits: [[SEGMENT, "peering.claims.reassert(peering.joined(), step, send);", ""]],
    search: { isFine: true, window: 150 },
  },
  {
    rule: "own nothing alone while the census is incomplete",
    edits: [[CLAIMS, "!census.isComplete(now) || census.alive.size > 0", "census.alive.size > 0"]],
    search: { faults: 2, window: 50, menu: ["processes", "links"] },
  },
  {
    rule: "know all peers again after a pause before anything is concluded",
    edits: [
      [LIVENESS, "return this.askedAt === undefined && now - this.observedAt <= this.longPause;", "return true;"],
    ],
    search: { faults: 2, window: 50, menu: ["processes", "links"] },
  },
  {
    rule: "neither begin nor end a claim while the census is incomplete",
    edits: [
      [CLAIMS, "!census.isComplete(step.now) || !this.holders.nodes", "!this.holders.nodes"],
      [CLAIMS, "!(batch.isReassertion || census.isComplete(step.now))", "false"],
    ],
    search: { faults: 2, window: 50, menu: ["processes", "links"] },
  },
  {
    rule: "say live only once joined",
    edits: [[SEGMENT, "return this.isAdopted ? this.self.state : JOINING;", "return LIVE;"]],
    search: { start: "restart", window: 300, menu: ["power"], silence: 300 },
  },
  {
    rule: "claim nothing until peers had two intervals to join",
    edits: [["src/core/joining.ts", "now - this.joinedAt >= 2n * census.interval", "true"]],
    // Where addresses are known, a node leaves VIPs to one that has not served yet until ARP has shown that it answers none.
    search: { start: "cold", hasAddresses: false, window: 400, menu: ["power"], silence: 1_000 },
  },
  {
    rule: "count no grant of a peer that has died",
    edits: [
      [CLAIMS, "for (const node of batch.asked.keys()) if (!census.alive.has(node)) batch.asked.delete(node);", ""],
    ],
    search: { nodes: 3, start: "cold", window: 500 },
  },
  {
    rule: "go on answering for a second while leaving",
    edits: [["src/core/difference.ts", "untilNs: now + LEAVE", "untilNs: now"]],
    search: { menu: ["drains"], silence: 50 },
  },
  {
    rule: "stand in for a headless node that answers nothing",
    edits: [
      [OWNERSHIP, "return winnerOf(able, range, address) === self ? Wish.standIn : Wish.other;", "return Wish.other;"],
    ],
    search: { start: "cold", window: 500, menu: ["kills"] },
  },
  {
    rule: "a stand-in asks for nothing that a headless node has",
    edits: [[CLAIMS, "this.wanted.get(address)?.isStandIn;\n      const hash", "false;\n      const hash"]],
    search: { window: 50, menu: ["kills"], isKept: true },
  },
  {
    rule: "a node is headless after 3 s without a tick",
    edits: [[STATE, "age >= live_ns", "false"]],
    search: { start: "cold", window: 600, menu: ["kills"] },
  },
  {
    rule: "a node is past hold without a tick for so long",
    edits: [[STATE, "if (age >= hold_ns) return nodeState.PAST_HOLD;", ""]],
    search: { menu: ["kills"], silence: 20 },
  },
  {
    rule: "the kernel stops past its fence",
    edits: [[STATE, "since(tick_ns, now) > fence_ns", "false"]],
    search: { start: "restart", window: 200, menu: ["kills"] },
  },
  {
    rule: "the kernel answers nothing that was released since it was claimed",
    edits: [[MODEL, "claimed(vips.get(address)!) > (releases.get(address) ?? 0n)", "true"]],
    search: { isFine: true, window: 100 },
  },
  {
    rule: "the kernel of a live node defends",
    edits: [[MODEL, "(isDefending && isBetter)", "false"]],
    search: { menu: ["links"], silence: 500 },
  },
  {
    rule: "announce anew what was disputed",
    edits: [
      [ANNOUNCER, "for (const address of disputed) ", "for (const address of [] as typeof disputed) "],
      [ANNOUNCER, "if (isPeerBack) ", "if (isPeerBack && false) "],
    ],
    search: { window: 100, menu: ["links"] },
  },
  {
    rule: "announce everything anew when a dead peer is heard again: it may have forgotten that it announced",
    edits: [[ANNOUNCER, "if (isPeerBack) ", "if (isPeerBack && false) "]],
    search: { faults: 2, window: 50, menu: ["links", "power"] },
  },
  {
    rule: "only the kernel of a live node defends",
    edits: [[MODEL, "(state === LIVE || state === LAGGING) && vip.state", "vip.state"]],
    search: { window: 100, menu: ["kills"] },
  },
  {
    rule: "a lagging node goes on where no fresh one may own the VIP",
    edits: [[OWNERSHIP, "lagging.length === 0 || !nodes.some((node) => fresh.includes(node))", "lagging.length === 0"]],
    search: { eligible: [0], window: 100, menu: ["outages"] },
  },
  {
    rule: "a lagging node stands back where a fresh one may own the VIP",
    edits: [[OWNERSHIP, "lagging.length === 0 || !nodes", "true || !nodes"]],
    search: { window: 100, menu: ["outages"] },
  },
  {
    rule: "the kernel of a lagging node releases to a fresh one",
    edits: [[MODEL, "state === LAGGING && claimant.state !== LAGGING && !isStale", "false"]],
    search: { ...LAGGING, menu: ["demands"] },
  },
  {
    rule: "the kernel of a fresh node keeps its VIPs from a lagging one",
    edits: [[MODEL, "state === LIVE && !here.source_stale && claimant.state === LAGGING", "false"]],
    search: { ...LAGGING, menu: ["demands"] },
  },
  {
    rule: "lagging nodes keep their VIPs from each other",
    edits: [[MODEL, "(state === LIVE || state === LAGGING) &&", "state === LIVE &&"]],
    search: { ...LAGGING, window: 50, menu: ["islands", "frames"], faults: 2, silence: 500 },
  },
  {
    rule: "a lagging node ages",
    edits: [
      [
        STATE,
        "if (state === nodeState.DRAINED) return",
        "if (state === nodeState.DRAINED || state === nodeState.LAGGING) return",
      ],
    ],
    search: { ...LAGGING, menu: ["kills"] },
  },
  {
    rule: "a node that has not the VIP's interface does not stand for election",
    edits: [[OWNERSHIP, "return interfaces ? its.filter", "return false ? its.filter"]],
    search: LACKING,
  },
  {
    rule: "a peer that answers ARP for its VIPs is not dead",
    edits: [[PEER, "const isDeaf = !isAlive && isThere &&", "const isDeaf = false &&"]],
    search: { window: 100, menu: ["deafness"] },
  },
  {
    rule: "a deaf peer that answers no ARP any more is dead",
    edits: [[PEER, "isThere && !presence.isGone(now, patience)", "isThere"]],
    search: HEADLESS,
  },
  {
    rule: "a node on which isat has never served stands for election while it answers ARP for its VIPs",
    edits: [["src/core/joining.ts", ", ...this.unheard.strangers]", "]"]],
    search: BESIDE,
  },
  {
    rule: "ask deaf peers by ARP for a VIP before it is taken",
    edits: [[HOLDERS, "if (stations.length === 0) return", "return"]],
    search: DEAF_DRAINS,
  },
  {
    rule: "a claim begins anew where a peer that had not answered it becomes deaf",
    edits: [[CLAIMS, "!batch.isReassertion && batch.holders !== this.holders.nodes", "false"]],
    search: DEAF_DRAINS,
  },
  {
    rule: "ask peers for a node that does not answer here, before its VIPs are taken",
    edits: [[HEARSAY, "if (helpers.length === 0) return [];", "return [];"]],
    search: { nodes: 3, window: 100, menu: ["gaps"] },
  },
  {
    rule: "a node that peers no longer hear either is dead",
    edits: [[HEARSAY, "|| isGone ||", "||"]],
    search: { nodes: 3, faults: 2, window: 50, menu: ["power", "gaps"], most: 1_500 },
  },
  {
    rule: "announce everything anew when a node is heard again that others heard: it may have taken what is owned here",
    edits: [["src/core/peering.ts", 'before === "dead" || before === "apart"', 'before === "dead"']],
    search: { nodes: 3, faults: 2, isFine: true, window: 50, menu: ["gaps", "frames"], most: 1_500 },
  },
];
/** The same search of the shipped sources: were something found there, a mutant's story would prove nothing. */
const shipped = new Map<string, string | undefined>();
function storyOf(search: Partial<Options>): string | undefined {
  const name = JSON.stringify(search);
  if (!shipped.has(name)) shipped.set(name, explore(search).story);
  return shipped.get(name);
}

for (const { search, ...mutant } of mutants) {
  test(`without the rule "${mutant.rule}", a story is found`, async () => {
    const folder = mkdtempSync(`${tmpdir()}/isat-t-explore-`);
    try {
      const exploreMutant = await mutate(mutant, folder);
      const { story, states } = exploreMutant(search);
      assert.ok(story, `none in ${states} states`);
      assert.is(storyOf(search), undefined);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test("a rule that is not in the sources cannot be left out", async () => {
  const folder = mkdtempSync(`${tmpdir()}/isat-t-explore-`);
  try {
    await mutate({ rule: "none", edits: [[CLAIMS, "no such text", ""]] }, folder);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /does not say: no such text/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
