import { nodeState } from "./abi.ts";
import type { Address } from "./address.ts";
import { Announcer } from "./announcer.ts";
import { type Claims, unansweredBy } from "./claims.ts";
import { countEntries, difference, isInTransit, isLeaving, LEAVE } from "./difference.ts";
import type { SegmentEvent, SegmentOptions, SegmentPlan } from "./events.ts";
import { type Candidates, Joining } from "./joining.ts";
import { LIVE_FOR } from "./liveness.ts";
import { Election, type Electorate, equals, ranker, Wish } from "./ownership.ts";
import { Peering } from "./peering.ts";
import { stateOf } from "./state.ts";
import { type Effects, type Entry, isHeld, isOwned, type Reading, type Self, Step, summary, UNOWNED } from "./step.ts";
import { type Ns, SECOND } from "./time.ts";
import { nodeId } from "./wire.ts";

/** VIPs that turn out to be lost this soon after a pause of the process were lost in the pause. */
const AWAKE: Ns = SECOND;

export type { SegmentEvent, SegmentOptions, SegmentPlan };

/**
 * One L2 segment, as this node sees it from one interface: who is alive, who must release a VIP first, what this node is
 * and what it announces. Events and the clock go in, effects come out as values; nothing else is read or called.
 */
export class Segment {
  readonly entries: Map<Address, Entry>;
  private readonly options: SegmentOptions;
  private readonly election = new Election();
  private plan: SegmentPlan | undefined;
  private names: ReadonlyMap<bigint, string> = new Map();
  private hashOf: (address: Address) => bigint = () => 0n;
  private peering: Peering | undefined;
  private announcer: Announcer | undefined;
  /** An earlier speaker served here: its last word and tick stand until this speaker has joined. */
  private isAdopted: boolean;
  private self: Self;
  private verifiedAt: Ns | undefined;
  /** This node's state, and whether old ticks counted, in the last election. */
  private electedAs: string | undefined;
  /** The election's inputs may have changed. */
  private isDirty = false;
  /** Entries to look at beside those that the election changed: they were written, or are on their way elsewhere. */
  private unsettled: Set<Address> | "all" = "all";
  /** When the entries that are leaving have left. */
  private leftAt: Ns | undefined;
  /** The kernel's counter of releases, as read last. */
  private releases = 0n;

  constructor(options: SegmentOptions, now: Ns) {
    const { pinned, entries } = options;
    const { LIVE, JOINING, LAGGING } = nodeState;
    this.options = options;
    this.entries = entries;
    this.isAdopted = pinned
      ? (pinned.state === LIVE || pinned.state === LAGGING) && pinned.tick > 0n
      : [...entries.values()].some(isOwned);
    const state = this.isAdopted ? (pinned?.state ?? LIVE) : JOINING;
    // A tick, for programs that are swapped in before the first verification: without one they would let everything pass.
    this.self = { state, sourceStale: false, tick: pinned?.tick || now, helloNonce: 0n, lastHelloNonce: 0n };
  }

  /** Takes in one event. @returns what is to be done about it, in order */
  handle(event: SegmentEvent, now: Ns): Effects {
    const step = new Step(now, this.entries);
    const { peering } = this;
    switch (event.kind) {
      case "plan":
        this.takePlan(event.plan, event.isAnnounced ?? false, step);
        break;
      case "wake":
        if (this.leftAt !== undefined && now >= this.leftAt) this.isDirty = true;
        peering?.wake(step);
        break;
      case "moved":
        this.announcer?.begin(this.entries, false, now);
        break;
      case "reading":
        if (peering) this.read(event.reading, peering, step);
        break;
      case "frame":
        peering?.hear(event.frame, step);
        break;
      case "foreigner":
        peering?.foreigners.hear(event.header, this.plan!.name, now);
        break;
      case "sent":
        peering?.sent(event);
        break;
      case "refused":
        this.announcer?.refused(event.addresses, this.plan!.name, step);
        break;
      case "answered":
        peering?.answered(event.address, event.mac, step);
        break;
      case "announced":
        if (!peering?.census.isHere(event.mac)) this.announcer?.defend(event, step);
        break;
      case "verified":
        this.verifiedAt = event.at;
        break;
    }
    if (this.plan) this.conclude(this.plan, step);
    return step;
  }

  /** This node's state on the interface now, as its kernel would say it. */
  state(now: Ns): number {
    const state = this.isJoined ? this.wantedState() : this.self.state;
    if (state !== this.self.state || state !== nodeState.LIVE || !this.plan) return state;
    return stateOf({ state, tick_ns: this.self.tick, live_ns: LIVE_FOR, hold_ns: this.plan.hold }, now);
  }

  /** This node's last words of itself. */
  get said(): Self {
    return this.self;
  }

  /** True if this node has its share of the VIPs, as far as its peers grant it. */
  get isReady(): boolean {
    if (!this.plan?.isUp || !this.peering) return true;
    return this.peering.joining.isConverged && this.peering.claims.isIdle;
  }

  /** True while nodes may be here that know version 1 of the wire format only. */
  needsOld(now: Ns): boolean {
    return this.peering?.needsOld(this.names, now) ?? false;
  }

  get isJoined(): boolean {
    return this.peering?.joining.isJoined ?? false;
  }

  /** The inputs of the last election. */
  get electorate(): Electorate | undefined {
    return this.election.inputs;
  }

  /** Peers that are or were heard. */
  get members() {
    return [...(this.peering?.census.members.values() ?? [])];
  }

  /** How many VIPs peers have refused for more than a second. */
  contested(now: Ns): number {
    return this.peering?.claims.contested(now) ?? 0;
  }

  warnings(now: Ns): string[] {
    if (!this.plan) return [];
    const { name } = this.plan;
    const mute = [...this.unanswered.values()].map((peer) => unansweredBy(peer.name, name));
    return [...(this.peering?.warnings(now) ?? []), ...mute, ...(this.announcer?.usurpers.warnings(name, now) ?? [])];
  }

  /** How often another machine has announced a VIP that is owned here. */
  get usurped(): number {
    return this.announcer?.usurpers.times ?? 0;
  }

  /** Peers that echo and have not answered a claim for a second: how many VIPs wait for each. */
  get unanswered(): Claims["unanswered"] {
    return this.peering?.claims.unanswered ?? new Map();
  }

  /** The election's word on one VIP; undefined where it is not managed here. */
  wish(address: Address): Wish | undefined {
    return this.election.get(address);
  }

  /** True if a frame with that nonce is a hello of this segment's, the last one or the one before. */
  isOwnHello(nonce: bigint): boolean {
    return nonce !== 0n && (nonce === this.self.helloNonce || nonce === this.self.lastHelloNonce);
  }

  private takePlan(plan: SegmentPlan, isAnnounced: boolean, step: Step): void {
    const before = this.plan;
    this.plan = plan;
    this.isDirty = true;
    if (before?.nodes !== plan.nodes) this.names = new Map(plan.nodes.map(({ name }) => [nodeId(name), name]));
    // Without peers, nobody ever compares it.
    if (plan.probes && before?.ranges !== plan.ranges) this.hashOf = ranker(plan.node, plan.ranges);
    this.takeLink(plan, step);
    this.announcer ??= new Announcer(plan.pace, step.now, this.options.random);
    this.announcer.configure(plan.pace, step.now);
    if (before && before.mac === plan.mac && (before.isUp || !plan.isUp)) return;
    this.announcer.begin(this.entries, isAnnounced, step.now);
  }

  /** Looks for peers while the interface is up; anew, where it came up again. */
  private takeLink(plan: SegmentPlan, step: Step): void {
    const { probes, isUp } = plan;
    if (probes && isUp && this.peering) this.peering.configure(plan, probes);
    else if (probes && isUp) {
      const { random, nonces } = this.options;
      const isLagging = this.isAdopted && this.self.state === nodeState.LAGGING;
      const joining = new Joining(step.now, isLagging, this.options.isRightful);
      this.peering = new Peering(plan, probes, joining, random, nonces, (address) => this.hashOf(address));
    } else {
      if (this.peering) step.forget = "all";
      this.peering = undefined;
    }
  }

  private read(reading: Reading, peering: Peering, step: Step): void {
    if (peering.read(reading, step)) this.isDirty = true;
    if (reading.releases !== this.releases) step.lookAt("all");
    this.releases = reading.releases;
    const { claims, census } = peering;
    if (claims.finish(census, reading.released, step, peering.sender(step)).length > 0) this.isDirty = true;
    this.takeReleases(reading.released, peering, step);
    peering.round(step, this.election);
  }

  /** VIPs that the kernel released are no longer owned here, and are not claimed again at once. */
  private takeReleases(released: readonly Address[], { claims, census }: Peering, step: Step): void {
    const lost = released.filter((address) => isHeld(this.entries.get(address)));
    if (lost.length === 0) return;
    for (const address of lost) step.set(address, UNOWNED);
    // VIPs that peers took while this process was paused are no dispute: before a pause were over, they might be released.
    if (step.now - census.wokeAt >= AWAKE) claims.lose(lost, step.now);
    this.isDirty = true;
  }

  /** Elects where something changed, and works out what is to be announced, to be said, and when to wake. */
  private conclude(plan: SegmentPlan, step: Step): void {
    this.say(plan, step); // before the election: after a pause, the tick of before it is not what this node is now
    const state = this.state(step.now);
    // A node that has run for less than `hold` cannot hold a peer's old tick against it: after all speakers were away, the
    // first one to come back would take everything.
    const countsAge = step.now - this.options.began >= plan.hold;
    const electedAs = `${state} ${countsAge}`;
    if (this.isDirty || electedAs !== this.electedAs) {
      this.isDirty = false;
      this.electedAs = electedAs;
      this.elect(plan, state, countsAge, step);
    }
    this.reportChanges(step);
    this.announcer!.run(step);
    if (this.peering) step.wake(this.peering.wakeAt(step.now));
    step.wake(this.leftAt);
  }

  private elect({ node, ranges }: SegmentPlan, state: number, countsAge: boolean, step: Step): void {
    this.settle(this.election.hold({ self: node, ranges, ...this.candidates(state, countsAge) }), step);
    const { peering } = this;
    if (!peering) return;
    const send = peering.sender(step);
    peering.claims.reassert(peering.joined(), step, send);
    peering.claims.run(peering.census, step, send);
  }

  private candidates(state: number, countsAge: boolean): Candidates {
    const { isUp, probes, node, nodes } = this.plan!;
    if (!probes) return equals(nodes.map(({ name }) => name));
    if (!this.peering || !isUp) return equals([]);
    const { census, joining } = this.peering;
    const its = { state, sourceStale: this.self.sourceStale, interfaceName: this.plan!.name };
    const self = { node: nodeId(node), name: node, ...its, onlyIPv4: false }; // its plan has no VIPs of IPv6 where it could not
    return joining.candidates(self, census, this.names, countsAge) ?? equals(undefined);
  }

  /** Brings entries to what the election wants, as far as no peer has to be asked. */
  private settle(changed: ReadonlySet<Address> | "all", step: Step): void {
    const { peering, election, entries } = this;
    const { now } = step;
    const canClaim = peering !== undefined && (!peering.census.isComplete(now) || peering.census.alive.size > 0);
    const hasPeers = peering?.claims.hasOthers(peering.census, now) ?? false;
    const isUndecided = peering?.joining.isJoined && peering.joining.unheard.isUndecided;
    const wanted = new Map<Address, { isStandIn: boolean }>();
    const again = new Set<Address>();
    for (const address of this.affected(changed, step)) {
      const wish = election.get(address);
      const before = entries.get(address);
      if (wish === undefined) {
        if (before) step.delete(address);
        continue;
      }
      // A deaf peer cannot claim a VIP that leaves: whoever is to have it has it, or finds by ARP that it is free.
      const isAsking = wish === Wish.other ? canClaim : hasPeers;
      const mustAsk = isAsking || (peering?.claims.isPausing(address, now) ?? false);
      if (isUndecided && wish === Wish.other && isOwned(before)) {
        again.add(address);
        continue;
      }
      const { entry, claim } = difference(wish, before, now, mustAsk, () => this.hashOf(address));
      if (entry !== before) step.set(address, entry);
      if (claim) wanted.set(address, { isStandIn: claim === "standIn" });
      if (claim || isInTransit(entry)) again.add(address);
    }
    this.unsettled = again;
    peering?.claims.want(wanted, step);
    this.leftAt = [...again].some((address) => isLeaving(entries.get(address), now)) ? now + LEAVE : undefined;
  }

  /** The VIPs to look at: where one of 10,000 changed, looking at the others would be most of the work. */
  private affected(changed: ReadonlySet<Address> | "all", { write }: Step): Set<Address> {
    if (changed !== "all" && this.unsettled !== "all") return new Set([...changed, ...this.unsettled, ...write.keys()]);
    return new Set([...this.entries.keys(), ...this.election.keys()]);
  }

  /** Announces what was gained, no longer what was lost, and logs both. */
  private reportChanges(step: Step): void {
    const { gained, lost } = step;
    if (this.unsettled !== "all") for (const address of step.write.keys()) this.unsettled.add(address);
    this.announcer!.follow(step);
    const disputed = [...step.disputed].filter((address) => !gained.has(address) && isOwned(this.entries.get(address)));
    if (disputed.length > 0)
      step.notice("info", `${summary(disputed)} stays here: another node that had it too has released it`);
    if (gained.size + lost.size === 0) return;
    const counts = countEntries(this.entries);
    const report = (addresses: ReadonlySet<Address>, what: string, field: string) => {
      if (addresses.size === 0) return;
      step.notice("info", `${summary([...addresses])} ${what}`, { [field]: addresses.size, ...counts });
    };
    report(gained, "is owned here now", "gained");
    report(lost, "is no longer owned here", "lost");
  }

  /** The words that this node is to say of itself: its state, not yet aged by its tick. */
  private wantedState(): number {
    const { DRAINED, LAGGING, LIVE, JOINING } = nodeState;
    if (this.plan?.isDrained) return DRAINED;
    if (this.peering && (this.plan?.isEnding || this.peering.joining.isLagging)) return LAGGING;
    if (!this.plan?.probes || this.isJoined) return LIVE;
    return this.isAdopted ? this.self.state : JOINING;
  }

  /** Says what this node is, and when all was well at last. Until it has joined, an earlier speaker's tick stands. */
  private say(plan: SegmentPlan, step: Step): void {
    if (this.isJoined || !plan.probes) this.isAdopted = false;
    const isTickKept = this.isAdopted && !plan.isDrained;
    const self: Self = {
      state: this.wantedState(),
      sourceStale: plan.isSourceStale || (this.peering?.joining.isStale ?? false),
      tick: isTickKept ? this.self.tick : (this.verifiedAt ?? this.self.tick),
      helloNonce: this.peering?.hellos.last ?? 0n,
      lastHelloNonce: this.peering?.hellos.before ?? 0n,
    };
    if (isSame(self, this.self)) return; // compared field by field: each step comes here
    const [lagged, lags] = [this.self.state, self.state].map((state) => state === nodeState.LAGGING);
    const stale = plan.isShort
      ? "it has no room for VIPs that others may hold"
      : "its source is stale and a peer's is not";
    const cause = plan.isEnding ? "its machine is being shut down" : stale;
    const why = `: ${cause}, so that fresh peers take the VIPs that they may own`;
    if (lags !== lagged)
      step.notice("info", `this node ${lags ? "lags" : "no longer lags"} on ${plan.name}${lags ? why : ""}`);
    this.self = self;
    step.self = self;
  }
}

const isSame = (a: Self, b: Self): boolean =>
  a.state === b.state &&
  a.sourceStale === b.sourceStale &&
  a.tick === b.tick &&
  a.helloNonce === b.helloNonce &&
  a.lastHelloNonce === b.lastHelloNonce;
