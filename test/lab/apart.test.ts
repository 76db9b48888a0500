// limit: 180 s
/** Two of three nodes do not hear each other, and the third one hears both, as where one link between switches fails. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { NODES, VIPS } from "../../lab/topology.ts";
import type { Trio } from "../../lab/trio/trio.ts";
import { assertQuiet, measured, n1, n3, shares, silenceOf, speakerOf, Trios, without } from "../../lab/trio/trios.ts";
import { sumOf, turns } from "../../lab/watch/watch.ts";

const test = suite("apart");
const trios = new Trios("isat-t-apart-");
test.after(() => trios[Symbol.dispose]());

/** The client asks this often, ms. */
const EACH = 10;

/** The switch passes nothing between n1 and n3, until this is disposed of. */
function part(trio: Trio): Disposable {
  const place = trio.place("switch");
  const chain = (to: typeof n1, from: typeof n1) => [
    `chain to${to.port} {`,
    `type filter hook egress device "p${to.port}" priority -500`,
    `ether saddr ${from.mac} drop`,
    "}",
  ];
  const lines = ["table netdev apart {", ...chain(n1, n3), ...chain(n3, n1), "}"];
  trios.namespaces.nft(place, `${lines.join("\n")}\n`);
  return { [Symbol.dispose]: () => trios.namespaces.nft(place, "delete table netdev apart") };
}

test("two nodes do not hear each other for 8 s, by ARP neither, and the third one hears both: nothing moves, and they say so", async () => {
  await using trio = await trios.start();
  const report = await trio.watched(VIPS, async () => {
    await sleep(300);
    {
      using _parted = part(trio);
      await sleep(4_000);
      for (const [node, other] of [
        [n1, n3],
        [n3, n1],
      ] as const) {
        const speaker = speakerOf(trio, node);
        const text = new RegExp(`^${other.name} is not heard on eth0, though n2 hears it`, "m");
        assert.match(speaker.status().warnings.join("\n"), text);
        assert.match(speaker.isat("status"), new RegExp(`^${other.name} +eth0 +alive +apart`, "m"));
      }
      await sleep(4_000);
    }
    await sleep(2_000);
  });
  assertQuiet(report);
  for (const speaker of trio.speakers) {
    assert.not.match(speaker.status().warnings.join(), "is not heard");
  }
});

test("one of two nodes that do not hear each other dies: the others take its VIPs", async () => {
  await using trio = await trios.start();
  using _parted = part(trio);
  const speaker = speakerOf(trio, n3);
  await until("they are apart", () => /apart/.test(speakerOf(trio, n1).isat("status")), 5_000);
  const report = await trio.watched(VIPS, async () => {
    await sleep(300);
    trio.link(n3, "down");
    await speaker.signal("SIGKILL");
    await sleep(3_000);
  });
  const { doubled, silence } = sumOf(report);
  measured(`one of two nodes that are apart dies: ${silenceOf(report)}`);
  assert.ok(doubled * EACH <= 500, `${doubled} requests had two answers`);
  assert.ok(silence < 2_000, `silent for ${silence} ms`);
  assert.equal(turns(report), shares(NODES, without(n3)));
});

test.run();
