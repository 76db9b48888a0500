import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseRange } from "../../../src/core/address.ts";
import { clusterOf, on, owners, P1, READY, type Rule, web } from "./clusters.ts";
import { advertisement, NODES, pool, service, slice } from "./objects.ts";

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
