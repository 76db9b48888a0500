import { type Address, formatAddress, parseAddress } from "../core/address.ts";
import { Ipam, type IpamSettings, type Refusal, type Verdict } from "../core/ipam.ts";
import { type Family, familyOf } from "../core/pools.ts";
import type { Labels } from "../source/kubernetes/selector.ts";
import { Pace } from "./pace.ts";
import { type PoolSpec, selecting } from "./pools.ts";
import type { Condition, View } from "./services.ts";
import type { Question, Reply, Wire } from "./wire.ts";

/** A change of one Service's status. It only takes effect if the Service is as it was when this was decided. */
export interface Write {
  key: string;
  uid: string;
  version: string;
  /** undefined: the addresses stay as they are. */
  ingress: readonly string[] | undefined;
  /** undefined: the condition is removed. */
  condition: (Condition & { since: string; generation: number }) | undefined;
}

/** The write that was made to one version of a Service. */
interface Sent {
  version: string;
  /** The addresses that the Service gets if it arrives. */
  ips: readonly string[];
  isLost: boolean;
}

/** `changed`: the Service is another by now, or gone. `lost`: nobody knows. */
export type Outcome = "written" | "changed" | "lost";

/**
 * The knowledge of a leader, and its next writes. Pure: what was read and the time go in, writes come out.
 *
 * A leader that was paused may still have a write under way. It takes effect only while its Service is as that leader saw
 * it, and an address is only given to a Service whose status tells that it waits for one. So a leader that takes over first
 * writes to every Service that waits, and gives none before it has read each of them anew: whatever was under way to one of
 * them has failed by then, or is read.
 */
export class Desk {
  readonly #ipam: Ipam;
  readonly #views = new Map<string, View>();
  readonly #namespaces = new Map<string, Labels>();
  #pools: readonly PoolSpec[] = [];
  /** The Services that are written before any address is given, each with its version; undefined: nothing is given yet. */
  #fence: Map<string, string> | undefined;
  #isOpen = false;
  #term = "";
  /** The Services whose status may have to be written. */
  readonly #due = new Set<string>();
  /** The Services to which something is being written, or was: while the Service has this version, it may still arrive. */
  readonly #sent = new Map<string, Sent>();
  readonly #pace = new Pace();
  #isChanged = false;
  /** The Services whose status has an address, or may get it by a write under way, by the address's text. */
  readonly #standing = new Map<string, Set<string>>();
  /** The Services whose address still stands in the status of another one. */
  readonly #blocked = new Set<string>();
  /** The Services that wait until the wire has been asked for an address. */
  readonly #asking = new Map<Address, Set<string>>();
  /** Until when an address that stood in a status, and stands no more, is taken to be this cluster's, ms. */
  readonly #ours = new Map<string, number>();
  #never: ReadonlyMap<Address, Refusal> = new Map();
  readonly #wire: Wire | undefined;
  /** The addresses that somebody answers for, and the Services that were to have them. */
  readonly #met = new Map<Address, Met>();

  /** @param wire undefined: the wire is not asked */
  constructor(settings: IpamSettings, wire?: Wire) {
    this.#ipam = new Ipam(settings);
    this.#wire = wire;
  }

  /** The next question to speakers, and how many addresses nobody can ask for. */
  question(now: number): { question: Question | undefined; unasked: number } {
    const { question, unasked = [] } = this.#wire?.next(now) ?? {};
    for (const address of unasked) this.#resolve(address);
    return { question, unasked: unasked.length };
  }

  /** Nobody can be asked. */
  giveUpAsking(now: number): void {
    this.#wire?.giveUp(now);
  }

  /** Takes a speaker's answer. */
  answered(node: string, reply: Reply, now: number): void {
    const known = this.#wire?.take(node, reply, now) ?? [];
    for (const address of known) {
      const found = this.#wire!.finding(address, now);
      if (typeof found === "object") this.#meet(address, found, now);
      this.#resolve(address);
    }
    if (known.some((address) => this.#met.has(address))) this.#applyNever(); // once: a proxy may answer for a whole pool
  }

  #resolve(address: Address): void {
    for (const key of this.#asking.get(address) ?? []) this.#due.add(key);
    this.#asking.delete(address);
  }

  /** Somebody has the address: those that were to have it get another one. */
  #meet(address: Address, { mac, node }: { mac: string; node: string }, now: number): void {
    const ip = formatAddress(address);
    const message = `${ip} is taken: ${mac} answers for it on the wire, as ${node} heard`;
    // Some may have come to share it that did not ask.
    const keys = this.#ipam.takeBack(address, (key) => this.#views.get(key)?.ingress.includes(ip) === true);
    this.#met.set(address, { refusal: { reason: "AnswersOnTheWire", message }, keys, until: now + this.#wire!.again });
  }

  /** The addresses that somebody answers for. */
  get met(): Iterable<Met> {
    return this.#met.values();
  }

  #applyNever(): void {
    const met = [...this.#met].map(([address, { refusal }]) => [address, refusal] as const);
    this.#ipam.setNever(new Map([...this.#never, ...met]));
    this.#isChanged = true;
  }

  #forgetMet(now: number): void {
    const [met] = this.#met.values(); // the oldest
    const over = met && met.until <= now ? [...this.#met].filter(([, { until }]) => until <= now) : [];
    for (const [address] of over) this.#met.delete(address);
    if (over.length > 0) this.#applyNever();
    for (const [ip, until] of this.#ours) if (until <= now) this.#ours.delete(ip);
  }

  /** The wire has been asked for the address, or need not be: this cluster has it, or had it a moment ago. */
  #isAsked(ip: string, key: string, now: number): boolean {
    if (!this.#wire || this.#ours.has(ip) || this.#standing.has(ip)) return true;
    const address = parseAddress(ip);
    const found = this.#wire.finding(address, now);
    if (found !== undefined) return typeof found === "string";
    this.#wire.want(address);
    this.#asking.set(address, (this.#asking.get(address) ?? new Set()).add(key));
    return false;
  }

  put(view: View, now: number): void {
    this.#enter(view.key, view);
    this.#due.add(view.key);
    this.#apply(view, now);
    this.#checkFence();
  }

  /** Keeps the index of what stands; an address that stands no more may be given now. */
  #enter(key: string, view: View | undefined): void {
    if (view && this.#sent.get(key)?.version === view.version) return; // it was told twice, and a write is under way
    for (const ip of [...(this.#views.get(key)?.ingress ?? []), ...(this.#sent.get(key)?.ips ?? [])]) {
      const its = this.#standing.get(ip);
      its?.delete(key);
      if (its?.size !== 0) continue;
      this.#standing.delete(ip);
      this.#ours.set(ip, this.#pace.now + OURS);
    }
    this.#sent.delete(key);
    this.#stand(key, view?.ingress ?? []);
    if (view) this.#views.set(key, view);
    else this.#views.delete(key);
    for (const blocked of this.#blocked) this.#due.add(blocked);
    this.#blocked.clear();
  }

  #stand(key: string, ips: readonly string[]): void {
    for (const ip of ips) this.#standing.set(ip, (this.#standing.get(ip) ?? new Set()).add(key));
  }

  remove(key: string, now: number): void {
    this.#enter(key, undefined);
    this.#due.delete(key);
    this.#pace.forget(key);
    if (this.#isOpen) this.#ipam.remove(key, now);
    this.#isChanged = true;
    this.#checkFence();
  }

  view(key: string): View | undefined {
    return this.#views.get(key);
  }

  get views(): Iterable<View> {
    return this.#views.values();
  }

  get keys(): Iterable<string> {
    return this.#views.keys();
  }

  setPools(pools: readonly PoolSpec[], now: number): void {
    this.#pools = pools;
    this.#ipam.setPools(pools);
    this.#applyAll(now);
  }

  setNever(never: ReadonlyMap<Address, Refusal>): void {
    this.#never = never;
    this.#applyNever();
  }

  /** @param labels undefined: the namespace is gone */
  setNamespace(name: string, labels: Labels | undefined, now: number): void {
    if (labels) this.#namespaces.set(name, labels);
    else this.#namespaces.delete(name);
    for (const view of this.#views.values()) if (view.namespace === name) this.#apply(view, now);
  }

  #applyAll(now: number): void {
    for (const view of this.#views.values()) this.#apply(view, now);
  }

  /** Tells the core what a Service asks for. */
  #apply(view: View, now: number): void {
    if (!this.#isOpen) return;
    this.#isChanged = true;
    if (view.type === "none") {
      this.#ipam.remove(view.key, now);
      return;
    }
    const pools = selecting(this.#pools, view, this.#namespaces.get(view.namespace));
    this.#ipam.put({ ...view.applicant, pools }, now);
  }

  /**
   * Everything has been read since this controller leads.
   * @param term names this leadership @param isFirst nobody has led before
   */
  open(term: string, isFirst: boolean, now: number): void {
    this.#term = term;
    const unsettled = isFirst ? [] : [...this.#views.values()].filter(isWaiting);
    this.#fence = new Map(unsettled.map(({ key, version }) => [key, version]));
    this.#checkFence(now);
  }

  #checkFence(now = this.#pace.now): void {
    if (!this.#fence) return;
    for (const [key, version] of this.#fence) {
      const isOver = this.#views.get(key)?.version !== version;
      if (isOver) this.#fence.delete(key);
      else return; // one is enough to wait for
    }
    this.#fence = undefined;
    this.#isOpen = true;
    this.#applyAll(now);
    for (const key of this.#views.keys()) this.#due.add(key);
  }

  /** Addresses are given. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** When {@link next} may have something that it had not before, though nothing was put; ms. */
  get wakeAt(): number | undefined {
    const [met] = this.#met.values(); // the oldest
    const times = [this.#ipam.wakeAt, this.#pace.wakeAt, this.#wire?.wakeAt, met?.until].filter(
      (time) => time !== undefined,
    );
    return times.length > 0 ? Math.min(...times) : undefined;
  }

  /** @returns the next write; undefined: there is nothing to write now */
  next(now: number, clock: string): Write | undefined {
    this.#pace.now = now;
    if (this.#fence) return this.#nextFence(now, clock);
    if (!this.#isOpen) return undefined;
    this.#forgetMet(now);
    const ends = this.#ipam.wakeAt;
    if (this.#isChanged || (ends !== undefined && ends <= now)) {
      this.#isChanged = false;
      for (const key of this.#ipam.decide(now).keys()) this.#due.add(key);
    }
    for (const key of this.#pace.due(now)) this.#due.add(key);
    for (const key of this.#due) {
      this.#due.delete(key);
      const view = this.#views.get(key);
      const write = view && this.#writeFor(view, clock, now);
      if (write && this.#allows(write, now)) return write;
    }
    return undefined;
  }

  #nextFence(now: number, clock: string): Write | undefined {
    for (const [key, version] of this.#fence!) {
      const view = this.#views.get(key)!;
      if (view?.version !== version || this.#sent.get(key)?.isLost === false) continue;
      const write = this.#touch(view, clock);
      if (this.#allows(write, now)) return write;
    }
    return undefined;
  }

  /** Makes a Service another version, so that whatever is under way to this one fails. */
  #touch(view: View, clock: string): Write {
    const { reason = "Pending", status = "False", message: before } = view.condition ?? {};
    const text = `${this.#term} looks for an address`;
    const message = before === text ? `${text} again` : text; // the API makes no new version where nothing changes
    return { ...this.#base(view, { status, reason, message }, clock), ingress: undefined };
  }

  #allows({ key, version, ingress = [] }: Write, now: number): boolean {
    if (!this.#pace.take(key, now)) return false;
    const { ips = [] } = this.#sent.get(key) ?? {};
    this.#sent.set(key, { version, ips: [...ips, ...ingress], isLost: false });
    this.#stand(key, ingress);
    return true;
  }

  /** Tells what became of a write. */
  done({ key, version }: Write, outcome: Outcome): void {
    const sent = this.#sent.get(key);
    if (outcome !== "lost" || sent?.version !== version) return; // the watch brings what the Service is now
    sent.isLost = true;
    this.#due.add(key);
  }

  #writeFor(view: View, clock: string, now: number): Write | undefined {
    const { key, type, ingress, condition } = view;
    const sent = this.#sent.get(key);
    if (sent?.isLost === false) return undefined;
    if (type === "none") {
      if (!condition) return undefined;
      return { ...this.#base(view, undefined, clock), ingress: [] };
    }
    const verdict = type === "balancer" ? this.#ipam.verdict(key) : undefined;
    if (!verdict) return undefined;
    const wanted = conditionFor(verdict);
    const ips = verdict.addresses.map(formatAddress);
    const isSame = ips.join() === ingress.join();
    const isSaid =
      condition?.status === wanted.status && condition.reason === wanted.reason && condition.message === wanted.message;
    if (isSame && isSaid) return sent?.ips.some((ip) => !ips.includes(ip)) ? this.#touch(view, clock) : undefined;
    const gains = ips.filter((ip) => !ingress.includes(ip));
    if (gains.length > 0 && !isWaiting(view)) {
      return {
        ...this.#base(view, { status: "False", reason: MOVING, message: `it is to have ${wanted.message}` }, clock),
        ingress: undefined,
      };
    }
    if (gains.some((ip) => this.#isLeft(ip, key))) {
      this.#blocked.add(key);
      return undefined;
    }
    if (gains.filter((ip) => !this.#isAsked(ip, key, now)).length > 0) return undefined; // all of them are asked for
    return { ...this.#base(view, wanted, clock), ingress: isSame ? undefined : ips };
  }

  /** The address still stands in the status of a Service that does not have it any more. */
  #isLeft(ip: string, key: string): boolean {
    const has = (other: string) =>
      this.#ipam.verdict(other)?.addresses.some((address) => formatAddress(address) === ip);
    // The status of one that is no LoadBalancer any more is to be cleared first: it may come to be one again.
    const counts = (other: string) => this.#views.get(other)!.type !== "none" || this.#views.get(other)!.condition;
    return [...(this.#standing.get(ip) ?? [])].some((other) => other !== key && counts(other) && !has(other));
  }

  #base({ key, uid, version, condition, generation }: View, wanted: Condition | undefined, clock: string) {
    const since = condition && condition.status === wanted?.status ? condition.since : clock;
    return { key, uid, version, condition: wanted && { ...wanted, since, generation } };
  }

  /** The Services that wait, in their order, and those that keep an address that they would not be given. */
  *problems(): Generator<{ view: View; verdict: Verdict }> {
    for (const view of this.#views.values()) {
      const verdict = view.type === "balancer" ? this.#ipam.verdict(view.key) : undefined;
      if (verdict && (verdict.reason !== "Assigned" || verdict.kept !== undefined)) yield { view, verdict };
    }
  }
}

/** The time in which speakers may still answer for an address that no Service has any more, ms. */
const OURS = 60_000;

/** An address that somebody on the wire answers for. */
export interface Met {
  refusal: Refusal;
  /** The Services that were to have it. */
  keys: readonly string[];
  until: number;
}

/** The reason on a Service that is to get another address than the one that it has, though it does not ask for one. */
const MOVING = "Moving";

/** The Service tells by itself, whatever the pools are, that it may be given an address. */
function isWaiting({ type, applicant, condition }: View): boolean {
  if (type !== "balancer") return false;
  const { families, requested, standing } = applicant;
  const has = (family: Family) => standing.some((address) => familyOf(address) === family);
  return condition?.reason === MOVING || !families.every(has) || !requested.every((its) => standing.includes(its));
}

/** The condition that a Service is told. */
function conditionFor({ reason, message, kept, addresses }: Verdict): Condition {
  if (reason !== "Assigned") return { status: "False", reason, message: message.slice(0, 1000) };
  if (kept !== undefined)
    return { status: "True", reason: "Kept", message: `it keeps ${message}: ${kept}`.slice(0, 1000) };
  return { status: addresses.length > 0 ? "True" : "False", reason, message: message.slice(0, 1000) };
}
