import type { ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Namespaces } from "../namespaces.ts";

/** Limit for a start, ms: three may start at once on two busy cores. */
const START_MS = 90_000;
const LAST_LINES = 8;

/** A program that runs in a namespace for as long as the cluster, and writes its output to a file. */
export class Daemon {
  readonly name: string;
  /** The file with its output. */
  readonly log: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #how: string | undefined;

  /** @param log a file, to which output is appended */
  constructor(
    namespaces: Namespaces,
    namespace: string,
    log: string,
    name: string,
    [command, ...args]: readonly [string, ...string[]],
    env: NodeJS.ProcessEnv = {},
  ) {
    this.name = name;
    this.log = log;
    const output = openSync(log, "a");
    // A proxy in this machine's environment cannot be reached from the namespaces.
    const direct = { NO_PROXY: "*", no_proxy: "*" };
    const stdio = ["ignore" as const, output, output];
    this.#child = namespaces.spawn(namespace, command, args, { stdio, env: { ...process.env, ...direct, ...env } });
    closeSync(output);
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.#how = `cannot be run: ${error.message}`;
        resolve();
      });
      this.#child.once("exit", (code, signal) => {
        this.#how ??= code === null ? `was ended by ${signal}` : `has ended with status ${code}`;
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get isRunning(): boolean {
    return this.#how === undefined;
  }

  /** Waits until `isReady` returns true. @throws Error with its last lines where it ends first, or takes too long */
  async ready(isReady: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
    for (const end = performance.now() + START_MS; !(await isReady()); await sleep(50, undefined, { signal })) {
      if (this.#how !== undefined) throw new Error(`${this.name} ${this.#how}. ${this.#lastWords()}`);
      if (performance.now() > end)
        throw new Error(`${this.name} was not ready in ${START_MS / 1000} s. ${this.#lastWords()}`);
    }
  }

  /** Ends the program, and waits until it has ended. */
  async end(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }

  #lastWords(): string {
    return `Its last words:\n${readFileSync(this.log, "utf8").trimEnd().split("\n").slice(-LAST_LINES).join("\n")}`;
  }
}
