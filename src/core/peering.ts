import { nodeState, wireType } from "./abi.ts";
import { type Address, addressOfBytes, formatAddress } from "./address.ts";
import { BROADCAST, formatMac } from "./arp.ts";
import { Claims, type Nonces, type Send } from "./claims.ts";
import type { NodeEntry } from "./demand.ts";
import { Foreigners } from "./foreigners.ts";
import { type Hearing, Hearsay } from "./hearsay.ts";
import type { Joining } from "./joining.ts";
import { Census, type ProbeOptions } from "./liveness.ts";
import type { Election } from "./ownership.ts";
import { FEW } from "./presence.ts";
import type { Departure, Frame, Heard, Outgoing, Reading, Step } from "./step.ts";
import { earlier, later, MS, type Ns, SECOND } from "./time.ts";
import type { Surroundings } from "./unheard.ts";
import { claimsWithin, isMine, nodeId, OLD_VERSION, VERSION } from "./wire.ts";

/** A peer that has been dead for so long is forgotten. Until then it is probed, so that its return is soon noticed. */
const FORGET: Ns = 600n * SECOND;
/** The longest time between two rounds: the speaker ticks with them. */
const LONGEST: Ns = 500n * MS;
/** The shortest time between two rounds, and between two looks at the peers on account of an echo. */
const REST: Ns = 5n * MS;

/** The part of the segment's plan that peering needs. */
export interface PeeringPlan {
  /** The interface's name, for people. */
  name: string;
  mac: string;
  /** The interface's: frames fit it. */
  mtu: number;
  /** This node's name. */
  node: string;
  nodes: readonly NodeEntry[];
  /** The default gateways of this machine. */
  gateways: readonly Address[];
  isSourceStale: boolean;
  /** Nodes that know version 1 of the wire format only are looked for too. */
  isOldSpoken: boolean;
}

/**
 * The peers of one segment while they are looked for, which is while the interface is up and membership is not static:
 * who is alive, how far this node has joined them, and what is claimed of them.
 */
export class Peering {
  readonly census: Census;
  readonly joining: Joining;
  readonly claims: Claims;
  readonly foreigners = new Foreigners();
  readonly hearsay = new Hearsay();
  /** The nonces of the last hello and of the one before; 0: none. */
  hellos = { last: 0n, before: 0n };
  private plan: PeeringPlan;
  /** The source's other nodes, by id. */
  private others: ReadonlyMap<bigint, NodeEntry>;
  /** The others on which isat has never served, and of which ARP has not shown that nothing answers for their VIPs. */
  private strangers: Map<bigint, NodeEntry>;
  private readonly nonces: Nonces;
  /** How often each live peer had joined when {@link joined} was called last. */
  private joins: ReadonlyMap<bigint, number> = new Map();
  /** The nonce of the last probe to each peer. */
  private readonly probes = new Map<bigint, bigint>();
  private roundAt: Ns;
  /** A round begins with the next reading. */
  private isRound = false;
  /** When echoes that came in are looked at; undefined: none waits. */
  private newsAt: Ns | undefined;
  private readAt: Ns = 0n;
  /** The last report of each peer. */
  private readonly reported = new Map<bigint, "alive" | "lagging" | "deaf" | "apart" | "dead">();
  /** Rounds in which peers are still to be told that our MAC is another. */
  private macRounds = 0;

  constructor(
    plan: PeeringPlan,
    probes: ProbeOptions,
    joining: Joining,
    random: () => number,
    nonces: Nonces,
    hashOf: (address: Address) => bigint,
  ) {
    this.plan = plan;
    this.others = othersOf(plan);
    this.strangers = new Map(this.others);
    this.nonces = nonces;
    this.census = new Census(probes, joining.began, random);
    this.joining = joining;
    this.claims = new Claims(nonces, hashOf, plan.mtu);
    this.roundAt = joining.began;
  }

  configure(plan: PeeringPlan, probes: ProbeOptions): void {
    if (plan.mac !== this.plan.mac) this.macRounds = probes.dead;
    if (plan.nodes !== this.plan.nodes) {
      this.others = othersOf(plan);
      this.strangers = new Map(this.others);
      this.hearsay.only(this.others);
    }
    this.plan = plan;
    this.census.options = probes;
    this.claims.fit(plan.mtu);
  }

  /** When {@link wake} is to be called. */
  wakeAt(now: Ns): Ns {
    const rounds = earlier(this.isRound ? now : this.roundAt, this.newsAt);
    return earlier(rounds, this.claims.wakeAt);
  }

  wake(step: Step): void {
    if (step.now >= this.roundAt) this.isRound = true;
    const hasNews = this.newsAt !== undefined && step.now >= this.newsAt;
    if (this.isRound || hasNews) step.lookAt([]);
    this.claims.run(this.census, step, this.sender(step));
  }

  /** Takes what the kernel's maps say of peers. @returns whether anything that an election goes by is different */
  read({ peers, seen }: Reading, step: Step): boolean {
    const { now } = step;
    this.newsAt = undefined;
    this.readAt = now;
    const self = nodeId(this.plan.node);
    const others = peers.filter(({ node }) => node !== self);
    const isChanged = this.census.observe(others, now);
    const isHeardOf = this.judgeHearsay(now);
    const hasJoined = this.joining.observe(this.census, this.plan.isSourceStale, now);
    this.joining.unheard.see(seen);
    const isJudged = this.joining.isJoined && this.joining.unheard.judge(this.surroundings, now);
    this.reportPeers(step);
    this.forgetDead(step);
    this.foreigners.forget(now);
    this.claims.holders.nodes = this.joining.silent(this.census);
    return isChanged || isHeardOf || hasJoined || isJudged;
  }

  private judgeHearsay(now: Ns): boolean {
    const { census, hearsay } = this;
    const isChanged = hearsay.judge((node) => census.members.get(node), census.interval, census.options.dead, now);
    census.believe(hearsay.heard);
    return isChanged;
  }

  /** Reports each peer's death, deafness, return and lagging once. */
  private reportPeers(step: Step): void {
    for (const [node, { isAlive, isDeaf, heard, hearing, presence }] of this.census.members) {
      const before = this.reported.get(node);
      const living = heard.state === nodeState.LAGGING ? "lagging" : "alive";
      const now = isAlive ? living : isDeaf ? "deaf" : hearing ? "apart" : "dead";
      // A peer that has not answered yet is none that died.
      if (now === before || (!before && !isAlive)) continue;
      this.reported.set(node, now);
      const peer = `peer ${heard.name} on ${this.plan.name}`;
      const isBack = before === "dead" || before === "deaf" || before === "apart";
      // To who was not heard, this node may have been dead, so that its VIPs were taken and announced.
      if (before === "dead" || before === "apart") step.isPeerBack = true;
      if (now === "dead") step.notice("info", `${peer} is dead: it no longer answers, and other nodes take its VIPs`);
      else if (now === "apart")
        step.notice("info", `${peer} is not heard here any more, and ${hearing!.by} hears it: it keeps its VIPs`);
      else if (now === "deaf") {
        const what = presence.answeredFor === undefined ? "" : ` for ${formatAddress(presence.answeredFor)}`;
        step.notice("info", `${peer} is deaf: it answers no probe, but ARP${what}. It keeps its VIPs`);
      } else if (!before || isBack) step.notice("info", `${peer} answers${isBack ? " again" : ""}`);
      const why = heard.sourceStale ? "its source is stale" : "its machine is being shut down";
      if (now === "lagging") step.notice("info", `${peer} lags: ${why}, and fresh nodes take its VIPs`);
      else if (before === "lagging" && now === "alive") step.notice("info", `${peer} no longer lags`);
    }
  }

  private forgetDead(step: Step): void {
    for (const [node, { isAlive, isDeaf, hearing, aliveAt }] of this.census.members) {
      if (isAlive || isDeaf || hearing || step.now - aliveAt < FORGET) continue;
      step.forgetPeer(node);
      this.census.forget(node);
      this.probes.delete(node);
      this.reported.delete(node);
    }
  }

  /**
   * Where a round has begun, sends the probes that are due, and asks the wire for peers that miss theirs.
   * @param shares tells a few of the VIPs that a node wins
   */
  round(step: Step, shares: Pick<Election, "shareOf">): void {
    if (!this.isRound) return;
    this.isRound = false;
    const { census, joining } = this;
    const { now } = step;
    if (this.macRounds > 0) {
      this.macRounds -= 1; // until they know, peers send to an old MAC, which nobody answers
      for (const peer of census.alive.values()) this.send(step, wireType.WIRE_NOTICE, peer, this.nonces.next(now));
    }
    if (census.isHelloDue(now)) {
      this.hellos = { before: this.hellos.last, last: this.nonces.next(now) };
      this.greet(step, this.hellos.last);
    }
    this.ask(step, shares);
    this.inquire(step);
    for (const node of census.due(now)) this.probe(census.get(node)!, step);
    // Each wake costs more than what is done in it, so there is one a round; more only while this node joins, or where a
    // peer is about to be dead.
    const isUrgent = !joining.isJoined || census.isCloseToDeath;
    const pause = earlier(isUrgent ? census.patience : census.interval, census.options.interval);
    this.roundAt = now + later(REST, earlier(pause, LONGEST));
  }

  private versionFor({ maxVersion }: Heard): number {
    return maxVersion < VERSION && this.plan.isOldSpoken ? OLD_VERSION : VERSION;
  }

  /** A hello to all; said in version 1 as well, where that is spoken. */
  private greet(step: Step, nonce: bigint): void {
    this.send(step, wireType.WIRE_PROBE, undefined, nonce);
    if (!this.plan.isOldSpoken) return;
    const hello = step.send.at(-1)!;
    step.send.push({ ...hello, version: OLD_VERSION });
  }

  /**
   * True if nodes may be there that know version 1 only: for the first ten minutes, and until the last one of them has not
   * been heard for as long. A node of another cluster that speaks it counts only under the name of one of the source's nodes.
   */
  needsOld(names: ReadonlyMap<bigint, string>, now: Ns): boolean {
    if (now - this.joining.began < FORGET) return true;
    return [...this.census.members].some(([node, { heard }]) => heard.maxVersion <= OLD_VERSION && names.has(node));
  }

  private probe(peer: Heard, step: Step): void {
    const nonce = this.nonces.next(step.now);
    step.probes.push({ peer, nonce, lastNonce: this.probes.get(peer.node) ?? 0n });
    this.probes.set(peer.node, nonce);
    this.send(step, wireType.WIRE_PROBE, peer, nonce);
  }

  /** Asks the wire for a few VIPs of each peer that misses its probes; and for all nodes, where none has been heard. */
  private ask(step: Step, shares: Pick<Election, "shareOf">): void {
    for (const { heard, presence, isAlive, isDeaf } of this.census.doubtful(step.now)) {
      const entry = this.others.get(heard.node);
      const share = entry ? shares.shareOf(entry.name) : [];
      const { node, mac } = heard;
      for (const target of presence.aim(share, entry?.address, isAlive || isDeaf)) step.ask.push({ node, target, mac });
    }
    const { isJoined, unheard } = this.joining;
    if (isJoined) step.ask.push(...unheard.questions(this.surroundings, shares, step.now));
    this.claims.holders.nodes = this.joining.silent(this.census);
  }

  /** The nodes that ARP is to tell of: all while no peer is heard; then those on which isat has never served. */
  private get surroundings(): Surroundings {
    const { joining, census, hearsay, plan, strangers } = this;
    if (!joining.hasHeard) return { others: [...this.others.values()], bystanders: plan.gateways, hasPeers: false };
    for (const [node, { name }] of strangers) {
      const hasServed = census.members.get(node)?.hasServed || servesBy(hearsay.heard.get(node));
      if (hasServed || joining.unheard.isAway(name)) strangers.delete(node);
    }
    // Whoever answers for all nodes answers for a few peers too.
    const peers = strangers.size > 0 ? [...census.alive.keys()].slice(0, FEW) : [];
    const addresses = peers.flatMap((node) => this.others.get(node)?.address ?? []);
    return { others: [...strangers.values()], bystanders: [...plan.gateways, ...addresses], hasPeers: true };
  }

  /** Asks peers for the nodes that do not answer here: often where one is not dead, or while this node joins. */
  private inquire(step: Step): void {
    const { census, hearsay, joining } = this;
    const { now } = step;
    const isUrgent = (node: bigint) => {
      const member = census.members.get(node);
      return !joining.isConverged || member?.isAlive || member?.isDeaf || hearsay.heard.has(node);
    };
    const isAsked = (node: bigint) =>
      !census.isSureOf(node, now) && hearsay.isDue(node, isUrgent(node) ? census.patience : census.askPause, now);
    const nodes = [...this.others.keys()].filter(isAsked);
    if (nodes.length === 0) return;
    const most = Math.max(1, claimsWithin(this.plan.mtu));
    const nonce = () => this.nonces.next(now);
    for (const { peer, nonce: its, claims } of hearsay.ask(nodes, most, census.alive.values(), nonce, now))
      this.send(step, wireType.WIRE_CLAIM, peer, its, claims);
  }

  /** A MAC answered for the address by ARP. */
  answered(address: Address, mac: Uint8Array, step: Step): void {
    this.claims.holders.hear(address, mac);
    const isSign = this.census.answered(formatMac(mac), address, step.now);
    if (this.joining.isJoined) this.joining.unheard.hear(address, mac, this.surroundings, step.now);
    // A peer that was dead until now is deaf, and what it has is not to be answered here any longer.
    if (isSign) step.lookAt([]);
  }

  /** These frames and questions left, and those frames did not. */
  sent({ frames, refused, asked, at }: Departure): void {
    // A hello comes in two versions, and the present one counts.
    const isProbe = ({ type, node, version }: Outgoing) =>
      type === wireType.WIRE_PROBE && (node !== undefined || version === VERSION);
    for (const { node } of refused.filter(isProbe)) this.census.refused(node, at);
    for (const { node } of frames.filter(isProbe)) {
      if (node === undefined) this.census.greeted(at);
      else this.census.probed(node, at);
    }
    for (const node of new Set(asked.map(({ node }) => node))) if (node !== undefined) this.census.asked(node, at);
    // The last probe of a peer that misses it: its death is known as soon as the answer is overdue.
    if (this.census.isCloseToDeath) this.roundAt = earlier(this.roundAt, at + this.census.patience);
  }

  warnings(now: Ns): string[] {
    const { name, nodes } = this.plan;
    const apart = this.hearsay.warnings(name, (node) => this.others.get(node)?.name, now);
    return [...this.joining.warnings(name, nodes, this.census, now), ...apart, ...this.foreigners.warnings];
  }

  /** A frame came in. */
  hear(frame: Frame, step: Step): void {
    if (frame.node === nodeId(this.plan.node)) this.meetNamesake(frame, step);
    else if (frame.type === wireType.WIRE_ECHO) this.lookSoon(step);
    else if (frame.type === wireType.WIRE_REPLY) {
      if (this.hearsay.reply(frame)) this.lookSoon(step);
      else this.claims.reply(frame, step);
    } else if (frame.type === wireType.WIRE_NOTICE) {
      step.lookAt("all");
      for (const claim of frame.claims) if (isMine(claim)) step.disputed.add(addressOfBytes(claim.ip));
      const peer = this.census.get(frame.node);
      if (!peer || formatMac(peer.mac) === formatMac(frame.source)) return;
      this.census.sendHello(); // only its echo tells its MAC
      this.isRound = true;
    }
  }

  /** At once; and the news of the next milliseconds together: each look is at all peers, and a thousand may answer. */
  private lookSoon(step: Step): void {
    const at = this.readAt + REST;
    if (at <= step.now) step.lookAt([]);
    else this.newsAt ??= at;
  }

  /**
   * Another machine has this node's name. Whoever has joined under it stays, and who goes on with what an earlier speaker
   * of that name left: a cloned machine that starts again and again must not end the rightful node while that one starts.
   */
  private meetNamesake({ version, source, incarnation, stamp }: Frame, step: Step): void {
    const { name, node } = this.plan;
    const text = `another node on ${name}, with MAC ${formatMac(source)}, has this node's name: ${node}. Give each node a name of its own`;
    if (this.joining.isJoined || this.joining.isRightful) step.notice("error", text);
    else {
      const nonce = this.nonces.next(step.now);
      step.send.push({
        type: wireType.WIRE_NOTICE,
        version,
        node: undefined,
        destination: source,
        to: incarnation,
        stamp,
        nonce,
      });
      step.conflict = `Cannot serve as ${text}`;
    }
  }

  /** The live peers that joined since this was called last: each may own what is owned here. */
  joined(): Heard[] {
    if (!this.joining.isJoined) return [];
    const before = this.joins;
    const living = [...this.census.members].filter(([, { isAlive }]) => isAlive);
    this.joins = new Map(living.map(([node, { joins }]) => [node, joins]));
    return living.filter(([node, { joins }]) => before.get(node) !== joins).map(([, { heard }]) => heard);
  }

  /** How claims leave. */
  sender(step: Step): Send {
    return (type, peer, nonce, claims) => this.send(step, type, peer, nonce, claims);
  }

  private send(
    step: Step,
    type: Outgoing["type"],
    peer: Heard | undefined,
    nonce: bigint,
    claims?: Outgoing["claims"],
  ): void {
    const to = peer
      ? {
          version: this.versionFor(peer),
          node: peer.node,
          destination: peer.mac,
          to: peer.incarnation,
          stamp: peer.stamp,
        }
      : { version: VERSION, node: undefined, destination: BROADCAST, to: 0n, stamp: 0n };
    step.send.push({ type, ...to, nonce, ...(claims && { claims }) });
  }
}

/** True if a peer hears that isat has decided on the node who answers. */
const servesBy = (hearing: Hearing | undefined) => hearing !== undefined && hearing.state !== nodeState.JOINING;

const othersOf = ({ node, nodes }: PeeringPlan): ReadonlyMap<bigint, NodeEntry> =>
  new Map(nodes.filter(({ name }) => name !== node).map((entry) => [nodeId(entry.name), entry]));
