import { text } from "node:stream/consumers";
import type { Config } from "../config/config.ts";
import { ApiError, type Connection } from "../source/kubernetes/connection.ts";
import { isJson, labelsOf, part } from "../source/kubernetes/fields.ts";
import { list } from "../source/kubernetes/list.ts";
import { nameOf, readers } from "../source/kubernetes/objects.ts";
import { DEFINITIONS, RESOURCES, servedVersions, VERSION } from "../source/kubernetes/resources.ts";
import type { Resource } from "../source/kubernetes/watch.ts";
import type { Survey } from "./inventory.ts";
import { leasePath } from "./lease.ts";
import { metallbPool } from "./metallb.ts";
import { NAMESPACES } from "./pools.ts";

const LIMIT = 60_000;
const MISSING = 404;

/**
 * Reads a cluster once. Only Services must be readable: whatever else is refused is noted, because an operator may have
 * fewer rights than the controller.
 */
export async function survey(connection: Connection, { source }: Config, namespace: string): Promise<Survey> {
  const signal = AbortSignal.timeout(LIMIT);
  const notes: string[] = [];
  const read = async (resource: Resource, consequence: string, take: (object: unknown) => void): Promise<void> => {
    try {
      for await (const object of list(connection, resource, signal)) {
        try {
          take(object);
        } catch (error) {
          notes.push(`Cannot use ${resource.plural} ${nameOf(object)}: ${(error as Error).message}`);
        }
      }
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 401) throw error;
      if (error.status !== MISSING) notes.push(`Cannot read ${resource.plural}, so ${consequence}: ${error.message}`);
    }
  };

  const its: Survey = { services: [], namespaces: new Map(), nodes: [], metallb: [], leader: undefined, notes };
  for await (const service of list(connection, RESOURCES.Service, signal)) its.services.push(service);
  await read(NAMESPACES, "no namespaceSelector of a pool is taken to select anything", (object) => {
    const { labels } = part(isJson(object) ? object.metadata : undefined, "metadata");
    its.namespaces.set(nameOf(object), labelsOf(labels, "metadata.labels"));
  });
  await read(RESOURCES.Node, "their addresses are counted as free", (object) => its.nodes.push(readers.Node(object)!));
  if (source.kind === "kubernetes" && (await mayHavePools(connection, signal))) {
    const pools = { ...RESOURCES.IPAddressPool, namespace: source.poolNamespace };
    await read(pools, "MetalLB's pools are left out", (object) => its.metallb.push(metallbPool(object)));
  }
  its.leader = await leaderOf(connection, namespace, signal, notes);
  return its;
}

/** False where the API has no MetalLB: what it does not have, it refuses as what may not be read. */
async function mayHavePools(connection: Connection, signal: AbortSignal): Promise<boolean> {
  try {
    for await (const definition of list(connection, DEFINITIONS.IPAddressPool, signal))
      if (servedVersions(definition)?.includes(VERSION)) return true;
    return false;
  } catch (error) {
    if (error instanceof ApiError && error.status !== 401) return true; // nobody tells
    throw error;
  }
}

/** The holder of the controllers' Lease, and when it renewed last. */
async function leaderOf(connection: Connection, namespace: string, signal: AbortSignal, notes: string[]) {
  try {
    const response = await connection.send("GET", leasePath(namespace), signal);
    const { holderIdentity, renewTime } = part(JSON.parse(await text(response)).spec, "spec");
    return holderIdentity ? { name: String(holderIdentity), renewed: Date.parse(String(renewTime)) } : undefined;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status !== MISSING) notes.push(`Cannot tell which controller leads: ${error.message}`);
    return undefined;
  }
}
