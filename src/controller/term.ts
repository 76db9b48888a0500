import type { Config } from "../config/config.ts";
import { type Address, formatAddress, neverVips } from "../core/address.ts";
import type { Refusal } from "../core/ipam.ts";
import { Notices } from "../core/notices.ts";
import { inOrder } from "../core/pools.ts";
import type { Connection } from "../source/kubernetes/connection.ts";
import { Events } from "../source/kubernetes/events.ts";
import { isJson, labelsOf, part } from "../source/kubernetes/fields.ts";
import { type ClusterNode, keyOf, nameOf, readers, refOf } from "../source/kubernetes/objects.ts";
import { DEFINITIONS, RESOURCES, servedVersions, VERSION } from "../source/kubernetes/resources.ts";
import { selects } from "../source/kubernetes/selector.ts";
import { follow, type Handler, type Resource, TIMING } from "../source/kubernetes/watch.ts";
import type { Level } from "../source/source.ts";
import { Asker } from "./asker.ts";
import { Desk } from "./desk.ts";
import { configuredPool, metallbPool } from "./metallb.ts";
import { type Facts, merged, NAMESPACES, nodesOwn, type PoolSpec } from "./pools.ts";
import { remarksOn } from "./remarks.ts";
import { type View, viewOf } from "./services.ts";
import { Wire } from "./wire.ts";
import { Writer } from "./writer.ts";

/** After so many writes the garbage that they have left is collected: V8 would let the heap grow by half first. */
const COLLECT = 1_000;
/** The time between two looks for problems to tell, ms. */
const TELL = 1_000;

export type Subnets = Iterable<{ address: Address; prefix: number }>;

/** A configuration whose Services are a cluster's. */
export type ClusterConfig = Config & { source: { kind: "kubernetes" } };

export interface TermOptions {
  config: ClusterConfig;
  connection: Connection;
  signal: AbortSignal;
  /** The name of this leadership. */
  term: string;
  isFirst: boolean;
  mayWrite(): boolean;
  /** The namespace of this process. */
  namespace: string;
  /** The networks that this machine is on, and its default gateways. */
  surroundings(): { gateways: Iterable<Address>; subnets: Subnets };
  /** The name of this process. */
  holder: string;
  log(level: Level, message: string): void;
}

/**
 * The time in which this process leads. It reads everything from the API when it begins, so that it sees whatever was
 * written before.
 */
export class Term {
  readonly #options: TermOptions;
  readonly #desk: Desk;
  readonly #writer: Writer;
  readonly #wire: Wire;
  readonly #asker: Asker;
  readonly #unasked = new Notices(600_000);
  readonly #events: Events;
  readonly #notices = new Notices(Number.POSITIVE_INFINITY);
  readonly #met = new Notices(Number.POSITIVE_INFINITY);
  readonly #remarks = new Notices(Number.POSITIVE_INFINITY);
  /** The resources that must be read before any address is given. */
  readonly #missing = new Set(["services", "namespaces", "nodes", "definition"]);
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #metallb = new Map<string, PoolSpec>();
  readonly #namespaces = new Set<string>();
  #all: readonly PoolSpec[] = [];
  #never: ReadonlyMap<Address, Refusal> = new Map();
  #pools: AbortController | undefined;
  #config: TermOptions["config"];
  #timer: NodeJS.Timeout;
  /** The number of writes at which garbage is collected: at once after everything was read. */
  #collectAt = 0;

  constructor(options: TermOptions) {
    const { config, connection, signal, holder, log } = options;
    this.#options = options;
    this.#config = config;
    this.#wire = new Wire(options.term);
    this.#desk = new Desk(config.allocation, this.#wire);
    this.#asker = new Asker({
      ...options,
      onReply: (node, reply) => {
        this.#desk.answered(node, reply, now());
        this.#writer.wake();
      },
      onFailure: () => {
        this.#desk.giveUpAsking(now());
        this.#writer.wake();
      },
    });
    this.#writer = new Writer(this.#desk, {
      ...options,
      mayWrite: () => !signal.aborted && options.mayWrite(),
      ask: () => this.#ask(),
    });
    this.#events = new Events({ connection, node: holder, signal, log });
    this.#setPools();
    this.#follow();
    this.#timer = setInterval(() => this.#tell(), TELL).unref();
    signal.addEventListener("abort", () => clearInterval(this.#timer), { once: true });
  }

  /** The number of writes that took effect. */
  get written(): number {
    return this.#writer.written;
  }

  /** Resolves when no write is under way. */
  idle(): Promise<void> {
    return this.#writer.idle();
  }

  /** Takes a changed configuration. @returns false if only a new leadership can */
  configure(config: TermOptions["config"]): boolean {
    const fixed = ({ source, allocation }: Config) => JSON.stringify([source, allocation], big);
    if (fixed(config) !== fixed(this.#config)) return false;
    this.#config = config;
    this.#setPools();
    return true;
  }

  #ask(): void {
    const { question, unasked } = this.#desk.question(now());
    if (question) this.#asker.ask(question);
    if (unasked === 0) return;
    const text = "No speaker tells whether addresses are taken on the wire: they are given unasked";
    if (this.#unasked.note(text, now())) this.#options.log("warn", text);
    this.#writer.wake();
  }

  #setPools(): void {
    this.#all = merged(this.#config.pools.map(configuredPool), this.#metallb.values());
    this.#desk.setPools(this.#all, now());
    this.#writer.wake();
  }

  #follow(): void {
    this.#watch(RESOURCES.Service, "services", this.#options.signal, {
      put: (object) => this.#desk.put(viewOf(object, this.#config.source), now()),
      remove: (key) => this.#desk.remove(key, now()),
      keys: () => this.#desk.keys,
    });
    this.#watch(NAMESPACES, "namespaces", this.#options.signal, {
      put: (object) => {
        const { labels } = part(isJson(object) ? object.metadata : undefined, "metadata");
        this.#namespaces.add(nameOf(object));
        this.#desk.setNamespace(nameOf(object), labelsOf(labels, "metadata.labels"), now());
      },
      remove: (key) => {
        this.#namespaces.delete(key);
        this.#desk.setNamespace(key, undefined, now());
      },
      keys: () => this.#namespaces,
    });
    this.#watch(RESOURCES.Node, "nodes", this.#options.signal, {
      put: (object) => {
        const node = readers.Node(object)!;
        this.#nodes.set(node.key, node);
        this.#setNever();
      },
      remove: (key) => {
        this.#nodes.delete(key);
        this.#setNever();
      },
      keys: () => this.#nodes.keys(),
    });
    this.#watch(DEFINITIONS.IPAddressPool, "definition", this.#options.signal, {
      put: (object) => this.#define(servedVersions(object)),
      remove: () => this.#define([]),
      keys: () => [],
    });
  }

  /** Reads MetalLB's IPAddressPools while they are served. */
  #define(served: readonly string[] | undefined): void {
    if (served === undefined) return; // another event follows
    if (served.includes(VERSION) === (this.#pools !== undefined)) return;
    this.#pools?.abort();
    this.#pools = undefined;
    this.#missing.delete("pools");
    if (!served.includes(VERSION)) return;
    this.#pools = new AbortController();
    this.#missing.add("pools");
    const resource = { ...RESOURCES.IPAddressPool, namespace: this.#config.source.poolNamespace };
    this.#watch(resource, "pools", AbortSignal.any([this.#options.signal, this.#pools.signal]), {
      put: (object) => {
        this.#metallb.set(keyOf(refOf("IPAddressPool", object)), metallbPool(object));
        this.#setPools();
      },
      remove: (key) => {
        this.#metallb.delete(key);
        this.#setPools();
      },
      keys: () => this.#metallb.keys(),
    });
  }

  #watch(
    resource: Resource,
    what: string,
    signal: AbortSignal,
    its: Pick<Handler, "remove"> & { put(object: unknown): void; keys(): Iterable<string> },
  ): void {
    const { connection, log } = this.#options;
    const handler: Handler = {
      put: (object, fault) => {
        try {
          if (fault) throw new Error(fault);
          its.put(object);
        } catch (error) {
          // Its last words still count.
          const text = `Cannot use ${resource.plural} ${nameOf(object)}: ${(error as Error).message}`;
          if (this.#notices.note(text, now())) log("warn", text);
        }
        this.#writer.wake();
      },
      remove: (key) => {
        its.remove(key);
        this.#writer.wake();
      },
      onListed: (keys) => {
        for (const key of [...its.keys()]) if (!keys.has(key)) its.remove(key);
        this.#listed(what);
      },
      onConnection: () => {},
      onTrouble: (message) => {
        if (message && this.#notices.note(message, now())) log("warn", message);
      },
      log,
    };
    const never = new AbortController().signal;
    void follow(resource, handler, { connection, signal, reach: () => never, timing: TIMING });
  }

  #listed(what: string): void {
    if (!this.#missing.delete(what) || this.#missing.size > 0 || this.#desk.isOpen) return;
    const { term, isFirst, log } = this.#options;
    this.#setNever();
    this.#desk.open(term, isFirst, now());
    log("info", "everything is read: addresses are given from now on");
    this.#writer.wake();
  }

  /** The addresses that no Service may be given. */
  #setNever(): void {
    if (this.#missing.size > 0 && !this.#desk.isOpen) return; // pools that cannot be read hold up nothing later
    const never = new Map<Address, Refusal>();
    const { gateways, subnets } = this.#options.surroundings();
    for (const [address, reason] of neverVips(gateways, subnets))
      never.set(address, { reason: "NoPool", message: `${formatAddress(address)} is no Service's: ${reason}` });
    for (const [address, refusal] of nodesOwn(this.#nodes.values())) never.set(address, refusal);
    this.#never = never;
    this.#wire.nodes = [...this.#nodes.values()].filter((node) => this.#mayOwn(node)).map(({ key }) => key);
    this.#desk.setNever(never);
    this.#writer.wake();
  }

  /** It may have a speaker that hears. */
  #mayOwn({ labels, isBooting }: ClusterNode): boolean {
    const { nodeSelector } = this.#config.source;
    return !isBooting && (!nodeSelector || selects(nodeSelector, labels));
  }

  /** Everything that is known of pools and Services; undefined until all of it has been read. */
  get facts(): Facts | undefined {
    if (!this.#desk.isOpen) return undefined;
    return { views: [...this.#desk.views], pools: inOrder(this.#all) as PoolSpec[], never: this.#never };
  }

  /** Writes an Event for each Service that lacks something, and for each pool at fault, once. */
  #tell(): void {
    if (!this.#desk.isOpen) return;
    if (this.written >= this.#collectAt) {
      this.#collectAt = this.written + COLLECT;
      globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
    }
    const problems = [...this.#desk.problems()].map(({ view, verdict: { reason, message, kept } }) => {
      const ref = serviceRef(view);
      return reason === "Assigned" ? { ref, reason: "Kept", message: kept! } : { ref, reason, message };
    });
    const remarks = remarksOn(this.#all, this.#never);
    const texts = remarks.map(({ message }) => message);
    for (const text of this.#remarks.noteAll(texts, now())) this.#options.log("warn", text);
    const onObjects = remarks.flatMap(({ pool: { ref }, reason, message }) => (ref ? [{ ref, reason, message }] : []));
    const met = [...this.#desk.met];
    const taken = met.map(({ refusal: { message } }) => message);
    for (const text of this.#met.noteAll(taken, now())) this.#options.log("warn", `${text}: no Service is given it`);
    const events = met.flatMap(({ refusal, keys }) => keys.map((key) => ({ key, ...refusal })));
    const onServices = events.flatMap(({ key, ...refusal }) => {
      const view = this.#desk.view(key);
      return view ? [{ ref: serviceRef(view), ...refusal }] : [];
    });
    this.#events.take([...problems, ...onObjects, ...onServices]);
  }
}

const serviceRef = ({ key, uid, namespace }: View) => ({
  kind: "Service" as const,
  ...{ namespace, name: key.slice(namespace.length + 1), uid },
});

const now = () => performance.now();
const big = (_: string, value: unknown) => (typeof value === "bigint" ? `${value}` : value);
