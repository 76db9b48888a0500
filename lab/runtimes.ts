import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** Deno's binary itself, out of its platform's package: node_modules/.bin/deno is a wrapper that passes no signal on. */
const DENO = path(`node_modules/@deno/linux-${process.arch}-glibc/deno`);

/** Why there is no Deno here; undefined where there is. */
export const noDeno = existsSync(DENO) ? undefined : `no ${DENO}. Run: npm ci --ignore-scripts`;

/** A command that runs a TypeScript file of this checkout. */
export interface Command {
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
}

/** @param cache a folder for what Deno keeps, so that it leaves nothing in the home folder */
export function onDeno(file: string, cache: string): Command {
  const env: NodeJS.ProcessEnv = { ...process.env, DENO_DIR: cache, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
  delete env.ISAT_FFI;
  return { command: DENO, args: ["run", "-A", path(file)], env };
}

/** @param ffi for ISAT_FFI */
export function onNode(file: string, ffi: string): Command {
  const env = { ...process.env, ISAT_FFI: ffi, TS_NODE_PROJECT: path("tsconfig.json") };
  return { command: process.execPath, args: ["--no-warnings", "--import", path("scripts/ts.mjs"), path(file)], env };
}
