import { readFileSync } from "node:fs";
import { hostname as hostName } from "node:os";
import process from "node:process";
import type { KubernetesSettings } from "../source/kubernetes/settings.ts";
import type { FileSettings } from "../source/settings.ts";
import { checkKeys, checkNode, checkNodes, checkTimes, checkVips } from "./checks.ts";
import { defaultStateDir, EXAMPLE, KEY_FILE, type Values } from "./schema.ts";
import { ConfigError, Sheet } from "./yaml.ts";

export { ConfigError } from "./yaml.ts";

/** A configuration with every default filled in; the schema says what each key means. Times are in milliseconds. */
export interface Config extends Omit<Values, "node" | "stateDir" | "membership" | "source"> {
  /** This node's name; one of `source.nodes`, or a Node of the cluster. */
  node: string;
  stateDir: string;
  membership: Membership;
  source: FileSettings | KubernetesSettings;
}

/** The way to know which nodes are alive. `keys` are files, or the word none; `interval` in ms; `dead` in probes. */
export type Membership = { kind: "static" } | { kind: "wire"; keys: string[] | "none"; interval: number; dead: number };

/** @throws ConfigError with a line for each thing that is wrong. */
export function readConfig(path: string, env: NodeJS.ProcessEnv = process.env): Config {
  return parseConfig(readConfigText(path), path, env);
}

const REMEDIES: Record<string, string> = {
  ENOENT: `there is no such file. Write it, or name another; the least it holds is ${EXAMPLE}`,
  ENOTDIR: "a part of this path is a file, not a directory. Correct the path",
  EISDIR: "it is a directory. Name the file in it",
  EACCES: "permission denied. Run as root, or let this user read it",
  ELOOP: "its symbolic links lead round in a circle. Correct them",
};

/** @throws ConfigError where the path leads to no readable file. */
export function readConfigText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const remedy = REMEDIES[code] ?? `${message}. Name a file that can be read`;
    throw new ConfigError([`Cannot read the configuration ${path}: ${remedy}`]);
  }
}

/**
 * The configuration in a YAML text. `file` is what errors call it. Where the text names no node, the environment's
 * NODE_NAME does, else the host's name.
 *
 * @throws ConfigError with a line for each thing that is wrong.
 */
export function parseConfig(
  text: string,
  file: string,
  env: NodeJS.ProcessEnv = process.env,
  hostname: string = hostName(),
): Config {
  const sheet = new Sheet(text, file);
  const values = checkKeys(sheet);
  checkTimes(sheet, values);
  const nodes = checkNodes(sheet, values);
  const node = checkNode(sheet, values, nodes, env, hostname);
  const vips = checkVips(sheet, values, nodes);
  sheet.finish();
  const { source } = values;
  return {
    ...values,
    node,
    stateDir: values.stateDir ?? defaultStateDir(values.runDir),
    membership: membershipOf(values.membership, nodes?.length === 1),
    source: source.kind === "file" ? { ...source, vips } : source,
  };
}

/** A node that is alone in a file has no peers to look for. */
function membershipOf({ kind, keys, interval, dead }: Values["membership"], isAlone: boolean): Membership {
  if ((kind ?? (isAlone ? "static" : "wire")) === "static") return { kind: "static" };
  return { kind: "wire", keys: keys ?? [KEY_FILE], interval, dead };
}
