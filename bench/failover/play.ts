import { setTimeout as sleep } from "node:timers/promises";
import type { LabNode } from "../../lab/topology.ts";
import type { Report } from "../../lab/watch/watch.ts";
import type { Context } from "../section.ts";
import { type Outcome, outcomeOf, type Wanted } from "./outcome.ts";
import type { Site } from "./site.ts";

export const SECTION = "failover";

/** The intervals at which the client asks for each VIP, ms: usually, if 20 ms of silence must show, and for 1,000 VIPs. */
export const [ASKED, FINE, MANY_ASKED] = [10, 3, 50] as const;

/** Durations in seconds, and numbers of rounds. */
export interface Times {
  /** isat's `hold`. */
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
  /** EtherType 0x88B5 is dropped everywhere, and at one node. */
  deaf: number;
  deafOne: number;
}

export const FULL: Times = {
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
  deaf: 60,
  deafOne: 20,
};

export const QUICK: Times = {
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
  deaf: 6,
  deafOne: 4,
};

/** An event that can be played on a site. */
export interface Event {
  name: string;
  wanted: Wanted;
  rounds: number;
  /** The interval at which the client asks for each VIP, ms. @default ASKED */
  interval?: number;
  /** Runs before the watch. */
  prepare?(victim: LabNode): Promise<void>;
  play(victim: LabNode): Promise<void>;
  /** Runs after the watch, and undoes the event. */
  restore?(victim: LabNode): Promise<void>;
}

/** Plays an event in its rounds, each time with another node as the victim. */
export async function rounds(
  context: Context,
  site: Site,
  event: Event,
): Promise<{ outcomes: Outcome[]; reports: Report[] }> {
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

/** The time that a speaker may take to notice an event and act, ms: isat, MetalLB (memberlist), VRRP. */
export const calmOf = ({ subject }: Site) => (subject.kind === "isat" ? 1_200 : subject.cluster ? 12_000 : 6_000);

export const calmDown = (site: Site) => sleep(calmOf(site));

export async function die(site: Site, node: LabNode): Promise<void> {
  site.trio.link(node, "down");
  await site.member(node).signal("SIGKILL");
}

/** Brings a node's link back, as after a reboot: nothing is left of its speaker, and no new one has started yet. */
export function reboot(site: Site, node: LabNode): void {
  site.member(node).reboot();
  site.trio.link(node, "up");
}

export async function startAgain(site: Site, node: LabNode): Promise<void> {
  const member = site.member(node);
  member.start();
  await member.ready();
}
