import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress, parseRange } from "../../../src/core/address.ts";
import { elect } from "../../../src/core/ownership.ts";
import { type Kind, keyOf, refOf } from "../../../src/source/kubernetes/objects.ts";
import { clusterOf, EXCLUDE, type Options, on, owners, P1, READY, type Rule, web } from "./clusters.ts";
import { advertisement, NODES, node, type Sent, service, slice } from "./objects.ts";

const SIX: Options = { settings: { addresses: ["10.9.0.0/16", "fd00::/64", "fe80::/64"].map(parseRange) } };

// Hashes by hand, with sha256sum: `n1#10.9.0.1` is 79393352..., n2 4ebe3503..., n3 fc27e80c..., so n2 owns.
// 10.9.0.2: n1 732e1104, n2 fd0a952a, n3 d927254c: n1. 10.9.0.3: n1 3c417220, n2 a067005e, n3 23d174a4: n3.
// 10.9.0.4: n1 8b685368, n2 af7a98a4, n3 0efffb65: n3. fd00::2: n1 614e4399, n2 ea18d679, n3 c65eefea: n1.
const rules: Rule[] = [
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
    "a proxied first address is hashed too, because MetalLB knows no ipMode",
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
    "of endpoints that terminate and others that are ready, only the ready ones count, on whatever node and in whatever slice",
    [
      ...NODES,
      web("10.9.0.1", { policy: "Local" }),
      slice("web", [["n2", { ready: false, serving: true, terminating: true }]], "web-1"),
      slice("web", [["n3"]], "web-2"),
    ],
    { "10.9.0.1": "n3" },
  ],
  ...["IPv6", "FQDN"].map(
    (type): Rule => [
      `an EndpointSlice of ${type} serves no IPv4 VIP`,
      [...NODES, web("10.9.0.1"), slice("web", READY, "web-1", "default", type)],
      { "10.9.0.1": "nobody" },
    ],
  ),
  [
    "with the Local policy, an endpoint of another family is no endpoint of the node",
    [
      ...NODES,
      web("10.9.0.1", { policy: "Local" }),
      slice("web", [["n2"]], "web-1", "default", "IPv6"),
      slice("web", [["n3"]], "web-2"),
    ],
    { "10.9.0.1": "n3" },
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
    "if isat has no class, a Service with a class is not ours",
    [...NODES, web("10.9.0.1", { loadBalancerClass: "isat.example/l2" }), slice("web", READY)],
    {},
  ],
  [
    "if isat has a class, a Service without a class is not ours",
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
    "of a list of classes, each is ours, and those without a class are if the list has none",
    [
      ...NODES,
      service("a", ["10.9.0.1"]),
      service("b", ["10.9.0.2"], { loadBalancerClass: "isat.example/l2" }),
      service("c", ["10.9.0.3"], { loadBalancerClass: "isat.example/other" }),
      service("d", ["10.9.0.4"], { loadBalancerClass: "example.org/cloud" }),
      ...["a", "b", "c", "d"].map((name) => slice(name, READY)),
    ],
    { "10.9.0.1": "n2", "10.9.0.2": "n1", "10.9.0.3": "n3" },
    { settings: { loadBalancerClass: ["none", "isat.example/l2", "isat.example/other"] } },
  ],
  [
    "of a list of classes without none, Services without a class are not ours",
    [...NODES, web("10.9.0.1"), slice("web", READY)],
    {},
    { settings: { loadBalancerClass: ["isat.example/l2"] } },
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
    "the address of a Node without isat is never ours",
    [...NODES, web("10.0.0.3"), slice("web", READY)],
    {},
    { settings: { nodeSelector: { ...on("n1"), matchExpressions: [] } } },
  ],
  ...["127.0.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255"].map(
    (address): Rule => [
      `${address}, which no host can have, is never ours`,
      [...NODES, service("web", ["10.9.0.1", address]), slice("web", READY)],
      { "10.9.0.1": "n2" },
      { settings: { addresses: [parseRange("0.0.0.0/0")] } },
    ],
  ),
  [
    "an IPv6 VIP is served by endpoints of IPv6",
    [...NODES, web("fd00::1"), slice("web", [["n3"]], "web-6", "default", "IPv6")],
    { "fd00::1": elect(["n1", "n2", "n3"], "fd00::1")! },
    SIX,
  ],
  [
    "an IPv6 VIP is not served by endpoints of IPv4",
    [...NODES, web("fd00::1"), slice("web", READY)],
    { "fd00::1": "nobody" },
    SIX,
  ],
  [
    "both addresses of a dual-stack Service are hashed by the first one",
    [
      ...NODES,
      service("web", ["fd00::7", "10.9.0.1"]),
      slice("web", READY),
      slice("web", READY, "web-6", "default", "IPv6"),
    ],
    { "fd00::7": elect(["n1", "n2", "n3"], "fd00::7")!, "10.9.0.1": elect(["n1", "n2", "n3"], "fd00::7")! },
    SIX,
  ],
  [
    "with the Local policy, each address of a dual-stack Service needs an endpoint of its own family on the node",
    [
      ...NODES,
      service("web", ["10.9.0.1", "fd00::1"], { policy: "Local" }),
      slice("web", [["n1"]]),
      slice("web", [["n3"]], "web-6", "default", "IPv6"),
    ],
    { "10.9.0.1": "n1", "fd00::1": "n3" },
    SIX,
  ],
  ["a link-local address is never ours", [...NODES, web("fe80::1"), slice("web", READY)], {}, SIX],
  [
    "an IPv4 address mapped into IPv6 is IPv4, as in Go",
    [...NODES, web("::ffff:10.9.0.1"), slice("web", READY)],
    { "10.9.0.1": "n2" },
  ],

  // Several Services on one address.
  [
    "of two Services that came to an address at once, the older decides",
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
    "an older Service that no node can serve does not silence a younger one",
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
  test(sentence, () => assert.equal(owners(clusterOf(objects, options).update()), expected));
}

test("no rule reads as another", () => assert.is(new Set(rules.map(([sentence]) => sentence)).size, rules.length));

test("a Service that is not served where the older one has the address is reported", () => {
  const cluster = clusterOf([
    ...NODES,
    service("a", ["10.9.0.1"]),
    slice("a", READY),
    service("b", ["10.9.0.1"], { created: "2026-02-01T00:00:00Z", policy: "Local" }),
    slice("b", [["n3"]]),
  ]);
  assert.equal(cluster.problems, [
    {
      ref: { kind: "Service", namespace: "default", name: "b", uid: "uid-b" },
      reason: "SharedAddress",
      message:
        "10.9.0.1 is shared with default/a, which decides: node n2 owns it. There default/b is not served: no endpoint of default/b on it can serve (externalTrafficPolicy: Local)",
    },
  ]);
  cluster.put(...slice("b", [["n3"], ["n2"]]));
  cluster.update();
  assert.equal(cluster.problems, []);
});

/** Another tenant's Service, older than the one that has the address, points its status at it. */
const thief = service("thief", ["10.9.0.1"], {
  namespace: "other",
  created: "2020-01-01T00:00:00Z",
  addressed: "2026-02-01T00:00:00Z",
  policy: "Local",
});
const thiefs = slice("thief", [["n3"]], "thief-1", "other");
const victim = [...NODES, web("10.9.0.1"), slice("web", READY)];

test("whoever had an address first decides, however old the Services are that come to it", () => {
  const cluster = clusterOf(victim);
  cluster.put(...thief);
  cluster.put(...thiefs);
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n2" });
  cluster.put(...web("10.9.0.1", { labels: { changed: "yes" } }));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n2" }, "a change of it does not cost the place");
  cluster.put(...slice("web", []));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n3" }, "while the first cannot be served, the other is");
  cluster.put(...slice("web", READY));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n2" });
  cluster.put(...node("n4", "10.0.0.4"));
  cluster.remove("Node", "n4");
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n2" }, "nor when all Services are evaluated anew");
  assert.equal(owners(clusterOf([...victim, thief, thiefs].reverse()).update()), { "10.9.0.1": "n2" }, "for all nodes");
  cluster.put(...web("10.9.0.2"));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n3", "10.9.0.2": "n1" });
  cluster.put(...web("10.9.0.1", { addressed: "2026-03-01T00:00:00Z" }));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n3" }, "who comes back is the last");
});

test("a Service that was made anew under its name comes anew", () => {
  const cluster = clusterOf(victim);
  cluster.put(...thief);
  cluster.put(...thiefs);
  cluster.update();
  cluster.remove("Service", "default/web");
  cluster.put(...web("10.9.0.1", { created: "2026-03-01T00:00:00Z" }));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n3" });
});

test("an Event names no Service of another namespace, and the log does", () => {
  const cluster = clusterOf(victim);
  cluster.put(...thief);
  cluster.put(...thiefs);
  cluster.update();
  const [problem] = cluster.problems;
  assert.equal(problem?.ref.namespace, "other");
  assert.match(problem!.message, /shared with default\/web, which decides/);
  assert.match(problem!.told!, /shared with a Service of another namespace, which decides/);
  assert.not.match(problem!.told!, /default|web/);
});

const excluded = (name: string, address: string) => node(name, address, EXCLUDE);
const two = [service("mail", ["10.9.0.2"]), slice("mail", READY), web("10.9.0.1"), slice("web", READY)];
const ads = [P1, advertisement("all")];

/** Causes for which nobody announces an address: each is a line and an Event. */
const mute: [what: string, objects: Sent[], message: RegExp, options?: Options][] = [
  [
    "all Nodes are excluded",
    [excluded("n1", "10.0.0.1"), node("n2", "10.0.0.2", {}, [{ type: "NetworkUnavailable", status: "True" }]), ...two],
    /^10\.9\.0\.2 of default\/mail and others is announced by nobody: every Node is excluded: n1 \(it has the label .*\), n2 \(its condition NetworkUnavailable is True\)$/,
  ],
  [
    "no advertisement covers the pool",
    [...NODES, P1, ...two],
    /^10\.9\.0\.2 of default\/mail and others is announced by nobody: no L2Advertisement selects a Node for it in pool metallb-system\/p1$/,
  ],
  [
    "no advertisement selects a Node",
    [...NODES, P1, advertisement("a", { nodeSelectors: [on("n9")] }), ...two],
    /no L2Advertisement selects a Node for it in pool metallb-system\/p1$/,
  ],
  [
    "no advertisement selects one of two Services",
    [
      ...NODES,
      P1,
      advertisement("a", { serviceSelectors: [{ matchLabels: { tier: "front" } }] }),
      ...two,
      web("10.9.0.1", { labels: { tier: "front" } }),
    ],
    /^10\.9\.0\.2 of default\/mail is announced by nobody: no L2Advertisement/,
  ],
  [
    "a class that nobody serves",
    [...NODES, ...ads, web("10.9.0.1", { loadBalancerClass: "isat.example/l2" }), slice("web", READY)],
    /^10\.9\.0\.1 of default\/web is announced by nobody: isat does not serve the class isat\.example\/l2\. Add isat\.example\/l2 to source\.loadBalancerClass/,
  ],
  [
    "no class, where isat serves only others",
    [...NODES, ...ads, web("10.9.0.1"), slice("web", READY)],
    /isat does not serve Services without a class\. Add none to source\.loadBalancerClass/,
    { settings: { loadBalancerClass: "isat.example/l2" } },
  ],
  [
    "the Local policy, and no endpoint where an owner may be",
    [...NODES, ...ads, web("10.9.0.1", { policy: "Local" }), slice("web", [["n9"]])],
    /^10\.9\.0\.1 of default\/web is announced by nobody: its externalTrafficPolicy is Local, and no endpoint is on a Node that may own it$/,
  ],
  [
    "a Service that may share its address, under an advertisement with serviceSelectors",
    [
      ...NODES,
      P1,
      advertisement("front", { serviceSelectors: [{ matchLabels: { tier: "front" } }] }),
      web("10.9.0.1", { labels: { tier: "front" }, annotations: { "metallb.io/allow-shared-ip": "key" } }),
      slice("web", READY),
    ],
    /is announced by nobody: .*L2Advertisement metallb-system\/front has serviceSelectors/,
  ],
  [
    "a Node's own address",
    [...NODES, web("10.0.0.3"), slice("web", READY)],
    /^10\.0\.0\.3 of default\/web is announced by nobody: it is Node n3's own address\. Give the Service another one$/,
  ],
];
for (const [what, objects, message, options] of mute) {
  test(`${what}: one problem says so by name`, () => {
    const cluster = clusterOf(objects, options);
    const [problem, ...more] = cluster.problems;
    assert.match(problem?.message ?? "", message);
    assert.equal(more, []);
    assert.is(problem?.reason, "NotAnnounced");
    assert.not.match(problem!.told!, /default|and others/, "an Event is on its own Service");
    for (const [kind, object] of objects) if (kind === "Service") cluster.remove(kind, keyOf(refOf(kind, object)));
    cluster.update();
    assert.equal(cluster.problems, [], "it is over");
  });
}

const quiet: [what: string, ...objects: Sent[]][] = [
  ["no endpoints", ...NODES, ...ads, web("10.9.0.1")],
  [
    "a class of others, outside of the pools",
    ...NODES,
    ...ads,
    web("10.8.0.1", { loadBalancerClass: "example.org/cloud" }),
    slice("web", READY),
  ],
];
for (const [what, ...objects] of quiet) {
  test(`${what} is no problem`, () => assert.equal(clusterOf(objects).problems, []));
}

/** A Node that lists more addresses than its own. */
const listing = (name: string, own: string, ...others: string[]): Sent => {
  const [kind, object] = node(name, own) as [Kind, { status: { addresses: object[] } }];
  const more = others.map((address, index) => ({ type: index % 2 ? "ExternalIP" : "InternalIP", address }));
  return [kind, { ...object, status: { ...object.status, addresses: [...object.status.addresses, ...more] } }];
};

test("a Node that comes to list a VIP beside its InternalIP withdraws nothing, and is named", () => {
  const cluster = clusterOf(victim);
  cluster.put(...listing("n1", "10.0.0.1", "10.9.0.9", "10.9.0.1"));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n2" });
  assert.equal(
    cluster.problems.map(({ reason }) => reason),
    ["NodeAddress"],
  );
  assert.match(
    cluster.problems[0]!.message,
    /^10\.9\.0\.1 of default\/web is served, though Node n1 lists it among its addresses\. Take it out of the Node's status\.addresses/,
  );
  cluster.put(...web("10.9.0.1", { labels: { changed: "yes" } }));
  assert.equal(owners(cluster.update()), { "10.9.0.1": "n2" });
  cluster.put(...listing("n1", "10.0.0.1"));
  cluster.update();
  assert.equal(cluster.problems, []);
});

test("an address that a Node lists before a Service has it is the Node's, over a restart too", () => {
  const cluster = clusterOf([...NODES.slice(1), listing("n1", "10.0.0.1", "10.9.0.1")]);
  cluster.put(...web("10.9.0.1"));
  cluster.put(...slice("web", READY));
  assert.equal(owners(cluster.update()), {});
  assert.is(cluster.skipped.node, 1);
  const next = clusterOf([]);
  next.recall(cluster.past);
  for (const sent of [web("10.9.0.1"), slice("web", READY), listing("n1", "10.0.0.1", "10.9.0.1")]) next.put(...sent);
  assert.equal(owners(next.update()), {});
});

test("of a Node's listing and a Service that are first seen together, the Service had the address first", () => {
  assert.equal(
    owners(clusterOf([listing("n1", "10.0.0.1", "10.9.0.1"), web("10.9.0.1"), slice("web", READY)]).update()),
    { "10.9.0.1": "n1" },
  );
});

test("the InternalIP of a Node bars, also where a Service had it first", () => {
  const cluster = clusterOf(victim);
  cluster.put(...node("n4", "10.9.0.1"));
  assert.equal(owners(cluster.update()), {});
});

test("addresses that are not announced are counted by the reason", () => {
  const cluster = clusterOf([
    ...NODES,
    service("a", ["fd00::1", "fd00::2", "10.9.0.1", "10.0.0.1", "10.7.0.1", "127.0.0.1", "255.255.255.255"]),
    service("b", [{ ip: "10.9.0.2", ipMode: "Proxy" }, { hostname: "lb.example" }]),
  ]);
  assert.equal(cluster.skipped, { proxied: 1, hostname: 1, node: 1, reserved: 2, outside: 3 });
  cluster.remove("Service", "default/a");
  cluster.update();
  assert.equal(cluster.skipped, { proxied: 1, hostname: 1, node: 0, reserved: 0, outside: 0 });
});

test("the checks give the reason for each node", () => {
  const { checks } = clusterOf([
    node("n1", "10.0.0.1"),
    node("n2", "10.0.0.2", EXCLUDE, [{ type: "NetworkUnavailable", status: "True" }]),
    P1,
    advertisement("one", { nodeSelectors: [on("n1")] }),
    web("10.9.0.1", { policy: "Local" }),
    slice("web", [["n1"]]),
    service("out", ["10.8.0.1"]),
  ]).update();
  const table = (ip: string, name: string) =>
    Object.fromEntries(checks(parseAddress(ip), name).map(({ what, refusal }) => [what, refusal ?? "yes"]));
  assert.equal(table("10.9.0.1", "n1"), {
    selected: "yes",
    endpoint: "yes",
    label: "yes",
    network: "yes",
    booted: "yes",
  });
  assert.equal(table("10.9.0.1", "n2"), {
    selected: "no L2Advertisement selects it for pool metallb-system/p1 and default/web",
    endpoint: "no endpoint of default/web on it can serve (externalTrafficPolicy: Local)",
    label: "it has the label node.kubernetes.io/exclude-from-external-load-balancers",
    network: "its condition NetworkUnavailable is True",
    booted: "yes",
  });
  assert.equal(table("10.8.0.1", "n1"), { selected: "it is in no IPAddressPool" });
  assert.equal(table("10.8.0.9", "n1"), {});
});

test.run();
