import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type LabNode, NODES, VIPS } from "../lab/topology.ts";
import { Tap } from "../lab/trio/tap.ts";
import type { Report } from "../lab/watch/watch.ts";
import { askStatus, tellDrain } from "../src/control/socket.ts";
import { formatAddress, parseAddress } from "../src/core/address.ts";
import { formatMac } from "../src/core/arp.ts";
import { elect } from "../src/core/ownership.ts";
import { decodeWire, encodeWire, type Message, PUBLIC_KEY, wireKeyOf } from "../src/core/wire.ts";
import type { Figure, Target } from "./figure.ts";
import { BusyLoops } from "./load.ts";
import { announcedAfter, figuresOf, type Outcome, outcomeOf, type Wanted } from "./outcome.ts";
import { wireCost } from "./programs.ts";
import type { Context, Section } from "./section.ts";
import { Site, type Subject } from "./site.ts";
import { slope } from "./statistics.ts";

const SECTION = "failover";
const MS = 1e6;
const MB = 1e6;
const NOISE = fileURLToPath(new URL("./noise.ts", import.meta.url));
const LOADER = fileURLToPath(new URL("../scripts/ts.mjs", import.meta.url));

/** How often each VIP is asked for, ms; where 20 ms are to be shown, oftener; of 1,000, as often as a client can. */
const ASKED = 10;
const FINE = 3;
const MANY_ASKED = 50;
const MANY = 1000;
/** Frames a second of the flood that means nothing. */
const FLOOD = 100_000;

/** How long things last, seconds. */
interface Times {
  /** isat's `hold`; the default's 30 s where it is not said. */
  hold: number;
  pauses: readonly number[];
  frozen: number;
  away: number;
  busy: number;
  steady: number;
  flood: number;
  deaths: number;
  moves: number;
  deathsOfMany: number;
}

const FULL: Times = {
  hold: 30,
  pauses: [1, 5, 25],
  frozen: 20,
  away: 60,
  busy: 60,
  steady: 60,
  flood: 10,
  deaths: 5,
  moves: 3,
  deathsOfMany: 3,
};
const QUICK: Times = {
  hold: 4,
  pauses: [1],
  frozen: 2,
  away: 5,
  busy: 3,
  steady: 4,
  flood: 2,
  deaths: 2,
  moves: 1,
  deathsOfMany: 1,
};

export const failover: Section = {
  name: SECTION,
  about: "three nodes, and a client that asks for every VIP: what it sees of deaths, restarts and moves",
  async run(context) {
    const times = context.isQuick ? QUICK : FULL;
    const isat: Subject = { name: "isat", kind: "isat", ...(context.isQuick ? { hold: `${times.hold}s` } : {}) };
    const peers = context.peers.flatMap((peer): Subject[] => (peer.kind === "peer" ? [peer] : []));
    const figures: Figure[] = [];
    const attempt = async (what: string, body: () => Promise<void>) => {
      try {
        await body();
      } catch (error) {
        context.fail({ section: SECTION, what, reason: (error as Error).message });
      }
    };
    for (const subject of [isat, ...peers]) {
      await attempt(subject.name, () => measure(context, subject, times, figures));
      await attempt(`${subject.name}, ${MANY} VIPs`, () => deathOfMany(context, subject, times, figures));
    }
    await attempt("cost of a frame", async () => {
      figures.push(...(await wireCost(context)).map((figure) => ({ ...figure, section: SECTION })));
    });
    // Event by event, each with all who were measured.
    const order = [...new Set(figures.map(({ what }) => what))];
    return order.flatMap((what) => figures.filter((figure) => figure.what === what)).map(annotate);
  },
};

const NOTE = `each VIP is asked for each ${ASKED} ms (drain, join: ${FINE} ms; 1,000 VIPs: ${MANY_ASKED} ms): a shorter silence may not be seen, and one that is seen is up to two such times longer than it was; judged by the worst round`;
const annotate = (figure: Figure): Figure => ({ note: NOTE, ...figure });

/** One event, as it is played on a site. */
interface Event {
  name: string;
  wanted: Wanted;
  rounds: number;
  /** How often each VIP is asked for, ms. @default ASKED */
  interval?: number;
  /** Before the watch. */
  prepare?(victim: LabNode): Promise<void>;
  play(victim: LabNode): Promise<void>;
  /** After it: all is to be as before. */
  restore?(victim: LabNode): Promise<void>;
}

/** Adds a subject's figures as they come: what fails later takes none of them away. */
async function measure(context: Context, subject: Subject, times: Times, figures: Figure[]): Promise<void> {
  context.progress(`failover: starting ${subject.name}`);
  await using site = new Site(context.ground.namespaces, subject.kind === "isat" ? "f" : "g", subject, VIPS);
  await site.start();
  figures.push(...(await steady(context, site, times)));
  for (const event of eventsOf(site, times)) {
    if (event === "noise") {
      figures.push(...(await noise(context, site, times)));
      continue;
    }
    const { outcomes } = await rounds(context, site, event);
    figures.push(...figuresOf(event.name, subject.name, outcomes, event.wanted));
  }
}

/** Plays an event in its rounds, each with another node as the one that it befalls. */
async function rounds(context: Context, site: Site, event: Event): Promise<{ outcomes: Outcome[]; reports: Report[] }> {
  const reports: Report[] = [];
  for (let round = 0; round < event.rounds; round++) {
    context.progress(`failover, ${site.subject.name}: ${event.name}, round ${round + 1} of ${event.rounds}`);
    const owners = await site.settle();
    const victim = owners[site.turn++ % owners.length]!;
    await event.prepare?.(victim);
    reports.push(await site.trio.watched(site.vips, () => event.play(victim), event.interval ?? ASKED));
    await event.restore?.(victim);
  }
  return { outcomes: reports.map(outcomeOf), reports };
}

/** How long a speaker may take to notice and to be calm again, ms. Others than isat are given the time that VRRP takes. */
const calmOf = (site: Site) => (site.subject.kind === "isat" ? 1_200 : 6_000);

async function die(site: Site, node: LabNode): Promise<void> {
  site.trio.link(node, "down");
  await site.member(node).signal("SIGKILL");
}

/** As after a reboot: nothing of the speaker is left, and none has started yet. */
function comeBack(site: Site, node: LabNode): void {
  site.member(node).reboot();
  site.trio.link(node, "up");
}

async function startAgain(site: Site, node: LabNode): Promise<void> {
  const member = site.member(node);
  member.start();
  await member.ready();
}

function eventsOf(site: Site, times: Times): (Event | "noise")[] {
  const isIsat = site.subject.kind === "isat";
  const calm = calmOf(site);
  const seconds = (count: number) => sleep(count * 1_000);
  const still: Wanted = { unanswered: 0, moves: 0, doubled: 0 };
  const handOver: Wanted = { silence: 20, moves: 1, doubled: 0 };
  const afterHold = isIsat ? times.hold * 1_000 + calm + 1_000 : calm;
  const frozenFor = (name: string, wanted: Wanted, pause: number, isBack: boolean): Event => ({
    name,
    wanted,
    rounds: 1,
    async play(victim) {
      await site.member(victim).signal("SIGSTOP");
      await sleep(pause);
      if (!isBack) return;
      await site.member(victim).signal("SIGCONT");
      await sleep(calm);
    },
    restore: async (victim) => site.member(victim).signal("SIGCONT"),
  });
  const restarts = (["SIGKILL", "SIGTERM"] as const).flatMap((signal) =>
    times.pauses.map(
      (pause): Event => ({
        name: `${signal === "SIGKILL" ? "kill -9" : signal}, back after ${pause} s`,
        wanted: still,
        rounds: 1,
        async play(victim) {
          await site.member(victim).signal(signal);
          await seconds(pause);
          await startAgain(site, victim);
          await sleep(calm);
        },
      }),
    ),
  );
  const events: (Event | "noise")[] = [
    {
      name: `4 busy loops a core, ${times.busy} s`,
      wanted: { moves: 0, doubled: 0 },
      rounds: 1,
      async play() {
        using _load = new BusyLoops(4);
        await seconds(times.busy);
      },
    },
    {
      name: "killed for good",
      wanted: { silence: 50, moves: 1, doubled: 0 },
      rounds: 1,
      async play(victim) {
        await site.member(victim).signal("SIGKILL");
        await sleep(afterHold);
      },
      restore: (victim) => startAgain(site, victim),
    },
    // In between, so that all have been there for longer than hold when the next one goes: only they count its age.
    ...restarts.slice(0, restarts.length / 2),
    frozenFor(`frozen for ${times.frozen} s`, still, times.frozen * 1_000, true),
    ...(isIsat ? (["noise"] as const) : []),
    // With a short hold it shows no more than "killed for good".
    ...(times === QUICK ? [] : [frozenFor("frozen for good", { silence: 50, moves: 1, doubled: 0 }, afterHold, false)]),
    ...restarts.slice(restarts.length / 2),
    {
      name: `all three killed, back after ${times.away} s`,
      wanted: still,
      rounds: 1,
      async play() {
        await Promise.all(site.members.map((member) => member.signal("SIGKILL")));
        await seconds(times.away);
        await Promise.all(site.members.map(({ node }) => startAgain(site, node)));
        await sleep(calm);
      },
    },
    {
      name: "node dies",
      wanted: { silence: 500, moves: 1, doubled: 0 },
      rounds: times.deaths,
      async play(victim) {
        await die(site, victim);
        await sleep(calm);
      },
      async restore(victim) {
        comeBack(site, victim);
        await startAgain(site, victim);
      },
    },
    {
      name: "a node joins",
      wanted: handOver,
      rounds: times.moves,
      interval: FINE,
      async prepare(victim) {
        await die(site, victim);
        comeBack(site, victim);
        await site.settle();
      },
      async play(victim) {
        await startAgain(site, victim);
        await sleep(calm);
      },
    },
  ];
  if (!isIsat) return events;
  const drained = async (victim: LabNode, isDrained: boolean) => {
    await tellDrain(site.speaker(victim).runDir, isDrained);
    await sleep(calm);
  };
  events.push({
    name: "drain",
    wanted: handOver,
    rounds: times.moves,
    interval: FINE,
    play: (victim) => drained(victim, true),
    restore: (victim) => drained(victim, false),
  });
  return events;
}

/** What the speakers cost when nothing happens, and nobody asks. */
/** V8 compiles what runs often in the first half minute, and with its compiler's code come 5 MB, once, ms. */
const WARM = 30_000;

async function steady(context: Context, site: Site, { steady }: Times): Promise<Figure[]> {
  const { members, subject } = site;
  context.progress(`failover, ${subject.name}: ${steady} s at rest`);
  await sleep(context.isQuick ? 2_000 : WARM);
  const began = performance.now();
  const before = members.map(({ processorTime }) => processorTime);
  const samples = members.map((): [number, number][] => []);
  for (let elapsed = 0; elapsed < steady * 1_000; ) {
    await sleep(1_000);
    elapsed = performance.now() - began;
    members.forEach(({ memory }, i) => {
      samples[i]!.push([elapsed / 60_000, memory / MB]);
    });
  }
  const elapsed = performance.now() - began;
  const used = members.map(({ processorTime }, i) => ((processorTime - before[i]!) / elapsed) * 100);
  const figure = (what: string, unit: Figure["unit"], values: readonly number[], limit?: number): Figure => ({
    section: SECTION,
    what: `at rest: ${what}`,
    subject: subject.name,
    unit,
    values,
    ratios: [],
    ...(limit === undefined ? {} : { target: { is: "at most", limit, inEachRound: true } as Target }),
  });
  const last = samples.map((its) => its.at(-1)![1]);
  return [
    figure("processor time a node, of a core", "%", used, 1),
    figure("resident memory a node", "MB", last),
    figure(
      "its growth",
      "MB/min",
      samples.map((its) => slope(its)),
      1,
    ),
  ];
}

/** Forged, mutated and replayed frames of isat's EtherType, to all three nodes at once. */
async function noise(context: Context, site: Site, { flood }: Times): Promise<Figure[]> {
  const name = "forged, mutated and replayed frames";
  context.progress(`failover: recording what the nodes say`);
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

/** Lines for noise.ts: what was recorded of a drain and its end, as it was, with a bit turned, and signed by another key. */
async function recordNoise(site: Site, victim: LabNode): Promise<string[]> {
  using tap = new Tap(site.trio);
  for (const isDrained of [true, false]) {
    await tellDrain(site.speaker(victim).runDir, isDrained);
    await sleep(1_500);
  }
  const other = { ...wireKeyOf("another"), id: PUBLIC_KEY.id };
  const everyone = "ff:ff:ff:ff:ff:ff";
  return tap.frames.slice(0, 1024).flatMap(({ from, frame }, i) => {
    const to = formatMac(frame.subarray(0, 6));
    const targets = NODES.filter((node) => node !== from && [node.mac, everyone].includes(to));
    const mutated = frame.slice();
    const bit = 14 * 8 + ((i * 7919) % ((frame.length - 14) * 8));
    mutated[bit >> 3]! ^= 1 << (bit & 7);
    const forged = encodeWire(decodeWire(frame, [PUBLIC_KEY]) as Message, other);
    const kinds = [frame, mutated, forged].map((bytes) => Buffer.from(bytes).toString("hex"));
    return targets.flatMap(({ port }) => kinds.map((hex) => `p${port} ${hex}`));
  });
}

const statuses = (site: Site) =>
  Promise.all(site.trio.speakers.map(async ({ runDir }) => (await askStatus(runDir, undefined))!));

const wordsOf = (site: Site) => site.trio.speakers.reduce((sum, { log }) => sum + log.length, 0);

/** Who is alive, and who owns, as each speaker has it: a line each. */
async function viewOf(site: Site): Promise<string[]> {
  return (await statuses(site)).flatMap(({ node, members, vips }) => [
    ...members.map(({ node: peer, isAlive, state, mac }) => `${node}: ${peer} ${isAlive} ${state} ${mac}`).sort(),
    ...vips.map(({ address, owner, state }) => `${node}: ${address} ${owner} ${state}`),
  ]);
}

/** 1,000 VIPs on the node that dies. */
async function deathOfMany(context: Context, subject: Subject, times: Times, figures: Figure[]): Promise<void> {
  const { namespaces } = context.ground;
  await using site = new Site(namespaces, subject.kind === "isat" ? "m" : "o", subject, vipsOf(subject));
  context.progress(`failover: starting ${subject.name} with ${MANY} VIPs`);
  await site.start();
  const deaths: { mac: string; at: number }[] = [];
  const event: Event = {
    name: "1,000 VIPs, their node dies",
    wanted: { silence: 700, moves: 1, doubled: 0 },
    rounds: times.deathsOfMany,
    interval: MANY_ASKED,
    async play(victim) {
      deaths.push({ mac: victim.mac, at: performance.timeOrigin + performance.now() });
      await die(site, victim);
      await sleep(calmOf(site) + 2_000);
    },
    async restore(victim) {
      comeBack(site, victim);
      await startAgain(site, victim);
    },
  };
  const { outcomes, reports } = await rounds(context, site, event);
  const announced = reports.map((report, round) => announcedAfter(report, deaths[round]!.mac, deaths[round]!.at));
  figures.push(...figuresOf(event.name, subject.name, outcomes, event.wanted), {
    section: SECTION,
    what: `${event.name}: death to the last first gratuitous ARP`,
    subject: subject.name,
    unit: "ns",
    values: announced.map((ms) => ms * MS),
    ratios: [],
    target: { is: "at most", limit: 2_000 * MS, inEachRound: true },
  });
}

/** For isat, addresses that the election gives to one node; for others, a range. */
function vipsOf({ kind }: Subject): string[] {
  const first = parseAddress("10.9.0.1");
  const addresses = Array.from({ length: 8 * MANY }, (_, i) => formatAddress(first + i));
  if (kind === "peer") return addresses.slice(0, MANY);
  const names = NODES.map(({ name }) => name);
  return addresses.filter((address) => elect(names, address) === names[0]).slice(0, MANY);
}
