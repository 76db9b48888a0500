import assert from "node:assert/strict";
import { type ChildProcess, execFile } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { ISAT, requireBundle } from "../bundle.ts";
import type { Namespaces } from "../namespaces.ts";

/** A limit for anything that should take less than a second, ms. It is generous, since the machine may be busy. */
export const PATIENCE = 10_000;

/** Polls until `condition` returns something. @throws Error that names `what`, after `limit` ms */
export async function until<T>(
  what: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  limit = PATIENCE,
): Promise<T> {
  for (const end = performance.now() + limit; ; ) {
    const found = await condition();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${limit / 1000} s`);
    await sleep(5);
  }
}

/**
 * Asserts that `read` returns what is expected, now or within {@link PATIENCE}. Detached programs need the time: the
 * kernel lets go of an unpinned link a moment after unlink() has returned.
 */
export async function becomes<T>(read: () => T | Promise<T>, expected: T, message?: string): Promise<void> {
  for (const end = performance.now() + PATIENCE; ; await sleep(10)) {
    const found = await read();
    try {
      return assert.deepEqual(found, expected, message);
    } catch (error) {
      if (performance.now() > end) throw error;
    }
  }
}

export interface LogLine {
  level: string;
  msg: string;
  [key: string]: unknown;
}

/** One `isat` process, and its log. */
export class Process {
  readonly child: ChildProcess;
  /** The log so far. */
  readonly log: LogLine[] = [];
  /** Everything that came on stderr. */
  stderr = "";
  readonly #closed: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  isClosed = false;

  /** @param prefix a command, with its arguments, that runs isat */
  constructor(namespaces: Namespaces, namespace: string, args: readonly string[], prefix: readonly string[] = []) {
    requireBundle();
    const [command, ...rest] = [...prefix, ...ISAT, ...args];
    this.child = namespaces.spawn(namespace, command!, rest, { stdio: ["ignore", "ignore", "pipe"] });
    createInterface({ input: this.child.stderr! }).on("line", (line) => {
      this.stderr += `${line}\n`;
      try {
        this.log.push(JSON.parse(line));
      } catch {
        // not a line of the log: the error with which `isat` ends
      }
    });
    this.#closed = new Promise((resolve) => {
      this.child.once("close", (code, signal) => {
        this.isClosed = true;
        resolve({ code, signal });
      });
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** The first line of the log, from the index `from` on, that matches. */
  said(pattern: RegExp, from = 0): LogLine | undefined {
    return this.log.slice(from).find(({ msg }) => pattern.test(msg));
  }

  /** Waits for a line of the log that matches. @throws Error with all that it logged, where it ends first */
  async says(pattern: RegExp, { from = 0, limit = PATIENCE } = {}): Promise<LogLine> {
    const line = await until(
      `isat says ${pattern}`,
      () => this.said(pattern, from) ?? (this.isClosed ? null : undefined),
      limit,
    ).catch((error: Error) => {
      throw new Error(`${error.message}. It said:\n${this.stderr}`);
    });
    if (line) return line;
    throw new Error(`isat ended before it said ${pattern}. It said:\n${this.stderr}`);
  }

  ready(): Promise<LogLine> {
    return this.says(/^ready$/);
  }

  /** Waits until the process has ended. */
  async ended(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    await until("isat ends", () => this.isClosed);
    return this.#closed;
  }

  /** Sends the signal, and waits until the process has ended. @returns its exit status; null if the signal ended it */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.child.kill(signal);
    return (await this.ended()).code;
  }
}

export interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end; kills it after 20 s. */
export function execute(command: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 20_000, killSignal: "SIGKILL" }, (error, stdout, stderr) => {
      const status = error ? (typeof error.code === "number" ? error.code : -1) : 0;
      resolve({ status, stdout, stderr });
    });
  });
}

/** Runs a command that must succeed. @returns its standard output @throws Error where it fails */
export async function must(command: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await execute(command, args);
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with status ${status}: ${stderr}`);
  return stdout;
}
