import { test } from "uvu";
import * as assert from "uvu/assert";
import { nodeState } from "../../src/core/abi.ts";
import { parseAddress, plus } from "../../src/core/address.ts";
import { Joining } from "../../src/core/joining.ts";
import type { Census } from "../../src/core/liveness.ts";
import { equals } from "../../src/core/ownership.ts";
import type { Heard } from "../../src/core/step.ts";
import { MS, type Ns, SECOND } from "../../src/core/time.ts";
import { nodeId } from "../../src/core/wire.ts";
import { heardOf, START } from "./stage.ts";

const { JOINING, LIVE, HEADLESS, PAST_HOLD, DRAINED, LAGGING, UNKNOWN } = nodeState;
const INTERVAL = 100n * MS;

/** A census that knows these peers to be alive. */
const censusOf = (peers: readonly Heard[], hasCalled = true) =>
  ({
    alive: new Map(peers.map((peer) => [peer.node, peer])),
    deaf: [],
    hearings: new Map(),
    interval: INTERVAL,
    hasCalled: () => hasCalled,
    isMute: () => false,
  }) as unknown as Census;

const namesOf = (...names: string[]) => new Map(names.map((name) => [nodeId(name), name]));
const selfOf = (state: number, name = "self", sourceStale = false) => ({
  ...{ node: nodeId(name), name, state, sourceStale, interfaceName: "eth0", onlyIPv4: false },
});

/** A node that has converged, with these peers. */
function converged(peers: readonly Heard[]): { joining: Joining; census: Census; now: Ns } {
  const joining = new Joining(START);
  const census = censusOf(peers);
  joining.observe(census, false, START);
  joining.observe(census, false, START + 2n * INTERVAL);
  return { joining, census, now: START + 2n * INTERVAL };
}

/** Nodes that are all on the wire by eth0. */
const equalsOn = (...names: string[]) => ({ ...equals(names), names: new Map(names.map((name) => [name, "eth0"])) });

type Node = [name: string, state: number, isStale?: boolean];
const rules: [what: string, nodes: Node[], chosen: string[], headless?: string[], countsAge?: boolean][] = [
  ["a live node may own", [["a", LIVE]], ["a"]],
  ["a headless node keeps what it has", [["a", HEADLESS]], ["a"], ["a"]],
  [
    "a node whose tick is older than `hold` may not own",
    [
      ["a", PAST_HOLD],
      ["b", LIVE],
    ],
    ["b"],
  ],
  ["a node whose tick is older than `hold` may not own, even where it is the only one", [["a", PAST_HOLD]], []],
  [
    "a node that has just started counts old ticks against nobody",
    [
      ["a", PAST_HOLD],
      ["b", LIVE],
    ],
    ["a", "b"],
    ["a"],
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
    [],
    false,
  ],
  ["a node in an unknown state owns nothing", [["a", UNKNOWN]], [], [], false],
  [
    "a lagging node is one",
    [
      ["a", LAGGING],
      ["b", LIVE],
    ],
    ["a", "b"],
  ],
  [
    "where all sources are stale, all go on",
    [
      ["a", LIVE, true],
      ["b", HEADLESS, true],
    ],
    ["a", "b"],
    ["b"],
  ],
];
for (const [what, nodes, chosen, headless = [], countsAge = true] of rules) {
  test(`among candidates, ${what}`, () => {
    const { joining, census } = converged(
      nodes.map(([name, state, sourceStale = false]) => heardOf(name, { state, sourceStale })),
    );
    const names = namesOf("self", "a", "b");
    const found = joining.candidates(selfOf(DRAINED), census, names, countsAge)!;
    assert.equal([found.candidates, found.headless], [chosen, headless]);
  });
  test(`among candidates, ${what}: also where that node is this one`, () => {
    const [first, ...others] = nodes;
    const { joining, census } = converged([
      ...others.map(([name, state]) => heardOf(name, { state })),
      heardOf("z", { state: DRAINED }),
    ]);
    const found = joining.candidates(selfOf(first![1], first![0]), census, namesOf("a", "b", "z"), countsAge)!;
    assert.equal(found.candidates, chosen);
    assert.equal(
      found.headless,
      headless.filter((name) => name !== first![0]),
      "a node is not headless to itself",
    );
  });
}

test("who lags is told, and then who is fresh", () => {
  const peers = [
    heardOf("a", { state: LAGGING, sourceStale: true }),
    heardOf("b", { sourceStale: true }),
    heardOf("c"),
  ];
  const { joining, census } = converged(peers);
  const names = namesOf("self", "a", "b", "c");
  const found = joining.candidates(selfOf(LIVE), census, names, true)!;
  assert.equal([found.lagging, found.fresh], [["a"], ["self", "c"]]);
  assert.equal(joining.candidates(selfOf(LIVE, "self", true), census, names, true)!.fresh, ["c"]);
  const others = converged(peers.slice(1));
  const without = others.joining.candidates(selfOf(LIVE), others.census, names, true)!;
  assert.equal([without.lagging, without.fresh], [[], []]);
});

test("what each node calls its interface goes with the candidates, and not known is nothing", () => {
  const { joining, census } = converged([
    heardOf("a", { interfaceName: "enp3s0" }),
    heardOf("b", { interfaceName: "" }),
  ]);
  const found = joining.candidates(selfOf(LIVE), census, namesOf("self", "a", "b"), true)!;
  assert.equal(
    [...found.names],
    [
      ["self", "eth0"],
      ["a", "enp3s0"],
      ["b", ""],
    ],
  );
});

test("a peer that the source does not name may not own", () => {
  const { joining, census } = converged([heardOf("a"), heardOf("stranger")]);
  assert.equal(joining.candidates(selfOf(LIVE), census, namesOf("self", "a"), true)?.candidates, ["self", "a"]);
});

test("until two intervals after it has joined, a node names no candidates, so that everything stays as it is", () => {
  const joining = new Joining(START);
  const census = censusOf([heardOf("a")]);
  const candidates = () => joining.candidates(selfOf(LIVE), census, namesOf("self", "a"), true);
  assert.is(joining.observe(census, false, START), true);
  assert.equal([joining.isJoined, joining.isConverged, candidates()], [true, false, undefined]);
  assert.is(joining.observe(census, false, START + 2n * INTERVAL - 1n), false);
  assert.is(candidates(), undefined);
  assert.is(joining.observe(census, false, START + 2n * INTERVAL), true);
  assert.equal([joining.isConverged, candidates()], [true, equalsOn("self", "a")]);
});

const waits: [what: string, peers: Heard[], hasCalled: boolean, after: Ns, isJoined: boolean][] = [
  ["joins once its hellos could be answered", [], true, 0n, true],
  ["does not join before its hellos could be answered, however long that takes", [], false, 60n * SECOND, false],
  [
    "waits for a live peer that does not count it among its peers",
    [heardOf("a", { knowsUs: false })],
    true,
    5n * SECOND,
    false,
  ],
  ["waits for a joining peer, too", [heardOf("a", { knowsUs: false, state: JOINING })], true, 5n * SECOND, false],
  ["waits no longer than five seconds", [heardOf("a", { knowsUs: false })], true, 5n * SECOND + 1n, true],
  [
    "does not wait for a peer whose control plane is down",
    [heardOf("a", { knowsUs: false, state: HEADLESS })],
    true,
    0n,
    true,
  ],
  ["joins at once where all of its peers know it", [heardOf("a"), heardOf("b", { state: JOINING })], true, 0n, true],
];
for (const [what, peers, hasCalled, after, isJoined] of waits) {
  test(`a starting node ${what}`, () => {
    const joining = new Joining(START);
    joining.observe(censusOf(peers, hasCalled), false, START + after);
    assert.is(joining.isJoined, isJoined);
  });
}

test("a node that has joined stays so, whatever its peers say later", () => {
  const { joining, now } = converged([heardOf("a")]);
  joining.observe(censusOf([heardOf("a", { knowsUs: false })], false), false, now + SECOND);
  assert.equal([joining.isJoined, joining.isConverged], [true, true]);
});

/** Whether the source of this node is stale, and the sources of its peers, second by second; and what comes of it. */
const histories: [
  what: string,
  seconds: [from: number, self: boolean, ...peers: boolean[]][],
  end: number,
  isLagging: boolean,
  state?: number,
][] = [
  ["a node lags that was stale beside fresh peers for 8 s", [[0, true, false, false]], 8, true],
  ["a node does not lag that was stale beside fresh peers for less", [[0, true, false, false]], 7, false],
  ["one fresh peer is enough", [[0, true, true, false]], 8, true],
  ["where all are stale, no node lags", [[0, true, true, true]], 60, false],
  ["without peers, no node lags", [[0, true]], 60, false],
  ["a node with a fresh source never lags", [[0, false, true, false]], 60, false],
  [
    "a node does not lag where all were stale for long, and its peers have been fresh for a moment",
    [
      [0, true, true, true],
      [30, true, false, false],
    ],
    37,
    false,
  ],
  [
    "a node lags where all were stale for long, and its peers have been fresh for 8 s",
    [
      [0, true, true, true],
      [30, true, false, false],
    ],
    38,
    true,
  ],
  [
    "a node whose source was fresh in between has another 8 s",
    [
      [0, true, false],
      [5, false, false],
      [6, true, false],
    ],
    13,
    false,
  ],
  ["a fresh peer that may not own makes no node lag", [[0, true, false]], 60, false, DRAINED],
  [
    "a node whose source is fresh again lags no longer",
    [
      [0, true, false],
      [20, false, false],
    ],
    20,
    false,
  ],
  [
    "a node lags no longer when its last fresh peer is stale, too",
    [
      [0, true, false],
      [20, true, true],
    ],
    20,
    false,
  ],
];
for (const [what, seconds, end, isLagging, state = LIVE] of histories) {
  test(`among sources, ${what}`, () => {
    const joining = new Joining(START);
    for (let second = 0; second <= end; second++) {
      const [, isStale, ...peers] = seconds.findLast(([from]) => from <= second)!;
      const heard = peers.map((sourceStale, i) => heardOf(`n${i}`, { state, sourceStale }));
      const before = joining.isLagging;
      const isChanged = joining.observe(censusOf(heard), isStale, START + BigInt(second) * SECOND);
      if (before !== joining.isLagging) assert.is(isChanged, true);
    }
    assert.is(joining.isLagging, isLagging);
  });
}

test("a node that lagged calls its source stale for 8 s after it became fresh, as other nodes hear of the API's return later", () => {
  const joining = new Joining(START);
  const told: boolean[] = [];
  for (let second = 0; second <= 30; second++) {
    joining.observe(censusOf([heardOf("b")]), second < 20, START + BigInt(second) * SECOND);
    told.push(joining.isStale);
  }
  assert.equal(told.indexOf(false), 27);
  assert.is(joining.isLagging, false);
});

test("a node that did not lag calls its source fresh at once", () => {
  const joining = new Joining(START);
  for (const [second, isStale] of [true, true, false].entries()) {
    joining.observe(censusOf([heardOf("b", { sourceStale: true })]), isStale, START + BigInt(20 * second) * SECOND);
    assert.is(joining.isStale, isStale);
  }
});

test("a speaker that is started again lags on from the start, while its source is stale", () => {
  const observe = (peers: Heard[], isStale: boolean) => {
    const joining = new Joining(START, true);
    joining.observe(censusOf([], false), isStale, START + SECOND);
    const first = joining.isLagging;
    for (const seconds of [2n, 3n]) joining.observe(censusOf(peers), isStale, START + seconds * SECOND);
    return [first, joining.isLagging];
  };
  assert.equal(observe([heardOf("b")], true), [true, true]);
  assert.equal(observe([heardOf("b")], false), [false, false]);
  assert.equal(observe([heardOf("b", { sourceStale: true })], true), [true, false]);
});

const NODES = ["self", "b", "c"].map((name, i) => ({ name, address: plus(parseAddress("10.9.255.1"), i) }));

test("where nobody is heard, all nodes of the source stand for election, a drained one excepted", () => {
  const { joining, census } = converged([]);
  const names = namesOf("self", "b", "c");
  assert.equal(joining.candidates(selfOf(LIVE), census, names, true)?.candidates, ["self", "b", "c"]);
  assert.equal(joining.candidates(selfOf(DRAINED), census, names, true)?.candidates, ["b", "c"]);
});

test("a node that is the only one of its source owns everything", () => {
  const { joining, census, now } = converged([]);
  assert.equal(joining.candidates(selfOf(LIVE), census, namesOf("self"), true)?.candidates, ["self"]);
  assert.equal(joining.warnings("eth0", NODES.slice(0, 1), census, now), []);
});

test("beside a peer, a node on which isat has never served stands for election until ARP has shown that nothing answers there", () => {
  const { joining, census, now } = converged([heardOf("b")]);
  const names = namesOf("self", "b", "c");
  const surroundings = { others: [NODES[2]!], bystanders: [], hasPeers: true };
  const shares = { shareOf: () => [] };
  const candidates = () => joining.candidates(selfOf(LIVE), census, names, true)?.candidates;
  joining.unheard.judge(surroundings, now);
  assert.equal([candidates(), joining.unheard.isUndecided], [["self", "b", "c"], true]);
  for (let round = 0n; round < 12n; round++) joining.unheard.questions(surroundings, shares, now + round * INTERVAL);
  assert.is(joining.unheard.judge(surroundings, now + 12n * INTERVAL), true);
  assert.equal([candidates(), joining.unheard.isUndecided], [["self", "b"], false]);
});

test("a node that has heard a peer is not alone when that peer dies: it does not vote for nodes that it cannot hear", () => {
  const { joining, now } = converged([heardOf("b")]);
  const census = censusOf([]);
  joining.observe(census, false, now + SECOND);
  assert.equal(joining.candidates(selfOf(LIVE), census, namesOf("self", "b", "c"), true)?.candidates, ["self"]);
  assert.equal(joining.warnings("eth0", NODES, census, now), []);
});

/** A peer that does not echo, and answers ARP. */
const deafOf = (name: string, more: Partial<Heard> = {}, isStillHeard = false) =>
  ({ heard: heardOf(name, more), silentSince: START, isDeaf: true, isStillHeard }) as Census["deaf"][number];

test("a deaf peer stands for election as if it were alive, unless what it last said of itself forbids that", () => {
  const { joining, census, now } = converged([heardOf("b"), heardOf("c")]);
  const silent = { ...censusOf([]), deaf: [deafOf("b", { state: HEADLESS }), deafOf("c", { state: DRAINED })] };
  joining.observe(census, false, now);
  const found = joining.candidates(selfOf(LIVE), silent as unknown as Census, namesOf("self", "b", "c"), true);
  assert.equal(found, equalsOn("self", "b"), "nobody stands in for one that answers");
});

const reasons: [what: string, isStillHeard: boolean, isMute: boolean, expected: RegExp][] = [
  ["whose frames come in", true, false, /their frames come in here, so that what this node sends is lost/],
  [
    "that are not heard at all",
    false,
    false,
    /let the switch, and every firewall and filter on these nodes, pass EtherType 0x88b5/,
  ],
  ["while this machine itself drops what it sends", false, true, /this node's own egress drops EtherType 0x88b5/],
];
for (const [what, isStillHeard, isMute, expected] of reasons) {
  test(`a warning names deaf peers ${what}, once they have been deaf for a second, and says why`, () => {
    const { joining } = converged([heardOf("b")]);
    const census = {
      ...censusOf([]),
      deaf: ["b", "c"].map((name) => deafOf(name, {}, isStillHeard)),
      isMute: () => isMute,
    } as unknown as Census;
    assert.equal(joining.warnings("eth0", NODES, census, START + SECOND - 1n), []);
    const [warning, ...others] = joining.warnings("eth0", NODES, census, START + SECOND);
    assert.equal(others, []);
    assert.match(warning!, /^isat's frames are lost on eth0, though b, c answer ARP for their VIPs: /);
    assert.match(warning!, expected);
  });
}

test.run();
