import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { vipState } from "../../src/core/abi.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import type { Namespaces } from "../namespaces.ts";
import { type Line, Speaker } from "../speaker.ts";
import { type LabNode, NODES, VIP_RANGES, VIPS } from "../topology.ts";

/**
 * The default refresh, 95 s, would be 160 ms of the switch's scaled time. It must exceed active-ack's minute: 100 ms.
 */
const GARP = "{ refresh: 200ms }";

/** Receives a line that a speaker logged and that a person should see. */
export type Trouble = (line: string) => void;

/** Three real speakers, one in each node's namespace. */
export class Isat implements Disposable {
  readonly #speakers: readonly Speaker[];
  readonly #moved = new Map<string, LabNode>();
  readonly #key: string;
  #garp = GARP;
  #isOver = false;

  /** @param trouble is called with warnings, errors, and the end of a speaker that nobody has stopped */
  constructor(namespaces: Namespaces, lab: string, trouble: Trouble) {
    const places = { folder: namespaces.folder(), bpffs: namespaces.bpffs() };
    this.#key = join(places.folder, "wire.key");
    writeFileSync(this.#key, randomBytes(32).toString("base64"), { mode: 0o600 });
    const site = { namespaces, place: (host: string) => `${lab}-${host}` };
    this.#speakers = NODES.map((node) => new Speaker(site, node, places));
    this.#configure();
    for (const speaker of this.#speakers) {
      const report = (text: string) => trouble(`isat on ${speaker.node.name}: ${text}`);
      speaker.onLine = (line) => {
        const text = troubleOf(line);
        if (text !== undefined) report(text);
      };
      speaker.start();
      void speaker.closed.then((status) => {
        if (!this.#isOver) report(status === null ? "was ended by a signal" : `ended with status ${status}`);
      });
    }
  }

  /** Waits until all three answer. */
  async ready(signal: AbortSignal): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    try {
      await Promise.race([promise, Promise.all(this.#speakers.map((speaker) => speaker.ready()))]);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** True if the node's kernel has the VIP as owned. */
  owns(vip: string, node: LabNode): boolean {
    const ip = addressBytes(parseAddress(vip)).join();
    return this.#speakers
      .find((speaker) => speaker.node === node)!
      .maps(({ vips }) =>
        [...vips.entries(64)].some(([key, { state }]) => key.ip.join() === ip && state === vipState.OWNED),
      );
  }

  /** Sets the `garp` key of all three. @default what the scaled time needs */
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

  /** The speaker of the first node, for whoever wants to look inside. */
  get first(): Speaker {
    return this.#speakers[0]!;
  }

  /** The speakers are about to be killed: their end is no trouble from now on. */
  [Symbol.dispose](): void {
    this.#isOver = true;
  }

  #configure(): void {
    const vips = VIP_RANGES.map((range) => {
      const only = VIPS.includes(range) ? this.#moved.get(range) : undefined;
      return `{ address: ${range}${only ? `, nodes: [${only.name}]` : ""} }`;
    });
    const more = `garp: ${this.#garp}\nmembership: { keys: [${this.#key}] }`;
    for (const speaker of this.#speakers) speaker.configure({ vips, more });
  }
}

/** The text of a line that reports trouble; undefined for any other line. */
function troubleOf({ level, msg, time: _, ...details }: Line): string | undefined {
  if (!["warn", "error", "fatal", "none"].includes(level)) return undefined;
  return Object.keys(details).length > 0 ? `${msg} ${JSON.stringify(details)}` : msg;
}
