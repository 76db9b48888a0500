import { readFileSync, renameSync, writeFileSync } from "node:fs";
import * as assert from "uvu/assert";
import { Namespaces } from "../namespaces.ts";
import { type LabNode, NODES, nodeByMac, ownerOf, VIPS } from "../topology.ts";
import { type Report, sumOf } from "../watch/watch.ts";
import { type Speaker, Trio, type TrioSettings } from "./trio.ts";

export const [n1, n2, n3] = NODES as [LabNode, LabNode, LabNode];
/** No silence may be longer, ms: a generous bound. */
export const MOST = 5_000;

/** The trios of one test file, which go together. */
export class Trios implements Disposable {
  readonly namespaces: Namespaces;
  #count = 0;

  constructor(prefix: string) {
    this.namespaces = new Namespaces(prefix);
  }

  /** Three speakers that have their shares. */
  async start(settings: Partial<TrioSettings> = {}): Promise<Trio> {
    const trio = this.make(settings);
    await trio.start();
    return trio;
  }

  /** The same before any speaker has started. */
  make(settings: Partial<TrioSettings> = {}): Trio {
    return new Trio(this.namespaces, `t${++this.#count}`, { vips: VIPS, more: "hold: 4s", ...settings });
  }

  [Symbol.dispose](): void {
    this.namespaces[Symbol.dispose]();
  }
}

export const speakerOf = (trio: Trio, { name }: LabNode): Speaker =>
  trio.speakers.find(({ node }) => node.name === name)!;
export const without = (...nodes: LabNode[]) => NODES.filter((node) => !nodes.includes(node));
/** On a line of its own, for uvu leaves its dots without an end. */
export const measured = (text: string) => console.log(`\nMEASURED ${text}`);

/** Who answered for each VIP, in turn: `n1 > n3`. */
export function turns({ vips }: Report): Record<string, string> {
  const nameOf = (mac: string) => nodeByMac(mac)?.name ?? mac;
  return Object.fromEntries(
    vips.map(({ vip, answerers }) => [vip, answerers.map(({ mac }) => nameOf(mac)).join(" > ")]),
  );
}

/** Who should, where these nodes are alive, and then those. */
export function shares(...alive: (readonly LabNode[])[]): Record<string, string> {
  const inTurn = (vip: string) => alive.map((nodes) => ownerOf(vip, nodes).name);
  const isChange = (name: string, i: number, names: readonly string[]) => name !== names[i - 1];
  return Object.fromEntries(VIPS.map((vip) => [vip, inTurn(vip).filter(isChange).join(" > ")]));
}

/** The VIPs moved as they had to, and no request had two answers. */
export function assertMoves(report: Report, ...alive: (readonly LabNode[])[]): void {
  const { doubled, mute, silence } = sumOf(report);
  assert.equal({ ...turns(report), doubled, mute }, { ...shares(...alive), doubled: 0, mute: 0 });
  assert.ok(silence < MOST, `silent for ${silence} ms`);
}

/** Nothing happened that a client could see. */
export function assertQuiet(report: Report): void {
  assert.equal({ ...turns(report), unanswered: sumOf(report).unanswered }, { ...shares(NODES), unanswered: 0 });
  assert.is(sumOf(report).doubled, 0);
}

export const silenceOf = (report: Report) => `${sumOf(report).silence.toFixed(0)} ms of silence`;

/** Changes the text of a speaker's file, which is renamed into place. */
export function rewrite({ config }: Speaker, change: (text: string) => string): void {
  writeFileSync(`${config}.new`, change(readFileSync(config, "utf8")));
  renameSync(`${config}.new`, config);
}

/** All that it logged, in one text. */
export const words = ({ log }: Speaker) => log.map(({ level, msg }) => `${level}: ${msg}`).join("\n");
