import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress, parseRange } from "../../../src/core/address.ts";
import { clusterOf, on, owners, P1, READY, type Rule, web } from "./clusters.ts";
import { advertisement, NODES, node, pool, type ServiceOptions, service, slice } from "./objects.ts";

// The hashes that decide are listed in services.test.ts.
const rules: Rule[] = [
  ["an address in no pool is not ours", [...NODES, P1, advertisement("all"), web("10.9.1.1"), slice("web", READY)], {}],
  [
    "nobody owns an address in a pool without advertisement",
    [...NODES, P1, web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "nobody" },
  ],
  [
    "an advertisement without pools is for all of them",
    [...NODES, P1, advertisement("all"), web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n2" },
  ],
  [
    "an advertisement names its pools",
    [
      ...NODES,
      P1,
      pool("p2", ["10.9.1.1-10.9.1.9"]),
      advertisement("one", { ipAddressPools: ["p1"] }),
      service("a", ["10.9.0.1"]),
      slice("a", READY),
      service("b", ["10.9.1.1"]),
      slice("b", READY),
    ],
    { "10.9.0.1": "n2", "10.9.1.1": "nobody" },
  ],
  [
    "an advertisement selects pools by label",
    [
      ...NODES,
      pool("p1", ["10.9.0.1/32"], { zone: "a" }),
      pool("p2", ["10.9.0.3/32"], { zone: "b" }),
      pool("p3", ["10.9.0.4/32"], { zone: "c" }),
      advertisement("some", {
        ipAddressPools: ["p3"],
        ipAddressPoolSelectors: [{ matchExpressions: [{ key: "zone", operator: "In", values: ["a"] }] }],
      }),
      ...["10.9.0.1", "10.9.0.3", "10.9.0.4"].flatMap((ip) => [service(`s${ip}`, [ip]), slice(`s${ip}`, READY)]),
    ],
    { "10.9.0.1": "n2", "10.9.0.3": "nobody", "10.9.0.4": "n3" },
  ],
  [
    "an advertisement of another namespace is for no pool of this one",
    [...NODES, P1, advertisement("all", {}, "other"), web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "nobody" },
  ],
  [
    "a pool of another namespace than MetalLB's is no pool, and takes nothing from one that is",
    [
      ...NODES,
      pool("a", ["10.9.0.0/16"], {}, "aaa"),
      advertisement("all", {}, "aaa"),
      P1,
      advertisement("all"),
      service("in", ["10.9.0.1"]),
      slice("in", READY),
      service("out", ["10.9.7.1"]),
      slice("out", READY),
    ],
    { "10.9.0.1": "n2" },
  ],
  [
    "poolNamespace names the namespace",
    [
      ...NODES,
      pool("a", ["10.9.0.0/16"], {}, "lan"),
      advertisement("all", {}, "lan"),
      web("10.9.0.1"),
      slice("web", READY),
    ],
    { "10.9.0.1": "n2" },
    { settings: { poolNamespace: "lan" } },
  ],
  [
    "of pools that overlap, the one that is advertised counts",
    [
      ...NODES,
      pool("a", ["10.9.0.0/16"]),
      pool("b", ["10.9.0.1/32"]),
      advertisement("b", { ipAddressPools: ["b"] }),
      web("10.9.0.1"),
      slice("web", READY),
    ],
    { "10.9.0.1": "n2" },
  ],
  [
    "of pools that overlap and are both advertised, the first by name counts",
    [
      ...NODES,
      pool("a", ["10.9.0.0/16"]),
      pool("b", ["10.9.0.1/32"]),
      advertisement("a", { ipAddressPools: ["a"], nodeSelectors: [on("n1")] }),
      advertisement("b", { ipAddressPools: ["b"], nodeSelectors: [on("n3")] }),
      web("10.9.0.1"),
      slice("web", READY),
    ],
    { "10.9.0.1": "n1" },
  ],
  [
    "one of the node selectors is enough",
    [...NODES, P1, advertisement("two", { nodeSelectors: [on("n1"), on("n3")] }), web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n1" },
  ],
  [
    "several advertisements are a union",
    [
      ...NODES,
      P1,
      advertisement("a", { nodeSelectors: [on("n3")] }),
      advertisement("b", { nodeSelectors: [on("n1")] }),
      web("10.9.0.1"),
      slice("web", READY),
    ],
    { "10.9.0.1": "n1" },
  ],
  [
    "an advertisement with service selectors is for those Services",
    [
      ...NODES,
      P1,
      advertisement("front", { serviceSelectors: [{ matchLabels: { tier: "front" } }] }),
      service("a", ["10.9.0.1"], { labels: { tier: "front" } }),
      slice("a", READY),
      service("b", ["10.9.0.3"]),
      slice("b", READY),
    ],
    { "10.9.0.1": "n2", "10.9.0.3": "nobody" },
  ],
  [
    "a node that an advertisement selects for other Services only does not win this one's",
    [
      ...NODES,
      P1,
      advertisement("a", { nodeSelectors: [on("n1")] }),
      advertisement("b", { nodeSelectors: [on("n2")], serviceSelectors: [{ matchLabels: { tier: "front" } }] }),
      web("10.9.0.1"),
      slice("web", READY),
    ],
    { "10.9.0.1": "n1" },
  ],
  [
    "addresses bound what the advertisements allow",
    [...NODES, P1, advertisement("all"), service("web", ["10.9.0.1", "10.9.0.3"]), slice("web", READY)],
    { "10.9.0.3": "n2" },
    { settings: { addresses: [parseRange("10.9.0.3")] } },
  ],
  [
    "the bits of the host in a pool's block do not matter",
    [...NODES, pool("p1", ["10.9.0.77/24", "fd00::/64"]), advertisement("all"), web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n2" },
  ],
];
for (const [sentence, objects, expected, options] of rules) {
  test(sentence, () => assert.equal(owners(clusterOf(objects, options).update()), expected));
}

test("no rule reads as another", () => assert.is(new Set(rules.map(([sentence]) => sentence)).size, rules.length));

/** A cluster as in MetalLB's own tests of preferredNodeSelectors: two nodes of role edge, two of zone primary. */
const ROLES = [
  node("n1", "10.0.0.1", { role: "edge", zone: "primary" }),
  node("n2", "10.0.0.2", { role: "worker", zone: "primary" }),
  node("n3", "10.0.0.3", { role: "edge", zone: "secondary" }),
];
const prefer = (weight: number, matchLabels: object = {}) => ({ weight, preference: { matchLabels } });
const EDGE = { role: "edge" };
const PRIMARY = { zone: "primary" };
const front = { serviceSelectors: [{ matchLabels: { tier: "front" } }] };
const shared = { "metallb.io/allow-shared-ip": "key" };

/**
 * MetalLB's main, 2026 (design/preferred-node-l2.md and pull requests 3014, 3032 and 3044). By hash, the order for 10.9.0.1 is
 * n2, n1, n3.
 */
const parity: [what: string, specs: object[], owner: string, options?: ServiceOptions, endpoints?: string[]][] = [
  ["no preference: by hash", [{ preferredNodeSelectors: [] }], "n2"],
  ["the higher score wins, and among equals the hash", [{ preferredNodeSelectors: [prefer(100, EDGE)] }], "n1"],
  ["a preference that no node meets", [{ preferredNodeSelectors: [prefer(50, { role: "gpu" })] }], "n2"],
  ["an empty preference is for every node alike", [{ preferredNodeSelectors: [prefer(10)] }], "n2"],
  [
    "weights of one advertisement add up: 60, 60 and 50 against 110",
    [{ preferredNodeSelectors: [prefer(60, PRIMARY), prefer(50, EDGE)] }],
    "n1",
  ],
  [
    "one heavy weight against the sum of two: 100 against 110",
    [
      {
        preferredNodeSelectors: [prefer(100, { role: "worker" }), prefer(60, { zone: "secondary" }), prefer(50, EDGE)],
      },
    ],
    "n3",
  ],
  [
    "several advertisements add up",
    [
      { preferredNodeSelectors: [prefer(70, PRIMARY)] },
      { preferredNodeSelectors: [prefer(30, EDGE)] },
      { preferredNodeSelectors: [prefer(50, { zone: "secondary" })] },
    ],
    "n1",
  ],
  [
    "an advertisement scores its own nodes only",
    [{ nodeSelectors: [on("n2")] }, { nodeSelectors: [on("n3")], preferredNodeSelectors: [prefer(100, PRIMARY)] }],
    "n2",
  ],
  [
    "an empty preference lifts an advertisement's own nodes above the others",
    [{}, { nodeSelectors: [on("n3")], preferredNodeSelectors: [prefer(1)] }],
    "n3",
  ],
  [
    "nodeSelectors go before preferences",
    [{ nodeSelectors: [on("n2")], preferredNodeSelectors: [prefer(100, EDGE)] }],
    "n2",
  ],
  [
    "with the Local policy, among the nodes with an endpoint",
    [{ preferredNodeSelectors: [prefer(9, EDGE)] }],
    "n3",
    { policy: "Local" },
    ["n2", "n3"],
  ],
  [
    "an advertisement for other Services scores nothing",
    [{}, { ...front, preferredNodeSelectors: [prefer(100, EDGE)] }],
    "n2",
  ],
  [
    "an advertisement for this Service scores",
    [{}, { ...front, preferredNodeSelectors: [prefer(100, EDGE)] }],
    "n1",
    { labels: { tier: "front" } },
  ],
  ["a Service that may share its address, without serviceSelectors", [{}], "n2", { annotations: shared }],
  [
    "a Service that may share its address, under an advertisement with serviceSelectors",
    [front],
    "nobody",
    { annotations: shared, labels: { tier: "front" } },
  ],
  [
    "the same, where another advertisement has none",
    [front, {}],
    "nobody",
    { annotations: shared, labels: { tier: "front" } },
  ],
  [
    "the same by MetalLB's earlier annotation",
    [front],
    "nobody",
    { annotations: { "metallb.universe.tf/allow-shared-ip": "key" }, labels: { tier: "front" } },
  ],
  [
    "a Service that may share its address, and advertisements with serviceSelectors for others",
    [front, {}],
    "n2",
    { annotations: shared },
  ],
  [
    "an annotation without a key shares nothing",
    [front],
    "n2",
    { annotations: { "metallb.io/allow-shared-ip": "" }, labels: { tier: "front" } },
  ],
];
for (const [what, specs, owner, options, endpoints = ["n1", "n2", "n3"]] of parity) {
  test(`as in MetalLB: ${what}`, () => {
    const ads = specs.map((spec, index) => advertisement(`ad${index}`, spec));
    const at = endpoints.map((name): [string] => [name]);
    const demand = clusterOf([...ROLES, P1, ...ads, web("10.9.0.1", options), slice("web", at)]).update();
    assert.equal(owners(demand), { "10.9.0.1": owner });
  });
}

test("the check names the advertisement because of which a shared address is announced by nobody", () => {
  const options = { annotations: shared, labels: { tier: "front" } };
  const { checks } = clusterOf([
    ...NODES,
    P1,
    advertisement("front", front),
    web("10.9.0.1", options),
    slice("web", READY),
  ]).update();
  const [selected] = checks(parseAddress("10.9.0.1"), "n2");
  assert.match(selected?.refusal ?? "", /L2Advertisement metallb-system\/front has serviceSelectors/);
});

const interfaces: [sentence: string, advertisements: object[], interfaces: string[] | undefined][] = [
  ["one without interfaces is for all", [{}], undefined],
  ["one with interfaces is for these", [{ interfaces: ["eth1", "eth0"] }], ["eth0", "eth1"]],
  [
    "several with interfaces are for all that they name",
    [{ interfaces: ["eth1"] }, { interfaces: ["eth0"] }],
    ["eth0", "eth1"],
  ],
  ["several of which one has no interfaces are for all", [{ interfaces: ["eth1"] }, {}], undefined],
  [
    "one of another node does not matter here",
    [{ interfaces: ["eth1"], nodeSelectors: [on("n1")] }, { nodeSelectors: [on("n2")] }],
    ["eth1"],
  ],
  [
    "if none selects this node, its kernel is kept quiet everywhere",
    [{ interfaces: ["eth1"], nodeSelectors: [on("n2")] }],
    undefined,
  ],
];
for (const [sentence, advertisements, expected] of interfaces) {
  test(`of the advertisements of a VIP, ${sentence}`, () => {
    const sent = advertisements.map((spec, index) => advertisement(`ad${index}`, spec));
    const [vip] = clusterOf([...NODES, P1, ...sent, web("10.9.0.1"), slice("web", READY)]).update().vips;
    assert.equal(vip?.interfaces, expected);
  });
}

test("without advertisements the configuration names the interfaces", () => {
  const objects = [...NODES, web("10.9.0.1"), slice("web", READY)];
  assert.equal(clusterOf(objects, { settings: { interfaces: ["ens*"] } }).update().vips[0]?.interfaces, ["ens*"]);
});

test.run();
