import { readFileSync, statSync } from "node:fs";
import { type FileKey, PUBLIC_KEY, wireKeyOf } from "../core/wire.ts";
import type { Membership } from "./config.ts";
import { NO_KEY } from "./schema.ts";

/** The shortest key, in characters: 128 bits even if all of them are hexadecimal digits. */
const SHORTEST = 32;
/** The warning where membership has no key, or takes what everybody may sign as well. */
export const UNSIGNED = "frames between nodes are not signed: anybody on the wire can forge them";
export const unsigned = ({ membership }: { membership: Membership }): string[] =>
  membership.kind === "wire" && membership.keys.includes(NO_KEY) ? [UNSIGNED] : [];

/** The files that membership reads its keys from. */
export const keyFilesOf = ({ membership }: { membership: Membership }): string[] =>
  membership.kind === "wire" && membership.keys !== NO_KEY ? membership.keys.filter((file) => file !== NO_KEY) : [];

const REMEDY = "Make one, the same on all nodes: head -c 32 /dev/urandom | base64 > FILE && chmod 600 FILE";
const OR_NONE = "Or, where nobody else reaches the network, write membership: { keys: none }";

/**
 * Reads the keys from their files: the first signs, all verify.
 * @throws Error for a file that is missing, short or readable by others, or two whose keys cannot be told apart
 */
export function readWireKeys(files: readonly string[] | "none"): FileKey[] {
  if (files === NO_KEY) return [PUBLIC_KEY];
  const keys = files.map((file) => ({ file, ...(file === NO_KEY ? PUBLIC_KEY : readKey(file)) }));
  for (const [i, { id, file }] of keys.entries()) {
    const twin = keys.slice(0, i).find((other) => other.id === id);
    if (!twin) continue;
    throw new Error(`Cannot tell the wire keys ${twin.file} and ${file} apart: they have the same id. Make a new one`);
  }
  return keys.map(({ id, k0, k1 }) => ({ id, k0, k1 }));
}

function readKey(file: string): FileKey {
  const fail = (found: string, remedy = REMEDY.replaceAll("FILE", file)): never => {
    throw new Error(`Cannot use the wire key ${file} as ${found}. ${remedy}`);
  };
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const remedy = REMEDY.replaceAll("FILE", file);
    if (code === "ENOENT") return fail("there is no such file", `${remedy}. ${OR_NONE}`);
    return fail(`it cannot be read: ${message}`);
  }
  const { mode } = statSync(file);
  if (mode & 0o007) fail(`others may read or write it (mode ${(mode & 0o777).toString(8)})`, `Run: chmod o= ${file}`);
  if (text.length < SHORTEST) fail(`it holds ${text.length} characters, and ${SHORTEST} are the least`);
  return wireKeyOf(text);
}
