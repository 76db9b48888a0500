import type { Family } from "./addresses.ts";
import type { Failure, Figure } from "./figure.ts";
import { type Ground, type Responder, Stand } from "./stand.ts";

/** Everything that a section needs. */
export interface Context {
  ground: Ground;
  /** Other responders to measure, by --peer. */
  peers: readonly Responder[];
  isQuick: boolean;
  /** Shows what is going on. */
  progress(text: string): void;
  fail(failure: Failure): void;
}

/** A part of the benchmarks. It returns figures, and reports failed measurements to the context. */
export interface Section {
  name: string;
  about: string;
  run(context: Context): Promise<Figure[]>;
}

/** Starts a stand for each responder in turn. A stand that does not start is reported, and left out. */
export async function startStands(
  context: Context,
  section: string,
  wanted: readonly [Responder, number][],
  family?: Family,
): Promise<Stand[]> {
  const stands: Stand[] = [];
  for (const [responder, vips] of wanted) {
    context.progress(`${section}: starting ${responder.name} with ${vips} ${family ?? "IPv4"} VIPs`);
    try {
      stands.push(await Stand.start(context.ground, responder, vips, family));
    } catch (error) {
      context.fail({ section, what: `${responder.name}, ${vips} VIPs`, reason: (error as Error).message });
    }
  }
  return stands;
}

/** Measures in rounds A B C, A B C and so on, so that a change of the machine's pace affects all subjects alike. */
export async function interleave<T>(
  context: Context,
  what: string,
  rounds: number,
  subjects: readonly T[],
  measure: (subject: T) => Promise<void>,
): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    context.progress(`${what}: round ${round} of ${rounds}`);
    for (const subject of subjects) await measure(subject);
  }
}
