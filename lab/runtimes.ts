import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** Deno's own binary: node_modules/.bin/deno is a wrapper that does not pass signals on. */
const DENO = path(`node_modules/@deno/linux-${process.arch}-glibc/deno`);

/** The reason why Deno cannot run here; undefined where it can. */
export const noDeno = existsSync(DENO) ? undefined : `no ${DENO}. Run: npm ci --ignore-scripts`;

/** A command that runs a TypeScript file of this checkout. */
export interface Command {
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
}

/** Runs the file on Deno. @param cache a folder for Deno's cache, which would otherwise be in the home folder */
export function onDeno(file: string, cache: string): Command {
  const env: NodeJS.ProcessEnv = { ...process.env, DENO_DIR: cache, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
  delete env.ISAT_FFI;
  return { command: DENO, args: ["run", "-A", path(file)], env };
}

/** Runs the file on Node. @param ffi the value of ISAT_FFI */
export function onNode(file: string, ffi: string): Command {
  const env = { ...process.env, ISAT_FFI: ffi, TS_NODE_PROJECT: path("tsconfig.json") };
  return { command: process.execPath, args: ["--no-warnings", "--import", path("scripts/ts.mjs"), path(file)], env };
}
