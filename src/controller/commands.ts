/** The commands about addresses. Each reads the cluster once, and changes nothing. */
import { readConfig } from "../config/config.ts";
import { type ApiError, Connection } from "../source/kubernetes/connection.ts";
import { list } from "../source/kubernetes/list.ts";
import { RESOURCES } from "../source/kubernetes/resources.ts";
import { ofCluster } from "./controller.ts";
import { formatInventory, inventory } from "./inventory.ts";
import { EIPS, formatImport, importOpenelb } from "./openelb.ts";
import { formatPreview, preview } from "./preview.ts";
import { survey } from "./survey.ts";
import type { ClusterConfig } from "./term.ts";

interface Options {
  config: string;
  kubeconfig?: string;
  namespace: string;
  json?: boolean;
}

/** Nothing here depends on the node, which only a pod's environment names. */
const read = (path: string): ClusterConfig => ofCluster(readConfig(path, { ...process.env, NODE_NAME: "none" }));

async function surveyed(config: ClusterConfig, { kubeconfig, namespace }: Options) {
  const connection = new Connection(kubeconfig ?? config.source.kubeconfig);
  try {
    return await survey(connection, config, namespace);
  } finally {
    connection.close();
  }
}

export async function showPools(options: Options): Promise<void> {
  const config = read(options.config);
  const its = inventory(await surveyed(config, options), config, Date.now());
  console.log(options.json ? JSON.stringify(its, null, 2) : formatInventory(its));
}

export async function showPlan(file: string, options: Options): Promise<void> {
  const [config, next] = [read(options.config), read(file)];
  const its = preview(await surveyed(config, options), config, next);
  console.log(options.json ? JSON.stringify(its, null, 2) : formatPreview(its));
}

/** Needs no configuration: it prints one. */
export async function importFrom(other: string, { kubeconfig }: { kubeconfig?: string }): Promise<void> {
  if (other !== "openelb") throw new Error(`Cannot import from ${other}. What can be imported is openelb`);
  const connection = new Connection(kubeconfig);
  const signal = AbortSignal.timeout(60_000);
  try {
    const eips = await all(list(connection, EIPS, signal)).catch((error: ApiError) => {
      if (error.status === 404) throw new Error("Cannot find OpenELB's Eips: the API has none of them");
      throw error;
    });
    const services = await all(list(connection, RESOURCES.Service, signal));
    console.log(formatImport(importOpenelb(eips, services)));
  } finally {
    connection.close();
  }
}

async function all(objects: AsyncIterable<unknown>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const object of objects) found.push(object);
  return found;
}
