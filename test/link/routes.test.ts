import { suite } from "uvu";
import * as assert from "uvu/assert";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";
import { formatAddress } from "../../src/core/address.ts";
import { Links } from "../../src/link/links.ts";

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
  return [[...gateways].sort((a, b) => a - b).map(formatAddress), name];
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

test.run();
