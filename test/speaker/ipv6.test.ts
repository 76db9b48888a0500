// limit: 120 s
/** A running speaker with VIPs of both families, and a client whose kernel sends to them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, until } from "../../lab/kernel/process.ts";
import { NODE_MAC, Rig } from "../../lab/kernel/rig.ts";
import { parseMac } from "../../lab/mac.ts";
import { addressBytes, addressOfBytes, formatAddress, parseAddress } from "../../src/core/address.ts";
import { formatMac } from "../../src/core/arp.ts";
import { ADVERTISEMENT, decodeNdp, FLAG, type Ndp, unsolicited } from "../../src/core/ndp.ts";

const test = suite("IPv6 of a speaker");
const rig = new Rig("isat-t-spk-six-");
const VIP = "2001:db8::1:1";
for (const [name, device, address] of [
  ["node", "eth0", "2001:db8::1"],
  ["client", "c0", "2001:db8::64"],
] as const) {
  rig.namespaces.sysctl(name, `net/ipv6/conf/${device}/accept_dad`, 0);
  for (const each of ["lo", device]) rig.namespaces.sysctl(name, `net/ipv6/conf/${each}/disable_ipv6`, 0);
  rig.namespaces.ip(name, [`addr add ${address}/64 dev ${device} nodad`]);
}
rig.namespaces.ip("client", ["addr add 10.9.255.100/16 dev c0"]);
test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

const owned = (...vips: string[]) => vips.map((vip) => `{ address: "${vip}", nodes: [n1] }`);
const BOTH = owned("10.9.0.1", "2001:db8::1:1-2001:db8::1:4");

const pings = async (vip: string) => (await rig.execute("client", "ping", ["-c1", "-W1", vip])).status === 0;
const reached = (vip: string) => until(`a ping of ${vip}`, () => pings(vip), 10_000);

/** The MAC that the client's kernel has for an address. */
const macOf = async (vip: string) => {
  const entries = JSON.parse(await rig.must("client", "ip", "-j", "neigh"));
  return (entries as { dst: string; lladdr?: string }[]).find(({ dst }) => dst === vip)?.lladdr;
};

/** The Advertisements that have come to the client. */
function advertisements(): Ndp[] {
  const all: Ndp[] = [];
  for (let frame = rig.client.receive(); frame; frame = rig.client.receive()) {
    const ndp = decodeNdp(frame);
    if (ndp?.type === ADVERTISEMENT && !(ndp.flags & FLAG.solicited)) all.push(ndp);
  }
  return all.filter(({ target }) => formatAddress(addressOfBytes(target)) === VIP);
}

test("VIPs of both families are answered, accepted and announced; the last speaker's go on", async () => {
  advertisements();
  const speaker = await rig.serve({ vips: BOTH });
  const heard: Ndp[] = [];
  await until("three announcements", () => heard.push(...advertisements()) >= 3, 8_000);
  for (const { flags, mac, to, destination } of heard) {
    assert.is(flags, FLAG.override);
    assert.is(formatMac(mac!), NODE_MAC);
    assert.is(formatAddress(addressOfBytes(to)), "ff02::1");
    assert.is(formatMac(destination), "33:33:00:00:00:01");
  }
  for (const vip of ["10.9.0.1", VIP, "2001:db8::1:4"]) await reached(vip);
  assert.is(await macOf(VIP), NODE_MAC);
  assert.not(await pings("2001:db8::1:5"));
  const status = JSON.parse((await rig.isat(["status", "--config", rig.config, "--json"])).stdout);
  const vips = (status.vips as { address: string; owner?: string; state: string }[]).map(
    ({ address, state }) => `${address} ${state}`,
  );
  assert.equal(
    vips,
    ["10.9.0.1", ...[1, 2, 3, 4].map((i) => `2001:db8::1:${i}`)].map((vip) => `${vip} owned`),
  );
  const one = await rig.isat(["status", "--config", rig.config, "2001:DB8:0::1:1"]);
  assert.match(one.stdout, /2001:db8::1:1 +n1 +owned/);
  assert.match((await rig.isat(["map", "dump", "--config", rig.config])).stdout, /2001:db8::1:1 on eth0/);
  await speaker.end("SIGKILL");
  await rig.must("client", "ip", "neigh", "flush", "dev", "c0");
  for (const vip of ["10.9.0.1", VIP]) await reached(vip);
});

test("a machine that is no peer advertises a VIP: it is announced again, and the machine named", async () => {
  await rig.serve({ vips: BOTH });
  let count = 0;
  await until("the burst", () => (count += advertisements().length) >= 3, 8_000);
  const mac = "02:00:00:00:00:77";
  rig.client.send(unsolicited(parseMac(mac), addressBytes(parseAddress(VIP))));
  await until("it is announced again", () => advertisements().length > 0, 8_000);
  const { stdout } = await rig.isat(["status", "--config", rig.config]);
  assert.match(
    stdout,
    /a machine that is no peer says on eth0 that it has 2001:db8::1:1: its MAC is 02:00:00:00:00:77/,
  );
});

test("a router that is advertised is a gateway, and an interface whose IPv6 goes is said", async () => {
  // The kernel takes no router that has one of its own addresses.
  const speaker = await rig.serve({ vips: [...BOTH, '{ address: "2001:db8::1:9", nodes: [n2] }'] });
  await reached(VIP);
  rig.namespaces.ip("node", ["route add ::/0 via 2001:db8::1:9 dev eth0 proto ra"]);
  try {
    await speaker.says(/Cannot announce 2001:db8::1:9 \(line \d+\) as it is a default gateway's address/);
  } finally {
    rig.namespaces.ip("node", ["route del ::/0"]);
  }
  rig.namespaces.sysctl("node", "net/ipv6/conf/eth0/disable_ipv6", 1);
  try {
    await speaker.says(/This node does not stand for VIPs of IPv6 \(2001:db8::1:1\) as eth0 has no link-local address/);
    await becomes(async () => pings("10.9.0.1"), true);
  } finally {
    rig.namespaces.sysctl("node", "net/ipv6/conf/eth0/disable_ipv6", 0);
    rig.namespaces.ip("node", ["addr add 2001:db8::1/64 dev eth0 nodad"]);
  }
  await reached(VIP);
});

test("what clean leaves is nothing: no VIP on lo, and no group in the NIC's filter", async () => {
  await rig.serve({ vips: BOTH });
  await reached(VIP);
  const groups = async () => (await rig.must("node", "cat", "/proc/net/dev_mcast")).match(/1 +3333ff01000[1-4]/g) ?? [];
  assert.is((await groups()).length, 4);
  await rig.reset();
  assert.equal(await groups(), []);
  assert.not(/2001:db8::1:/.test(await rig.must("node", "ip", "-6", "addr", "show", "dev", "lo")));
});

test("a speaker that no longer announces on an interface leaves no group of the one before it there", async () => {
  const speaker = await rig.serve({ vips: BOTH });
  const groups = async () =>
    (await rig.must("node", "cat", "/proc/net/dev_mcast")).match(/eth0 .* 1 +3333ff\w+/g) ?? [];
  await until("the groups", async () => (await groups()).length === 4, 5_000);
  await speaker.end("SIGKILL");
  rig.wire("eth1", "c1", "02:00:00:00:00:02", "02:00:00:00:00:65");
  try {
    await rig.serve({ interfaces: "[eth1]", vips: owned("2001:db8::1:1") });
    assert.equal(await groups(), []);
  } finally {
    rig.namespaces.ip("node", ["link del eth1"]);
  }
});

test.run();
