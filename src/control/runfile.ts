import { readFileSync, rmSync } from "node:fs";
import { replaceFile } from "../files.ts";

/** A running or stopped speaker, as written into its runDir: `status` and `clean` find it by the runDir alone. */
export interface RunFile {
  node: string;
  pid: number;
  pinDir: string;
  runDir: string;
  /** undefined: written by an isat that had none. */
  stateDir?: string;
  membership: "wire" | "static";
}

const runFilePath = (runDir: string) => `${runDir}/speaker.json`;

export function writeRunFile(file: RunFile): void {
  const path = runFilePath(file.runDir);
  try {
    replaceFile(path, `${JSON.stringify(file, null, 2)}\n`);
  } catch (error) {
    throw new Error(`Cannot write ${path}: ${(error as Error).message}. Make room, or set runDir: to another folder`);
  }
}

/** The last speaker on `runDir`; undefined if none ever ran there. */
export function readRunFile(runDir: string): RunFile | undefined {
  const path = runFilePath(runDir);
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code === "EACCES") throw new Error(`Cannot read ${path}: ${message}. Run as root`);
    throw new Error(`Cannot read ${path}: ${message}. Name the speaker by its configuration: --config FILE`);
  }
}

export function removeRunFile(runDir: string): void {
  rmSync(runFilePath(runDir), { force: true });
}
