/**
 * What a cluster's objects demand: which VIPs there are and which nodes may own them. The rules are MetalLB's (its
 * speaker/layer2_controller.go and internal/config), and each VIP is decided for itself.
 */
import { type Address, formatAddress, type Range } from "../../core/address.ts";
import type { Check, Demand, NodeEntry, VipRange } from "../../core/demand.ts";
import { elect } from "../../core/ownership.ts";
import {
  type ClusterNode,
  type EndpointSlice,
  type IPAddressPool,
  type Key,
  type Kind,
  keyOf,
  type L2Advertisement,
  namespaceOf,
  type ObjectRef,
  type Objects,
  readers,
  refOf,
  type Service,
  trim,
} from "./objects.ts";
import { anySelects, type LabelSelector, type Labels, selects } from "./selector.ts";

/** What the configuration bounds. */
export interface ClusterSettings {
  /** Services of this class; undefined: those without a class. */
  loadBalancerClass: string | undefined;
  /** What may be announced; undefined: what the pools hold. */
  addresses: readonly Range[] | undefined;
  /** Where to announce unless an L2Advertisement says so; undefined: everywhere. */
  interfaces: readonly string[] | undefined;
  /** The Nodes that run isat; undefined: all. */
  nodeSelector: LabelSelector | undefined;
  /** Services that are announced; undefined: all. */
  serviceSelector: LabelSelector | undefined;
  /** The label node.kubernetes.io/exclude-from-external-load-balancers excludes nobody. */
  ignoreExcludeLabel: boolean;
}

/** Something that an object's owner should be told. */
export interface Report {
  ref: ObjectRef;
  /** In the form of the reason of an Event. */
  reason: "Unreadable" | "SharedAddress";
  message: string;
}

/** VIPs that are not announced, by the reason why. */
export interface Skipped {
  /** An IPv6 address. */
  ipv6: number;
  /** `ipMode: Proxy`. */
  proxied: number;
  /** A hostname and no address. */
  hostname: number;
  /** A Node's own address. */
  node: number;
  /** A default gateway's address. */
  gateway: number;
  /** In no pool, or outside of `addresses`. */
  outside: number;
}

const NO_SKIPPED: Skipped = { ipv6: 0, proxied: 0, hostname: 0, node: 0, gateway: 0, outside: 0 };

const EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers";
const NOBODY: readonly string[] = [];

/** A set of nodes for which a VIP is announced, and how. */
interface Cover {
  pool: Key | undefined;
  /** The nodes that the L2Advertisements select, or all. */
  selected: ReadonlySet<string>;
  /** Those of them that may own as far as it lies with the node. */
  nodes: readonly string[];
  interfaces: readonly string[] | undefined;
}

/** A Service's claim to an address. */
interface Claim {
  service: Service;
  address: Address;
  cover: Cover;
  /** The nodes that may own it for this Service's sake. */
  nodes: readonly string[];
}

/** What a Service comes to. */
interface Standing {
  claims: readonly Claim[];
  skipped: Skipped;
}

/** What is the same for all Services: derived from Nodes, pools, advertisements and settings. */
class Ground {
  /** The Nodes that run isat, by name. */
  readonly nodes = new Map<string, ClusterNode>();
  /** Whose own address it is. */
  readonly ownerOf = new Map<Address, string>();
  readonly entries: readonly NodeEntry[];
  readonly #settings: ClusterSettings;
  readonly #self: string;
  readonly #pools: IPAddressPool[];
  /** Of each pool, the advertisements that cover it, each with the nodes it selects; undefined: they are not served. */
  readonly #advertised: Map<Key, { advertisement: L2Advertisement; nodes: string[] }[]> | undefined;
  readonly #covers = new Map<string, Cover>();

  constructor(
    settings: ClusterSettings,
    self: string,
    nodes: Iterable<ClusterNode>,
    pools: Iterable<IPAddressPool>,
    advertisements: Iterable<L2Advertisement> | undefined,
  ) {
    this.#settings = settings;
    this.#self = self;
    for (const node of byKey(nodes)) {
      for (const address of node.addresses) this.ownerOf.set(address, node.key);
      if (!settings.nodeSelector || selects(settings.nodeSelector, node.labels)) this.nodes.set(node.key, node);
    }
    this.entries = [...this.nodes.values()].map(({ key, internal }) => ({ name: key, address: internal }));
    this.#pools = byKey(pools);
    this.#advertised = advertisements && new Map(this.#pools.map(({ key }) => [key, []]));
    for (const advertisement of byKey(advertisements ?? [])) {
      const its = [...this.nodes.values()].filter(({ labels }) => anySelects(advertisement.nodeSelectors, labels));
      const names = its.map(({ key }) => key);
      for (const pool of this.#pools) {
        if (covers(advertisement, pool)) this.#advertised?.get(pool.key)?.push({ advertisement, nodes: names });
      }
    }
  }

  get hasAdvertisements(): boolean {
    return this.#advertised !== undefined;
  }

  /** Why it lies with the node that it may own nothing. */
  checksOf(node: ClusterNode): [label: Check, network: Check] {
    const { ignoreExcludeLabel } = this.#settings;
    const isExcluded = !ignoreExcludeLabel && Object.hasOwn(node.labels, EXCLUDE_LABEL); // whatever its value
    return [
      { what: "label", refusal: isExcluded ? `it has the label ${EXCLUDE_LABEL}` : undefined },
      { what: "network", refusal: node.isNetworkUnavailable ? "its condition NetworkUnavailable is True" : undefined },
    ];
  }

  /** How the address is announced for a Service with these labels; undefined: it is none that may be announced. */
  cover(address: Address, labels: Labels): Cover | undefined {
    const isIn = ({ first, last }: Range) => first <= address && address <= last;
    const { addresses } = this.#settings;
    if (addresses && !addresses.some(isIn)) return undefined;
    if (!this.#advertised) return addresses && this.#coverOf(undefined, undefined);
    const pool = this.#pools.find(({ ranges }) => ranges.some(isIn));
    const advertised = pool && this.#advertised.get(pool.key);
    return (
      advertised &&
      this.#coverOf(
        pool.key,
        advertised.filter(({ advertisement }) => anySelects(advertisement.serviceSelectors, labels)),
      )
    );
  }

  #coverOf(pool: Key | undefined, matching: { advertisement: L2Advertisement; nodes: string[] }[] | undefined): Cover {
    const id = [pool, ...(matching ?? []).map(({ advertisement }) => advertisement.key)].join();
    const known = this.#covers.get(id);
    if (known) return known;
    const selected = new Set(matching ? matching.flatMap(({ nodes }) => nodes) : this.nodes.keys());
    const mayOwn = (node: ClusterNode) =>
      selected.has(node.key) && this.checksOf(node).every(({ refusal }) => refusal === undefined);
    const here = (matching ?? []).filter(({ nodes }) => nodes.includes(this.#self));
    const isNarrowed = here.length > 0 && here.every(({ advertisement }) => advertisement.interfaces.length > 0);
    const cover = {
      pool,
      selected,
      nodes: [...this.nodes.values()].filter(mayOwn).map(({ key }) => key),
      interfaces: isNarrowed
        ? [...new Set(here.flatMap(({ advertisement }) => advertisement.interfaces))].sort()
        : this.#settings.interfaces,
    };
    this.#covers.set(id, cover);
    return cover;
  }
}

/** Whether the advertisement is of this pool: by name, by labels, or as one of all (setL2AdvertisementsToPools). */
function covers({ key, ipAddressPools, ipAddressPoolSelectors }: L2Advertisement, pool: IPAddressPool): boolean {
  const namespace = namespaceOf(pool.key);
  if (namespace !== namespaceOf(key)) return false; // MetalLB reads one namespace, its own
  if (ipAddressPools.length === 0 && ipAddressPoolSelectors.length === 0) return true;
  if (ipAddressPools.includes(pool.key.slice(namespace.length + 1))) return true;
  return ipAddressPoolSelectors.some((selector) => selects(selector, pool.labels));
}

const byKey = <T extends { key: Key }>(objects: Iterable<T>): T[] =>
  [...objects].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));

/** The older first; of the same second, by namespace and name. */
const isOlder = (a: Service, b: Service) => a.created < b.created || (a.created === b.created && a.key < b.key);

/**
 * The text that a Service's nodes hash with: MetalLB's is its first ingress address, also for the second of a dual-stack
 * Service, so that one node has both.
 */
const hashText = ({ service, address }: Claim) => service.ingress[0]?.text ?? formatAddress(address);

/**
 * The objects of a cluster, and what they demand. What depends on one Service alone is kept, and computed anew only for
 * the Services that a change touches: one endpoint that changes among ten thousand Services costs one of them.
 */
export class Cluster {
  #settings: ClusterSettings;
  readonly #self: string;
  readonly #objects: { [K in Kind]: Map<Key, Objects[K]> } = {
    Service: new Map(),
    EndpointSlice: new Map(),
    Node: new Map(),
    IPAddressPool: new Map(),
    L2Advertisement: new Map(),
  };
  readonly #slicesOf = new Map<Key, EndpointSlice[]>();
  #hasAdvertisements = false;
  #gateways: ReadonlySet<Address> = new Set();
  readonly #unreadable = new Map<string, Report>();

  /** undefined: to be derived anew, and with it everything. */
  #ground: Ground | undefined;
  readonly #touched = new Set<Key>();
  readonly #standings = new Map<Key, Standing>();
  readonly #claims = new Map<Address, Claim[]>();
  readonly #ranges = new Map<Address, VipRange>();
  readonly #conflicts = new Map<Address, Report[]>();
  readonly #skipped: Skipped = { ...NO_SKIPPED };
  #demand: Demand | undefined;

  constructor(settings: ClusterSettings, self: string) {
    this.#settings = settings;
    this.#self = self;
  }

  /** Takes an object as the API sends it; false where nothing changes by it. One that cannot be read is as if absent. */
  put(kind: Kind, object: unknown): boolean {
    const ref = refOf(kind, object);
    const key = keyOf(ref);
    try {
      const changed = this.set(kind, key, readers[kind](object));
      return this.#unreadable.delete(`${kind} ${key}`) || changed;
    } catch (error) {
      this.set(kind, key, undefined);
      const message = `${kind} ${key} cannot be used: ${(error as Error).message}`;
      const isNews = this.#unreadable.get(`${kind} ${key}`)?.message !== message;
      if (isNews) this.#unreadable.set(`${kind} ${key}`, { ref, reason: "Unreadable", message });
      return isNews;
    }
  }

  /** The object is gone; false where it was not there. */
  remove(kind: Kind, key: Key): boolean {
    const changed = this.set(kind, key, undefined);
    return this.#unreadable.delete(`${kind} ${key}`) || changed;
  }

  /** Takes an object that is cut down already, or its absence; false where nothing changes by it. */
  set<K extends Kind>(kind: K, key: Key, object: Objects[K] | undefined): boolean {
    const objects: Map<Key, Objects[K]> = this.#objects[kind];
    const before = objects.get(key);
    if (before === object || (before && object && JSON.stringify(before) === JSON.stringify(object))) return false;
    if (object) objects.set(key, object);
    else objects.delete(key);
    if (kind === "Service") this.#touched.add(key);
    else if (kind === "EndpointSlice") this.#moveSlice(before as EndpointSlice, object as EndpointSlice);
    else this.#ground = undefined;
    return true;
  }

  #moveSlice(before: EndpointSlice | undefined, now: EndpointSlice | undefined): void {
    for (const { key, service } of [before, now].filter((slice) => slice !== undefined)) {
      const others = (this.#slicesOf.get(service) ?? []).filter((slice) => slice.key !== key);
      const all = now?.service === service ? [...others, now] : others;
      if (all.length > 0) this.#slicesOf.set(service, all);
      else this.#slicesOf.delete(service);
      this.#touched.add(service);
    }
  }

  /** The objects of a kind, cut down. */
  all<K extends Kind>(kind: K): ReadonlyMap<Key, Objects[K]> {
    return this.#objects[kind];
  }

  /** Every key of a kind that is known of, also of those that cannot be read. */
  keys(kind: Kind): Key[] {
    const unreadable = [...this.#unreadable.values()].filter(({ ref }) => ref.kind === kind);
    return [...this.#objects[kind].keys(), ...unreadable.map(({ ref }) => keyOf(ref))];
  }

  /** Whether the API serves L2Advertisements: where it does, nothing is announced that none of them covers. */
  set hasAdvertisements(isServed: boolean) {
    if (this.#hasAdvertisements !== isServed) this.#ground = undefined;
    this.#hasAdvertisements = isServed;
  }

  get hasAdvertisements(): boolean {
    return this.#hasAdvertisements;
  }

  /** Of a configuration that changed. */
  set settings(settings: ClusterSettings) {
    this.#settings = settings;
    this.#ground = undefined;
  }

  /** The default gateways of this node. */
  set gateways(addresses: ReadonlySet<Address>) {
    this.#gateways = addresses;
    this.#ground = undefined;
  }

  get gateways(): ReadonlySet<Address> {
    return this.#gateways;
  }

  /**
   * What is wanted now: the same as before, to the very object, where nothing changed, and within it the same range for
   * each VIP that did not change.
   */
  demand(): Demand {
    const { entries } = this.#settle();
    this.#demand ??= {
      nodes: entries,
      vips: [...this.#ranges.values()],
      checks: (address, node) => this.#checks(address, node),
    };
    return this.#demand;
  }

  /** What the owners of objects should be told now. */
  reports(): Report[] {
    this.#settle();
    return [...this.#unreadable.values(), ...[...this.#conflicts.values()].flat()];
  }

  get skipped(): Readonly<Skipped> {
    this.#settle();
    return this.#skipped;
  }

  get unreadable(): number {
    return this.#unreadable.size;
  }

  /** What the person who runs isat should know: a line each, the same for as long as it holds. */
  warnings(): string[] {
    const ground = this.#settle();
    const { ipv6, node, gateway } = this.#skipped;
    const lines: string[] = [];
    const own = this.#objects.Node.get(this.#self);
    if (!own) {
      const names = [...this.#objects.Node.keys()].sort();
      const listed =
        names.length > 12 ? `${names.slice(0, 12).join(", ")} and ${names.length - 12} more` : names.join(", ");
      lines.push(
        `This node owns nothing as the cluster has no Node "${this.#self}". It has: ${listed || "none"}. Set NODE_NAME from spec.nodeName, or the key node`,
      );
    } else if (!ground.nodes.has(this.#self)) {
      lines.push(`This node owns nothing as source.nodeSelector does not select its Node "${this.#self}"`);
    }
    if (!ground.hasAdvertisements && !this.#settings.addresses) {
      lines.push(
        "No VIP is announced as the API serves no L2Advertisements (metallb.io/v1beta1) and nothing else says what may be announced. Set source.addresses",
      );
    }
    if (ipv6 > 0) lines.push("IPv6 VIPs are not announced: isat answers ARP only. The metrics count them");
    if (node > 0) lines.push("VIPs that are a Node's own address are not announced: its kernel answers for them");
    if (gateway > 0) lines.push("VIPs that are a default gateway's address are not announced: the gateway answers");
    for (const { key, unknown } of this.#objects.L2Advertisement.values()) {
      if (unknown.length === 0) continue;
      lines.push(
        `L2Advertisement ${key} has ${unknown.join(", ")}, which isat does not know: it decides as if that were not there`,
      );
    }
    return lines;
  }

  /** Brings everything up to date. */
  #settle(): Ground {
    const touched = this.#touched;
    let ground = this.#ground;
    if (!ground) {
      const { Node, IPAddressPool, L2Advertisement } = this.#objects;
      const advertisements = this.#hasAdvertisements ? L2Advertisement.values() : undefined;
      ground = new Ground(this.#settings, this.#self, Node.values(), IPAddressPool.values(), advertisements);
      this.#ground = ground;
      if (JSON.stringify(this.#demand?.nodes) !== JSON.stringify(ground.entries)) this.#demand = undefined;
      for (const key of this.#objects.Service.keys()) touched.add(key);
    }
    if (touched.size === 0) return ground;
    const addresses = new Set<Address>();
    for (const key of touched) this.#restand(key, ground, addresses);
    touched.clear();
    for (const address of addresses) this.#decide(address);
    return ground;
  }

  /** Computes a Service anew, and notes the addresses that it claims or claimed. */
  #restand(key: Key, ground: Ground, addresses: Set<Address>): void {
    const before = this.#standings.get(key);
    for (const claim of before?.claims ?? []) {
      const others = (this.#claims.get(claim.address) ?? []).filter((other) => other !== claim);
      if (others.length > 0) this.#claims.set(claim.address, others);
      else this.#claims.delete(claim.address);
      addresses.add(claim.address);
    }
    const service = this.#objects.Service.get(key);
    const now = service && this.#standingOf(service, ground);
    for (const claim of now?.claims ?? []) {
      this.#claims.set(claim.address, [...(this.#claims.get(claim.address) ?? []), claim]);
      addresses.add(claim.address);
    }
    if (now) this.#standings.set(key, now);
    else this.#standings.delete(key);
    for (const why of Object.keys(NO_SKIPPED) as (keyof Skipped)[]) {
      this.#skipped[why] += (now?.skipped[why] ?? 0) - (before?.skipped[why] ?? 0);
    }
  }

  /** undefined: the Service is not ours. */
  #standingOf(service: Service, ground: Ground): Standing | undefined {
    const { loadBalancerClass, serviceSelector } = this.#settings;
    if (service.loadBalancerClass !== loadBalancerClass) return undefined;
    if (serviceSelector && !selects(serviceSelector, service.labels)) return undefined;
    const serving = this.#serving(service.key);
    const claims: Claim[] = [];
    const skipped = { ...NO_SKIPPED, hostname: service.hostnames };
    for (const { address, isProxied } of service.ingress) {
      if (isProxied) skipped.proxied += 1;
      else if (address === undefined) skipped.ipv6 += 1;
      else if (ground.ownerOf.has(address)) skipped.node += 1;
      else if (this.#gateways.has(address)) skipped.gateway += 1;
      else {
        const cover = ground.cover(address, service.labels);
        if (!cover) skipped.outside += 1;
        else if (!claims.some((claim) => claim.address === address)) {
          claims.push({ service, address, cover, nodes: nodesFor(service, cover, serving) });
        }
      }
    }
    const isSkipped = Object.values(skipped).some((count) => count > 0);
    return { claims: trim(claims), skipped: isSkipped ? skipped : NO_SKIPPED };
  }

  /** The nodes on which an endpoint of the Service can serve; "" stands for an endpoint that names none. */
  #serving(service: Key): readonly string[] {
    const slices = this.#slicesOf.get(service) ?? [];
    return slices.length === 1 ? slices[0]!.serving : slices.flatMap(({ serving }) => serving);
  }

  /** The claim that decides, of all to one address: the oldest that any node can meet, else the oldest. */
  #decider(claims: readonly Claim[]): Claim | undefined {
    let first: Claim | undefined;
    for (const claim of claims) {
      const canBeMet = claim.nodes.length > 0;
      const firstCan = first !== undefined && first.nodes.length > 0;
      if (!first || (canBeMet === firstCan ? isOlder(claim.service, first.service) : canBeMet)) first = claim;
    }
    return first;
  }

  #decide(address: Address): void {
    const claims = this.#claims.get(address) ?? [];
    const decider = this.#decider(claims);
    const before = this.#ranges.get(address);
    this.#conflicts.delete(address);
    if (!decider) {
      this.#ranges.delete(address);
      if (before) this.#demand = undefined;
      return;
    }
    const text = hashText(decider);
    const range: VipRange = {
      first: address,
      last: address,
      nodes: decider.nodes,
      interfaces: decider.cover.interfaces,
      hashAs: text === formatAddress(address) ? undefined : text,
    };
    if (!before || !isSame(before, range)) {
      this.#ranges.set(address, range);
      this.#demand = undefined;
    }
    if (claims.length > 1) this.#tellConflicts(decider, claims);
  }

  /** Tells the Services that cannot be served where the one that decides has the address owned. */
  #tellConflicts(decider: Claim, claims: readonly Claim[]): void {
    const { address } = decider;
    const owner = elect(decider.nodes, hashText(decider)); // as if all were alive: who is, the cluster does not know
    if (owner === undefined) return;
    const reports: Report[] = [];
    for (const claim of claims) {
      // One that no node can serve is not the worse off.
      if (claim === decider || claim.nodes.length === 0 || claim.nodes.includes(owner)) continue;
      const { key, uid } = claim.service;
      const namespace = namespaceOf(key);
      const ref: ObjectRef = { kind: "Service", namespace, name: key.slice(namespace.length + 1), uid };
      const why = this.#checksOf(claim, owner).find(({ refusal }) => refusal !== undefined);
      reports.push({
        ref,
        reason: "SharedAddress",
        message: `${formatAddress(address)} is shared with ${decider.service.key}, which decides: node ${owner} owns it. There ${key} is not served: ${why?.refusal}`,
      });
    }
    if (reports.length > 0) this.#conflicts.set(address, reports);
  }

  #checks(address: Address, node: string): Check[] {
    this.#settle();
    const decider = this.#decider(this.#claims.get(address) ?? []);
    if (decider) return this.#checksOf(decider, node);
    const selected = (refusal: string) => [{ what: "selected", refusal }];
    const claimants = [...this.#objects.Service.values()].filter(({ ingress }) =>
      ingress.some((entry) => entry.address === address),
    );
    if (claimants.length === 0) return [];
    const owner = this.#ground?.ownerOf.get(address);
    if (owner !== undefined) return selected(`it is Node ${owner}'s own address`);
    if (this.#gateways.has(address)) return selected("it is a default gateway's address");
    const ours = claimants.filter(({ key }) => this.#standings.has(key));
    if (ours.length === 0) return selected(`${claimants[0]?.key} is of another class, or not selected`);
    if (ours.every(({ ingress }) => ingress.every((entry) => entry.isProxied || entry.address !== address))) {
      return selected("its ipMode is Proxy");
    }
    return selected(
      this.#ground?.hasAdvertisements ? "it is in no IPAddressPool" : "it is outside of source.addresses",
    );
  }

  #checksOf({ service, cover }: Claim, name: string): Check[] {
    const node = this.#ground?.nodes.get(name);
    if (!node) return [{ what: "selected", refusal: "it is no Node that runs isat" }];
    const serving = this.#serving(service.key);
    const endpoint =
      serving.length === 0
        ? `no endpoint of ${service.key} can serve`
        : service.isLocal && !serving.includes(name)
          ? `no endpoint of ${service.key} on it can serve (externalTrafficPolicy: Local)`
          : undefined;
    const selected = cover.selected.has(name)
      ? undefined
      : `no L2Advertisement selects it for pool ${cover.pool} and ${service.key}`;
    const ground = this.#ground?.checksOf(node) ?? [];
    return [{ what: "selected", refusal: selected }, { what: "endpoint", refusal: endpoint }, ...ground];
  }
}

function nodesFor({ isLocal }: Service, { nodes }: Cover, serving: readonly string[]): readonly string[] {
  if (serving.length === 0) return NOBODY;
  return isLocal ? nodes.filter((node) => serving.includes(node)) : nodes;
}

const isSameList = (a: readonly string[] | undefined, b: readonly string[] | undefined) =>
  a === b || (a !== undefined && b !== undefined && a.length === b.length && a.every((item, at) => item === b[at]));

const isSame = (a: VipRange, b: VipRange) =>
  a.hashAs === b.hashAs && isSameList(a.nodes, b.nodes) && isSameList(a.interfaces, b.interfaces);

/** All objects of a cluster, cut down. */
export type ClusterObjects = { [K in Exclude<Kind, "L2Advertisement">]: Iterable<Objects[K]> } & {
  /** undefined: not served. */
  L2Advertisement: Iterable<L2Advertisement> | undefined;
  gateways: ReadonlySet<Address>;
};

/** What these objects demand on the node `self`: the same as of a {@link Cluster} that came to them by changes. */
export function demandOf(objects: ClusterObjects, settings: ClusterSettings, self: string): Demand {
  const cluster = new Cluster(settings, self);
  for (const kind of Object.keys(readers) as Kind[]) {
    for (const object of objects[kind] ?? []) cluster.set(kind, object.key, object);
  }
  cluster.hasAdvertisements = objects.L2Advertisement !== undefined;
  cluster.gateways = objects.gateways;
  return cluster.demand();
}
