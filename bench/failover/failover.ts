import { VIPS } from "../../lab/topology.ts";
import type { Figure } from "../figure.ts";
import { wireCost } from "../programs.ts";
import type { Context, Section } from "../section.ts";
import { eventsOf, nodeDies } from "./events.ts";
import { forgedFrames } from "./forged.ts";
import { deathOfMany, MANY } from "./many.ts";
import { figuresOf } from "./outcome.ts";
import { ASKED, FINE, FULL, MANY_ASKED, QUICK, rounds, SECTION, type Times } from "./play.ts";
import { portBack } from "./port.ts";
import { rest } from "./rest.ts";
import { Site, type Subject } from "./site.ts";
import { lostFrames, otherCluster, told, tornAway } from "./wire.ts";

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
    await attempt(FAST, async () => {
      await using site = new Site(context.ground.namespaces, "q", { ...isat, interval: "10ms" }, VIPS);
      await site.start();
      const event = nodeDies(site, times, {
        name: FAST,
        wanted: { silence: 60, moves: 1, doubled: 0 },
        interval: FINE,
      });
      const { outcomes } = await rounds(context, site, event);
      figures.push(...figuresOf(FAST, isat.name, outcomes, event.wanted));
    });
    for (const subject of [isat, ...peers]) {
      await attempt(subject.name, () => measure(context, subject, times, figures));
      await attempt(`${subject.name}, ${MANY} VIPs`, () => deathOfMany(context, subject, times, figures));
    }
    await attempt("cost of a frame", async () => {
      figures.push(...(await wireCost(context)).map((figure) => ({ ...figure, section: SECTION })));
    });
    // Sorted by event, each with all subjects.
    const order = [...new Set(figures.map(({ what }) => what))];
    return order.flatMap((what) => figures.filter((figure) => figure.what === what)).map(annotate);
  },
};

const FAST = "node dies, probed every 10 ms";
const NOTE =
  `Each VIP is asked for every ${ASKED} ms (drain, join: ${FINE} ms; ${MANY.toLocaleString("en")} VIPs: ${MANY_ASKED} ms). A shorter` +
  " silence may go unseen, and one that is seen may be measured up to two such times too long. The worst round is judged.";
const annotate = (figure: Figure): Figure => ({ note: NOTE, ...figure });

/** Adds a subject's figures as they are measured, so that a later failure does not lose them. */
async function measure(context: Context, subject: Subject, times: Times, figures: Figure[]): Promise<void> {
  context.progress(`failover: starting ${subject.name}`);
  await using site = new Site(context.ground.namespaces, subject.kind === "isat" ? "f" : "g", subject, VIPS);
  await site.start();
  figures.push(...(await rest(context, site, times)));
  for (const event of eventsOf(site, times)) {
    if (event === "forged frames") {
      figures.push(...(await forgedFrames(context, site, times)));
      continue;
    }
    if (event === "port back") {
      figures.push(...(await portBack(context, site, times)));
      continue;
    }
    const { outcomes } = await rounds(context, site, event);
    figures.push(...figuresOf(event.name, subject.name, outcomes, event.wanted));
  }
  if (subject.kind !== "isat") return;
  for (const play of [lostFrames, tornAway, otherCluster, told]) figures.push(...(await play(context, site, times)));
}
