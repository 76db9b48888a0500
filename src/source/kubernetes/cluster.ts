import { isDeepStrictEqual } from "node:util";
import { type Address, compare, familyOf, formatAddress } from "../../core/address.ts";
import type { Check, Demand, VipRange } from "../../core/demand.ts";
import type { Unserved } from "../../core/unserved.ts";
import { Diet } from "./diet.ts";
import { History, type Past } from "./history.ts";
import { nodesOf, sinceBoot } from "./nodes.ts";
import {
  type ClusterNode,
  type EndpointSlice,
  formOf,
  type Key,
  type Kind,
  keyOf,
  type L2Advertisement,
  type ObjectRef,
  type Objects,
  readers,
  refOf,
} from "./objects.ts";
import { Pools } from "./pools.ts";
import { problemsOf, type Remark, remarksOn, remarksOnService } from "./remarks.ts";
import { KINDS } from "./resources.ts";
import {
  type Common,
  checksOf,
  decidingOf,
  type Evaluation,
  evaluate,
  hashText,
  inTurn,
  isOurs,
  NO_SKIPPED,
  nodesWithEndpoint,
  notAnnounced,
  type Problem,
  type ServiceAddress,
  type Skipped,
  sharingProblems,
} from "./services.ts";
import type { ClusterSettings } from "./settings.ts";

/** A Node that has booted is waited for until it is Ready, but not for longer, ms. */
const BOOT = 300_000;

/** The facts that all Services depend on, beside the objects. */
interface Given {
  /** The uid of the cluster's Namespace kube-system; empty: not known yet. */
  identity: string;
  settings: ClusterSettings;
  /** The API serves L2Advertisements: then nothing is announced that none of them covers. */
  hasAdvertisements: boolean;
}

/**
 * The objects of a cluster, and the demand that follows from them. Changes are collected, and {@link update} works them
 * in. What follows from one Service is kept, so that a change of one endpoint among ten thousand Services costs one of them.
 */
export class Cluster {
  readonly self: string;
  readonly diet = new Diet();
  #given: Given;
  readonly #objects = Object.fromEntries(KINDS.map((kind) => [kind, new Map()])) as {
    [K in Kind]: Map<Key, Objects[K]>;
  };
  readonly #slicesOf = new Map<Key, EndpointSlice[]>();
  /** The objects with faults, each with its last good form. */
  readonly #unreadable = new Map<string, Problem & { good: Objects[Kind] | undefined }>();

  /** All Nodes have been listed: one that is not known is new. */
  knowsNodes = false;
  /** The Nodes that have not been Ready since they booted, and since when that is known, ms. */
  readonly #booting = new Map<Key, number | undefined>();

  /** Something that all Services depend on has changed since the last update. */
  #isCommonChanged = true;
  /** The Services that have changed since the last update, or their endpoints. */
  readonly #changed = new Set<Key>();

  // All that follows is as of the last update.
  #common: Common;
  readonly #evaluations = new Map<Key, Evaluation>();
  readonly #history = new History();
  /** The Services of each address, in the order in which they came to it. */
  readonly #sharing = new Map<Address, readonly ServiceAddress[]>();
  readonly #ranges = new Map<Address, VipRange>();
  readonly #sharingProblems = new Map<Address, readonly Problem[]>();
  readonly #remarksOnServices = new Map<Key, readonly Remark[]>();
  readonly #remarks = new Map<Address, readonly Remark[]>();
  readonly #skipped = { ...NO_SKIPPED };
  #demand: Demand | undefined;

  constructor(settings: ClusterSettings, self: string) {
    this.#given = { identity: "", settings, hasAdvertisements: false };
    this.self = self;
    if (settings.serviceSelector) this.diet.want([settings.serviceSelector]);
    this.#common = this.#deriveCommon();
  }

  /**
   * Takes an object as the API sends it. One that has become unreadable keeps its last good form.
   * @param fault why there is no more of it than its metadata
   * @returns false if nothing changes
   */
  put(kind: Kind, object: unknown, fault?: string): boolean {
    const faults: string[] = fault === undefined ? [] : [fault];
    let read: Objects[Kind] | undefined;
    try {
      if (fault === undefined) read = readers[kind](object, (fault) => faults.push(fault), this.diet.names);
    } catch (error) {
      faults.unshift((error as Error).message);
    }
    const ref = refOf(kind, object);
    if (faults[0] !== undefined) return this.#putFaulty(ref, read, faults[0]);
    const isChanged = this.#take(ref, read);
    return this.#unreadable.delete(idOf(ref)) || isChanged;
  }

  #take(ref: ObjectRef, read: Objects[Kind] | undefined): boolean {
    const before = this.#objects.Node.get(keyOf(ref));
    const isNode = ref.kind === "Node" && read;
    const object = isNode ? sinceBoot(read as ClusterNode, before, this.knowsNodes) : read;
    const selectors = ref.kind === "L2Advertisement" && object ? (object as L2Advertisement).serviceSelectors : [];
    return this.diet.apply(idOf(ref), selectors, () => this.set(ref.kind, keyOf(ref), object));
  }

  #putFaulty(ref: ObjectRef, read: Objects[Kind] | undefined, fault: string): boolean {
    const { kind, uid } = ref;
    const known = this.#unreadable.get(idOf(ref));
    let good = known ? known.good : this.#objects[kind].get(keyOf(ref));
    if (good && "uid" in good && good.uid !== uid) good = undefined; // it was another object of the same name
    const form = formOf(kind, read, good);
    const isChanged = this.#take(ref, form);
    const counts = good ? "What it said before still counts" : form ? "The rest of it counts" : "It counts as absent";
    const message = `${idOf(ref)} cannot be used: ${fault}. ${counts}`;
    const isNews = known?.message !== message;
    this.#unreadable.set(idOf(ref), { ref, reason: "Unreadable", message, good });
    return isNews || isChanged;
  }

  /** The object is gone. @returns false if it was not there */
  remove(kind: Kind, key: Key): boolean {
    const id = `${kind} ${key}`;
    const isChanged = this.diet.apply(id, [], () => this.set(kind, key, undefined));
    return this.#unreadable.delete(id) || isChanged;
  }

  /** Takes an object that is cut down already, or undefined where it is gone. @returns false if nothing changes */
  set<K extends Kind>(kind: K, key: Key, object: Objects[K] | undefined): boolean {
    const objects: Map<Key, Objects[K]> = this.#objects[kind];
    const before = objects.get(key);
    if (before === object || (before && object && isDeepStrictEqual(before, object))) return false;
    if (object) objects.set(key, object);
    else objects.delete(key);
    if (kind === "Service") this.#changed.add(key);
    else if (kind === "EndpointSlice") this.#moveSlice(before as EndpointSlice, object as EndpointSlice);
    else this.#isCommonChanged = true;
    if (kind === "Node") this.#watchBoot(key, object as ClusterNode | undefined);
    if (kind === "L2Advertisement" && object) this.diet.want((object as L2Advertisement).serviceSelectors);
    return true;
  }

  #watchBoot(key: Key, node: ClusterNode | undefined): void {
    if (!node?.isBooting) this.#booting.delete(key);
    else if (!this.#booting.has(key)) this.#booting.set(key, undefined);
  }

  /**
   * Ends the wait for Nodes that do not become Ready after a boot. @param now ms, monotonic @returns true if one has
   * ended
   */
  expire(now: number): boolean {
    let isAny = false;
    for (const [key, since = now] of this.#booting) {
      this.#booting.set(key, since);
      if (now - since < BOOT) continue;
      this.set("Node", key, { ...this.#objects.Node.get(key)!, isBooting: false });
      isAny = true;
    }
    return isAny;
  }

  #moveSlice(before: EndpointSlice | undefined, now: EndpointSlice | undefined): void {
    for (const { key, service } of [before, now].filter((slice) => slice !== undefined)) {
      const others = (this.#slicesOf.get(service) ?? []).filter((slice) => slice.key !== key);
      const all = now?.service === service ? [...others, now] : others;
      if (all.length > 0) this.#slicesOf.set(service, all);
      else this.#slicesOf.delete(service);
      this.#changed.add(service);
    }
  }

  all<K extends Kind>(kind: K): ReadonlyMap<Key, Objects[K]> {
    return this.#objects[kind];
  }

  /** The keys of all objects of a kind, those that cannot be read included. */
  keys(kind: Kind): Key[] {
    const unreadable = [...this.#unreadable.values()].filter(({ ref }) => ref.kind === kind);
    return [...this.#objects[kind].keys(), ...unreadable.map(({ ref }) => keyOf(ref))];
  }

  get given(): Given {
    return this.#given;
  }

  /** Takes what has changed of it. */
  give(changed: Partial<Given>): void {
    const selector = changed.settings?.serviceSelector;
    this.diet.apply(Object.keys(changed).join(), selector ? [selector] : [], () => {
      this.#given = { ...this.#given, ...changed };
      this.#isCommonChanged = true;
      return true;
    });
  }

  /**
   * Works in what has changed. @returns the demand: the same object as before if nothing changed, and within it the same
   * range for each VIP that did not change
   */
  update(): Demand {
    if (this.#isCommonChanged) {
      this.#isCommonChanged = false;
      this.#common = this.#deriveCommon();
      const { entries } = this.#common.nodes;
      const isSame = this.#demand?.cluster === this.#given.identity && isDeepStrictEqual(this.#demand.nodes, entries);
      if (!isSame) this.#demand = undefined;
      for (const key of this.#objects.Service.keys()) this.#changed.add(key);
    }
    const addresses = new Set<Address>();
    for (const key of this.#changed) this.#evaluate(key, addresses);
    this.#changed.clear();
    for (const address of addresses) this.#decide(address);
    this.#demand ??= {
      cluster: this.#given.identity,
      nodes: this.#common.nodes.entries,
      vips: [...this.#ranges.values()],
      inTurn: (vips) => this.#inTurn(vips),
      checks: (address, node) => this.#checks(address, node),
    };
    return this.#demand;
  }

  /** The knowledge that is needed beside the objects, to decide as this cluster does. */
  get past(): Past {
    return this.#history.past;
  }

  /** Takes what an earlier speaker knew, before the first update. */
  recall(past: Past): void {
    this.#history.recall(past);
  }

  /** The problems of objects, as of the last update. */
  get problems(): Problem[] {
    const remarks = [...this.#remarksOnServices.values(), ...this.#remarks.values()].flat();
    return [...this.#unreadable.values(), ...[...this.#sharingProblems.values()].flat(), ...problemsOf(remarks)];
  }

  /** The problems that the speaker has with VIPs of the demand. */
  problemsWith(unserved: readonly Unserved[]): Problem[] {
    const remarks = unserved.flatMap(({ address, says }): Remark[] => {
      const service = decidingOf(this.#sharing.get(address) ?? [])?.service;
      return service ? [{ service, address, reason: "NotAnnounced", says }] : [];
    });
    return problemsOf(remarks);
  }

  get skipped(): Skipped {
    return this.#skipped;
  }

  get unreadable(): number {
    return this.#unreadable.size;
  }

  get overlaps(): Pools["overlaps"] {
    return this.#common.pools.overlaps;
  }

  isRunning(node: string): boolean {
    return this.#common.nodes.running.has(node);
  }

  #deriveCommon(): Common {
    const { Service, Node, IPAddressPool, L2Advertisement } = this.#objects;
    const { settings, hasAdvertisements } = this.#given;
    const nodes = nodesOf(
      [...Node.values()],
      settings.nodeSelector,
      this.#history.isOfService([...Node.values()], Service),
    );
    const advertisements = hasAdvertisements ? L2Advertisement.values() : undefined;
    const pools = new Pools(settings, this.self, nodes, IPAddressPool.values(), advertisements);
    return { settings, nodes, pools };
  }

  /** The nodes with an endpoint that can serve the Service's address. */
  #endpoints(service: Key, address: Address): readonly string[] {
    const its = (this.#slicesOf.get(service) ?? []).filter(({ family }) => family === familyOf(address));
    return nodesWithEndpoint(its);
  }

  /** Evaluates a Service anew, and adds the addresses that it has or had. */
  #evaluate(key: Key, addresses: Set<Address>): void {
    const before = this.#evaluations.get(key);
    const service = this.#objects.Service.get(key);
    const isMeant = service !== undefined && isOurs(service, this.#given.settings);
    const now = isMeant ? evaluate(service, (address) => this.#endpoints(key, address), this.#common) : undefined;
    for (const { address } of before?.addresses ?? []) {
      addresses.add(address);
      if (!now?.addresses.some((one) => one.address === address)) this.#share(address, key, undefined);
    }
    for (const one of now?.addresses ?? []) {
      addresses.add(one.address);
      this.#share(one.address, key, one);
    }
    keep(this.#remarksOnServices, key, service ? remarksOnService(service, this.#common) : []);
    if (now) this.#evaluations.set(key, now);
    else this.#evaluations.delete(key);
    for (const why of Object.keys(NO_SKIPPED) as (keyof Skipped)[]) {
      this.#skipped[why] += (now?.skipped[why] ?? 0) - (before?.skipped[why] ?? 0);
    }
  }

  /** @param one undefined: the Service no longer has the address */
  #share(address: Address, key: Key, one: ServiceAddress | undefined): void {
    const others = (this.#sharing.get(address) ?? []).filter(({ service }) => service.key !== key);
    if (one) this.#sharing.set(address, [...others, one].sort(inTurn));
    else if (others.length > 0) this.#sharing.set(address, others);
    else this.#sharing.delete(address);
  }

  /** Decides anew who may own an address. */
  #decide(address: Address): void {
    const sharing = this.#sharing.get(address) ?? [];
    const deciding = decidingOf(sharing);
    const before = this.#ranges.get(address);
    const its = deciding && remarksOn(deciding, this.#endpoints(deciding.service.key, address), this.#common);
    keep(this.#remarks, address, its ?? []);
    this.#sharingProblems.delete(address);
    if (!deciding) {
      this.#ranges.delete(address);
      if (before) this.#demand = undefined;
      return;
    }
    const range = rangeOf(deciding);
    if (!isDeepStrictEqual(before, range)) {
      this.#ranges.set(address, range);
      this.#demand = undefined;
    }
    if (sharing.length === 1) return;
    const refusalOf = (one: ServiceAddress, node: string) =>
      this.#checksOf(one, node).find(({ refusal }) => refusal !== undefined)?.refusal;
    keep(this.#sharingProblems, address, sharingProblems(deciding, sharing, refusalOf));
  }

  /** The oldest Services first: the API server says when they were made, so that all nodes have one order. */
  #inTurn(vips: readonly VipRange[]): VipRange[] {
    const aged = vips.map((range) => {
      const service = decidingOf(this.#sharing.get(range.first) ?? [])?.service;
      return { range, created: service?.created ?? Number.POSITIVE_INFINITY, key: service?.key ?? "" };
    });
    const byAge = (a: (typeof aged)[number], b: (typeof aged)[number]) =>
      a.created - b.created || (a.key < b.key ? -1 : a.key > b.key ? 1 : compare(a.range.first, b.range.first));
    return aged.sort(byAge).map(({ range }) => range);
  }

  #checks(address: Address, node: string): Check[] {
    const deciding = decidingOf(this.#sharing.get(address) ?? []);
    if (deciding) return this.#checksOf(deciding, node);
    const its = [...this.#objects.Service.values()].filter(({ ingress }) =>
      ingress.some((entry) => entry.address === address),
    );
    return its.length === 0 ? [] : [{ what: "selected", refusal: notAnnounced(address, its, this.#common) }];
  }

  #checksOf(one: ServiceAddress, node: string): Check[] {
    return checksOf(one, this.#endpoints(one.service.key, one.address), node, this.#common);
  }
}

/** Keeps a list, or nothing where it is empty. */
function keep<K, T>(map: Map<K, readonly T[]>, key: K, list: readonly T[]): void {
  if (list.length > 0) map.set(key, list);
  else map.delete(key);
}

const idOf = (ref: ObjectRef) => `${ref.kind} ${keyOf(ref)}`;

function rangeOf(deciding: ServiceAddress): VipRange {
  const { address, candidates, advertising } = deciding;
  const text = hashText(deciding);
  const hashAs = text === formatAddress(address) ? undefined : text;
  const { interfaces, scores } = advertising;
  return { first: address, last: address, nodes: candidates, interfaces, hashAs, ...(scores && { scores }) };
}
