import { nodeState } from "./abi.ts";

/** What the kernel knows of a peer on one interface: its entry of the map `peers`, as far as it counts here. */
export interface Heard {
  /** The node's id. */
  node: bigint;
  /** Its name, cut off after 31 bytes. */
  name: string;
  state: number;
  sourceStale: boolean;
  /** Its control plane counts with this speaker. */
  knowsUs: boolean;
  incarnation: bigint;
  /** ns of our clock; 0: it never answered a probe. */
  echoedNs: bigint;
}

export interface LivenessOptions {
  /** Time between two probes of a peer, ns; longer where the peers are so many that it would be {@link MOST} a second. */
  interval: bigint;
  /** Probes sent and unanswered until a peer counts as dead. */
  dead: number;
}

/** For so long after a tick its speaker counts as running, ms. */
export const LIVE_FOR = 3_000;

/** Probes that a node sends at most in a second, about, and, its peers doing likewise, answers. */
export const MOST = 1000n;

const SECOND = 1_000_000_000n;

/**
 * Broadcast probes on the wire in a second, of all nodes together, about; and the least time between two of one node. Not
 * counted are those after a nap, and those that look for a peer whose MAC is another.
 */
const HELLOS = 20n;
const HELLO = SECOND;

/** Whoever has slept for longer, and for two intervals, does not know who came meanwhile, ns. */
const NAP = SECOND / 4n;

/** An answer that may have come so long ago tells nothing of now, ns. */
const LONG = 3n * SECOND;

/** Probes whose time to be answered was slept through, that are as good as one that was waited for. */
const SLEEPS = 3;

interface Member {
  heard: Heard;
  /** When the probes were sent that have not been answered, ns; no more of them than `dead`. */
  open: bigint[];
  /** Sleeps in a row that began with an open probe and ended without an answer. */
  slept: number;
  due: bigint;
  isAlive: boolean;
  /** When it was last alive, ns. */
  alive: bigint;
  /** When this process had slept at last, ns: what it has not heard of the peer since, it does not know. */
  doubted: bigint | undefined;
  /** How often it came, or came back: also where it was silent for so long that to it, this node may have died. */
  comings: number;
}

/**
 * Who is alive on one interface, out of what the kernel has heard and what was sent: no I/O, and the clock (ns of
 * CLOCK_BOOTTIME) and chance (0 to 1) come in as arguments.
 *
 * Only probes that were really sent count. A prober that slept concludes nothing until it has probed again; one that
 * sleeps between any two rounds, as under a quota of processor time, concludes after {@link SLEEPS} times `dead` probes.
 */
export class Liveness {
  #options: LivenessOptions;
  readonly #random: () => number;
  readonly #members = new Map<bigint, Member>();
  /** What was heard before that does not count. */
  readonly #began: bigint;
  #hello: bigint;
  #last: bigint;
  /** When the last of the first broadcast probes left. */
  #helloed = 0n;
  /** Broadcast probes sent. */
  #hellos = 0;
  /** After a nap: when all were asked who is there; 0: not yet. undefined: it is known. */
  #asked: bigint | undefined;

  constructor(options: LivenessOptions, now: bigint, random: () => number) {
    this.#options = options;
    this.#random = random;
    this.#began = now;
    this.#hello = now;
    this.#last = now;
  }

  set options(options: LivenessOptions) {
    this.#options = options;
  }

  /** Time between two probes of one peer, ns. */
  get interval(): bigint {
    const { interval } = this.#options;
    const least = (BigInt(this.#members.size) * SECOND) / MOST;
    return least > interval ? least : interval;
  }

  /** Time until an answer is missed, ns: half an interval, for the answer comes out of a kernel. */
  get patience(): bigint {
    return this.interval / 2n;
  }

  /**
   * Silence, ns, in which a peer may have missed `dead` probes of its own, which it sends as often, at least 0.85 intervals
   * apart. It need not have counted as dead here, where this process slept through it.
   */
  get #absence(): bigint {
    const { dead } = this.#options;
    return (this.interval * BigInt(Math.max(15, 8 * (dead - 1)))) / 10n;
  }

  /** Everybody who is or was heard. */
  get members(): ReadonlyMap<bigint, Readonly<Pick<Member, "heard" | "isAlive" | "alive" | "comings">>> {
    return this.#members;
  }

  /** Peers that answer their probes, whatever their state. */
  get alive(): Heard[] {
    return [...this.#members.values()].filter(({ isAlive }) => isAlive).map(({ heard }) => heard);
  }

  get hellos(): number {
    return this.#hellos;
  }

  /**
   * Takes in what the kernel's map says now.
   * @returns whether anything about who is alive, and how, is different from before
   */
  observe(peers: Iterable<Heard>, now: bigint): boolean {
    const { dead } = this.#options;
    const hasSlept = now - this.#last > 2n * this.interval;
    const hasNapped = now - this.#last > this.#nap;
    this.#last = now;
    // What has been asked is answered by now: one who naps between any two rounds is to know something in between.
    const waited = this.#asked && now - this.#asked;
    if (waited && waited < LONG) this.#asked = waited >= this.patience ? undefined : this.#asked;
    else if (hasNapped) {
      this.#asked = 0n;
      this.callAll();
    }
    let isChanged = false;
    for (const heard of peers) {
      const before = this.#members.get(heard.node);
      const member = before ?? {
        heard,
        open: [],
        slept: 0,
        due: now,
        isAlive: false,
        alive: this.#began,
        doubted: undefined,
        comings: 0,
      };
      if (!before) this.#members.set(heard.node, member);
      if (!before || describe(before.heard) !== describe(heard)) isChanged = true;
      if (heard.echoedNs > member.heard.echoedNs) member.slept = 0;
      if (hasSlept || hasNapped) member.doubted = now;
      const isAnother = heard.incarnation !== member.heard.incarnation;
      // Only where something was missed, or slept through: probes may well be rarer.
      const isDoubted = member.doubted !== undefined || member.open.some((at) => heard.echoedNs - at >= this.patience);
      const wasAway = isAnother || (isDoubted && heard.echoedNs - member.heard.echoedNs > this.#absence);
      if (member.doubted !== undefined && heard.echoedNs > member.doubted) member.doubted = undefined;
      member.heard = heard;
      member.open = member.open.filter((sent) => sent > heard.echoedNs);
      if (hasSlept && member.open.length > 0) {
        member.open = [];
        member.slept += 1;
      }
      const unanswered = member.open.filter((sent) => now - sent >= this.patience).length;
      const missed = unanswered + Math.floor(member.slept / SLEEPS);
      // Dead is dead until it answers again: a sleeper's clean slate does not bring anybody back.
      const hasAnswered = heard.echoedNs > member.alive;
      const isAlive = missed < dead && (member.isAlive || hasAnswered);
      if (isAlive && (wasAway || !member.isAlive)) {
        member.comings += 1;
        isChanged = true;
      }
      if (isAlive !== member.isAlive) isChanged = true;
      member.isAlive = isAlive;
      if (isAlive) member.alive = heard.echoedNs;
    }
    return isChanged;
  }

  /**
   * Whether all who are there are known. Not so after a nap, until a broadcast probe has had the time to be answered: who
   * was alone before it may be alone no more.
   */
  isSure(now: bigint): boolean {
    return this.#asked === undefined && now - this.#last <= this.#nap;
  }

  get #nap(): bigint {
    const two = 2n * this.#options.interval;
    return two > NAP ? two : NAP;
  }

  /** Whether a peer will be dead as soon as it has missed what is open: worth looking before the next round of probes. */
  get isCloseToDeath(): boolean {
    return [...this.#members.values()].some(({ isAlive, open }) => isAlive && open.length >= this.#options.dead);
  }

  /** The peers to probe now. One that cannot be probed stays due. */
  due(now: bigint): bigint[] {
    return [...this.#members].filter(([, { due }]) => due <= now).map(([node]) => node);
  }

  /** A probe of the peer left. */
  sent(node: bigint, now: bigint): void {
    const member = this.#members.get(node)!;
    member.open = [...member.open, now].slice(-this.#options.dead);
    // A little early, by chance: the rounds have a grain of their own, and many peers spread over the interval.
    member.due = now + (this.interval * BigInt(Math.floor(850 + 100 * this.#random()))) / 1000n;
  }

  /** All are to be asked at once. */
  callAll(): void {
    this.#hello = this.#last;
  }

  /** Whether a broadcast probe is due: at first each `interval`, then at most some {@link HELLOS} a second on the wire. */
  isHelloDue(now: bigint): boolean {
    return this.#hello <= now;
  }

  /** A broadcast probe left. */
  helloSent(now: bigint): void {
    const { interval, dead } = this.#options;
    this.#hellos += 1;
    if (this.#asked === 0n) this.#asked = now;
    if (this.#hellos <= dead + 1) this.#helloed = now;
    if (this.#hellos <= dead) {
      this.#hello = now + (interval * 9n) / 10n;
      return;
    }
    const nodes = BigInt(this.#members.size + 1);
    const pause = nodes * (SECOND / HELLOS) > HELLO ? nodes * (SECOND / HELLOS) : HELLO;
    this.#hello = now + (pause * BigInt(Math.floor(750 + 500 * this.#random()))) / 1000n;
  }

  /** Whether the last of the first broadcast probes has had the time to be answered. */
  hasWaited(now: bigint): boolean {
    return now - this.#helloed >= this.patience;
  }

  forget(node: bigint): void {
    this.#members.delete(node);
  }
}

const describe = ({ state, sourceStale, knowsUs, incarnation }: Heard) =>
  `${state} ${sourceStale} ${knowsUs} ${incarnation}`;

/** What a node is to an election. */
export interface Standing {
  state: number;
  sourceStale: boolean;
}

/**
 * For so long a source may be stale while another node's is fresh, ns. Where the API was away for all, some hear of its
 * return seconds before others: that is no reason to move anything.
 */
const LAGGING = 8n * SECOND;

/**
 * Whether this node's source has been stale for too long beside a live peer's fresh one: then it knows less than others,
 * says so (LAGGING), and is left out. Each node judges itself alone: were it judged by each of its peers, by clocks of their
 * own, one could leave a VIP to it while it leaves that to the other.
 */
export class Freshness {
  #since: bigint | undefined;
  #isLagging = false;

  /** Notes what holds now. @returns whether it became behind, or is no longer */
  observe(isStale: boolean, peers: readonly Standing[], now: bigint): boolean {
    const isBeaten = isStale && peers.some(({ state, sourceStale }) => state === nodeState.LIVE && !sourceStale);
    this.#since = isBeaten ? (this.#since ?? now) : undefined;
    const isLagging = this.#since !== undefined && now - this.#since >= LAGGING;
    const isChanged = isLagging !== this.#isLagging;
    this.#isLagging = isLagging;
    return isChanged;
  }

  get isLagging(): boolean {
    return this.#isLagging;
  }
}

/**
 * The nodes that may own: those that are live or held. One whose source is stale beside a fresh one says itself that it is
 * behind; where all are stale nobody is, and all go on.
 * @param countsAge whether a tick that is too old counts against a node: only for somebody who has been there for as long
 */
export function candidates<N>(
  nodes: Iterable<readonly [N, Pick<Standing, "state">]>,
  countsAge: boolean,
): { node: N; isHeld: boolean }[] {
  const { LIVE, HEADLESS, PAST_HOLD } = nodeState;
  return [...nodes]
    .filter(([, { state }]) => state === LIVE || state === HEADLESS || (state === PAST_HOLD && !countsAge))
    .map(([node, { state }]) => ({ node, isHeld: state !== LIVE }));
}
