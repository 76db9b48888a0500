import { existsSync, rmSync, statSync, writeFileSync } from "node:fs";

/** In runDir: the node is to own nothing, over restarts too. */
const path = (runDir: string) => `${runDir}/drained`;

export const isDrained = (runDir: string): boolean => existsSync(path(runDir));

/** Takes effect with the speaker's next start; one that runs is to be told. */
export function writeDrained(runDir: string, drained: boolean): void {
  const file = path(runDir);
  try {
    if (drained) writeFileSync(file, "isat undrain removes this\n");
    else rmSync(file, { force: true });
  } catch (error) {
    if (drained && existsSync(file) && statSync(file).size === 0) rmSync(file, { force: true });
    throw new Error(`Cannot ${drained ? "write" : "remove"} ${file}: ${(error as Error).message}`);
  }
}
