// limit: 180 s
/** What three real speakers on a real bridge tell a real client about where to send, and what their frames need. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NODES, VIPS } from "../../lab/topology.ts";
import { assertQuiet, Trios, words } from "../../lab/trio/trios.ts";

const test = suite("announcements");
const trios = new Trios("isat-t-lab-ann-");
test.after(() => trios[Symbol.dispose]());

test("links whose MTU has no room for all claims in one frame: each VIP is answered by its owner all the same", async () => {
  await using trio = trios.make();
  for (const { name } of NODES) trio.namespaces.ip(trio.place(name), ["link set eth0 mtu 200"]);
  await trio.start();
  assertQuiet(await trio.watched(VIPS, () => sleep(1_000)));
  for (const speaker of trio.speakers) assert.not.match(words(speaker), /^error/m);
});

test.run();
