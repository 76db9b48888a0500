// limit: 180 s
/** What three real speakers on a real bridge tell a real client about where to send, and what their frames need. */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { execute, until } from "../../lab/kernel/process.ts";
import { CLIENT, NODES, nodeByMac, ownerOf, VIPS } from "../../lab/topology.ts";
import type { Trio } from "../../lab/trio/trio.ts";
import { assertQuiet, measured, n1, Trios, without, words } from "../../lab/trio/trios.ts";
import { Learner } from "../../lab/watch/learner.ts";

const test = suite("announcements");
const trios = new Trios("isat-t-lab-ann-");
test.after(() => trios[Symbol.dispose]());

/** To whom the client's kernel would send now, by its neighbour entries. */
function neighbours(trio: Trio): Record<string, string | undefined> {
  const text = execFileSync("ip", ["-n", trio.namespaces.full(trio.place(CLIENT.name)), "-json", "neigh"]);
  const entries = JSON.parse(`${text}`) as { dst: string; lladdr?: string }[];
  const macOf = (ip: string) => entries.find(({ dst }) => dst === ip)?.lladdr ?? "";
  return Object.fromEntries(VIPS.map((ip) => [ip, nodeByMac(macOf(ip))?.name]));
}

const same = (a: object, b: object) => JSON.stringify(a) === JSON.stringify(b);

test("a node's port is off the bridge for 2 s, carrier kept: client and switch send to the owners again at once", async () => {
  await using trio = await trios.start();
  using learner = new Learner(trio, VIPS);
  const owners = (nodes: typeof NODES) => Object.fromEntries(VIPS.map((vip) => [vip, ownerOf(vip, nodes).name]));
  const know = (nodes: typeof NODES) => () =>
    same(learner.owners, owners(nodes)) && same(neighbours(trio), owners(nodes));
  const ask = ["netns", "exec", trio.namespaces.full(trio.place(CLIENT.name)), "ping", "-c1", "-W1"];
  await Promise.all(VIPS.map((vip) => execute("ip", [...ask, vip])));
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

test("links whose MTU has no room for all claims in one frame: each VIP is answered by its owner all the same", async () => {
  await using trio = trios.make();
  for (const { name } of NODES) trio.namespaces.ip(trio.place(name), ["link set eth0 mtu 200"]);
  await trio.start();
  assertQuiet(await trio.watched(VIPS, () => sleep(1_000)));
  for (const speaker of trio.speakers) assert.not.match(words(speaker), /^error/m);
});

test.run();
