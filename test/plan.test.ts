import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Config, parseConfig } from "../src/config/config.ts";
import { MAX_INTERFACES, MAX_PEERS, MAX_VIPS } from "../src/core/abi.ts";
import { formatAddress, parseAddress } from "../src/core/address.ts";
import type { Demand, VipRange } from "../src/core/demand.ts";
import type { Link } from "../src/link/links.ts";
import {
  adoptConfig,
  countAddresses,
  makePlan,
  type Network,
  type Plan,
  paceOf,
  requireFit,
  segmentPlan,
} from "../src/plan.ts";
import { linkOf, networkOf, range } from "./core/stage.ts";

const FILE = "isat.yaml";
const TEXT =
  "node: n1\ninterfaces: [eth0]\nsource: { kind: file, nodes: [n1, n2], vips: [{ address: 10.9.0.1 }] }\nmembership: { kind: wire, keys: none }";
const CONFIG = parseConfig(TEXT, FILE, {}, "host");
const config = (changes: Partial<Config> = {}): Config => ({ ...CONFIG, ...changes });
const inCluster = { source: { ...CONFIG.source, kind: "kubernetes" } as unknown as Config["source"] };

const [ETH0, ETH1, BOND0] = [linkOf(2, "eth0"), linkOf(3, "eth1"), linkOf(4, "bond0")];
const LINKS = [ETH0, ETH1, BOND0];

const demandOf = (...vips: VipRange[]): Demand => ({
  nodes: ["n1", "n2"].map((name) => ({ name, address: undefined })),
  vips,
  cluster: "",
  checks: () => [],
});

const make = (interfaces: string[], vips: VipRange[], links: readonly Link[] = LINKS, more: Partial<Config> = {}) =>
  makePlan(config({ interfaces, ...more }), demandOf(...vips), networkOf(links));

const announcing = (links: Plan["links"]) => links.filter(({ isGuard }) => !isGuard);

/** The VIPs of each interface that is announced on. */
const vipsOf = ({ links }: Plan) =>
  Object.fromEntries(
    announcing(links).map(({ link, ranges }) => [
      link.name,
      ranges.map(({ first, last }) => `${formatAddress(first)}-${formatAddress(last)}`),
    ]),
  );

const VIP = range("10.9.0.2");

for (const [interfaces, count, fits] of [
  [["eth0"], MAX_PEERS, true],
  [["eth0"], MAX_PEERS + 1, false],
  [["eth0", "eth1"], MAX_PEERS / 2 + 1, false],
] as const) {
  test(`${count} nodes on ${interfaces.length} interfaces: ${fits ? "their peers fit" : "refused at the start, and warned of"}`, () => {
    const nodes = Array.from({ length: count }, (_, i) => ({ name: `n${i}`, address: undefined }));
    const plan = makePlan(config({ interfaces: [...interfaces] }), { ...demandOf(VIP), nodes }, networkOf(LINKS));
    const isTold = plan.warnings.some((text) => /^Cannot hold \d+ peers \(nodes x announcing interfaces\)/.test(text));
    assert.is(isTold, !fits);
    if (fits) requireFit(plan);
    else assert.throws(() => requireFit(plan), /it takes 16384/);
  });
}

const filters: [what: string, interfaces: string[], vips: VipRange[], expected: Record<string, string[]>][] = [
  [
    "a VIP is managed on every interface on which isat announces",
    ["eth0", "eth1"],
    [VIP],
    { eth0: ["10.9.0.2-10.9.0.2"], eth1: ["10.9.0.2-10.9.0.2"] },
  ],
  [
    "a VIP that is for one interface is managed there only",
    ["eth0", "eth1"],
    [range("10.9.0.2", { interfaces: ["eth1"] }), range("10.9.0.3")],
    { eth0: ["10.9.0.3-10.9.0.3"], eth1: ["10.9.0.2-10.9.0.2", "10.9.0.3-10.9.0.3"] },
  ],
  [
    "the interfaces of a VIP may be a glob",
    ["*"],
    [range("10.9.0.2", { interfaces: ["eth*"] })],
    { eth0: ["10.9.0.2-10.9.0.2"], eth1: ["10.9.0.2-10.9.0.2"], bond0: [] },
  ],
  [
    "the configuration's interfaces may be a glob",
    ["eth*"],
    [VIP],
    { eth0: ["10.9.0.2-10.9.0.2"], eth1: ["10.9.0.2-10.9.0.2"] },
  ],
  [
    "a VIP whose interface is not there is managed nowhere",
    ["eth0"],
    [range("10.9.0.2", { interfaces: ["eth9"] })],
    { eth0: [] },
  ],
  ["without VIPs, the interface is served all the same", ["eth0"], [], { eth0: [] }],
];
for (const [what, interfaces, vips, expected] of filters) {
  test(what, () => {
    const plan = make(interfaces, vips);
    assert.equal(vipsOf(plan), expected);
    assert.equal([plan.problems, plan.warnings], [[], []]);
    requireFit(plan);
  });
}

test("where an interface has all VIPs, its list is the source's own, so that nothing is compared twice", () => {
  const demand = demandOf(VIP);
  const { links } = makePlan(config(), demand, networkOf(LINKS));
  assert.is(links[0]!.ranges, demand.vips);
});

const sizes: [what: string, interfaces: string[], vips: VipRange[], size: number][] = [
  ["65,536 VIPs", ["eth0"], [range("10.9.0.0/16")], 65_536],
  ["32,768 VIPs on two interfaces", ["eth0", "eth1"], [range("10.9.0.0/17")], 65_536],
  [
    "65,537 VIPs of which one is announced elsewhere",
    ["eth0"],
    [range("10.9.0.0/16"), range("10.10.0.0", { interfaces: ["eth1"] })],
    65_536,
  ],
  ["65,537 VIPs in one range", ["eth0"], [range("10.9.0.0-10.10.0.0")], 65_537],
  ["65,536 VIPs and another one", ["eth0"], [range("10.9.0.0/16"), range("10.10.0.0")], 65_537],
  ["32,769 VIPs on two interfaces", ["eth0", "eth1"], [range("10.9.0.0-10.9.128.0")], 65_538],
  ["every address there is, which are not counted one by one", ["eth0"], [range("0.0.0.0/0")], 4_294_967_296],
];
for (const [what, interfaces, vips, size] of sizes) {
  const fits = size <= MAX_VIPS;
  test(`${what} ${fits ? "fit into the kernel's map" : "are too many: the first ones are kept, and it is said"}`, () => {
    const links = LINKS.map((link) => ({ ...link, addresses: [] }));
    const { links: planned, problems, warnings, leftOut } = make(interfaces, vips, links);
    assert.equal(problems, []);
    assert.is(
      warnings.some((text) => text.startsWith("Cannot hold all VIPs in the kernel's map")),
      !fits,
    );
    const entries = planned.map(({ ranges }) => countAddresses(ranges)).reduce((sum, count) => sum + count, 0);
    assert.is(entries, Math.min(size, MAX_VIPS));
    assert.is(countAddresses(leftOut), (size - entries) / interfaces.length);
    const all = planned.map(({ ranges }) => ranges.map(({ first }) => formatAddress(first)));
    assert.ok(fits || all.every(([first]) => first === formatAddress(vips[0]!.first)));
  });
}

/** Of a source that has these VIPs in that order, the ones of which the node has room for so many entries. */
function kept(vips: VipRange[], inTurn: VipRange[], room: number, interfaces = ["eth0"]) {
  const demand = { ...demandOf(...vips), inTurn: () => inTurn };
  const plan = makePlan(config({ interfaces, ...inCluster }), demand, { ...networkOf(LINKS), room });
  const text = ({ first }: VipRange) => formatAddress(first).slice("10.9.0.".length);
  return {
    ...plan,
    kept: plan.links.map(({ ranges }) => ranges.map(text).sort().join(" ")),
    left: plan.leftOut.map(text),
  };
}
const FIVE = [1, 2, 3, 4, 5].map((last) => range(`10.9.0.${last}`));
const AGED = [3, 1, 5, 2, 4].map((last) => FIVE[last - 1]!);

test("F12: where there is less room than VIPs, the oldest ones are kept, whatever the order in which they were read", () => {
  for (const vips of [FIVE, FIVE.toReversed()]) {
    const { kept: its, left } = kept(vips, AGED, 3);
    assert.equal([its, left], [["1 3 5"], ["2", "4"]]);
  }
  assert.equal(kept(FIVE, AGED, 0).kept, [""]);
  assert.equal(kept(FIVE, AGED, 5).leftOut, []);
});

test("F12: a VIP is kept on all of its interfaces, or on none", () => {
  const { kept: its, left } = kept(FIVE, AGED, 5, ["eth0", "eth1"]);
  assert.equal(
    [its, left],
    [
      ["1 3", "1 3"],
      ["5", "2", "4"],
    ],
  );
});

test("F12: a node that leaves VIPs out for which others may have room stands back, as one whose source is stale", () => {
  const status = { isDrained: false, isEnding: false, isSourceStale: false, isOldSpoken: true };
  const isStale = (plan: Plan) => segmentPlan(plan, plan.links[0]!, status).isSourceStale;
  assert.ok(isStale(kept(FIVE, AGED, 3)));
  assert.not.ok(isStale(kept(FIVE, AGED, 5)));
  const many = [range("10.9.0.0/16"), range("10.10.0.0")];
  assert.not.ok(isStale(make(["eth0"], many)), "no node has more room than that");
  assert.ok(isStale(make(["eth0", "eth1"], many)), "one with one interface has");
});

test("an address of this node is refused as a VIP of a file, and warned of in a cluster", () => {
  const vips = [range("10.9.255.0-10.9.255.9")];
  const says =
    /^Cannot announce 10\.9\.255\.1 as it is this node's own address on eth0\. Take it out of the VIPs, or off the interface/;
  const fromFile = make(["eth0"], vips);
  assert.equal([fromFile.problems.length, fromFile.warnings.length], [1, 1]);
  assert.match(fromFile.problems[0]!, says);
  assert.throws(() => requireFit(fromFile), says);
  const ofCluster = make(["eth0"], vips, LINKS, inCluster);
  assert.equal(ofCluster.problems, []);
  assert.match(ofCluster.warnings[0]!, says);
  assert.ok(
    ofCluster.links[0]!.ranges.every(
      ({ first, last }) => last < parseAddress("10.9.255.1") || first > parseAddress("10.9.255.1"),
    ),
    "its kernel answers for it, whatever a Service says",
  );
});

test("an address of this node is no matter where the VIP is announced on another interface", () => {
  const links = [ETH0, linkOf(3, "eth1", { addresses: [{ address: parseAddress("10.9.255.2"), prefix: 16 }] })];
  const plan = make(["eth0", "eth1"], [range("10.9.255.1", { interfaces: ["eth1"] })], links);
  assert.equal([plan.problems, plan.warnings], [[], []]);
});

const subnets: [what: string, vip: string, prefix: number, stray: string | undefined][] = [
  ["a VIP inside of a subnet is not warned of", "10.9.0.1", 16, undefined],
  ["a VIP outside of every subnet is warned of", "10.10.0.1", 16, "10.10.0.1"],
  [
    "a range that begins outside of every subnet is warned of, with its first address",
    "10.8.255.255-10.9.0.1",
    16,
    "10.8.255.255",
  ],
  [
    "a range that ends outside of every subnet is warned of, with the first address that lies outside",
    "10.9.255.2-10.10.0.1",
    16,
    "10.10.0.0",
  ],
  ["every VIP is inside of a subnet of prefix length 0", "192.0.2.1", 0, undefined],
  ["an address with prefix length 32 is a subnet of its own", "10.9.0.1", 32, "10.9.0.1"],
];
for (const [what, vip, prefix, stray] of subnets) {
  test(what, () => {
    const link = linkOf(2, "eth0", { addresses: [{ address: parseAddress("10.9.255.1"), prefix }] });
    const plan = make(["eth0"], [range(vip)], [link], inCluster);
    const warning = `${stray} lies outside of every subnet of eth0: nobody there asks for it unless a route says so`;
    // A range that crosses the end of a subnet has the network's or the broadcast address in it, which is another warning.
    assert.equal(
      plan.warnings.filter((text) => !text.startsWith("Cannot announce")),
      stray ? [warning] : [],
    );
    assert.equal(plan.problems, [], "that is allowed");
  });
}

const PORT = linkOf(5, "eth5", { portOf: { kind: "bond", ifindex: 4 } });
const refusals: [what: string, interfaces: string[], links: Link[], served: string[], problem: RegExp | undefined][] = [
  [
    "an interface that does not exist is a problem where no other is meant",
    ["eth9"],
    LINKS,
    [],
    /^Cannot announce on eth9 as there is no such interface\. There are: eth0, eth1, bond0$/,
  ],
  [
    "a port of a bond is a problem",
    ["eth5"],
    [...LINKS, PORT],
    [],
    /^Cannot announce on eth5 as eth5 is .*announce on bond0/,
  ],
  [
    "an interface that is not Ethernet is a problem",
    ["tun0"],
    [linkOf(6, "tun0", { isEthernet: false })],
    [],
    /^Cannot announce on tun0 as tun0 is not an Ethernet interface/,
  ],
  ["a port that a glob takes in is left out, and is no problem", ["eth*"], [ETH0, BOND0, PORT], ["eth0"], undefined],
  [
    "an MTU that no claim fits is a problem",
    ["eth0"],
    [{ ...ETH0, mtu: 100 }],
    [],
    /eth0 has an MTU of 100, which no claim/,
  ],
  ["an interface that is down is served: it may come up", ["eth0"], [{ ...ETH0, isUp: false }], ["eth0"], undefined],
];
for (const [what, interfaces, links, served, problem] of refusals) {
  test(what, () => {
    const plan = make(interfaces, [VIP], links);
    assert.equal(
      announcing(plan.links).map(({ link }) => link.name),
      served,
    );
    assert.is(plan.problems.length, problem ? 1 : 0);
    if (problem) assert.match(plan.problems[0]!, problem);
    assert.equal(
      plan.warnings.slice(0, plan.problems.length),
      plan.problems,
      "a problem is a warning where it is not a refusal",
    );
  });
}

test("an interface that is not there is noted where another one is, and warned of where it was there once", () => {
  const beside = make(["eth0", "eth9"], [VIP]);
  assert.equal([beside.problems, beside.warnings], [[], []]);
  assert.equal(beside.notes, ["eth9: no interface of this node has that name (yet)"]);
  const network = { ...networkOf(LINKS), served: new Map([[7, "eth9"]]) };
  const away = makePlan(config({ interfaces: ["eth9"] }), demandOf(VIP), network);
  assert.equal([away.problems, away.notes], [[], []]);
  assert.match(away.warnings[0]!, /^Cannot announce on eth9 as there is no such interface/);
});

const auto = ({ interfaces: _, ...rest }: Config): Config => ({ ...rest, interfaces: undefined });
const subnet = (ifindex: number, name: string, cidr: string, changes: Partial<Link> = {}) => {
  const [address = "", prefix] = cidr.split("/");
  return linkOf(ifindex, name, { addresses: [{ address: parseAddress(address), prefix: Number(prefix) }], ...changes });
};
const [LAN, DMZ, UPLINK] = [
  subnet(2, "lan", "10.9.255.1/16"),
  subnet(3, "dmz", "10.10.255.1/16"),
  subnet(4, "uplink", "192.0.2.1/24"),
];
const NETWORK = { ...networkOf([LAN, DMZ, UPLINK]), device: 4 };
const choices: [what: string, vips: VipRange[], network: Partial<Network>, expected: Record<string, string[]>][] = [
  ["a VIP is announced where a subnet has it", [VIP], {}, { lan: ["10.9.0.2-10.9.0.2"] }],
  [
    "each of two VIPs in its own subnet",
    [VIP, range("10.10.0.2")],
    {},
    { lan: ["10.9.0.2-10.9.0.2"], dmz: ["10.10.0.2-10.10.0.2"] },
  ],
  [
    "one in no subnet is announced on the default route's",
    [range("10.11.0.1")],
    {},
    { uplink: ["10.11.0.1-10.11.0.1"] },
  ],
  [
    "one that names an interface is announced there",
    [range("10.9.0.2", { interfaces: ["dm*"] })],
    {},
    { dmz: ["10.9.0.2-10.9.0.2"] },
  ],
  ["without VIPs, the default route's is served", [], {}, { uplink: [] }],
  ["what was announced on stays so", [VIP], { served: new Map([[3, "dmz"]]) }, { lan: ["10.9.0.2-10.9.0.2"], dmz: [] }],
  [
    "one in no subnet stays where it was while the default route is away",
    [range("10.11.0.1")],
    { device: undefined, served: new Map([[3, "dmz"]]) },
    { dmz: ["10.11.0.1-10.11.0.1"] },
  ],
  ["an interface that is down is not chosen", [VIP], { links: [{ ...LAN, isUp: false }, DMZ] }, {}],
  [
    "it stays chosen where it was",
    [VIP],
    { links: [{ ...LAN, isUp: false }, DMZ], served: new Map([[2, "lan"]]) },
    { lan: ["10.9.0.2-10.9.0.2"] },
  ],
  ["an interface as CNIs make them is not", [VIP], { links: [subnet(5, "cni0", "10.9.0.1/16"), DMZ], device: 5 }, {}],
  ["a bridge's port is not", [VIP], { links: [{ ...LAN, portOf: { kind: "bridge", ifindex: 3 } }, DMZ] }, {}],
];
for (const [what, vips, network, expected] of choices) {
  test(`auto: ${what}`, () => {
    const plan = makePlan(auto(config(inCluster)), demandOf(...vips), { ...NETWORK, ...network });
    assert.equal(vipsOf(plan), expected);
    assert.is(plan.problems.length > 0, false, plan.problems.join());
  });
}

const SIX = { linkLocal: parseAddress("fe80::1") as bigint };
const withIPv6 = (link: Link, cidr?: string): Link => ({
  ...link,
  ...SIX,
  addresses: [...link.addresses, ...(cidr ? subnet(0, "", cidr).addresses : [])],
});
const sixes: [what: string, vips: VipRange[], network: Partial<Network>, expected: Record<string, string[]>][] = [
  [
    "each family's VIP where a subnet has it",
    [VIP, range("2001:db8::2")],
    { links: [withIPv6(LAN), withIPv6(DMZ, "2001:db8::1/64")] },
    { lan: ["10.9.0.2-10.9.0.2"], dmz: ["2001:db8::2-2001:db8::2"] },
  ],
  [
    "one in no subnet on its own family's default route's",
    [range("10.11.0.1"), range("2001:db8:1::2")],
    { links: [withIPv6(LAN), withIPv6(UPLINK)], device6: 2 },
    { lan: ["2001:db8:1::2-2001:db8:1::2"], uplink: ["10.11.0.1-10.11.0.1"] },
  ],
  [
    "or, where that family has none, on the other's",
    [range("2001:db8:1::2")],
    { links: [withIPv6(LAN), withIPv6(UPLINK)] },
    { uplink: ["2001:db8:1::2-2001:db8:1::2"] },
  ],
];
for (const [what, vips, network, expected] of sixes) {
  test(`IPv6: ${what}`, () => {
    const plan = makePlan(auto(config(inCluster)), demandOf(...vips), { ...NETWORK, ...network });
    assert.equal(vipsOf(plan), expected);
    assert.equal([plan.problems, plan.warnings.filter((text) => /IPv6/.test(text))], [[], []]);
  });
}

test("IPv6: a node stands for no VIP of IPv6 where its interface has no link-local address, and says so", () => {
  const vips = [VIP, range("2001:db8::2-2001:db8::9")];
  const named = (link: Link) => makePlan(config({ interfaces: ["lan"] }), demandOf(...vips), networkOf([link]));
  const without = named(LAN);
  assert.equal(vipsOf(without), { lan: ["10.9.0.2-10.9.0.2"] });
  const says = /^This node does not stand for VIPs of IPv6 \(2001:db8::2\) as lan has no link-local address/;
  assert.ok(without.warnings.some((text) => says.test(text)));
  assert.equal(without.problems, []);
  const both = { lan: ["10.9.0.2-10.9.0.2", "2001:db8::2-2001:db8::9"] };
  assert.equal(vipsOf(named(withIPv6(LAN))), both);
  assert.equal(vipsOf(named({ ...LAN, isUp: false })), both, "an address goes with its link");
});

test("IPv6: a router and a subnet's first address are no VIPs, and nothing needs a guard", () => {
  const vips = [range("2001:db8::/120")];
  const network = { ...networkOf([withIPv6(LAN, "2001:db8::7/64"), withIPv6(DMZ)]) };
  const gateways = new Set([parseAddress("2001:db8::5")]);
  const { links } = makePlan(config({ interfaces: ["lan"] }), demandOf(...vips), { ...network, gateways });
  assert.equal(vipsOf({ links } as Plan), {
    lan: ["2001:db8::1-2001:db8::4", "2001:db8::6-2001:db8::6", "2001:db8::8-2001:db8::ff"],
  });
  assert.is(links.length, 1);
});

test("auto: a file whose VIP can be announced nowhere is refused, and a cluster waits for others", () => {
  const network = { ...NETWORK, device: undefined };
  const says =
    /^Cannot tell on which interface to announce 10\.11\.0\.1 as no subnet has it, .* one of lan, dmz, uplink$/;
  const vips = demandOf(range("10.11.0.1"));
  assert.match(makePlan(auto(CONFIG), vips, network).problems[0]!, says);
  const inACluster = makePlan(auto(config(inCluster)), vips, network);
  assert.equal(inACluster.problems, []);
  assert.match(inACluster.warnings[0]!, says);
});

test("the guard stands on every other interface of the network, for every VIP that is not announced there", () => {
  const vips = [range("10.9.0.2-10.9.0.9"), range("10.10.0.2", { interfaces: ["dmz"] })];
  const others = [
    subnet(5, "cni0", "10.244.0.1/24"),
    linkOf(6, "pod", { kind: "veth", addresses: [] }),
    linkOf(7, "eth7", { portOf: { kind: "bridge", ifindex: 3 } }),
    subnet(8, "eth8", "10.9.0.4/16"),
  ];
  const network = { ...networkOf([LAN, DMZ, UPLINK, ...others]), gateways: new Set([parseAddress("10.9.0.9")]) };
  const { links, unguarded } = makePlan(config({ interfaces: ["lan"] }), demandOf(...vips), network);
  const text = (ranges: readonly VipRange[]) =>
    ranges.map(({ first, last }) => `${formatAddress(first)}-${formatAddress(last)}`).join(" ");
  const BOTH = "10.9.0.2-10.9.0.3 10.9.0.5-10.9.0.8 10.10.0.2-10.10.0.2"; // 10.9.0.4 is the node's own
  assert.equal(Object.fromEntries(links.map(({ link, guarded, isGuard }) => [link.name, [isGuard, text(guarded)]])), {
    lan: [false, "10.10.0.2-10.10.0.2"],
    dmz: [true, BOTH],
    uplink: [true, BOTH],
    eth8: [true, BOTH],
  });
  assert.equal(unguarded, []);
});

test("the guard stands on an interface that was named, or was announced on until it was found on another's wire", () => {
  const bare = linkOf(6, "eth1", { kind: "veth", addresses: [] });
  const network = networkOf([LAN, bare]);
  const barred = new Map([[bare.ifindex, "it is on one wire with lan"]]);
  const isGuarded = (its: Config, surroundings: typeof network & { barred?: ReadonlyMap<number, string> }) =>
    makePlan(its, demandOf(range("10.9.0.2")), surroundings).links.some(
      ({ link, isGuard }) => link === bare && isGuard,
    );
  assert.not.ok(isGuarded(config({ interfaces: ["lan"] }), network), "a Pod's wire");
  assert.ok(isGuarded(config({ interfaces: ["lan", "eth1"] }), { ...network, barred }));
  assert.ok(isGuarded(config({ interfaces: ["lan"] }), { ...network, barred }));
});

test("where the kernel's map has no room for a guard, VIPs are announced all the same, and it is said", () => {
  const plan = makePlan(
    config({ interfaces: ["lan"] }),
    demandOf(range("10.12.0.0-10.12.255.0")),
    networkOf([LAN, DMZ]),
  );
  assert.equal(plan.problems, []);
  assert.equal(plan.unguarded, [DMZ]);
  assert.match(plan.warnings.join(), /Cannot keep this node silent about its VIPs on dmz/);
});

test("no more interfaces are served than the kernel's map holds", () => {
  const links = Array.from({ length: MAX_INTERFACES + 1 }, (_, i) => linkOf(i + 2, `eth${i}`));
  const plan = make(["eth*"], [VIP], links);
  assert.equal([plan.links.length, plan.problems.length], [MAX_INTERFACES, 1]);
  assert.match(plan.problems[0]!, /^Cannot announce on 65 interfaces as 64 are the most\./);
});

test("a barred interface is not served, and the reason is given where nothing else fits its pattern", () => {
  const why = "it is on one wire with eth0, which announces for both";
  const barred = new Map([[3, why]]);
  const named = makePlan(config({ interfaces: ["eth0", "eth1"] }), demandOf(VIP), { ...networkOf(LINKS), barred });
  assert.equal(Object.keys(vipsOf(named)), ["eth0"]);
  assert.equal([named.problems, named.warnings], [[], [`Cannot announce on eth1 as ${why}`]]);
  const globbed = makePlan(config({ interfaces: ["eth*"] }), demandOf(VIP), { ...networkOf(LINKS), barred });
  assert.equal([Object.keys(vipsOf(globbed)), globbed.problems], [["eth0"], []]);
});

/** Freezes a value and everything in it. */
function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const part of Object.values(value)) freeze(part);
  return Object.freeze(value);
}

test("a plan is made without changing anything, whatever its inputs are, and never by throwing", () => {
  const barred = new Map([[3, "reason"]]);
  for (const interfaces of [["eth0"], ["eth9"], ["*"], []]) {
    for (const vips of [[], [VIP], [range("0.0.0.0/0")], [range("10.9.255.1")]]) {
      for (const links of [[], LINKS, [PORT]]) {
        const inputs = freeze({ config: config({ interfaces }), demand: demandOf(...vips), links });
        const first = makePlan(inputs.config, inputs.demand, { ...networkOf(inputs.links), barred });
        assert.equal(
          makePlan(inputs.config, inputs.demand, { ...networkOf(inputs.links), barred }),
          first,
          "the same again",
        );
        assert.equal(barred, new Map([[3, "reason"]]));
      }
    }
  }
});

test("a segment's plan has the interface, the VIPs and the times of the configuration, in nanoseconds", () => {
  const plan = make(["eth0"], [VIP]);
  const status = { isDrained: true, isEnding: true, isSourceStale: true, isOldSpoken: false };
  const segment = segmentPlan(plan, plan.links[0]!, status);
  const { membership } = plan.config;
  assert.ok(membership.kind === "wire");
  const { interval, dead } = membership as { interval: number; dead: number };
  assert.equal(segment, {
    ...{ ...status, isShort: false },
    name: "eth0",
    mac: "02:00:00:00:00:02",
    mtu: 1500,
    isUp: true,
    node: "n1",
    nodes: plan.demand.nodes,
    gateways: [],
    ranges: plan.demand.vips,
    probes: { interval: BigInt(interval) * 1_000_000n, dead },
    hold: BigInt(plan.config.hold) * 1_000_000n,
    pace: paceOf(plan.config.garp),
  });
  const alone = { ...plan, config: config({ membership: { kind: "static" } }) };
  assert.is(segmentPlan(alone, plan.links[0]!, status).probes, undefined);
});

test("a changed configuration is adopted, but for keys that take effect with the next start: these are warned of", () => {
  const warnings: string[] = [];
  const next = {
    ...CONFIG,
    hold: CONFIG.hold + 1,
    hook: "xdp",
    pinDir: "/sys/fs/bpf/other",
    interfaces: ["eth1"],
  } as const;
  const adopted = adoptConfig({ ...next, interfaces: [...next.interfaces] }, config(), (message) =>
    warnings.push(message),
  );
  assert.equal(adopted, config({ hold: next.hold, interfaces: ["eth1"] }));
  assert.equal(warnings, [
    "hook changed in the file: it takes effect when isat is started again",
    "pinDir changed in the file: it takes effect when isat is started again",
  ]);
});

for (const [key, changes, says] of [
  ["node", { node: "n2" }, /^node is now n2: that takes effect when isat is started again$/],
  ["membership.kind", { membership: { kind: "static" } }, /^membership\.kind is now static: that takes effect/],
] as const) {
  test(`a configuration with another ${key} is refused`, () => {
    assert.throws(() => adoptConfig(config(changes), config(), () => assert.unreachable()), says);
  });
}

test.run();
