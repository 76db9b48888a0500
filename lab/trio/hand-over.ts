import { setTimeout as sleep } from "node:timers/promises";
import { NODES, nodeByMac, ownerOf, VIPS } from "../topology.ts";
import { BUCKET, type Report, type Seen, sumOf } from "../watch/watch.ts";
import type { Trio } from "./trio.ts";

/** One event, as seen by a client that asked for every VIP every 10 ms. */
export interface Act {
  /** Lines to print. */
  lines: string[];
  /** Broken promises, a line each. */
  broken: string[];
}

/** The picture of a death shows this much before and after it, ms. */
const BEFORE = 500;
const AFTER = 1_500;
/** A death is noticed after three missed probes, and the claim follows. The rest is room for a busy machine, ms. */
const LATE = 2_000;

/** The node that dies owns the second VIP. */
const VICTIM = ownerOf(VIPS[1]!);

/** Pulls a node's cable and kills its speaker. Each of its VIPs must go to another node, once. */
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
    ` ${VICTIM.name} dies: its cable is pulled and its speaker is killed. The others take over its ${its.length} VIPs, which are`,
    ` silent for ${least.toFixed(0)} to ${most.toFixed(0)} ms:`,
    ...picture(report),
  ];
  return { lines, broken };
}

/** Brings the node back. It must take its VIPs from the nodes that have them. */
export async function comeback(trio: Trio): Promise<Act> {
  const speaker = trio.speakers.find(({ node }) => node === VICTIM)!;
  const report = await trio.watched(VIPS, async () => {
    speaker.isat("clean"); // after a reboot the kernel holds nothing
    trio.link(VICTIM, "up");
    speaker.start();
    await speaker.ready();
    await sleep(BEFORE);
  });
  const { silence, doubled } = sumOf(report);
  const gap = silence === 0 ? "Every request was answered" : `No VIP was silent for more than ${silence.toFixed(0)} ms`;
  const lines = [
    ` ${VICTIM.name} comes back, and answers for each of its VIPs as soon as the kernel of the last owner has released it.`,
    ` ${gap}, and ${doubled === 0 ? "no request" : `${doubled} requests`} had two answers.`,
  ];
  return { lines, broken: judge(report, (seen) => (ownerOf(seen.vip) === VICTIM ? 1 : 0)) };
}

/** Stops a speaker and starts another in its place, as an upgrade does. Nothing may move or go unanswered. */
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
    "",
    ` ${speaker.node.name}'s speaker is upgraded: it is stopped, and another one is started a second later. The kernel goes`,
    ` on answering: of ${asked} requests, ${unanswered === 0 ? "none is" : `${unanswered} are`} unanswered.`,
    ...picture(report),
  ];
  return { lines, broken };
}

/** Every request must have at most one answer, and each VIP must move just as often as `moves` says. */
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

/** Draws a row for each VIP: a character for each 50 ms, the number of the node that answered. */
function picture({ vips }: Report): string[] {
  const width = 80;
  const cut = (timeline: string) => timeline.slice(0, width);
  const key = NODES.map(({ name }) => `${name.at(-1)} ${name} answers`).join(", ");
  return [
    "",
    ...vips.map(({ vip, timeline }) => ` ${vip.padEnd(10)} ${cut(timeline)}`),
    ` ${"".padEnd(10)} one character is ${BUCKET} ms: ${key}, . nobody answers`,
    "",
  ];
}
