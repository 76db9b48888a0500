import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const OURS = fileURLToPath(new URL("../../dist/cluster", import.meta.url));
const NAMES = ["etcd", "kube-apiserver", "kube-proxy", "kubectl"] as const;

type Name = (typeof NAMES)[number];

/** Where scripts/cluster-binaries has put a program, or where it found that it need not; undefined where it is not. */
function find(name: Name): string | undefined {
  const { KUBEBUILDER_ASSETS: assets, PATH: path = "" } = process.env;
  // Any etcd does; the others must be of the version that the tests are written for, or of one that was asked for.
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

/** Why there is no cluster here; undefined where there is. */
export const noCluster =
  missing.length === 0 ? undefined : `no ${missing.join(", ")} in dist/cluster: sh scripts/cluster-binaries tells why`;

/** @throws Error where it is not there */
export function binary(name: Name): string {
  const path = found.get(name);
  if (path === undefined) throw new Error(`Cannot find ${name}. Run: sh scripts/cluster-binaries`);
  return path;
}
