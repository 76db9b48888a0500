/** Probes for addresses by ARP, with a real machine on the wire. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";
import { formatAddress, parseAddress } from "../../src/core/address.ts";
import { Links } from "../../src/link/links.ts";
import { probe } from "../../src/link/probe.ts";

const test = suite("probes for addresses");
const NODE = { namespace: "node", name: "eth0", mac: "02:00:00:00:00:41" };
const OTHER = { namespace: "other", name: "eth0", mac: "02:00:00:00:00:42" };
const namespaces = new Namespaces("isat-t-link-probe-");
for (const { namespace } of [NODE, OTHER]) {
  namespaces.add(namespace);
  for (const which of ["all", "default"]) {
    namespaces.sysctl(namespace, `net/ipv6/conf/${which}/accept_dad`, 0);
    namespaces.sysctl(namespace, `net/ipv6/conf/${which}/disable_ipv6`, 0);
  }
}
namespaces.link(NODE, OTHER);
namespaces.ip("node", ["addr add 10.9.0.1/24 dev eth0"]);
namespaces.ip("other", [
  "addr add 10.9.0.2/24 dev eth0",
  "addr add 192.0.2.7/32 dev eth0",
  "addr add 2001:db8::2/64 dev eth0 nodad",
]);
test.after(() => namespaces[Symbol.dispose]());

/** Runs in a namespace: all sockets are opened before the first pause. */
async function probeFrom(namespace: string, ...texts: string[]): Promise<{ taken: string[]; unable: string[] }> {
  const { taken, unable } = await inNamespace(namespaces.full(namespace), () => {
    using links = new Links();
    const eth0 = links.read().filter(({ name }) => name === "eth0");
    return probe(texts.map(parseAddress), eth0);
  });
  return {
    taken: [...taken].map(([address, mac]) => `${formatAddress(address)} ${mac}`).sort(),
    unable: unable.map(formatAddress),
  };
}

test("a machine that has the address is found, in the node's subnet or not, and the node's own does not count", async () => {
  const found = await probeFrom("node", "10.9.0.2", "10.9.0.3", "192.0.2.7", "192.0.2.8", "10.9.0.1");
  assert.equal(found, { taken: [`10.9.0.2 ${OTHER.mac}`, `192.0.2.7 ${OTHER.mac}`], unable: [] });
});

test("of two that probe for one address at the same time, the first one leaves it to the other", async () => {
  const one = probeFrom("node", "10.9.0.9");
  await sleep(100);
  const [a, b] = await Promise.all([one, probeFrom("other", "10.9.0.9")]);
  assert.equal([a.taken, b.taken], [[`10.9.0.9 ${OTHER.mac}`], []]); // it sends no more probes then
});

test("a machine that has an address of IPv6 is found by Neighbour Discovery", async () => {
  const found = await probeFrom("node", "2001:db8::2", "2001:db8::3", "10.9.0.2");
  assert.equal(found, { taken: [`10.9.0.2 ${OTHER.mac}`, `2001:db8::2 ${OTHER.mac}`], unable: [] });
});

test("of two that probe for one address of IPv6 at the same time, the first one leaves it to the other", async () => {
  const one = probeFrom("node", "2001:db8::9");
  await sleep(100);
  const [a, b] = await Promise.all([one, probeFrom("other", "2001:db8::9")]);
  assert.equal([a.taken, b.taken], [[`2001:db8::9 ${OTHER.mac}`], []]);
});

test("an address cannot be probed where there is no interface, or none that speaks its family", async () => {
  namespaces.sysctl("node", "net/ipv6/conf/eth0/disable_ipv6", 1);
  const found = await probeFrom("node", "2001:db8::2");
  namespaces.sysctl("node", "net/ipv6/conf/eth0/disable_ipv6", 0);
  assert.equal(found, { taken: [], unable: ["2001:db8::2"] });
  assert.equal(await probe([parseAddress("10.9.0.2")], []), { taken: new Map(), unable: [parseAddress("10.9.0.2")] });
});

test("where the interface has no link, nothing can be probed: silence would say that all is free", async () => {
  namespaces.ip("other", ["link set eth0 down"]);
  const found = await probeFrom("node", "10.9.0.2", "192.0.2.7");
  namespaces.ip("other", ["link set eth0 up"]);
  assert.equal(found, { taken: [], unable: ["10.9.0.2", "192.0.2.7"] });
});

test.run();
