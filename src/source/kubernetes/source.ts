import type { KubernetesSource } from "../../config/config.ts";
import type { Address } from "../../core/address.ts";
import type { Demand } from "../../core/demand.ts";
import { Cluster } from "./cluster.ts";
import { Connection } from "./connection.ts";
import { Events } from "./events.ts";
import type { Key, Kind } from "./objects.ts";
import type { Skipped } from "./services.ts";
import type { ClusterSettings } from "./settings.ts";
import { adopt, save } from "./snapshot.ts";
import { warningsOf } from "./warnings.ts";
import { follow, type Handler, type Resource, TIMING, type Timing } from "./watch.ts";

export type Level = "info" | "warn" | "error";

export interface WatchOptions {
  /** The name of this node's Node. */
  node: string;
  /** Where the last state is saved, for a start while the API is away. */
  runDir: string;
  /** Ends the watch and closes everything it holds. */
  signal: AbortSignal;
  /**
   * Called when what is wanted changed, first when all of it has been read. What did not change in it is the same object
   * as before. `isFresh` false: it is what was saved, as the API cannot be read.
   */
  onDemand(demand: Demand, about: { isFresh: boolean }): void;
  /** Called when the source becomes stale, or fresh again. */
  onFreshness?(isFresh: boolean): void;
  /** One line for the log; the same is not said again as long as it holds. */
  report(level: Level, message: string): void;
  timing?: Partial<SourceTiming>;
  /** ms, monotonic. @default performance.now */
  now?: () => number;
  /** @default Math.random */
  random?: () => number;
}

export interface SourceTiming extends Timing {
  /**
   * For how long, in ms, the API may be away before the source is stale. Peers whose sources are fresh leave this node out
   * some seconds later (LAGGING in core/liveness.ts): both make the ten seconds.
   */
  stale: number;
  /** How long a start waits for the API before it takes what was saved. */
  patience: number;
  /** At least so far apart are two writes of what is saved. */
  save: number;
  /** At least so far apart are two calls of onDemand. */
  deliver: number;
}

const SOURCE_TIMING: SourceTiming = { ...TIMING, stale: 2_000, patience: 3_000, save: 10_000, deliver: 20 };

const METALLB = { group: "metallb.io", version: "v1beta1" };
const RESOURCES: Record<Kind, Resource> = {
  Service: { group: "", version: "v1", plural: "services" },
  EndpointSlice: {
    group: "discovery.k8s.io",
    version: "v1",
    plural: "endpointslices",
    // As kube-proxy asks for them: those of a headless Service serve no VIP.
    query: { labelSelector: "kubernetes.io/service-name,!service.kubernetes.io/headless" },
  },
  Node: { group: "", version: "v1", plural: "nodes" },
  IPAddressPool: { ...METALLB, plural: "ipaddresspools" },
  L2Advertisement: { ...METALLB, plural: "l2advertisements" },
};
/** Watched rather than asked for now and then: at rest nothing is asked of the API. */
const DEFINITION: Resource = {
  group: "apiextensions.k8s.io",
  version: "v1",
  plural: "customresourcedefinitions",
  query: { fieldSelector: "metadata.name=l2advertisements.metallb.io" },
};

/** Watches a cluster; it says by `onDemand` when it has read it. */
export function watchKubernetes(source: KubernetesSource, options: WatchOptions): KubernetesWatch {
  return new KubernetesWatch(source, options);
}

export class KubernetesWatch {
  readonly #options: WatchOptions;
  readonly #timing: SourceTiming;
  readonly #now: () => number;
  readonly #connection: Connection;
  readonly #cluster: Cluster;
  readonly #events: Events;
  /** The resources that have been listed. */
  readonly #listed = new Set<Resource>();
  /** Since when a resource is not heard. */
  readonly #lost = new Map<Resource, number>();
  readonly #troubles = new Map<Resource, string>();
  #warnings = new Set<string>();
  /** Ends the watches of MetalLB's resources; undefined: they are not served. */
  #metallb: AbortController | undefined;
  /** A warning. */
  #unknownVersion: string | undefined;
  /** What was saved is served, as the API cannot be read. */
  #isAdopted = false;
  #hasSaved = false;
  #wasFresh = false;
  #given: Demand | undefined;
  #delivery: NodeJS.Timeout | undefined;
  #delivered = Number.NEGATIVE_INFINITY;
  #saving: NodeJS.Timeout | undefined;

  constructor(source: KubernetesSource, options: WatchOptions) {
    const { node, signal, report, now = () => performance.now() } = options;
    this.#options = options;
    this.#timing = { ...SOURCE_TIMING, ...options.timing };
    this.#now = now;
    this.#connection = new Connection(source.kubeconfig);
    this.#cluster = new Cluster(source, node);
    this.#events = new Events({ connection: this.#connection, node, signal, report, now });
    this.#readSaved();
    const patience = setTimeout(() => this.#adopt(), this.#timing.patience);
    const freshness = setInterval(() => this.#checkFreshness(), Math.min(500, this.#timing.stale / 4));
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(patience);
        clearInterval(freshness);
        clearTimeout(this.#delivery);
        if (this.#saving) this.#save();
        this.#connection.close();
      },
      { once: true },
    );
    for (const kind of ["Service", "EndpointSlice", "Node"] as const) this.#follow(kind, signal);
    this.#followDefinition(signal);
  }

  /** Everything has been read at least once since the start. */
  get isRead(): boolean {
    return this.#required().every((resource) => this.#listed.has(resource));
  }

  /** What is served is what the API has, as far as can be known: false once it has been away for 2 s. */
  isFresh(): boolean {
    const oldest = Math.min(
      ...this.#required().map((resource) => this.#lost.get(resource) ?? Number.POSITIVE_INFINITY),
    );
    return this.isRead && this.#now() - oldest < this.#timing.stale;
  }

  /** The API's URL, once it is known. */
  get server(): string | undefined {
    return this.#connection.server;
  }

  /** For status and metrics. */
  get counts(): { services: number; endpointSlices: number; unreadable: number; skipped: Readonly<Skipped> } {
    const { skipped, unreadable } = this.#cluster;
    const sizeOf = (kind: Kind) => this.#cluster.all(kind).size;
    return { services: sizeOf("Service"), endpointSlices: sizeOf("EndpointSlice"), unreadable, skipped };
  }

  /** What stands in the way now, a line each. */
  get troubles(): string[] {
    return [...new Set(this.#troubles.values())];
  }

  /** The default gateways of this node, which are never announced. One stays one: its route may be away for a moment. */
  addGateways(addresses: ReadonlySet<Address>): void {
    const before = this.#cluster.gateways;
    const all = new Set([...before, ...addresses]);
    if (all.size === before.size) return; // nothing new, each minute
    this.#cluster.gateways = all;
    this.#changed();
  }

  /** Of a configuration that changed; where the API is stays as it was. */
  set settings(settings: ClusterSettings) {
    this.#cluster.settings = settings;
    this.#changed();
  }

  #required(): Resource[] {
    const { Service, EndpointSlice, Node, IPAddressPool, L2Advertisement } = RESOURCES;
    return [Service, EndpointSlice, Node, DEFINITION, ...(this.#metallb ? [IPAddressPool, L2Advertisement] : [])];
  }

  #follow(kind: Kind, signal: AbortSignal): void {
    const cluster = this.#cluster;
    this.#start(RESOURCES[kind], signal, {
      put: (object) => cluster.put(kind, object) && this.#changed(),
      remove: (key) => cluster.remove(kind, key) && this.#changed(),
      onListed: (keys) => {
        for (const key of cluster.keys(kind)) if (!keys.has(key)) cluster.remove(kind, key);
        if (
          this.#metallb &&
          [RESOURCES.IPAddressPool, RESOURCES.L2Advertisement].every((its) => this.#listed.has(its))
        ) {
          cluster.hasAdvertisements = true; // not before: until they are listed, what was served till now stands
        }
      },
    });
  }

  /** Whether MetalLB's resources are served; also one that is installed later is noticed. */
  #followDefinition(signal: AbortSignal): void {
    this.#start(DEFINITION, signal, {
      put: (object) => this.#define(object, signal),
      remove: () => this.#undefine(),
      onListed: (keys) => {
        if (keys.size === 0) this.#undefine();
      },
    });
  }

  #define(object: unknown, signal: AbortSignal): void {
    const { spec, status } = object as {
      spec?: { versions?: { name?: string; served?: boolean }[] };
      status?: { conditions?: { type?: string; status?: string }[] };
    };
    const isEstablished = status?.conditions?.some(({ type, status }) => type === "Established" && status === "True");
    if (!isEstablished) return; // another event will say when it is
    const served = (spec?.versions ?? []).filter(({ served }) => served).map(({ name }) => name);
    if (!served.includes(METALLB.version)) {
      this.#undefine();
      this.#unknownVersion = `The L2Advertisements of metallb.io are ignored: the API serves ${served.join(", ") || "no version"} of them, and isat knows ${METALLB.version}`;
    } else if (!this.#metallb) {
      this.#unknownVersion = undefined;
      this.#metallb = new AbortController();
      const either = AbortSignal.any([signal, this.#metallb.signal]);
      this.#follow("IPAddressPool", either);
      this.#follow("L2Advertisement", either);
    }
  }

  #undefine(): void {
    this.#unknownVersion = undefined;
    this.#metallb?.abort();
    this.#metallb = undefined;
    this.#cluster.hasAdvertisements = false;
    for (const kind of ["IPAddressPool", "L2Advertisement"] as const) {
      this.#forget(RESOURCES[kind]);
      for (const key of this.#cluster.keys(kind)) this.#cluster.remove(kind, key);
    }
    this.#changed();
  }

  #forget(resource: Resource): void {
    this.#listed.delete(resource);
    this.#lost.delete(resource);
    this.#trouble(resource, undefined);
  }

  #start(
    resource: Resource,
    signal: AbortSignal,
    { put, remove, onListed }: Pick<Handler, "put" | "remove" | "onListed">,
  ) {
    const { report, random = Math.random } = this.#options;
    const handler: Handler = {
      put,
      remove,
      report,
      onListed: (keys: ReadonlySet<Key>) => {
        this.#listed.add(resource);
        onListed(keys);
        this.#changed();
      },
      onConnection: (lostSince) => {
        if (signal.aborted) return;
        if (lostSince === undefined) this.#lost.delete(resource);
        else if (!this.#lost.has(resource)) this.#lost.set(resource, lostSince);
        this.#checkFreshness();
      },
      onTrouble: (message) => {
        if (signal.aborted) return;
        this.#trouble(resource, message);
        if (message) this.#adopt();
      },
    };
    void follow(resource, handler, {
      connection: this.#connection,
      signal,
      timing: this.#timing,
      now: this.#now,
      random,
    });
  }

  /** Says what stands in the way, once for all resources that it concerns. */
  #trouble(resource: Resource, message: string | undefined): void {
    const before = this.#troubles.get(resource);
    if (before === message) return;
    if (message === undefined) {
      this.#troubles.delete(resource);
      if (this.#troubles.size === 0) this.#options.report("info", "The API is read again");
      return;
    }
    const isKnown = this.troubles.includes(message);
    this.#troubles.set(resource, message);
    if (!isKnown) this.#options.report("warn", message);
  }

  #warn(lines: readonly string[]): void {
    for (const line of lines) if (!this.#warnings.has(line)) this.#options.report("warn", line);
    this.#warnings = new Set(lines);
  }

  #checkFreshness(): void {
    const isFresh = this.isFresh();
    if (isFresh === this.#wasFresh) return;
    this.#wasFresh = isFresh;
    try {
      this.#options.onFreshness?.(isFresh);
    } catch (error) {
      this.#options.report("error", (error as Error).message);
    }
  }

  #readSaved(): void {
    const { runDir, report } = this.#options;
    try {
      this.#hasSaved = adopt(runDir, this.#cluster);
    } catch (error) {
      report("warn", `What was saved of the cluster is not used: ${(error as Error).message}`);
    }
  }

  /** Serves what was saved, as the API cannot be read. */
  #adopt(): void {
    if (this.isRead || this.#isAdopted || this.#given || !this.#hasSaved) return;
    this.#isAdopted = true;
    this.#options.report("warn", "The API cannot be read: what was saved of the cluster is served until it can");
    this.#changed();
  }

  #changed(): void {
    if (this.#delivery || this.#options.signal.aborted) return;
    const wait = this.#delivered + this.#timing.deliver - this.#now();
    this.#delivery = setTimeout(() => this.#deliver(), Math.max(0, wait));
  }

  #deliver(): void {
    const { onDemand, report } = this.#options;
    this.#delivery = undefined;
    const { isRead } = this;
    // What is not read yet is waited for at the start. Later, as where another kind of object came to be served, it would
    // keep all else from being heard of.
    if (!isRead && !this.#isAdopted && !this.#given) return;
    this.#delivered = this.#now();
    this.#checkFreshness();
    const demand = this.#cluster.update();
    try {
      if (demand !== this.#given) onDemand(demand, { isFresh: this.isFresh() });
      this.#given = demand;
      this.#refusal = undefined;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#refusal) report("error", message);
      this.#refusal = message;
    }
    if (!isRead) return;
    for (const { message } of this.#events.tell(this.#cluster.problems)) report("warn", message);
    this.#warn([...warningsOf(this.#cluster), ...(this.#unknownVersion ? [this.#unknownVersion] : [])]);
    this.#saving ??= setTimeout(() => this.#save(), this.#timing.save);
  }

  /** Why the last demand could not be applied. */
  #refusal: string | undefined;

  #save(): void {
    const { runDir, report } = this.#options;
    clearTimeout(this.#saving);
    this.#saving = undefined;
    try {
      save(runDir, this.#cluster);
    } catch (error) {
      report("warn", `Cannot save the state of the cluster for a start without the API: ${(error as Error).message}`);
    }
  }
}
