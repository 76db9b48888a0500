/**
 * Objects of the Kubernetes API, cut down to what ownership is a function of. A reader takes an object as the API sends
 * it, and throws where it is not what it should be: that costs this object, and no other.
 */
import { isIPv6 } from "node:net";
import { type Address, formatAddress, parseAddress, parseRange, type Range } from "../../core/address.ts";
import { fault, type LabelSelector, type Labels, OPERATORS } from "./selector.ts";

/** How the API names an object. */
export interface ObjectRef {
  kind: Kind;
  /** undefined: the kind has no namespaces. */
  namespace: string | undefined;
  name: string;
  uid: string;
}

/** `namespace/name`, or the name alone. */
export type Key = string;

/** One entry of `status.loadBalancer.ingress` that has an IP. */
export interface Ingress {
  /** As Go's `net.IP.String()` prints it, for that is what MetalLB hashes. */
  text: string;
  /** undefined: IPv6. */
  address: Address | undefined;
  /** `ipMode: Proxy` (KEP-1860): the address is a load balancer's in front of the nodes, which answers by itself. */
  isProxied: boolean;
}

/** A Service of type LoadBalancer that has an ingress. */
export interface Service {
  key: Key;
  uid: string;
  /** ms since 1970. */
  created: number;
  labels: Labels;
  /** `spec.loadBalancerClass`. */
  loadBalancerClass: string | undefined;
  /** `externalTrafficPolicy: Local`. */
  isLocal: boolean;
  ingress: readonly Ingress[];
  /** Entries of the ingress with a hostname and no IP. */
  hostnames: number;
}

/** An EndpointSlice that belongs to a Service. */
export interface EndpointSlice {
  key: Key;
  /** The Service's key. */
  service: Key;
  /** The nodes of the endpoints that can serve, each once; "" for those that name none. */
  serving: readonly string[];
}

export interface ClusterNode {
  key: Key;
  labels: Labels;
  /** The condition NetworkUnavailable is True. */
  isNetworkUnavailable: boolean;
  /** Every IPv4 address of its own. */
  addresses: readonly Address[];
  /** The first InternalIP of IPv4. */
  internal: Address | undefined;
}

/** metallb.io/v1beta1 */
export interface IPAddressPool {
  key: Key;
  labels: Labels;
  /** IPv4 only. */
  ranges: readonly Range[];
}

/** metallb.io/v1beta1 */
export interface L2Advertisement {
  key: Key;
  /** Names of pools of its own namespace. None, and no selectors either: all of them. */
  ipAddressPools: readonly string[];
  ipAddressPoolSelectors: readonly LabelSelector[];
  serviceSelectors: readonly LabelSelector[];
  nodeSelectors: readonly LabelSelector[];
  /** None: all. */
  interfaces: readonly string[];
  /** Fields that decide who owns, in some version of MetalLB, and that isat does not know. */
  unknown: readonly string[];
}

/** Each kind that ownership is a function of, cut down. */
export interface Objects {
  Service: Service;
  EndpointSlice: EndpointSlice;
  Node: ClusterNode;
  IPAddressPool: IPAddressPool;
  L2Advertisement: L2Advertisement;
}
export type Kind = keyof Objects;

/** What the API sends: any JSON. */
type Json = Readonly<Record<string, unknown>>;

const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

function refuse(path: string, value: unknown, wanted: string): never {
  const found = value === undefined ? "nothing" : JSON.stringify(value);
  throw new Error(`${path} is ${found.length > 60 ? `${found.slice(0, 57)}...` : found}, not ${wanted}`);
}

/** The part at the path; {} where it is absent. */
function part(value: unknown, path: string): Json {
  if (value === undefined || value === null) return NONE;
  return isJson(value) ? value : refuse(path, value, "an object");
}

function items(value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : refuse(path, value, "a list");
}

function optional(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  return typeof value === "string" ? value : refuse(path, value, "a text");
}

function texts(value: unknown, path: string): string[] {
  return items(value, path).map((item, index) => optional(item, `${path}[${index}]`) ?? refuse(path, value, "texts"));
}

function flag(value: unknown, path: string): boolean | undefined {
  if (value === undefined || value === null) return undefined;
  return typeof value === "boolean" ? value : refuse(path, value, "true or false");
}

/** The same in as much memory as it needs: an array that grew by push() has room for 16 more items. */
export const trim = <T>(items: readonly T[]): readonly T[] => items.slice();

/** Shared, as most objects of a big cluster have none: they are held by the ten thousand. */
const NONE: Readonly<Record<string, never>> = Object.freeze({});

function labelsOf(value: unknown, path: string): Labels {
  const labels = part(value, path);
  for (const key in labels) if (typeof labels[key] !== "string") refuse(`${path}["${key}"]`, labels[key], "a text");
  return Object.keys(labels).length > 0 ? (labels as Labels) : NONE;
}

function selectorOf(value: unknown, path: string): LabelSelector {
  const { matchLabels, matchExpressions } = part(value, path);
  return {
    matchLabels: labelsOf(matchLabels, `${path}.matchLabels`),
    matchExpressions: items(matchExpressions, `${path}.matchExpressions`).map((item, index) => {
      const at = `${path}.matchExpressions[${index}]`;
      const { key, operator, values } = part(item, at);
      const requirement = {
        key: optional(key, `${at}.key`) ?? refuse(`${at}.key`, key, "a label's name"),
        operator:
          OPERATORS.find((name) => name === operator) ?? refuse(`${at}.operator`, operator, OPERATORS.join(", ")),
        values: texts(values, `${at}.values`),
      };
      const reason = fault(requirement);
      if (reason) throw new Error(`${at}: ${reason}`);
      return requirement;
    }),
  };
}

const selectorsOf = (value: unknown, path: string) =>
  items(value, path).map((item, index) => selectorOf(item, `${path}[${index}]`));

/** What names an object, of as much as can be read: also a poisoned one is to be told of. */
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

/** The key of an object of any kind. */
export const nameOf = (object: unknown): Key => keyOf(refOf("Service", object));

export const namespaceOf = (key: Key): string => key.slice(0, Math.max(0, key.indexOf("/")));

function metadataOf(kind: Kind, object: unknown) {
  const ref = refOf(kind, object);
  if (ref.name === "") throw new Error("metadata.name is missing");
  const { labels, creationTimestamp } = part((object as Json).metadata, "metadata");
  return { key: keyOf(ref), uid: ref.uid, labels: labelsOf(labels, "metadata.labels"), creationTimestamp };
}

/**
 * `net.IP.String()` of what `net.ParseIP()` makes of a text: RFC 5952, and an IPv4 address mapped into IPv6 is IPv4;
 * undefined where that refuses it.
 */
export function canonicalIP(text: string): { text: string; address: Address | undefined } | undefined {
  if (!isIPv6(text)) {
    try {
      const address = parseAddress(text);
      return { text, address };
    } catch {
      return undefined;
    }
  }
  if (text.includes("%")) return undefined; // ParseIP takes no zone
  const host = new URL(`http://[${text}]`).hostname.slice(1, -1); // the URL standard's form is that of RFC 5952
  const [, high, low] = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(host) ?? [];
  if (high === undefined || low === undefined) return { text: host, address: undefined };
  const address = Number.parseInt(high, 16) * 65_536 + Number.parseInt(low, 16);
  return { text: formatAddress(address), address };
}

function serviceOf(object: unknown): Service | undefined {
  const { key, uid, labels, creationTimestamp } = metadataOf("Service", object);
  const spec = part((object as Json).spec, "spec");
  if (spec.type !== "LoadBalancer") return undefined;
  const status = part((object as Json).status, "status");
  const path = "status.loadBalancer.ingress";
  const entries = items(part(status.loadBalancer, "status.loadBalancer").ingress, path);
  if (entries.length === 0) return undefined;
  const ingress: Ingress[] = [];
  for (const [index, entry] of entries.entries()) {
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
    labels,
    loadBalancerClass: optional(spec.loadBalancerClass, "spec.loadBalancerClass"),
    isLocal: spec.externalTrafficPolicy === "Local",
    ingress: trim(ingress),
    hostnames: entries.length - ingress.length,
  };
}

/** Conditions that are not there: ready counts as true (discovery/v1 EndpointConditions), serving as false. */
function canServe(conditions: Json, path: string): boolean {
  return flag(conditions.ready, `${path}.ready`) !== false || flag(conditions.serving, `${path}.serving`) === true;
}

function endpointSliceOf(object: unknown): EndpointSlice | undefined {
  const { key, labels } = metadataOf("EndpointSlice", object);
  const service = labels["kubernetes.io/service-name"];
  if (!service) return undefined; // it belongs to no Service: somebody's own
  const serving = new Set<string>();
  for (const [index, endpoint] of items((object as Json).endpoints, "endpoints").entries()) {
    const path = `endpoints[${index}]`;
    const { conditions, nodeName } = part(endpoint, path);
    if (canServe(part(conditions, `${path}.conditions`), `${path}.conditions`)) {
      serving.add(optional(nodeName, `${path}.nodeName`) ?? "");
    }
  }
  return { key, service: `${namespaceOf(key)}/${service}`, serving: shared([...serving].sort()) };
}

const lists = new Map<string, readonly string[]>();

/** One list for all that are alike: a cluster of three nodes has eight of them, and endpoints by the ten thousand. */
function shared(names: readonly string[]): readonly string[] {
  const id = JSON.stringify(names);
  const known = lists.get(id);
  if (known) return known;
  if (lists.size > 1000) lists.clear(); // so many come of big clusters only, where few are alike
  lists.set(id, names);
  return names;
}

function nodeOf(object: unknown): ClusterNode {
  const { key, labels } = metadataOf("Node", object);
  const status = part((object as Json).status, "status");
  const conditions = items(status.conditions, "status.conditions").map((item) => part(item, "status.conditions[]"));
  const addresses: Address[] = [];
  let internal: Address | undefined;
  for (const item of items(status.addresses, "status.addresses")) {
    const { type, address } = part(item, "status.addresses[]");
    const own = typeof address === "string" ? canonicalIP(address)?.address : undefined; // else a name, or IPv6
    if (own === undefined) continue;
    if (type === "InternalIP") internal ??= own;
    if (!addresses.includes(own)) addresses.push(own);
  }
  return {
    key,
    labels,
    isNetworkUnavailable: conditions.find(({ type }) => type === "NetworkUnavailable")?.status === "True",
    addresses,
    internal,
  };
}

/** MetalLB's ParseCIDR: a block, of which the bits of the host do not matter, or a range. IPv6 is left out. */
function poolRange(text: string, path: string): Range | undefined {
  if (text.includes(":")) return undefined;
  const [, base = "", prefix = ""] = /^([^/-]+)\/(\d+)$/.exec(text) ?? [];
  try {
    if (!prefix) {
      if (!text.includes("-")) throw new Error("neither a block nor a range");
      return parseRange(text.replace(/\s*-\s*/, "-").trim());
    }
    const size = 2 ** (32 - Number(prefix));
    return parseRange(`${formatAddress(Math.floor(parseAddress(base) / size) * size)}/${prefix}`);
  } catch {
    return refuse(path, text, "a block (10.9.0.0/24) or a range (10.9.0.10-10.9.0.19) of addresses");
  }
}

function poolOf(object: unknown): IPAddressPool {
  const { key, labels } = metadataOf("IPAddressPool", object);
  const addresses = texts(part((object as Json).spec, "spec").addresses, "spec.addresses");
  const ranges = addresses.map((text, index) => poolRange(text, `spec.addresses[${index}]`));
  return { key, labels, ranges: ranges.filter((range) => range !== undefined) };
}

const KNOWN_FIELDS = ["ipAddressPools", "ipAddressPoolSelectors", "serviceSelectors", "nodeSelectors", "interfaces"];

function advertisementOf(object: unknown): L2Advertisement {
  const { key } = metadataOf("L2Advertisement", object);
  const spec = part((object as Json).spec, "spec");
  return {
    key,
    ipAddressPools: texts(spec.ipAddressPools, "spec.ipAddressPools"),
    ipAddressPoolSelectors: selectorsOf(spec.ipAddressPoolSelectors, "spec.ipAddressPoolSelectors"),
    serviceSelectors: selectorsOf(spec.serviceSelectors, "spec.serviceSelectors"),
    nodeSelectors: selectorsOf(spec.nodeSelectors, "spec.nodeSelectors"),
    interfaces: texts(spec.interfaces, "spec.interfaces"),
    unknown: Object.keys(spec).filter((field) => !KNOWN_FIELDS.includes(field)),
  };
}

/**
 * For each kind, what cuts an object down: undefined where it is of no interest.
 * @throws Error that names the field, and what stands there, where it cannot be used
 */
export const readers: { [K in Kind]: (object: unknown) => Objects[K] | undefined } = {
  Service: serviceOf,
  EndpointSlice: endpointSliceOf,
  Node: nodeOf,
  IPAddressPool: poolOf,
  L2Advertisement: advertisementOf,
};
