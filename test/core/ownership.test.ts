import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatAddress, parseAddress, parseRange } from "../../src/core/address.ts";
import type { Demand, VipRange } from "../../src/core/demand.ts";
import {
  addressOf,
  entriesOf,
  entryKey,
  ifindexOf,
  ownerOf,
  standings,
  type View,
  Wish,
} from "../../src/core/ownership.ts";

const range = (text: string, more: Partial<VipRange> = {}): VipRange => ({
  ...parseRange(text),
  nodes: undefined,
  interfaces: undefined,
  hashAs: undefined,
  ...more,
});

/** A view in which the same nodes may own on every interface; `alive` undefined: not known yet. */
function view({ alive = ["n1", "n2", "n3"], held = [], interfaces = ["eth0"], ...more }: Setting = {}): View {
  return {
    self: "n1",
    vips: [range("10.9.0.1-10.9.0.5")],
    interfaces: interfaces.map((name, i) => ({
      ifindex: 2 + i,
      name,
      candidates: alive === "unknown" ? undefined : alive,
      held,
    })),
    ...more,
  };
}

interface Setting extends Partial<Pick<View, "self" | "vips">> {
  alive?: string[] | "unknown";
  held?: string[];
  interfaces?: string[];
}

const nameOf = (wish: Wish) => Object.entries(Wish).find(([, value]) => value === wish)![0] as keyof typeof Wish;

/** `2 10.9.0.1` and whose it is to be. */
const entries = (of: View, before?: Parameters<typeof entriesOf>[1]) =>
  Object.fromEntries(
    [...entriesOf(of, before)].map(([key, wish]) => [
      `${ifindexOf(key)} ${formatAddress(addressOf(key))}`,
      nameOf(wish),
    ]),
  );
const two = ["eth0", "eth1"];

const keys: [ifindex: number, address: string][] = [
  [1, "0.0.0.0"],
  [1, "255.255.255.255"],
  [2, "10.9.0.1"],
  [2, "200.0.0.1"],
  [2 ** 20, "10.9.0.1"],
  [2 ** 21 - 1, "255.255.255.255"],
];
for (const [ifindex, address] of keys) {
  test(`${address} on interface ${ifindex} is one key, and back`, () => {
    const key = entryKey(ifindex, parseAddress(address));
    assert.ok(Number.isSafeInteger(key));
    assert.equal([ifindexOf(key), formatAddress(addressOf(key))], [ifindex, address]);
  });
}

// With n1, n2 and n3 the owners of 10.9.0.1 to 10.9.0.5 are n2, n1, n3, n3, n2.
const tables: [what: string, view: View, entries: Record<string, keyof typeof Wish>][] = [
  [
    "n1 manages all five and owns 10.9.0.2",
    view(),
    {
      "2 10.9.0.1": "other",
      "2 10.9.0.2": "ours",
      "2 10.9.0.3": "other",
      "2 10.9.0.4": "other",
      "2 10.9.0.5": "other",
    },
  ],
  [
    "n3 owns 10.9.0.3 and 10.9.0.4",
    view({ self: "n3" }),
    { "2 10.9.0.1": "other", "2 10.9.0.2": "other", "2 10.9.0.3": "ours", "2 10.9.0.4": "ours", "2 10.9.0.5": "other" },
  ],
  [
    "n1 takes over what n2 owned where n1 comes next, and nothing else",
    view({ alive: ["n3", "n1"] }),
    entriesAfterN2(),
  ],
  [
    "a node alone owns all",
    view({ alive: ["n1"], vips: [range("10.9.0.1-10.9.0.2")] }),
    { "2 10.9.0.1": "ours", "2 10.9.0.2": "ours" },
  ],
  [
    "a node that is not alive owns nothing, and manages all the same, so that nothing there answers",
    view({ alive: ["n2", "n3"], vips: [range("10.9.0.2")] }),
    { "2 10.9.0.2": "other" },
  ],
  [
    "what a held node wins, the best of the others is to own in its stead, unless that one has it",
    view({ held: ["n2"] }),
    {
      "2 10.9.0.1": "stead",
      "2 10.9.0.2": "ours",
      "2 10.9.0.3": "other",
      "2 10.9.0.4": "other",
      "2 10.9.0.5": "other",
    },
  ],
  [
    "what a held node wins is nothing to the third best",
    view({ self: "n3", held: ["n2"], vips: [range("10.9.0.1")] }),
    { "2 10.9.0.1": "other" },
  ],
  [
    "a node that may own nothing owns nothing in anybody's stead",
    view({ alive: ["n2"], held: ["n2"], vips: [range("10.9.0.1")] }),
    { "2 10.9.0.1": "other" },
  ],
  [
    "of several held nodes only the winner matters",
    view({ held: ["n2", "n3"], vips: [range("10.9.0.1-10.9.0.3")] }),
    { "2 10.9.0.1": "stead", "2 10.9.0.2": "ours", "2 10.9.0.3": "stead" },
  ],
  [
    "a held node that the VIP is not for has no stead",
    view({ held: ["n2"], vips: [range("10.9.0.1", { nodes: ["n1", "n3"] })] }),
    { "2 10.9.0.1": "ours" },
  ],
  ["where nobody is alive nobody owns", view({ alive: [], vips: [range("10.9.0.2")] }), { "2 10.9.0.2": "nobody" }],
  [
    "where it is not known yet who is alive, it is not known whose a VIP is to be",
    view({ alive: "unknown", vips: [range("10.9.0.2")] }),
    { "2 10.9.0.2": "unknown" },
  ],
  [
    "a VIP for other nodes is not owned, though this one would win",
    view({ vips: [range("10.9.0.2", { nodes: ["n2", "n3"] })] }),
    { "2 10.9.0.2": "other" },
  ],
  [
    "a VIP for this node alone is owned, though another would win",
    view({ vips: [range("10.9.0.1", { nodes: ["n1"] })] }),
    { "2 10.9.0.1": "ours" },
  ],
  [
    "a VIP whose only node is not alive is nobody's",
    view({ alive: ["n1", "n3"], vips: [range("10.9.0.2", { nodes: ["n2"] })] }),
    { "2 10.9.0.2": "nobody" },
  ],
  [
    "a VIP for no node at all is nobody's",
    view({ vips: [range("10.9.0.2", { nodes: [] })] }),
    { "2 10.9.0.2": "nobody" },
  ],
  [
    "a VIP is owned on every interface that announces",
    view({ interfaces: two, vips: [range("10.9.0.1-10.9.0.2")] }),
    { "2 10.9.0.1": "other", "3 10.9.0.1": "other", "2 10.9.0.2": "ours", "3 10.9.0.2": "ours" },
  ],
  [
    "a VIP for one interface is managed there only",
    view({ interfaces: two, vips: [range("10.9.0.2", { interfaces: ["eth1"] })] }),
    { "3 10.9.0.2": "ours" },
  ],
  [
    "a VIP's interfaces may be a glob",
    view({ interfaces: [...two, "bond0"], vips: [range("10.9.0.2", { interfaces: ["eth*"] })] }),
    { "2 10.9.0.2": "ours", "3 10.9.0.2": "ours" },
  ],
  ["a VIP whose interface is not here is no entry", view({ vips: [range("10.9.0.2", { interfaces: ["eth9"] })] }), {}],
  ["without interfaces there are no entries", view({ interfaces: [] }), {}],
  ["without VIPs there are no entries", view({ vips: [] }), {}],
  [
    "addresses above 127.255.255.255 are positive numbers",
    view({ alive: ["n1"], vips: [range("223.255.255.254-223.255.255.255")] }),
    { "2 223.255.255.254": "ours", "2 223.255.255.255": "ours" },
  ],
];
for (const [what, of, expected] of tables) {
  test(what, () => assert.equal(entries(of), expected));
}

/** 10.9.0.1 and 10.9.0.5 were n2's: by `printf n1#10.9.0.1 | sha256sum` and so on. */
function entriesAfterN2(): Record<string, keyof typeof Wish> {
  return {
    "2 10.9.0.1": "ours",
    "2 10.9.0.2": "ours",
    "2 10.9.0.3": "other",
    "2 10.9.0.4": "other",
    "2 10.9.0.5": "other",
  };
}

test("every VIP of every interface is owned by one node", () => {
  const nodes = ["n1", "n2", "n3", "n4"];
  const common = { alive: nodes, vips: [range("10.9.0.0/22")], interfaces: two };
  const all = nodes.map((self) => entriesOf(view({ ...common, self })));
  for (const key of all[0]!.keys()) {
    const owners = nodes.filter((_, i) => all[i]!.get(key) === Wish.ours);
    assert.equal(owners, [ownerOf(view(common), ifindexOf(key), addressOf(key))]);
  }
});

test("65,536 entries are held", () => {
  assert.is(entriesOf(view({ vips: [range("10.9.0.0/16")] })).size, 65_536);
  assert.is(entriesOf(view({ vips: [range("10.9.0.0/17")], interfaces: two })).size, 65_536);
});

const tooMany: [what: string, view: View, says: RegExp][] = [
  ["65,537 VIPs in one range", view({ vips: [range("10.9.0.0-10.10.0.0")] }), /65537 .*65536/],
  ["65,536 VIPs and one", view({ vips: [range("10.9.0.0/16"), range("10.10.0.0")] }), /65537 .*65536/],
  ["32,769 VIPs on two interfaces", view({ vips: [range("10.9.0.0-10.9.128.0")], interfaces: two }), /65538 .*65536/],
  [
    "every address there is, without counting them one by one",
    view({ vips: [range("0.0.0.0/0")] }),
    /4294967296 .*65536/,
  ],
];
for (const [what, of, says] of tooMany) {
  test(`${what} are refused, with both numbers`, () => assert.throws(() => entriesOf(of), says));
}

test("one VIP too many is refused, and the entries of the last time are as they were", () => {
  const before = view({ vips: [range("10.9.0.0/16")] });
  const all = entriesOf(before);
  const more = view({ vips: [...before.vips, range("10.10.0.0")] });
  assert.throws(() => entriesOf(more, { view: before, entries: all }), /65537 .*65536/);
  assert.equal(all, entriesOf(before));
  const other = view({ vips: [range("10.9.0.0-10.9.255.254"), range("10.10.0.0")] });
  assert.is(entriesOf(other, { view: before, entries: all }).size, 65_536);
});

test("65,537 VIPs of which one is announced elsewhere are held", () => {
  const vips = [range("10.9.0.0/16"), range("10.10.0.0", { interfaces: ["eth1"] })];
  assert.is(entriesOf(view({ vips })).size, 65_536);
});

const owners: [what: string, view: View, address: string, owner: string | undefined][] = [
  ["a VIP's owner is the same for every node", view({ self: "n3" }), "10.9.0.1", "n2"],
  ["a VIP has no owner on an interface that is not here", view({ interfaces: [] }), "10.9.0.2", undefined],
  ["a VIP has no owner while it is not known who is alive", view({ alive: "unknown" }), "10.9.0.2", undefined],
  ["an address that is no VIP has no owner", view(), "10.9.0.6", undefined],
  ["a VIP whose nodes are all dead has no owner", view({ alive: [] }), "10.9.0.1", undefined],
  [
    "a VIP for some nodes is owned by one of them",
    view({ vips: [range("10.9.0.1", { nodes: ["n3"] })] }),
    "10.9.0.1",
    "n3",
  ],
  ["the first address of a range is in it", view(), "10.9.0.1", "n2"],
  ["the last address of a range is in it", view(), "10.9.0.5", "n2"],
];
for (const [what, of, address, owner] of owners) {
  test(what, () => assert.is(ownerOf(of, 2, parseAddress(address)), owner));
}

const ranks: [what: string, view: View, address: string, standings: [string, string | undefined, boolean][]][] = [
  [
    "the best hash stands first and owns",
    view(),
    "10.9.0.1",
    [
      ["n2", undefined, true],
      ["n1", undefined, false],
      ["n3", undefined, false],
    ],
  ],
  [
    "a node that is not alive stands behind those who are",
    view({ alive: ["n1", "n3"] }),
    "10.9.0.1",
    [
      ["n1", undefined, true],
      ["n3", undefined, false],
      ["n2", "not alive", false],
    ],
  ],
  [
    "a node that the VIP is not for stands behind, and says why",
    view({ vips: [range("10.9.0.1", { nodes: ["n1"] })] }),
    "10.9.0.1",
    [
      ["n1", undefined, true],
      ["n2", "not among the VIP's nodes", false],
      ["n3", "not among the VIP's nodes", false],
    ],
  ],
  [
    "a node that is neither alive nor among the VIP's is not alive",
    view({ alive: [], vips: [range("10.9.0.1", { nodes: [] })] }),
    "10.9.0.1",
    [
      ["n2", "not alive", false],
      ["n1", "not alive", false],
      ["n3", "not alive", false],
    ],
  ],
];
const demand = (nodes: string[], { vips }: View, checks: Demand["checks"] = () => []): Demand => ({
  nodes: nodes.map((name) => ({ name, address: undefined })),
  vips,
  checks,
});

for (const [what, of, address, expected] of ranks) {
  test(what, () => {
    for (const nodes of [
      ["n1", "n2", "n3"],
      ["n3", "n2", "n1"],
    ]) {
      const found = standings(of, demand(nodes, of), 2, parseAddress(address))!;
      assert.equal(
        found.map(({ node, excluded, isOwner }) => [node, excluded, isOwner]),
        expected,
      );
      for (const { hash } of found) assert.match(hash, /^[0-9a-f]{64}$/);
    }
  });
}

test("what the source says against a node is why it may not own", () => {
  const of = view({ vips: [range("10.9.0.1", { nodes: ["n1"] })] });
  const checks: Demand["checks"] = (_, node) => [
    { what: "selected", refusal: undefined },
    { what: "endpoint", refusal: node === "n1" ? undefined : "no endpoint there" },
  ];
  const found = standings(of, demand(["n1", "n2"], of, checks), 2, parseAddress("10.9.0.1"))!;
  assert.equal(
    found.map(({ node, excluded }) => [node, excluded]),
    [
      ["n1", undefined],
      ["n2", "no endpoint there"],
    ],
  );
});

test("an address that is no VIP has no standings", () => {
  assert.is(standings(view(), demand(["n1"], view()), 2, parseAddress("10.9.0.6")), undefined);
});

test("a VIP hashes by the text that its range names", () => {
  const vips = [range("10.9.0.1"), range("10.9.0.2", { hashAs: "10.9.0.1" })];
  assert.equal(entries(view({ self: "n2", vips })), { "2 10.9.0.1": "ours", "2 10.9.0.2": "ours" });
});

test("what a node may own on one interface plays no part on another", () => {
  const of = view({ interfaces: two, vips: [range("10.9.0.1")] });
  of.interfaces = of.interfaces.map((each) => (each.ifindex === 3 ? { ...each, candidates: ["n1"] } : each));
  assert.equal(entries(of), { "2 10.9.0.1": "other", "3 10.9.0.1": "ours" });
});

// What was worked out before is taken where it is still right: each change here makes it wrong for some entry.
const changes: [what: string, now: View][] = [
  ["nothing", view()],
  ["who may own", view({ alive: ["n1", "n3"] })],
  ["that it is known who may own", view({ alive: "unknown" })],
  ["whose speakers run", view({ held: ["n2"] })],
  ["this node's name", view({ self: "n2" })],
  ["the nodes that a range is for", view({ vips: [range("10.9.0.1-10.9.0.5", { nodes: ["n1"] })] })],
  ["what a range hashes by", view({ vips: [range("10.9.0.1-10.9.0.5", { hashAs: "10.9.0.2" })] })],
  ["a range's end", view({ vips: [range("10.9.0.1-10.9.0.6")] })],
  ["the interfaces of a range", view({ vips: [range("10.9.0.1-10.9.0.5", { interfaces: ["eth1"] })] })],
  ["the interfaces", view({ interfaces: two })],
  ["an interface's name", view({ interfaces: ["eth1"] })],
];
for (const [what, now] of changes) {
  test(`with the entries of the last time at hand, a change of ${what} leads to the same as without`, () => {
    for (const [from, to] of [
      [view(), now],
      [now, view()],
    ] as const) {
      assert.equal(entries(to, { view: from, entries: entriesOf(from) }), entries(to));
    }
  });
}

test.run();
