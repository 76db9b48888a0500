import type { Cluster } from "./cluster.ts";
import { type Key, keyOf, refOf } from "./objects.ts";
import { METALLB_KINDS, type MetallbKind, servedVersions, VERSION } from "./resources.ts";

export interface MetallbOptions {
  cluster: Cluster;
  /** Lists and watches the objects of a kind, until the signal. */
  follow(kind: MetallbKind, signal: AbortSignal): void;
  /** The objects of a kind are no longer watched. */
  forget(kind: MetallbKind): void;
  /** The demand, or what is to be said, may have changed. */
  onChange(): void;
  timing: typeof METALLB_TIMING;
}

/** In ms. */
export const METALLB_TIMING = {
  /** The time for which MetalLB's resources still count after the API has ceased to serve them. */
  grace: 600_000,
  /** An object that is deleted counts for so long. A definition that is deleted takes its objects with it, in no sure order. */
  linger: 500,
};

/**
 * MetalLB's resources, whose definitions may come and go while isat runs: MetalLB is installed and removed, or a chart
 * deletes them and makes them again. Until the objects are back, what they said counts for a while.
 */
export class Metallb implements Disposable {
  readonly #options: MetallbOptions;
  /** The kinds that are served, each with what ends its watch. */
  readonly #followed = new Map<MetallbKind, AbortController>();
  /** The kinds whose objects are not all back, each with the objects that are missing; undefined: all of them. */
  readonly #missing = new Map<MetallbKind, Set<Key> | undefined>();
  readonly #lingering = new Map<string, NodeJS.Timeout>();
  readonly #unknown = new Map<MetallbKind, string>();
  #grace: NodeJS.Timeout | undefined;

  constructor(options: MetallbOptions) {
    this.#options = options;
  }

  get followed(): MetallbKind[] {
    return [...this.#followed.keys()];
  }

  /** Warnings, a line each. */
  get warnings(): string[] {
    const minutes = this.#options.timing.grace / 60_000;
    const gone = [...this.#missing.keys()].map(
      (kind) =>
        `The definition of MetalLB's ${kind}s was deleted: what they said counts until all of them are back, for ${minutes} minutes at most`,
    );
    return [...gone, ...this.#unknown.values()];
  }

  /** Takes a kind's definition. */
  define(kind: MetallbKind, definition: unknown): void {
    const served = servedVersions(definition);
    if (!served) return; // another event follows when it is established
    const isKnown = served.includes(VERSION);
    if (isKnown || served.length === 0) this.#unknown.delete(kind);
    else {
      const versions = served.join(", ");
      this.#unknown.set(
        kind,
        `The ${kind}s of metallb.io are ignored: the API serves ${versions} of them, and isat knows ${VERSION}`,
      );
    }
    if (!isKnown) this.undefine(kind);
    else if (!this.#followed.has(kind)) this.#follow(kind);
  }

  #follow(kind: MetallbKind): void {
    const ending = new AbortController();
    this.#followed.set(kind, ending);
    this.#options.follow(kind, ending.signal);
  }

  /** The API does not serve a kind, or no longer. */
  undefine(kind: MetallbKind): void {
    const { cluster, timing, onChange } = this.#options;
    this.#unfollow(kind);
    for (const timer of this.#lingering.values()) clearTimeout(timer);
    this.#lingering.clear();
    if (cluster.given.hasAdvertisements && cluster.keys(kind).length > 0) {
      this.#missing.set(kind, undefined);
      this.#grace ??= setTimeout(() => this.#endGrace(), timing.grace).unref();
    } else this.#clear(kind);
    onChange();
  }

  #unfollow(kind: MetallbKind): void {
    this.#followed.get(kind)?.abort();
    this.#followed.delete(kind);
    this.#options.forget(kind);
  }

  #clear(kind: MetallbKind): void {
    const { cluster } = this.#options;
    this.#missing.delete(kind);
    for (const key of cluster.keys(kind)) cluster.remove(kind, key);
    if (kind === "L2Advertisement") cluster.give({ hasAdvertisements: false });
  }

  /** Those that are served again are read once more, and what is missing then is gone. */
  #endGrace(): void {
    this.#grace = undefined;
    for (const kind of [...this.#missing.keys()]) {
      this.#missing.delete(kind);
      if (!this.#followed.has(kind)) this.#clear(kind);
      else {
        this.#unfollow(kind);
        this.#follow(kind);
      }
    }
    this.#options.onChange();
  }

  put(kind: MetallbKind, object: unknown, fault?: string): void {
    const { cluster, onChange } = this.#options;
    const key = keyOf(refOf(kind, object));
    this.#stay(kind, key);
    this.#isBack(kind, key);
    if (cluster.put(kind, object, fault)) onChange();
  }

  remove(kind: MetallbKind, key: Key): void {
    const { cluster, timing, onChange } = this.#options;
    this.#stay(kind, key);
    const remove = () => {
      this.#lingering.delete(`${kind} ${key}`);
      this.#isBack(kind, key);
      if (cluster.remove(kind, key)) onChange();
    };
    this.#lingering.set(`${kind} ${key}`, setTimeout(remove, timing.linger));
  }

  /** @param keys of all objects that there are */
  listed(kind: MetallbKind, keys: ReadonlySet<Key>): void {
    const { cluster } = this.#options;
    const missing = cluster.keys(kind).filter((key) => !keys.has(key));
    if (this.#missing.has(kind)) {
      this.#missing.set(kind, new Set(missing));
      this.#isBack(kind, "");
    } else for (const key of missing) this.remove(kind, key);
  }

  /** It does not go, or not now. */
  #stay(kind: MetallbKind, key: Key): void {
    clearTimeout(this.#lingering.get(`${kind} ${key}`));
    this.#lingering.delete(`${kind} ${key}`);
  }

  #isBack(kind: MetallbKind, key: Key): void {
    const missing = this.#missing.get(kind);
    missing?.delete(key);
    if (missing?.size !== 0) return;
    this.#missing.delete(kind);
    this.#options.onChange();
    if (this.#missing.size > 0) return;
    clearTimeout(this.#grace);
    this.#grace = undefined;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#grace);
    for (const timer of this.#lingering.values()) clearTimeout(timer);
    for (const kind of METALLB_KINDS) this.#followed.get(kind)?.abort();
  }
}
