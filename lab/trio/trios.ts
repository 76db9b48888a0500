import assert from "node:assert/strict";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { Namespaces } from "../namespaces.ts";
import type { Speaker, SpeakerSettings } from "../speaker.ts";
import { type LabNode, NODES, ownerOf, VIPS } from "../topology.ts";
import { type Report, sumOf, turns } from "../watch/watch.ts";
import { Trio } from "./trio.ts";

export const [n1, n2, n3] = NODES as [LabNode, LabNode, LabNode];
/** A generous bound for any silence, ms. */
export const MOST = 5_000;

/** The trios of one test file, all removed together. */
export class Trios implements Disposable {
  readonly namespaces: Namespaces;
  #count = 0;

  constructor(prefix: string) {
    this.namespaces = new Namespaces(prefix);
  }

  /** Makes a trio, and starts its speakers. */
  async start(settings: Partial<SpeakerSettings> = {}, ipv6?: readonly string[]): Promise<Trio> {
    const trio = this.make(settings, ipv6);
    await trio.start();
    return trio;
  }

  /** Makes a trio, and starts no speaker. */
  make(settings: Partial<SpeakerSettings> = {}, ipv6?: readonly string[]): Trio {
    return new Trio(this.namespaces, `t${++this.#count}`, { vips: VIPS, more: "hold: 4s", ...settings }, ipv6);
  }

  [Symbol.dispose](): void {
    this.namespaces[Symbol.dispose]();
  }
}

export const speakerOf = (trio: Trio, { name }: LabNode): Speaker =>
  trio.speakers.find(({ node }) => node.name === name)!;
export const without = (...nodes: LabNode[]) => NODES.filter((node) => !nodes.includes(node));
/** Prints a measured value, which `npm test` shows. The line break ends the line of dots that uvu has begun. */
export const measured = (text: string) => console.log(`\nMEASURED ${text}`);

/** The nodes that should answer for each VIP, in turn, while these nodes are alive, then those: `n1 > n3`. */
export const shares = (...alive: (readonly LabNode[])[]): Record<string, string> => sharesOf(VIPS, ...alive);
export function sharesOf(vips: readonly string[], ...alive: (readonly LabNode[])[]): Record<string, string> {
  const inTurn = (vip: string) => alive.map((nodes) => ownerOf(vip, nodes).name);
  const isChange = (name: string, i: number, names: readonly string[]) => name !== names[i - 1];
  return Object.fromEntries(vips.map((vip) => [vip, inTurn(vip).filter(isChange).join(" > ")]));
}

/** Asserts that each VIP moved as it had to, and that no request had two answers. */
export function assertMoves(report: Report, ...alive: (readonly LabNode[])[]): void {
  const { doubled, mute, silence } = sumOf(report);
  assert.deepEqual({ ...turns(report), doubled, mute }, { ...shares(...alive), doubled: 0, mute: 0 });
  assert.ok(silence < MOST, `silent for ${silence} ms`);
}

/** Asserts that nothing happened that a client could see. */
export function assertQuiet(report: Report): void {
  assert.deepEqual({ ...turns(report), unanswered: sumOf(report).unanswered }, { ...shares(NODES), unanswered: 0 });
  assert.equal(sumOf(report).doubled, 0);
}

export const silenceOf = (report: Report) => `${sumOf(report).silence.toFixed(0)} ms of silence`;

/** Changes the text of a speaker's configuration, and renames the new file into place. */
export function rewrite({ config }: Speaker, change: (text: string) => string): void {
  writeFileSync(`${config}.new`, change(readFileSync(config, "utf8")));
  renameSync(`${config}.new`, config);
}

/** The whole log of a speaker, as one text. */
export const words = ({ log }: Speaker) => log.map(({ level, msg }) => `${level}: ${msg}`).join("\n");
