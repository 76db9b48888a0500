import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type LabNode, NODES } from "../../lab/topology.ts";
import { Tap } from "../../lab/trio/tap.ts";
import { askStatus, tellDrain } from "../../src/control/socket.ts";
import { formatMac } from "../../src/core/arp.ts";
import {
  clusterId,
  decodeWire,
  encodeWire,
  type Keyring,
  keyring,
  type Message,
  PUBLIC_KEY,
  wireKeyOf,
} from "../../src/core/wire.ts";
import type { Figure, Target } from "../figure.ts";
import type { Context } from "../section.ts";
import { figuresOf, outcomeOf } from "./outcome.ts";
import { SECTION, type Times } from "./play.ts";
import type { Site } from "./site.ts";

const NOISE = fileURLToPath(new URL("./noise.ts", import.meta.url));
const LOADER = fileURLToPath(new URL("../../scripts/ts.mjs", import.meta.url));
/** Frames a second. */
const FLOOD = 100_000;

/** Sends forged, mutated and replayed frames of the peer protocol to all three nodes at once. */
export async function forgedFrames(context: Context, site: Site, { flood }: Times): Promise<Figure[]> {
  const name = "forged, mutated and replayed frames";
  context.progress("failover: recording the nodes' frames");
  const { trio, subject } = site;
  const [victim] = await site.settle();
  const lines = await recordNoise(site, victim!);
  await site.settle();
  const view = () => viewOf(site);
  const refusals = async () =>
    (await statuses(site)).reduce((sum, { interfaces }) => {
      return sum + interfaces.reduce((all, { verdicts }) => all + verdicts.wire_refused + verdicts.wire_stale, 0);
    }, 0);
  const [before, said, refused] = [await view(), wordsOf(site), await refusals()];
  let rate = Number.NaN;
  context.progress(`failover: ${name}`);
  const report = await trio.watched(site.vips, async () => {
    const place = trio.place("switch");
    const args = ["--no-warnings", "--import", LOADER, NOISE, trio.namespaces.full(place), `${FLOOD}`];
    const child = trio.namespaces.spawn(place, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    const output = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    child.stdin!.write(`${lines.join("\n")}\n\n`);
    await output.next();
    await sleep(flood * 1_000);
    child.stdin!.end("\n");
    rate = Number((await output.next()).value);
    await once(child, "close");
    await sleep(300);
  });
  const after = await view();
  const changes = before.filter((line, i) => line !== after[i]).length + wordsOf(site) - said;
  const plain = { section: SECTION, subject: subject.name, ratios: [] };
  const most = (limit: number): Target => ({ is: "at most", limit, inEachRound: true });
  return [
    { ...plain, what: `${name}: sent`, unit: "/s", values: [rate], target: { is: "at least", limit: FLOOD * 0.95 } },
    {
      ...plain,
      what: `${name}: refused by the programs`,
      unit: "count",
      values: [(await refusals()) - refused],
    },
    { ...plain, what: `${name}: changes of view, and lines logged`, unit: "count", values: [changes], target: most(0) },
    ...figuresOf(name, subject.name, [outcomeOf(report)], { unanswered: 0, moves: 0, doubled: 0 }),
  ];
}

/**
 * Records the frames of a drain and its end. @returns lines for noise.ts: each frame as it was, with a bit turned, and
 * forged
 */
async function recordNoise(site: Site, victim: LabNode): Promise<string[]> {
  using tap = new Tap(site.trio);
  for (const isDrained of [true, false]) {
    await tellDrain(site.speaker(victim).runDir, isDrained);
    await sleep(1_500);
  }
  const ringOf = (key: typeof PUBLIC_KEY) => keyring([key], clusterId(""), true);
  const [ring, other] = [PUBLIC_KEY, { ...wireKeyOf("another"), id: PUBLIC_KEY.id }].map(ringOf) as [Keyring, Keyring];
  const everyone = "ff:ff:ff:ff:ff:ff";
  return tap.frames.slice(0, 1024).flatMap(({ from, frame }, i) => {
    const to = formatMac(frame.subarray(0, 6));
    const targets = NODES.filter((node) => node !== from && [node.mac, everyone].includes(to));
    const mutated = frame.slice();
    const bit = 14 * 8 + ((i * 7919) % ((frame.length - 14) * 8));
    mutated[bit >> 3]! ^= 1 << (bit & 7);
    const message = decodeWire(frame, ring)!;
    const forged = encodeWire(message as Message, other, message.version);
    const kinds = [frame, mutated, forged].map((bytes) => Buffer.from(bytes).toString("hex"));
    return targets.flatMap(({ port }) => kinds.map((hex) => `p${port} ${hex}`));
  });
}

const statuses = (site: Site) =>
  Promise.all(site.trio.speakers.map(async ({ runDir }) => (await askStatus(runDir, undefined))!));

const wordsOf = (site: Site) => site.trio.speakers.reduce((sum, { log }) => sum + log.length, 0);

/** The peers and owners as each speaker sees them, a line each. */
async function viewOf(site: Site): Promise<string[]> {
  return (await statuses(site)).flatMap(({ node, members, vips }) => [
    ...members.map(({ node: peer, isAlive, state, mac }) => `${node}: ${peer} ${isAlive} ${state} ${mac}`).sort(),
    ...vips.map(({ address, owner, state }) => `${node}: ${address} ${owner} ${state}`),
  ]);
}
