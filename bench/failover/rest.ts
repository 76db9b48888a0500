import { setTimeout as sleep } from "node:timers/promises";
import type { Figure, Target } from "../figure.ts";
import type { Context } from "../section.ts";
import { slope } from "../statistics.ts";
import { SECTION, type Times } from "./play.ts";
import type { Site } from "./site.ts";

const MB = 1e6;
/**
 * V8 compiles hot code in the first half minute, and its compiler's code takes 5 MB, once. The watch begins later, ms.
 */
const WARM = 30_000;

/** Measures the speakers while nothing happens, and no client asks. */
export async function rest(context: Context, site: Site, { steady }: Times): Promise<Figure[]> {
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
  const growth = samples.map((its) => slope(its));
  return [
    figure("processor time a node, of a core", "%", used, 1),
    figure("resident memory a node", "MB", last),
    figure("its growth", "MB/min", growth, 1),
  ];
}
