import type { Settings } from "./settings.ts";

/** The claim of one ARP packet: this IP is at this MAC, and, by the switch's settings, behind this port. */
export interface Claim {
  ip: string;
  mac: string;
  port: number;
  /** "answer": a reply to the switch. "asking": a request to the switch. "overheard": a request to another host. */
  kind: "answer" | "gratuitous" | "asking" | "overheard";
}

/** A unicast request that the switch must send, to ask whether this MAC, behind this port, has the IP. */
export interface Question {
  ip: string;
  mac: string;
  port: number;
}

/** One line of the table. `age` is in seconds of the switch's own time. */
export interface ArpRow {
  ip: string;
  mac: string;
  port: number;
  age: number;
}

interface Entry {
  mac: string;
  port: number;
  at: number;
}

/** An active-ack in progress: the old MAC is asked first, then the new one. */
interface Doubt {
  asked: "old" | "new";
  claim: Claim;
  until: number;
}

/** H3C's manual, `arp anti-attack active-ack enable`. */
const ACK_QUIET_S = 60;
const ACK_WAIT_S = 5;

/** The ARP table of an L3 switch, and its rules for changing it. Times are ms, and are passed in as arguments. */
export class ArpTable {
  readonly #settings: Settings;
  readonly #entries = new Map<string, Entry>();
  readonly #doubts = new Map<string, Doubt>();

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** The entry for an IP; undefined if there is none, or it has aged. */
  entry(ip: string, now: number): Readonly<Entry> | undefined {
    const entry = this.#entries.get(ip);
    return entry && now - entry.at < this.#ms(this.#settings.arpAgeing) ? entry : undefined;
  }

  /**
   * Takes a claim into the table, or refuses it. @returns a question that must be answered first, if the settings ask
   * for one
   */
  hear(claim: Claim, now: number): Question | undefined {
    const entry = this.entry(claim.ip, now);
    const next = { mac: claim.mac, port: claim.port, at: now };
    if (!entry) {
      this.#doubts.delete(claim.ip);
      if (this.#mayCreate(claim)) this.#entries.set(claim.ip, next);
      return undefined;
    }
    if (entry.mac !== claim.mac && this.#settings.activeAck) return this.#doubt(entry, claim, now);
    this.#entries.set(claim.ip, next);
    if (claim.kind === "answer") this.#doubts.delete(claim.ip);
    return undefined;
  }

  /** The questions of active-ack that are due. */
  tick(now: number): Question[] {
    const questions: Question[] = [];
    for (const [ip, doubt] of this.#doubts) {
      if (now < doubt.until) continue;
      if (doubt.asked === "new") this.#doubts.delete(ip);
      else {
        this.#doubts.set(ip, { ...doubt, asked: "new", until: now + this.#ms(ACK_WAIT_S) });
        questions.push({ ip, mac: doubt.claim.mac, port: doubt.claim.port });
      }
    }
    return questions;
  }

  rows(now: number): ArpRow[] {
    return [...this.#entries]
      .filter(([ip]) => this.entry(ip, now))
      .map(([ip, { mac, port, at }]) => ({ ip, mac, port, age: ((now - at) * this.#settings.timeScale) / 1000 }));
  }

  /** RFC 826: the host that is asked learns the sender; all others only update an entry that they have. */
  #mayCreate({ kind }: Claim): boolean {
    return kind === "gratuitous" ? this.#settings.gratuitousLearning : kind !== "overheard";
  }

  /**
   * Active-ack: an entry updated within the last minute stays. An older one stays if its MAC answers; else the new MAC
   * must.
   */
  #doubt(entry: Entry, claim: Claim, now: number): Question | undefined {
    const doubt = this.#doubts.get(claim.ip);
    if (doubt) {
      if (doubt.asked === "new" && claim.kind === "answer" && claim.mac === doubt.claim.mac) {
        this.#entries.set(claim.ip, { mac: claim.mac, port: claim.port, at: now });
        this.#doubts.delete(claim.ip);
      }
      return undefined;
    }
    if (now - entry.at < this.#ms(ACK_QUIET_S)) return undefined;
    this.#doubts.set(claim.ip, { asked: "old", claim, until: now + this.#ms(ACK_WAIT_S) });
    return { ip: claim.ip, mac: entry.mac, port: entry.port };
  }

  #ms(seconds: number): number {
    return (seconds * 1000) / this.#settings.timeScale;
  }
}
