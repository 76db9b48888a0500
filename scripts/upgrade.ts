/**
 * Replaces three speakers of an older bundle by this checkout's, one after the other, while a client asks for every VIP
 * every 10 ms. Started by scripts/try-upgrade. Usage: upgrade.ts REVISION BUNDLE
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { NODE_FLAGS } from "../lab/bundle.ts";
import { Namespaces } from "../lab/namespaces.ts";
import type { Speaker } from "../lab/speaker.ts";
import { NODES, ownerOf, VIPS } from "../lab/topology.ts";
import { Trio } from "../lab/trio/trio.ts";
import { type Report, sumOf, turns } from "../lab/watch/watch.ts";

const [revision, bundle] = process.argv.slice(2) as [string, string];
const OLD = [process.execPath, ...NODE_FLAGS, bundle];
/** A pod's successor starts about this long after its end, ms. */
const PAUSE = 1_000;
/** A hand-over takes less than this, ms. */
const CALM = 2_000;

/** Stops one speaker, and starts this checkout's in its place. */
async function upgrade(speaker: Speaker): Promise<void> {
  await speaker.signal("SIGTERM");
  await sleep(PAUSE);
  speaker.start();
  await speaker.ready();
  await sleep(CALM);
}

/**
 * Prints what the client saw.
 *
 * @param expected the nodes that must answer for a VIP, in turn. Where one moves, a request on its way may be lost
 * @returns false if other nodes answered, a request had two answers, or one was unanswered though its VIP did not move
 */
function judge(what: string, report: Report, expected: (vip: string) => readonly string[]): boolean {
  const { asked, unanswered, doubled, moves, silence } = sumOf(report);
  const found = turns(report);
  const wrong = VIPS.filter((vip) => found[vip] !== expected(vip).join(" > "));
  const lost = report.vips.filter((seen) => seen.unanswered > 0 && expected(seen.vip).length === 1);
  const isGood = wrong.length === 0 && lost.length === 0 && doubled === 0;
  const counts = `${asked} requests, ${unanswered} unanswered, ${doubled} with two answers, ${moves} moves`;
  console.log(
    `${isGood ? "ok  " : "FAIL"} ${what}: ${counts}${silence > 0 ? `, ${silence.toFixed(0)} ms of silence` : ""}`,
  );
  for (const vip of wrong)
    console.log(`     ${vip} was answered by ${found[vip]}, not by ${expected(vip).join(" > ")}`);
  return isGood;
}

/** Upgrades all three with one hook, and moves VIPs between the versions while both are there. */
async function tryHook(namespaces: Namespaces, hook: "auto" | "tc"): Promise<boolean> {
  await using trio = new Trio(namespaces, hook, { vips: VIPS, more: `hook: ${hook}` });
  for (const speaker of trio.speakers) speaker.start(OLD);
  await Promise.all(trio.speakers.map((speaker) => speaker.ready()));
  await sleep(CALM);
  const [first, ...others] = trio.speakers as [Speaker, ...Speaker[]];
  const stays = (vip: string) => [ownerOf(vip).name];
  const rest = NODES.filter((node) => node !== first.node);
  const comesBack = (vip: string) =>
    ownerOf(vip) === first.node ? [first.node.name, ownerOf(vip, rest).name, first.node.name] : stays(vip);

  const results = [
    judge(`hook ${hook}: upgrade ${first.node.name}`, await trio.watched(VIPS, () => upgrade(first)), stays),
    judge(
      `hook ${hook}: drain and undrain ${first.node.name} beside two of ${revision}`,
      await trio.watched(VIPS, async () => {
        first.isat("drain");
        await sleep(CALM);
        first.isat("undrain");
        await sleep(CALM);
      }),
      comesBack,
    ),
  ];
  for (const speaker of others) {
    const report = await trio.watched(VIPS, () => upgrade(speaker));
    results.push(judge(`hook ${hook}: upgrade ${speaker.node.name}`, report, stays));
  }
  return results.every(Boolean);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130));
using namespaces = new Namespaces("isat-upgrade-");
const isGood = [await tryHook(namespaces, "auto"), await tryHook(namespaces, "tc")].every(Boolean);
console.log(
  isGood ? `An upgrade from ${revision} moves nothing.` : `An upgrade from ${revision} is not seamless: see above.`,
);
process.exitCode = isGood ? 0 : 1;
