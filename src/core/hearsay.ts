import type { Frame, Heard } from "./step.ts";
import { type Ns, SECOND } from "./time.ts";
import { type Claim, claimAbout, VERSION, type Word, wordOf } from "./wire.ts";

/**
 * The number of peers that are asked for a node at a time; others each time, so that all are asked in the end. The one that
 * heard it last is asked beside them.
 */
const HELPERS = 3;
/** A node is warned of once others have heard it, and this node has not, for so long. */
const LASTING: Ns = SECOND;
/** Questions whose answers are waited for. */
const REMEMBERED = 256;

/** A node that does not answer here, and that a peer hears. */
export interface Hearing extends Word {
  /** The name of that peer. */
  by: string;
  since: Ns;
}

/** The words of peers about one node, and the questions to them. */
interface Rumour {
  word: Word | undefined;
  /** The time when it was heard last, by our clock, and by whom. */
  heardNs: Ns;
  helper: { node: bigint; name: string } | undefined;
  /** The times of the last questions to which no later word has come. */
  open: Ns[];
  askedAt: Ns;
}

/** A question to one peer. */
export interface Inquiry {
  peer: Heard;
  nonce: bigint;
  claims: Claim[];
}

/** The census's view of a node that does not answer here. */
export interface Missing {
  isAlive: boolean;
  isDeaf: boolean;
  /** The time after which it would have answered, were it alive and could it hear this node. */
  lostAt: Ns;
}

/**
 * Nodes that do not answer here, as peers hear them. Two nodes may not hear each other though a third one hears both: one
 * link of three switches fails. Each would take the other's VIPs, and the third one would let both. So the kernels of a
 * few peers are asked when they last heard such a node; one that was heard lately stands for election.
 */
export class Hearsay {
  /** Nodes that others hear, and this node does not. */
  heard: ReadonlyMap<bigint, Hearing> = new Map();
  private readonly rumours = new Map<bigint, Rumour>();
  /** The last questions, by their nonces. */
  private readonly asked = new Map<bigint, { helper: bigint; at: Ns; nodes: readonly bigint[] }>();
  /** The peer that is asked next. */
  private turn = 0;

  /** True if so much time has passed since the node was asked for. */
  isDue(node: bigint, pause: Ns, now: Ns): boolean {
    return now - (this.rumours.get(node)?.askedAt ?? -pause) >= pause;
  }

  /** Forgets all nodes but these. Nobody is asked for the others any more, so that they would be heard of without end. */
  only(nodes: ReadonlyMap<bigint, unknown>): void {
    for (const node of this.rumours.keys()) if (!nodes.has(node)) this.rumours.delete(node);
  }

  /** The questions for these nodes, each of at most `most` nodes. */
  ask(nodes: readonly bigint[], most: number, alive: Iterable<Heard>, nonce: () => bigint, now: Ns): Inquiry[] {
    const helpers = [...alive].filter(({ maxVersion }) => maxVersion >= VERSION);
    if (helpers.length === 0) return [];
    const shares = new Map<Heard, bigint[]>();
    const turns = Array.from({ length: HELPERS }, (_, i) => helpers[(this.turn + i) % helpers.length]!);
    this.turn = (this.turn + HELPERS) % helpers.length;
    for (const node of nodes) {
      const rumour = this.rumourOf(node);
      rumour.open.push(now);
      rumour.askedAt = now;
      const last = helpers.filter((helper) => helper.node === rumour.helper?.node);
      for (const helper of new Set([...last, ...turns])) shares.set(helper, [...(shares.get(helper) ?? []), node]);
    }
    const inquiries: Inquiry[] = [];
    for (const [peer, its] of shares) {
      for (let at = 0; at < its.length; at += most) {
        const inquiry = { peer, nonce: nonce(), claims: its.slice(at, at + most).map(claimAbout) };
        this.asked.set(inquiry.nonce, { helper: peer.node, at: now, nodes: its.slice(at, at + most) });
        inquiries.push(inquiry);
      }
    }
    for (const old of this.asked.keys()) if (this.asked.size > REMEMBERED) this.asked.delete(old);
    return inquiries;
  }

  private rumourOf(node: bigint): Rumour {
    const known = this.rumours.get(node) ?? { word: undefined, heardNs: 0n, helper: undefined, open: [], askedAt: 0n };
    this.rumours.set(node, known);
    return known;
  }

  /** A peer answered. @returns whether this was the answer to a question of these */
  reply({ node, name, nonce, claims }: Frame): boolean {
    const question = this.asked.get(nonce);
    if (question?.helper !== node) return false;
    this.asked.delete(nonce);
    for (const [i, about] of question.nodes.entries()) {
      const word = claims[i] && wordOf(claims[i]);
      const rumour = this.rumours.get(about);
      const heardNs = word ? question.at - word.age : 0n;
      if (!rumour || heardNs <= rumour.heardNs) continue;
      const open = rumour.open.filter((at) => at > heardNs);
      this.rumours.set(about, { ...rumour, word, heardNs, helper: { node, name }, open });
    }
    return true;
  }

  /**
   * Concludes which nodes others hear.
   * @param missing how the census has a node; undefined: it has never heard it
   * @param dead how many questions in a row bring no later word of a node that is not dead
   * @returns whether anything that an election goes by is different
   */
  judge(missing: (node: bigint) => Missing | undefined, interval: Ns, dead: number, now: Ns): boolean {
    const found = new Map<bigint, Hearing>();
    for (const [node, rumour] of this.rumours) {
      const { word, heardNs, helper } = rumour;
      const { isAlive, isDeaf, lostAt } = missing(node) ?? { isAlive: false, isDeaf: false, lostAt: 0n };
      // A question or two is always open: a peer heard the node a moment before it was asked.
      rumour.open = rumour.open.slice(-dead - 2);
      const isLate = now - heardNs >= interval * BigInt(dead + 1);
      const isGone = isLate && rumour.open.filter((at) => now - at >= interval / 2n).length > dead;
      if (!word || !helper || isAlive || isDeaf || isGone || heardNs <= lostAt) continue;
      found.set(node, { ...word, by: helper.name, since: this.heard.get(node)?.since ?? now });
    }
    const isChanged = describe(found) !== describe(this.heard);
    this.heard = found;
    return isChanged;
  }

  /** Warnings about nodes that others hear. */
  warnings(interfaceName: string, nameOf: (node: bigint) => string | undefined, now: Ns): string[] {
    const lasting = [...this.heard].filter(([, { since }]) => now - since >= LASTING);
    return lasting.map(
      ([node, { by }]) =>
        `${nameOf(node)} is not heard on ${interfaceName}, though ${by} hears it: look at the switches and filters between ${nameOf(node)} and this node. Until then each keeps its VIPs`,
    );
  }
}

const describe = (heard: ReadonlyMap<bigint, Word>): string =>
  [...heard].map(([node, { state, sourceStale }]) => `${node} ${state} ${sourceStale}`).join();
