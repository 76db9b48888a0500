/** OpenELB's objects, and what isat is to have in their place: docs/from-openelb.md. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseConfig } from "../../src/config/config.ts";
import { formatImport, importOpenelb } from "../../src/controller/openelb.ts";

const test = suite("isat import openelb");

const eip = (name: string, spec: object, isDefault = false) => ({
  metadata: { name, ...(isDefault && { annotations: { "eip.openelb.kubesphere.io/is-default-eip": "true" } }) },
  spec: { protocol: "layer2", interface: "eth0", ...spec },
});
const service = (key: string, annotations: object = {}, ips: string[] = [], more: object = {}) => {
  const [namespace, name] = key.split("/");
  return {
    metadata: { namespace, name, annotations: { "lb.kubesphere.io/v1alpha1": "openelb", ...annotations }, ...more },
    spec: { type: "LoadBalancer" },
    status: { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } },
  };
};

/** An Eip, and the pool that says the same; undefined: none does. */
const POOLS: [about: string, eip: object, pool: object | undefined, note?: RegExp][] = [
  [
    "only on request",
    eip("a", { address: "10.9.0.1-10.9.0.9" }),
    { name: "a", addresses: ["10.9.0.1-10.9.0.9"], autoAssign: false },
  ],
  ["the default", eip("a", { address: "10.9.0.0/24" }, true), { name: "a", addresses: ["10.9.0.0/24"] }],
  ["one address", eip("a", { address: "10.9.0.7" }), { name: "a", addresses: ["10.9.0.7"], autoAssign: false }],
  [
    "a block by an address within",
    eip("a", { address: "10.9.0.77/24" }, true),
    { name: "a", addresses: ["10.9.0.0/24"] },
  ],
  [
    "namespaces: the lowest priority first, which is 1 in isat",
    eip("a", { address: "10.9.0.0/24", namespaces: ["web", "db"] }),
    { name: "a", addresses: ["10.9.0.0/24"], namespaces: ["web", "db"], priority: 1 },
  ],
  [
    "namespaces by label, and a priority",
    eip("a", { address: "10.9.0.0/24", namespaceSelector: { team: "web" }, priority: 100 }),
    { name: "a", addresses: ["10.9.0.0/24"], namespaceSelector: { matchLabels: { team: "web" } }, priority: 101 },
  ],
  [
    "keepalived's",
    eip("a", { address: "10.9.0.0/24", protocol: "vip" }, true),
    { name: "a", addresses: ["10.9.0.0/24"] },
  ],
  ["BGP", eip("a", { address: "10.9.0.0/24", protocol: "bgp" }), undefined, /a is of protocol bgp/],
  [
    "BGP, which is the default",
    { metadata: { name: "a" }, spec: { address: "10.9.0.0/24" } },
    undefined,
    /protocol bgp/,
  ],
  ["disabled", eip("a", { address: "10.9.0.0/24", disable: true }), undefined, /a is disabled/],
  ["no address", eip("a", { address: "next" }), undefined, /a cannot be read: Cannot read "next"/],
  [
    "known IPs",
    eip("a", { address: "10.9.0.0/24", usingKnownIPs: true }, true),
    { name: "a", addresses: ["10.9.0.0/24"] },
    /usingKnownIPs, which has no equal/,
  ],
  [
    "the default, and for some",
    eip("a", { address: "10.9.0.0/24", namespaces: ["web"] }, true),
    { name: "a", addresses: ["10.9.0.0/24"], namespaces: ["web"], priority: 1 },
    /is for these alone/,
  ],
  [
    "an interface by a host that it can reach",
    eip("a", { address: "10.9.0.0/24", interface: "can_reach:10.9.0.1" }, true),
    { name: "a", addresses: ["10.9.0.0/24"] },
    /can_reach:10.9.0.1: isat announces on every interface/,
  ],
];
for (const [about, its, pool, note] of POOLS) {
  test(`an Eip: ${about}`, () => {
    const { config, notes } = importOpenelb([its], []);
    assert.equal(config.pools, pool ? [pool] : []);
    if (note) assert.match(notes.join("\n"), note);
    else assert.equal(notes, []);
  });
}

/** Services, and the annotations that they are to have. */
const SERVICES: [about: string, services: object[], annotations: [string, object][], note?: RegExp][] = [
  ["nothing asked", [service("web/a", {}, ["10.9.0.1"])], []],
  [
    "an address",
    [service("web/a", { "eip.openelb.kubesphere.io/v1alpha1": "10.9.0.4" })],
    [["web/a", { "isat.io/addresses": "10.9.0.4" }]],
  ],
  [
    "an Eip",
    [service("web/a", { "eip.openelb.kubesphere.io/v1alpha2": "one" })],
    [["web/a", { "isat.io/pool": "one" }]],
  ],
  [
    "an Eip that is not there",
    [service("web/a", { "eip.openelb.kubesphere.io/v1alpha2": "gone" })],
    [],
    /asks for Eip gone, which is no pool/,
  ],
  [
    "one address of two Services",
    [service("web/a", {}, ["10.9.0.4"]), service("web/b", {}, ["10.9.0.4"]), service("web/c", {}, ["10.9.0.5"])],
    [
      ["web/a", { "isat.io/share": "10.9.0.4" }],
      ["web/b", { "isat.io/share": "10.9.0.4" }],
    ],
  ],
  ["BGP", [service("web/a", { "protocol.openelb.kubesphere.io/v1alpha1": "bgp" })], [], /web\/a is of protocol bgp/],
  [
    "not OpenELB's",
    [service("web/a", { "lb.kubesphere.io/v1alpha1": "" })],
    [],
    /web\/a has no class and is not OpenELB's/,
  ],
];
for (const [about, services, annotations, note] of SERVICES) {
  test(`Services: ${about}`, () => {
    const its = importOpenelb([eip("one", { address: "10.9.0.0/24" }, true)], services);
    assert.equal([...its.annotations], annotations);
    if (note) assert.match(its.notes.join("\n"), note);
    else assert.equal(its.notes, []);
  });
}

test("the output is a configuration of isat's, and its comments tell the rest", () => {
  const eips = [
    eip("one", { address: "10.9.0.0/24" }, true),
    eip("off", { address: "10.9.1.0/24", disable: true }),
    eip("web", { address: "10.9.2.0/24", namespaceSelector: { team: "web" } }),
  ];
  const finalizers = { finalizers: ["finalizer.lb.kubesphere.io/v1alpha1"] };
  const services = [
    service("web/a", { "eip.openelb.kubesphere.io/v1alpha2": "one" }, ["10.9.0.4"], finalizers),
    service("db/b", {}, ["10.9.0.4"]),
  ];
  const text = formatImport(importOpenelb(eips, services));
  const { pools, source, interfaces } = parseConfig(text, "out.yaml", { NODE_NAME: "n1" });
  assert.equal(
    pools.map(({ name, autoAssign, shareAcrossNamespaces }) => [name, autoAssign, shareAcrossNamespaces]),
    [
      ["one", true, true], // Services of two namespaces are on one address
      ["web", true, false],
    ],
  );
  assert.is(source.kind, "kubernetes");
  assert.equal(interfaces, ["eth0"]);
  assert.match(
    text,
    "# kubectl -n web annotate --overwrite service a isat.io/pool=one isat.io/share=10.9.0.4".slice(2),
  );
  assert.match(text, /kubectl -n web get service a -o json \| jq .*finalizer/);
  assert.match(text, /# {3}Eip off is disabled/);
});

test("an annotation of several lines stays in its comment: who may write a Service adds nothing to the configuration", () => {
  const lines = (eol: string) => `x${eol}hook: xdp${eol}#`;
  const services = ["\n", "\r", "\r\n"].flatMap((eol, i) => [
    service(`web/a${i}`, { "eip.openelb.kubesphere.io/v1alpha1": lines(eol) }),
    service(`web/b${i}`, { "eip.openelb.kubesphere.io/v1alpha2": lines(eol) }),
  ]);
  const text = formatImport(importOpenelb([eip("one", { address: "10.9.0.0/24" }, true)], services));
  assert.is(parseConfig(text, "out.yaml", { NODE_NAME: "n1" }).hook, "auto");
});

test.run();
