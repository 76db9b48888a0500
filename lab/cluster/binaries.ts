import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const OURS = fileURLToPath(new URL("../../dist/cluster", import.meta.url));
const NAMES = ["etcd", "kube-apiserver", "kube-proxy", "kubectl"] as const;
/** The programs that real nodes need besides, and Helm. */
const MORE = ["kubelet", "kube-controller-manager", "kube-scheduler", "helm"] as const;
/** Debian's containerd, runc and CNI plugins, unpacked. */
export const RUNTIME = join(OURS, "runtime");
/** MetalLB's own `speaker`, `controller` and `metallb-native.yaml`. */
export const METALLB_FILES = join(OURS, "metallb");

type Name = (typeof NAMES)[number] | (typeof MORE)[number];

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

const found = new Map([...NAMES, ...MORE].map((name): [Name, string | undefined] => [name, find(name)]));

function without(names: readonly Name[]): string | undefined {
  const missing = names.filter((name) => found.get(name) === undefined);
  return missing.length === 0
    ? undefined
    : `no ${missing.join(", ")} in dist/cluster: sh scripts/cluster-binaries says why`;
}

/** The reason why no cluster can run here; undefined if one can. */
export const noCluster = without(NAMES);
/** The reason why no real nodes can run here; undefined if they can. */
export const noKubelets =
  without([...NAMES, ...MORE]) ??
  (isExecutable(join(RUNTIME, "usr/bin/containerd")) ? undefined : `no containerd in ${RUNTIME}`);

/** The reason why MetalLB cannot run here; undefined if it can. */
export const noMetallb = isExecutable(join(METALLB_FILES, "speaker"))
  ? undefined
  : "no MetalLB in dist/cluster: sh scripts/cluster-binaries says why";

/** The path of a program. @throws Error where it is missing */
export function binary(name: Name): string {
  const path = found.get(name);
  if (path === undefined) throw new Error(`Cannot find ${name}. Run: sh scripts/cluster-binaries`);
  return path;
}
