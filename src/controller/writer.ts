import { setTimeout as sleep } from "node:timers/promises";
import { Notices } from "../core/notices.ts";
import type { ApiError, Connection } from "../source/kubernetes/connection.ts";
import type { Level } from "../source/source.ts";
import type { Desk, Outcome, Write } from "./desk.ts";
import { CONDITION } from "./services.ts";

/** At most so many writes are under way, and so many begin in a second: an API server has more to do. */
const AT_ONCE = 8;
const PER_SECOND = 400;
/** Conditions are merged by their type, so that others' stay. */
const PATCH = "application/strategic-merge-patch+json";
/** The pause after the API could not be reached, ms. */
const PAUSE = 500;

export interface WriterOptions {
  connection: Connection;
  signal: AbortSignal;
  /** Questions to speakers may be due. */
  ask(): void;
  /** This process may write. */
  mayWrite(): boolean;
  log(level: Level, message: string): void;
}

/** Sends what a desk has to write. */
export class Writer {
  readonly #desk: Desk;
  readonly #options: WriterOptions;
  readonly #failures = new Notices(Number.POSITIVE_INFINITY);
  #open = 0;
  #timer: NodeJS.Timeout | undefined;
  #wakesAt = Number.POSITIVE_INFINITY;
  /** No write begins before, ms. */
  #notBefore = 0;
  /** The number of writes that took effect. */
  written = 0;

  constructor(desk: Desk, options: WriterOptions) {
    this.#desk = desk;
    this.#options = options;
    options.signal.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  /** There may be something to write. @param pause ms, in which more may come */
  wake(pause = 20): void {
    const at = performance.now() + pause;
    if (at >= this.#wakesAt || this.#options.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#wakesAt = at;
    this.#timer = setTimeout(() => {
      this.#wakesAt = Number.POSITIVE_INFINITY;
      this.#run();
    }, pause);
  }

  #run(): void {
    while (this.#open < AT_ONCE && this.#options.mayWrite()) {
      const now = performance.now();
      if (now < this.#notBefore) {
        this.wake(this.#notBefore - now);
        return;
      }
      const write = this.#desk.next(now, new Date().toISOString().replace(/\.\d+/, ""));
      if (!write) break;
      this.#notBefore = Math.max(now - 20, this.#notBefore) + 1000 / PER_SECOND;
      void this.#send(write);
    }
    if (this.#options.mayWrite()) this.#options.ask();
    const { wakeAt } = this.#desk;
    if (wakeAt !== undefined) this.wake(Math.min(60_000, Math.max(20, wakeAt - performance.now())));
  }

  async #send(write: Write): Promise<void> {
    const { connection, signal } = this.#options;
    const [namespace, name] = write.key.split("/");
    this.#open += 1;
    let outcome: Outcome = "written";
    try {
      const path = `/api/v1/namespaces/${namespace}/services/${name}/status`;
      const response = await connection.send("PATCH", path, signal, patchOf(write), PATCH);
      response.resume();
      this.written += 1;
      this.#failures.noteAll([], 0);
    } catch (error) {
      outcome = this.#failed(write, error as ApiError);
      if (outcome === "lost") await sleep(PAUSE, undefined, { signal }).catch(() => undefined);
    }
    this.#open -= 1;
    this.#desk.done(write, outcome);
    this.wake(0);
  }

  /** 409: it is another version. 404: it is gone. 422: the API does not take this, and would not later. */
  #failed(write: Write, { status, message }: ApiError): Outcome {
    if (status === 409 || status === 404) return "changed";
    const grant = `Grant it in isat's ClusterRole: { apiGroups: [""], resources: ["services/status"], verbs: ["patch"] }`;
    const text = status === 403 ? grant : message;
    if (!this.#options.signal.aborted) {
      for (const _ of this.#failures.noteAll([text], performance.now()))
        this.#options.log(
          "warn",
          `Cannot write the status of Service ${write.key}: ${message}${status === 403 ? `. ${grant}` : ""}`,
        );
    }
    return status === 422 ? "changed" : "lost";
  }

  /** Resolves when no write is under way. */
  async idle(): Promise<void> {
    while (this.#open > 0) await sleep(10);
  }
}

function patchOf({ uid, version, ingress, condition }: Write): object {
  const {
    since: lastTransitionTime,
    generation: observedGeneration,
    ...said
  } = condition ?? { since: "", generation: 0 };
  const own = condition
    ? { type: CONDITION, ...said, lastTransitionTime, observedGeneration }
    : { $patch: "delete", type: CONDITION };
  return {
    metadata: { uid, resourceVersion: version },
    status: { conditions: [own], ...(ingress && { loadBalancer: { ingress: ingress.map((ip) => ({ ip })) } }) },
  };
}
