import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Namespaces } from "../namespaces.ts";
import { nodeByMac } from "../topology.ts";

/** One VIP as the client saw it. Times are ms since the epoch. */
export interface Seen {
  vip: string;
  asked: number;
  /** Requests that nobody answered. */
  unanswered: number;
  /** Requests that more than one MAC answered. */
  doubled: number;
  /** The time of the last request with two answers. */
  doubledAt: number | undefined;
  /** The longest time between two answered requests with an unanswered one between them, ms; 0 if all were answered. */
  silence: number;
  /** The end of that silence; undefined if there was none, or it still lasted at the end. */
  back: number | undefined;
  /** The MACs that answered, in turn: one item for each change. */
  answerers: { mac: string; at: number }[];
  /** The first announcement by each MAC. */
  announced: { mac: string; at: number }[];
  /** A character for each {@link BUCKET} ms: the last digit of the MAC that answered, `.` for nobody, `X` for two. */
  timeline: string;
}

/** Length of one character of the timeline, ms. */
export const BUCKET = 50;

export interface Report {
  vips: Seen[];
}

const CHILD = fileURLToPath(new URL("./watcher.ts", import.meta.url));
const LOADER = fileURLToPath(new URL("../../scripts/ts.mjs", import.meta.url));

/**
 * A client that asks for VIPs all the time. It is a process of its own, so that nothing else that happens delays it.
 */
export class Watch implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /**
   * @param namespace short name of the client's namespace
   * @param interval how often each VIP is asked for, ms
   * @param grace a request that has no answer after so many ms is unanswered; at most 2,000
   */
  static async start(
    namespaces: Namespaces,
    namespace: string,
    vips: readonly string[],
    interval: number,
    grace = 300,
  ): Promise<Watch> {
    const args = ["--no-warnings", "--import", LOADER, CHILD, String(interval), String(grace), ...vips];
    const child = namespaces.spawn(namespace, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    const watch = new Watch(child);
    await watch.#lines.next(); // it has begun to ask
    return watch;
  }

  /** Ends the watch, once the answers to the last requests have had their time. */
  async stop(): Promise<Report> {
    this.#child.stdin!.end();
    const { value } = await this.#lines.next();
    if (value === undefined) throw new Error("The watching client ended without a report");
    return JSON.parse(value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGKILL");
    await once(this.#child, "close");
  }
}

/** Totals over all VIPs. */
export function sumOf({ vips }: Report) {
  const total = (of: (seen: Seen) => number) => vips.reduce((sum, seen) => sum + of(seen), 0);
  return {
    asked: total(({ asked }) => asked),
    unanswered: total(({ unanswered }) => unanswered),
    doubled: total(({ doubled }) => doubled),
    moves: total(({ answerers }) => Math.max(0, answerers.length - 1)),
    mostMoves: Math.max(...vips.map(({ answerers }) => answerers.length - 1)),
    silence: Math.max(...vips.map(({ silence }) => silence)),
    mute: vips.filter(({ answerers, back, silence }) => answerers.length === 0 || (silence > 0 && back === undefined))
      .length,
  };
}

/** The nodes that answered for each VIP, in turn: `n1 > n3`. */
export function turns({ vips }: Report): Record<string, string> {
  const nameOf = (mac: string) => nodeByMac(mac)?.name ?? mac;
  return Object.fromEntries(
    vips.map(({ vip, answerers }) => [vip, answerers.map(({ mac }) => nameOf(mac)).join(" > ")]),
  );
}
