import { existsSync, rmSync, writeFileSync } from "node:fs";

/** In runDir: the node is to own nothing, over restarts too. */
const path = (runDir: string) => `${runDir}/drained`;

export const isDrained = (runDir: string): boolean => existsSync(path(runDir));

/** Takes effect with the speaker's next start; one that runs is to be told. */
export function writeDrained(runDir: string, drained: boolean): void {
  if (drained) writeFileSync(path(runDir), "isat undrain removes this\n");
  else rmSync(path(runDir), { force: true });
}
