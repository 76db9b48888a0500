import { existsSync, rmSync } from "node:fs";
import { makeOwnFolder, replaceFile, syncFolder } from "../files.ts";

/** Where a speaker keeps its files. */
export interface Folders {
  runDir: string;
  /** undefined: in the run file of an isat that had none. */
  stateDir?: string | undefined;
}

/**
 * This file means that the node must own nothing. It outlives the speaker and the machine's next start, so neither undoes
 * it. Earlier versions kept it in runDir, where it still counts.
 */
const drainedPaths = ({ runDir, stateDir = runDir }: Folders) => [`${stateDir}/drained`, `${runDir}/drained`] as const;

export const isDrained = (folders: Folders): boolean => drainedPaths(folders).some((path) => existsSync(path));

/** Takes effect when the next speaker starts. A running speaker must be told as well. */
export function writeDrained(folders: Folders, drained: boolean): void {
  const { stateDir = folders.runDir } = folders;
  const paths = drainedPaths(folders);
  try {
    if (drained) {
      makeOwnFolder(stateDir);
      replaceFile(paths[0], "isat undrain removes this\n");
    } else {
      for (const path of paths) rmSync(path, { force: true });
      if (existsSync(stateDir)) syncFolder(stateDir);
    }
  } catch (error) {
    throw new Error(`Cannot ${drained ? "write" : "remove"} ${paths[0]}: ${(error as Error).message}`);
  }
}
