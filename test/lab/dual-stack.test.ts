// limit: 240 s
/** VIPs of both families on three real speakers: a client asks for all of them, and its kernel sends to them. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { execute, until } from "../../lab/kernel/process.ts";
import { CLIENT, NODES, ownerOf } from "../../lab/topology.ts";
import type { Trio } from "../../lab/trio/trio.ts";
import { MOST, measured, n1, sharesOf, silenceOf, speakerOf, Trios, without } from "../../lab/trio/trios.ts";
import { sumOf, turns } from "../../lab/watch/watch.ts";

const test = suite("dual stack");
const trios = new Trios("isat-t-dual-");
test.after(() => trios[Symbol.dispose]());

const SIXES = Array.from({ length: 8 }, (_, i) => `2001:db8::1:${(i + 1).toString(16)}`);
const VIPS = [...Array.from({ length: 4 }, (_, i) => `10.9.0.${i + 1}`), ...SIXES];
const ALL = [...NODES, CLIENT].map(({ name }) => name);
const vips = ["10.9.0.1-10.9.0.4", '"2001:db8::1:1-2001:db8::1:8"'].map((range) => `{ address: ${range} }`);

/** True if the client's kernel reaches every VIP. */
async function reaches(trio: Trio): Promise<boolean> {
  const client = ["netns", "exec", trio.namespaces.full(trio.place(CLIENT.name)), "ping", "-c1", "-W1"];
  const all = await Promise.all(VIPS.map((vip) => execute("ip", [...client, vip])));
  return all.every(({ status }) => status === 0);
}

test("a node dies: each of its VIPs moves once in both families, no request has two answers, and pings go on", async () => {
  await using trio = await trios.start({ vips }, ALL);
  await until("pings of all VIPs", () => reaches(trio), 20_000);
  const report = await trio.watched(VIPS, async () => {
    await sleep(300);
    trio.link(n1, "down");
    await speakerOf(trio, n1).signal("SIGKILL");
    await sleep(2_500);
  });
  const { doubled, mute, silence } = sumOf(report);
  assert.equal({ ...turns(report), doubled, mute }, { ...sharesOf(VIPS, NODES, without(n1)), doubled: 0, mute: 0 });
  assert.ok(silence < MOST, `silent for ${silence} ms`);
  measured(`a node dies, both families: ${silenceOf(report)}`);
  // The client's kernel goes on with what it knows, unless Advertisements tell it otherwise.
  await until("pings of all VIPs again", () => reaches(trio), 20_000);
  // (The burst of the node that died may have gone on until then.)
  for (const { vip, announced } of report.vips)
    if (ownerOf(vip) === n1) assert.is(announced.at(-1)?.mac, ownerOf(vip, without(n1)).mac);
});

test("a node without IPv6 owns no VIP of IPv6, says so, and takes them when it has it", async () => {
  await using trio = await trios.start(
    { vips },
    without(n1)
      .map(({ name }) => name)
      .concat(CLIENT.name),
  );
  const report = await trio.watched(VIPS, () => sleep(1_000));
  const expected = { ...sharesOf(VIPS, NODES), ...sharesOf(SIXES, without(n1)) };
  assert.equal({ ...turns(report), unanswered: sumOf(report).unanswered }, { ...expected, unanswered: 0 });
  const status = JSON.parse(speakerOf(trio, n1).isat("status", "--json"));
  assert.match(
    status.warnings.join(),
    /This node does not stand for VIPs of IPv6 \(2001:db8::1:1\) as eth0 has no link-local/,
  );
  assert.ok(SIXES.some((vip) => ownerOf(vip) === n1));
  const change = await trio.watched(VIPS, async () => {
    await sleep(300);
    for (const scope of ["eth0", "lo"])
      trio.namespaces.sysctl(trio.place(n1.name), `net/ipv6/conf/${scope}/disable_ipv6`, 0);
    await sleep(4_000);
  });
  const { doubled, mute } = sumOf(change);
  const moved = { ...sharesOf(VIPS, NODES), ...sharesOf(SIXES, without(n1), NODES) };
  assert.equal({ ...turns(change), doubled, mute }, { ...moved, doubled: 0, mute: 0 });
  measured(`a node comes to speak IPv6: ${silenceOf(change)}`);
});

test.run();
