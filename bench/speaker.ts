import type { ChildProcess } from "node:child_process";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { ISAT, requireBundle } from "../lab/bundle.ts";
import type { Namespaces } from "../lab/namespaces.ts";
import { LAYOUT } from "../src/core/abi.ts";
import type { HookKind } from "../src/kernel/hooks.ts";
import { NODE_INTERFACE } from "./addresses.ts";

const READY_MS = 30_000;

export interface Settings {
  hook: HookKind | "auto";
  /** Ranges, as the file takes them; all are this node's. */
  vips: readonly string[];
  /** Three nodes share the VIPs, as in a cluster. @default false: all are this node's */
  isShared?: boolean;
  /** Announces as by default. @default false: hardly ever, so that nothing is on the wire but what is measured */
  isLoud?: boolean;
}

/** One `isat run` of the bundle in a namespace, and its configuration file. */
export class Speaker {
  readonly config: string;
  readonly pinDir: string;
  readonly #namespaces: Namespaces;
  readonly #namespace: string;
  readonly #runDir: string;
  #child: ChildProcess | undefined;
  #ready: Promise<void> = Promise.resolve();
  #closed: Promise<void> = Promise.resolve();
  /** performance.now() when it was started. */
  startedAt = 0;

  /** @param namespace the node's, by its short name @param places folders: for files, and on a bpffs */
  constructor(namespaces: Namespaces, namespace: string, places: { folder: string; bpffs: string }) {
    requireBundle();
    this.#namespaces = namespaces;
    this.#namespace = namespace;
    this.config = `${places.folder}/${namespace}.yaml`;
    this.#runDir = `${places.folder}/${namespace}`;
    this.pinDir = `${places.bpffs}/${namespace}`;
  }

  /** Where the maps are pinned. */
  get maps(): string {
    return `${this.pinDir}/v${LAYOUT}`;
  }

  get pid(): number {
    return this.#child!.pid!; // nsenter becomes the program it runs
  }

  /** Writes the file and renames it into place; gives performance.now() at that. */
  configure({ hook, vips, isShared = false, isLoud = false }: Settings): number {
    const text = `node: n1
interfaces: [${NODE_INTERFACE}]
hook: ${hook}
pinDir: ${this.pinDir}
runDir: ${this.#runDir}
${isLoud ? "" : "garp: { refresh: 500h, rate: 0.001 }\n"}membership: { kind: static }
source:
  kind: file
  nodes: [${isShared ? "n1, n2, n3" : "n1"}]
  vips:
${vips.map((vip) => `    - address: ${vip}`).join("\n")}
`;
    writeFileSync(`${this.config}.new`, text);
    renameSync(`${this.config}.new`, this.config);
    return performance.now();
  }

  start(): void {
    this.startedAt = performance.now();
    const child = this.#namespaces.spawn(this.#namespace, ISAT[0], [...ISAT.slice(1), "run", "--config", this.config], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env.PATH },
    });
    this.#child = child;
    const last: string[] = [];
    this.#ready = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`isat was not ready in ${READY_MS / 1000} s`)), READY_MS);
      createInterface({ input: child.stderr! }).on("line", (line) => {
        last.push(line);
        last.splice(0, last.length - 5);
        if (line.includes('"msg":"ready"')) resolve();
      });
      child.once("error", reject);
      child.once("close", () => reject(new Error(`isat has ended. Its last words:\n${last.join("\n")}`)));
      this.#ready.finally(() => clearTimeout(timer)).catch(() => {});
    });
    this.#ready.catch(() => {}); // told to whoever waits for it
    this.#closed = new Promise((resolve) => child.once("close", () => resolve()));
  }

  /** Waits until it says that it is ready. @throws Error with its last words where it ends instead */
  ready(): Promise<void> {
    return this.#ready;
  }

  /** Kills it; the kernel goes on answering. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#closed;
  }

  /** Megabytes (10^6 bytes): resident, and with shared pages divided among those who share them. */
  memory(): { resident: number; proportional: number } {
    const kilobytes = (file: string, name: string) => {
      const text = readFileSync(`/proc/${this.pid}/${file}`, "utf8");
      return (Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)![1]) * 1024) / 1e6;
    };
    return { resident: kilobytes("status", "VmRSS"), proportional: kilobytes("smaps_rollup", "Pss") };
  }
}
