import { nodeState } from "./abi.ts";
import type { Hearing } from "./hearsay.ts";
import { Presence } from "./presence.ts";
import type { Heard } from "./step.ts";
import { type Ns, SECOND } from "./time.ts";

/**
 * Pauses in a row during which an open probe could have been answered, and was not, that count as one missed probe. A
 * process under a quota of processor time pauses between any two rounds, and has to notice a death all the same.
 */
const PAUSES_PER_MISS = 3;

/** A pause of this process, as the census finds it. */
export interface Pause {
  /** Longer than two intervals between probes: what was not answered in it proves nothing. */
  hidesAnswers: boolean;
  /** So long that peers may have come, or may have taken this node for dead. */
  hidesPeers: boolean;
}

/**
 * One peer: alive while it echoes. Once it has left `dead` probes in a row unanswered, it is deaf where it still answers
 * ARP for its VIPs, and dead where it does not.
 */
export class Peer {
  heard: Heard;
  isAlive = false;
  isDeaf = false;
  /** The time since when it has not been alive. */
  silentSince: Ns = 0n;
  /** True if its own probes came in during the first second of that: the frames to it, or its echoes, are lost. */
  isStillHeard = false;
  /** The time after which it would have answered, were it alive and could it hear this node. */
  lostAt: Ns = 0n;
  /** While it does not answer here: that a peer hears it. */
  hearing: Hearing | undefined;
  readonly presence = new Presence();
  /** The number of probes to it in a row that this machine itself has dropped. */
  refused = 0;
  private deadSince: Ns = 0n;
  /** The time when the last question by ARP left. */
  private askedAt: Ns = 0n;
  /** When it last answered while alive. */
  aliveAt: Ns;
  /** True once it was more than joining: isat has decided on its node who answers. */
  hasServed: boolean;
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
    this.hasServed = heard.state !== nodeState.JOINING;
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

  /** True if it has left its last probe or more unanswered, as far as this process knows. */
  hasMissed(now: Ns, patience: Ns): boolean {
    return this.refused + this.pauses > 0 || this.open.some((sent) => now - sent >= patience);
  }

  /**
   * True if the wire is to be asked for it with the next probe: from its first missed probe on, and while it is deaf.
   */
  isInDoubt(now: Ns, patience: Ns, pause: Ns): boolean {
    return this.isDeaf || (this.hasMissed(now, patience) && (this.isAlive || now - this.askedAt >= pause));
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
    this.hasServed ||= heard.state !== nodeState.JOINING;
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
    if (!isDead && !isAlive && !isDeaf) {
      this.deadSince = now;
      this.lostAt = ((this.isAlive ? this.open[0] : presence.openSince) ?? now) + patience;
    }
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
    | "heard"
    | "hasServed"
    | "isAlive"
    | "isDeaf"
    | "aliveAt"
    | "silentSince"
    | "isStillHeard"
    | "lostAt"
    | "hearing"
    | "joins"
    | "refused"
    | "presence"
  >
>;
