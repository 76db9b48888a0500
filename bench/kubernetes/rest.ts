import { setTimeout as sleep } from "node:timers/promises";
import type { Scene } from "../../lab/cluster/scene.ts";
import type { Figure } from "../figure.ts";
import type { Context } from "../section.ts";
import { figure, MANY, MS, most, spent } from "./common.ts";

/** Measures memory, CPU time and API requests while nothing happens. */
export async function rest({ isQuick, progress }: Context, scene: Scene, figures: Figure[]): Promise<void> {
  const { cluster, speakers } = scene;
  const seconds = isQuick ? 20 : 600;
  progress(`kubernetes: at rest for ${seconds} s`);
  await sleep(5_000);
  const memory = speakers.all.map(({ memory }) => memory / 1e6);
  const before = cluster.speakersRequests().length;
  const began = performance.now();
  const used = await Promise.all(
    speakers.all.map((speaker) => spent(speaker, async () => void (await sleep(seconds * 1000)))),
  );
  const time = (performance.now() - began) * MS;
  const asked = cluster.speakersRequests().slice(before);
  const count = (isMeant: (verb: string) => boolean) => [asked.filter(({ verb }) => isMeant(verb)).length];
  const note = `three speakers, ${seconds} s, by the API server's audit log`;
  figures.push(
    figure(`resident memory, ${MANY} Services`, "MB", memory, most(110)),
    figure(
      `CPU at rest, ${MANY} Services`,
      "%",
      used.map((ns) => (ns / time) * 100),
      most(1),
    ),
    figure(
      "API requests at rest: writes",
      "count",
      count((verb) => !["get", "list", "watch"].includes(verb)),
      most(0),
      note,
    ),
    figure(
      "API requests at rest: reads that are not watches",
      "count",
      count((verb) => ["get", "list"].includes(verb)),
      most(0),
      note,
    ),
    figure(
      "API requests at rest: watches begun anew",
      "count",
      count((verb) => verb === "watch"),
      undefined,
      note,
    ),
  );
}
