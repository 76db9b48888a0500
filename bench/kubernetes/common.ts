import { readdirSync, readFileSync } from "node:fs";
import type { Scene } from "../../lab/cluster/scene.ts";
import type { Speaker } from "../../lab/speaker.ts";
import { formatAddress, parseAddress, plus } from "../../src/core/address.ts";
import type { Figure, Target, Unit } from "../figure.ts";

export const SECTION = "kubernetes";
export const MS = 1e6;
export const MANY = 10_000;
/** Limit for anything here, ms. */
export const PATIENCE = 120_000;
const FIRST = parseAddress("10.9.0.1");
/** The addresses of Services that come and go, behind those of the others. */
export const EXTRA = parseAddress("10.9.60.1");

export function figure(what: string, unit: Unit, values: readonly number[], target?: Target, note?: string): Figure {
  const plain: Figure = { section: SECTION, what, subject: "isat", unit, values, ratios: [] };
  return { ...plain, ...(target && { target }), ...(note && { note }) };
}

export const most = (limit: number): Target => ({ is: "at most", limit });
export const vipAt = (index: number) => formatAddress(plus(FIRST, index));

/** Kills all speakers, and removes their files and everything in the kernels. */
export async function clear({ speakers }: Scene): Promise<void> {
  for (const speaker of speakers.all) {
    await speaker.end();
    speaker.isat("clean");
  }
}

/** Processor time of all threads of a speaker, ns. */
function processorTime({ pid }: Speaker): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  return tasks.reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]),
    0,
  );
}

/** Processor time that a speaker uses while `body` runs, ns. */
export async function spent(speaker: Speaker, body: () => Promise<void>): Promise<number> {
  const before = processorTime(speaker);
  await body();
  return processorTime(speaker) - before;
}
