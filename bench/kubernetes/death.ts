import { setTimeout as sleep } from "node:timers/promises";
import { best, NODES, type Scene } from "../../lab/cluster/scene.ts";
import { sumOf } from "../../lab/watch/watch.ts";
import type { Figure } from "../figure.ts";
import type { Context } from "../section.ts";
import { figure, MANY, MS, most, vipAt } from "./common.ts";

const WATCHED = 400;
/** The interval at which each watched VIP is asked for, ms. */
const ASKED = 50;

/** Measures how long the VIPs of a node that dies are silent. */
export async function death({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const silences: number[] = [];
  for (const node of isQuick ? NODES.slice(0, 1) : NODES) {
    progress(`kubernetes: ${node} dies with ${MANY} Services`);
    const its = Array.from({ length: MANY }, (_, index) => vipAt(index)).filter((vip) => best(vip) === node);
    const step = its.length / WATCHED;
    const watched = Array.from({ length: WATCHED }, (_, index) => its[Math.floor(index * step)]!);
    const report = await scene.speakers.watched(
      watched,
      async () => {
        await sleep(500);
        await scene.die(node);
        await sleep(6_000);
      },
      ASKED,
    );
    const { silence, mute, doubled } = sumOf(report);
    if (mute > 0 || doubled > 0)
      throw new Error(`${mute} VIPs were not answered again, ${doubled} requests had two answers`);
    silences.push(silence * MS);
    await scene.revive(node);
    await sleep(5_000);
  }
  const note = `each is asked for each ${ASKED} ms: the silence may have been so much shorter`;
  figures.push(
    figure(
      `a node dies, ${MANY} Services: the last of ${WATCHED} VIPs answered again`,
      "ns",
      silences,
      most(700 * MS),
      note,
    ),
  );
}
