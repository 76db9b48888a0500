/** Decides which Service has which address. Pools, Services and the time go in, verdicts come out. */
import { type Address, formatAddress, reservedBlock } from "./address.ts";
import { Holdings } from "./holdings.ts";
import { type Choice, type Family, familyOf, gives, inOrder, type Pool, rangesOf, Search } from "./pools.ts";

/** A Service that is to have addresses. */
export interface Applicant {
  /** `namespace/name`. */
  key: string;
  uid: string;
  /** When it was made, ms since 1970. */
  created: number;
  /** The families that it has, in the order in which its addresses stand. */
  families: readonly Family[];
  /** `RequireDualStack`: it gets an address of each family, or none. */
  isStrict: boolean;
  /** The addresses that it asks for, at most one of each family. */
  requested: readonly Address[];
  /** Why nothing follows from what it asks for: two requests that differ, or one that cannot be read. */
  fault: string | undefined;
  /** The one pool that it asks for. */
  pool: string | undefined;
  /** The pools that select it, by name. */
  pools: readonly string[];
  /** Services with the same key may share an address; "" stands for none. */
  sharing: string;
  /** Services share only where packets for each may go to the same nodes: that text is the same then. */
  backend: string;
  /** `TCP/80`, each once. */
  ports: readonly string[];
  /** The addresses that stand in its status. */
  standing: readonly Address[];
  /** Another controller gives it addresses: what stands is taken, and it gets nothing. */
  isForeign: boolean;
}

export type Reason =
  | "Assigned"
  | "NoPool"
  | "NotSelected"
  | "PoolExhausted"
  | "InUse"
  | "SharingRefused"
  | "AmbiguousRequest"
  | "FamilyMissing"
  | "AnswersOnTheWire";

/** Why something cannot be had. */
export interface Refusal {
  reason: Reason;
  message: string;
}

/** The addresses of a Service, and why it has no more. */
export interface Verdict extends Refusal {
  /** In the order of its families. */
  addresses: readonly Address[];
  /** Why an address that it keeps would not be given to it today. */
  kept: string | undefined;
}

export interface IpamSettings {
  choice: Choice;
  /** The time for which a released address goes to nobody else, ms: clients still know its last owner. */
  rest: number;
}

const inTurn = (a: Applicant, b: Applicant) => a.created - b.created || (a.key < b.key ? -1 : 1);
const namespaceOf = (key: string) => key.slice(0, key.indexOf("/"));
const sharingOf = ({ sharing, backend, ports }: Applicant) => [sharing, backend, ...ports].join();
const isSame = (a: Verdict | undefined, b: Verdict) =>
  a?.reason === b.reason && a.message === b.message && a.kept === b.kept && a.addresses.join() === b.addresses.join();

/** The addresses of a cluster's Services. An address that is held is given up only when its Service asks for that. */
export class Ipam {
  readonly #applicants = new Map<string, Applicant>();
  readonly #verdicts = new Map<string, Verdict>();
  readonly #dirty = new Set<string>();
  /** Services that came to share otherwise since the last decision. They leave whom they clash with, and nobody else does. */
  readonly #edited = new Set<string>();
  /** Services that came since the last decision. */
  readonly #new = new Set<string>();
  /** Services that lack an address, or wait for another one. */
  readonly #waiting = new Set<string>();
  readonly #holdings: Holdings;
  readonly #search: Search;
  #pools: readonly Pool[] = [];
  #never: ReadonlyMap<Address, Refusal> = new Map();
  #now = 0;
  /** The first decision takes whatever stands; later, what stands must be what could be given. */
  #hasBegun = false;

  constructor({ choice, rest }: IpamSettings) {
    this.#holdings = new Holdings(rest);
    this.#search = new Search(choice, (address) => !this.#holdings.isTaken(address) && !this.#never.has(address));
  }

  setPools(pools: Iterable<Pool>): void {
    this.#pools = inOrder(pools);
    this.#reconsider();
  }

  /** @param never the addresses that are given to nobody, and why: nodes' own, gateways', those that answer on the wire */
  setNever(never: ReadonlyMap<Address, Refusal>): void {
    this.#never = never;
    this.#reconsider();
  }

  #reconsider(): void {
    this.#search.forget();
    for (const key of this.#applicants.keys()) this.#dirty.add(key);
  }

  /** @param now ms, monotonic */
  put(applicant: Applicant, now: number): void {
    const { key, uid, pool } = applicant;
    const before = this.#applicants.get(key);
    if (before && before.uid !== uid) this.remove(key, now);
    if (!this.#applicants.has(key)) this.#new.add(key);
    // Only a change that is seen tells that the Service asks for another pool: the pools may have been edited as well.
    else if (pool !== undefined && before!.pool !== pool) this.#holdings.asksToMove.add(key);
    if (before && sharingOf(before) !== sharingOf(applicant)) this.#edited.add(key);
    this.#applicants.set(key, applicant);
    this.#dirty.add(key);
    if (before?.sharing) this.#holdings.hasFreed = true; // those that could not share with it perhaps can now
  }

  /** @param now ms, monotonic */
  remove(key: string, now: number): void {
    for (const address of this.#holdings.of(key)) this.#holdings.release(key, address, now);
    for (const set of [this.#dirty, this.#edited, this.#new, this.#waiting, this.#holdings.asksToMove]) set.delete(key);
    this.#applicants.delete(key);
    this.#verdicts.delete(key);
  }

  /**
   * Takes back an address from all that it was chosen for, but for those that were told. It does not rest.
   * @returns the keys
   */
  takeBack(address: Address, isTold: (key: string) => boolean): string[] {
    const keys = [...this.#holdings.holders(address)].filter((key) => !isTold(key));
    for (const key of keys) {
      this.#holdings.release(key, address, this.#now, false);
      this.#dirty.add(key);
    }
    return keys;
  }

  /** When an address ends its rest, ms; undefined: none rests. */
  get wakeAt(): number | undefined {
    return this.#holdings.restEnds;
  }

  verdict(key: string): Verdict | undefined {
    return this.#verdicts.get(key);
  }

  /** Services without what they ask for, in the order in which they get it. */
  get waiting(): string[] {
    return this.#sorted(this.#waiting).map(({ key }) => key);
  }

  #sorted(keys: Iterable<string>): Applicant[] {
    return [...keys].map((key) => this.#applicants.get(key)!).sort(inTurn);
  }

  /**
   * Decides for all Services whose verdict may have changed, the oldest first.
   *
   * @param now ms, monotonic
   * @returns the verdicts that have changed
   */
  decide(now: number): Map<string, Verdict> {
    this.#now = now;
    this.#holdings.expire(now);
    for (const applicant of this.#sorted(this.#new)) this.#import(applicant);
    this.#new.clear();
    this.#hasBegun = true;
    const changed = new Map<string, Verdict>();
    while (this.#dirty.size > 0 || this.#holdings.hasFreed) {
      if (this.#holdings.hasFreed) {
        this.#search.forget();
        for (const key of this.#waiting) this.#dirty.add(key);
      }
      this.#holdings.hasFreed = false;
      const due = this.#sorted(this.#dirty);
      this.#dirty.clear();
      for (const applicant of due) this.#settle(applicant, changed);
    }
    return changed;
  }

  /** Takes what stands in a Service's status. What stands at the start is never asked for its right. */
  #import(applicant: Applicant): void {
    for (const address of applicant.standing) {
      const isWanted = applicant.isForeign || applicant.families.includes(familyOf(address));
      if (!isWanted || this.#clash(applicant, address)) continue;
      if (this.#hasBegun && !applicant.isForeign && this.#refusal(applicant, address)) continue;
      this.#holdings.hold(applicant.key, address, applicant.sharing);
    }
  }

  #settle(applicant: Applicant, changed: Map<string, Verdict>): void {
    const { key } = applicant;
    this.#giveUp(applicant);
    const has = (family: Family) => this.#holdings.of(key).some((address) => familyOf(address) === family);
    if (applicant.isForeign || !applicant.families.some(has)) this.#import(applicant);
    if (applicant.isForeign) return;
    const refusals = applicant.fault
      ? [{ reason: "AmbiguousRequest" as const, message: applicant.fault }]
      : this.#fill(applicant);
    const missing = applicant.families.filter((family) => !has(family));
    const verdict = this.#judge(applicant, refusals, missing);
    if (refusals.length > 0) this.#waiting.add(key);
    else this.#waiting.delete(key);
    if (isSame(this.#verdicts.get(key), verdict)) return;
    this.#verdicts.set(key, verdict);
    changed.set(key, verdict);
  }

  /** Releases what an edit of the Service itself has made impossible. */
  #giveUp(applicant: Applicant): void {
    const { key, families, sharing, standing, isForeign } = applicant;
    for (const address of this.#holdings.of(key)) {
      const isWanted = isForeign ? standing.includes(address) : families.includes(familyOf(address));
      const isLeft = this.#edited.has(key) && this.#clash(applicant, address) !== undefined;
      if (!isWanted || isLeft) this.#holdings.release(key, address, this.#now);
      else this.#holdings.share(address, sharing);
    }
    this.#edited.delete(key);
  }

  /** Gets what is missing. @returns why something is still missing */
  #fill(applicant: Applicant): Refusal[] {
    const { key, families, requested, isStrict } = applicant;
    const found: Address[] = [];
    const refusals: Refusal[] = [];
    for (const family of families) {
      const wanted = requested.find((address) => familyOf(address) === family);
      const held = this.#holdings.of(key).filter((address) => familyOf(address) === family);
      const has = wanted === undefined ? held.length > 0 : held.includes(wanted);
      if (has && !(wanted === undefined && this.#isElsewhere(applicant, held))) continue;
      const result = wanted === undefined ? this.#choose(applicant, family) : this.#refusal(applicant, wanted);
      if (typeof result === "object") refusals.push(result);
      else found.push(result ?? wanted!);
    }
    const stray = requested.find((address) => !families.includes(familyOf(address)));
    if (stray !== undefined)
      refusals.push(noFamily(`${formatAddress(stray)} is asked for, of a family that it has not`));
    const isNothing = isStrict && refusals.length > 0 && this.#holdings.of(key).length === 0;
    if (isNothing) return refusals;
    for (const address of found) this.#take(applicant, address);
    if (refusals.length === 0) this.#holdings.asksToMove.delete(key);
    return refusals;
  }

  /** It has come to ask for a pool that none of these addresses is in. */
  #isElsewhere({ key, pool }: Applicant, held: readonly Address[]): boolean {
    if (!this.#holdings.asksToMove.has(key)) return false;
    const its = this.#pools.find(({ name }) => name === pool);
    return its !== undefined && !held.some((address) => gives(its, address));
  }

  /** Takes an address in the place of those of the same family. */
  #take({ key, sharing }: Applicant, address: Address): void {
    const before = this.#holdings.of(key).filter((other) => familyOf(other) === familyOf(address));
    this.#holdings.hold(key, address, sharing);
    for (const other of before) this.#holdings.release(key, other, this.#now);
  }

  #judge(applicant: Applicant, refusals: readonly Refusal[], missing: readonly Family[]): Verdict {
    const { key, families, isStrict } = applicant;
    const rank = (address: Address) => families.indexOf(familyOf(address));
    const addresses = [...this.#holdings.of(key)].sort((a, b) => rank(a) - rank(b));
    const kept = addresses
      .map((address) => this.#unfit(applicant, address)?.message)
      .filter((message) => message !== undefined)
      .join("; ");
    const [first] = refusals;
    const has = addresses.map(formatAddress).join(" and ");
    const more = { addresses, kept: kept === "" ? undefined : kept };
    if (!first) return { reason: "Assigned", message: has, ...more };
    if (addresses.length === 0) return { ...first, ...more };
    const isMissing = missing.length > 0 && first.reason !== "AmbiguousRequest";
    if (!isMissing) return { reason: first.reason, message: `it keeps ${has}, as ${first.message}`, ...more };
    const lack = `${has}, without an address of IPv${missing.join(" and IPv")}: ${first.message}`;
    return {
      reason: isStrict || applicant.requested.length > 0 ? "FamilyMissing" : "Assigned",
      message: lack,
      ...more,
    };
  }

  /** Chooses an address of a family for a Service that does not ask for one. */
  #choose(applicant: Applicant, family: Family): Address | Refusal {
    const { key } = applicant;
    const candidates = this.#candidates(applicant, family);
    if (!Array.isArray(candidates)) return candidates;
    const isFree = (address: Address) => !this.#holdings.isTaken(address) && !this.#never.has(address);
    for (const pool of candidates) {
      const rested = this.#holdings
        .resting(key)
        .find((address) => familyOf(address) === family && gives(pool, address) && !this.#never.has(address));
      if (rested !== undefined) return rested;
    }
    for (const pool of candidates) {
      const shared = this.#holdings
        .shared(applicant.sharing)
        .find((address) => familyOf(address) === family && gives(pool, address) && !this.#refusal(applicant, address));
      const address = shared ?? this.#search.find(pool, family, key);
      if (address !== undefined && (shared !== undefined || isFree(address))) return address;
    }
    const names = candidates.map(({ name }) => name).join(", ");
    return { reason: "PoolExhausted", message: `no address of IPv${family} is free in ${names}` };
  }

  /** The pools that may give it an address of the family, in order. */
  #candidates({ pool: pinned, pools }: Applicant, family: Family): Pool[] | Refusal {
    if (this.#pools.length === 0) return { reason: "NoPool", message: "there is no pool" };
    const selecting = this.#pools.filter(({ name }) => pools.includes(name));
    const named = this.#pools.filter(({ name }) => name === pinned);
    if (pinned !== undefined && named.length === 0)
      return { reason: "NoPool", message: `there is no pool ${pinned}, which it asks for` };
    const open = selecting.filter(({ name, autoAssign }) => (pinned === undefined ? autoAssign : name === pinned));
    const fit = open.filter((pool) => rangesOf(pool, family).length > 0);
    if (fit.length > 0) return fit;
    if (open.length > 0) return noFamily(`no pool has addresses of IPv${family} for it`);
    const message =
      pinned === undefined ? "no pool selects it" : `pool ${pinned}, which it asks for, does not select it`;
    return { reason: "NotSelected", message };
  }

  /** Why a Service cannot be given an address. */
  #refusal(applicant: Applicant, address: Address): Refusal | undefined {
    return this.#unfit(applicant, address) ?? this.#clash(applicant, address);
  }

  /** Why an address is not for a Service, whoever has it. */
  #unfit({ pool: pinned, pools }: Applicant, address: Address): Refusal | undefined {
    const never = this.#never.get(address);
    if (never) return never;
    const ip = formatAddress(address);
    const reserved = reservedBlock({ first: address, last: address });
    if (reserved) return { reason: "NoPool", message: `${ip} is no Service's: ${reserved}` };
    const having = this.#pools.filter((pool) => gives(pool, address));
    if (having.length === 0) return { reason: "NoPool", message: `${ip} is in no pool` };
    const selecting = having.filter(({ name }) => pools.includes(name));
    if (selecting.length === 0)
      return { reason: "NotSelected", message: `pool ${having[0]!.name}, which has ${ip}, does not select it` };
    if (pinned === undefined || selecting.some(({ name }) => name === pinned)) return undefined;
    return { reason: "AmbiguousRequest", message: `${ip} is not in pool ${pinned}, which it asks for as well` };
  }

  /** Why a Service cannot have an address beside those that have it. */
  #clash(applicant: Applicant, address: Address): Refusal | undefined {
    for (const key of this.#holdings.holders(address)) {
      if (key === applicant.key) continue;
      const refusal = this.#clashWith(applicant, this.#applicants.get(key)!, address);
      if (refusal) return refusal;
    }
    return undefined;
  }

  #clashWith(one: Applicant, other: Applicant, address: Address): Refusal | undefined {
    const isNear = namespaceOf(one.key) === namespaceOf(other.key);
    // Whoever reads a Service's condition may not know of other namespaces.
    const whom = isNear ? other.key : "a Service of another namespace";
    const has = `${whom} has ${formatAddress(address)}`;
    if (one.sharing === "" || other.sharing === "") return { reason: "InUse", message: has };
    const refused = (why: string): Refusal => ({ reason: "SharingRefused", message: `${has}, and ${why}` });
    if (one.sharing !== other.sharing) return refused("shares it by another key");
    if (!isNear && this.#pools.some((pool) => gives(pool, address) && !pool.acrossNamespaces))
      return refused("its pool is not shared across namespaces");
    if (one.backend !== other.backend) return refused("sends packets to other nodes: externalTrafficPolicy, selector");
    const port = one.ports.find((its) => other.ports.includes(its));
    return port === undefined ? undefined : refused(`uses port ${port} as well`);
  }
}

const noFamily = (message: string): Refusal => ({ reason: "FamilyMissing", message });
