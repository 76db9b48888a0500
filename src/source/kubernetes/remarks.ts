/** Remarks on addresses that nobody announces, or that somebody else claims: one for each cause. Pure. */
import { type Address, compare, formatAddress } from "../../core/address.ts";
import { nodeChecks } from "./nodes.ts";
import { baseOf, type Key, namespaceOf, type Service } from "./objects.ts";
import { type Common, isOurs, isServed, NO_CLASS, type Problem, type ServiceAddress } from "./services.ts";

/** A remark on one address of a Service. */
export interface Remark {
  service: Service;
  address: Address;
  reason: "NotAnnounced" | "NodeAddress";
  /** The rest of the sentence that the address begins. Remarks with one cause have it in common. */
  says: string;
}

const NOBODY = "is announced by nobody:";
/** The number of Nodes that a line names at most. */
const MOST_NODES = 12;

/** The remarks on a Service's addresses that do not depend on others that share them. @param service is of isat or not */
export function remarksOnService(service: Service, common: Common): Remark[] {
  const { nodes, pools, settings } = common;
  const all: Remark[] = [];
  const add = (address: Address, says: string) =>
    all.push({ service, address, reason: "NotAnnounced", says: `${NOBODY} ${says}` });
  const isMeant = isOurs(service, settings);
  if (!isMeant && isServed(service, settings)) return all; // serviceSelector leaves it out on purpose
  for (const { address, isProxied } of service.ingress) {
    if (isProxied) continue;
    const owner = nodes.ownerOf.get(address);
    if (isMeant && owner) add(address, `it is Node ${owner}'s own address. Give the Service another one`);
    if (isMeant || !pools.advertising(address, service.labels)?.available.length) continue;
    const its = service.loadBalancerClass;
    const what = its ? `the class ${its}` : "Services without a class";
    add(address, `isat does not serve ${what}. Add ${its ?? NO_CLASS} to source.loadBalancerClass if it is to`);
  }
  return all;
}

/** The remarks on an address, as far as the Service that decides who owns it is concerned. */
export function remarksOn(deciding: ServiceAddress, endpoints: readonly string[], common: Common): Remark[] {
  const { service, address } = deciding;
  const all: Remark[] = [];
  const claimant = common.nodes.claimants.get(address);
  if (claimant !== undefined) {
    const says = `is served, though Node ${claimant} lists it among its addresses. Take it out of the Node's status.addresses: its cloud provider may have found it on kube-ipvs0 or on lo`;
    all.push({ service, address, reason: "NodeAddress", says });
  }
  const why = endpoints.length > 0 && deciding.candidates.length === 0 ? whyNobody(deciding, common) : undefined;
  if (why) all.push({ service, address, reason: "NotAnnounced", says: `${NOBODY} ${why}` });
  return all;
}

function whyNobody({ service, advertising }: ServiceAddress, { nodes, settings }: Common): string {
  const { pool, selected, available, selective } = advertising;
  if (service.isSharing && selective) {
    return `it may share its address (allow-shared-ip), and L2Advertisement ${selective} has serviceSelectors. MetalLB announces no such Service either`;
  }
  if (pool && selected.size === 0) return `no L2Advertisement selects a Node for it in pool ${pool}`;
  if (available.length > 0) {
    return "its externalTrafficPolicy is Local, and no endpoint is on a Node that may own it";
  }
  const excluded = [...nodes.running.values()].flatMap((node) => {
    const refusal = nodeChecks(node, settings.ignoreExcludeLabel).find((check) => check.refusal)?.refusal;
    return selected.has(node.key) && refusal ? [`${node.key} (${refusal})`] : [];
  });
  const more = excluded.length > MOST_NODES ? ` and ${excluded.length - MOST_NODES} more` : "";
  return `every Node is excluded: ${excluded.slice(0, MOST_NODES).join(", ") || "none runs isat"}${more}`;
}

/** A problem for each cause. It is on the first Service that has it, and names no other one. */
export function problemsOf(remarks: Iterable<Remark>): Problem[] {
  const causes = new Map<string, { first: Remark; keys: Set<Key> }>();
  for (const remark of remarks) {
    const known = causes.get(remark.says);
    if (!known) causes.set(remark.says, { first: remark, keys: new Set([remark.service.key]) });
    else {
      known.keys.add(remark.service.key);
      if (isBefore(remark, known.first)) known.first = remark;
    }
  }
  return [...causes.values()].map(({ first: { service, address, reason, says }, keys }) => {
    const { key, uid } = service;
    const ip = formatAddress(address);
    return {
      ref: { kind: "Service", namespace: namespaceOf(key), name: baseOf(key), uid },
      reason,
      message: `${ip} of ${key}${keys.size > 1 ? " and others" : ""} ${says}`,
      told: `${ip} ${says}`,
    };
  });
}

const isBefore = (a: Remark, b: Remark) =>
  a.service.key < b.service.key || (a.service.key === b.service.key && compare(a.address, b.address) < 0);
