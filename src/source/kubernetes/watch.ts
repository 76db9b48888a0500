import type { IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { doubled } from "../../core/time.ts";
import type { Level } from "../source.ts";
import { ApiError, type Connection } from "./connection.ts";
import { BreakError, ContentError, eventOf, linesOf, MAX_LINE, MAX_OBJECT, pageOf } from "./lines.ts";
import { type Key, nameOf } from "./objects.ts";

/** A list of objects in the API. */
export interface Resource {
  /** The name in RBAC: "" is the core group. */
  group: string;
  version: string;
  plural: string;
  /** undefined: all namespaces, or it has none. */
  namespace?: string;
  /** `labelSelector` or `fieldSelector`. */
  query?: Record<string, string>;
}

/** Takes what a watch reads. */
export interface Handler {
  /** @param fault why the object is no more than its metadata */
  put(object: unknown, fault?: string): void;
  remove(key: Key): void;
  /** Every object has been put. An object that is not among the keys is gone. */
  onListed(keys: ReadonlySet<Key>): void;
  /** The API answers; or it has been out of reach since a time, in ms. */
  onConnection(lostSince: number | undefined): void;
  /** The reason why the resource cannot be read; undefined: it can be read again. */
  onTrouble(message: string | undefined): void;
  log(level: Level, message: string): void;
}

/** All in ms. */
export interface Timing {
  /**
   * A watch that is silent for this long begins anew where it was. That is not logged: bookmarks come once a minute, but not
   * for a resource that has not changed since the API server started.
   */
  stall: number;
  /** As `stall`, while the watch sends the objects that exist. */
  stallListing: number;
  /** The pause before the first retry, and the longest pause. */
  retry: [first: number, longest: number];
  /** A watch that ends sooner than this counts as one more failure in a row. */
  steady: number;
}

export const TIMING: Timing = { stall: 90_000, stallListing: 30_000, retry: [100, 5_000], steady: 10_000 };

export interface FollowOptions {
  connection: Connection;
  signal: AbortSignal;
  /** Aborted when the API is out of reach: an answer that is being read then begins anew where it was. */
  reach: () => AbortSignal;
  timing: Timing;
}

/** The most objects in a page of a list. Where that many have more than MAX_OBJECT bytes, a page has fewer. */
const PAGE = 100;
const GONE = 410;
/**
 * HTTP statuses of an API server that starts: its RBAC is not loaded yet, its storage is not ready, or the load balancer in
 * front of it has no server to send to.
 */
const PASSING = [403, 429, 503, 504];
/** The resourceVersion is at fault: it is gone, malformed, or newer than all (after etcd was restored from a backup). */
const BAD_VERSION = [GONE, 400, 504];
/** TCP probes a dead connection ten times, once a second, before it gives up: it was dead for so long by then, ms. */
const UNANSWERED = 10_000;
/** Statuses that do not tell whether the server has WatchList. */
const NOT_WATCH_LIST = [GONE, 401, 403, 404, 429, 503];

/** An answer was silent for too long. */
class StallError extends BreakError {}
class ReachError extends BreakError {}

/** An event of type ERROR came in an answer whose status is 200. */
class EventError extends ApiError {}

export const pathOf = ({ group, version, plural, namespace }: Resource): string =>
  `${group ? `/apis/${group}` : "/api"}/${version}/${namespace ? `namespaces/${namespace}/` : ""}${plural}`;

/**
 * Lists a resource and watches it from then on, until the signal. It logs whatever goes wrong, and tries again.
 *
 * If the server has WatchList (KEP-3157: a watch that begins with the objects that exist), no list is ever held as a whole.
 * Otherwise the list is read in pages.
 */
export async function follow(resource: Resource, handler: Handler, options: FollowOptions): Promise<void> {
  const { signal, timing } = options;
  const follower = new Follower(resource, handler, options);
  let failures = 0;
  /** When a version was gone last. That happens now and then, and is not logged. */
  let gone = Number.NEGATIVE_INFINITY;
  /** Since when the API refuses what it gave before. */
  let refused: number | undefined;
  while (!signal.aborted) {
    const started = performance.now();
    let pause = 0;
    let isFirstGone = false;
    try {
      await follower.run();
    } catch (error) {
      if (signal.aborted) return;
      const { status } = error as ApiError;
      if (status === GONE) {
        isFirstGone = performance.now() - gone > timing.steady;
        gone = performance.now();
      }
      // An API server that starts refuses for a moment what it gave before.
      const isPassing = follower.hasListed && PASSING.includes(status);
      if (!isPassing) refused = undefined;
      else if (refused === undefined || follower.connected > refused) refused = performance.now();
      const isPatient = refused !== undefined && performance.now() - refused < timing.steady;
      if (!isPatient && !isFirstGone) handler.onTrouble(explain(resource, error as Error));
      pause = error instanceof ApiError ? error.retryAfter : 0;
    }
    // A watch that ends in good order counts too, because of servers that end each at once. After a version that is gone the
    // API is there, so the list must not wait.
    failures = isFirstGone || performance.now() - started > timing.steady ? 0 : failures + 1;
    const [first, most] = timing.retry;
    const backoff = doubled({ first, most }, failures) * (0.5 + Math.random() / 2);
    await sleep(Math.max(pause, backoff), undefined, { signal }).catch(() => undefined);
  }
}

class Follower {
  readonly #resource: Resource;
  readonly #handler: Handler;
  readonly #options: FollowOptions;
  /** The version from which the watch goes on; undefined: list first. */
  #version: string | undefined;
  #hasWatchList = true;
  #lastHeard = 0;
  hasListed = false;
  /** When a watch last began, ms. */
  connected = 0;

  constructor(resource: Resource, handler: Handler, options: FollowOptions) {
    this.#resource = resource;
    this.#handler = handler;
    this.#options = options;
  }

  /** Runs until the watch ends. @throws Error if it does not end in good order */
  async run(): Promise<void> {
    try {
      if (this.#version === undefined && !this.#hasWatchList) await this.#listPages();
      await this.#watch();
      this.#handler.onConnection(performance.now());
    } catch (error) {
      const wasListing = this.#version === undefined;
      const now = performance.now();
      const isDead = (error as NodeJS.ErrnoException).code === "ETIMEDOUT";
      this.#handler.onConnection(isDead ? Math.max(this.#lastHeard, now - UNANSWERED) : now);
      if (error instanceof ReachError || (error instanceof StallError && !wasListing)) return;
      if (isOfVersion(error as Error)) this.#version = undefined;
      if (!wasListing || !this.#hasWatchList || !isOfWatchList(error as Error)) throw error;
      this.#hasWatchList = false;
      const reason = (error as Error).message;
      this.#handler.log("info", `${this.#resource.plural} are listed in pages, as WatchList fails: ${reason}`);
      await this.run();
    }
  }

  async #get(query: Record<string, string>): Promise<IncomingMessage> {
    const { connection, signal } = this.#options;
    const parameters = new URLSearchParams({ ...this.#resource.query, ...query });
    const response = await connection.send("GET", `${pathOf(this.#resource)}?${parameters}`, signal);
    this.#lastHeard = performance.now();
    return response;
  }

  async #listPages(): Promise<void> {
    const keys = new Set<Key>();
    for (let next = "", limit = PAGE; this.#version === undefined; ) {
      const page = await this.#getPage(next, limit);
      if (!page) {
        limit = Math.ceil(limit / 4);
        continue;
      }
      for (const object of page.items) this.#put(object, keys, page.fault);
      const { resourceVersion, continue: more } = page.metadata ?? {};
      if (!resourceVersion) throw new ContentError("the list has no resourceVersion");
      if (more) [next, limit] = [more, Math.min(PAGE, limit * 2)];
      else this.#version = resourceVersion;
    }
    this.#listed(keys);
  }

  /** @returns undefined where a page of this many objects is too long */
  async #getPage(next: string, limit: number): Promise<ReturnType<typeof pageOf> | undefined> {
    const response = await this.#get({ limit: String(limit), ...(next && { continue: next }) });
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of this.#guarded(response, () => this.#options.timing.stallListing)) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > (limit === 1 ? MAX_LINE : MAX_OBJECT)) break;
    }
    if (length > MAX_OBJECT && limit > 1) return undefined;
    if (length > MAX_LINE) throw new ContentError(`it sent an object of more than ${MAX_LINE} bytes`);
    return pageOf(Buffer.concat(chunks));
  }

  #listed(keys: ReadonlySet<Key>): void {
    this.#guard(() => this.#handler.onListed(keys));
    this.hasListed = true;
    this.#handler.onConnection(undefined);
  }

  /** A watch has begun. A list alone does not tell: some servers give one, and refuse each watch of its version. */
  #connect(): void {
    this.connected = performance.now();
    this.#handler.onTrouble(undefined);
    this.#handler.onConnection(undefined);
  }

  async #watch(): Promise<void> {
    const { timing } = this.#options;
    const keys = this.#version === undefined ? new Set<Key>() : undefined;
    const response = await this.#get({
      watch: "true",
      allowWatchBookmarks: "true",
      ...(keys
        ? { sendInitialEvents: "true", resourceVersionMatch: "NotOlderThan" }
        : { resourceVersion: this.#version ?? "" }),
    });
    let listing = keys;
    if (!listing) this.#connect();
    const stall = () => (listing ? timing.stallListing : timing.stall);
    for await (const line of linesOf(this.#guarded(response, stall))) {
      const { type, object, fault } = eventOf(line);
      const version = object?.metadata?.resourceVersion;
      if (type === "ERROR")
        throw new EventError(object?.code ?? 0, object?.message ?? "an ERROR event without a message");
      if (type === "BOOKMARK") {
        if (listing && object?.metadata?.annotations?.["k8s.io/initial-events-end"] === "true") {
          this.#listed(listing);
          this.#connect();
          listing = undefined;
        }
      } else if (type === "ADDED" || type === "MODIFIED") this.#put(object, listing, fault);
      else if (type === "DELETED") this.#guard(() => this.#handler.remove(nameOf(object)));
      else throw new ContentError(`the watch sent an event of type ${JSON.stringify(type)}`);
      // The objects that exist come first, and their versions are in no order.
      if (!listing && version) this.#version = version;
    }
    if (listing) throw new BreakError("it ended before it had sent all there is");
  }

  #put(object: unknown, keys: Set<Key> | undefined, fault: string | undefined): void {
    keys?.add(nameOf(object));
    this.#guard(() => this.#handler.put(object, fault));
  }

  /** An object that cannot be taken must not hold up the others. */
  #guard(handle: () => void): void {
    try {
      handle();
    } catch (error) {
      this.#handler.log(
        "error",
        `Cannot take what the API sent of ${this.#resource.plural}: ${(error as Error).stack}`,
      );
    }
  }

  /** Yields the bytes of an answer. @throws StallError if it is silent for too long */
  async *#guarded(response: IncomingMessage, stall: () => number): AsyncGenerator<Buffer> {
    let timer: NodeJS.Timeout | undefined;
    const wait = () => {
      const limit = stall();
      clearTimeout(timer);
      timer = setTimeout(() => response.destroy(new StallError(`nothing was heard for ${limit / 1000} s`)), limit);
    };
    wait();
    const reach = this.#options.reach();
    const leave = () => response.destroy(new ReachError("the API is out of reach"));
    reach.addEventListener("abort", leave);
    try {
      for await (const chunk of response) {
        this.#lastHeard = performance.now();
        yield chunk;
        wait(); // only now, because the chunk may change how long to wait
      }
    } catch (error) {
      if (error instanceof BreakError) throw error;
      // Node calls the answer "aborted"; the socket has the reason.
      const { message, code } = (response.socket?.errored ?? error) as NodeJS.ErrnoException;
      const why = message === "aborted" ? "the server has closed it" : message;
      throw Object.assign(new Error(`The connection to the API is lost: ${why}`), { code });
    } finally {
      clearTimeout(timer);
      reach.removeEventListener("abort", leave);
      response.destroy(); // an abandoned watch must not be read to its end
    }
  }
}

const isOfVersion = (error: Error) =>
  error instanceof ContentError ||
  error instanceof EventError ||
  (error instanceof ApiError && BAD_VERSION.includes(error.status));

const isOfWatchList = (error: Error) =>
  error instanceof StallError || (error instanceof ApiError && !NOT_WATCH_LIST.includes(error.status));

/** Explains an error in one line. The line is the same for all resources if the connection is at fault. */
function explain({ group, plural, namespace }: Resource, error: Error): string {
  if (!(error instanceof ApiError)) {
    return error instanceof BreakError ? `The watch of ${plural} begins anew: ${error.message}` : error.message;
  }
  if (error.status === 401) return `The API server rejects isat's credentials (401): ${error.message}`;
  if (error.status === 403) {
    return `Cannot list and watch ${plural}: ${error.message}. Grant it in isat's ${namespace ? `Role in ${namespace}` : "ClusterRole"}: { apiGroups: ["${group}"], resources: ["${plural}"], verbs: ["list", "watch"] }`;
  }
  if (error.status === GONE)
    return `${plural} are listed anew, because the API no longer has the version that was known: ${error.message}`;
  return `The API refuses ${plural} (${error.status}): ${error.message}`;
}
