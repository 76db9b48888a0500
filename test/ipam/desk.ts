import { formatAddress, parseAddress, parseRange } from "../../src/core/address.ts";
import { type Applicant, Ipam, type IpamSettings, type Verdict } from "../../src/core/ipam.ts";
import type { Family, Pool } from "../../src/core/pools.ts";

export interface Asked {
  key: string;
  uid?: string;
  created?: number;
  ip?: string;
  pool?: string;
  /** The pools that select it. @default all */
  pools?: readonly string[];
  share?: string;
  backend?: string;
  ports?: readonly number[];
  standing?: readonly string[];
  fault?: string;
  families?: readonly Family[];
  isStrict?: boolean;
}

export const pool = (name: string, ranges: readonly string[], more: Partial<Pool> = {}): Pool => ({
  name,
  ranges: ranges.map(parseRange),
  priority: 0,
  isSelective: false,
  autoAssign: true,
  avoidBuggy: false,
  acrossNamespaces: true,
  ...more,
});

/** An Ipam whose Services are short to write. */
export class Counter {
  readonly ipam: Ipam;
  now = 0;
  #pools: readonly Pool[] = [];
  #asked = new Map<string, Asked>();
  #count = 0;

  constructor(pools: readonly Pool[], settings: Partial<IpamSettings> = {}) {
    this.ipam = new Ipam({ choice: "lowest", rest: 0, ...settings });
    this.pools(pools);
  }

  pools(pools: readonly Pool[]): void {
    this.#pools = pools;
    this.ipam.setPools(pools);
    for (const asked of this.#asked.values()) this.ipam.put(this.#applicant(asked), this.now);
  }

  #applicant(its: Asked): Applicant {
    return {
      key: its.key,
      uid: its.uid ?? its.key,
      created: its.created!,
      families: its.families ?? [4],
      isStrict: its.isStrict ?? false,
      requested: its.ip ? [parseAddress(its.ip)] : [],
      fault: its.fault,
      pool: its.pool,
      pools: its.pools ?? this.#pools.map(({ name }) => name),
      sharing: its.share ?? "",
      backend: its.backend ?? "",
      ports: (its.ports ?? [80]).map((port) => `TCP/${port}`),
      standing: (its.standing ?? []).map(parseAddress),
      isForeign: false,
    };
  }

  put(...all: Asked[]): void {
    for (const its of all) {
      const asked = { created: this.#asked.get(its.key)?.created ?? ++this.#count, ...its };
      this.#asked.set(its.key, asked);
      this.ipam.put(this.#applicant(asked), this.now);
    }
  }

  remove(key: string): void {
    this.#asked.delete(key);
    this.ipam.remove(key, this.now);
  }

  decide(): Map<string, Verdict> {
    return this.ipam.decide(this.now);
  }

  /** Decides. @returns the address, or the reason why there is none */
  of(key: string): string {
    this.decide();
    const { addresses, reason } = this.ipam.verdict(key)!;
    return addresses.length > 0 ? addresses.map(formatAddress).join() : reason;
  }

  reason(key: string): string {
    this.decide();
    return this.ipam.verdict(key)!.reason;
  }
}
