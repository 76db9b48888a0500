// limit: 180 s
/** What three real speakers on a real bridge tell a real client about where to send, and what their frames need. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { parseMac } from "../../lab/mac.ts";
import { PacketPort } from "../../lab/packet-port.ts";
import { NODES, ownerOf, VIPS } from "../../lab/topology.ts";
import { neighbours, ping } from "../../lab/trio/neighbours.ts";
import { assertQuiet, measured, n1, Trios, without, words } from "../../lab/trio/trios.ts";
import { Learner } from "../../lab/watch/learner.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { ARP_REPLY, ARP_REQUEST, announcement, decodeArp, formatMac } from "../../src/core/arp.ts";

const test = suite("announcements");
const trios = new Trios("isat-t-lab-ann-");
test.after(() => trios[Symbol.dispose]());

const same = (a: object, b: object) => JSON.stringify(a) === JSON.stringify(b);

test("a node's port is off the bridge for 2 s, carrier kept: client and switch send to the owners again at once", async () => {
  await using trio = await trios.start();
  using learner = new Learner(trio, VIPS);
  const owners = (nodes: typeof NODES) => Object.fromEntries(VIPS.map((vip) => [vip, ownerOf(vip, nodes).name]));
  const know = (nodes: typeof NODES) => () =>
    same(learner.owners, owners(nodes)) && same(neighbours(trio, VIPS), owners(nodes));
  await ping(trio, VIPS);
  await until("both know all owners", know(NODES));
  trio.isolate(n1, true);
  const began = performance.now();
  await until("both know the stand-ins", know(without(n1)));
  await sleep(began + 2_000 - performance.now());
  learner.count = 0;
  trio.isolate(n1, false);
  const healed = performance.now();
  await until("both know the owners again", know(NODES));
  measured(
    `port back after 2 s: client and switch know the owners after ${(performance.now() - healed).toFixed(0)} ms`,
  );
  await sleep(5_000);
  assert.ok(know(NODES)());
  measured(`announcements after that, of ${VIPS.length} VIPs: ${learner.count}`);
  assert.ok(learner.count <= 6 * VIPS.length, `${learner.count} announcements`);
});

test("a machine that is no peer announces a VIP: its owner announces it again at once, not too often, and names the MAC", async () => {
  await using trio = await trios.start();
  const { namespaces } = trios;
  const [vip, mac] = [VIPS[0]!, "02:00:00:00:00:77"];
  const place = trio.place("stranger");
  namespaces.add(place);
  namespaces.link({ namespace: place, name: "eth0", mac }, { namespace: trio.place("switch"), name: "p7" });
  namespaces.ip(trio.place("switch"), ["link set p7 master br0"]);
  using stranger = new PacketPort(namespaces.full(place), "eth0");
  const owner = trio.speakers.find(({ node }) => node === ownerOf(vip))!;
  const claim = (op: number) => stranger.send(announcement(parseMac(mac), addressBytes(parseAddress(vip)), op));
  /** The announcements of the VIP by its owner that the stranger has got since this was called last. */
  const defences = () => {
    let count = 0;
    for (let frame = stranger.receive(); frame; frame = stranger.receive()) {
      const arp = decodeArp(frame);
      if (arp && formatMac(arp.sha) === owner.node.mac && addressBytes(parseAddress(vip)).join() === arp.spa.join())
        count += 1;
    }
    return count;
  };
  await ping(trio, [vip]);
  await sleep(4_000); // the owner's first burst is over, and so is a host's locktime
  assert.is(neighbours(trio, VIPS)[vip], owner.node.name);
  for (const op of [ARP_REQUEST, ARP_REPLY]) {
    defences();
    claim(op);
    const claimed = performance.now();
    await until("the owner announces it", () => defences() > 0);
    measured(`a VIP that a stranger claims is announced again after ${(performance.now() - claimed).toFixed(0)} ms`);
    assert.ok(performance.now() - claimed < 2_500);
    await until("the client sends to the owner", () => neighbours(trio, VIPS)[vip] === owner.node.name);
    await sleep(4_000);
  }
  defences();
  for (let times = 0; times < 500; times++) {
    claim(ARP_REQUEST);
    await sleep(10);
  }
  const count = defences();
  assert.ok(count > 0 && count <= 6, `${count} announcements in five seconds`);
  for (const speaker of trio.speakers) {
    const { warnings, interfaces } = speaker.status();
    const isIts = speaker === owner;
    assert.is(warnings.join().includes(`says on eth0 that it has ${vip}: its MAC is ${mac}`), isIts);
    assert.is(words(speaker).includes(mac), isIts);
    assert.is(interfaces[0]!.usurped! >= 400, isIts, `${interfaces[0]!.usurped} times`);
  }
  namespaces.remove(place);
});

test("links whose MTU has no room for all claims in one frame: each VIP is answered by its owner all the same", async () => {
  await using trio = trios.make();
  for (const { name } of NODES) trio.namespaces.ip(trio.place(name), ["link set eth0 mtu 200"]);
  await trio.start();
  assertQuiet(await trio.watched(VIPS, () => sleep(1_000)));
  for (const speaker of trio.speakers) assert.not.match(words(speaker), /^error/m);
});

test.run();
