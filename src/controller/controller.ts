import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { hostname } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { type Config, ConfigError } from "../config/config.ts";
import { listen } from "../config/values.ts";
import { watchConfig } from "../config/watch.ts";
import { Notices } from "../core/notices.ts";
import { Links } from "../link/links.ts";
import { makeLog } from "../log.ts";
import { Connection } from "../source/kubernetes/connection.ts";
import type { Level } from "../source/source.ts";
import { counted } from "./inventory.ts";
import { LEASE_TIMING, Lease, type LeaseTiming } from "./lease.ts";
import type { Facts } from "./pools.ts";
import { type ClusterConfig, Term, type TermOptions } from "./term.ts";

export interface ControllerOptions {
  config: string;
  /** The namespace of the Lease. */
  namespace: string;
  /** Where the metrics are served. */
  metrics?: string;
}

/** `isat controller`: gives Services their addresses until a signal, whenever it leads. */
export async function controller({ config: path, namespace, metrics }: ControllerOptions): Promise<void> {
  const log = await makeLog();
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());
  for (const event of ["uncaughtException", "unhandledRejection"] as const)
    process.on(event, (error: unknown) => log.error(`isat did not expect this error, and goes on: ${String(error)}`));
  using office = new Office(path, namespace, stop.signal, (level, message) => log[level](message));
  if (metrics !== undefined) await serveOffice(office, v.parse(listen, metrics));
  await office.run();
  log.info("stopped: whatever has an address keeps it");
}

async function serveOffice(office: Office, where: { host: string; port: number }): Promise<void> {
  const { serveControllerMetrics } = await import("./metrics.ts"); // here, to save its memory otherwise
  await serveControllerMetrics(() => office.facts && counted(office.facts, Date.now()), where);
}

class Office implements Disposable {
  readonly #signal: AbortSignal;
  readonly #namespace: string;
  readonly #log: (level: Level, message: string) => void;
  readonly #holder = `${hostname()}_${randomUUID().slice(0, 8)}`;
  readonly #connection: Connection;
  readonly #lease: Lease;
  readonly #timing: LeaseTiming = LEASE_TIMING;
  readonly #notices = new Notices(Number.POSITIVE_INFINITY);
  #config: ClusterConfig;
  #term: { term: Term; end: AbortController } | undefined;

  constructor(path: string, namespace: string, signal: AbortSignal, log: (level: Level, message: string) => void) {
    this.#signal = signal;
    this.#namespace = namespace;
    this.#log = log;
    this.#config = ofCluster(
      watchConfig(path, {
        signal,
        onTrouble: (message) => log("warn", message),
        onChange: (result) => this.#change(result),
      }),
    );
    this.#connection = new Connection(this.#config.source.kubeconfig);
    this.#lease = new Lease({
      connection: this.#connection,
      namespace,
      holder: this.#holder,
      timing: this.#timing,
    });
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }

  /** undefined: this process does not lead, or has not read everything yet. */
  get facts(): Facts | undefined {
    return this.#term?.term.facts;
  }

  async run(): Promise<void> {
    const timer = setInterval(() => this.#check(), 100); // a leader that cannot renew stops in time
    while (!this.#signal.aborted) {
      await this.#attempt();
      this.#check();
      await sleep(this.#timing.retry, undefined, { signal: this.#signal }).catch(() => undefined);
    }
    clearInterval(timer);
    await this.#resign();
  }

  async #attempt(): Promise<void> {
    const patience = AbortSignal.any([this.#signal, AbortSignal.timeout(this.#timing.deadline / 2)]);
    try {
      const isHeld = await this.#lease.attempt(patience);
      this.#notices.noteAll([], 0);
      if (isHeld && !this.#term) this.#begin(this.#lease.isFirst);
    } catch (error) {
      if (this.#signal.aborted) return;
      for (const line of this.#notices.noteAll([(error as Error).message], performance.now()))
        this.#log("warn", `Cannot tell who gives addresses: ${line}`);
    }
  }

  #begin(isFirst: boolean): void {
    this.#log("info", `this process gives addresses (${this.#lease.term})`);
    const end = new AbortController();
    const term = new Term({
      config: this.#config,
      namespace: this.#namespace,
      connection: this.#connection,
      signal: AbortSignal.any([this.#signal, end.signal]),
      term: this.#lease.term,
      isFirst,
      mayWrite: () => this.#lease.isHeld,
      surroundings: () => this.#surroundings(),
      holder: this.#holder,
      log: this.#log,
    });
    this.#term = { term, end };
  }

  /** Ends a leadership that is over. */
  #check(): void {
    if (!this.#term || this.#lease.isHeld) return;
    this.#log("warn", "this process no longer gives addresses: another one may do so");
    this.#term.end.abort();
    this.#term = undefined;
  }

  /** Lets the other process begin at once, after all writes have ended. */
  async #resign(): Promise<void> {
    const patience = AbortSignal.timeout(this.#timing.retry);
    await Promise.race([this.#term?.term.idle(), once(patience, "abort")]);
    await this.#lease.release(patience).catch(() => undefined);
  }

  #change(result: Config | ConfigError): void {
    try {
      if (result instanceof ConfigError) throw result;
      this.#config = ofCluster(result);
      if (this.#term && !this.#term.term.configure(this.#config)) {
        this.#term.end.abort();
        this.#begin(false); // a write of the term before may still be under way
      }
      this.#log("info", "configuration applied");
    } catch (error) {
      this.#log("error", `configuration refused, the old one is in force: ${(error as Error).message}`);
    }
  }

  #surroundings(): ReturnType<TermOptions["surroundings"]> {
    try {
      using links = new Links();
      return { gateways: links.defaults().gateways, subnets: links.read().flatMap(({ addresses }) => addresses) };
    } catch (error) {
      for (const line of this.#notices.noteAll([(error as Error).message], performance.now()))
        this.#log("warn", `Cannot tell which networks this machine is on: ${line}`);
      return { gateways: [], subnets: [] };
    }
  }
}

/** @throws ConfigError */
export function ofCluster(config: Config): ClusterConfig {
  const { source } = config;
  if (source.kind === "kubernetes") return { ...config, source };
  throw new ConfigError(["isat controller gives addresses to a cluster's Services, and source.kind is file"]);
}
