import type { IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError, type Connection } from "./connection.ts";
import { type Key, nameOf } from "./objects.ts";

/** A list of objects of the API. */
export interface Resource {
  /** As RBAC names it: "" is the core group. */
  group: string;
  version: string;
  plural: string;
  /** `labelSelector` or `fieldSelector`. */
  query?: Record<string, string>;
}

/** What becomes of what is read. */
export interface Handler {
  put(object: unknown): void;
  remove(key: Key): void;
  /** All there is has been put; what is not among the keys is gone. */
  onListed(keys: ReadonlySet<Key>): void;
  /** The API is heard, or, with the time since when, not any more. */
  onConnection(lostSince: number | undefined): void;
  /** What stands in the way; undefined: nothing any more. */
  onTrouble(message: string | undefined): void;
  report(level: "info" | "warn" | "error", message: string): void;
}

/** All in ms. */
export interface Timing {
  /**
   * A watch in which nothing is heard for so long is begun anew from where it was. Bookmarks come once a minute, but not
   * of a resource that has not changed since the API server started: so that is no news.
   */
  stall: number;
  /** The same while a watch sends what there is. */
  stallListing: number;
  /** The first retry, and the longest pause between two. */
  retry: [first: number, longest: number];
  /** A watch that fails sooner than this counts as one more failure in a row. */
  steady: number;
}

export const TIMING: Timing = { stall: 90_000, stallListing: 30_000, retry: [100, 5_000], steady: 10_000 };

export interface FollowOptions {
  connection: Connection;
  signal: AbortSignal;
  timing: Timing;
  /** ms, monotonic. */
  now(): number;
  random(): number;
}

/** Objects that one page of a list has. */
const PAGE = 100;
/** etcd holds no object of more than 1.5 MB by default, and the API takes none of more than 3. */
const MAX_LINE = 32 * 2 ** 20;
/** HTTP statuses of which the version is to blame: gone, malformed, later than any (an etcd put back from a backup). */
const GONE = 410;
/** Of an API server that starts: its RBAC is not loaded yet, its storage not ready, something before it has none to send to. */
const PASSING = [403, 429, 503, 504];
const BAD_VERSION = [GONE, 400, 504];
/** For how long TCP has probed a connection in vain when it gives up, ms: it does so ten times, once a second. */
const UNANSWERED = 10_000;
/** Those that say nothing about whether the server has WatchList. */
const NOT_WATCH_LIST = [GONE, 401, 403, 404, 429, 503];

/** An answer broke off, or nothing came for too long. */
class BreakError extends Error {}
class StallError extends BreakError {}

/** An answer holds what cannot be understood: something may have been missed. */
class ContentError extends BreakError {}

/** An event of type ERROR, in an answer whose status is 200. */
class EventError extends ApiError {}

interface WatchEvent {
  type?: string;
  object?: {
    code?: number;
    message?: string;
    metadata?: { resourceVersion?: string; annotations?: Record<string, string> };
  };
}

export const pathOf = ({ group, version, plural }: Resource): string =>
  `${group ? `/apis/${group}` : "/api"}/${version}/${plural}`;

/**
 * Lists a resource and watches it from then on, until the signal; whatever goes wrong is said and tried again.
 *
 * By WatchList (KEP-3157: one watch that begins with all there is) where the server has it, so that no list is ever
 * held as a whole; else by pages.
 */
export async function follow(resource: Resource, handler: Handler, options: FollowOptions): Promise<void> {
  const { signal, timing, now, random } = options;
  const follower = new Follower(resource, handler, options);
  let failures = 0;
  /** When a version was gone last: now and then one is, which is in order. */
  let gone = Number.NEGATIVE_INFINITY;
  /** Since when the API refuses what it had given. */
  let refused: number | undefined;
  while (!signal.aborted) {
    const started = now();
    let pause = 0;
    let isFirstGone = false;
    try {
      await follower.run();
    } catch (error) {
      if (signal.aborted) return;
      const { status } = error as ApiError;
      if (status === GONE) {
        isFirstGone = now() - gone > timing.steady;
        gone = now();
      }
      // An API server that starts refuses what it will give in a moment, and what it gave before.
      const isPassing = follower.hasListed && PASSING.includes(status);
      if (!isPassing) refused = undefined;
      else if (refused === undefined || follower.connected > refused) refused = now();
      const isPatient = refused !== undefined && now() - refused < timing.steady;
      if (!isPatient && !isFirstGone) handler.onTrouble(explain(resource, error as Error));
      pause = error instanceof ApiError ? error.retryAfter : 0;
    }
    // Also a watch that ends in good order, for a server that ends each at once.
    // After a version that is gone the API is there: it is a list that is wanted, not patience.
    failures = isFirstGone || now() - started > timing.steady ? 0 : failures + 1;
    const [first, longest] = timing.retry;
    const backoff = Math.min(longest, first * 2 ** Math.min(failures, 20)) * (0.5 + random() / 2);
    await sleep(Math.max(pause, backoff), undefined, { signal }).catch(() => undefined);
  }
}

class Follower {
  readonly #resource: Resource;
  readonly #handler: Handler;
  readonly #options: FollowOptions;
  /** Where to go on; undefined: list first. */
  #version: string | undefined;
  #hasWatchList = true;
  #lastHeard = 0;
  hasListed = false;
  /** When it was given what it asked for last, ms. */
  connected = 0;

  constructor(resource: Resource, handler: Handler, options: FollowOptions) {
    this.#resource = resource;
    this.#handler = handler;
    this.#options = options;
  }

  /** Until the watch ends. @throws Error where it does not end in good order */
  async run(): Promise<void> {
    try {
      if (this.#version === undefined && !this.#hasWatchList) await this.#listPages();
      await this.#watch();
      this.#handler.onConnection(this.#options.now());
    } catch (error) {
      const wasListing = this.#version === undefined;
      const now = this.#options.now();
      const isDead = (error as NodeJS.ErrnoException).code === "ETIMEDOUT";
      this.#handler.onConnection(isDead ? Math.max(this.#lastHeard, now - UNANSWERED) : now);
      if (error instanceof StallError && !wasListing) return;
      if (isOfVersion(error as Error)) this.#version = undefined;
      if (!wasListing || !this.#hasWatchList || !isOfWatchList(error as Error)) throw error;
      this.#hasWatchList = false;
      const reason = (error as Error).message;
      this.#handler.report("info", `${this.#resource.plural} are listed in pages, as WatchList fails: ${reason}`);
      await this.run();
    }
  }

  async #get(query: Record<string, string>): Promise<IncomingMessage> {
    const { connection, signal } = this.#options;
    const parameters = new URLSearchParams({ ...this.#resource.query, ...query });
    const response = await connection.send("GET", `${pathOf(this.#resource)}?${parameters}`, { signal });
    this.#lastHeard = this.#options.now();
    return response;
  }

  async #listPages(): Promise<void> {
    const keys = new Set<Key>();
    let next = "";
    do {
      const response = await this.#get({ limit: String(PAGE), ...(next && { continue: next }) });
      const chunks: Buffer[] = [];
      for await (const chunk of this.#guarded(response, this.#options.timing.stallListing)) chunks.push(chunk);
      const page = parse<{
        metadata?: { resourceVersion?: string; continue?: string };
        items?: unknown[];
      }>(Buffer.concat(chunks));
      for (const object of page.items ?? []) this.#put(object, keys);
      this.#version = page.metadata?.resourceVersion;
      next = page.metadata?.continue ?? "";
      if (next) this.#version = undefined;
    } while (next);
    if (this.#version === undefined) throw new ContentError("the list has no resourceVersion");
    this.#listed(keys);
  }

  #listed(keys: ReadonlySet<Key>): void {
    this.#guard(() => this.#handler.onListed(keys));
    this.hasListed = true;
    this.#connect();
  }

  #connect(): void {
    this.connected = this.#options.now();
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
      const { type, object } = parse<WatchEvent>(line);
      const version = object?.metadata?.resourceVersion;
      if (type === "ERROR")
        throw new EventError(object?.code ?? 0, object?.message ?? "an ERROR event without a message");
      if (type === "BOOKMARK") {
        if (listing && object?.metadata?.annotations?.["k8s.io/initial-events-end"] === "true") {
          this.#listed(listing);
          listing = undefined;
        }
      } else if (type === "ADDED" || type === "MODIFIED") this.#put(object, listing);
      else if (type === "DELETED") this.#guard(() => this.#handler.remove(nameOf(object)));
      else throw new ContentError(`the watch sent an event of type ${JSON.stringify(type)}`);
      // Until all there is has been sent, versions come in no order.
      if (!listing && version) this.#version = version;
    }
    if (listing) throw new BreakError("it ended before it had sent all there is");
  }

  #put(object: unknown, keys: Set<Key> | undefined): void {
    keys?.add(nameOf(object));
    this.#guard(() => this.#handler.put(object));
  }

  /** One object that cannot be taken keeps none of the others waiting. */
  #guard(handle: () => void): void {
    try {
      handle();
    } catch (error) {
      this.#handler.report(
        "error",
        `Cannot take what the API sent of ${this.#resource.plural}: ${(error as Error).stack}`,
      );
    }
  }

  /** The bytes of an answer; an error where none come for too long. */
  async *#guarded(response: IncomingMessage, stall: number | (() => number)): AsyncGenerator<Buffer> {
    let timer: NodeJS.Timeout | undefined;
    const wait = () => {
      const limit = typeof stall === "number" ? stall : stall();
      clearTimeout(timer);
      timer = setTimeout(() => response.destroy(new StallError(`nothing was heard for ${limit / 1000} s`)), limit);
    };
    wait();
    try {
      for await (const chunk of response) {
        this.#lastHeard = this.#options.now();
        yield chunk;
        wait(); // after what was heard has been taken, for that may change how long to wait
      }
    } catch (error) {
      if (error instanceof BreakError) throw error;
      // What Node says of the answer is "aborted"; why stands with the socket.
      const { message, code } = (response.socket?.errored ?? error) as NodeJS.ErrnoException;
      const why = message === "aborted" ? "the server has closed it" : message;
      throw Object.assign(new Error(`The connection to the API is lost: ${why}`), { code });
    } finally {
      clearTimeout(timer);
      response.destroy(); // a watch that is left is not to be read to its end
    }
  }
}

const isOfVersion = (error: Error) =>
  error instanceof ContentError ||
  error instanceof EventError ||
  (error instanceof ApiError && BAD_VERSION.includes(error.status));

const isOfWatchList = (error: Error) =>
  error instanceof StallError || (error instanceof ApiError && !NOT_WATCH_LIST.includes(error.status));

function parse<T>(bytes: Buffer): T {
  try {
    return JSON.parse(bytes.toString()) as T;
  } catch (error) {
    throw new ContentError(`what was sent is no JSON: ${(error as Error).message.slice(0, 200)}`);
  }
}

/** Lines, split on bytes: no text of more than one object is ever made. */
async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, end));
      const line = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      if (line.length > 0) yield line;
      parts = [];
      length = 0;
      start = end + 1;
    }
    if (start === chunk.length) continue;
    parts.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > MAX_LINE) throw new ContentError(`it sent a line of more than ${MAX_LINE} bytes`);
  }
  if (parts.length > 0) throw new BreakError("it ended in the middle of a line");
}

/** One line that says what to do; the same for all resources where it lies with the connection. */
function explain({ group, plural }: Resource, error: Error): string {
  if (!(error instanceof ApiError)) {
    return error instanceof BreakError ? `The watch of ${plural} is begun anew: ${error.message}` : error.message;
  }
  if (error.status === 401) return `The API takes isat's credentials for nobody's (401): ${error.message}`;
  if (error.status === 403) {
    return `Cannot list and watch ${plural}: ${error.message}. Grant it in isat's ClusterRole: { apiGroups: ["${group}"], resources: ["${plural}"], verbs: ["list", "watch"] }`;
  }
  if (error.status === GONE)
    return `${plural} are listed anew, as the API has let go of the version that was known: ${error.message}`;
  return `The API refuses ${plural} (${error.status}): ${error.message}`;
}
