import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { formatAddress, parseAddress } from "../../core/address.ts";
import { makeOwnFolder } from "../../files.ts";
import type { Cluster } from "./cluster.ts";
import { KINDS } from "./resources.ts";

/** The version of the file's format. It rises when its form changes, or an object's; a file of another version is ignored. */
const FORM = 7;

const fileOf = (folder: string) => join(folder, "cluster.json");

/**
 * Saves the objects of a cluster, for a start while the API is away.
 * @param replace writes the file
 * @throws Error of the system
 */
export function saveSnapshot<T>(folder: string, cluster: Cluster, replace: (path: string, text: string) => T): T {
  const objects = Object.fromEntries(KINDS.map((kind) => [kind, [...cluster.all(kind).values()]]));
  makeOwnFolder(folder);
  const { given, past } = cluster;
  const { identity, hasAdvertisements } = given;
  const text = JSON.stringify({ form: FORM, identity, hasAdvertisements, past, objects }, packed);
  return replace(fileOf(folder), text);
}

/** JSON has no place for an IPv6 address as a number. No label and no field is called like that. */
const IPV6 = ":";
const packed = (_: string, value: unknown) => (typeof value === "bigint" ? { [IPV6]: formatAddress(value) } : value);
const unpacked = (_: string, value: Partial<Record<typeof IPV6, string>> | null) =>
  typeof value?.[IPV6] === "string" ? parseAddress(value[IPV6]) : value;

/** Removes the snapshot, for `isat clean`. */
export function removeSnapshot(folder: string): void {
  for (const end of ["", ".new"]) rmSync(`${fileOf(folder)}${end}`, { force: true });
}

/**
 * Fills a cluster with the snapshot in the first of the folders that has one.
 * @returns false if there is none @throws Error if it cannot be read
 */
export function loadSnapshot(folders: readonly string[], cluster: Cluster): boolean {
  const file = folders.map(fileOf).find((each) => existsSync(each));
  if (!file) return false;
  const { form, identity, hasAdvertisements, past, objects } = JSON.parse(readFileSync(file, "utf8"), unpacked);
  if (form !== FORM) return false;
  if (!KINDS.every((kind) => Array.isArray(objects?.[kind]))) throw new Error("it lacks some kind of object");
  for (const kind of KINDS) for (const object of objects[kind]) cluster.set(kind, object.key, object);
  cluster.give({ identity, hasAdvertisements });
  cluster.recall(past);
  cluster.update(); // what comes later comes later than these
  return true;
}
