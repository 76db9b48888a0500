import { suite } from "uvu";
import * as assert from "uvu/assert";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";
import { compare, formatAddress, parseAddress } from "../../src/core/address.ts";
import { cannotSpeakIPv6, isInSubnet, isPodsWire, Links } from "../../src/link/links.ts";

const test = suite("default routes");
const namespaces = new Namespaces("isat-t-routes-");
const NODE = "node";
namespaces.add(NODE);
namespaces.ip(NODE, [
  "link add eth0 type veth peer name p0",
  "link add eth1 type veth peer name p1",
  "addr add 10.9.255.1/16 dev eth0",
  "addr add 10.8.255.1/16 dev eth1",
  "link set p0 up",
  "link set p1 up",
  "link set eth0 up",
  "link set eth1 up",
]);
const links = inNamespace(namespaces.full(NODE), () => new Links());

test.after(() => {
  links[Symbol.dispose]();
  namespaces[Symbol.dispose]();
});

function found(): [gateways: string[], device: string | undefined] {
  const { gateways, device } = links.defaults();
  const name = links.read().find(({ ifindex }) => ifindex === device)?.name;
  return [[...gateways].sort(compare).map(formatAddress), name];
}

const MULTIPATH = "nexthop via 10.9.0.253 dev eth0 nexthop via 10.8.0.254 dev eth1 weight 2";
const NEXTHOPS = [
  "nexthop add id 1 via 10.9.0.253 dev eth0",
  "nexthop add id 2 via 10.8.0.254 dev eth1",
  "nexthop add id 3 group 1/2",
];

const ROWS: [shows: string, lines: string[], gateways: string[], device: string | undefined, compat?: 0][] = [
  ["no route: no gateway", [], [], undefined],
  ["one hop", ["route add default via 10.9.0.254"], ["10.9.0.254"], "eth0"],
  [
    "several hops: all are gateways, the first one's device counts",
    [`route add default ${MULTIPATH}`],
    ["10.8.0.254", "10.9.0.253"],
    "eth0",
  ],
  ["a nexthop object", [...NEXTHOPS, "route add default nhid 2"], ["10.8.0.254"], "eth1"],
  ["a group of nexthop objects", [...NEXTHOPS, "route add default nhid 3"], ["10.8.0.254", "10.9.0.253"], "eth0"],
  [
    "a nexthop object that the route does not spell out",
    [...NEXTHOPS, "route add default nhid 2"],
    ["10.8.0.254"],
    "eth1",
    0,
  ],
  [
    "a group that the route does not spell out",
    [...NEXTHOPS, "route add default nhid 3"],
    ["10.8.0.254", "10.9.0.253"],
    "eth0",
    0,
  ],
  [
    "two halves alone",
    ["route add 0.0.0.0/1 via 10.9.0.254", "route add 128.0.0.0/1 via 10.9.0.253"],
    ["10.9.0.253", "10.9.0.254"],
    "eth0",
  ],
  [
    "two halves before a whole one, as VPNs set: the whole one's device counts",
    ["route add 0.0.0.0/1 via 10.8.0.254", "route add 128.0.0.0/1 via 10.8.0.254", "route add default via 10.9.0.254"],
    ["10.8.0.254", "10.9.0.254"],
    "eth0",
  ],
  [
    "the lowest metric's device counts, the other gateway is one too",
    ["route add default via 10.9.0.254 metric 200", "route add default via 10.8.0.254 metric 100"],
    ["10.8.0.254", "10.9.0.254"],
    "eth1",
  ],
  [
    "another table's gateway is one, but chooses no device",
    ["route add default via 10.8.0.254 table 100"],
    ["10.8.0.254"],
    undefined,
  ],
  ["a route to a block is none", ["route add 64.0.0.0/2 via 10.9.0.254"], [], undefined],
  ["a default route without a gateway has a device", ["route add default dev eth1"], [], "eth1"],
];

for (const [shows, lines, gateways, device, compat = 1] of ROWS) {
  test(shows, () => {
    namespaces.sysctl(NODE, "net/ipv4/nexthop_compat_mode", compat);
    links.routesChanged();
    namespaces.ip(NODE, lines);
    try {
      assert.equal(found(), [gateways, device]);
      assert.is(links.routesChanged(), gateways.length > 0 || device !== undefined);
      assert.is(links.routesChanged(), false);
    } finally {
      // With the last of its links goes a route, and with its link a nexthop object.
      for (const state of ["down", "up"]) namespaces.ip(NODE, [`link set eth0 ${state}`, `link set eth1 ${state}`]);
    }
  });
}

// IPv6: in a namespace of its own, as the kernel forgets addresses with their link.
const SIX = "six";
namespaces.add(SIX);
for (const which of ["all", "default"]) namespaces.sysctl(SIX, `net/ipv6/conf/${which}/disable_ipv6`, 0);
namespaces.ip(SIX, [
  "link add eth0 type veth peer name p0",
  "link add eth1 type veth peer name p1",
  ...["p0", "p1", "eth0", "eth1"].map((name) => `link set ${name} up`),
  "addr add 10.9.255.1/16 dev eth0",
  "addr add 2001:db8::1/64 dev eth0 nodad",
]);
const six = inNamespace(namespaces.full(SIX), () => new Links());
test.after(() => six[Symbol.dispose]());

const SIXES: [shows: string, line: string, gateways: string[], devices: [string | undefined, string | undefined]][] = [
  ["a default route of IPv6", "::/0 via 2001:db8::fe dev eth0", ["2001:db8::fe"], [undefined, "eth0"]],
  [
    "its router is link-local, as an advertised one",
    "::/0 via fe80::9 dev eth1 proto ra",
    ["fe80::9"],
    [undefined, "eth1"],
  ],
  [
    "several hops",
    "::/0 nexthop via fe80::9 dev eth1 nexthop via 2001:db8::fe dev eth0",
    ["2001:db8::fe", "fe80::9"],
    [undefined, "eth1"],
  ],
  ["a route that refuses is none", "unreachable ::/0", [], [undefined, undefined]],
  ["a route to a block is none", "2001:db8:1::/48 via 2001:db8::fe dev eth0", [], [undefined, undefined]],
];
for (const [shows, line, gateways, devices] of SIXES) {
  test(`IPv6: ${shows}`, () => {
    six.routesChanged();
    namespaces.ip(SIX, [`route add ${line}`]);
    try {
      const { gateways: found, device, device6 } = six.defaults();
      const nameOf = (its: number | undefined) => six.read().find(({ ifindex }) => ifindex === its)?.name;
      assert.equal([...found].map(formatAddress).sort(), gateways);
      assert.equal([device, device6].map(nameOf), devices);
      assert.is(six.routesChanged(), gateways.length > 0);
    } finally {
      namespaces.ip(SIX, [`route del ${line.includes("nexthop") ? "::/0" : line}`]);
    }
  });
}

const linkOf = (name: string) => six.read().find((link) => link.name === name)!;
const addressesOf = (name: string) =>
  linkOf(name).addresses.map(({ address, prefix }) => `${formatAddress(address)}/${prefix}`);

test("an interface has addresses of both families, its link-local one apart", () => {
  assert.equal(addressesOf("eth0"), ["10.9.255.1/16", "2001:db8::1/64"]);
  assert.is(formatAddress(linkOf("eth0").linkLocal!).slice(0, 6), "fe80::");
  assert.is(cannotSpeakIPv6(linkOf("eth0")), undefined);
  assert.ok(isInSubnet(linkOf("eth0"), parseAddress("2001:db8::beef")));
  assert.not(isInSubnet(linkOf("eth0"), linkOf("eth0").linkLocal!));
});

test("an address of IPv6 that comes or goes is an event of its interface", () => {
  const heard = () => {
    const all: number[] = [];
    six.changed((_, ifindex) => all.push(ifindex) < 0);
    return [...new Set(all)];
  };
  heard();
  for (const what of ["add", "del"]) {
    namespaces.ip(SIX, [`addr ${what} 2001:db8::2/64 dev eth0`]);
    assert.equal(heard(), [linkOf("eth0").ifindex]);
  }
});

test("where IPv6 is switched off, an interface has no link-local address and cannot stand for VIPs of IPv6", () => {
  namespaces.sysctl(SIX, "net/ipv6/conf/eth1/disable_ipv6", 1);
  assert.is(linkOf("eth1").linkLocal, undefined);
  assert.match(cannotSpeakIPv6(linkOf("eth1"))!, "eth1 has no link-local address of IPv6");
  namespaces.ip(SIX, ["link set eth1 down"]);
  assert.is(cannotSpeakIPv6(linkOf("eth1")), undefined);
});

test("a wire to a Pod has addresses of one host only, of either family", () => {
  const wire = (...addresses: string[]) => {
    namespaces.ip(SIX, ["addr flush dev p1", ...addresses.map((address) => `addr add ${address} dev p1`)]);
    return isPodsWire(linkOf("p1"));
  };
  assert.is(wire("169.254.1.1/32", "2001:db8:7::1/128"), true);
  assert.is(wire("2001:db8:7::1/64"), false);
  assert.is(wire("2001:db8:7::1/32"), false);
});

test.run();
