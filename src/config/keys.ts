import { readFileSync, statSync } from "node:fs";
import { type FileKey, PUBLIC_KEY, wireKeyOf } from "../core/wire.ts";
import type { Membership } from "./config.ts";

/** The shortest key, in characters: 128 bits even if all of them are hexadecimal digits. */
const SHORTEST = 32;
/** The warning where membership has no key. */
export const UNSIGNED = "frames between nodes are not signed: anybody on the wire can forge them";
export const unsigned = ({ membership }: { membership: Membership }): string[] =>
  membership.kind === "wire" && membership.keys === "none" ? [UNSIGNED] : [];

const REMEDY = "Make one, the same on all nodes: head -c 32 /dev/urandom | base64 > FILE && chmod 600 FILE";

/**
 * Reads the keys from their files: the first signs, all verify.
 * @throws Error for a file that is missing, short or readable by others, or two whose keys cannot be told apart
 */
export function readWireKeys(files: readonly string[] | "none"): FileKey[] {
  if (files === "none") return [PUBLIC_KEY];
  const keys = files.map((file) => ({ file, ...readKey(file) }));
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
    return fail(code === "ENOENT" ? "there is no such file" : `it cannot be read: ${message}`);
  }
  const { mode } = statSync(file);
  if (mode & 0o007) fail(`others may read or write it (mode ${(mode & 0o777).toString(8)})`, `Run: chmod o= ${file}`);
  if (text.length < SHORTEST) fail(`it holds ${text.length} characters, and ${SHORTEST} are the least`);
  return wireKeyOf(text);
}
