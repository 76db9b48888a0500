import { setTimeout as sleep } from "node:timers/promises";
import { NODES } from "../../lab/topology.ts";
import { formatAddress, parseAddress, plus } from "../../src/core/address.ts";
import { elect } from "../../src/core/ownership.ts";
import type { Figure } from "../figure.ts";
import type { Context } from "../section.ts";
import { announcedAfter, figuresOf } from "./outcome.ts";
import { calmOf, die, type Event, MANY_ASKED, reboot, rounds, SECTION, startAgain, type Times } from "./play.ts";
import { Site, type Subject } from "./site.ts";

const MS = 1e6;
export const MANY = 1000;

/** Measures the death of a node that owns 1,000 VIPs. */
export async function deathOfMany(context: Context, subject: Subject, times: Times, figures: Figure[]): Promise<void> {
  const { namespaces } = context.ground;
  await using site = new Site(namespaces, subject.kind === "isat" ? "m" : "o", subject, vipsOf(subject));
  context.progress(`failover: starting ${subject.name} with ${MANY} VIPs`);
  await site.start();
  const deaths: { mac: string; at: number }[] = [];
  const event: Event = {
    name: `${MANY.toLocaleString("en")} VIPs, their node dies`,
    wanted: { silence: 700, moves: 1, doubled: 0 },
    rounds: times.deathsOfMany,
    interval: MANY_ASKED,
    async play(victim) {
      deaths.push({ mac: victim.mac, at: performance.timeOrigin + performance.now() });
      await die(site, victim);
      await sleep(calmOf(site) + 2_000);
    },
    async restore(victim) {
      reboot(site, victim);
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
  const addresses = Array.from({ length: 8 * MANY }, (_, i) => formatAddress(plus(first, i)));
  if (kind === "peer") return addresses.slice(0, MANY);
  const names = NODES.map(({ name }) => name);
  return addresses.filter((address) => elect(names, address) === names[0]).slice(0, MANY);
}
