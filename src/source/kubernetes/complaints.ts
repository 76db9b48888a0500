import { Notices } from "../../core/notices.ts";
import type { Surroundings } from "../source.ts";
import type { Events } from "./events.ts";
import type { Problem } from "./services.ts";

/** Says what is wrong with a cluster: a line each, and Events. */
export class Complaints {
  readonly #log: Surroundings["log"];
  readonly #events: Events;
  readonly #settle: number;
  readonly #notices = new Notices(Number.POSITIVE_INFINITY);
  /** Since when nobody announces what these messages name, ms. */
  #mute = new Map<string, number>();
  /** Something is to be said if it lasts. */
  isWaiting = false;

  /** @param settle for how long nobody has to announce an address before that is said, because objects come one by one, ms */
  constructor(log: Surroundings["log"], events: Events, settle: number) {
    this.#log = log;
    this.#events = events;
    this.#settle = settle;
  }

  /** Takes all that is wrong now. @param lines beside the problems @param logged problems that need an Event only */
  take(all: readonly Problem[], lines: readonly string[], logged: readonly Problem[], now: number): void {
    const mute = all.filter(({ reason }) => reason === "NotAnnounced").map(({ message }) => message);
    this.#mute = new Map(mute.map((message) => [message, this.#mute.get(message) ?? now]));
    const problems = all.filter(({ message }) => now - (this.#mute.get(message) ?? 0) >= this.#settle);
    this.isWaiting = problems.length < all.length;
    this.#events.take([...problems, ...logged]);
    const said = this.#notices.noteAll([...problems.map(({ message }) => message), ...lines], now);
    for (const line of said) this.#log("warn", line);
  }
}
