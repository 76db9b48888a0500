/** Reads MetalLB's IPAddressPools as pools that addresses are given from. Pure. */
import { reservedBlock } from "../core/address.ts";
import { items, type Json, part, selectorOf, textOf } from "../source/kubernetes/fields.ts";
import { baseOf, readers, refOf } from "../source/kubernetes/objects.ts";
import type { PoolSettings } from "../source/kubernetes/pool-settings.ts";
import type { LabelSelector } from "../source/kubernetes/selector.ts";
import type { PoolSpec } from "./pools.ts";

/** @throws Error that names the field, if the object is not well formed */
export function metallbPool(object: unknown): PoolSpec {
  const { key, ranges } = readers.IPAddressPool(object)!;
  const { autoAssign, avoidBuggyIPs, serviceAllocation } = part((object as Json).spec, "spec");
  const path = "spec.serviceAllocation";
  const its = part(serviceAllocation, path);
  const list = <T>(field: string, read: (item: unknown, path: string) => T) =>
    items(its[field], `${path}.${field}`).map((item, index) => read(item, `${path}.${field}[${index}]`));
  const [namespaces, namespaceSelectors, serviceSelectors] = [
    list("namespaces", textOf),
    list("namespaceSelectors", selectorOf),
    list("serviceSelectors", selectorOf),
  ];
  return {
    name: baseOf(key),
    ranges: ranges.filter((range) => !reservedBlock(range)),
    priority: typeof its.priority === "number" ? its.priority : 0,
    autoAssign: autoAssign !== false,
    avoidBuggy: avoidBuggyIPs === true,
    acrossNamespaces: true,
    ref: refOf("IPAddressPool", object),
    ...forSome(namespaces, namespaceSelectors, serviceSelectors),
  };
}

/** A pool of the configuration. */
export function configuredPool(its: PoolSettings): PoolSpec {
  const list = (selector: LabelSelector | undefined) => (selector ? [selector] : []);
  return {
    name: its.name,
    ranges: its.addresses,
    priority: its.priority,
    autoAssign: its.autoAssign,
    avoidBuggy: its.avoidBuggyIPs,
    acrossNamespaces: its.shareAcrossNamespaces,
    ...forSome(its.namespaces, list(its.namespaceSelector), list(its.serviceSelector)),
  };
}

/** The Services that a pool is for: all, where nothing selects them. */
const forSome = (
  namespaces: readonly string[],
  namespaceSelectors: readonly LabelSelector[],
  serviceSelectors: readonly LabelSelector[],
) => ({
  isSelective: namespaces.length + namespaceSelectors.length + serviceSelectors.length > 0,
  ...{ namespaces, namespaceSelectors, serviceSelectors },
});
