import type { ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Namespaces } from "../namespaces.ts";

/** How long a start may take, ms: three of these at once on two busy cores. */
const START_MS = 90_000;
const LAST_LINES = 8;

/** A program that runs for as long as the cluster, in a namespace of it, with what it says in a file. */
export class Daemon {
  readonly name: string;
  /** What it said. */
  readonly log: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #how: string | undefined;

  /** @param log a file; what it holds is kept */
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
    // A proxy that the machine's environment asks for is none of these namespaces' business.
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

  /** Waits until `isReady`. @throws Error with its last lines where it ends first, or takes too long */
  async ready(isReady: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
    for (const end = performance.now() + START_MS; !(await isReady()); await sleep(50, undefined, { signal })) {
      if (this.#how !== undefined) throw new Error(`${this.name} ${this.#how}. ${this.#lastWords()}`);
      if (performance.now() > end)
        throw new Error(`${this.name} was not ready in ${START_MS / 1000} s. ${this.#lastWords()}`);
    }
  }

  /** Ends it, and waits until it has. */
  async end(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }

  #lastWords(): string {
    return `Its last words:\n${readFileSync(this.log, "utf8").trimEnd().split("\n").slice(-LAST_LINES).join("\n")}`;
  }
}
