/** Pools, wherever they are written, and which Services they are for. Pure. */
import { type Address, formatAddress } from "../core/address.ts";
import type { Refusal } from "../core/ipam.ts";
import type { Pool } from "../core/pools.ts";
import type { ClusterNode, ObjectRef } from "../source/kubernetes/objects.ts";
import { anySelects, type LabelSelector, type Labels } from "../source/kubernetes/selector.ts";
import type { Resource } from "../source/kubernetes/watch.ts";
import type { View } from "./services.ts";

export const NAMESPACES: Resource = { group: "", version: "v1", plural: "namespaces" };

/** A pool with the Services that it is for. What is empty is for all. */
export interface PoolSpec extends Pool {
  namespaces: readonly string[];
  namespaceSelectors: readonly LabelSelector[];
  serviceSelectors: readonly LabelSelector[];
  /** The object that says so; undefined: the configuration does. */
  ref?: ObjectRef;
}

/** Everything that is known of a cluster's addresses. */
export interface Facts {
  views: readonly View[];
  /** In the order in which Services come to them. */
  pools: readonly PoolSpec[];
  never: ReadonlyMap<Address, Refusal>;
}

/** The names of the pools that select a Service. @param labels of its namespace; undefined: they are not known */
export function selecting(
  pools: readonly PoolSpec[],
  { namespace, labels: its }: Pick<View, "namespace" | "labels">,
  labels: Labels | undefined,
): string[] {
  const selects = ({ namespaces, namespaceSelectors, serviceSelectors }: PoolSpec) => {
    if (!anySelects(serviceSelectors, its)) return false;
    if (namespaces.length === 0 && namespaceSelectors.length === 0) return true;
    if (namespaces.includes(namespace)) return true;
    return namespaceSelectors.length > 0 && labels !== undefined && anySelects(namespaceSelectors, labels);
  };
  return pools.filter(selects).map(({ name }) => name);
}

/** All pools. Of two with one name, the configuration's counts. */
export function merged(configured: readonly PoolSpec[], metallb: Iterable<PoolSpec>): PoolSpec[] {
  const names = new Set(configured.map(({ name }) => name));
  return [...configured, ...[...metallb].filter(({ name }) => !names.has(name))];
}

/** The addresses of Nodes, which no Service is given. */
export function nodesOwn(nodes: Iterable<ClusterNode>): Map<Address, Refusal> {
  const own = new Map<Address, Refusal>();
  for (const { key, internals, others } of nodes) {
    for (const address of [...internals, ...others])
      own.set(address, { reason: "InUse", message: `${formatAddress(address)} is Node ${key}'s own address` });
  }
  return own;
}
