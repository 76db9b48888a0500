import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, must, until } from "../../lab/kernel/process.ts";
import { CLIENT_IP, isAnnouncement, measured, NODE_IP, NODE_MAC, Rig, VIP } from "../../lab/kernel/rig.ts";
import { formatMac } from "../../src/core/arp.ts";
import { cannotAnnounceOn, type Link } from "../../src/link/links.ts";
import { linkOf } from "../core/stage.ts";

const test = suite("links that change under a running speaker");
const rig = new Rig("isat-t-spk-links-");
const NEW_MAC = "02:00:00:00:00:aa";

test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

const ip = (...lines: string[]) => rig.namespaces.ip("node", lines);
const entryOf = (name: string) => rig.maps(({ interfaces }) => interfaces.get(rig.ifindex(name)));

/** Waits until a condition holds, and prints how long it took. isat aims at 250 ms. */
async function noticed(what: string, condition: () => unknown): Promise<void> {
  const began = performance.now();
  await until(what, async () => Boolean(await condition()), 3000);
  measured(what, `${Math.round(performance.now() - began)} ms`);
}

/** Waits for a whole burst of announcements of the VIP, and checks their source. */
async function announces(mac: string, port = rig.client): Promise<void> {
  const all: { at: number; source: string; sha: string; destination: string; tha: string }[] = [];
  await until(
    "three announcements",
    () => {
      for (const arp of rig.heard(port)) {
        if (!isAnnouncement(arp)) continue;
        const [source, sha, destination, tha] = [arp.source, arp.sha, arp.destination, arp.tha].map(formatMac);
        all.push({ at: performance.now(), source: source!, sha: sha!, destination: destination!, tha: tha! });
      }
      return all.length >= 3;
    },
    8000,
  );
  assert.is(all.length, 3);
  for (const { source, sha, destination, tha } of all) {
    assert.equal(
      { source, sha, destination, tha },
      { source: mac, sha: mac, destination: "ff:ff:ff:ff:ff:ff", tha: "00:00:00:00:00:00" },
    );
  }
}

test("a MAC that changes is answered with and announced", async () => {
  const speaker = await rig.serve();
  await announces(NODE_MAC);
  const from = speaker.log.length;
  ip(`link set eth0 address ${NEW_MAC}`);
  await noticed("MAC changed, in the kernel's map", () => entryOf("eth0")?.mac_text === NEW_MAC);
  await speaker.says(new RegExp(`interface changed: eth0 .*${NEW_MAC}`), { from });
  await rig.answersWith(NEW_MAC);
  assert.is(formatMac(entryOf("eth0")!.mac), NEW_MAC);
  rig.heard();
  ip(`link set eth0 address ${NODE_MAC}`);
  await announces(NODE_MAC);
  await rig.answersWith(NODE_MAC);
});

test("an interface that goes down and up again answers and announces", async () => {
  const speaker = await rig.serve();
  await announces(NODE_MAC);
  const attached = await rig.attached();
  let from = speaker.log.length;
  const began = performance.now();
  ip("link set eth0 down");
  await speaker.says(/interface changed: eth0 .*down\)/, { from });
  measured("interface down, logged", `${Math.round(performance.now() - began)} ms`);
  from = speaker.log.length;
  const back = performance.now();
  ip("link set eth0 up");
  await speaker.says(/interface changed: eth0 .*up\)/, { from });
  measured("interface up, logged", `${Math.round(performance.now() - back)} ms`);
  await announces(NODE_MAC);
  await rig.answersWith();
  await becomes(() => rig.attached(), attached);
});

test("the egress filter's own address follows the addresses that are added and removed", async () => {
  const speaker = await rig.serve();
  const text = () => entryOf("eth0")?.address.join(".");
  assert.is(text(), NODE_IP);
  ip("addr add 10.9.255.2/16 dev eth0", `addr del ${NODE_IP}/16 dev eth0`);
  try {
    // With the first address of a subnet the kernel removes the others too, unless it promotes secondaries.
    ip("addr replace 10.9.255.2/16 dev eth0");
    await noticed("address changed, in the kernel's map", () => text() === "10.9.255.2");
    await rig.answersWith();
    ip("addr del 10.9.255.2/16 dev eth0");
    await noticed("address gone, in the kernel's map", () => text() === "0.0.0.0");
    await speaker.says(/outside of every subnet of eth0/);
    await rig.answersWith();
  } finally {
    ip(`addr replace ${NODE_IP}/16 dev eth0`);
  }
  await noticed("address back, in the kernel's map", () => text() === NODE_IP);
});

test("a VIP that becomes the node's own address is logged, and the others are answered", async () => {
  const speaker = await rig.serve({ vips: ["{ address: 10.9.0.1-10.9.0.2, nodes: [n1] }"] });
  ip("addr add 10.9.0.2/32 dev eth0");
  try {
    await speaker.says(/Cannot announce 10.9.0.2 as it is this node's own address on eth0/);
    await rig.answersWith();
    assert.is(entryOf("eth0")!.address.join("."), NODE_IP);
  } finally {
    ip("addr del 10.9.0.2/32 dev eth0");
  }
});

test("a VIP that becomes a default gateway's address is left to the gateway, and the others are answered", async () => {
  const speaker = await rig.serve({ vips: ["{ address: 10.9.0.1-10.9.0.2, nodes: [n1] }"] });
  await rig.answersWith(NODE_MAC, "10.9.0.2");
  ip("route add default via 10.9.0.2 dev eth0");
  try {
    await speaker.says(/Cannot announce 10.9.0.2 \(line \d+\) as it is a default gateway's address/);
    assert.equal(await rig.answers("10.9.0.2"), []);
    await rig.answersWith();
  } finally {
    ip("route del default");
  }
});

test("an interface renamed out of the configuration is only guarded, and answers again when it has its name back", async () => {
  const speaker = await rig.serve({});
  const ifindex = rig.ifindex("eth0");
  const counts = () => rig.maps(({ interfaces }) => interfaces.get(ifindex)?.is_guard === false);
  ip("link set eth0 name other0");
  try {
    await noticed("renamed away, guarded", () => !counts());
    await speaker.says(/interface other0 .*: guarded, nothing is announced there/);
    await until("silent", async () => (await rig.answers()).length === 0);
  } finally {
    ip("link set other0 name eth0");
  }
  await noticed("renamed back, announced on", counts);
  assert.is(rig.ifindex("eth0"), ifindex);
  await rig.answersWith();
  assert.equal(rig.pins(), rig.expectedPins("tcx"));
});

test("an interface renamed within a glob keeps answering, and its name in the maps follows", async () => {
  const speaker = await rig.serve({ interfaces: '["*0"]' });
  await rig.answersWith();
  const answered = rig.answered();
  ip("link set eth0 name lan0");
  try {
    await noticed("renamed within a glob", () => entryOf("lan0")?.name === "lan0");
    await rig.answersWith();
    assert.is(rig.answered(VIP, "lan0"), answered + 1);
    assert.is(speaker.said(/is gone/), undefined);
  } finally {
    ip("link set lan0 name eth0");
  }
});

test("an interface that is deleted and made again is attached to anew, with the new one's MAC", async () => {
  rig.wire("eth1", "c1", "02:00:00:00:00:11", "02:00:00:00:01:64");
  const speaker = await rig.serve({ interfaces: "[eth0, eth1]" });
  {
    using c1 = rig.port("client", "c1");
    await rig.answersWith("02:00:00:00:00:11", VIP, c1);
  }
  const gone = rig.ifindex("eth1");
  ip("link del eth1");
  await noticed("interface deleted, out of the kernel's map", () =>
    rig.maps(({ interfaces }) => interfaces.get(gone) === undefined),
  );
  await speaker.says(/interface eth1 is gone/);
  await rig.answersWith();
  await until("the dead links' pins are gone", () => rig.pins().join() === rig.expectedPins("tcx").join());

  rig.wire("eth1", "c1", "02:00:00:00:00:12", "02:00:00:00:01:64");
  using again = rig.port("client", "c1");
  await noticed(
    "interface made again, attached",
    async () => (await rig.attached("eth1"))["tcx ingress"]?.length === 1,
  );
  await announces("02:00:00:00:00:12", again);
  await rig.answersWith("02:00:00:00:00:12", VIP, again);
  // Deleted and made again between two looks, with the same ifindex.
  const ifindex = rig.ifindex("eth1");
  await must(
    "sh",
    "-c",
    `ip -n "$0" link del eth1 && ip -n "$0" link add eth1 index ${ifindex} address 02:00:00:00:00:13 type veth peer name c1 netns "$1" && ip -n "$0" link set eth1 up && ip -n "$1" link set c1 up`,
    rig.namespaces.full("node"),
    rig.namespaces.full("client"),
  );
  using third = rig.port("client", "c1");
  assert.is(rig.ifindex("eth1"), ifindex);
  await rig.answersWith("02:00:00:00:00:13", VIP, third);
  ip("link del eth1");
});

test("an interface that moves to another namespace is detached there", async () => {
  rig.namespaces.add("pod");
  rig.wire("eth2", "c2", "02:00:00:00:00:21", "02:00:00:00:02:64");
  const speaker = await rig.serve({ interfaces: "[eth0, eth2]" });
  using c2 = rig.port("client", "c2");
  await rig.answersWith("02:00:00:00:00:21", VIP, c2);
  ip(`link set eth2 netns ${rig.namespaces.full("pod")}`);
  await noticed(
    "interface moved away, detached there",
    async () => Object.keys(await rig.attached("eth2", "pod")).length === 0,
  );
  await speaker.says(/interface eth2 is gone/);
  rig.namespaces.ip("pod", ["link set eth2 up"]);
  assert.equal(await rig.answers(VIP, c2), []);
  await rig.answersWith();
  rig.namespaces.ip("pod", ["link del eth2"]);
});

test("a glob matches an interface that appears later", async () => {
  const serving = await rig.serve({ interfaces: '["e*"]' });
  rig.wire("ens3", "c3", "02:00:00:00:00:31", "02:00:00:00:03:64");
  using c3 = rig.port("client", "c3");
  await noticed("interface appeared, attached", async () => (await rig.attached("ens3"))["tcx ingress"]?.length === 1);
  await rig.answersWith("02:00:00:00:00:31", VIP, c3);
  await serving.says(/^interface ens3/);
  // An interface that the glob does not match stays as it is.
  rig.wire("lan9", "c9", "02:00:00:00:00:91", "02:00:00:00:09:64");
  await rig.answersWith();
  await becomes(() => rig.attached("lan9"), {});
  ip("link del ens3", "link del lan9");
});

test("the default route chooses the interface of a VIP in no subnet, by its metric", async () => {
  const settings = { interfaces: null, vips: ["{ address: 192.0.2.7, nodes: [n1] }"] };
  rig.wire("eth4", "c4", "02:00:00:00:00:41", "02:00:00:00:04:64");
  ip("addr add 10.10.0.1/16 dev eth4");
  ip("route add default via 10.10.0.254 dev eth4 metric 200", `route add default via ${CLIENT_IP} dev eth0 metric 100`);
  const speaker = await rig.serve(settings);
  using c4 = rig.port("client", "c4");
  await rig.answersWith(NODE_MAC, "192.0.2.7");
  assert.equal(await rig.answers("192.0.2.7", c4), []);
  await speaker.end();
  await rig.clean();

  ip(`route del default via ${CLIENT_IP} dev eth0 metric 100`);
  const other = await rig.serve(settings);
  await rig.answersWith("02:00:00:00:00:41", "192.0.2.7", c4);
  assert.equal(await rig.answers("192.0.2.7"), []);
  // isat goes on answering when the route is removed.
  ip("route del default via 10.10.0.254 dev eth4 metric 200");
  await other.says(/./);
  await rig.answersWith("02:00:00:00:00:41", "192.0.2.7", c4);
  await other.end();
  await rig.clean();
  ip("link del eth4");
});

const link = linkOf(2, "eth0", { addresses: [] });
const master: Link = { ...link, ifindex: 3, name: "m0" };
const devices: [name: string, link: Link, reason: string | undefined][] = [
  ["a device without a master may", link, undefined],
  ["a VRF's slave may", { ...link, portOf: { kind: "vrf", ifindex: 3 } }, undefined],
  [
    "a bond's slave may not",
    { ...link, portOf: { kind: "bond", ifindex: 3 } },
    "eth0 is a slave of bond m0: announce on m0, which receives its frames",
  ],
  [
    "a bridge's port may not",
    { ...link, portOf: { kind: "bridge", ifindex: 3 } },
    "eth0 is a port of bridge m0: announce on m0, which receives its frames",
  ],
  [
    "a team's port may not",
    { ...link, portOf: { kind: "team", ifindex: 3 } },
    "eth0 is a port of team m0: announce on m0, which receives its frames",
  ],
  [
    "a port whose master is in another namespace may not",
    { ...link, portOf: { kind: "bridge", ifindex: 9 } },
    "eth0 is a port of bridge its master: announce on its master, which receives its frames",
  ],
  [
    "a device that is not Ethernet may not",
    { ...link, name: "tun0", isEthernet: false },
    "tun0 is not an Ethernet interface, or has ARP switched off",
  ],
];
for (const [name, each, expected] of devices) {
  test(`${name} announce`, () => assert.is(cannotAnnounceOn(each, [link, master]), expected));
}

test.run();
