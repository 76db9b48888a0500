/**
 * Which addresses a machine on the wire already has. A controller cannot tell: it may be on another network. So it asks the
 * speakers, by an object in the API, and they ask the wire. Pure: answers and the time go in, questions come out.
 */
import { type Address, formatAddress } from "../core/address.ts";
import { elect } from "../core/ownership.ts";

/** The time in which a speaker answers, ms: it probes for 1.5 s. */
const PATIENCE = 5_000;
/** An answer counts for so long, ms. */
const FRESH = 60_000;
const AGAIN = 300_000;
/** A node that has not answered is left out for so long, ms. */
const MUTE = 60_000;
/** An address is asked for by at most so many nodes, one after the other: of some networks only a few nodes are part. */
const TRIES = 4;
/** At most so many addresses are in a question, and so many nodes are asked: all speakers read it. */
const [MOST, MOST_NODES] = [4_000, 8];

/** A question to speakers. */
export interface Question {
  id: string;
  /** The addresses that each node is to ask for. */
  ask: Readonly<Record<string, readonly string[]>>;
}

/** The answer of a speaker; an address that is neither taken nor among those that it cannot ask for is free. */
export interface Reply {
  id: string;
  /** The MAC that answered, by the address. */
  taken: Readonly<Record<string, string>>;
  unable: readonly string[];
}

/** `unasked`: no speaker could ask. */
export type Finding = "free" | "unasked" | { mac: string; node: string };

/** The number of leaderships in this process: a configuration that changes begins one anew, under the same name. */
let begun = 0;

export class Wire {
  /** The nodes that may have a speaker. */
  nodes: readonly string[] = [];
  readonly #term: string;
  #count = 0;
  /** The addresses to ask for, each with the nodes that could not tell. */
  readonly #wanted = new Map<Address, Set<string>>();
  readonly #known = new Map<Address, { finding: Finding; until: number }>();
  readonly #mute = new Map<string, number>();
  #round: { id: string; ask: Map<string, Address[]>; until: number } | undefined;

  /** @param term of the leader: each has its own questions */
  constructor(term: string) {
    this.#term = `${term}.${++begun}`;
  }

  /** An address that somebody answers for is asked for again after this time, ms. */
  readonly again = AGAIN;

  /** undefined: it is not known yet. */
  finding(address: Address, now: number): Finding | undefined {
    const its = this.#known.get(address);
    return its && its.until > now ? its.finding : undefined;
  }

  want(address: Address): void {
    if (!this.#wanted.has(address)) this.#wanted.set(address, new Set());
  }

  /** When something changes though nobody answers, ms. */
  get wakeAt(): number | undefined {
    return this.#round?.until;
  }

  /** Nobody can be asked, as the API refuses the question. */
  giveUp(now: number): void {
    for (const node of this.nodes) this.#mute.set(node, now + MUTE);
    this.#round = undefined;
  }

  /** Ends a round that has waited for long enough. @returns the next question, and the addresses that no node can ask for */
  next(now: number): { question: Question | undefined; unasked: Address[] } {
    if (this.#round && this.#round.until <= now) {
      for (const [node, asked] of this.#round.ask) {
        this.#mute.set(node, now + MUTE);
        for (const address of asked) this.#wanted.get(address)?.add(node); // or the silent ones are asked round and round
      }
      this.#round = undefined;
    }
    if (this.#round || this.#wanted.size === 0) return { question: undefined, unasked: [] };
    const heard = this.nodes.filter((node) => (this.#mute.get(node) ?? 0) <= now);
    const unasked: Address[] = [];
    const ask = new Map<string, Address[]>();
    for (const [address, tried] of [...this.#wanted].slice(0, MOST)) {
      const able = (ask.size < MOST_NODES ? heard : [...ask.keys()]).filter((node) => !tried.has(node));
      const node = tried.size < TRIES ? elect(able, formatAddress(address)) : undefined;
      if (node !== undefined)
        ask
          .set(node, ask.get(node) ?? [])
          .get(node)!
          .push(address);
      else if (tried.size >= TRIES || heard.every((its) => tried.has(its)))
        unasked.push(...this.#settle(address, "unasked", now));
    }
    if (ask.size === 0) return { question: undefined, unasked };
    const id = `${this.#term} ${++this.#count}`;
    this.#round = { id, ask, until: now + PATIENCE };
    const texts = [...ask].map(([node, all]) => [node, all.map(formatAddress)]);
    return { question: { id, ask: Object.fromEntries(texts) }, unasked };
  }

  #settle(address: Address, finding: Finding, now: number): [Address] {
    this.#wanted.delete(address);
    this.#known.set(address, { finding, until: now + (typeof finding === "object" ? AGAIN : FRESH) });
    return [address];
  }

  /** Takes a speaker's answer. @returns the addresses of which it is known now whether they are free */
  take(node: string, { id, taken, unable }: Reply, now: number): Address[] {
    const asked = this.#round?.id === id ? this.#round.ask.get(node) : undefined;
    if (!asked) return []; // of another leader, or too late
    this.#round!.ask.delete(node);
    if (this.#round!.ask.size === 0) this.#round = undefined;
    for (const [address, { until }] of this.#known) if (until <= now) this.#known.delete(address);
    const others = new Set(unable);
    return asked.flatMap((address) => {
      const text = formatAddress(address);
      const mac = taken[text];
      if (mac !== undefined) return this.#settle(address, { mac, node }, now);
      if (!others.has(text)) return this.#settle(address, "free", now);
      this.#wanted.get(address)?.add(node);
      return [];
    });
  }
}
