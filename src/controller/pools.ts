/** Pools, wherever they are written, and which Services they are for. Pure. */
import type { Pool } from "../core/pools.ts";
import { anySelects, type LabelSelector, type Labels } from "../source/kubernetes/selector.ts";
import type { View } from "./services.ts";

/** A pool with the Services that it is for. What is empty is for all. */
export interface PoolSpec extends Pool {
  namespaces: readonly string[];
  namespaceSelectors: readonly LabelSelector[];
  serviceSelectors: readonly LabelSelector[];
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
