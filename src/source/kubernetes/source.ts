import { isDeepStrictEqual } from "node:util";
import type { Demand } from "../../core/demand.ts";
import { Notices } from "../../core/notices.ts";
import type { Unserved } from "../../core/unserved.ts";
import { replaceFile, replaceFileLater } from "../../files.ts";
import type { Source, SourceReport, SourceSettings, Surroundings } from "../source.ts";
import { Cluster } from "./cluster.ts";
import { Complaints } from "./complaints.ts";
import { Connection } from "./connection.ts";
import { Events } from "./events.ts";
import { Metallb } from "./metallb.ts";
import { isShutDown } from "./nodes.ts";
import { type Key, type Kind, nameOf } from "./objects.ts";
import { answerQuestions } from "./questions.ts";
import { DEFINITIONS, IDENTITY, METALLB_KINDS, type MetallbKind, resourcesOf } from "./resources.ts";
import type { KubernetesSettings } from "./settings.ts";
import { loadSnapshot, saveSnapshot } from "./snapshot.ts";
import { SOURCE_TIMING, type SourceTiming, waitFor } from "./timing.ts";
import { warningsOf } from "./warnings.ts";
import { follow, type Handler, type Resource } from "./watch.ts";

export interface KubernetesOptions extends Surroundings {
  /** The name of this node's Node. */
  node: string;
  /** The folders of the snapshot, for a start while the API is away: the first is written, all are read, in order. */
  folders: readonly [string, ...string[]];
  timing?: Partial<SourceTiming>;
}

/**
 * Watches a cluster's Services, and all that they depend on. A demand that follows another has the same objects in it for
 * what did not change.
 */
export class KubernetesSource implements Source {
  readonly #options: KubernetesOptions;
  /** The settings that take effect with the next start only. */
  readonly #fixed: Pick<KubernetesSettings, "kubeconfig" | "poolNamespace">;
  readonly #resources: Record<Kind, Resource>;
  readonly #timing: SourceTiming;
  readonly #stop = new AbortController();
  /** Aborted when the source becomes stale. */
  #reach = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  readonly #connection: Connection;
  readonly #cluster: Cluster;
  readonly #complaints: Complaints;
  /** As it was said last. */
  #unserved: readonly Unserved[] = [];

  /** The resources that have been listed since the start. */
  readonly #listed = new Set<Resource>();
  /** The resources that are out of reach, and since when. */
  readonly #lost = new Map<Resource, number>();
  /** The reason why a resource cannot be read now. */
  readonly #troubles = new Map<Resource, string>();
  readonly #metallb: Metallb;
  /** Ends the watch of Services; undefined: it has not begun. */
  #services: AbortController | undefined;

  readonly #troubleNotices = new Notices(Number.POSITIVE_INFINITY);
  readonly #failures = new Notices();

  #hasSnapshot = false;
  /** The snapshot is served, because the API cannot be read. */
  #isSnapshotServed = false;
  readonly #first = Promise.withResolvers<Demand>();
  /** The demand that was given last. */
  #demand: Demand | undefined;
  /** When the API last sent something of a list, ms. */
  #progressAt = Number.NEGATIVE_INFINITY;
  /** As it was emitted last; undefined before the first demand. */
  #isStale: boolean | undefined;
  /** Since when the API can be read again, ms. */
  #freshAt: number | undefined;
  #delivery: NodeJS.Timeout | undefined;
  #delivered = Number.NEGATIVE_INFINITY;
  #saving: NodeJS.Timeout | undefined;

  constructor(settings: KubernetesSettings, options: KubernetesOptions) {
    const { node, log } = options;
    this.#options = options;
    this.#fixed = { kubeconfig: settings.kubeconfig, poolNamespace: settings.poolNamespace };
    this.#resources = resourcesOf(settings.poolNamespace);
    this.#timing = { ...SOURCE_TIMING, ...options.timing };
    this.#connection = new Connection(settings.kubeconfig);
    this.#cluster = new Cluster(settings, node);
    this.#metallb = new Metallb({
      cluster: this.#cluster,
      follow: (kind, signal) => this.#followMetallb(kind, signal),
      forget: (kind) => this.#forget(this.#resources[kind]),
      onChange: () => this.#changed(),
      timing: this.#timing,
    });
    const events = new Events({ connection: this.#connection, node, signal: this.#stop.signal, log });
    this.#complaints = new Complaints(log, events, this.#timing.settle);
  }

  async start(): Promise<Demand> {
    void this.#try("What was saved of the cluster is not used", () => {
      this.#hasSnapshot = loadSnapshot(this.#options.folders, this.#cluster);
    });
    this.#timer = setInterval(() => this.#checkStale(), Math.min(500, this.#timing.stale / 4));
    waitFor(
      () => this.#progressAt,
      this.#timing,
      this.#stop.signal,
      () => this.#serveSnapshot(),
    );
    for (const kind of ["EndpointSlice", "Node"] as const) this.#follow(kind, this.#stop.signal);
    this.#followDefinitions();
    this.#followIdentity();
    this.#answerQuestions();
    return this.#first.promise;
  }

  #answerQuestions(): void {
    const { node, log, probe } = this.#options;
    if (probe) answerQuestions({ connection: this.#connection, node, signal: this.#stop.signal, probe, log });
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    this.#metallb[Symbol.dispose]();
    clearInterval(this.#timer);
    clearTimeout(this.#delivery);
    if (this.#saving) this.#save(replaceFile); // at once, as the process ends
    this.#connection.close();
  }

  /** The demand stays as it is: what follows from changed settings is emitted once they are in force. */
  demandFor(): Demand {
    return this.#demand!;
  }

  configure(settings: SourceSettings): void {
    const its = settings as KubernetesSettings;
    for (const key of ["kubeconfig", "poolNamespace"] as const) {
      if (its[key] === this.#fixed[key]) continue;
      this.#options.log("warn", `source.${key} changed in the file: it takes effect when isat is started again`);
    }
    this.#cluster.give({ settings: { ...its, ...this.#fixed } });
    this.#readServices();
    this.#changed();
  }

  get report(): SourceReport {
    const { skipped, unreadable } = this.#cluster;
    const sizeOf = (kind: Kind) => this.#cluster.all(kind).size;
    return {
      counts: { services: sizeOf("Service"), endpointSlices: sizeOf("EndpointSlice"), unreadable, skipped },
      troubles: this.#troubleNotices.current(performance.now()),
    };
  }

  /** Every resource has been read at least once since the start, and the cluster's identity is known. */
  get #isRead(): boolean {
    return this.#cluster.given.identity !== "" && this.#required().every((resource) => this.#listed.has(resource));
  }

  /** The demand is what the API has, as far as can be known. */
  get isFresh(): boolean {
    const since = this.#required().map((resource) => this.#lost.get(resource) ?? Number.POSITIVE_INFINITY);
    const { stale } = this.#timing;
    const now = performance.now();
    // A resource that is listed for the first time, and comes in slowly, is not out of reach.
    if (!this.#isRead && this.#isStale !== true) return now - this.#progressAt < stale;
    return this.#isRead && now - Math.min(...since) < stale;
  }

  /** Later, a kind of object that comes to be served must not hold up all others. */
  #required(): Resource[] {
    const { Service, EndpointSlice, Node } = this.#resources;
    const metallb = this.#metallb.followed.map((kind) => this.#resources[kind]);
    const counting = this.#demand ? metallb.filter((resource) => this.#listed.has(resource)) : metallb;
    return [Service, EndpointSlice, Node, ...Object.values(DEFINITIONS), ...counting];
  }

  #follow(kind: Kind, signal: AbortSignal): void {
    const cluster = this.#cluster;
    this.#watch(this.#resources[kind], signal, {
      put: (object, fault) => {
        if (cluster.put(kind, object, fault)) this.#changed();
        if (kind !== "Node" || nameOf(object) !== cluster.self) return;
        this.#options.emit({ kind: "ending", isEnding: isShutDown(object) });
      },
      remove: (key) => cluster.remove(kind, key) && this.#changed(),
      onListed: (keys) => {
        for (const key of cluster.keys(kind)) if (!keys.has(key)) cluster.remove(kind, key);
        if (kind === "Service") cluster.diet.end();
        if (kind === "Node") cluster.knowsNodes = true;
      },
    });
  }

  #followMetallb(kind: MetallbKind, signal: AbortSignal): void {
    const metallb = this.#metallb;
    this.#watch(this.#resources[kind], AbortSignal.any([this.#stop.signal, signal]), {
      put: (object, fault) => {
        metallb.put(kind, object, fault);
        this.#readServices();
      },
      remove: (key) => metallb.remove(kind, key),
      onListed: (keys) => {
        metallb.listed(kind, keys);
        // Until all are listed, what was announced before goes on.
        const isListed = metallb.followed.every((its) => this.#listed.has(this.#resources[its]));
        if (isListed && metallb.followed.includes("L2Advertisement")) this.#cluster.give({ hasAdvertisements: true });
      },
    });
  }

  /** Watches kube-system until its uid is known: that never changes. A speaker keeps the identity that it began with. */
  #followIdentity(): void {
    const stop = new AbortController();
    this.#watch(IDENTITY, AbortSignal.any([this.#stop.signal, stop.signal]), {
      put: (namespace) => {
        const identity = (namespace as { metadata: { uid: string } }).metadata.uid;
        stop.abort();
        this.#setTrouble(IDENTITY, undefined);
        if (!this.#demand) this.#cluster.give({ identity });
        else if (this.#cluster.given.identity !== identity)
          this.#options.log(
            "warn",
            "The API is another cluster's than what was saved: that takes effect when isat is started again",
          );
        this.#changed();
      },
      remove: () => {},
      onListed: (keys) => {
        if (keys.size > 0) return;
        this.#setTrouble(IDENTITY, "There is no Namespace kube-system, whose uid is the cluster's identity");
      },
    });
  }

  /** Watches MetalLB's definitions, so that MetalLB may be installed and removed later. */
  #followDefinitions(): void {
    for (const kind of METALLB_KINDS) {
      this.#watch(DEFINITIONS[kind], this.#stop.signal, {
        put: (object) => this.#metallb.define(kind, object),
        remove: () => this.#metallb.undefine(kind),
        onListed: (keys) => {
          if (keys.size === 0) this.#metallb.undefine(kind);
        },
      });
    }
  }

  /** Reads the Services, once it is known which of their labels count; and again, where there are more of these. */
  #readServices(): void {
    const needed = [...Object.values(DEFINITIONS), ...this.#metallb.followed.map((kind) => this.#resources[kind])];
    const isDue = this.#services ? this.#cluster.diet.isLacking : needed.every((its) => this.#listed.has(its));
    if (!isDue) return;
    this.#services?.abort();
    this.#services = new AbortController();
    this.#cluster.diet.begin();
    this.#follow("Service", AbortSignal.any([this.#stop.signal, this.#services.signal]));
  }

  #forget(resource: Resource): void {
    this.#listed.delete(resource);
    this.#lost.delete(resource);
    this.#setTrouble(resource, undefined);
  }

  #watch(resource: Resource, signal: AbortSignal, its: Pick<Handler, "put" | "remove" | "onListed">): void {
    const handler: Handler = {
      ...its,
      put: (object, fault) => {
        this.#progressAt = performance.now();
        its.put(object, fault);
      },
      log: this.#options.log,
      onListed: (keys: ReadonlySet<Key>) => {
        this.#progressAt = performance.now();
        this.#listed.add(resource);
        its.onListed(keys);
        this.#readServices();
        this.#changed();
      },
      onConnection: (lostSince) => {
        if (signal.aborted) return;
        if (lostSince === undefined) this.#lost.delete(resource);
        else if (!this.#lost.has(resource)) this.#lost.set(resource, lostSince);
        this.#checkStale();
      },
      onTrouble: (message) => {
        if (signal.aborted) return;
        this.#setTrouble(resource, message);
        if (message) this.#serveSnapshot();
      },
    };
    const reach = () => this.#reach.signal;
    void follow(resource, handler, { connection: this.#connection, signal, reach, timing: this.#timing });
  }

  /** Logs a trouble once for all resources that have it. */
  #setTrouble(resource: Resource, message: string | undefined): void {
    if (this.#troubles.get(resource) === message) return;
    if (message) this.#troubles.set(resource, message);
    else this.#troubles.delete(resource);
    const { log } = this.#options;
    for (const line of this.#troubleNotices.noteAll(this.#troubles.values(), performance.now())) log("warn", line);
    if (this.#troubles.size === 0) log("info", "The API is read again");
  }

  /**
   * A source that is read again is fresh only a moment later. What it missed meanwhile has to come in first: a node that
   * went by its old demand would take back VIPs that have moved on.
   */
  #checkStale(): void {
    const now = performance.now();
    if (this.#complaints.isWaiting || !isDeepStrictEqual(this.#unserved, this.#options.unserved())) this.#say();
    if (this.#cluster.expire(now)) this.#changed();
    if (!this.isFresh) this.#freshAt = undefined;
    else this.#freshAt ??= now;
    if (this.#isStale === undefined || this.#isStale === !this.isFresh) return;
    if (this.#freshAt !== undefined && now - this.#freshAt < this.#timing.stale / 4) return;
    this.#isStale = !this.#isStale;
    if (this.#isStale) {
      // Every watch begins anew. One of them has lost the API; the connections of the others may still be open, but TCP
      // repeats what was lost on them only after up to the time that the API was away, and the source would be fresh by then.
      this.#reach.abort();
      this.#reach = new AbortController();
    }
    this.#options.emit({ kind: "stale", isStale: this.#isStale });
  }

  #serveSnapshot(): void {
    if (this.#isRead || this.#isSnapshotServed || this.#demand || !this.#hasSnapshot) return;
    this.#isSnapshotServed = true;
    this.#options.log("warn", "The API has not been read yet: what was saved of the cluster is served until it is");
    this.#changed();
  }

  /** Collects changes for one demand. */
  #changed(): void {
    if (this.#delivery || this.#stop.signal.aborted) return;
    const wait = this.#delivered + this.#timing.deliver - performance.now();
    this.#delivery = setTimeout(() => this.#deliver(), Math.max(0, wait));
  }

  #deliver(): void {
    this.#delivery = undefined;
    const isRead = this.#isRead;
    // A start waits until all is read. Later, a kind of object that comes to be served must not hold up all others.
    if (!isRead && !this.#isSnapshotServed && !this.#demand) return;
    this.#delivered = performance.now();
    this.#give(this.#cluster.update());
    if (!isRead) return;
    this.#say();
    this.#saving ??= setTimeout(() => this.#save(), this.#timing.save);
  }

  #say(): void {
    const lines = [...warningsOf(this.#cluster, this.#connection.address), ...this.#metallb.warnings];
    this.#unserved = this.#options.unserved();
    const logged = this.#cluster.problemsWith(this.#unserved);
    this.#complaints.take(this.#cluster.problems, lines, logged, performance.now());
  }

  #give(demand: Demand): void {
    if (!this.#demand) {
      this.#isStale = !this.isFresh;
      this.#options.emit({ kind: "stale", isStale: this.#isStale });
      this.#first.resolve(demand);
      this.#demand = demand;
      return;
    }
    if (demand !== this.#demand) {
      this.#demand = demand;
      this.#options.emit({ kind: "demand", demand });
    }
    this.#checkStale();
  }

  #save(replace: (path: string, text: string) => void | Promise<void> = replaceFileLater): void {
    clearTimeout(this.#saving);
    this.#saving = undefined;
    const what = "Cannot save the state of the cluster for a start without the API";
    void this.#try(what, () => saveSnapshot(this.#options.folders[0], this.#cluster, replace));
  }

  /** Runs the body at once. A failure is logged, also one that comes later. */
  async #try(what: string, body: () => void | Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      const message = `${what}: ${(error as Error).message}`;
      if (this.#failures.note(message, performance.now())) this.#options.log("warn", message);
    }
  }
}
