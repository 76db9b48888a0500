import { existsSync, rmSync } from "node:fs";
import { replaceFile } from "../files.ts";

/** This file in runDir means that the node must own nothing. It outlives the speaker, so a restart does not undo it. */
const drainedPath = (runDir: string) => `${runDir}/drained`;

export const isDrained = (runDir: string): boolean => existsSync(drainedPath(runDir));

/** Takes effect when the next speaker starts. A running speaker must be told as well. */
export function writeDrained(runDir: string, drained: boolean): void {
  const path = drainedPath(runDir);
  try {
    if (drained) replaceFile(path, "isat undrain removes this\n");
    else rmSync(path, { force: true });
  } catch (error) {
    throw new Error(`Cannot ${drained ? "write" : "remove"} ${path}: ${(error as Error).message}`);
  }
}
