import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Cluster } from "./cluster.ts";
import { type Kind, readers } from "./objects.ts";

/** Raised when the form of an object that is cut down changes: a file of another form is left alone. */
const FORM = 1;
const KINDS = Object.keys(readers) as Kind[];

const fileOf = (runDir: string) => join(runDir, "cluster.json");

/** Writes what the cluster holds, so that a start while the API is away has it. @throws Error of the system */
export function save(runDir: string, cluster: Cluster): void {
  const objects = Object.fromEntries(KINDS.map((kind) => [kind, [...cluster.all(kind).values()]]));
  const text = JSON.stringify({ form: FORM, hasAdvertisements: cluster.hasAdvertisements, objects });
  const file = fileOf(runDir);
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** For `clean`. */
export function removeSaved(runDir: string): void {
  for (const file of [fileOf(runDir), `${fileOf(runDir)}.new`]) rmSync(file, { force: true });
}

/** Gives the cluster what was saved; false where there is nothing. @throws Error where it cannot be read */
export function adopt(runDir: string, cluster: Cluster): boolean {
  let text: string;
  try {
    text = readFileSync(fileOf(runDir), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
  const { form, hasAdvertisements, objects } = JSON.parse(text);
  if (form !== FORM) return false;
  if (!KINDS.every((kind) => Array.isArray(objects?.[kind]))) throw new Error("it lacks some kind of object");
  for (const kind of KINDS) for (const object of objects[kind]) cluster.set(kind, object.key, object);
  cluster.hasAdvertisements = hasAdvertisements;
  return true;
}
