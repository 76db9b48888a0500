import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatAddress, parseAddress, parseRange } from "../../../src/core/address.ts";
import type { Demand } from "../../../src/core/demand.ts";
import { elect, hash } from "../../../src/core/ownership.ts";
import { Cluster, type ClusterSettings, demandOf } from "../../../src/source/kubernetes/cluster.ts";
import { canonicalIP, type Kind, keyOf, type Objects, readers, refOf } from "../../../src/source/kubernetes/objects.ts";
import { type LabelSelector, selects } from "../../../src/source/kubernetes/selector.ts";
import { advertisement, NODES, node, pool, type Sent, type ServiceOptions, service, slice } from "./objects.ts";

const SETTINGS: ClusterSettings = {
  loadBalancerClass: undefined,
  addresses: undefined,
  interfaces: undefined,
  nodeSelector: undefined,
  serviceSelector: undefined,
  ignoreExcludeLabel: false,
};
/** Without L2Advertisements. */
const PLAIN: ClusterSettings = { ...SETTINGS, addresses: [parseRange("10.9.0.0/16"), parseRange("10.0.0.0/24")] };

interface Options {
  settings?: Partial<ClusterSettings>;
  self?: string;
  gateways?: string[];
}

/** A cluster of these objects; L2Advertisements count as served where there is a pool. */
function clusterOf(objects: readonly Sent[], { settings = {}, self = "n1", gateways = [] }: Options = {}): Cluster {
  const isServed = objects.some(([kind]) => kind === "IPAddressPool");
  const cluster = new Cluster({ ...(isServed ? SETTINGS : PLAIN), ...settings }, self);
  cluster.hasAdvertisements = isServed;
  cluster.gateways = new Set(gateways.map(parseAddress));
  for (const [kind, object] of objects) cluster.put(kind, object);
  return cluster;
}

/** Who owns each VIP if every node is alive. */
function owners({ vips, nodes }: Demand): Record<string, string> {
  const rows = vips.map((range) => {
    const address = formatAddress(range.first);
    const candidates = range.nodes ?? nodes.map(({ name }) => name);
    return [address, elect(candidates, range.hashAs ?? address) ?? "nobody"] as const;
  });
  return Object.fromEntries(rows.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

const READY: [string, object?][] = [["n1"], ["n2"], ["n3"]];
const web = (ip: string | object, options: ServiceOptions = {}) => service("web", [ip], options);
const EXCLUDE = { "node.kubernetes.io/exclude-from-external-load-balancers": "" };
const P1 = pool("p1", ["10.9.0.0/24"]);
const on = (name: string) => ({ matchLabels: { "kubernetes.io/hostname": name } });

// MetalLB's rule by hand, with sha256sum: of `n1#10.9.0.1` 79393352..., n2 4ebe3503..., n3 fc27e80c...: n2 owns.
// 10.9.0.2: n1 732e1104, n2 fd0a952a, n3 d927254c: n1. 10.9.0.3: n1 3c417220, n2 a067005e, n3 23d174a4: n3.
// 10.9.0.4: n1 8b685368, n2 af7a98a4, n3 0efffb65: n3. fd00::2: n1 614e4399, n2 ea18d679, n3 c65eefea: n1.
const rules: [sentence: string, objects: Sent[], owners: Record<string, string>, options?: Options][] = [
  [
    "the lowest hash owns",
    [...NODES, service("a", ["10.9.0.1"]), slice("a", READY), service("b", ["10.9.0.3"]), slice("b", READY)],
    { "10.9.0.1": "n2", "10.9.0.3": "n3" },
  ],
  [
    "a Service with several addresses hashes for all by the first",
    [...NODES, service("web", ["10.9.0.1", "10.9.0.3"]), slice("web", READY)],
    { "10.9.0.1": "n2", "10.9.0.3": "n2" },
  ],
  [
    "a dual-stack Service whose first address is IPv6 hashes by that",
    [...NODES, service("web", ["FD00:0::2", "10.9.0.1"]), slice("web", READY)],
    { "10.9.0.1": "n1" },
  ],
  [
    "a proxied first address is hash by as well, as MetalLB knows no ipMode",
    [...NODES, service("web", [{ ip: "10.9.0.2", ipMode: "Proxy" }, "10.9.0.1"]), slice("web", READY)],
    { "10.9.0.1": "n1" },
  ],
  ["nobody owns without endpoints", [...NODES, web("10.9.0.1")], { "10.9.0.1": "nobody" }],
  [
    "nobody owns where no endpoint can serve",
    [...NODES, web("10.9.0.1"), slice("web", [["n1", { ready: false, serving: false }]])],
    { "10.9.0.1": "nobody" },
  ],
  [
    "an endpoint without conditions is ready",
    [...NODES, web("10.9.0.1"), slice("web", [["n1", {}]])],
    { "10.9.0.1": "n2" },
  ],
  [
    "an endpoint that terminates and still serves counts",
    [...NODES, web("10.9.0.1"), slice("web", [["n1", { ready: false, serving: true, terminating: true }]])],
    { "10.9.0.1": "n2" },
  ],
  [
    "an endpoint that is not ready and does not tell whether it serves does not count",
    [...NODES, web("10.9.0.1"), slice("web", [["n1", { ready: false }]])],
    { "10.9.0.1": "nobody" },
  ],
  [
    "with the Cluster policy the endpoints may be anywhere, also on no node",
    [...NODES, web("10.9.0.1"), slice("web", [[undefined]])],
    { "10.9.0.1": "n2" },
  ],
  [
    "with the Local policy a node without endpoints does not own",
    [...NODES, web("10.9.0.1", { policy: "Local" }), slice("web", [["n1"], ["n3"], ["n2", { ready: false }]])],
    { "10.9.0.1": "n1" },
  ],
  [
    "with the Local policy every slice of the Service counts",
    [...NODES, web("10.9.0.1", { policy: "Local" }), slice("web", [["n3"]], "web-1"), slice("web", [["n2"]], "web-2")],
    { "10.9.0.1": "n2" },
  ],
  [
    "with the Local policy and endpoints on other nodes only, nobody owns",
    [...NODES, web("10.9.0.1", { policy: "Local" }), slice("web", [["n9"], [undefined]])],
    { "10.9.0.1": "nobody" },
  ],
  [
    "endpoints of a Service of the same name in another namespace do not count",
    [...NODES, web("10.9.0.1"), slice("web", READY, "web-1", "other")],
    { "10.9.0.1": "nobody" },
  ],
  [
    "a node with NetworkUnavailable=True does not own",
    [
      node("n1", "10.0.0.1"),
      node("n2", "10.0.0.2", {}, [{ type: "NetworkUnavailable", status: "True" }]),
      web("10.9.0.1"),
      slice("web", READY),
    ],
    { "10.9.0.1": "n1" },
  ],
  [
    "NetworkUnavailable=False, not Ready, cordoned and tainted play no part",
    [
      node("n1", "10.0.0.1"),
      node("n2", "10.0.0.2", {}, [
        { type: "NetworkUnavailable", status: "False" },
        { type: "Ready", status: "False" },
      ]),
      web("10.9.0.1"),
      slice("web", READY),
    ],
    { "10.9.0.1": "n2" },
  ],
  [
    "a node labelled out does not own, whatever the label's value",
    [node("n1", "10.0.0.1"), node("n2", "10.0.0.2", EXCLUDE), web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n1" },
  ],
  [
    "a node labelled out owns with ignoreExcludeLabel",
    [node("n1", "10.0.0.1"), node("n2", "10.0.0.2", EXCLUDE), web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n2" },
    { settings: { ignoreExcludeLabel: true } },
  ],
  [
    "a node that nodeSelector leaves out does not own",
    [node("n1", "10.0.0.1", { isat: "yes" }), node("n2", "10.0.0.2"), web("10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n1" },
    { settings: { nodeSelector: { matchLabels: { isat: "yes" }, matchExpressions: [] } } },
  ],
  ["an address outside of addresses is not ours", [...NODES, web("10.8.0.1"), slice("web", READY)], {}],
  [
    "without a class of ours, a Service with one is not ours",
    [...NODES, web("10.9.0.1", { loadBalancerClass: "isat.example/l2" }), slice("web", READY)],
    {},
  ],
  [
    "with a class of ours, a Service without one is not ours",
    [...NODES, web("10.9.0.1"), slice("web", READY)],
    {},
    { settings: { loadBalancerClass: "isat.example/l2" } },
  ],
  [
    "a Service of our class is ours",
    [...NODES, web("10.9.0.1", { loadBalancerClass: "isat.example/l2" }), slice("web", READY)],
    { "10.9.0.1": "n2" },
    { settings: { loadBalancerClass: "isat.example/l2" } },
  ],
  [
    "a Service that serviceSelector leaves out is not ours",
    [...NODES, web("10.9.0.1", { labels: { tier: "back" } }), slice("web", READY)],
    {},
    { settings: { serviceSelector: { matchLabels: { tier: "front" }, matchExpressions: [] } } },
  ],
  [
    "a Service of another type is not ours, though its status has an address",
    [...NODES, web("10.9.0.1", { type: "ClusterIP" }), slice("web", READY)],
    {},
  ],
  ["a proxied address is never ours", [...NODES, web({ ip: "10.9.0.1", ipMode: "Proxy" }), slice("web", READY)], {}],
  ["ipMode VIP is ours", [...NODES, web({ ip: "10.9.0.1", ipMode: "VIP" }), slice("web", READY)], { "10.9.0.1": "n2" }],
  ["a hostname is never ours", [...NODES, web({ hostname: "lb.example" }), slice("web", READY)], {}],
  ["a Node's own address is never ours", [...NODES, web("10.0.0.3"), slice("web", READY)], {}],
  [
    "nor that of a Node that runs no isat",
    [...NODES, web("10.0.0.3"), slice("web", READY)],
    {},
    { settings: { nodeSelector: { ...on("n1"), matchExpressions: [] } } },
  ],
  [
    "a default gateway's address is never ours",
    [...NODES, service("web", ["10.9.0.1", "10.9.0.2"]), slice("web", READY)],
    { "10.9.0.2": "n2" },
    { gateways: ["10.9.0.1"] },
  ],
  ["IPv6 is never ours", [...NODES, web("fd00::1"), slice("web", READY)], {}],
  [
    "an IPv4 address mapped into IPv6 is IPv4, as in Go",
    [...NODES, web("::ffff:10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n2" },
  ],

  // L2Advertisements are served.
  ["in no pool is not ours", [...NODES, P1, advertisement("all"), web("10.9.1.1"), slice("web", READY)], {}],
  [
    "in a pool without advertisement nobody owns",
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

  // Several Services on one address.
  [
    "of two Services the older decides",
    [
      ...NODES,
      service("b", ["10.9.0.1"], { created: "2026-01-01T00:00:00Z", policy: "Local" }),
      slice("b", [["n3"]]),
      service("a", ["10.9.0.1"], { created: "2026-01-01T00:00:01Z", policy: "Local" }),
      slice("a", [["n1"]]),
    ],
    { "10.9.0.1": "n3" },
  ],
  [
    "of two Services of one second, namespace and name decide",
    [
      ...NODES,
      service("b", ["10.9.0.1"], { policy: "Local" }),
      slice("b", [["n3"]]),
      service("a", ["10.9.0.1"], { policy: "Local" }),
      slice("a", [["n1"]]),
    ],
    { "10.9.0.1": "n1" },
  ],
  [
    "an older Service that nobody can serve does not silence a younger one",
    [
      ...NODES,
      service("b", ["10.9.0.1"]),
      service("a", ["10.9.0.1"], { created: "2026-02-01T00:00:00Z", policy: "Local" }),
      slice("a", [["n1"]]),
    ],
    { "10.9.0.1": "n1" },
  ],
  [
    "an older Service of another class has no say",
    [
      ...NODES,
      service("b", ["10.9.0.1"], { loadBalancerClass: "other", policy: "Local" }),
      slice("b", [["n3"]]),
      service("a", ["10.9.0.1"], { created: "2026-02-01T00:00:00Z" }),
      slice("a", READY),
    ],
    { "10.9.0.1": "n2" },
  ],
];
for (const [sentence, objects, expected, options] of rules) {
  test(sentence, () => assert.equal(owners(clusterOf(objects, options).demand()), expected));
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
  ["one without among them is for all", [{ interfaces: ["eth1"] }, {}], undefined],
  [
    "one of another node does not matter here",
    [{ interfaces: ["eth1"], nodeSelectors: [on("n1")] }, { nodeSelectors: [on("n2")] }],
    ["eth1"],
  ],
  [
    "where none selects this node, its kernel is kept quiet everywhere",
    [{ interfaces: ["eth1"], nodeSelectors: [on("n2")] }],
    undefined,
  ],
];
for (const [sentence, advertisements, expected] of interfaces) {
  test(`of the advertisements of a VIP, ${sentence}`, () => {
    const sent = advertisements.map((spec, index) => advertisement(`ad${index}`, spec));
    const [vip] = clusterOf([...NODES, P1, ...sent, web("10.9.0.1"), slice("web", READY)]).demand().vips;
    assert.equal(vip?.interfaces, expected);
  });
}

test("without advertisements the configuration names the interfaces", () => {
  const objects = [...NODES, web("10.9.0.1"), slice("web", READY)];
  assert.equal(clusterOf(objects, { settings: { interfaces: ["ens*"] } }).demand().vips[0]?.interfaces, ["ens*"]);
});

test("nodes carry their first InternalIP, and only those that run isat are named", () => {
  const nodeSelector: LabelSelector = {
    matchLabels: {},
    matchExpressions: [{ key: "kubernetes.io/hostname", operator: "NotIn", values: ["n2"] }],
  };
  assert.equal(clusterOf(NODES, { settings: { nodeSelector } }).demand().nodes, [
    { name: "n1", address: parseAddress("10.0.0.1") },
    { name: "n3", address: parseAddress("10.0.0.3") },
  ]);
});

const LABELS = { a: "1", b: "2" };
const requirements: [
  operator: LabelSelector["matchExpressions"][0]["operator"],
  key: string,
  values: string[],
  holds: boolean,
][] = [
  ["In", "a", ["1", "9"], true],
  ["In", "a", ["9"], false],
  ["In", "c", ["1"], false],
  ["NotIn", "a", ["9"], true],
  ["NotIn", "a", ["1"], false],
  ["NotIn", "c", ["1"], true],
  ["Exists", "a", [], true],
  ["Exists", "toString", [], false],
  ["DoesNotExist", "c", [], true],
  ["DoesNotExist", "a", [], false],
];
for (const [operator, key, values, holds] of requirements) {
  test(`${key} ${operator} [${values}] ${holds ? "holds" : "does not hold"} of a=1, b=2`, () => {
    assert.is(selects({ matchLabels: {}, matchExpressions: [{ key, operator, values }] }, LABELS), holds);
    assert.is(selects({ matchLabels: { b: "2" }, matchExpressions: [{ key, operator, values }] }, LABELS), holds);
    assert.is(selects({ matchLabels: { b: "3" }, matchExpressions: [{ key, operator, values }] }, LABELS), false);
  });
}

// What Go's net.ParseIP(text).String() gives.
const ips: [text: string, canonical: string | undefined][] = [
  ["10.9.0.1", "10.9.0.1"],
  ["010.9.0.1", undefined],
  ["FD00:0:0:0::1", "fd00::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["::ffff:10.9.0.1", "10.9.0.1"],
  ["::10.9.0.1", "::a09:1"],
  ["fe80::1%eth0", undefined],
  ["web", undefined],
];
for (const [text, canonical] of ips) {
  test(`${text} is hashed as ${canonical}`, () => assert.is(canonicalIP(text)?.text, canonical));
}

const poison: [what: string, sent: Sent, ...pieces: string[]][] = [
  [
    "an ingress that is no list",
    ["Service", { ...(web("10.9.0.1")[1] as object), status: { loadBalancer: { ingress: 7 } } }],
    "Service default/web",
    "status.loadBalancer.ingress is 7, not a list",
  ],
  ["an IP that is none", web("10.9.0.999"), 'status.loadBalancer.ingress[0].ip is "10.9.0.999", not an IP address'],
  ["a Service of no time", web("10.9.0.1", { created: "soon" }), 'metadata.creationTimestamp is "soon"'],
  ["an object that is null", ["Service", null as unknown as object], "metadata.name is missing"],
  [
    "endpoints that are texts",
    ["EndpointSlice", { ...(slice("web", [])[1] as object), endpoints: ["x"] }],
    'endpoints[0] is "x"',
  ],
  ["a condition that is a text", slice("web", [["n1", { ready: "yes" }]]), 'endpoints[0].conditions.ready is "yes"'],
  ["a pool of half an address", pool("p9", ["10.9/24"]), 'spec.addresses[0] is "10.9/24"'],
  [
    "an operator that there is not",
    advertisement("a", { nodeSelectors: [{ matchExpressions: [{ key: "a", operator: "Gt" }] }] }),
    'operator is "Gt", not In, NotIn',
  ],
  [
    "In without values",
    advertisement("a", { nodeSelectors: [{ matchExpressions: [{ key: "a", operator: "In" }] }] }),
    "operator In needs values",
  ],
];
for (const [what, sent, ...pieces] of poison) {
  test(`${what} costs that object alone, and is told once`, () => {
    const good = [...NODES, P1, advertisement("all"), service("good", ["10.9.0.3"]), slice("good", READY)];
    const cluster = clusterOf(good);
    assert.ok(cluster.put(...sent));
    assert.not(cluster.put(...sent), "the same again is no news");
    assert.equal(owners(cluster.demand()), { "10.9.0.3": "n3" });
    const [report, ...more] = cluster.reports();
    assert.is(more.length, 0);
    assert.is(report?.reason, "Unreadable");
    for (const piece of pieces) assert.ok(report?.message.includes(piece), report?.message);
    cluster.remove(sent[0], keyOf(refOf(...sent)));
    assert.equal(cluster.reports(), []);
  });
}

test("a Service whose policy is not met where the older one has the address is told", () => {
  const cluster = clusterOf([
    ...NODES,
    service("a", ["10.9.0.1"]),
    slice("a", READY),
    service("b", ["10.9.0.1"], { created: "2026-02-01T00:00:00Z", policy: "Local" }),
    slice("b", [["n3"]]),
  ]);
  assert.equal(cluster.reports(), [
    {
      ref: { kind: "Service", namespace: "default", name: "b", uid: "uid-b" },
      reason: "SharedAddress",
      message:
        "10.9.0.1 is shared with default/a, which decides: node n2 owns it. There default/b is not served: no endpoint of default/b on it can serve (externalTrafficPolicy: Local)",
    },
  ]);
  cluster.put(...slice("b", [["n3"], ["n2"]]));
  assert.equal(cluster.reports(), []);
});

test("what is not announced is counted by its reason", () => {
  const cluster = clusterOf(
    [
      ...NODES,
      service("a", ["fd00::1", "fd00::2", "10.9.0.1", "10.0.0.1", "10.7.0.1"]),
      service("b", [{ ip: "10.9.0.2", ipMode: "Proxy" }, { hostname: "lb.example" }, "10.9.0.9"]),
    ],
    { gateways: ["10.9.0.9"] },
  );
  assert.equal(cluster.skipped, { ipv6: 2, proxied: 1, hostname: 1, node: 1, gateway: 1, outside: 1 });
  cluster.remove("Service", "default/a");
  assert.equal(cluster.skipped, { ipv6: 0, proxied: 1, hostname: 1, node: 0, gateway: 1, outside: 0 });
});

const warnings: [what: string, objects: Sent[], options: Options, ...pieces: string[]][] = [
  ["a name that is no Node, naming those that are", NODES, { self: "n4" }, 'no Node "n4"', "n1, n2, n3", "NODE_NAME"],
  [
    "a node selector that leaves this Node out",
    NODES,
    { settings: { nodeSelector: { ...on("n2"), matchExpressions: [] } } },
    "source.nodeSelector",
    '"n1"',
  ],
  ["neither advertisements nor addresses", NODES, { settings: { addresses: undefined } }, "Set source.addresses"],
  ["IPv6", [...NODES, web("fd00::1")], {}, "IPv6"],
  [
    "a field that some MetalLB knows",
    [...NODES, P1, advertisement("a", { preferredNodeSelectors: [] })],
    {},
    "L2Advertisement metallb-system/a",
    "preferredNodeSelectors",
  ],
];
for (const [what, objects, options, ...pieces] of warnings) {
  test(`${what} is warned of in one line`, () => {
    const [line, ...more] = clusterOf(objects, options).warnings();
    assert.equal(more, []);
    for (const piece of pieces) assert.ok(line?.includes(piece), line);
  });
}

test("the checks say for each node why", () => {
  const { checks } = clusterOf([
    node("n1", "10.0.0.1"),
    node("n2", "10.0.0.2", EXCLUDE, [{ type: "NetworkUnavailable", status: "True" }]),
    P1,
    advertisement("one", { nodeSelectors: [on("n1")] }),
    web("10.9.0.1", { policy: "Local" }),
    slice("web", [["n1"]]),
    service("out", ["10.8.0.1"]),
  ]).demand();
  const table = (ip: string, name: string) =>
    Object.fromEntries(checks(parseAddress(ip), name).map(({ what, refusal }) => [what, refusal ?? "yes"]));
  assert.equal(table("10.9.0.1", "n1"), { selected: "yes", endpoint: "yes", label: "yes", network: "yes" });
  assert.equal(table("10.9.0.1", "n2"), {
    selected: "no L2Advertisement selects it for pool metallb-system/p1 and default/web",
    endpoint: "no endpoint of default/web on it can serve (externalTrafficPolicy: Local)",
    label: "it has the label node.kubernetes.io/exclude-from-external-load-balancers",
    network: "its condition NetworkUnavailable is True",
  });
  assert.equal(table("10.8.0.1", "n1"), { selected: "it is in no IPAddressPool" });
  assert.equal(table("10.8.0.9", "n1"), {});
});

test("what did not change is the same object as before", () => {
  const cluster = clusterOf([
    ...NODES,
    service("a", ["10.9.0.1"]),
    slice("a", READY),
    service("b", ["10.9.0.3"]),
    slice("b", READY),
  ]);
  const before = cluster.demand();
  assert.not(cluster.put(...service("a", ["10.9.0.1"])));
  cluster.put(...slice("a", [["n1"]])); // it can still serve
  cluster.put(...node("n1", "10.0.0.1", { heartbeat: "1" }));
  assert.is(cluster.demand(), before);
  cluster.remove("EndpointSlice", "default/a-1");
  const after = cluster.demand();
  assert.is.not(after, before);
  assert.is(after.vips[1], before.vips[1]);
  assert.equal(after.vips[0]?.nodes, []);
});

/** Numbers that look random and are the same in each run (mulberry32). */
function randomOf(seed: number) {
  let state = seed;
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** Some object, now and then a poisoned one. */
function someObject(random: (below: number) => number): Sent {
  const pick = <T>(...items: T[]): T => items[random(items.length)]!;
  const name = pick("a", "b", "c", "d", "e");
  const nodeName = pick("n1", "n2", "n3", "n4");
  const ip = () => pick(`10.9.0.${random(6)}`, `10.9.1.${random(3)}`, `10.0.0.${random(5)}`, "fd00::1", "10.7.0.1");
  switch (random(12)) {
    case 0: {
      const conditions = pick([], [{ type: "NetworkUnavailable", status: "True" }]);
      return node(
        nodeName,
        `10.0.0.${random(5)}`,
        pick<Record<string, string>>({}, {}, { zone: "a" }, EXCLUDE),
        conditions,
      );
    }
    case 1:
      return pool(pick("p1", "p2"), [pick("10.9.0.0/24", "10.9.1.0/24", "10.0.0.0/8", "x")], pick({}, { zone: "a" }));
    case 2:
      return advertisement(pick("ad1", "ad2"), {
        ipAddressPools: pick([], ["p1"]),
        ipAddressPoolSelectors: pick([], [{ matchLabels: { zone: "a" } }]),
        nodeSelectors: pick([], [on(nodeName)], [{ matchLabels: { zone: "a" } }, on(nodeName)]),
        serviceSelectors: pick([], [], [{ matchLabels: { tier: "front" } }]),
        interfaces: pick<unknown>([], ["eth0"], ["eth1"], 7),
      });
    case 3:
    case 4:
    case 5:
    case 6:
      return slice(
        name,
        pick([], [[nodeName]], [[nodeName], ["n1"]], [[nodeName, { ready: false }]], [[nodeName, { ready: 1 }]]),
        `${name}-${random(2)}`,
      );
    default:
      return service(
        name,
        pick([], [ip()], [ip(), ip()], [{ hostname: "x" }], [{ ip: ip(), ipMode: "Proxy" }], ["?"]),
        {
          created: `2026-01-0${1 + random(3)}T00:00:00Z`,
          labels: pick({}, { tier: "front" }),
          policy: pick("Cluster", "Local"),
          ...pick({}, {}, {}, { loadBalancerClass: "other" }),
        },
      );
  }
}

const sorted = (demand: Demand) => ({
  nodes: demand.nodes,
  vips: demand.vips.toSorted((a, b) => a.first - b.first),
});
const byText = <T>(items: readonly T[]) => items.map((item) => JSON.stringify(item)).sort();

test("a cluster that came by changes demands what one demands that is read anew", () => {
  let vips = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const random = randomOf(seed);
    const settings = { ...SETTINGS, addresses: seed % 2 ? PLAIN.addresses : undefined };
    const cluster = new Cluster(settings, "n1");
    const sent = new Map<string, Sent>();
    for (let step = 0; step < 80; step++) {
      const [kind, object] = someObject(random);
      const key = keyOf(refOf(kind, object));
      if (random(8) === 0) {
        sent.delete(`${kind} ${key}`);
        cluster.remove(kind, key);
      } else {
        sent.set(`${kind} ${key}`, [kind, object]);
        cluster.put(kind, object);
      }
      if (random(40) === 0) cluster.hasAdvertisements = random(2) > 0;
      if (random(20) === 0) cluster.gateways = new Set([parseAddress(`10.9.0.${random(3)}`)]);
      if (random(3) > 0) continue; // several changes at once
      cluster.demand();
      if (random(2) > 0) continue;
      const fresh = new Cluster(settings, "n1");
      for (const [kind, object] of sent.values()) fresh.put(kind, object);
      fresh.hasAdvertisements = cluster.hasAdvertisements;
      fresh.gateways = cluster.gateways;
      const demand = sorted(cluster.demand());
      assert.equal(demand, sorted(fresh.demand()), `seed ${seed}, step ${step}`);
      assert.equal(byText(cluster.reports()), byText(fresh.reports()));
      assert.equal(cluster.skipped, fresh.skipped);
      assert.equal(byText(cluster.warnings()), byText(fresh.warnings()));
      const kept = { ...objectsOf(cluster), gateways: cluster.gateways };
      assert.equal(demand, sorted(demandOf(kept, settings, "n1")), "from what was cut down");
      for (const { first } of demand.vips) {
        assert.equal(cluster.demand().checks(first, "n2"), fresh.demand().checks(first, "n2"));
      }
      vips += demand.vips.length;
    }
  }
  assert.ok(vips > 500, `only ${vips} VIPs were compared`);
});

function objectsOf(cluster: Cluster) {
  const of = <K extends Kind>(kind: K): Iterable<Objects[K]> => cluster.all(kind).values();
  return {
    Service: of("Service"),
    EndpointSlice: of("EndpointSlice"),
    Node: of("Node"),
    IPAddressPool: of("IPAddressPool"),
    L2Advertisement: cluster.hasAdvertisements ? of("L2Advertisement") : undefined,
  };
}

/** MetalLB's ShouldAnnounce, on every node, for a Service that shares its address with no other. */
function metallb(objects: readonly Sent[], ip: string): string {
  const read = <K extends Kind>(wanted: K) =>
    objects.filter(([kind]) => kind === wanted).map(([, object]) => readers[wanted](object)!);
  const found = read("Service").find(({ ingress }) => ingress.some(({ text }) => text === ip))!;
  const pools = read("IPAddressPool").filter(({ ranges }) =>
    ranges.some(({ first, last }) => first <= parseAddress(ip) && parseAddress(ip) <= last),
  );
  const ads = read("L2Advertisement").filter(
    ({ ipAddressPools, serviceSelectors }) =>
      (ipAddressPools.length === 0 || pools.some(({ key }) => ipAddressPools.includes(key.split("/")[1]!))) &&
      (serviceSelectors.length === 0 || serviceSelectors.some((selector) => selects(selector, found.labels))),
  );
  const serving = read("EndpointSlice")
    .filter(({ service }) => service === found.key)
    .flatMap(({ serving }) => serving);
  if (serving.length === 0 || pools.length === 0) return "nobody";
  const usable = read("Node").filter(
    ({ key, labels, isNetworkUnavailable }) =>
      !isNetworkUnavailable &&
      labels["node.kubernetes.io/exclude-from-external-load-balancers"] === undefined &&
      ads.some(
        ({ nodeSelectors }) => nodeSelectors.length === 0 || nodeSelectors.some((its) => selects(its, labels)),
      ) &&
      (!found.isLocal || serving.includes(key)),
  );
  const names = usable
    .map(({ key }) => key)
    .sort((a, b) => (hash(a, found.ingress[0]!.text) < hash(b, found.ingress[0]!.text) ? -1 : 1));
  return names[0] ?? "nobody";
}

test("MetalLB's result for MetalLB's input", () => {
  let owned = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const random = randomOf(seed);
    const pick = <T>(...items: T[]): T => items[random(items.length)]!;
    const ip = `10.9.0.${1 + random(200)}`;
    const name = pick("n1", "n2", "n3");
    const objects = [
      ...NODES.slice(0, 2),
      node(
        "n3",
        "10.0.0.3",
        pick<Record<string, string>>({}, {}, EXCLUDE, { zone: "a" }),
        pick([], [], [{ type: "NetworkUnavailable", status: "True" }]),
      ),
      P1,
      pool("p2", ["10.9.1.0/24"]),
      advertisement("ad1", { ipAddressPools: pick([], ["p1"], ["p2"]), nodeSelectors: pick([], [on(name)]) }),
      advertisement("ad2", {
        nodeSelectors: [pick<object>(on("n2"), { matchLabels: { zone: "a" } })],
        serviceSelectors: pick([], [{ matchLabels: { tier: "front" } }]),
      }),
      service("web", pick([ip], [ip], ["fd00::7", ip]), {
        policy: pick("Cluster", "Local"),
        labels: pick({}, { tier: "front" }),
      }),
      slice("web", pick([[name]], [[name], ["n1"]], [[name, { ready: false }]])),
    ];
    const expected = metallb(objects, ip);
    assert.equal(owners(clusterOf(objects).demand()), { [ip]: expected }, `seed ${seed}`);
    if (expected !== "nobody") owned += 1;
  }
  assert.ok(owned > 100, `only ${owned} were owned`);
});

test("one endpoint among 10,000 Services", () => {
  const count = 10_000;
  const ip = (index: number) => formatAddress(parseAddress("10.9.0.0") + index);
  const objects = Array.from({ length: count }, (_, index) => [
    service(`s${index}`, [ip(index)]),
    slice(`s${index}`, READY),
  ]);
  const cluster = clusterOf([...NODES, P1]);
  cluster.put(...pool("p1", ["10.9.0.0/16"]));
  cluster.put(...advertisement("all"));
  const started = process.cpuUsage();
  for (const [kind, object] of objects.flat()) cluster.put(kind, object);
  assert.is(cluster.demand().vips.length, count);
  const all = process.cpuUsage(started);
  console.log(`MEASURED ${count} Services and EndpointSlices to a demand: ${ms(all)} ms of CPU`);
  const rounds = 200;
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++) {
    cluster.put(...slice("s7", round % 2 ? READY : [["n1", { ready: false }]]));
    assert.is(cluster.demand().vips[7]?.nodes?.length, round % 2 ? 3 : 0);
  }
  const each = ms(process.cpuUsage(before)) / rounds;
  console.log(`MEASURED one endpoint changed among ${count} Services: ${each.toFixed(2)} ms of CPU`);
  const label = process.cpuUsage();
  cluster.put(...node("n2", "10.0.0.2", EXCLUDE));
  cluster.demand();
  console.log(`MEASURED a Node labelled out with ${count} Services: CPU ${ms(process.cpuUsage(label))} ms`);
});

const ms = ({ user, system }: NodeJS.CpuUsage) => Math.round((user + system) / 100) / 10;

test.run();
