import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ApiError, Connection } from "./connection.ts";
import { keyOf } from "./objects.ts";
import type { Problem } from "./services.ts";

/** At least so far apart are two Events of one node, ms: a cluster full of poison is no reason to flood the API. */
const PAUSE = 1_000;
/** More than so many wait for their turn at no time; the log has them all. */
const MOST = 100;
/** Of an object's name in an Event's, which has 253 characters at most with what follows. */
const LONGEST = 236;
/** The API forgets an Event after an hour (--event-ttl): what holds on is told no oftener than that. */
const TTL = 3_600_000;

export interface EventsOptions {
  connection: Connection;
  /** This node. */
  node: string;
  signal: AbortSignal;
  report(level: "info" | "warn" | "error", message: string): void;
  /** ms, monotonic. */
  now(): number;
}

const API_VERSIONS = {
  Service: "v1",
  Node: "v1",
  EndpointSlice: "discovery.k8s.io/v1",
  IPAddressPool: "metallb.io/v1beta1",
  L2Advertisement: "metallb.io/v1beta1",
};

/**
 * Tells the owners of objects, by Events on them. The name of an Event follows from what it says, so that of all nodes
 * that see the same, the first writes it, and the others are answered that it is there.
 */
export class Events {
  readonly #options: EventsOptions;
  /** What was told, and when. */
  readonly #told = new Map<string, number>();
  readonly #waiting = new Map<string, Problem>();
  /** What held at the last call. */
  #held: ReadonlySet<string> = new Set();
  #isSending = false;
  /** Why none could be written last. */
  #failure: string | undefined;

  constructor(options: EventsOptions) {
    this.#options = options;
  }

  /** What holds now; what is new of it is told, and what has held for long again. Gives those that did not hold before. */
  tell(reports: readonly Problem[]): Problem[] {
    const now = this.#options.now();
    for (const [id, at] of this.#told) if (now - at > TTL) this.#told.delete(id);
    const ids = reports.map(idOf);
    for (const [i, id] of ids.entries()) {
      if (this.#told.has(id)) continue;
      this.#told.set(id, now);
      if (this.#waiting.size < MOST) this.#waiting.set(id, reports[i]!);
    }
    // What does not hold any more before its turn came is not worth telling.
    const current = new Set(ids);
    const news = reports.filter((_, i) => !this.#held.has(ids[i]!));
    this.#held = current;
    for (const id of this.#waiting.keys()) if (!current.has(id)) this.#waiting.delete(id);
    if (!this.#isSending) void this.#send();
    return news;
  }

  async #send(): Promise<void> {
    const { signal } = this.#options;
    this.#isSending = true;
    for (const [id, report] of this.#waiting) {
      this.#waiting.delete(id);
      if (report.ref.name === "") continue; // nothing can be said of what has no name
      const isWritten = await this.#write(id, report);
      if (isWritten) await sleep(PAUSE, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) break;
    }
    this.#isSending = false;
  }

  /** False where another node was first, or it cannot be written. */
  async #write(id: string, news: Problem): Promise<boolean> {
    const { connection, signal, node, report } = this.#options;
    const body = eventOf(news, id, node);
    try {
      const path = `/api/v1/namespaces/${body.metadata.namespace}/events`;
      const response = await connection.send("POST", path, { signal, body });
      response.resume();
      this.#failure = undefined;
      return true;
    } catch (error) {
      const { message, status } = error as ApiError;
      // 404: its namespace is gone; or it is going, which is a 403.
      if (signal.aborted || status === 409 || status === 404 || message.includes("being terminated")) return false;
      const grant = `Grant it in isat's ClusterRole: { apiGroups: [""], resources: ["events"], verbs: ["create"] }`;
      const failure = status === 403 ? grant : message;
      if (failure !== this.#failure)
        report("warn", `Cannot write Events: ${message}${status === 403 ? `. ${grant}` : ""}`);
      this.#failure = failure;
      if (status !== 422) this.#waiting.clear(); // 422: it is this one's fault alone
      return false;
    }
  }
}

const idOf = ({ ref, reason, message }: Problem) =>
  `${ref.name.slice(0, LONGEST)}.${hash("sha256", `${ref.kind} ${keyOf(ref)} ${ref.uid} ${reason} ${message}`, "hex").slice(0, 16)}`;

function eventOf({ ref, reason, message }: Problem, name: string, node: string) {
  const namespace = ref.namespace ?? "default"; // where Events on Nodes stand
  const time = new Date().toISOString();
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name, namespace },
    involvedObject: { apiVersion: API_VERSIONS[ref.kind], ...ref },
    type: "Warning",
    reason,
    message: message.slice(0, 1000), // the API takes 1,024 bytes
    source: { component: "isat", host: node },
    reportingComponent: "isat",
    reportingInstance: node,
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}
