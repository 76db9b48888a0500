import { Acceptance } from "./acceptance.ts";
import type { Config } from "./config/config.ts";
import { readWireKeys, unsigned } from "./config/keys.ts";
import type { Demand } from "./core/demand.ts";
import type { SegmentEvent } from "./core/segment.ts";
import type { Frame } from "./core/step.ts";
import { earlier, MS, type Ns, toMs } from "./core/time.ts";
import { Mute, type Unserved, unservedText } from "./core/unserved.ts";
import { bootTime } from "./ffi/libc.ts";
import type { Log } from "./log.ts";
import { adoptConfig, type Plan, requireFit, segmentPlan } from "./plan.ts";
import { announcedBefore, Planner } from "./planner.ts";
import type { Snapshot } from "./report/snapshot.ts";
import { Reporter } from "./reporter.ts";
import type { SourceEvent } from "./source/source.ts";
import { Wiring, type WiringEvent } from "./wiring.ts";

/** How often the kernel's state is verified, and the tick, this control plane's heartbeat, is stamped. */
const TICK: Ns = 500n * MS;
/** How often links are asked for changes. */
const WATCH: Ns = 100n * MS;
/** Work that is due this soon is done with the present wake: a wake costs more than most of what is done in it. */
const SLACK: Ns = 20n * MS;

export const UNDRAINABLE =
  "Cannot drain with static membership, as no peer would learn of it. Set membership: { kind: wire }";

/** lenient: what fails on one interface keeps none of the others waiting, and is tried again. */
type Mode = "strict" | "lenient";
type Circumstances = Pick<Snapshot, "isDrained" | "isEnding" | "isSourceStale">;

/** Everything that wakes the speaker. */
type Event =
  | { kind: "config"; config: Config; demand: Demand; refuse: (error: Error) => void }
  | SourceEvent
  | { kind: "drain"; isDrained: boolean }
  /** A segment's time has come, or it is time to look at links and to tick. */
  | { kind: "wake" }
  | WiringEvent;

/**
 * The one loop. Events come in by one queue and are handled one at a time, so that nothing re-enters. A segment decides
 * what an event means for its interface; what it decides is applied before the next event is looked at.
 */
export class Speaker implements Disposable {
  readonly #reporter: Reporter;
  readonly #planner: Planner;
  readonly #wiring: Wiring;
  readonly #acceptance: Acceptance;
  readonly #resources: DisposableStack;
  readonly #ready = Promise.withResolvers<void>();
  readonly #mute = new Mute();
  readonly #queue: Event[] = [];
  #plan: Plan;
  #status: Circumstances = { isDrained: false, isEnding: false, isSourceStale: false };
  #isBusy = true;
  #timer: NodeJS.Timeout | undefined;
  #watchedAt: Ns = 0n;
  #tickedAt: Ns = 0n;

  /**
   * Takes over what an earlier speaker left, or starts anew. When this returns, the kernel answers for what it owned
   * before, or alone; {@link ready} tells when this node has its share among its peers.
   * @param isDrained it is to own nothing, until {@link drain} says otherwise
   * @throws Error in one line or more that say what to do; what was attached before is as it was, and nothing else is
   */
  constructor(config: Config, demand: Demand, log: Log, isDrained = false) {
    const { membership } = config;
    const canDrain = membership.kind === "wire";
    if (isDrained && !canDrain) log.warn(`${UNDRAINABLE}. Until then this node takes its share, though it was drained`);
    this.#status.isDrained = isDrained && canDrain;
    this.#reporter = new Reporter(log);
    using stack = new DisposableStack();
    this.#planner = stack.use(new Planner(announcedBefore(config.pinDir)));
    const plan = this.#planner.make(config, demand);
    requireFit(plan);
    const keys = membership.kind === "wire" ? readWireKeys(membership.keys) : undefined;
    this.#wiring = stack.use(new Wiring(config, demand, this.#planner.links, keys, log, (event) => this.#post(event)));
    this.#acceptance = stack.use(new Acceptance());
    this.#plan = { ...plan, links: [] };
    try {
      this.#commit(plan, "strict");
      this.#wiring.settle();
    } catch (error) {
      this.#wiring.undo();
      throw error;
    }
    stack.defer(() => clearTimeout(this.#timer));
    this.#resources = stack.move();
    this.#run();
  }

  /** Resolves when this node has its share of the VIPs among its peers; rejects where it must not serve. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get config(): Config {
    return this.#plan.config;
  }

  /** How many entries are owned here, and how many there are. */
  get counts(): { owned: number; managed: number } {
    return this.#wiring.counts;
  }

  /** Everything that status and metrics tell, as it is now. */
  snapshot(): Snapshot {
    const { config, demand, notes, gateways, leftOut } = this.#plan;
    return {
      ...{ config, demand, notes, gateways, leftOut, warnings: this.#warnings },
      lastError: this.#reporter.lastError,
      ...this.#status,
      ...this.#wiring.snapshot(),
    };
  }

  /** Puts a new configuration into effect. @throws Error where it is refused as a whole: then the old state stays */
  reload(config: Config, demand: Demand): void {
    let refusal: Error | undefined;
    this.#post({ kind: "config", config, demand, refuse: (error) => (refusal = error) });
    if (refusal) throw refusal;
  }

  /** The source has something new to say. */
  take(event: SourceEvent): void {
    this.#post(event);
  }

  /** @throws Error where peers would not learn of it */
  requireDrainable(): void {
    if (!this.#wiring.hasPeers) throw new Error(UNDRAINABLE);
  }

  /** Releases everything and claims nothing, or no longer. @throws Error as above */
  drain(isDrained: boolean): void {
    if (isDrained) this.requireDrainable();
    this.#post({ kind: "drain", isDrained });
  }

  #post(event: Event): void {
    this.#queue.push(event);
    if (!this.#isBusy) this.#run();
  }

  #run(): void {
    this.#isBusy = true;
    for (let event = this.#queue.shift(); event; event = this.#queue.shift()) this.#try(() => this.#handle(event));
    this.#isBusy = false;
    this.#try(() => this.#wiring.isReady && this.#ready.resolve());
    this.#sleep();
  }

  /** Does one thing of several that must not keep each other from being done: what fails is said, and comes again. */
  #try(body: () => unknown, mode: Mode = "lenient"): void {
    try {
      body();
    } catch (error) {
      if (mode === "strict") throw error;
      this.#reporter.fail((error as Error).message);
    }
  }

  #handle(event: Event): void {
    switch (event.kind) {
      case "config":
        this.#reconfigure(event.config, event.demand, event.refuse);
        break;
      case "demand":
        this.#replan(event.demand);
        break;
      case "stale":
        if (this.#status.isSourceStale !== event.isStale) this.#replan(undefined, { isSourceStale: event.isStale });
        break;
      case "ending":
      case "drain": {
        const { kind: _, ...changed } = event;
        this.#replan(undefined, changed);
        break;
      }
      case "wake":
        this.#wake(bootTime());
        break;
      case "own frame":
        this.#hearOwn(event.ifindex, event.frame);
        break;
      default:
        this.#step(event.ifindex, event);
    }
  }

  #replan(demand = this.#plan.demand, changed: Partial<Circumstances> = {}): void {
    this.#status = { ...this.#status, ...changed };
    this.#commit(this.#planner.make(this.#plan.config, demand), "lenient");
  }

  #step(ifindex: number, event: SegmentEvent): void {
    const { notices, conflict } = this.#wiring.step(ifindex, event);
    for (const notice of notices) this.#reporter.notice(notice);
    if (conflict) this.#ready.reject(new Error(conflict));
  }

  #reconfigure(config: Config, demand: Demand, refuse: (error: Error) => void): void {
    try {
      const adopted = adoptConfig(config, this.#plan.config, (message) => this.#reporter.log.warn(message));
      const keys = adopted.membership.kind === "wire" ? readWireKeys(adopted.membership.keys) : [];
      this.#planner.refresh();
      const plan = this.#planner.make(adopted, demand);
      requireFit(plan);
      this.#commit(plan, "strict");
      this.#wiring.keys.set(keys, demand);
    } catch (error) {
      this.#wiring.keep(this.#plan);
      refuse(error as Error);
    }
  }

  /** Puts a plan into effect. Hooks attach first: a plan of which one cannot be attached has moved nothing. */
  #commit(plan: Plan, mode: Mode): void {
    const announced = this.#wiring.attach(plan, mode === "strict", ({ message }) => this.#reporter.fail(message));
    this.#acceptance.withdraw(plan);
    this.#wiring.follow(plan);
    this.#plan = plan;
    const now = bootTime();
    if (now - this.#tickedAt >= TICK) this.#tick(now);
    const { isOldSpoken } = this.#wiring.keys;
    for (const planned of plan.links) {
      const { ifindex } = planned.link;
      const isDrained = this.#status.isDrained || this.#wiring.blocked.has(ifindex);
      const its = segmentPlan(plan, planned, { ...this.#status, isDrained, isOldSpoken });
      const step = () => this.#step(ifindex, { kind: "plan", plan: its, isAnnounced: announced.has(ifindex) });
      this.#try(step, mode);
    }
    this.#reporter.warn(this.#warnings, plan.notes);
  }

  /** VIPs that nobody announces, as no node has the interface. */
  get unserved(): readonly Unserved[] {
    return this.#mute.look(this.config.node, this.#plan, this.#wiring.attached.values(), bootTime());
  }

  get #warnings(): string[] {
    const said = [this.#plan.warnings, this.unserved.flatMap(unservedText), unsigned(this.config)];
    return [...said, this.#wiring.warnings, this.#acceptance.warnings].flat();
  }

  #wake(now: Ns): void {
    if (now >= this.#watchedAt + WATCH - SLACK) this.#try(() => this.#watch(now));
    const blocked = () => [...this.#wiring.blocked.keys()].join();
    const before = blocked();
    if (now >= this.#tickedAt + TICK - SLACK) this.#try(() => this.#tick(now));
    if (blocked() !== before) this.#try(() => this.#replan());
    for (const [ifindex, { wakeAt }] of this.#wiring.attached) {
      if (wakeAt !== undefined && wakeAt <= bootTime()) this.#try(() => this.#step(ifindex, { kind: "wake" }));
    }
    this.#reporter.warn(this.#warnings);
  }

  /** Where a link changed that matters, plans anew; a plan that failed is tried again. */
  #watch(now: Ns): void {
    this.#watchedAt = now;
    this.#acceptance.accept(this.#plan, this.#wiring);
    this.#planner.room = this.#wiring.table.room.at(now);
    const plan = this.#planner.watch(this.#plan, now);
    for (const ifindex of this.#planner.takeMoved()) this.#step(ifindex, { kind: "moved" });
    if (!plan) return;
    this.#commit(plan, "lenient");
    this.#planner.accept();
  }

  /** The kernel knows by the tick that all was well when the verification began, at least. */
  #tick(now: Ns): void {
    this.#tickedAt = now;
    for (const [ifindex, event] of this.#wiring.verify(now, (message) => this.#reporter.fail(message))) {
      this.#try(() => this.#step(ifindex, event));
    }
    if (this.#wiring.keys.endOld([...this.#wiring.attached.values()], this.#plan.demand, now)) this.#replan();
  }

  #hearOwn(ifindex: number, { nonce }: Frame): void {
    // Only a hello that was sent a moment ago is no recording.
    const from = [...this.#wiring.attached].find(([, { segment }]) => segment.isOwnHello(nonce))?.[0];
    const found = from === undefined ? undefined : this.#planner.hearOwn(this.#plan, ifindex, from, bootTime());
    if (!found) return;
    this.#reporter.fail(found);
    this.#replan();
  }

  /** Sets the timer for the next wake. With peers, their rounds are the occasion to look at links, if they come in time. */
  #sleep(): void {
    clearTimeout(this.#timer);
    const at = earlier(this.#watchedAt + WATCH + (this.#wiring.hasPeers ? SLACK : 0n), this.#wiring.wakeAt);
    this.#timer = setTimeout(() => this.#post({ kind: "wake" }), Math.max(0, Math.ceil(toMs(at - bootTime()))));
  }

  /** Stops the loop. The kernel goes on answering. */
  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}
