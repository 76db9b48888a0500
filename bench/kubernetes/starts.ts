import { setTimeout as sleep } from "node:timers/promises";
import type { Scene } from "../../lab/cluster/scene.ts";
import { until } from "../../lab/kernel/process.ts";
import type { Speaker } from "../../lab/speaker.ts";
import { formatAddress, plus } from "../../src/core/address.ts";
import type { Figure } from "../figure.ts";
import type { Context } from "../section.ts";
import { clear, EXTRA, figure, MANY, MS, most, PATIENCE } from "./common.ts";

const FEW = 5;

const sizeOf = (scene: Scene, speaker: Speaker) => {
  try {
    return scene.speakers.vips(speaker).size;
  } catch {
    return 0; // not pinned yet
  }
};

/** Measures the memory of speakers with a few Services. */
export async function few({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { cluster, speakers } = scene;
  for (let index = 0; index < FEW; index++) await cluster.serve(`few${index}`, formatAddress(plus(EXTRA, -1 - index)));
  await speakers.startAll();
  const pause = isQuick ? 5_000 : 20_000;
  progress(`kubernetes: ${FEW} Services at rest for ${pause / 1000} s`);
  await sleep(pause);
  figures.push(
    figure(
      `resident memory, ${FEW} Services`,
      "MB",
      speakers.all.map(({ memory }) => memory / 1e6),
      most(80),
    ),
  );
  await clear(scene);
}

/** Measures how long starts take with many Services, of one speaker and of three at once. */
export async function starts({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { speakers } = scene;
  const rounds = isQuick ? 1 : 3;
  const isFull = (speaker: Speaker) => sizeOf(scene, speaker) >= MANY;
  const [one, three, shares]: number[][] = [[], [], []];
  for (let round = 1; round <= rounds; round++) {
    progress(`kubernetes: starts with ${MANY} Services, round ${round} of ${rounds}`);
    const alone = speakers.all[(round - 1) % 3]!;
    let began = performance.now();
    alone.start();
    await until("the map is full", () => isFull(alone), PATIENCE);
    one!.push((performance.now() - began) * MS);
    await clear(scene);

    began = performance.now();
    for (const speaker of speakers.all) speaker.start();
    await until("the maps are full", () => speakers.all.every(isFull), PATIENCE);
    three!.push((performance.now() - began) * MS);
    await Promise.all(speakers.all.map((speaker) => speaker.ready(PATIENCE)));
    const owned = (speaker: Speaker) =>
      [...speakers.vips(speaker).values()].filter((state) => state === "owned").length;
    const allOwned = () => speakers.all.reduce((sum, speaker) => sum + owned(speaker), 0);
    await until("all are owned", () => allOwned() >= MANY, PATIENCE);
    shares!.push((performance.now() - began) * MS);
    if (round < rounds) await clear(scene);
  }
  figures.push(
    figure(`start to map full, ${MANY} Services, one speaker`, "ns", one!, most(2_000 * MS)),
    figure(`start to maps full, ${MANY} Services, three at once`, "ns", three!, most(5_000 * MS)),
    figure("the same, to each VIP owned by one of them", "ns", shares!),
  );
}
