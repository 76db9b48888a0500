import { setTimeout as sleep } from "node:timers/promises";
import { NODES } from "../../lab/topology.ts";
import { neighbours, ping } from "../../lab/trio/neighbours.ts";
import { Learner } from "../../lab/watch/learner.ts";
import { elect } from "../../src/core/ownership.ts";
import type { Figure } from "../figure.ts";
import type { Context } from "../section.ts";
import { SECTION, type Times } from "./play.ts";
import type { Site } from "./site.ts";

const MS = 1e6;
/** The time for which the port is off the bridge, and then the time in which announcements are counted, ms. */
const [OFF, ON] = [2_000, 6_000];

/**
 * Takes a node's port off the bridge for 2 s, its carrier kept. Its peers announce its VIPs meanwhile; it has to announce
 * them when it is back. Measured at a switch that keeps a port in each ARP entry, and learns from announcements alone.
 */
export async function portBack(context: Context, site: Site, times: Times): Promise<Figure[]> {
  const [after, clients, bursts]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < times.moves; round++) {
    context.progress(`failover, ${site.subject.name}: port off the bridge, round ${round + 1} of ${times.moves}`);
    const owners = await site.settle();
    const victim = owners[site.turn++ % owners.length]!;
    await ping(site.trio, site.vips);
    using learner = new Learner(site.trio, site.vips);
    site.trio.isolate(victim, true);
    await sleep(OFF);
    const names = NODES.map(({ name }) => name);
    const its = site.vips.filter((vip) => elect(names, vip) === victim.name);
    if (its.some((vip) => learner.owners[vip] === undefined)) throw new Error("nobody announced what the node owned");
    learner.count = 0;
    site.trio.isolate(victim, false);
    const began = performance.now();
    let [back, clientBack] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (; performance.now() - began < ON; await sleep(2)) {
      const isBack = its.every((vip) => learner.owners[vip] === victim.name);
      if (isBack) back = Math.min(back, performance.now() - began);
      if (clientBack < Number.POSITIVE_INFINITY) continue;
      const known = neighbours(site.trio, its);
      if (its.every((vip) => known[vip] === victim.name)) clientBack = performance.now() - began;
    }
    after.push(back * MS);
    clients.push(clientBack * MS);
    bursts.push(learner.count);
  }
  const figure = { section: SECTION, subject: site.subject.name, ratios: [] };
  return [
    {
      ...{
        ...figure,
        what: "port off the bridge for 2 s: back to the last first announcement by the owner",
        unit: "ns",
      },
      ...{ values: after, target: { is: "at most", limit: 500 * MS, inEachRound: true } },
    },
    {
      ...{ ...figure, what: "port off the bridge for 2 s: back to the client's neighbour entries", unit: "ns" },
      ...{ values: clients, target: { is: "at most", limit: 500 * MS, inEachRound: true } },
    },
    { ...figure, what: "port off the bridge for 2 s: announcements after that", unit: "count", values: bursts },
  ];
}
