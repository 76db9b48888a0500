import { text } from "node:stream/consumers";
import type { ApiError, Connection } from "../source/kubernetes/connection.ts";
import { isJson, type Json } from "../source/kubernetes/fields.ts";

/** The times that client-go's leader election has by default, ms. */
export const LEASE_TIMING = {
  /** A Lease that nobody renewed for so long may be taken. */
  duration: 15_000,
  /** A leader that could not renew it for so long no longer leads. */
  deadline: 10_000,
  /** The time between two renewals, or two looks at it. */
  retry: 2_000,
};
export type LeaseTiming = typeof LEASE_TIMING;

const PATH = (namespace: string) => `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
const NAME = "isat-controller";
export const leasePath = (namespace: string): string => `${PATH(namespace)}/${NAME}`;

export interface LeaseOptions {
  connection: Connection;
  namespace: string;
  /** The name of this process. */
  holder: string;
  timing: LeaseTiming;
}

/**
 * A Lease of the API, which one process holds at a time. Only how fast clocks run matters, and not what they show: a holder
 * counts from before it renewed, the others from when they saw that.
 */
export class Lease {
  readonly #options: LeaseOptions;
  /** The version that was seen last, and since when it has been the same. */
  #seen: { version: string; at: number } | undefined;
  #renewed: { monotonic: number; wall: number } | undefined;
  /** The name of this leadership. */
  term = "";
  /** Nobody led before. */
  isFirst = false;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** A machine that sleeps stops the monotonic clock, and one whose clock is set changes the other: both must agree. */
  get isHeld(): boolean {
    if (!this.#renewed) return false;
    const { deadline } = this.#options.timing;
    const { monotonic, wall } = this.#renewed;
    return performance.now() - monotonic < deadline && Date.now() - wall < deadline;
  }

  /**
   * Takes the Lease if it is free, or renews it.
   * @returns false if another process holds it
   * @throws Error if the API cannot be asked; a Lease that is held stays so until its deadline
   */
  async attempt(signal: AbortSignal): Promise<boolean> {
    const asked = { monotonic: performance.now(), wall: Date.now() };
    const found = await this.#read(signal);
    if (!this.#mayTake(found)) {
      this.#renewed = undefined;
      return false;
    }
    const isNew = !this.isHeld || specOf(found).holderIdentity !== this.#options.holder;
    const transitions = Number(specOf(found).leaseTransitions ?? 0) + (isNew ? 1 : 0);
    try {
      await this.#write(found, this.#options.holder, transitions, signal);
    } catch (error) {
      if ((error as ApiError).status !== 409) throw error;
      this.#renewed = undefined; // another one was faster
      return false;
    }
    if (isNew) [this.term, this.isFirst] = [`controller ${this.#options.holder}, term ${transitions}`, !found];
    this.#renewed = asked;
    return true;
  }

  #mayTake(found: Json | undefined): boolean {
    const { holder, timing } = this.#options;
    const { holderIdentity } = specOf(found);
    const version = found ? String((found.metadata as Json).resourceVersion) : "";
    if (this.#seen?.version !== version) this.#seen = { version, at: performance.now() };
    if (holderIdentity === holder && this.isHeld) return true;
    // One that was deleted may still have a holder that does not know.
    const isFree = found ? !holderIdentity : this.#isFresh;
    this.#isFresh = false;
    return isFree || performance.now() - this.#seen.at > timing.duration;
  }
  #isFresh = true;

  async #read(signal: AbortSignal): Promise<Json | undefined> {
    const { connection, namespace } = this.#options;
    try {
      const response = await connection.send("GET", leasePath(namespace), signal);
      const found = JSON.parse(await text(response));
      return isJson(found) ? found : undefined;
    } catch (error) {
      if ((error as ApiError).status === 404) return undefined;
      throw error;
    }
  }

  async #write(found: Json | undefined, holder: string, leaseTransitions: number, signal: AbortSignal): Promise<void> {
    const { connection, namespace, timing } = this.#options;
    const renewTime = new Date().toISOString().replace("Z", "000Z"); // MicroTime
    const metadata = { name: NAME, namespace, resourceVersion: (found?.metadata as Json | undefined)?.resourceVersion };
    const spec = {
      holderIdentity: holder,
      leaseDurationSeconds: Math.max(1, Math.round(timing.duration / 1000)),
      renewTime,
      leaseTransitions,
    };
    const body = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec };
    const path = found ? leasePath(namespace) : PATH(namespace);
    const response = await connection.send(found ? "PUT" : "POST", path, signal, body);
    response.resume();
  }

  /** Lets another process take it at once. */
  async release(signal: AbortSignal): Promise<void> {
    if (!this.isHeld) return;
    this.#renewed = undefined;
    const found = await this.#read(signal);
    if (specOf(found).holderIdentity !== this.#options.holder) return;
    await this.#write(found, "", Number(specOf(found).leaseTransitions ?? 0), signal);
  }
}

const specOf = (found: Json | undefined): Json => (isJson(found?.spec) ? found.spec : {});
