import type { Address } from "./address.ts";
import { formatMac } from "./arp.ts";
import type { Hearing } from "./hearsay.ts";
import { type Member, type Pause, Peer } from "./peer.ts";
import type { Heard } from "./step.ts";
import { MS, type Ns, SECOND } from "./time.ts";

export interface ProbeOptions {
  /** Time between two probes of a peer; longer where more than {@link MOST} probes a second would leave. */
  interval: Ns;
  /** How many probes in a row a peer leaves unanswered before it is dead. */
  dead: number;
}

/** How long after a tick a node's control plane counts as running. */
export const LIVE_FOR: Ns = 3n * SECOND;

/** How many probes a node sends in a second at most, about; and, as its peers do likewise, how many it answers. */
export const MOST = 1000n;

/**
 * How many hellos all nodes together send in a second, about, and the least time between two hellos of one node. Not
 * counted are hellos after a pause, and those that look for a peer whose MAC has changed.
 */
const HELLOS = 20n;
const HELLO: Ns = SECOND;

/** After a pause this long, and longer than two intervals, peers may have come that this node does not know. */
const LONG_PAUSE: Ns = 250n * MS;

/** An answer to a hello that was sent longer ago tells nothing of now. */
const STALE_HELLO: Ns = 3n * SECOND;

/** The pause between two questions by ARP for a dead peer: it may be back, and be deaf. */
const ASK_DEAD: Ns = SECOND;
/** A node is mute once none of its own frames has left for this long. */
const MUTE: Ns = SECOND;

/**
 * The nodes that are alive on one interface, out of what the kernel heard and which probes really left.
 *
 * A process that paused concludes nothing from unanswered probes until it has probed again; and it does not know who is
 * there until a hello of after the pause has had the time to be answered.
 */
export class Census {
  options: ProbeOptions;
  /** When this process last woke from a pause in which its node became headless. */
  wokeAt: Ns = 0n;
  /** Nodes that do not answer here, and that peers hear. */
  hearings: ReadonlyMap<bigint, Hearing> = new Map();
  /** How many hellos have left. */
  hellos = 0;
  private readonly random: () => number;
  private readonly peers = new Map<bigint, Peer>();
  /** Nothing that was heard before counts. */
  private readonly began: Ns;
  private helloDue: Ns;
  private observedAt: Ns;
  /** When the last hello left that joining waits for. */
  private joiningHelloAt: Ns = 0n;
  /** After a pause: when a hello left, or 0 until one has; undefined: the peers are known. */
  private askedAt: Ns | undefined;
  private living: ReadonlyMap<bigint, Heard> = new Map();
  /** The time since when this machine itself has dropped all that was to be sent. */
  private refusedSince: Ns | undefined;

  /** @param random from 0 to 1 */
  constructor(options: ProbeOptions, now: Ns, random: () => number) {
    this.options = options;
    this.random = random;
    this.began = now;
    this.helloDue = now;
    this.observedAt = now;
  }

  /** Time between two probes of one peer. */
  get interval(): Ns {
    const least = (BigInt(this.peers.size) * SECOND) / MOST;
    return least > this.options.interval ? least : this.options.interval;
  }

  /** Time after which an unanswered probe is missed: half an interval, as the answer comes out of a kernel. */
  get patience(): Ns {
    return this.interval / 2n;
  }

  /**
   * A silence in which a peer may have missed `dead` probes of its own, which it sends at least 0.85 intervals apart.
   */
  private get absence(): Ns {
    return (this.interval * BigInt(Math.max(15, 8 * (this.options.dead - 1)))) / 10n;
  }

  private get longPause(): Ns {
    const two = 2n * this.options.interval;
    return two > LONG_PAUSE ? two : LONG_PAUSE;
  }

  /** Everybody who is or was heard. */
  get members(): ReadonlyMap<bigint, Member> {
    return this.peers;
  }

  /** Peers that do not answer their probes, and answer ARP for their VIPs. */
  /** True if that MAC is a peer's, which is alive or deaf. */
  isHere(mac: Uint8Array): boolean {
    const text = formatMac(mac);
    return [...this.members.values()].some(
      ({ heard, isAlive, isDeaf }) => (isAlive || isDeaf) && formatMac(heard.mac) === text,
    );
  }

  get deaf(): Member[] {
    return [...this.peers.values()].filter(({ isDeaf }) => isDeaf);
  }

  /** Peers that answer their probes, whatever their state, by id. */
  get alive(): ReadonlyMap<bigint, Heard> {
    return this.living;
  }

  get(node: bigint): Heard | undefined {
    return this.peers.get(node)?.heard;
  }

  /**
   * Takes in what the kernel's map says now.
   * @returns whether anything about who is alive, and how, is different from before
   */
  observe(heard: Iterable<Heard>, now: Ns): boolean {
    const pause = this.findPause(now);
    const { patience, absence } = this;
    let isChanged = false;
    for (const peer of heard) {
      const known = this.peers.get(peer.node);
      const member = known ?? new Peer(peer, now, this.began);
      if (!known) this.peers.set(peer.node, member);
      if (!known || standing(known.heard) !== standing(peer)) isChanged = true;
      if (member.observe(peer, pause, now, patience, absence, this.options.dead)) isChanged = true;
    }
    this.living = new Map([...this.peers].flatMap(([node, { isAlive, heard }]) => (isAlive ? [[node, heard]] : [])));
    return isChanged;
  }

  private findPause(now: Ns): Pause {
    const gap = now - this.observedAt;
    const pause = { hidesAnswers: gap > 2n * this.interval, hidesPeers: gap > this.longPause };
    this.observedAt = now;
    if (gap >= LIVE_FOR) this.wokeAt = now;
    const waited = this.askedAt && now - this.askedAt;
    if (this.isMute(now)) this.askedAt = undefined;
    // The hello of before has been answered by now, even where this process pauses between any two rounds: otherwise such
    // a process would never know its peers.
    if (waited && waited < STALE_HELLO) this.askedAt = waited >= this.patience ? undefined : this.askedAt;
    else if (pause.hidesPeers) {
      this.askedAt = 0n;
      this.sendHello();
    }
    return pause;
  }

  /** True if all peers are known. Not so after a pause, until a hello has had the time to be answered. */
  isComplete(now: Ns): boolean {
    return this.askedAt === undefined && now - this.observedAt <= this.longPause;
  }

  /** True if some peer is dead as soon as its open probes are missed: worth looking before the next round. */
  get isCloseToDeath(): boolean {
    for (const { isAlive, openProbes } of this.peers.values()) {
      if (isAlive && openProbes >= this.options.dead) return true;
    }
    return false;
  }

  /** The peers to probe now. A peer stays due until a probe to it has left. */
  due(now: Ns): bigint[] {
    return [...this.peers].filter(([, { due }]) => due <= now).map(([node]) => node);
  }

  /** The peers that are due and for which the wire is to be asked. */
  doubtful(now: Ns): Member[] {
    const { patience, askPause } = this;
    const isAsked = (peer: Peer) => peer.due <= now && peer.isInDoubt(now, patience, askPause);
    return [...this.peers.values()].filter(isAsked);
  }

  /** True if the node is alive and has missed nothing. */
  isSureOf(node: bigint, now: Ns): boolean {
    const peer = this.peers.get(node);
    return peer?.isAlive === true && !peer.hasMissed(now, this.patience);
  }

  /** How long to wait before a node that is dead is asked for again: it may be back, and not be heard here. */
  get askPause(): Ns {
    const shared = 10n * this.interval;
    return shared > ASK_DEAD ? shared : ASK_DEAD;
  }

  /** Peers hear these nodes, which do not answer here. */
  believe(hearings: ReadonlyMap<bigint, Hearing>): void {
    this.hearings = hearings;
    for (const [node, peer] of this.peers) peer.hearing = hearings.get(node);
  }

  /** Questions by ARP for the peer left. One stands in for a probe that this machine itself has dropped. */
  asked(node: bigint, at: Ns): void {
    const peer = this.peers.get(node);
    peer?.asked(at);
    if (peer && peer.refused > 0) this.leave(peer, at);
  }

  /** The peer's MAC answered for the address by ARP. */
  answered(mac: string, address: Address, now: Ns): boolean {
    const its = [...this.peers.values()].filter(({ heard }) => formatMac(heard.mac) === mac);
    return its.filter(({ presence }) => presence.hear(address, now)).length > 0;
  }

  /** This machine itself dropped a probe of the peer, or a hello. */
  refused(node: bigint | undefined, at: Ns): void {
    this.refusedSince ??= at;
    const peer = node !== undefined && this.peers.get(node);
    if (peer) peer.refused += 1;
  }

  /** True if this machine has let no frame of the peer protocol out for a while. */
  isMute(now: Ns): boolean {
    return this.refusedSince !== undefined && now - this.refusedSince >= MUTE;
  }

  /** A probe of the peer left. */
  probed(node: bigint, at: Ns): void {
    this.refusedSince = undefined;
    const peer = this.peers.get(node);
    if (!peer) return;
    peer.refused = 0;
    this.leave(peer, at);
  }

  private leave(peer: Peer, at: Ns): void {
    // A little early, by chance: rounds have a grain of their own, and many peers spread over the interval.
    const due = at + (this.interval * BigInt(Math.floor(850 + 100 * this.random()))) / 1000n;
    peer.probed(at, this.options.dead, due);
  }

  /** Makes a hello due now. */
  sendHello(): void {
    this.helloDue = this.observedAt;
  }

  /** True if a hello is due: each `interval` at first, later as {@link HELLOS} says. */
  isHelloDue(now: Ns): boolean {
    return this.helloDue <= now;
  }

  /** A hello left. */
  greeted(at: Ns): void {
    const { interval, dead } = this.options;
    this.refusedSince = undefined;
    this.hellos += 1;
    if (this.askedAt === 0n) this.askedAt = at;
    if (this.hellos <= dead + 1) this.joiningHelloAt = at;
    if (this.hellos <= dead) {
      this.helloDue = at + (interval * 9n) / 10n;
      return;
    }
    const fair = BigInt(this.peers.size + 1) * (SECOND / HELLOS);
    const pause = fair > HELLO ? fair : HELLO;
    this.helloDue = at + (pause * BigInt(Math.floor(750 + 500 * this.random()))) / 1000n;
  }

  /** True if enough hellos have left to find every peer, and the last of them has had the time to be answered. */
  hasCalled(now: Ns): boolean {
    return this.isMute(now) || (this.hellos > this.options.dead && now - this.joiningHelloAt >= this.patience);
  }

  forget(node: bigint): void {
    this.peers.delete(node);
  }
}

/** The facts about a peer that others decide by. */
const standing = ({ state, sourceStale, onlyIPv4, knowsUs, incarnation, interfaceName }: Heard) =>
  `${state} ${sourceStale} ${onlyIPv4} ${knowsUs} ${incarnation} ${interfaceName}`;
