import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Cluster } from "./cluster.ts";
import { KINDS } from "./resources.ts";

/** The version of the file's format. It rises when the form of an object changes; a file of another version is ignored. */
const FORM = 1;

const fileOf = (runDir: string) => join(runDir, "cluster.json");

/** Saves the objects of a cluster, for a start while the API is away. @throws Error of the system */
export function saveSnapshot(runDir: string, cluster: Cluster): void {
  const objects = Object.fromEntries(KINDS.map((kind) => [kind, [...cluster.all(kind).values()]]));
  const { hasAdvertisements } = cluster.given;
  const text = JSON.stringify({ form: FORM, hasAdvertisements, objects });
  const file = fileOf(runDir);
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Removes the snapshot, for `isat clean`. */
export function removeSnapshot(runDir: string): void {
  for (const end of ["", ".new"]) rmSync(`${fileOf(runDir)}${end}`, { force: true });
}

/** Fills a cluster with the snapshot. @returns false if there is none @throws Error if it cannot be read */
export function loadSnapshot(runDir: string, cluster: Cluster): boolean {
  if (!existsSync(fileOf(runDir))) return false;
  const { form, hasAdvertisements, objects } = JSON.parse(readFileSync(fileOf(runDir), "utf8"));
  if (form !== FORM) return false;
  if (!KINDS.every((kind) => Array.isArray(objects?.[kind]))) throw new Error("it lacks some kind of object");
  for (const kind of KINDS) for (const object of objects[kind]) cluster.set(kind, object.key, object);
  cluster.give({ hasAdvertisements });
  return true;
}
