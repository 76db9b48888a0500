import { readFileSync } from "node:fs";
import type { Namespaces } from "../lab/namespaces.ts";
import { Speaker as LabSpeaker } from "../lab/speaker.ts";
import { LAYOUT } from "../src/core/abi.ts";
import type { HookKind } from "../src/kernel/hooks.ts";
import { NODE_IP, NODE_MAC } from "./addresses.ts";

const READY_MS = 30_000;

export interface Settings {
  hook: HookKind | "auto";
  /** Ranges, in the form that the file source takes. */
  vips: readonly string[];
  /** True: three nodes share the VIPs, as in a cluster. @default false: this node owns them all */
  isShared?: boolean;
  /** True: announces as by default. @default false: hardly ever, so that only what is measured is on the wire */
  isLoud?: boolean;
}

/** One `isat run` of the bundle on a stand's node. It runs alone: its membership is static. */
export class Speaker {
  readonly #speaker: LabSpeaker;
  /** The time of the last start, by performance.now(). */
  startedAt = 0;

  /** @param namespace the node's, by its short name @param places folders: for files, and on a bpffs */
  constructor(namespaces: Namespaces, namespace: string, places: { folder: string; bpffs: string }) {
    const node = { name: namespace, port: 0, mac: NODE_MAC, ip: NODE_IP };
    this.#speaker = new LabSpeaker({ namespaces, place: (host) => host }, node, places);
  }

  /** The folder in which the maps are pinned. */
  get maps(): string {
    return `${this.#speaker.pinDir}/v${LAYOUT}`;
  }

  get pid(): number {
    return this.#speaker.pid;
  }

  /** Writes the configuration. @returns performance.now() right after it was renamed into place */
  configure({ hook, vips, isShared = false, isLoud = false }: Settings): number {
    this.#speaker.write(`node: n1
hook: ${hook}
${isLoud ? "" : "garp: { refresh: 500h, rate: 0.001 }\n"}membership: { kind: static }
source:
  kind: file
  nodes: [${isShared ? "n1, n2, n3" : "n1"}]
  vips:
${vips.map((vip) => `    - address: ${vip}`).join("\n")}
`);
    return performance.now();
  }

  start(): void {
    this.startedAt = performance.now();
    this.#speaker.start();
  }

  /** Waits until it is ready. @throws Error with its last log lines where it ends instead */
  ready(): Promise<void> {
    return this.#speaker.ready(READY_MS);
  }

  /** Kills it; the kernel goes on answering. */
  async kill(): Promise<void> {
    await this.#speaker.end();
  }

  /** Megabytes (10^6 bytes): resident, and with shared pages divided among the processes that share them. */
  memory(): { resident: number; proportional: number } {
    const proportional = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/smaps_rollup`, "utf8"))![1];
    return { resident: this.#speaker.memory / 1e6, proportional: (Number(proportional) * 1024) / 1e6 };
  }
}
