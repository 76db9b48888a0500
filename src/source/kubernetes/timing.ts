import { METALLB_TIMING } from "./metallb.ts";
import { TIMING } from "./watch.ts";

/** All in ms. */
export const SOURCE_TIMING = {
  ...TIMING,
  ...METALLB_TIMING,
  /**
   * The API may be away for this long before the source is stale. Some seconds later this node stands back for peers whose
   * sources are fresh (core/joining.ts): both together make ten seconds.
   */
  stale: 2_000,
  /** A start waits this long for the API, since it was last heard of, before it takes the snapshot. */
  patience: 3_000,
  /** It waits this long at most, which is less than `hold`: its peers leave this node its VIPs meanwhile. */
  slow: 20_000,
  /** The least time between two snapshots. */
  save: 10_000,
  /** The least time between two demands. */
  deliver: 20,
  /** The time for which nobody has to announce an address before that is said. */
  settle: 2_000,
};
export type SourceTiming = typeof SOURCE_TIMING;

/** Calls once nothing has come in for `patience`, or after `slow`: a start waits while there is progress. */
export function waitFor(
  progressAt: () => number,
  { patience, slow }: Pick<SourceTiming, "patience" | "slow">,
  signal: AbortSignal,
  call: () => void,
): void {
  const began = performance.now();
  let timer: NodeJS.Timeout;
  const wait = (pause: number) => {
    timer = setTimeout(() => {
      const left = Math.min(progressAt() + patience, began + slow) - performance.now();
      if (left > 0) wait(left);
      else call();
    }, pause);
  };
  wait(patience);
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
}
