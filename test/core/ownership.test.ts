import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Address, compare, formatAddress, having, parseAddress, plus } from "../../src/core/address.ts";
import type { Demand } from "../../src/core/demand.ts";
import {
  byAddress,
  Election,
  type Electorate,
  elect,
  hash,
  hashNumber,
  ownerOf,
  ranking,
  Wish,
} from "../../src/core/ownership.ts";
import { range } from "./stage.ts";

/** What an election goes by, as node n1 sees it. */
const electorate = (changes: Partial<Electorate> = {}): Electorate => ({
  self: "n1",
  ranges: [range("10.9.0.1-10.9.0.5")],
  candidates: ["n1", "n2", "n3"],
  headless: [],
  lagging: [],
  fresh: [],
  onlyIPv4: [],
  names: new Map(),
  ...changes,
});

type WishName = keyof typeof Wish;
const nameOf = (wish: Wish) => Object.entries(Wish).find(([, value]) => value === wish)![0] as WishName;

function held(...all: Electorate[]): Election {
  const election = new Election();
  for (const each of all) election.hold(each);
  return election;
}

/** Every VIP, and whose it is to be. */
const wishes = (election: Election): Record<string, WishName> =>
  Object.fromEntries(
    [...election.keys()].sort(compare).map((address) => [formatAddress(address), nameOf(election.get(address)!)]),
  );

/** By MetalLB's rule, computed with `printf n1#10.9.0.1 | sha256sum`. */
const hashes: [node: string, address: string, hash: string][] = [
  ["n1", "10.9.0.1", "79393352ad6710246ff05fcd5a18448ae80656bc192789d161ae6c65adfd63a1"],
  ["n2", "10.9.0.1", "4ebe3503035392b689923ecda6931cf16d32d5f7b62293fe46c762dd4b1eb7af"],
  ["n3", "10.9.0.1", "fc27e80c66675945b493e104bff76eca7636875a84bb74477815e83504fb1fee"],
  ["n1", "2001:db8::10", "4cf83e1a77f1ea2c3e661592342fbbbcfab60689a5eea980555eb706e42f2a65"],
  ["node.example.org", "192.0.2.255", "1207f3029f27fd996da80c8f3a86e27068553498679958b175475ec93dda7086"],
];
for (const [node, address, expected] of hashes) {
  test(`the hash of ${node} for ${address} begins with ${expected.slice(0, 8)}`, () =>
    assert.is(hash(node, address), expected));
}

const elected: [address: string, owner: string][] = [
  ["10.9.0.1", "n2"],
  ["10.9.0.2", "n1"],
  ["10.9.0.3", "n3"],
  ["10.9.0.4", "n3"],
  ["10.9.0.5", "n2"],
];
for (const [address, owner] of elected) {
  test(`of n1, n2 and n3, ${owner} owns ${address}, in whatever order they are given`, () => {
    for (const nodes of orders(["n1", "n2", "n3"])) assert.is(elect(nodes, address), owner, nodes.join());
  });
}

test("without candidates, nobody owns an address", () => assert.is(elect([], "10.9.0.1"), undefined));

test("a node alone owns every address", () => {
  for (const address of addresses(100)) assert.is(elect(["n1"], address), "n1");
});

test("a node that is named twice counts once", () => {
  for (const address of addresses(100)) assert.is(elect(["n1", "n2", "n1"], address), elect(["n1", "n2"], address));
});

const NODES = ["n1", "n2", "n3", "n4", "n5"];

for (const gone of NODES) {
  test(`when ${gone} is gone, only the addresses that it owned move`, () => {
    const rest = NODES.filter((node) => node !== gone);
    for (const address of addresses(1000)) {
      const before = elect(NODES, address);
      const after = elect(rest, address);
      if (before === gone) assert.ok(rest.includes(after!), address);
      else assert.is(after, before, address);
    }
  });
}

test("when a node joins, an address stays where it is or moves to that node", () => {
  for (const address of addresses(1000)) {
    const after = elect([...NODES, "n6"], address);
    assert.ok(after === "n6" || after === elect(NODES, address), address);
  }
});

test("of 1,000 addresses each of 5 nodes owns 150 to 250", () => {
  const owned = new Map<string, number>();
  for (const address of addresses(1000)) {
    const owner = elect(NODES, address)!;
    owned.set(owner, (owned.get(owner) ?? 0) + 1);
  }
  assert.is(owned.size, NODES.length);
  for (const [node, count] of owned) assert.ok(count >= 150 && count <= 250, `${node} owns ${count}`);
});

test("the kernel compares the first 64 bits of a hash, which sort like the hash", () => {
  assert.is(hashNumber(hashes[0]![2]), 0x79393352ad671024n);
  const sorted = hashes.map(([, , hex]) => hex).sort();
  assert.equal(
    sorted.map(hashNumber),
    sorted.map(hashNumber).sort((a, b) => (a < b ? -1 : 1)),
  );
});

// With n1, n2 and n3 the owners of 10.9.0.1 to 10.9.0.5 are n2, n1, n3, n3, n2.
const all = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5"];
const wishTables: [what: string, inputs: Partial<Electorate>, vips: string[], wishes: WishName[]][] = [
  ["n1 manages all five VIPs and owns 10.9.0.2", {}, all, ["other", "ours", "other", "other", "other"]],
  ["n3 owns 10.9.0.3 and 10.9.0.4", { self: "n3" }, all, ["other", "other", "ours", "ours", "other"]],
  [
    "n1 takes over what n2 owned where n1 is the runner-up, and nothing else",
    { candidates: ["n3", "n1"] },
    all,
    ["ours", "ours", "other", "other", "other"],
  ],
  ["the only candidate owns everything", { candidates: ["n1"] }, all, ["ours", "ours", "ours", "ours", "ours"]],
  [
    "a node that is no candidate owns nothing, and manages the VIP all the same, so that nothing else there answers",
    { candidates: ["n2", "n3"], ranges: [range("10.9.0.2")] },
    ["10.9.0.2"],
    ["other"],
  ],
  [
    "where a headless node wins, the runner-up stands in for it",
    { headless: ["n2"] },
    all,
    ["standIn", "ours", "other", "other", "other"],
  ],
  [
    "where a headless node wins, the third does nothing",
    { self: "n3", headless: ["n2"], ranges: [range("10.9.0.1")] },
    ["10.9.0.1"],
    ["other"],
  ],
  [
    "a node that may own nothing stands in for nobody",
    { candidates: ["n2"], headless: ["n2"], ranges: [range("10.9.0.1")] },
    ["10.9.0.1"],
    ["other"],
  ],
  [
    "of several headless nodes, only the winner matters",
    { headless: ["n2", "n3"], ranges: [range("10.9.0.1-10.9.0.3")] },
    all.slice(0, 3),
    ["standIn", "ours", "standIn"],
  ],
  [
    "a headless node that may not own the VIP needs no stand-in",
    { headless: ["n2"], ranges: [range("10.9.0.1", { nodes: ["n1", "n3"] })] },
    ["10.9.0.1"],
    ["ours"],
  ],
  [
    "a lagging node stands back where a fresh one may own the VIP",
    { lagging: ["n1"], fresh: ["n2", "n3"], ranges: [range("10.9.0.2")] },
    ["10.9.0.2"],
    ["other"],
  ],
  [
    "a lagging node goes on where no fresh one may own the VIP",
    { lagging: ["n1", "n2"], fresh: ["n3"], ranges: [range("10.9.0.1-10.9.0.3", { nodes: ["n1", "n2"] })] },
    all.slice(0, 3),
    ["other", "ours", "ours"],
  ],
  [
    "beside a node whose source is stale and that does not lag yet, a lagging one stands as before",
    { lagging: ["n1"], fresh: ["n3"], ranges: [range("10.9.0.2", { nodes: ["n1", "n2"] })] },
    ["10.9.0.2"],
    ["ours"],
  ],
  [
    "a fresh node takes over what is a lagging one's",
    { lagging: ["n2"], fresh: ["n1", "n3"], ranges: [range("10.9.0.1")] },
    ["10.9.0.1"],
    ["ours"],
  ],
  [
    "a lagging node stands in where only a headless one is fresh",
    { lagging: ["n1"], headless: ["n2"], fresh: ["n2"], ranges: [range("10.9.0.1-10.9.0.2", { nodes: ["n1", "n2"] })] },
    all.slice(0, 2),
    ["standIn", "standIn"],
  ],
  [
    "a lagging node stands in for nobody where another fresh one does",
    { lagging: ["n1"], headless: ["n2"], fresh: ["n2", "n3"], ranges: [range("10.9.0.1")] },
    ["10.9.0.1"],
    ["other"],
  ],
  ["without candidates, a VIP is nobody's", { candidates: [], ranges: [range("10.9.0.2")] }, ["10.9.0.2"], ["nobody"]],
  [
    "while candidates are unknown, it is unknown whose a VIP is to be",
    { candidates: undefined, ranges: [range("10.9.0.2")] },
    ["10.9.0.2"],
    ["unknown"],
  ],
  [
    "a VIP that is for other nodes is not owned here, though this node has the lowest hash",
    { ranges: [range("10.9.0.2", { nodes: ["n2", "n3"] })] },
    ["10.9.0.2"],
    ["other"],
  ],
  [
    "a VIP that is for this node alone is owned here, though another node has a lower hash",
    { ranges: [range("10.9.0.1", { nodes: ["n1"] })] },
    ["10.9.0.1"],
    ["ours"],
  ],
  [
    "a VIP whose only node is no candidate is nobody's",
    { candidates: ["n1", "n3"], ranges: [range("10.9.0.2", { nodes: ["n2"] })] },
    ["10.9.0.2"],
    ["nobody"],
  ],
  ["a VIP that is for no node is nobody's", { ranges: [range("10.9.0.2", { nodes: [] })] }, ["10.9.0.2"], ["nobody"]],
  ["without VIPs, nothing is managed", { ranges: [] }, [], []],
  [
    "addresses above 127.255.255.255 are positive numbers",
    { candidates: ["n1"], ranges: [range("223.255.255.254-223.255.255.255")] },
    ["223.255.255.254", "223.255.255.255"],
    ["ours", "ours"],
  ],
];
for (const [what, inputs, vips, expected] of wishTables) {
  test(what, () => {
    const found = wishes(held(electorate(inputs)));
    assert.equal(found, Object.fromEntries(vips.map((vip, i) => [vip, expected[i]])));
  });
}

const ownerBy = (its: Electorate, address: Address) => ownerOf(its, byAddress(its.ranges).get(address), address);

// n2 has the lowest hash for 10.9.0.1, then n1, then n3.
const NAMES = new Map([
  ["n1", "eth0"],
  ["n2", "enp3s0"],
  ["n3", ""],
]);
const lacking: [
  what: string,
  changes: Partial<Electorate>,
  interfaces: string[] | undefined,
  owner: string | undefined,
][] = [
  ["a VIP goes to no node that has not its interface", {}, ["eth*"], "n1"],
  ["a VIP for all interfaces goes to any node", {}, undefined, "n2"],
  ["a VIP for the interfaces of all goes to any node", {}, ["eth0", "enp*"], "n2"],
  ["a node that does not tell its interface may have each", {}, ["eth7"], "n3"],
  ["a lagging node goes on where no fresh one has the interface", { lagging: ["n1"], fresh: ["n2"] }, ["eth0"], "n1"],
  ["nobody owns a VIP whose interface no candidate has", { candidates: ["n1", "n2"] }, ["eth7"], undefined],
];
for (const [what, changes, interfaces, owner] of lacking) {
  test(`${what}, as every node sees it`, () => {
    const inputs = { names: NAMES, ranges: [range("10.9.0.1", { interfaces })], ...changes };
    for (const self of ["n1", "n2", "n3"]) {
      const seen = electorate({ ...inputs, self });
      assert.is(ownerBy(seen, parseAddress("10.9.0.1")), owner);
      assert.is(held(seen).get(parseAddress("10.9.0.1")) === Wish.ours, self === owner);
    }
  });
}

test("an election is held anew where a node is on the network by another name", () => {
  const inputs = { ranges: [range("10.9.0.1", { interfaces: ["eth0"] })], names: NAMES };
  const election = held(electorate(inputs), electorate({ ...inputs, names: new Map([...NAMES, ["n2", "eth0"]]) }));
  assert.equal(wishes(election), { "10.9.0.1": "other" });
});

test("a ranking says of a node that it has not the VIP's interface", () => {
  const inputs = electorate({ ranges: [range("10.9.0.1", { interfaces: ["eth0"] })], names: NAMES });
  const nodes = ["n1", "n2", "n3"].map((name) => ({ name, address: undefined }));
  const rows = ranking(inputs, { cluster: "", nodes, vips: [], checks: () => [] }, parseAddress("10.9.0.1"))!;
  assert.match(rows.find(({ node }) => node === "n2")!.excluded!, /by enp3s0, and the VIP is for eth0 only/);
});

test("every VIP is owned by one node, and each node knows which", () => {
  const nodes = ["n1", "n2", "n3", "n4"];
  const common = { candidates: nodes, ranges: [range("10.9.0.0/22")] };
  const elections = nodes.map((self) => held(electorate({ ...common, self })));
  for (const address of elections[0]!.keys()) {
    const owners = nodes.filter((_, i) => elections[i]!.get(address) === Wish.ours);
    assert.equal(owners, [ownerBy(electorate(common), address)]);
  }
});

const owners: [what: string, inputs: Partial<Electorate>, address: string, owner: string | undefined][] = [
  ["a VIP has the same owner for every node", { self: "n3" }, "10.9.0.1", "n2"],
  ["a VIP has no owner while candidates are unknown", { candidates: undefined }, "10.9.0.2", undefined],
  ["an address that is no VIP has no owner", {}, "10.9.0.6", undefined],
  ["a VIP without candidates has no owner", { candidates: [] }, "10.9.0.1", undefined],
  [
    "a VIP that is for some nodes is owned by one of them",
    { ranges: [range("10.9.0.1", { nodes: ["n3"] })] },
    "10.9.0.1",
    "n3",
  ],
  ["the first address of a range belongs to it", {}, "10.9.0.1", "n2"],
  ["the last address of a range belongs to it", {}, "10.9.0.5", "n2"],
];
for (const [what, inputs, address, owner] of owners) {
  test(what, () => assert.is(ownerBy(electorate(inputs), parseAddress(address)), owner));
}

type Row = [node: string, excluded: string | undefined, isOwner: boolean];
const rankings: [what: string, inputs: Partial<Electorate>, rows: Row[]][] = [
  [
    "the lowest hash ranks first and owns",
    {},
    [
      ["n2", undefined, true],
      ["n1", undefined, false],
      ["n3", undefined, false],
    ],
  ],
  [
    "a node that is not alive ranks behind those that are",
    { candidates: ["n1", "n3"] },
    [
      ["n1", undefined, true],
      ["n3", undefined, false],
      ["n2", "not alive", false],
    ],
  ],
  [
    "a node that may not own the VIP ranks behind, with the reason",
    { ranges: [range("10.9.0.1", { nodes: ["n1"] })] },
    [
      ["n1", undefined, true],
      ["n2", "not among the VIP's nodes", false],
      ["n3", "not among the VIP's nodes", false],
    ],
  ],
  [
    "a node that lags ranks behind the fresh ones, with the reason",
    { lagging: ["n2"], fresh: ["n1", "n3"] },
    [
      ["n1", undefined, true],
      ["n3", undefined, false],
      ["n2", "it lags: its source is stale, and a node with a fresh one may own the VIP", false],
    ],
  ],
  [
    "for a node that is neither alive nor among the VIP's nodes, the reason is that it is not alive",
    { candidates: [], ranges: [range("10.9.0.1", { nodes: [] })] },
    [
      ["n2", "not alive", false],
      ["n1", "not alive", false],
      ["n3", "not alive", false],
    ],
  ],
  [
    "while candidates are unknown, nobody is known to be alive",
    { candidates: undefined },
    [
      ["n2", "not alive", false],
      ["n1", "not alive", false],
      ["n3", "not alive", false],
    ],
  ],
];
const demandOf = (nodes: string[], checks: Demand["checks"] = () => []): Demand => ({
  cluster: "",
  nodes: nodes.map((name) => ({ name, address: undefined })),
  vips: [],
  checks,
});

for (const [what, inputs, expected] of rankings) {
  test(what, () => {
    for (const nodes of orders(["n1", "n2", "n3"])) {
      const found = ranking(electorate(inputs), demandOf(nodes), parseAddress("10.9.0.1"))!;
      assert.equal(
        found.map(({ node, excluded, isOwner }) => [node, excluded, isOwner]),
        expected,
      );
      for (const { node, hash: its } of found) assert.is(its, hash(node, "10.9.0.1"));
    }
  });
}

test("a check of the source that a node did not pass is the reason why it may not own", () => {
  const inputs = electorate({ ranges: [range("10.9.0.1", { nodes: ["n1"] })] });
  const checks: Demand["checks"] = (_, node) => [
    { what: "selected", refusal: undefined },
    { what: "endpoint", refusal: node === "n1" ? undefined : "no endpoint there" },
  ];
  const found = ranking(inputs, demandOf(["n1", "n2"], checks), parseAddress("10.9.0.1"))!;
  assert.equal(
    found.map(({ node, excluded, checks }) => [node, excluded, checks.length]),
    [
      ["n1", undefined, 2],
      ["n2", "no endpoint there", 2],
    ],
  );
});

test("an address that is no VIP has no ranking", () => {
  assert.is(ranking(electorate(), demandOf(["n1"]), parseAddress("10.9.0.6")), undefined);
});

test("a VIP is hashed by the text that its range names", () => {
  const ranges = [range("10.9.0.1"), range("10.9.0.2", { hashAs: "10.9.0.1" })];
  assert.equal(wishes(held(electorate({ self: "n2", ranges }))), { "10.9.0.1": "ours", "10.9.0.2": "ours" });
});

test("a node that cannot speak IPv6 owns no VIP of IPv6, and its VIPs of IPv4 as before", () => {
  const ranges = [range("10.9.0.1-10.9.0.40"), range("2001:db8::1-2001:db8::28")];
  const owners = (inputs: Electorate) => {
    const all = ranges.flatMap(({ first, last }) => {
      const its: Address[] = [];
      for (let address = first; address <= last; address++) its.push(address);
      return its;
    });
    return new Map(all.map((address) => [address, ownerOf(inputs, ranges.find(having(address)), address)]));
  };
  const before = owners(electorate({ ranges }));
  const after = owners(electorate({ ranges, onlyIPv4: ["n2"] }));
  for (const [address, owner] of after) {
    const had = before.get(address);
    if (typeof address === "number" || had !== "n2") assert.is(owner, had);
    else assert.ok(owner === "n1" || owner === "n3");
  }
  assert.ok([...before].some(([address, owner]) => typeof address === "bigint" && owner === "n2"));
  const inputs = electorate({ ranges, onlyIPv4: ["n2"] });
  const demand = { nodes: [{ name: "n2", address: undefined }], cluster: "", vips: ranges, checks: () => [] };
  assert.match(ranking(inputs, demand, parseAddress("2001:db8::1"))![0]!.excluded!, /^it cannot speak IPv6/);
  assert.is(ranking(inputs, demand, parseAddress("10.9.0.1"))![0]!.excluded, undefined);
});

// An election keeps what it worked out before where that still holds: each change here makes it wrong for some VIP.
const changes: [what: string, now: Partial<Electorate>][] = [
  ["nothing", {}],
  ["the candidates", { candidates: ["n1", "n3"] }],
  ["who lags", { lagging: ["n2"] }],
  ["who is fresh", { fresh: ["n2"] }],
  ["who cannot speak IPv6", { onlyIPv4: ["n2"], ranges: [range("2001:db8::1-2001:db8::5")] }],
  ["that the candidates are known", { candidates: undefined }],
  ["the headless nodes", { headless: ["n2"] }],
  ["this node's name", { self: "n2" }],
  ["the nodes of a range", { ranges: [range("10.9.0.1-10.9.0.5", { nodes: ["n1"] })] }],
  ["the text that a range is hashed by", { ranges: [range("10.9.0.1-10.9.0.5", { hashAs: "10.9.0.2" })] }],
  ["the end of a range", { ranges: [range("10.9.0.1-10.9.0.6")] }],
  ["the number of ranges", { ranges: [range("10.9.0.1-10.9.0.5"), range("10.9.1.1")] }],
  ["the order of ranges", { ranges: [range("10.9.0.4-10.9.0.5"), range("10.9.0.1-10.9.0.3")] }],
];
for (const [what, change] of changes) {
  test(`an election that is repeated after a change of ${what} leads to the same as a first one`, () => {
    for (const [from, to] of [
      [electorate(), electorate(change)],
      [electorate(change), electorate()],
    ] as const) {
      assert.equal(wishes(held(from, to)), wishes(held(to)));
    }
  });
}

test("an election names the VIPs that changed, and only those", () => {
  const ranges = [range("10.9.0.1"), range("10.9.0.2"), range("10.9.0.3")];
  const election = held(electorate({ ranges }));
  const changedBy = (next: Electorate): string[] | "all" => {
    const changed = election.hold(next);
    return changed === "all" ? "all" : [...changed].map((address: Address) => formatAddress(address)).sort();
  };
  assert.equal(changedBy(electorate({ ranges })), []);
  assert.equal(
    changedBy(electorate({ ranges: ranges.map((each) => ({ ...each })) })),
    [],
    "equal, though other objects",
  );
  const other = ranges.with(1, range("10.9.0.2", { nodes: ["n1"] }));
  assert.equal(changedBy(electorate({ ranges: other })), ["10.9.0.2"]);
  assert.equal(changedBy(electorate({ ranges: [range("10.9.0.1"), range("10.9.0.9")] })), [
    "10.9.0.2",
    "10.9.0.3",
    "10.9.0.9",
  ]);
  assert.equal(changedBy(electorate({ candidates: ["n1"] })), "all");
});

function* addresses(count: number): Generator<string> {
  const first = parseAddress("10.9.0.0");
  for (let i = 0; i < count; i++) yield formatAddress(plus(first, i));
}

function orders(items: readonly string[]): string[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item) => orders(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));
}

test.run();
