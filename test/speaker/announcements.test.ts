// limit: 120 s
/** When a running speaker announces what it owns already, beside its refreshes. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { isAnnouncement, measured, Rig, VIP } from "../../lab/kernel/rig.ts";

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

test.run();
