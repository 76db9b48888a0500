/**
 * Decides when a message that persists is logged: at once, and then at most once in `repeat` ms for as long as it persists.
 * A message is over when it is missing from all that are true, or when it has not been noted for `repeat` ms, as an error
 * that happened once.
 */
export class Notices {
  readonly #repeat: number;
  /** When each message was logged and noted last, ms. */
  readonly #messages = new Map<string, { logged: number; noted: number }>();
  #swept = Number.NEGATIVE_INFINITY;

  /** @param repeat in ms; Infinity: a message is logged once, and persists until it is missing */
  constructor(repeat = 60_000) {
    this.#repeat = repeat;
  }

  /** Takes a message that is true now. @param now ms, monotonic @returns true if it is to be logged */
  note(text: string, now: number): boolean {
    this.#sweep(now);
    const known = this.#messages.get(text);
    const isDue = !known || now - known.logged >= this.#repeat;
    this.#messages.set(text, { logged: isDue ? now : known.logged, noted: now });
    return isDue;
  }

  /** Takes every message that is true now; all others are over. @returns those that are to be logged, each once */
  noteAll(texts: Iterable<string>, now: number): string[] {
    const all = new Set(texts);
    for (const text of this.#messages.keys()) if (!all.has(text)) this.#messages.delete(text);
    return [...all].filter((text) => this.note(text, now));
  }

  /** The messages that persist, for status. */
  current(now: number): string[] {
    return [...this.#messages].filter(([, { noted }]) => now - noted < this.#repeat).map(([text]) => text);
  }

  /** Forgets what is over, so that messages that never come again take no memory. */
  #sweep(now: number): void {
    if (now - this.#swept < Math.min(this.#repeat, 1_000)) return;
    this.#swept = now;
    for (const [text, { noted }] of this.#messages) if (now - noted >= this.#repeat) this.#messages.delete(text);
  }
}

/** A kind of line that comes all the time: so many are logged at once, and then one in so many ms. */
const BURST = 20;
const EVERY = 1_000;

/** The kind of a line: the same text with other numbers, addresses and names in quotes. */
const kindOf = (text: string) => text.replace(/"[^"]*"|[0-9a-f:.]*\d[0-9a-f:.]*/g, "#").slice(0, 100);

/** Bounds how often each kind of line is logged, whatever others do. It counts what it leaves out. */
export class Bound {
  readonly #kinds = new Map<string, { tokens: number; at: number; leftOut: number; last: string }>();

  /** @param now ms, monotonic @returns how many lines of this kind were left out before it; undefined: leave it out too */
  take(text: string, now: number): number | undefined {
    const kind = kindOf(text);
    const its = this.#kinds.get(kind) ?? { tokens: BURST, at: now, leftOut: 0, last: text };
    this.#kinds.set(kind, its);
    its.tokens = Math.min(BURST, its.tokens + (now - its.at) / EVERY);
    its.at = now;
    if (its.tokens < 1) {
      its.leftOut += 1;
      its.last = text;
      return undefined;
    }
    its.tokens -= 1;
    const { leftOut } = its;
    its.leftOut = 0;
    return leftOut;
  }

  /** The last line of each kind that was left out and has had no successor, with how many there were; it forgets the rest. */
  flush(now: number): { text: string; leftOut: number }[] {
    const all = [...this.#kinds].filter(([, { leftOut }]) => leftOut > 0);
    for (const [kind, { at, leftOut }] of this.#kinds) {
      if (leftOut === 0 && now - at >= BURST * EVERY) this.#kinds.delete(kind);
    }
    return all.map(([, its]) => {
      const { last: text, leftOut } = its;
      its.leftOut = 0;
      return { text, leftOut };
    });
  }
}
