// limit: 120 s
/** When a running speaker announces what it owns already, beside its refreshes. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NOTIFY_PEERS, tellOfEvent } from "../../lab/kernel/link-event.ts";
import { must, until } from "../../lab/kernel/process.ts";
import { isAnnouncement, measured, NODE_MAC, Rig, VIP } from "../../lab/kernel/rig.ts";
import { type Arp, formatMac } from "../../src/core/arp.ts";

const test = suite("announcements of a speaker");
const rig = new Rig("isat-t-spk-ann-");

test.before(() => {
  rig.namespaces.ip("client", ["addr add 10.9.255.100/16 dev c0"]);
});
test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

const announced = () => rig.heard().filter((arp) => isAnnouncement(arp, VIP)).length;

/** Waits until so many announcements have come. */
async function hears(count: number, limit?: number): Promise<void> {
  let heard = 0;
  await until(`${count} announcements`, () => (heard += announced()) >= count, limit);
}

const NFT = [
  "table netdev isat-test",
  "{ chain out { type filter hook egress device eth0 priority 0; ether type arp drop; }; }",
];
const walls: [what: string, up: string[], down: string[]][] = [
  ["an egress filter", ["nft", `${NFT[0]} ${NFT[1]}`], ["nft", `delete ${NFT[0]}`]],
  [
    "a queue that is full",
    "tc qdisc add dev eth0 root pfifo limit 0".split(" "),
    "tc qdisc del dev eth0 root".split(" "),
  ],
];
for (const [what, [command, ...up], [, ...down]] of walls) {
  test(`announcements that ${what} refuses are said, and repeated until they leave`, async () => {
    await rig.must("node", command!, ...up);
    try {
      announced();
      const speaker = await rig.serve();
      const line = await speaker.says(/^announcements are refused on eth0/);
      assert.is(line.level, "error");
      assert.is(announced(), 0);
    } finally {
      await rig.must("node", command!, ...down);
    }
    const began = performance.now();
    await hears(1);
    measured(`announced after ${what} was gone`, `${Math.round(performance.now() - began)} ms`);
    await hears(2);
    await sleep(500);
    assert.is(announced(), 0, "three are a burst");
  });
}

const WANTED = {
  request: ["1 00:00:00:00:00:00"],
  reply: [`2 ${NODE_MAC}`],
  both: ["1 00:00:00:00:00:00", `2 ${NODE_MAC}`],
};
for (const [form, wanted] of Object.entries(WANTED)) {
  test(`garp.form: ${form} is what leaves, and a client that has an entry takes it`, async () => {
    const client = ["-n", rig.namespaces.full("client"), "neigh", "replace", VIP, "dev", "c0", "nud", "stale"];
    await must("ip", ...client, "lladdr", "02:00:00:00:00:77");
    const isOurs = ({ spa, tpa }: Arp) => spa.join(".") === VIP && tpa.join(".") === VIP;
    rig.heard();
    await rig.serve({ more: `garp: { refresh: 500h, form: ${form} }` });
    const heard: Arp[] = [];
    await until("a burst", () => {
      heard.push(...rig.heard().filter(isOurs));
      return heard.length >= 3 * wanted.length;
    });
    const shapes = heard.map(({ op, tha }) => `${op} ${formatMac(tha)}`);
    assert.equal(shapes, [...wanted, ...wanted, ...wanted]);
    for (const { source, sha, destination } of heard)
      assert.equal([source, sha, destination].map(formatMac), [NODE_MAC, NODE_MAC, "ff:ff:ff:ff:ff:ff"]);
    assert.match(await must("ip", "-n", rig.namespaces.full("client"), "neigh", "show", VIP), new RegExp(NODE_MAC));
  });
}

/** The kernel tells of an event of the node's eth0. */
const tell = (event: number) => tellOfEvent(rig.namespaces.full("node"), "eth0", rig.ifindex("eth0"), event);

for (const [what, event] of [
  ["a bond has failed over", 3],
  ["neighbours have to be told", NOTIFY_PEERS],
] as const) {
  test(`all that is owned is announced anew when the kernel says that ${what}`, async () => {
    await rig.serve();
    await hears(3);
    tell(6); // IFLA_EVENT_BONDING_OPTIONS: nothing has moved
    await sleep(500);
    assert.is(announced(), 0);
    tell(event);
    await hears(3);
  });
}

test("a bridge is announced anew when its port has moved", async () => {
  rig.namespaces.ip("node", ["link add br9 type bridge", "link set br9 up", "link set eth0 master br9"]);
  try {
    await rig.serve({ interfaces: "[br9]" });
    const bridged = () => rig.heard().filter(({ spa, tpa }) => spa.join(".") === VIP && tpa.join(".") === VIP).length;
    let heard = 0;
    await until("a burst", () => (heard += bridged()) === 3);
    tell(NOTIFY_PEERS);
    await until("another burst", () => (heard += bridged()) === 6);
  } finally {
    await rig.reset();
    rig.namespaces.ip("node", ["link del br9"]);
  }
});

test.run();
