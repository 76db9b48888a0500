import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** What ships. */
export const BUNDLE = fileURLToPath(new URL("../dist/isat.mjs", import.meta.url));

/**
 * A speaker works a millisecond at a time: threads that compile and collect for it would be woken more dearly than they
 * help. A young generation of 16 MB would be much of what it holds, as would what the start leaves behind, which isat has
 * collected once (src/run.ts).
 */
export const NODE_FLAGS = ["--no-warnings", "--single-threaded", "--max-semi-space-size=1", "--expose-gc"];

/** The command `isat`, as scripts/isat and deploy/isat.yaml run it; test/cli/launch.test.ts holds them to it. */
export const ISAT = [process.execPath, ...NODE_FLAGS, BUNDLE] as const;

/** @throws Error where it is not built */
export function requireBundle(): void {
  if (!existsSync(BUNDLE)) throw new Error(`Cannot find ${BUNDLE}: build it with npm run build`);
}
