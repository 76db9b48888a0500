import { doubled } from "../core/time.ts";

/** The number of writes to one Service that are free. The next one waits, and each one more waits twice as long. */
const FREE = 3;
const PAUSES = { first: 1_000, most: 60_000 };

/**
 * Bounds how often one Service is written: another controller may write the same status each time. All times are ms,
 * monotonic.
 */
export class Pace {
  /** The last time that was told. */
  now = 0;
  readonly #taken = new Map<string, { count: number; at: number }>();
  /** When those that were put off may be written. */
  readonly #waiting = new Map<string, number>();

  /** @returns false if it is too early; it is due later then */
  take(key: string, now: number): boolean {
    const its = this.#taken.get(key) ?? { count: 0, at: now };
    if (now - its.at > 2 * PAUSES.most) its.count = 0;
    const pause = its.count < FREE ? 0 : doubled(PAUSES, its.count - FREE);
    if (now < its.at + pause) {
      this.#waiting.set(key, its.at + pause);
      return false;
    }
    this.#taken.set(key, { count: its.count + 1, at: now });
    return true;
  }

  /** The Services that were put off and may be written now. */
  due(now: number): string[] {
    const due = [...this.#waiting].filter(([, at]) => at <= now).map(([key]) => key);
    for (const key of due) this.#waiting.delete(key);
    return due;
  }

  get wakeAt(): number | undefined {
    return this.#waiting.size > 0 ? Math.min(...this.#waiting.values()) : undefined;
  }

  forget(key: string): void {
    this.#taken.delete(key);
    this.#waiting.delete(key);
  }
}
