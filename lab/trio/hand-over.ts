import { setTimeout as sleep } from "node:timers/promises";
import { NODES, nodeByMac, ownerOf, VIPS } from "../topology.ts";
import { BUCKET, type Report, type Seen, sumOf } from "../watch/watch.ts";
import type { Trio } from "./trio.ts";

/** One event, as a client saw it that asked for every VIP each 10 ms. */
export interface Act {
  /** The picture: lines to show. */
  lines: string[];
  /** What was not as promised. */
  broken: string[];
}

/** A node dies: the least that is shown before it, and after it, ms. */
const BEFORE = 500;
const AFTER = 1_500;
/** Three intervals of probes and half of one, and the claim; with room for a busy machine. */
const LATE = 2_000;

/** The node that dies: the owner of the second VIP. */
const VICTIM = ownerOf(VIPS[1]!);

/** A node's cable is pulled and its speaker killed: its VIPs go to the others, each once. */
export async function death(trio: Trio): Promise<Act> {
  const speaker = trio.speakers.find(({ node }) => node === VICTIM)!;
  const report = await trio.watched(VIPS, async () => {
    await sleep(BEFORE);
    trio.link(VICTIM, "down");
    await speaker.signal("SIGKILL");
    await sleep(AFTER);
  });
  const its = report.vips.filter(({ vip }) => ownerOf(vip) === VICTIM);
  const [least, most] = [
    Math.min(...its.map(({ silence }) => silence)),
    Math.max(...its.map(({ silence }) => silence)),
  ];
  const broken = judge(report, (seen) => (ownerOf(seen.vip) === VICTIM ? 1 : 0));
  if (most > LATE) broken.push(`a VIP of ${VICTIM.name} was silent for ${most.toFixed(0)} ms after its death`);
  const lines = [
    ` ${VICTIM.name} dies: its cable is pulled, its speaker killed. Its ${its.length} VIPs were silent for ${least.toFixed(0)} to ${most.toFixed(0)} ms:`,
    ...picture(report),
  ];
  return { lines, broken };
}

/** The node is back, and takes its VIPs from those that have them. */
export async function comeback(trio: Trio): Promise<Act> {
  const speaker = trio.speakers.find(({ node }) => node === VICTIM)!;
  const report = await trio.watched(VIPS, async () => {
    speaker.isat("clean"); // a machine that has died comes back with nothing in its kernel
    trio.link(VICTIM, "up");
    speaker.start();
    await speaker.ready();
    await sleep(BEFORE);
  });
  const { silence, doubled } = sumOf(report);
  const lines = [
    ` ${VICTIM.name} comes back and takes its VIPs again, each once its last owner's kernel has granted it: ` +
      `${silence === 0 ? "no request was unanswered" : `silent for at most ${silence.toFixed(0)} ms`}, ${doubled} double answers`,
  ];
  return { lines, broken: judge(report, (seen) => (ownerOf(seen.vip) === VICTIM ? 1 : 0)) };
}

/** A speaker is stopped and another one started in its place, as in an upgrade: nothing moves, nothing is unanswered. */
export async function upgrade(trio: Trio): Promise<Act> {
  const speaker = trio.speakers.at(-1)!;
  const report = await trio.watched(VIPS, async () => {
    await sleep(BEFORE);
    await speaker.signal("SIGTERM");
    await sleep(1_000);
    speaker.start();
    await speaker.ready();
    await sleep(BEFORE);
  });
  const { asked, unanswered } = sumOf(report);
  const broken = judge(report, () => 0);
  if (unanswered > 0) broken.push(`${unanswered} requests were unanswered while ${speaker.node.name} was upgraded`);
  const lines = [
    ` ${speaker.node.name}'s speaker is upgraded: stopped, and started again after a second. Of ${asked} requests ${unanswered} unanswered:`,
    ...picture(report),
  ];
  return { lines, broken };
}

/** No request had two answers, and each VIP moved as often as it may. */
function judge(report: Report, moves: (seen: Seen) => number): string[] {
  return report.vips.flatMap((seen) => {
    const found: string[] = [];
    if (seen.doubled > 0) found.push(`${seen.doubled} requests for ${seen.vip} had two answers`);
    if (seen.answerers.length - 1 !== moves(seen)) {
      const names = seen.answerers.map(({ mac }) => nodeByMac(mac)?.name ?? mac).join(", ");
      found.push(`${seen.vip} was answered by ${names || "nobody"}`);
    }
    return found;
  });
}

/** A row for each VIP, a character for each 50 ms: the number of the node that answered. */
function picture({ vips }: Report): string[] {
  const width = 80;
  const cut = (timeline: string) => timeline.slice(0, width);
  const key = NODES.map(({ name }) => `${name.at(-1)} ${name} answers`).join(", ");
  return [
    "",
    ...vips.map(({ vip, timeline }) => ` ${vip.padEnd(10)} ${cut(timeline)}`),
    ` ${"".padEnd(10)} a character is ${BUCKET} ms: ${key}, . nobody does`,
    "",
  ];
}
