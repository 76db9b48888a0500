import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const OURS = fileURLToPath(new URL("../../dist/cluster", import.meta.url));
const NAMES = ["etcd", "kube-apiserver", "kube-proxy", "kubectl"] as const;

type Name = (typeof NAMES)[number];

/** The path of a program, where scripts/cluster-binaries has put it or has found it; undefined if it is missing. */
function find(name: Name): string | undefined {
  const { KUBEBUILDER_ASSETS: assets, PATH: path = "" } = process.env;
  // Any etcd will do. The others must have the version that the tests are written for, or be asked for explicitly.
  const elsewhere = name === "etcd" ? path.split(delimiter) : [];
  const folders = [...(assets ? [assets] : []), OURS, ...elsewhere];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const found = new Map(NAMES.map((name) => [name, find(name)]));
const missing = NAMES.filter((name) => found.get(name) === undefined);

/** The reason why no cluster can run here; undefined if one can. */
export const noCluster =
  missing.length === 0 ? undefined : `no ${missing.join(", ")} in dist/cluster: sh scripts/cluster-binaries says why`;

/** The path of a program. @throws Error where it is missing */
export function binary(name: Name): string {
  const path = found.get(name);
  if (path === undefined) throw new Error(`Cannot find ${name}. Run: sh scripts/cluster-binaries`);
  return path;
}
