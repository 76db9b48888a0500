import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Notices } from "../../core/notices.ts";
import type { Surroundings } from "../source.ts";
import type { ApiError, Connection } from "./connection.ts";
import { keyOf } from "./objects.ts";
import { apiVersionOf, RESOURCES } from "./resources.ts";
import type { Problem } from "./services.ts";

/** The least pause between two Events of one node, ms: many bad objects must not flood the API. */
const PAUSE = 1_000;
/** At most so many Events wait for their turn. The log has all of them. */
const MOST = 100;
/** The longest part of an object's name in the name of an Event, which has 253 characters at most. */
const LONGEST = 236;
/** The API forgets an Event after an hour (--event-ttl); a problem that persists is written again no more often. */
const TTL = 3_600_000;

export interface EventsOptions extends Pick<Surroundings, "log"> {
  connection: Connection;
  node: string;
  signal: AbortSignal;
}

/**
 * Writes Events on objects, so that their owners learn of problems. The name of an Event follows from its content: of all
 * nodes that see the same problem the first writes it, and the API tells the others that it exists.
 */
export class Events {
  readonly #options: EventsOptions;
  /** Which Events are due; by their names. */
  readonly #due = new Notices(TTL);
  readonly #waiting = new Map<string, Problem>();
  #isSending = false;
  readonly #failures = new Notices(Number.POSITIVE_INFINITY);

  constructor(options: EventsOptions) {
    this.#options = options;
  }

  /** Takes all problems of now, and writes an Event for each that is new or has persisted for long. */
  take(problems: readonly Problem[]): void {
    const now = performance.now();
    const byName = new Map(problems.map((problem) => [nameOf(problem), problem]));
    for (const [name, problem] of byName) {
      if (this.#due.note(name, now) && this.#waiting.size < MOST) this.#waiting.set(name, problem);
    }
    // A problem that is over before its turn comes is not worth an Event.
    for (const name of this.#waiting.keys()) if (!byName.has(name)) this.#waiting.delete(name);
    if (!this.#isSending) void this.#send();
  }

  async #send(): Promise<void> {
    const { signal } = this.#options;
    this.#isSending = true;
    for (const [name, problem] of this.#waiting) {
      this.#waiting.delete(name);
      if (problem.ref.name === "") continue; // an Event must name its object
      const isWritten = await this.#write(name, problem);
      if (isWritten) await sleep(PAUSE, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) break;
    }
    this.#isSending = false;
  }

  /** @returns false if another node was first, or if the Event cannot be written */
  async #write(name: string, problem: Problem): Promise<boolean> {
    const { connection, signal, node } = this.#options;
    const body = eventOf(problem, name, node);
    try {
      const path = `/api/v1/namespaces/${body.metadata.namespace}/events`;
      const response = await connection.send("POST", path, signal, body);
      response.resume();
      this.#failures.noteAll([], 0);
      return true;
    } catch (error) {
      if (!signal.aborted) this.#fail(error as ApiError);
      return false;
    }
  }

  #fail({ message, status }: ApiError): void {
    // 409: another node has written it. 404: its namespace is gone; while that is being deleted, the status is 403.
    if (status === 409 || status === 404 || message.includes("being terminated")) return;
    const grant = `Grant it in isat's ClusterRole: { apiGroups: [""], resources: ["events"], verbs: ["create"] }`;
    const failure = status === 403 ? grant : message; // the message of a 403 names the object: it is another each time
    for (const _ of this.#failures.noteAll([failure], performance.now())) {
      this.#options.log("warn", `Cannot write Events: ${message}${status === 403 ? `. ${grant}` : ""}`);
    }
    if (status !== 422) this.#waiting.clear(); // 422 is the fault of this Event alone
  }
}

const nameOf = ({ ref, reason, message, told = message }: Problem) =>
  `${ref.name.slice(0, LONGEST)}.${hash("sha256", `${ref.kind} ${keyOf(ref)} ${ref.uid} ${reason} ${told}`, "hex").slice(0, 16)}`;

function eventOf({ ref, reason, message, told = message }: Problem, name: string, node: string) {
  const namespace = ref.namespace ?? "default"; // Events on Nodes are in this namespace
  const time = new Date().toISOString();
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name, namespace },
    involvedObject: { apiVersion: apiVersionOf(RESOURCES[ref.kind]), ...ref },
    type: "Warning",
    reason,
    message: told.slice(0, 1000), // the API takes 1,024 bytes
    source: { component: "isat", host: node },
    reportingComponent: "isat",
    reportingInstance: node,
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}
