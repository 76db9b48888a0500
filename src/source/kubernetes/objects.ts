/**
 * The fields of the API's objects that ownership depends on. A reader takes an object as the API sends it and cuts it down.
 * It throws if the object is not well formed, and notes entries that are not. Pure.
 */
import {
  type Address,
  blockOf,
  compare,
  type Family,
  familyOf,
  formatAddress,
  parseAddress,
  parseRange,
  type Range,
  readAddress,
} from "../../core/address.ts";
import {
  entries,
  flag,
  isJson,
  items,
  type Json,
  labelsOf,
  NONE,
  type Note,
  optional,
  part,
  refuse,
  selectorOf,
  strict,
  textOf,
} from "./fields.ts";
import type { LabelSelector, Labels } from "./selector.ts";

/** The identity of an object in the API. */
export interface ObjectRef {
  kind: Kind;
  /** undefined: objects of this kind have no namespace. */
  namespace: string | undefined;
  name: string;
  uid: string;
}

/** `namespace/name`, or the name alone. */
export type Key = string;

/** One entry of `status.loadBalancer.ingress` that has an IP. */
export interface Ingress {
  /** In the form of Go's `net.IP.String()`, because MetalLB hashes that. */
  text: string;
  address: Address;
  /**
   * `ipMode: Proxy` (KEP-1860): the address is that of a load balancer in front of the nodes, which answers by itself.
   */
  isProxied: boolean;
}

/** A Service of type LoadBalancer that has an ingress. */
export interface Service {
  key: Key;
  uid: string;
  /** The time when it was made, ms since 1970. */
  created: number;
  /** The time when its addresses were written last, ms since 1970; where nobody tells, when it was made. */
  addressed: number;
  labels: Labels;
  /** `spec.loadBalancerClass`. */
  loadBalancerClass: string | undefined;
  /** It may share its address with other Services: MetalLB's annotation `allow-shared-ip`. */
  isSharing: boolean;
  /** `externalTrafficPolicy: Local`. */
  isLocal: boolean;
  ingress: readonly Ingress[];
  /** The number of ingress entries that have a hostname and no IP. */
  hostnames: number;
}

/** An EndpointSlice of a Service, of addresses of one family. Nodes are listed once each; "" stands for endpoints that name no node. */
export interface EndpointSlice {
  key: Key;
  service: Key;
  /** The family of its addresses: kube-proxy forwards what comes to a VIP to endpoints of the VIP's family only. */
  family: Family;
  /** The nodes of the endpoints that are ready. */
  ready: readonly string[];
  /** The nodes of those that are not ready any more and still serve: they terminate. */
  leaving: readonly string[];
}

export interface ClusterNode {
  key: Key;
  labels: Labels;
  isNetworkUnavailable: boolean;
  /** The kernel's boot_id, by which a boot is noticed. */
  bootID: string;
  /** It is not Ready, and as far as is known it has not been since it booted. */
  isBooting: boolean;
  /** Its first InternalIP of each family, IPv4 first. */
  internals: readonly Address[];
  /** All other addresses that it lists: a cloud provider may have found a VIP on it, and a kubelet writes what it likes. */
  others: readonly Address[];
}

/** metallb.io/v1beta1 */
export interface IPAddressPool {
  key: Key;
  labels: Labels;
  ranges: readonly Range[];
}

export interface Preference {
  weight: number;
  preference: LabelSelector;
}

/** metallb.io/v1beta1 */
export interface L2Advertisement {
  key: Key;
  /** Names of pools of its own namespace. Without names and selectors it is for all pools there. */
  ipAddressPools: readonly string[];
  ipAddressPoolSelectors: readonly LabelSelector[];
  serviceSelectors: readonly LabelSelector[];
  nodeSelectors: readonly LabelSelector[];
  /** Among the nodes that it selects, those that are preferred, and how much. */
  preferredNodeSelectors: readonly Preference[];
  /** Empty: all interfaces. */
  interfaces: readonly string[];
  /** Fields that isat does not know; in some version of MetalLB they decide who owns. */
  unknown: readonly string[];
}

/** The kinds that ownership depends on. */
export interface Objects {
  Service: Service;
  EndpointSlice: EndpointSlice;
  Node: ClusterNode;
  IPAddressPool: IPAddressPool;
  L2Advertisement: L2Advertisement;
}
export type Kind = keyof Objects;

/** Copies a list to save memory: an array that grew by push() has room for 16 more items. */
export const trim = <T>(items: readonly T[]): readonly T[] => items.slice();

/** The identity of an object, as far as it can be read: an object that is not well formed must be reported too. */
export function refOf(kind: Kind, object: unknown): ObjectRef {
  const metadata = isJson(object) && isJson(object.metadata) ? object.metadata : NONE;
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  return {
    kind,
    namespace: text(metadata.namespace),
    name: text(metadata.name) ?? "",
    uid: text(metadata.uid) ?? "",
  };
}

export const keyOf = ({ namespace, name }: Pick<ObjectRef, "namespace" | "name">): Key =>
  namespace === undefined ? name : `${namespace}/${name}`;

export const nameOf = (object: unknown): Key => keyOf(refOf("Service", object));

/** Sorts by namespace and name, so that the result does not depend on the order in which objects came. */
export const sortedByKey = <T extends { key: Key }>(objects: Iterable<T>): T[] =>
  [...objects].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));

export const namespaceOf = (key: Key): string => key.slice(0, Math.max(0, key.indexOf("/")));
/** The name without the namespace. */
export const baseOf = (key: Key): string => key.slice(key.indexOf("/") + 1);

function metadataOf(kind: Kind, object: unknown) {
  const ref = refOf(kind, object);
  if (ref.name === "") throw new Error("metadata.name is missing");
  const { labels, annotations, creationTimestamp, managedFields } = part((object as Json).metadata, "metadata");
  return {
    key: keyOf(ref),
    uid: ref.uid,
    labels: labelsOf(labels, "metadata.labels"),
    annotations,
    creationTimestamp,
    managedFields,
  };
}

/**
 * Reads an IP address as Go does. The text is that of `net.ParseIP(text).String()`: RFC 5952, and an IPv4 address mapped
 * into IPv6 is IPv4. undefined: Go refuses it.
 */
export function canonicalIP(text: string): { text: string; address: Address } | undefined {
  const address = readAddress(text);
  return address === undefined ? undefined : { text: formatAddress(address), address };
}

/** Balancers give an address or two a Service; each costs an election. */
const MAX_INGRESS = 64;
const SHARING = ["metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

function serviceOf(object: unknown, _note?: Note, names?: ReadonlySet<string>): Service | undefined {
  const { key, uid, labels, annotations, creationTimestamp, managedFields } = metadataOf("Service", object);
  const spec = part((object as Json).spec, "spec");
  if (spec.type !== "LoadBalancer") return undefined;
  const status = part((object as Json).status, "status");
  const path = "status.loadBalancer.ingress";
  const all = items(part(status.loadBalancer, "status.loadBalancer").ingress, path);
  if (all.length === 0) return undefined;
  if (all.length > MAX_INGRESS) {
    throw new Error(`${path} has ${all.length} entries, and isat reads at most ${MAX_INGRESS}`);
  }
  const ingress: Ingress[] = [];
  for (const [index, entry] of all.entries()) {
    const { ip, ipMode } = part(entry, `${path}[${index}]`);
    const text = optional(ip, `${path}[${index}].ip`);
    if (!text) continue;
    const read = canonicalIP(text) ?? refuse(`${path}[${index}].ip`, ip, "an IP address");
    ingress.push({ ...read, isProxied: ipMode === "Proxy" });
  }
  const created = Date.parse(optional(creationTimestamp, "metadata.creationTimestamp") ?? "");
  if (Number.isNaN(created)) refuse("metadata.creationTimestamp", creationTimestamp, "a time");
  return {
    key,
    uid,
    created,
    addressed: addressedAt(managedFields) ?? created,
    labels: names ? kept(labels, names) : labels,
    loadBalancerClass: optional(spec.loadBalancerClass, "spec.loadBalancerClass"),
    isSharing: SHARING.some((name) => Boolean(part(annotations, "metadata.annotations")[name])),
    isLocal: spec.externalTrafficPolicy === "Local",
    ingress: trim(ingress),
    hostnames: all.length - ingress.length,
  };
}

/**
 * The time when the status's load balancer was written last, ms since 1970, by what the API server records of each
 * writer.
 */
function addressedAt(managedFields: unknown): number | undefined {
  const times = items(managedFields, "metadata.managedFields").flatMap((entry) => {
    const { fieldsV1, time } = part(entry, "metadata.managedFields[]");
    const status = part(part(fieldsV1, "fieldsV1")["f:status"], "f:status");
    const at = Date.parse(optional(time, "metadata.managedFields[].time") ?? "");
    return status["f:loadBalancer"] === undefined || Number.isNaN(at) ? [] : [at];
  });
  return times.length === 0 ? undefined : Math.max(...times);
}

function endpointSliceOf(object: unknown): EndpointSlice | undefined {
  const { key, labels } = metadataOf("EndpointSlice", object);
  const service = labels["kubernetes.io/service-name"];
  if (!service) return undefined; // it was made by somebody for another purpose
  const { addressType, endpoints } = object as Json;
  if (addressType !== "IPv4" && addressType !== "IPv6") return undefined; // FQDN: kube-proxy forwards nothing to it
  const [ready, leaving] = [new Set<string>(), new Set<string>()];
  for (const [index, endpoint] of items(endpoints, "endpoints").entries()) {
    const path = `endpoints[${index}]`;
    const { conditions, nodeName } = part(endpoint, path);
    const its = part(conditions, `${path}.conditions`);
    // An absent `ready` counts as true (discovery/v1 EndpointConditions), an absent `serving` as false.
    const isReady = flag(its.ready, `${path}.conditions.ready`) !== false;
    const isServing = flag(its.serving, `${path}.conditions.serving`) === true;
    const node = optional(nodeName, `${path}.nodeName`) ?? "";
    if (isReady) ready.add(node);
    else if (isServing) leaving.add(node);
  }
  const family = addressType === "IPv4" ? 4 : 6;
  return { key, service: `${namespaceOf(key)}/${service}`, family, ready: sorted(ready), leaving: sorted(leaving) };
}

const values = new Map<string, object>();

/** Shares equal values to save memory: three nodes make eight different lists, for ten thousand EndpointSlices. */
function shared<T extends object>(value: T): T {
  const id = JSON.stringify(value);
  const known = values.get(id);
  if (known) return known as T;
  if (values.size > 1000) values.clear(); // so many different values come from big clusters, where few are equal
  values.set(id, value);
  return value;
}

const sorted = (set: ReadonlySet<string>): readonly string[] => shared([...set].sort());

/** The labels of these names. */
function kept(labels: Labels, names: ReadonlySet<string>): Labels {
  const all = Object.fromEntries(
    [...names].flatMap((name) => (Object.hasOwn(labels, name) ? [[name, labels[name]!]] : [])),
  );
  return Object.keys(all).length > 0 ? shared(all) : NONE;
}

function nodeOf(object: unknown): ClusterNode {
  const { key, labels } = metadataOf("Node", object);
  const status = part((object as Json).status, "status");
  const conditions = items(status.conditions, "status.conditions").map((item) => part(item, "status.conditions[]"));
  const statusOf = (wanted: string) => conditions.find(({ type }) => type === wanted)?.status;
  const others = new Set<Address>();
  const internals = new Map<Family, Address>();
  for (const item of items(status.addresses, "status.addresses")) {
    const { type, address } = part(item, "status.addresses[]");
    const own = typeof address === "string" ? readAddress(address) : undefined;
    if (own === undefined) continue; // a name
    if (type === "InternalIP" && !internals.has(familyOf(own))) internals.set(familyOf(own), own);
    else others.add(own);
  }
  return {
    key,
    labels,
    isNetworkUnavailable: statusOf("NetworkUnavailable") === "True",
    bootID: optional(part(status.nodeInfo, "status.nodeInfo").bootID, "status.nodeInfo.bootID") ?? "",
    isBooting: statusOf("Ready") !== "True",
    internals: [...internals.values()].sort(compare),
    others: [...others].filter((address) => internals.get(familyOf(address)) !== address),
  };
}

/** Reads a block or a range as MetalLB's ParseCIDR does, which ignores a block's host bits. */
function poolRange(text: string, path: string): Range {
  const [, base = "", prefix = ""] = /^([^/-]+)\/(\d+)$/.exec(text) ?? [];
  try {
    if (!prefix) {
      if (!text.includes("-")) throw new Error("neither a block nor a range");
      return parseRange(text.replace(/\s*-\s*/, "-").trim());
    }
    return parseRange(`${formatAddress(blockOf(parseAddress(base), Number(prefix)).first)}/${prefix}`);
  } catch {
    return refuse(path, text, "a block (10.9.0.0/24) or a range (10.9.0.10-10.9.0.19) of addresses");
  }
}

function poolOf(object: unknown, note: Note = strict): IPAddressPool {
  const { key, labels } = metadataOf("IPAddressPool", object);
  const { addresses } = part((object as Json).spec, "spec");
  const read = (item: unknown, path: string) => poolRange(textOf(item, path), path);
  return { key, labels, ranges: entries(addresses, "spec.addresses", read, note) };
}

const KNOWN_FIELDS = [
  "ipAddressPools",
  "ipAddressPoolSelectors",
  "serviceSelectors",
  "nodeSelectors",
  "preferredNodeSelectors",
  "interfaces",
];

function preferenceOf(value: unknown, path: string): Preference {
  const { weight, preference } = part(value, path);
  const isFit = Number.isInteger(weight) && (weight as number) >= 1 && (weight as number) <= 100;
  if (!isFit) refuse(`${path}.weight`, weight, "a whole number from 1 to 100");
  return { weight: weight as number, preference: selectorOf(preference, `${path}.preference`) };
}

function advertisementOf(object: unknown, note: Note = strict): L2Advertisement {
  const { key } = metadataOf("L2Advertisement", object);
  const spec = part((object as Json).spec, "spec");
  const its = <T>(field: string, read: (item: unknown, path: string) => T) =>
    entries(spec[field], `spec.${field}`, read, note);
  return {
    key,
    ipAddressPools: its("ipAddressPools", textOf),
    ipAddressPoolSelectors: its("ipAddressPoolSelectors", selectorOf),
    serviceSelectors: its("serviceSelectors", selectorOf),
    nodeSelectors: its("nodeSelectors", selectorOf),
    preferredNodeSelectors: its("preferredNodeSelectors", preferenceOf),
    interfaces: its("interfaces", textOf),
    unknown: Object.keys(spec).filter((field) => !KNOWN_FIELDS.includes(field)),
  };
}

/**
 * The reader of each kind; it returns undefined for an object that ownership does not depend on.
 * @param names of the labels of Services that are kept; undefined: all
 * @throws Error that names the field and its value, if the object is not well formed
 */
export const readers: {
  [K in Kind]: (object: unknown, note?: Note, names?: ReadonlySet<string>) => Objects[K] | undefined;
} = {
  Service: serviceOf,
  EndpointSlice: endpointSliceOf,
  Node: nodeOf,
  IPAddressPool: poolOf,
  L2Advertisement: advertisementOf,
};

/**
 * The form of an object that counts while it has faults: its last good form. Of a pool, the entries that can be read count
 * besides; an object that never was good has nothing else.
 */
export function formOf(kind: Kind, read: Objects[Kind] | undefined, good: Objects[Kind] | undefined) {
  if (kind !== "IPAddressPool" || !read || !good) return good ?? read;
  const [pool, before] = [read as IPAddressPool, good as IPAddressPool];
  return { ...pool, ranges: [...before.ranges, ...pool.ranges] };
}
