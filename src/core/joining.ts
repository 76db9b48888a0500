import { nodeState } from "./abi.ts";
import type { Address } from "./address.ts";
import type { NodeEntry } from "./demand.ts";
import type { Census } from "./liveness.ts";
import { type Electorate, equals } from "./ownership.ts";
import type { Heard } from "./step.ts";
import { type Ns, SECOND } from "./time.ts";

/** How long a joining node waits at most until its peers count it among theirs. */
const PATIENCE: Ns = 5n * SECOND;

/**
 * How long a source may be stale beside a peer's fresh one. After an API outage some nodes hear of its return seconds
 * before others, and that must move nothing. For the same reason a node that lagged calls its source stale for so long more.
 */
const LAG: Ns = 8n * SECOND;

/** How often nodes that are not heard are asked for by ARP. */
const ASK: Ns = SECOND;
/** Questions in a row without any answer after which this node takes itself for the only one. */
const ASKS = 3;
/** How long a node waits to hear a peer where the source does not give the nodes' addresses. */
const WAIT: Ns = 10n * SECOND;

const { JOINING, LIVE, HEADLESS, PAST_HOLD, DRAINED, LAGGING } = nodeState;

/** Who stands for election, and how. */
export type Candidates = Pick<Electorate, "candidates" | "headless" | "lagging" | "fresh">;

/** A node as an election sees it. */
type Standing = Pick<Heard, "node" | "state" | "sourceStale">;

/**
 * How far this node has joined its peers on one interface:
 * - *joined*: it knows its peers, and they know it;
 * - *converged*: its peers have had two intervals to join as well. Where all nodes start together, the first one to join
 *   would otherwise claim everything and release most of it at once;
 * - *alone*: nobody was heard, and no other node answers ARP either.
 *
 * Where nobody is heard, that may mean that there is nobody, or that the wire drops the peer protocol. Until it is known
 * which, a node owns no more than the election among all of the source's nodes gives it.
 */
export class Joining {
  readonly began: Ns;
  /** Whether any peer was heard since the interface came up. */
  hasHeard = false;
  /** Whether the own source has been stale for too long beside a peer's fresh one. Each node judges itself alone. */
  isLagging: boolean;
  /** Whether peers are to be told that the own source is stale. */
  isStale = false;
  private joinedAt: Ns | undefined;
  private converged = false;
  private beatenSince: Ns | undefined;
  private laggedAt: Ns | undefined;
  private askAt: Ns | undefined;
  private asks = 0;
  private isAlone = false;
  /** Addresses of nodes that answered the last question. */
  private answered: ReadonlySet<Address> = new Set();

  /** @param isLagging an earlier speaker lagged here */
  constructor(now: Ns, isLagging = false) {
    this.began = now;
    this.isLagging = isLagging;
    if (isLagging) this.beatenSince = now - LAG;
  }

  get isJoined(): boolean {
    return this.joinedAt !== undefined;
  }

  get isConverged(): boolean {
    return this.converged;
  }

  /** Takes in what the census says now. @returns whether anything that others decide by is different from before */
  observe(census: Census, isSourceStale: boolean, now: Ns): boolean {
    const before = this.standing;
    this.observeLag(isSourceStale, census.alive.values(), now);
    if (census.alive.size > 0) this.hasHeard = true;
    if (this.joinedAt === undefined && this.mayJoin(census, now)) {
      this.joinedAt = now;
      this.askAt = now + ASK;
    }
    if (this.joinedAt !== undefined && now - this.joinedAt >= 2n * census.interval) this.converged = true;
    return before !== this.standing;
  }

  /** What others decide by. */
  private get standing(): string {
    return `${this.isLagging} ${this.isStale} ${this.hasHeard} ${this.isJoined} ${this.converged}`;
  }

  private mayJoin(census: Census, now: Ns): boolean {
    if (!census.hasCalled(now)) return false;
    if (now - this.began > PATIENCE) return true;
    const isRunning = (state: number) => state === LIVE || state === LAGGING || state === JOINING;
    return [...census.alive.values()].every(({ state, knowsUs }) => knowsUs || !isRunning(state));
  }

  private observeLag(isStale: boolean, peers: Iterable<Heard>, now: Ns): void {
    const isBeaten = isStale && [...peers].some(({ state, sourceStale }) => state === LIVE && !sourceStale);
    if (isBeaten) this.beatenSince ??= now;
    else if (!isStale || this.isJoined) this.beatenSince = undefined; // before, a fresh peer may not be heard yet
    this.isLagging = this.beatenSince !== undefined && now - this.beatenSince >= LAG;
    if (this.isLagging) this.laggedAt = now;
    this.isStale = isStale || (this.laggedAt !== undefined && now - this.laggedAt < LAG);
  }

  /** When other nodes are to be asked for by ARP; undefined: not at all. */
  get askDue(): Ns | undefined {
    return this.hasHeard ? undefined : this.askAt;
  }

  /** The question left. */
  asked(now: Ns): void {
    this.askAt = now + ASK;
  }

  /**
   * Some of the other nodes answered, or none.
   * @param hasAsked whether all of them could be asked
   * @returns whether anything changed by that
   */
  hear(answered: ReadonlySet<Address>, hasAsked: boolean, now: Ns): boolean {
    const [wasAlone, before] = [this.isAlone, this.answered.size];
    this.asks = answered.size > 0 ? 0 : this.asks + 1;
    this.answered = answered;
    this.isAlone = this.asks >= ASKS && (hasAsked || now - this.began >= WAIT);
    return wasAlone !== this.isAlone || before !== answered.size;
  }

  /**
   * The nodes that stand for election; undefined while this node has not converged.
   * @param self this node, as it sees itself
   * @param names the source's nodes by id; a peer that the source does not name may not own
   * @param countsAge whether a peer's old tick counts against it
   */
  candidates(
    self: Standing & { name: string },
    census: Census,
    names: ReadonlyMap<bigint, string>,
    countsAge: boolean,
  ): Candidates | undefined {
    if (!this.converged) return undefined;
    if (!this.hasHeard) return this.unheard(self, names);
    const all = [self, ...census.alive.values()].filter(
      ({ node, state }) => names.has(node) && mayOwn(state, countsAge),
    );
    const those = (is: (node: Standing) => boolean) => all.filter(is).map(({ node }) => names.get(node)!);
    const lagging = those(({ state }) => state === LAGGING);
    return {
      candidates: those(() => true),
      headless: those(({ node, state }) => (state === HEADLESS || state === PAST_HOLD) && node !== self.node),
      lagging,
      fresh: lagging.length === 0 ? [] : those(({ state, sourceStale }) => state !== LAGGING && !sourceStale),
    };
  }

  private unheard(self: { name: string; state: number }, names: ReadonlyMap<bigint, string>): Candidates {
    const isOnly = names.size <= 1 || this.isAlone;
    const all = isOnly ? [self.name] : [...names.values()];
    return equals(self.state === DRAINED ? all.filter((name) => name !== self.name) : all);
  }

  /** What an operator should know about how the nodes hear each other. */
  warnings(interfaceName: string, nodes: readonly NodeEntry[]): string[] {
    if (nodes.length <= 1 || !this.isJoined || this.hasHeard) return [];
    const there = nodes.filter(({ address }) => address !== undefined && this.answered.has(address));
    if (there.length > 0) {
      const names = there.map(({ name }) => name).join(", ");
      return [
        `no peer is heard on ${interfaceName}, though ${names} ${there.length === 1 ? "answers" : "answer"} ARP there: let the switch pass EtherType 0x88b5, start isat there, and give all nodes the same key. Until then the nodes that are listed count as alive`,
      ];
    }
    return this.isAlone ? [`no peer is heard on ${interfaceName}: this node takes itself for the only one alive`] : [];
  }
}

/** Live, lagging and headless nodes may own; a tick older than `hold` counts against a node only where `countsAge`. */
const mayOwn = (state: number, countsAge: boolean) =>
  state === LIVE || state === LAGGING || state === HEADLESS || (state === PAST_HOLD && !countsAge);
