import { Notices } from "./core/notices.ts";
import type { Notice } from "./core/step.ts";
import type { Log } from "./log.ts";

/** Log a persistent error at most once a minute, ms. */
const REPEAT = 60_000;

/** Logs what a running speaker has to say: an error that persists now and then, a warning once while it lasts. */
export class Reporter {
  readonly log: Log;
  lastError: { at: string; message: string } | undefined;
  readonly #errors = new Notices(REPEAT);
  readonly #notes = new Notices(Number.POSITIVE_INFINITY);
  readonly #warnings = new Notices(Number.POSITIVE_INFINITY);

  constructor(log: Log) {
    this.log = log;
  }

  fail(message: string): void {
    if (this.#errors.note(message, performance.now())) this.log.error(message);
    this.lastError = { at: new Date().toISOString(), message };
  }

  /** @param warnings everything that is to be warned of now @param notes what needs nobody to act; undefined: as before */
  warn(warnings: readonly string[], notes?: readonly string[]): void {
    for (const text of notes ? this.#notes.noteAll(notes, performance.now()) : []) this.log.info(text);
    for (const text of this.#warnings.noteAll(warnings, performance.now())) this.log.warn(text);
  }

  notice({ level, message, fields = {} }: Notice): void {
    if (level === "error") this.fail(message);
    else this.log[level](fields, message);
  }
}
