/** Which nodes may own the addresses of a Service: MetalLB's ShouldAnnounce (speaker/layer2_controller.go). Pure. */
import { type Address, formatAddress, reservedBlock } from "../../core/address.ts";
import type { Check } from "../../core/demand.ts";
import { elect } from "../../core/ownership.ts";
import { type Nodes, nodeChecks } from "./nodes.ts";
import { baseOf, type EndpointSlice, namespaceOf, type ObjectRef, type Service, trim } from "./objects.ts";
import type { Advertising, Pools } from "./pools.ts";
import { selects } from "./selector.ts";
import type { ClusterSettings } from "./settings.ts";

/** The parts of a cluster that are the same for all Services. */
export interface Common {
  settings: ClusterSettings;
  nodes: Nodes;
  pools: Pools;
}

/** An address of a Service that is announced. */
export interface ServiceAddress {
  service: Service;
  address: Address;
  advertising: Advertising;
  /** The nodes that may own the address as far as this Service decides. */
  candidates: readonly string[];
}

/**
 * Addresses that are not announced, counted by the reason: `hostname` has no address, `proxied` has the `ipMode` Proxy,
 * a `node` answers by itself, no host can have a `reserved` one, `outside` is in no pool or outside of source.addresses.
 */
export const NO_SKIPPED = { proxied: 0, hostname: 0, node: 0, reserved: 0, outside: 0 };
export type Skipped = Readonly<typeof NO_SKIPPED>;

/** Something wrong with an object, which its owner should know. */
export interface Problem {
  ref: ObjectRef;
  /** In the form of the reason of an Event. */
  reason: string;
  message: string;
  /** The text of the Event; undefined: the message. Whoever reads an Event may not know of other namespaces. */
  told?: string;
}

/** The addresses of a Service: those that are announced, and the count of the others. */
export interface Evaluation {
  addresses: readonly ServiceAddress[];
  skipped: Skipped;
}

/** The word for Services without a class, in source.loadBalancerClass. */
export const NO_CLASS = "none";

/** The Service is of a class that this isat announces. */
export const isServed = ({ loadBalancerClass }: Service, settings: ClusterSettings): boolean =>
  [settings.loadBalancerClass ?? NO_CLASS].flat().includes(loadBalancerClass ?? NO_CLASS);

/** The Service is of a class and the labels that this isat announces. */
export const isOurs = (service: Service, settings: ClusterSettings): boolean =>
  isServed(service, settings) && (!settings.serviceSelector || selects(settings.serviceSelector, service.labels));

/**
 * The nodes on which an endpoint can serve; "" stands for endpoints that name no node. Those that terminate count where no
 * endpoint of the Service is ready anywhere, as for kube-proxy (KEP-1669).
 */
export function nodesWithEndpoint(slices: readonly EndpointSlice[]): readonly string[] {
  const ready = allOf(slices.map((slice) => slice.ready));
  return ready.length > 0 ? ready : allOf(slices.map(({ leaving }) => leaving));
}

const allOf = (lists: readonly (readonly string[])[]) => (lists.length === 1 ? lists[0]! : lists.flat());

/** @param endpointsOf the nodes with an endpoint that can serve an address */
export function evaluate(
  service: Service,
  endpointsOf: (address: Address) => readonly string[],
  common: Common,
): Evaluation {
  const addresses: ServiceAddress[] = [];
  const skipped = { ...NO_SKIPPED, hostname: service.hostnames };
  for (const { address, isProxied } of service.ingress) {
    if (isProxied) skipped.proxied += 1;
    else if (common.nodes.ownerOf.has(address)) skipped.node += 1;
    else if (reservedBlock({ first: address, last: address })) skipped.reserved += 1;
    else {
      const advertising = common.pools.advertising(address, service.labels);
      if (!advertising) skipped.outside += 1;
      else if (!addresses.some((other) => other.address === address)) {
        const candidates = candidatesOf(service, advertising, endpointsOf(address));
        addresses.push({ service, address, advertising, candidates });
      }
    }
  }
  const isSkipped = Object.values(skipped).some((count) => count > 0);
  return { addresses: trim(addresses), skipped: isSkipped ? skipped : NO_SKIPPED };
}

const NOBODY: readonly string[] = [];

function candidatesOf(
  { isLocal, isSharing }: Service,
  { available, selective }: Advertising,
  endpoints: readonly string[],
) {
  if (endpoints.length === 0 || (isSharing && selective)) return NOBODY;
  return isLocal ? available.filter((node) => endpoints.includes(node)) : available;
}

/**
 * The order in which Services came to their addresses: the API server's, so that all nodes have the same. Services of the
 * same second are in the order of namespace and name.
 */
export const inTurn = (a: ServiceAddress, b: ServiceAddress): number =>
  a.service.addressed - b.service.addressed || (a.service.key < b.service.key ? -1 : 1);

/**
 * The Service that decides who owns a shared address: the first that had it and has a candidate, or else the first. Its age
 * does not matter: whoever may write a Service's status could give an old one any address.
 * @param sharing in the order in which they came to the address
 */
export const decidingOf = (sharing: readonly ServiceAddress[]): ServiceAddress | undefined =>
  sharing.find(({ candidates }) => candidates.length > 0) ?? sharing[0];

/**
 * The text that nodes are hashed with. As in MetalLB, it is the Service's first ingress address for all of its addresses,
 * so that one node has both of a dual-stack Service.
 */
export const hashText = ({ service, address }: ServiceAddress) => service.ingress[0]?.text ?? formatAddress(address);

/** The checks that a node meets for an address that is announced. */
export function checksOf(
  { service, advertising }: ServiceAddress,
  endpoints: readonly string[],
  name: string,
  { nodes, settings }: Common,
): Check[] {
  const node = nodes.running.get(name);
  if (!node) return [{ what: "selected", refusal: "it is no Node that runs isat" }];
  const { selective } = advertising;
  const selected =
    service.isSharing && selective
      ? `${service.key} may share its address (allow-shared-ip), and L2Advertisement ${selective} has serviceSelectors: MetalLB announces no such Service`
      : advertising.selected.has(name)
        ? undefined
        : `no L2Advertisement selects it for pool ${advertising.pool} and ${service.key}`;
  const endpoint =
    endpoints.length === 0
      ? `no endpoint of ${service.key} can serve`
      : service.isLocal && !endpoints.includes(name)
        ? `no endpoint of ${service.key} on it can serve (externalTrafficPolicy: Local)`
        : undefined;
  return [
    { what: "selected", refusal: selected },
    { what: "endpoint", refusal: endpoint },
    ...nodeChecks(node, settings.ignoreExcludeLabel),
  ];
}

/** Why an address is not announced. @param its the Services that have it; there is at least one */
export function notAnnounced(address: Address, its: readonly Service[], common: Common): string {
  const owner = common.nodes.ownerOf.get(address);
  if (owner !== undefined) return `it is Node ${owner}'s own address`;
  const block = reservedBlock({ first: address, last: address });
  if (block) return block;
  const ours = its.filter((service) => isOurs(service, common.settings));
  if (ours.length === 0) return `${its[0]!.key} is of another class, or not selected`;
  const isProxied = ({ ingress }: Service) => ingress.every((entry) => entry.isProxied || entry.address !== address);
  if (ours.every(isProxied)) return "its ipMode is Proxy";
  return common.pools.hasAdvertisements ? "it is in no IPAddressPool" : "it is outside of source.addresses";
}

/**
 * The Services that are not served at an address, because another one decides who owns it.
 * @param refusalOf why a node may not own the address as far as a Service decides
 */
export function sharingProblems(
  deciding: ServiceAddress,
  sharing: readonly ServiceAddress[],
  refusalOf: (one: ServiceAddress, node: string) => string | undefined,
): Problem[] {
  const owner = elect(deciding.candidates, hashText(deciding), deciding.advertising.scores); // as if all nodes were alive: the API does not tell
  if (owner === undefined) return [];
  // A Service without candidates loses nothing by it.
  const isHurt = (one: ServiceAddress) =>
    one !== deciding && one.candidates.length > 0 && !one.candidates.includes(owner);
  return sharing.filter(isHurt).map((one) => {
    const { key, uid } = one.service;
    const ip = formatAddress(one.address);
    const textOf = (other: string) =>
      `${ip} is shared with ${other}, which decides: node ${owner} owns it. There ${key} is not served: ${refusalOf(one, owner)}`;
    const other = deciding.service.key;
    const isNear = namespaceOf(other) === namespaceOf(key);
    return {
      ref: { kind: "Service", namespace: namespaceOf(key), name: baseOf(key), uid },
      reason: "SharedAddress",
      message: textOf(other),
      ...(!isNear && { told: textOf("a Service of another namespace") }),
    };
  });
}
