import { randomBytes } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { LAYOUT, vipState } from "../../src/core/abi.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { readPinnedMaps } from "../../src/kernel/object.ts";
import { ISAT, requireBundle } from "../bundle.ts";
import type { Namespaces } from "../namespaces.ts";
import { type LabNode, NODES, VIP_RANGES, VIPS } from "../topology.ts";

const READY_MS = 20_000;
/** Scaled by 600, 95 s would be 160 ms; more than the 100 ms that are the minute of active-ack. */
const GARP = "{ refresh: 200ms }";

/** A line that a speaker wrote to stderr and that a person should see. */
export type Trouble = (line: string) => void;

/** Three real speakers, one in each node's namespace, and their configuration files. */
export class Isat {
  readonly #nodes: readonly Speaker[];
  readonly #moved = new Map<string, LabNode>();
  #garp = GARP;

  /** @param trouble hears of warnings, errors, and of speakers that end before they are told to */
  constructor(namespaces: Namespaces, lab: string, trouble: Trouble) {
    requireBundle();
    const pins = namespaces.bpffs();
    const folder = namespaces.folder();
    const key = join(folder, "wire.key");
    writeFileSync(key, randomBytes(32).toString("base64"), { mode: 0o600 });
    this.#nodes = NODES.map((node) => {
      const speaker = new Speaker(node, { pins, folder, key }, trouble);
      speaker.configure(this.#garp, this.#moved);
      speaker.start(namespaces, `${lab}-${node.name}`);
      return speaker;
    });
  }

  /** Waits until all three answer. */
  async ready(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#nodes.map((speaker) => speaker.ready(signal)));
  }

  /** Whether the node's kernel has the VIP as owned. */
  owns(vip: string, node: LabNode): boolean {
    const { pinDir } = this.#nodes.find((speaker) => speaker.node === node)!;
    const ip = addressBytes(parseAddress(vip)).join();
    const owned = readPinnedMaps(`${pinDir}/v${LAYOUT}`, ({ vips }) =>
      [...vips.entries(64)].some(([key, { state }]) => key.ip.join() === ip && state === vipState.OWNED),
    );
    return owned ?? false;
  }

  /** Sets the `garp` key on all three; without one, what the scaled time needs. */
  pace(garp: string = GARP): void {
    if (garp === this.#garp) return;
    this.#garp = garp;
    this.#configure();
  }

  /** Gives a VIP to one node only. */
  move(vip: string, node: LabNode): void {
    this.#moved.set(vip, node);
    this.#configure();
  }

  /** Where each node's speaker keeps things. */
  places(): { node: string; config: string; pinDir: string; runDir: string }[] {
    return this.#nodes.map(({ node, config, pinDir, runDir }) => ({ node: node.name, config, pinDir, runDir }));
  }

  #configure(): void {
    for (const speaker of this.#nodes) speaker.configure(this.#garp, this.#moved);
  }
}

class Speaker {
  readonly node: LabNode;
  readonly pinDir: string;
  readonly runDir: string;
  readonly config: string;
  readonly #key: string;
  readonly #trouble: Trouble;
  #isReady: Promise<void> | undefined;

  constructor(node: LabNode, { pins, folder, key }: { pins: string; folder: string; key: string }, trouble: Trouble) {
    this.node = node;
    this.#key = key;
    this.pinDir = join(pins, node.name);
    this.runDir = join(folder, node.name);
    this.config = join(folder, `${node.name}.yaml`);
    this.#trouble = (line) => trouble(`isat on ${node.name}: ${line}`);
  }

  /** Writes the file and renames it into place, as a configuration is replaced. */
  configure(garp: string, moved: ReadonlyMap<string, LabNode>): void {
    const vips = VIP_RANGES.map((range) => {
      const only = VIPS.includes(range) ? moved.get(range) : undefined;
      return `    - address: ${range}${only ? `\n      nodes: [${only.name}]` : ""}`;
    });
    const text = `node: ${this.node.name}
interfaces: [eth0]
pinDir: ${this.pinDir}
runDir: ${this.runDir}
garp: ${garp}
membership: { keys: [${this.#key}] }
source:
  kind: file
  nodes: [${NODES.map(({ name }) => name).join(", ")}]
  vips:
${vips.join("\n")}
`;
    writeFileSync(`${this.config}.new`, text);
    renameSync(`${this.config}.new`, this.config);
  }

  start(namespaces: Namespaces, namespace: string): void {
    const child = namespaces.spawn(namespace, ISAT[0], [...ISAT.slice(1), "run", "--config", this.config], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const last: string[] = [];
    this.#isReady = new Promise((resolve, reject) => {
      createInterface({ input: child.stderr! }).on("line", (line) => {
        last.splice(0, last.length - 4, line);
        const entry = parse(line);
        if (entry === undefined || entry.isTrouble) this.#trouble(entry?.text ?? line);
        if (entry?.text === "ready") resolve();
      });
      child.once("error", reject);
      child.once("close", (code, signal) => {
        const how = code === null ? `was ended by ${signal}` : `has ended with status ${code}`;
        if (signal !== "SIGKILL") this.#trouble(how);
        reject(new Error(`isat on ${this.node.name} ${how}. Its last words:\n${last.join("\n")}`));
      });
    });
    this.#isReady.catch(() => {}); // told to whoever waits for it
  }

  async ready(signal: AbortSignal): Promise<void> {
    const patience = AbortSignal.any([signal, AbortSignal.timeout(READY_MS)]);
    const impatient = new Promise<never>((_, reject) => {
      const why = () =>
        signal.aborted ? signal.reason : new Error(`isat on ${this.node.name} was not ready in ${READY_MS / 1000} s`);
      if (patience.aborted) reject(why());
      patience.addEventListener("abort", () => reject(why()), { once: true });
    });
    impatient.catch(() => {}); // it may come after the race
    await Promise.race([this.#isReady, impatient]);
  }
}

/** One line of the speaker's log; undefined where it is no JSON. */
function parse(line: string): { text: string; isTrouble: boolean } | undefined {
  try {
    const { level, msg, ...rest } = JSON.parse(line);
    const isTrouble = ["warn", "error", "fatal"].includes(level);
    const details = Object.entries(rest).filter(([key]) => key !== "time");
    const words = isTrouble && details.length > 0 ? ` ${JSON.stringify(Object.fromEntries(details))}` : "";
    return { text: `${msg}${words}`, isTrouble };
  } catch {
    return undefined;
  }
}
