/** The Nodes of a cluster, as far as ownership is a function of them. Pure. */
import type { Address } from "../../core/address.ts";
import type { Check, NodeEntry } from "../../core/demand.ts";
import { type ClusterNode, sortedByKey } from "./objects.ts";
import { type LabelSelector, selects } from "./selector.ts";

const EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers";

export interface Nodes {
  /** The Nodes that run isat, by name and in its order. */
  running: ReadonlyMap<string, ClusterNode>;
  /** The Node whose own address it is, among all Nodes. */
  ownerOf: ReadonlyMap<Address, string>;
  /** The Node that lists it beside its own, though a Service had it first. */
  claimants: ReadonlyMap<Address, string>;
  /** The Nodes that run isat, as a demand names them. */
  entries: readonly NodeEntry[];
}

/**
 * @param selector the Nodes that run isat; undefined: all
 * @param isOfService a Service had the address before a Node listed it beside its InternalIP
 */
export function nodesOf(
  all: readonly ClusterNode[],
  selector: LabelSelector | undefined,
  isOfService: (address: Address) => boolean = () => false,
): Nodes {
  const running = new Map<string, ClusterNode>();
  const ownerOf = new Map<Address, string>();
  const claimants = new Map<Address, string>();
  for (const node of sortedByKey(all)) {
    for (const address of node.others) (isOfService(address) ? claimants : ownerOf).set(address, node.key);
    if (!selector || selects(selector, node.labels)) running.set(node.key, node);
  }
  for (const { key, internals } of all) for (const address of internals) ownerOf.set(address, key);
  const entries = [...running.values()].map(({ key, internals }) => ({ name: key, address: internals[0] }));
  return { running, ownerOf, claimants, entries };
}

/**
 * Takes a Node as it is now. A kubelet that comes up writes its Node's bootID, and Ready as False until the node's network
 * is there; NetworkUnavailable is still as before the boot. A Ready that is lost later plays no part.
 * @param before undefined: it was not known @param knowsAll all Nodes were known before this one
 */
export function sinceBoot(now: ClusterNode, before: ClusterNode | undefined, knowsAll: boolean): ClusterNode {
  const isNew = before ? before.isBooting || before.bootID !== now.bootID : knowsAll;
  return now.isBooting && !isNew ? { ...now, isBooting: false } : now;
}

/** Kubelet says so in the condition Ready (pkg/kubelet/nodestatus) before it stops the pods of a machine that goes down. */
export function isShutDown(node: unknown): boolean {
  const { status } = node as {
    status?: { conditions?: ({ type?: string; status?: string; message?: string } | null)[] };
  };
  const ready = [status?.conditions].flat().find((condition) => condition?.type === "Ready");
  return ready?.status === "False" && String(ready.message).includes("node is shutting down");
}

/** The checks that a Node meets for every VIP alike. */
export function nodeChecks(
  { labels, isNetworkUnavailable, isBooting }: ClusterNode,
  ignoreExcludeLabel: boolean,
): Check[] {
  const isExcluded = !ignoreExcludeLabel && Object.hasOwn(labels, EXCLUDE_LABEL); // whatever its value
  return [
    { what: "label", refusal: isExcluded ? `it has the label ${EXCLUDE_LABEL}` : undefined },
    { what: "network", refusal: isNetworkUnavailable ? "its condition NetworkUnavailable is True" : undefined },
    { what: "booted", refusal: isBooting ? "it has not been Ready since it booted" : undefined },
  ];
}
