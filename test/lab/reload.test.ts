// limit: 180 s
/**
 * Three real speakers whose configurations change while they run. A bad configuration is refused as a whole: no peer is
 * lost by it, and nothing moves.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import type { Speaker } from "../../lab/speaker.ts";
import { NODES, VIPS } from "../../lab/topology.ts";
import {
  assertMoves,
  assertQuiet,
  n1,
  n2,
  n3,
  rewrite,
  speakerOf,
  Trios,
  without,
  words,
} from "../../lab/trio/trios.ts";
import { sumOf, turns } from "../../lab/watch/watch.ts";

const test = suite("reload");
const trios = new Trios("isat-t-load-");
test.after(() => trios[Symbol.dispose]());

/** Changes a speaker's configuration, and waits until it is refused. */
async function refused(speaker: Speaker, change: (text: string) => string, why: RegExp): Promise<void> {
  const from = speaker.log.length;
  rewrite(speaker, change);
  const line = await until("it refuses", () => speaker.log.slice(from).find(({ msg }) => msg.includes("refused")));
  assert.match(line.msg, why);
  assert.not.match(words(speaker).split("\n").slice(from).join("\n"), "joined");
}

const misnamed = (text: string) => text.replace("interfaces: [eth0]", "interfaces: [eht0]");
const NO_SUCH = /Cannot announce on eht\d as there is no such interface/;

test("a mistyped interface moves nothing, even while a peer's speaker is away", async () => {
  await using trio = await trios.start({ more: "hold: 20s" });
  await speakerOf(trio, n3).signal("SIGTERM");
  await sleep(4_000); // it is held by then
  const report = await trio.watched(VIPS, async () => {
    await sleep(200);
    await refused(speakerOf(trio, n1), misnamed, NO_SUCH);
    await sleep(1_500);
  });
  assertQuiet(report);
});

const withMembership = (text: string, value: string) => text.replace(/^membership: .*$/m, `membership: ${value}`);

test("the wire keys and the probe interval of a refused file are not used", async () => {
  await using trio = await trios.start();
  const key = join(trio.folder, "new.key");
  writeFileSync(key, `${"k".repeat(44)}\n`, { mode: 0o600 });
  const report = await trio.watched(VIPS, async () => {
    await sleep(200);
    const change = (text: string) => withMembership(misnamed(text), `{ keys: [${key}], interval: 1s }`);
    await refused(speakerOf(trio, n1), change, NO_SUCH);
    await sleep(2_000);
  });
  assertQuiet(report);
  const { members } = speakerOf(trio, n2).status();
  assert.is(members.filter(({ isAlive }) => isAlive).length, 3);
});

test("a file with another node's name, or another kind of membership, is refused, and nothing moves", async () => {
  await using trio = await trios.start();
  const speaker = speakerOf(trio, n1);
  const report = await trio.watched(VIPS, async () => {
    for (const [key, change] of [
      ["node is now m1", (text: string) => text.replace(/^node: n1$/m, "node: m1").replace("name: n1", "name: m1")],
      ["membership.kind is now static", (text: string) => withMembership(text, "{ kind: static }")],
    ] as const) {
      const before = { text: "" };
      await refused(
        speaker,
        (text) => {
          before.text = text;
          return change(text);
        },
        new RegExp(`${key}: that takes effect when isat is started again`),
      );
      const from = speaker.log.length;
      rewrite(speaker, () => before.text);
      await until("it is served again", () =>
        speaker.log.slice(from).some(({ msg }) => msg === "configuration applied"),
      );
    }
    await sleep(500);
  });
  assertQuiet(report);
});

test("three nodes become two, the third drained first, and three again: only its VIPs move", async () => {
  await using trio = await trios.start();
  const third = speakerOf(trio, n3);
  const listed = /nodes: \[.*\]/;
  const all = readFileSync(third.config, "utf8").match(listed)![0];
  const two = all.replace(/, \{ name: n3[^}]*\}/, "");
  await refused(third, (text) => text.replace(listed, two), /this node is "n3".* which is not in source.nodes: n1, n2/);
  rewrite(third, (text) => text.replace(listed, all));
  const list = (nodes: string) => {
    for (const node of [n1, n2]) rewrite(speakerOf(trio, node), (text) => text.replace(listed, nodes));
  };
  const report = await trio.watched(VIPS, async () => {
    await sleep(200);
    third.isat("drain");
    await sleep(1_500);
    list(two);
    await sleep(1_500);
    list(all);
    await sleep(1_500);
    third.isat("undrain");
    await sleep(1_500);
  });
  assertMoves(report, NODES, without(n3), NODES);
});

test("a NIC gets another MAC: its VIPs stay, with the new MAC, and no peer takes them", async () => {
  await using trio = await trios.start();
  await sleep(1_000);
  for (const mac of ["02:00:00:00:00:17", n1.mac]) {
    const before = turns(await trio.watched(VIPS, () => sleep(300)));
    const report = await trio.watched(VIPS, async () => {
      await sleep(300);
      trios.namespaces.ip(trio.place("n1"), [`link set eth0 address ${mac}`]);
      await sleep(2_500);
    });
    assert.is(sumOf(report).doubled, 0);
    const nameOf = (address: string) => (address === n1.mac ? "n1" : address);
    const [old, young] = mac === n1.mac ? ["02:00:00:00:00:17", "n1"] : ["n1", nameOf(mac)];
    const expected = Object.entries(before).map(([vip, owner]) => [vip, owner === old ? `${old} > ${young}` : owner]);
    assert.equal(turns(report), Object.fromEntries(expected));
  }
});

test("a node that was alone, and frozen while another joined, takes nothing back without asking", async () => {
  await using trio = trios.make({ more: "hold: 20s", nodes: ["n1", "n2"] });
  const [first, second] = [speakerOf(trio, n1), speakerOf(trio, n2)];
  trio.link(n2, "down");
  first.start();
  await first.ready();
  // Nobody else is seen on the link, which may be shut by STP: so it takes 30 s.
  await until("it has all", () => first.status().vips.every(({ state }) => state === "owned"), 45_000);
  const report = await trio.watched(VIPS, async () => {
    await sleep(300);
    await first.signal("SIGSTOP");
    trio.link(n2, "up");
    await sleep(4_000);
    second.start();
    await second.ready();
    await sleep(1_000);
    await first.signal("SIGCONT");
    await sleep(2_000);
  });
  assertMoves(report, [n1], [n1, n2]);
  const from = words(first).lastIndexOf("is no longer owned here");
  assert.not.match(words(first).slice(from), "is owned here now"); // nor announced
});

test.run();
