import type { Address } from "./address.ts";
import { formatMac } from "./arp.ts";
import { Presence } from "./presence.ts";
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

/**
 * Pauses in a row during which an open probe could have been answered, and was not, that count as one missed probe. A
 * process under a quota of processor time pauses between any two rounds, and has to notice a death all the same.
 */
const PAUSES_PER_MISS = 3;

/** The pause between two questions by ARP for a dead peer: it may be back, and be deaf. */
const ASK_DEAD: Ns = SECOND;
/** A node is mute once none of its own frames has left for this long. */
const MUTE: Ns = SECOND;

/** A pause of this process, as {@link Census.observe} finds it. */
interface Pause {
  /** Longer than two intervals between probes: what was not answered in it proves nothing. */
  hidesAnswers: boolean;
  /** So long that peers may have come, or may have taken this node for dead. */
  hidesPeers: boolean;
}

/**
 * One peer: alive while it echoes. Once it has left `dead` probes in a row unanswered, it is deaf where it still answers
 * ARP for its VIPs, and dead where it does not.
 */
class Peer {
  heard: Heard;
  isAlive = false;
  isDeaf = false;
  /** The time since when it has not been alive. */
  silentSince: Ns = 0n;
  /** True if its own probes came in during the first second of that: the frames to it, or its echoes, are lost. */
  isStillHeard = false;
  readonly presence = new Presence();
  /** The number of probes to it in a row that this machine itself has dropped. */
  refused = 0;
  private deadSince: Ns = 0n;
  /** The time when the last question by ARP left. */
  private askedAt: Ns = 0n;
  /** When it last answered while alive. */
  aliveAt: Ns;
  /** How often it joined: it came, came back, or was silent for so long that it may have taken this node for dead. */
  joins = 0;
  due: Ns;
  /** When the unanswered probes left, at most `dead` of them. */
  private open: Ns[] = [];
  /** Pauses in a row that began with an open probe and ended without an answer. */
  private pauses = 0;
  /** When this process last paused: an older answer says nothing about the peer after the pause. */
  private pausedAt: Ns | undefined;

  constructor(heard: Heard, now: Ns, began: Ns) {
    this.heard = heard;
    this.due = now;
    this.aliveAt = began;
  }

  get openProbes(): number {
    return this.open.length;
  }

  probed(at: Ns, dead: number, due: Ns): void {
    this.open = [...this.open, at].slice(-dead);
    this.due = due;
  }

  /** A question by ARP left. */
  asked(at: Ns): void {
    this.askedAt = at;
    this.presence.asked(at);
  }

  /**
   * True if the wire is to be asked for it with the next probe: from its first missed probe on, and while it is deaf.
   */
  isInDoubt(now: Ns, patience: Ns, pause: Ns): boolean {
    const hasMissed = this.refused + this.pauses > 0 || this.open.some((sent) => now - sent >= patience);
    return this.isDeaf || (hasMissed && (this.isAlive || now - this.askedAt >= pause));
  }

  /**
   * Takes what the kernel says of the peer now.
   * @returns whether it joined, or whether it lives is different from before
   */
  observe(heard: Heard, pause: Pause, now: Ns, patience: Ns, absence: Ns, dead: number): boolean {
    if (heard.echoedNs > this.heard.echoedNs) this.pauses = 0;
    if (pause.hidesAnswers || pause.hidesPeers) this.pausedAt = now;
    const wasAway = this.wasAway(heard, patience, absence);
    if (this.pausedAt !== undefined && heard.echoedNs > this.pausedAt) this.pausedAt = undefined;
    this.heard = heard;
    this.open = this.open.filter((sent) => sent > heard.echoedNs);
    if (pause.hidesAnswers) {
      this.presence.pause();
      if (this.open.length > 0) this.pauses += 1;
      this.open = [];
    }
    return this.judge(now, patience, dead, wasAway);
  }

  /** Silence counts as absence only where a probe was missed, or a pause hid it: probes may be rarer than usual. */
  private wasAway(heard: Heard, patience: Ns, absence: Ns): boolean {
    if (heard.incarnation !== this.heard.incarnation) return true;
    const isDoubtful = this.pausedAt !== undefined || this.open.some((sent) => heard.echoedNs - sent >= patience);
    return isDoubtful && heard.echoedNs - this.heard.echoedNs > absence;
  }

  private judge(now: Ns, patience: Ns, dead: number, wasAway: boolean): boolean {
    const unanswered = this.open.filter((sent) => now - sent >= patience).length;
    const missed = unanswered + Math.floor(this.pauses / PAUSES_PER_MISS);
    // A dead peer stays dead until it answers again; a pause of ours, which clears the open probes, revives nobody.
    const hasAnswered = this.heard.echoedNs > this.aliveAt;
    const isAlive = missed < dead && (this.isAlive || hasAnswered);
    const hasJoined = isAlive && (wasAway || !this.isAlive);
    // It answered ARP since its last echo, or since it was dead, and goes on to.
    const { presence, heard } = this;
    const isDead = !this.isAlive && !this.isDeaf;
    const isThere = presence.answeredNs > (isDead ? this.deadSince : heard.echoedNs);
    const isDeaf = !isAlive && isThere && !presence.isGone(now, patience);
    if (!isDead && !isAlive && !isDeaf) this.deadSince = now;
    const isChanged = hasJoined || isAlive !== this.isAlive || isDeaf !== this.isDeaf;
    if (hasJoined) this.joins += 1;
    if (this.isAlive && !isAlive) this.silentSince = now;
    if (now - this.silentSince <= SECOND) this.isStillHeard = heard.heardNs > this.silentSince;
    this.isAlive = isAlive;
    this.isDeaf = isDeaf;
    if (isAlive) this.aliveAt = this.heard.echoedNs;
    return isChanged;
  }
}

/** A peer, as others may read it. */
export type Member = Readonly<
  Pick<
    Peer,
    "heard" | "isAlive" | "isDeaf" | "aliveAt" | "silentSince" | "isStillHeard" | "joins" | "refused" | "presence"
  >
>;

/**
 * Who is alive on one interface, out of what the kernel heard and which probes really left.
 *
 * A process that paused concludes nothing from unanswered probes until it has probed again; and it does not know who is
 * there until a hello of after the pause has had the time to be answered.
 */
export class Census {
  options: ProbeOptions;
  /** When this process last woke from a pause in which its node became headless. */
  wokeAt: Ns = 0n;
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
  /** Whether that MAC is a peer's, which is alive or deaf. */
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

  /** Whether all peers are known. Not so after a pause, until a hello has had the time to be answered. */
  isComplete(now: Ns): boolean {
    return this.askedAt === undefined && now - this.observedAt <= this.longPause;
  }

  /** Whether some peer is dead as soon as its open probes are missed: worth looking before the next round. */
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
    const shared = 10n * this.interval;
    const pause = shared > ASK_DEAD ? shared : ASK_DEAD;
    const isAsked = (peer: Peer) => peer.due <= now && peer.isInDoubt(now, this.patience, pause);
    return [...this.peers.values()].filter(isAsked);
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

  /** Whether a hello is due: each `interval` at first, later as {@link HELLOS} says. */
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

  /** Whether enough hellos have left to find every peer, and the last of them has had the time to be answered. */
  hasCalled(now: Ns): boolean {
    return this.isMute(now) || (this.hellos > this.options.dead && now - this.joiningHelloAt >= this.patience);
  }

  forget(node: bigint): void {
    this.peers.delete(node);
  }
}

/** What of a peer others decide by. */
const standing = ({ state, sourceStale, knowsUs, incarnation }: Heard) =>
  `${state} ${sourceStale} ${knowsUs} ${incarnation}`;
