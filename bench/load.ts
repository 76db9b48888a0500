import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { inNamespace, type Namespaces } from "../lab/namespaces.ts";
import { CLIENT_INTERFACE } from "./addresses.ts";
import type { Stand } from "./stand.ts";
import { CPUS } from "./system.ts";

const OTHERS = fileURLToPath(new URL("./others.ts", import.meta.url));

/** Keeps every CPU busy with empty loops, until it is disposed of. */
export class BusyLoops implements Disposable {
  readonly #children: ChildProcess[];

  constructor(perCpu: number) {
    this.#children = CPUS.flatMap((cpu) =>
      Array.from({ length: perCpu }, () =>
        spawn("taskset", ["-c", `${cpu}`, "sh", "-c", "while :; do :; done"], { stdio: "ignore" }),
      ),
    );
    process.on("exit", this.#kill);
  }

  #kill = () => {
    for (const child of this.#children) child.kill("SIGKILL");
  };

  [Symbol.dispose](): void {
    process.off("exit", this.#kill);
    this.#kill();
  }
}

/** Sends questions for addresses that no host has from a stand's client, while it is not stopped. */
export class Others {
  readonly #child: ChildProcess;
  readonly #stand: Stand;

  private constructor(stand: Stand, child: ChildProcess) {
    this.#stand = stand;
    this.#child = child;
  }

  /** Starts the sender, and stops it at once. @param rate frames a second */
  static async start(namespaces: Namespaces, stand: Stand, rate: number): Promise<Others> {
    const client = stand.client.slice(namespaces.prefix.length);
    const loader = ["--no-warnings", "--import", "./scripts/ts.mjs"];
    const child = namespaces.spawn(
      client,
      process.execPath,
      [...loader, OTHERS, stand.client, `${rate}`, stand.family],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    await new Promise<void>((resolve, reject) => {
      child.stdout!.once("data", () => resolve());
      child.once("close", () => reject(new Error("Cannot ask for others: its process has ended")));
    });
    child.kill("SIGSTOP");
    return new Others(stand, child);
  }

  /** Sends while `body` measures. @returns also the rate of all frames that left the client, whoever sent them */
  async beside<T>(body: () => Promise<T>): Promise<{ result: T; rate: number }> {
    const sent = () => transmitted(this.#stand.client);
    this.#child.kill("SIGCONT");
    try {
      await new Promise((resolve) => setTimeout(resolve, 30));
      const [before, began] = [sent(), performance.now()];
      const result = await body();
      return { result, rate: ((sent() - before) / (performance.now() - began)) * 1000 };
    } finally {
      this.#child.kill("SIGSTOP");
    }
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}

/** The number of frames that the client's interface has sent. */
function transmitted(namespace: string): number {
  const lines = inNamespace(namespace, () => readFileSync("/proc/thread-self/net/dev", "utf8")).split("\n");
  const line = lines.find((line) => line.trim().startsWith(`${CLIENT_INTERFACE}:`))!;
  return Number(line.split(":")[1]!.trim().split(/\s+/)[9]);
}
