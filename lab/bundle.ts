import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The bundle that ships. */
export const BUNDLE = fileURLToPath(new URL("../dist/isat.mjs", import.meta.url));

/**
 * A speaker works a millisecond at a time, so waking V8's threads for it costs more than they help. A young generation
 * of 16 MB, the default, would be much of its memory. --expose-gc lets isat collect the start's garbage (src/run.ts).
 */
export const NODE_FLAGS = [
  "--no-warnings",
  "--disable-sigusr1",
  "--single-threaded",
  "--max-semi-space-size=1",
  "--expose-gc",
];

/** The command `isat`, as scripts/isat and deploy/image/isat.c run it; test/cli/launch and test/ship/image hold them to it. */
export const ISAT = [process.execPath, ...NODE_FLAGS, BUNDLE] as const;

/** @throws Error where the bundle is not built */
export function requireBundle(): void {
  if (!existsSync(BUNDLE)) throw new Error(`Cannot find ${BUNDLE}: build it with npm run build`);
}
