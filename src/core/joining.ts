import { nodeState } from "./abi.ts";
import type { NodeEntry } from "./demand.ts";
import type { Station } from "./holders.ts";
import type { Census } from "./liveness.ts";
import { type Electorate, equals } from "./ownership.ts";
import type { Heard } from "./step.ts";
import { type Ns, SECOND } from "./time.ts";
import { Unheard } from "./unheard.ts";

/** How long a joining node waits at most until its peers count it among theirs. */
const PATIENCE: Ns = 5n * SECOND;

/**
 * How long a source may be stale beside a peer's fresh one. After an API outage some nodes hear of its return seconds
 * before others, and that must move nothing. For the same reason a node that lagged calls its source stale for so long more.
 */
const LAG: Ns = 8n * SECOND;

const { JOINING, LIVE, HEADLESS, PAST_HOLD, DRAINED, LAGGING } = nodeState;

/** The nodes that stand for election, and how. */
export type Candidates = Pick<Electorate, "candidates" | "headless" | "lagging" | "fresh" | "names" | "onlyIPv4">;

/** A node as an election sees it. */
type Standing = Pick<Heard, "node" | "state" | "sourceStale" | "interfaceName" | "onlyIPv4">;

/**
 * How far this node has joined its peers on one interface:
 * - *joined*: it knows its peers, and they know it;
 * - *converged*: its peers have had two intervals to join as well. Where all nodes start together, the first one to join
 *   would otherwise claim everything and release most of it at once;
 * - *alone*: nobody was heard, and no other node answers ARP either ({@link Unheard}).
 *
 * A node on which isat has never served stands for election all the same, until ARP has shown that nothing answers for its
 * VIPs: where isat takes over from another speaker, that one serves on until isat has joined on its node.
 */
export class Joining {
  readonly began: Ns;
  /** True if any peer was heard since the interface came up. */
  hasHeard = false;
  /** True if the own source has been stale for too long beside a peer's fresh one. Each node judges itself alone. */
  isLagging: boolean;
  /** True while peers are to be told that the own source is stale. */
  isStale = false;
  private joinedAt: Ns | undefined;
  private converged = false;
  private beatenSince: Ns | undefined;
  private laggedAt: Ns | undefined;
  /** The other nodes, as ARP shows them while no peer is heard. */
  readonly unheard: Unheard;

  /** True if this node had joined under its name before: whoever else has that name is the one to end. */
  readonly isRightful: boolean;

  /** @param isLagging an earlier speaker lagged here */
  constructor(now: Ns, isLagging = false, isRightful = false) {
    this.began = now;
    this.isRightful = isRightful;
    this.isLagging = isLagging;
    if (isLagging) this.beatenSince = now - LAG;
    this.unheard = new Unheard(now);
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
    }
    if (this.joinedAt !== undefined && now - this.joinedAt >= 2n * census.interval) this.converged = true;
    return before !== this.standing;
  }

  /** The part of this node's state that others decide by, as a text. */
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
    if (!this.hasHeard) return this.unheardOf(self, names);
    // A peer that cannot be asked goes on with what it has: whatever its control plane does, nobody stands in for it.
    const deaf = census.deaf.map(({ heard }) => heard);
    const heardBy = [...census.hearings].map(([node, hearing]) => {
      const { interfaceName = "", onlyIPv4 = false } = census.get(node) ?? {};
      return { ...hearing, node, interfaceName, onlyIPv4 };
    });
    const all = [self, ...census.alive.values(), ...deaf, ...heardBy].filter(
      ({ node, state }) => names.has(node) && mayOwn(state, countsAge),
    );
    const those = (is: (node: Standing) => boolean) => all.filter(is).map(({ node }) => names.get(node)!);
    const lagging = those(({ state }) => state === LAGGING);
    return {
      candidates: [...those(() => true), ...this.unheard.strangers],
      headless: those(({ node, state }) => (state === HEADLESS || state === PAST_HOLD) && census.alive.has(node)),
      lagging,
      fresh: lagging.length === 0 ? [] : those(({ state, sourceStale }) => state !== LAGGING && !sourceStale),
      onlyIPv4: those(({ onlyIPv4 }) => onlyIPv4),
      names: new Map(all.map(({ node, interfaceName }) => [names.get(node)!, interfaceName])),
    };
  }

  /** The nodes that answer ARP, and to which no claim gets; undefined: they are not known yet. */
  silent(census: Census): readonly Station[] | undefined {
    if (!this.hasHeard) return this.unheard.stations;
    return census.deaf.map(({ heard: { name, mac } }) => ({ name, mac }));
  }

  private unheardOf(self: { name: string; state: number }, names: ReadonlyMap<bigint, string>): Candidates {
    const all = [...names.values()].filter((name) => name === self.name || !this.unheard.isAway(name));
    return equals(self.state === DRAINED ? all.filter((name) => name !== self.name) : all);
  }

  /** Warnings about how the nodes hear each other. */
  warnings(interfaceName: string, nodes: readonly NodeEntry[], census: Census, now: Ns): string[] {
    if (nodes.length <= 1 || !this.isJoined) return [];
    const there = nodes.filter(({ name }) => this.unheard.isThere(name)).map(({ name }) => name);
    if (this.hasHeard) {
      const strangers = there.filter((name) => this.unheard.strangers.includes(name));
      return [...deafness(interfaceName, census, now), ...otherSpeakers(interfaceName, strangers)];
    }
    if (there.length > 0)
      return [
        `no peer is heard on ${interfaceName}, though ${answering(there)} there: ${census.isMute(now) ? OWN_EGRESS : "let the switch pass EtherType 0x88b5, start isat there, and give all nodes the same key"}. Until then the nodes that answer keep their VIPs`,
      ];
    return this.unheard.isAlone
      ? [`no peer is heard on ${interfaceName}: this node takes itself for the only one alive`]
      : [];
  }
}

const otherSpeakers = (interfaceName: string, names: readonly string[]) =>
  names.length === 0
    ? []
    : [
        `isat has never been heard on ${interfaceName} from ${names.join(", ")}, where something answers ARP for VIPs: start isat there too. Until then VIPs are left to what answers`,
      ];

/** Deaf peers are warned of once one has been deaf for so long: by then the others are known, too. */
const DEAF_FOR: Ns = SECOND;
const OWN_EGRESS =
  "this node's own egress drops EtherType 0x88b5. Look for a firewall or a tc filter here that does (nft list ruleset; tc filter show dev ... egress)";

const answering = (names: readonly string[]) => `${names.join(", ")} ${names.length === 1 ? "answers" : "answer"} ARP`;

/**
 * Warns of peers that do not answer isat's frames, and answer ARP for their VIPs: which of them, and why, if that is
 * known.
 */
function deafness(interfaceName: string, census: Census, now: Ns): string[] {
  const { deaf } = census;
  if (!deaf.some(({ silentSince }) => now - silentSince >= DEAF_FOR)) return [];
  const isHeard = deaf.some(({ isStillHeard }) => isStillHeard);
  const why = census.isMute(now)
    ? OWN_EGRESS
    : isHeard
      ? "their frames come in here, so that what this node sends is lost, on its way out or at the switch. Let all of it pass EtherType 0x88b5"
      : "let the switch, and every firewall and filter on these nodes, pass EtherType 0x88b5";
  const names = deaf.map(({ heard }) => heard.name).sort();
  return [
    `isat's frames are lost on ${interfaceName}, though ${answering(names)} for ${names.length === 1 ? "its" : "their"} VIPs: ${why}. Until then each node keeps its VIPs`,
  ];
}

/** Live, lagging and headless nodes may own; a tick older than `hold` counts against a node only where `countsAge`. */
const mayOwn = (state: number, countsAge: boolean) =>
  state === LIVE || state === LAGGING || state === HEADLESS || (state === PAST_HOLD && !countsAge);
