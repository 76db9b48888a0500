import type { Config } from "./config/config.ts";
import { readWireKeys, UNSIGNED } from "./config/keys.ts";
import { nodeState, vipState, wireType } from "./core/abi.ts";
import { type Address, formatAddress } from "./core/address.ts";
import { formatMac } from "./core/arp.ts";
import type { Demand } from "./core/demand.ts";
import { difference, type Held, LEAVE, UNOWNED } from "./core/difference.ts";
import { hash, hashNumber } from "./core/election.ts";
import { LIVE_FOR } from "./core/liveness.ts";
import { addressOf, type EntryKey, electAll, entryKey, ifindexOf, matches } from "./core/ownership.ts";
import { bootTime } from "./ffi/libc.ts";
import type { HookKind, Point } from "./kernel/hooks.ts";
import { Interfaces } from "./kernel/interfaces.ts";
import { Kernel } from "./kernel/kernel.ts";
import { VipTable } from "./kernel/vips.ts";
import { Announcer } from "./link/announcer.ts";
import { type Link, Links } from "./link/links.ts";
import { PacketSocket } from "./link/packet.ts";
import type { Log } from "./log.ts";
import { Claims } from "./membership/claims.ts";
import { Members } from "./membership/members.ts";
import { type Frame, type SelfStanding, WireMembership } from "./membership/wire.ts";
import {
  everybody,
  linksOf,
  makePlan,
  type Plan,
  type ResolvedConfig,
  requireFit,
  resolveInterfaces,
  UNKNOWN,
} from "./plan.ts";

/** How often the kernel's state is verified and the tick stamped, ms. */
const TICK = 500;
/** A turn this much early is taken for the tick's: the next one would be late by more, ms. */
const SLACK = 20;
/** For so long an interface is left alone after this node's frames were heard there by another one, ms. */
const DOUBLED = 60_000;
/** How often one error is said that stays, ms. */
const REPEAT = 60_000;
/** How often links are asked for changes where no peers are probed, ms. */
const WATCH = 100;

const NANOSECONDS = 1_000_000;
/** For so long after waking, what the kernel has given away was given away in the sleep, ns. */
const AWAKE = 1_000n * BigInt(NANOSECONDS);

export const UNDRAINABLE =
  "Cannot drain with static membership, as no peer would learn of it. Set membership: { kind: wire }";

/** How nodes that find each other own; undefined where all that are listed count as alive. */
interface Company {
  wire: WireMembership;
  members: Members;
  claims: Claims;
}

/**
 * The one loop: wanted - actual = changes. A new configuration, a link that changed, a tick that found something amiss:
 * each makes a plan and commits it, synchronously, so that no two of them ever mix.
 */
export class Speaker implements Disposable {
  readonly #log: Log;
  readonly #links: Links;
  readonly #socket: PacketSocket;
  readonly #kernel: Kernel;
  readonly #table: VipTable;
  readonly #announcer: Announcer;
  readonly #interfaces: Interfaces;
  readonly #timer: NodeJS.Timeout | undefined;
  /** Where to announce if a new configuration does not say. */
  readonly #firstInterfaces: string[];
  readonly #company: Company | undefined;
  readonly #ready = Promise.withResolvers<void>();
  /** All devices, as they were read last. */
  #devices: readonly Link[] = [];
  /** Interfaces that an earlier speaker served, on which its ticks still count until this one has joined its peers. */
  readonly #adopted = new Set<number>();
  /** Interfaces on one wire with another one, `kept`, which announces for both: why nothing is announced there, till when. */
  readonly #doubled = new Map<number, { kept: number; why: string; until: number }>();
  /** The kernel's counters of what it gave away, by interface. */
  readonly #releases = new Map<number, bigint>();
  #isDrained: boolean;
  #leaving: NodeJS.Timeout | undefined;
  #plan: Plan;
  /** Links changed, and the plan does not reflect it yet. */
  #isStale = false;
  #warnings = new Set<string>();
  #lastError: { at: string; message: string } | undefined;

  /**
   * Takes over what an earlier speaker left, or starts anew. When this returns, the kernel answers for what it owned
   * before, or alone; {@link ready} tells when it has its share among its peers.
   * @param isDrained it is to own nothing, until {@link drain} says otherwise
   * @throws Error in one line that says what to do; what was attached before is as it was, and nothing else is.
   */
  constructor(config: Config, demand: Demand, log: Log, isDrained = false) {
    const canDrain = config.membership.kind === "wire";
    if (isDrained && !canDrain) log.warn(`${UNDRAINABLE}. Until then this node takes its share, though it was drained`);
    this.#isDrained = isDrained && canDrain;
    this.#log = log;
    using stack = new DisposableStack();
    this.#links = stack.use(new Links());
    const resolved = resolveInterfaces(config, this.#links);
    this.#firstInterfaces = resolved.interfaces;
    this.#devices = this.#links.read();
    requireFit(resolved, demand, this.#devices);
    const keys = config.membership.kind === "wire" ? readWireKeys(config.membership.keys) : [];
    this.#kernel = stack.use(new Kernel(config.pinDir));
    this.#socket = stack.use(new PacketSocket());
    this.#announcer = stack.use(new Announcer(this.#socket, config.garp, (error) => this.#fail(error)));
    this.#table = new VipTable(this.#kernel.maps);
    this.#interfaces = new Interfaces(this.#kernel, this.#links, config.hook, log);
    const nothing = { ...demand, vips: [] };
    this.#plan = makePlan(resolved, nothing, this.#devices, UNKNOWN, "lenient");
    this.#plan = { ...this.#plan, links: [] };
    if (config.membership.kind === "wire") this.#company = this.#meet(config, keys, stack);
    // Another layout's programs answer till the hooks are swapped, and this one's must know by then what they answered.
    this.#table.takeOver(this.#kernel.formerEntries(), bootTime(), (key) => this.#hash(key));
    try {
      // All of it: what an earlier speaker left may be wanted no more.
      this.#commit({ ...this.#draft(resolved, demand, "strict"), changed: undefined }, "strict");
      this.#kernel.settle(
        this.#plan.links.map(({ ifindex }) => ifindex),
        this.#interfaces.points,
      );
    } catch (error) {
      this.#interfaces.undo();
      throw error;
    }
    // With peers, each round of probes is the occasion: another wake would cost more than what is done in it.
    if (!this.#company) this.#timer = setInterval(() => this.#turn(), WATCH);
    this.#checkReady();
    stack.move();
  }

  /** Looks for peers from now on. */
  #meet(config: Config, keys: ReturnType<typeof readWireKeys>, stack: DisposableStack): Company {
    const table = this.#table;
    const self = (ifindex: number) => this.#standing(ifindex);
    const options = this.#wireOptions(config, keys);
    const wire = stack.use(
      new WireMembership(this.#kernel.maps, this.#socket, options, {
        self,
        hello: (ifindex, nonce) => this.#interfaces.hello(ifindex, nonce),
        round: () => this.#turn(),
        changed: () => this.#round(() => this.#replan()),
        frame: (ifindex, frame) => this.#round(() => this.#frame(ifindex, frame)),
        namesake: (ifindex, frame) => this.#namesake(ifindex, frame),
        looped: (ifindex, from) => this.#round(() => this.#looped(ifindex, from)),
        isBarred: (ifindex) => this.#doubled.has(ifindex),
      }),
    );
    const changed = () => this.#round(() => this.#replan());
    const members = stack.use(new Members(config.node, wire, this.#socket, self, changed));
    const host = {
      has: (ifindex: number) => wire.has(ifindex),
      isSure: (ifindex: number) => wire.isSure(ifindex),
      alive: (ifindex: number) => wire.alive(ifindex),
      refresh: () => wire.refresh(),
      send: wire.send.bind(wire),
      nextNonce: () => wire.nextNonce(),
      hash: (key: EntryKey) => this.#hash(key),
      entries: table.entries,
      released: (keys: readonly EntryKey[]) => table.releasedOf(keys),
      write: (set: readonly (readonly [EntryKey, Held])[]) => table.write(set),
      won: (keys: readonly EntryKey[]) => this.#won(keys),
      lost: (keys: readonly EntryKey[]) => {
        this.#lost(keys);
        this.#replan();
      },
      contested: (keys: readonly EntryKey[], peer: string) => {
        const { address, others } = summary(keys);
        this.#log.warn(`${address}${others} is wanted here, and ${peer} does not give it: the nodes' views differ`);
      },
    };
    return { wire, members, claims: stack.use(new Claims(host)) };
  }

  #wireOptions({ node, membership, hold }: Config, keys: ReturnType<typeof readWireKeys>) {
    if (membership.kind !== "wire") throw new Error("Cannot look for peers with static membership"); // never reached
    return { node, keys, interval: membership.interval, dead: membership.dead, hold };
  }

  /** Resolves when this node has its share of the VIPs among its peers; rejects where it must not serve. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get hook(): HookKind {
    return this.#interfaces.hook;
  }

  get demand(): Demand {
    return this.#plan.demand;
  }

  get config(): Config {
    return this.#plan.config;
  }

  /** What the speaker serves now, for status and metrics. */
  get view() {
    return {
      plan: this.#plan,
      points: this.#interfaces.points,
      maps: this.#kernel.maps,
      entries: this.#table.entries,
      lastError: this.#lastError,
      announcements: (ifindex: number) => this.#announcer.sent(ifindex),
      isAttached: (ifindex: number, point: Point) => this.#interfaces.isAttached(ifindex, point),
      standing: (ifindex: number) => this.#standing(ifindex),
      members: (ifindex: number) => this.#company?.wire.members(ifindex) ?? [],
      contested: this.#company?.claims.contested ?? 0,
    };
  }

  /** A new configuration takes effect, or is refused as a whole: then this throws, and the old state stays. */
  reload(config: Config, demand: Demand): void {
    const next = { ...config };
    requireRestart("node", config.node, this.config.node);
    requireRestart("membership.kind", config.membership.kind, this.config.membership.kind);
    for (const key of ["hook", "pinDir", "runDir", "metrics"] as const) {
      if (JSON.stringify(config[key]) === JSON.stringify(this.config[key])) continue;
      this.#log.warn(`${key} changed in the file: it takes effect when isat is started again`);
      Object.assign(next, { [key]: this.config[key] });
    }
    const keys = next.membership.kind === "wire" ? readWireKeys(next.membership.keys) : [];
    const resolved = { ...next, interfaces: next.interfaces ?? this.#firstInterfaces };
    this.#devices = this.#links.read();
    requireFit(resolved, demand, this.#devices); // before anything of it takes effect: peers that are let go of are lost
    const { wire, members } = this.#company ?? {};
    const before = this.#plan;
    const options = wire?.options;
    try {
      wire?.configure(this.#wireOptions(next, keys));
      this.#commit(this.#draft(resolved, demand, "strict"), "strict");
      if (members) members.links = this.#plan.links;
    } catch (error) {
      // Undoes what was done of it until it failed; the new plan has used the old one's entries up.
      if (members) {
        wire!.configure(options!);
        members.nodes = before.demand.nodes;
        members.links = before.links;
      }
      this.#commit({ ...before, ...electAll(before.view) }, "lenient");
      throw error;
    }
  }

  /** The source of the VIPs has something new to say. */
  serve(demand: Demand): void {
    this.#commit(this.#draft(this.#plan.config, demand, "lenient"), "lenient");
  }

  /** The source has been out of reach, or is no more. */
  setSourceStale(isStale: boolean): void {
    if (this.#isSourceStale === isStale) return;
    this.#isSourceStale = isStale;
    this.#replan();
  }

  #isSourceStale = false;

  get isSourceStale(): boolean {
    return this.#isSourceStale;
  }

  /** @throws Error where peers would not learn of it */
  requireDrainable(): void {
    if (!this.#company) throw new Error(UNDRAINABLE);
  }

  /** Gives everything away and takes nothing, or no longer. @throws Error as above */
  drain(isDrained: boolean): void {
    if (isDrained) this.requireDrainable();
    this.#isDrained = isDrained;
    this.#replan();
  }

  get isDrained(): boolean {
    return this.#isDrained;
  }

  /** What is to be, with who is alive now. */
  #draft(config: ResolvedConfig, demand: Demand, mode: "strict" | "lenient"): Plan {
    const isMeant = (kept: number) => linksOf(config, this.#devices).some(({ ifindex }) => ifindex === kept);
    const doubled = [...this.#doubled].filter(([, { kept }]) => isMeant(kept));
    const barred = new Map(doubled.map(([ifindex, { why }]) => [ifindex, why]));
    const { members } = this.#company ?? {};
    this.#drafted = this.#standings;
    if (members) {
      members.nodes = demand.nodes;
      // Before the plan: peers are looked for on the links that are chosen, and only then is it known who they are.
      const links = linksOf(config, this.#devices, barred);
      // A configuration may be refused yet: till it stands, peers on the links of the one before are kept.
      const isKept = ({ ifindex }: Link) => mode === "strict" && !links.some((link) => link.ifindex === ifindex);
      members.links = [...links, ...this.#plan.links.filter(isKept)];
    }
    const candidates = members ? (link: Link) => members.candidates(link) : everybody(demand);
    const plan = makePlan(config, demand, this.#devices, candidates, mode, this.#plan, barred);
    const unsigned = config.membership.kind === "wire" && config.membership.keys === "none" ? [UNSIGNED] : [];
    return members ? { ...plan, warnings: [...plan.warnings, ...unsigned, ...members.warnings] } : plan;
  }

  /** Who is alive, or may own, is different from before. */
  #replan(): void {
    const { config, demand } = this.#plan;
    this.#commit(this.#draft(config, demand, "lenient"), "lenient");
    this.#greet();
    this.#checkReady();
  }

  /** Whoever came, or came back, is asked for what is owned here, lest it owns the same. */
  #greet(): void {
    if (!this.#company) return;
    const { wire, claims } = this.#company;
    for (const { ifindex } of this.#plan.links) {
      claims.defend(ifindex, wire.newcomers(ifindex));
    }
  }

  #isReady = false;

  #checkReady(): void {
    if (this.#isReady) return;
    const { wire, claims } = this.#company ?? {};
    const hasSettled = this.#plan.links.every(({ ifindex, isUp }) => !isUp || (wire?.isSettled(ifindex) ?? true));
    if (!hasSettled || !(claims?.isIdle ?? true)) return;
    this.#isReady = true;
    this.#ready.resolve();
  }

  /** What this node is on the interface: what it says with its next tick, which ends each commit. */
  #standing(ifindex: number): SelfStanding {
    const entry = this.#interfaces.entry(ifindex);
    const sourceStale = this.#isSourceStale;
    if (!entry) return { state: nodeState.JOINING, sourceStale };
    // From the moment it has joined, whether it has ticked since or not.
    const state = this.#company?.wire.isJoined(ifindex) ? this.#stateOf(ifindex) : entry.state;
    const age = state === entry.state ? bootTime() - entry.tick_ns : 0n;
    if (state !== nodeState.LIVE || age < entry.live_ns) return { state, sourceStale };
    return { state: age < entry.hold_ns ? nodeState.HEADLESS : nodeState.PAST_HOLD, sourceStale };
  }

  #frame(ifindex: number, frame: Frame): void {
    if (frame.type === wireType.WIRE_REPLY) {
      this.#company!.claims.reply(ifindex, frame);
      this.#checkReady();
    } else this.#checkReleases();
  }

  /** What the kernel has given to peers is no longer announced, nor asked for again at once. */
  #checkReleases(): void {
    const keys = this.#table.released();
    if (keys.length === 0) return;
    this.#table.write(keys.map((key) => [key, UNOWNED]));
    // What peers took while this node was asleep is no quarrel: by the time a pause were over, they might have let go.
    if (bootTime() - this.#wake() >= AWAKE) this.#company?.claims.pause(keys);
    this.#lost(keys);
    this.#replan();
  }

  #won(keys: readonly EntryKey[]): void {
    for (const key of keys) this.#announcer.gain(ifindexOf(key), addressOf(key));
    this.#announcer.run();
    const { address, others } = summary(keys);
    this.#log.info({ gained: keys.length, ...this.counts }, `${address}${others} is owned here now`);
  }

  #lost(keys: readonly EntryKey[]): void {
    for (const key of keys) this.#announcer.lose(ifindexOf(key), addressOf(key));
    const { address, others } = summary(keys);
    this.#log.info({ lost: keys.length, ...this.counts }, `${address}${others} went to a peer`);
  }

  /** Another machine has this node's name. */
  #namesake(ifindex: number, frame: Frame): void {
    const { node } = this.#plan.config;
    const name = this.#plan.links.find((link) => link.ifindex === ifindex)?.name;
    const text = `another node on ${name}, with MAC ${formatMac(frame.source)}, has this node's name: ${node}. Give each node a name of its own`;
    if (this.#company!.wire.isJoined(ifindex)) {
      this.#fail(new Error(text));
      return;
    }
    this.#company!.wire.warnNamesake(ifindex, frame);
    this.#ready.reject(new Error(`Cannot serve as ${text}`));
  }

  /** Our own frames came in. */
  #looped(ifindex: number, from: number): void {
    const barred = this.#doubled.get(ifindex);
    if (barred) {
      barred.until = performance.now() + DOUBLED;
      return;
    }
    const nameOf = (index: number) => this.#plan.links.find((link) => link.ifindex === index)?.name ?? `${index}`;
    if (ifindex === from) {
      this.#fail(new Error(`isat's own frames come back on ${nameOf(ifindex)}: there is a loop in the network`));
      return;
    }
    const [first, second] = nameOf(from) < nameOf(ifindex) ? [from, ifindex] : [ifindex, from];
    const [kept, left] = [nameOf(first), nameOf(second)];
    this.#fail(
      new Error(`${kept} and ${left} are on one wire: announcing on ${kept} only. Take ${left} out of interfaces:`),
    );
    const why = `it is on one wire with ${kept}, which announces for both`;
    this.#doubled.set(second, { kept: first, why, until: performance.now() + DOUBLED });
    this.#replan();
  }

  /** The hash with which this node owns an entry. Without peers nobody asks for it. */
  #hash(key: EntryKey): bigint {
    if (!this.#company) return 0n;
    const { config, demand } = this.#plan;
    if (this.#hashTexts?.demand !== demand) this.#hashTexts = { demand, of: hashTexts(demand) };
    const address = addressOf(key);
    return hashNumber(hash(config.node, this.#hashTexts.of.get(address) ?? formatAddress(address)));
  }

  #hashTexts: { demand: Demand; of: ReadonlyMap<Address, string> } | undefined;

  /** One round of the loop: what fails is said, and tried again by the next. */
  #round(body: () => void): void {
    try {
      body();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** The errors that were said lately, and when. */
  readonly #said = new Map<string, number>();

  /** Says it, and what stays wrong once a minute. */
  #fail(error: Error): void {
    const { message } = error;
    const now = performance.now();
    for (const [said, at] of this.#said) if (now - at >= REPEAT) this.#said.delete(said);
    if (!this.#said.has(message)) {
      this.#log.error(message);
      this.#said.set(message, now);
    }
    this.#lastError = { at: new Date().toISOString(), message };
  }

  /**
   * Makes the plan so. Hooks come after what is said of their interface, and before what may be answered there: a plan
   * that fails as one cannot be attached has moved nothing.
   * @param mode lenient: an interface to which nothing can be attached keeps none of the others waiting; the ticks try on
   */
  #commit(plan: Plan, mode: "strict" | "lenient"): void {
    const before = this.#plan;
    const oldLink = (ifindex: number) => before.links.find((link) => link.ifindex === ifindex);
    const changed = (link: Link) => describe(link) !== describe(oldLink(link.ifindex));
    this.#warn(plan.warnings);

    /** Interfaces on which all that is owned is announced anew, and those that an earlier speaker served till now. */
    const anew = new Set<number>();
    const adopted = new Set<number>();

    for (const link of plan.links) {
      const old = oldLink(link.ifindex);
      if (!old && this.#interfaces.pinned(link.ifindex)?.mac_text === formatMac(link.mac)) adopted.add(link.ifindex);
      if (!old || formatMac(old.mac) !== formatMac(link.mac) || (link.isUp && !old.isUp)) anew.add(link.ifindex);
      if (old && changed(link)) this.#log.info({ interface: link.name }, `interface changed: ${describe(link)}`);
      this.#writeInterface(link, plan);
      this.#announcer.add(link.ifindex, link.mac);
    }
    this.#announcer.setPace(plan.config.garp);

    for (const link of plan.links.filter(({ ifindex }) => !oldLink(ifindex))) {
      try {
        const how = this.#interfaces.attach(link);
        if (how === "attached") adopted.delete(link.ifindex);
        this.#log.info({ interface: link.name, hook: this.hook }, `interface ${describe(link)}: ${this.hook} ${how}`);
      } catch (error) {
        if (mode === "strict") throw error;
        this.#fail(error as Error);
      }
    }

    const actual = this.#table.entries;
    this.#table.rename(namesOf(plan.links));
    this.#plan = { ...this.#plan, config: plan.config, demand: plan.demand };
    const { wire, claims } = this.#company ?? {};
    const accompanied = new Set(
      plan.links.map(({ ifindex }) => ifindex).filter((ifindex) => wire?.isAccompanied(ifindex)),
    );
    const unsettled = this.#table.takeUnsettled();
    const { set, claim, stead, remove } = difference(plan.entries, actual, {
      only: plan.changed && new Set([...plan.changed, ...unsettled]),
      now: bootTime(),
      mustAsk: (key) => accompanied.has(ifindexOf(key)) || (claims?.isPausing(key) ?? false),
      hash: (key) => this.#hash(key),
    });
    const isOwned = (held: Held | undefined) => held?.state === vipState.OWNED;
    const gained = set.filter(([key, held]) => isOwned(held) && !isOwned(actual.get(key))).map(([key]) => key);
    const noLonger = set.filter(([, held]) => !isOwned(held)).map(([key]) => key);
    const lost = [...noLonger, ...remove].filter((key) => isOwned(actual.get(key)));
    this.#table.replace(set, remove);

    const left = this.#interfaces.keep(plan.links.map(({ ifindex }) => ifindex));
    for (const ifindex of left) this.#announcer.remove(ifindex);
    this.#plan = plan;

    for (const key of lost) this.#announcer.lose(ifindexOf(key), addressOf(key));
    const isGained = new Set(gained);
    for (const [key, held] of anew.size > 0 ? actual : []) {
      if (!isOwned(held) || !anew.has(ifindexOf(key)) || isGained.has(key)) continue;
      if (adopted.has(ifindexOf(key))) this.#announcer.keep(ifindexOf(key), addressOf(key));
      else this.#announcer.gain(ifindexOf(key), addressOf(key));
    }
    for (const key of gained) this.#announcer.gain(ifindexOf(key), addressOf(key));
    if (set.length + remove.length > 0) {
      const change = { written: set.length, removed: remove.length, gained: gained.length, lost: lost.length };
      this.#log.info({ ...change, ...this.counts }, "entries applied");
    }
    if (bootTime() - this.#verified < BigInt(TICK * NANOSECONDS)) this.#stampAll();
    else this.#tick();
    claims?.want(claim, stead);
    this.#announcer.run();
    clearTimeout(this.#leaving);
    const isPassing = (state: number | undefined) => state === vipState.LEAVING || state === vipState.CLAIMING;
    const touched = [...unsettled, ...set.map(([key]) => key)];
    this.#table.keepUnsettled([...claim, ...stead, ...touched.filter((key) => isPassing(actual.get(key)?.state))]);
    const isLeaving = touched.some((key) => actual.get(key)?.state === vipState.LEAVING);
    if (isLeaving) this.#leaving = setTimeout(() => this.#round(() => this.#replan()), Number(LEAVE) / NANOSECONDS);
  }

  /** Entries owned here, and all. */
  get counts(): { owned: number; managed: number } {
    let owned = 0;
    for (const { state } of this.#table.entries.values()) if (state === vipState.OWNED) owned += 1;
    return { owned, managed: this.#table.entries.size };
  }

  #warn(warnings: readonly string[]): void {
    for (const warning of warnings) if (!this.#warnings.has(warning)) this.#log.warn(warning);
    this.#warnings = new Set(warnings);
  }

  #writeInterface(link: Link, { config: { node, hold, fence }, entries }: Plan): void {
    const pinned = this.#interfaces.pinned(link.ifindex);
    // Till it has joined its peers, this speaker leaves the last one's word and tick as they are: nothing has changed yet.
    const isServed = pinned ? pinned.state === nodeState.LIVE && pinned.tick_ns > 0n : this.#owns(link.ifindex);
    if (!this.#interfaces.entry(link.ifindex) && this.#company && isServed) this.#adopted.add(link.ifindex);
    this.#interfaces.write(link, {
      node,
      hold,
      fence,
      incarnation: this.#company?.wire.incarnation ?? 0n,
      state: this.#stateOf(link.ifindex),
      sourceStale: this.#isSourceStale,
      address: link.addresses.find(({ address }) => !entries.has(entryKey(link.ifindex, address)))?.address,
    });
  }

  #owns(ifindex: number): boolean {
    for (const [key, { state }] of this.#table.entries) {
      if (state === vipState.OWNED && ifindexOf(key) === ifindex) return true;
    }
    return false;
  }

  /** What this node says of itself with its next tick. */
  #stateOf(ifindex: number): number {
    if (this.#isDrained) return nodeState.DRAINED;
    if (this.#company?.wire.isLagging(ifindex)) return nodeState.LAGGING;
    if (!this.#company || this.#company.wire.isJoined(ifindex) || this.#adopted.has(ifindex)) return nodeState.LIVE;
    return nodeState.JOINING;
  }

  /** What is to be done again and again. */
  #turn(): void {
    this.#checkReady();
    this.#round(() => this.#watch());
    if (performance.now() - this.#beaten < TICK - SLACK) return;
    this.#beaten = performance.now();
    this.#round(() => this.#beat());
  }

  #beaten = Number.NEGATIVE_INFINITY;

  /** A tick; and where it makes this node another one than the plan was made for, as after a sleep, a new plan. */
  #beat(): void {
    this.#tick();
    if (this.#company && this.#standings !== this.#drafted) this.#replan();
  }

  /** What this node is, on each of its links. */
  get #standings(): string {
    return this.#plan.links.map(({ ifindex }) => `${ifindex} ${this.#standing(ifindex).state}`).join();
  }

  /** That, when the plan was made. */
  #drafted = "";

  /** When this process ran last, and when it last woke from a sleep so long that its node was held meanwhile, ns. */
  #ran = bootTime();
  #woke = 0n;

  /** @returns when this process woke last */
  #wake(): bigint {
    const now = bootTime();
    if (now - this.#ran >= BigInt(LIVE_FOR * NANOSECONDS)) this.#woke = now;
    this.#ran = now;
    return this.#woke;
  }

  /**
   * Verifies what the kernel holds, mends it, and stamps the tick where all was well, with the clock as read at the
   * start: the kernel then knows that all was well at that moment, at least.
   */
  #tick(): void {
    this.#wake();
    const started = bootTime();
    if (!this.#table.verify()) {
      this.#log.error("the kernel's map does not hold what was written (changed by another program?): writing it anew");
      this.#table.mend();
      return;
    }
    this.#verified = started;
    this.#stampAll();
  }

  /** When the last verification that passed began, ns. */
  #verified = 0n;

  /** Says what this node is, and when all was well at last. */
  #stampAll(): void {
    for (const link of this.#plan.links) this.#round(() => this.#stamp(link));
  }

  #stamp(link: Link): void {
    const { ifindex } = link;
    if (this.#interfaces.reattach(link, (error) => this.#fail(error)) === "reattached") return;
    if (this.#adopted.has(ifindex) && !this.#isDrained) {
      if (!this.#company!.wire.isJoined(ifindex)) return;
      this.#adopted.delete(ifindex);
    }
    const said = { state: this.#stateOf(ifindex), sourceStale: this.#isSourceStale };
    this.#interfaces.stamp(ifindex, this.#verified, said);
  }

  /** Looks whether links changed, and if any that matters did, plans anew; a plan that failed is tried again. */
  #watch(): void {
    const { config, demand, links } = this.#plan;
    if (this.#company) this.#watchReleases();
    const known = new Set(links.map(({ ifindex }) => ifindex));
    const concerns = (name: string, ifindex: number) => known.has(ifindex) || matches(name, config.interfaces);
    this.#isStale ||= this.#links.changed(concerns);
    for (const [ifindex, { until }] of this.#doubled) {
      if (performance.now() >= until) this.#isStale = this.#doubled.delete(ifindex);
    }
    if (!this.#isStale) return;
    this.#devices = this.#links.read();
    const before = this.#drafted;
    const plan = this.#draft(config, demand, "lenient");
    const isAsBefore = this.#drafted === before && plan.links.map(describe).join() === links.map(describe).join();
    if (!isAsBefore) this.#commit(plan, "lenient");
    this.#isStale = false;
  }

  /** A notice may be lost: the kernel's own count of what it gave away is not. */
  #watchReleases(): void {
    let isMore = false;
    for (const { ifindex } of this.#plan.links) {
      const released = this.#kernel.maps.verdicts.getField(ifindex, "released") ?? 0n;
      if (released !== (this.#releases.get(ifindex) ?? 0n)) isMore = true;
      this.#releases.set(ifindex, released);
    }
    if (isMore) this.#checkReleases();
  }

  /** Stops the loop. The kernel goes on answering. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    clearTimeout(this.#leaving);
    if (this.#company) {
      const { wire, members, claims } = this.#company;
      for (const part of [claims, members, wire]) part[Symbol.dispose]();
    }
    this.#announcer[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
    this.#links[Symbol.dispose]();
    this.#kernel[Symbol.dispose]();
  }
}

/** @throws Error where the value is another than it was */
export function requireRestart(key: string, value: string, before: string): void {
  if (value !== before) throw new Error(`${key} is now ${value}: that takes effect when isat is started again`);
}

/** What is hashed for the addresses that do not hash as themselves. */
function hashTexts({ vips }: Demand): Map<Address, string> {
  const texts = new Map<Address, string>();
  for (const { first, last, hashAs } of vips) {
    if (hashAs === undefined) continue;
    for (let address = first; address <= last; address++) texts.set(address, hashAs);
  }
  return texts;
}

/** The first of the VIPs, and how many others. */
function summary(keys: readonly EntryKey[]): { address: string; others: string } {
  const others = keys.length > 1 ? ` (and ${keys.length - 1} more)` : "";
  return { address: formatAddress(addressOf(keys[0]!)), others };
}

const namesOf = (links: readonly Link[]) => new Map(links.map(({ ifindex, name }) => [ifindex, name]));

/** What of a link matters here. */
function describe(link: Link | undefined): string {
  if (!link) return "";
  const addresses = link.addresses.map(({ address, prefix }) => `${formatAddress(address)}/${prefix}`).join(" ");
  return `${link.name} (ifindex ${link.ifindex}, ${formatMac(link.mac)}, ${addresses || "no address"}, ${link.isUp ? "up" : "down"})`;
}
