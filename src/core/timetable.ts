import TinyQueue from "tinyqueue";
import type { Address } from "./address.ts";

/**
 * When a VIP that was gained is announced, in ms after the gain: RFC 5227 asks for two announcements 2 s apart, and a
 * Linux host ignores a change within its locktime of 1 s.
 */
export const BURST = [0, 1_100, 3_100] as const;

/** A Linux host ignores a second announcement that comes sooner than this, ms. */
const LOCKTIME = 1_000;

export interface Pace {
  /** ms between two refreshes of a VIP: below a third of a switch's FDB ageing (300 s), above active-ack's 60 s. */
  refresh: number;
  /** Frames a second. */
  rate: number;
}

interface Turn {
  address: Address;
  /** ms of the caller's clock */
  due: number;
  /** How many of the burst have gone; BURST.length: a refresh. */
  step: number;
  gained: number;
  /** When the last one went, ms; -Infinity: none has. */
  sent: number;
}

/** A bucket that floating-point sums leave a hair below one token holds one. */
const TOKEN = 1 - 1e-9;

/**
 * When which VIP is announced on one interface: a burst when it is gained, then refreshes, all under one token bucket,
 * bursts before refreshes. It reads no clock and rolls no dice: `now` (ms) and `random` (0 to 1) come in as arguments.
 */
export class Timetable {
  private pace: Pace;
  private readonly random: () => number;
  private readonly turns = new Map<Address, Turn>();
  private readonly bursts = new TinyQueue<Turn>([], byDue);
  private refreshes = new TinyQueue<Turn>([], byDue);
  private tokens = 0;
  private filled: number;

  constructor(pace: Pace, now: number, random: () => number) {
    this.pace = pace;
    this.random = random;
    this.filled = now;
    this.tokens = this.capacity;
  }

  /** A tenth of a second's frames at once, so that a police counting per second never sees more than 1.1 x the rate. */
  private get capacity(): number {
    return Math.max(1, this.pace.rate / 10);
  }

  /** VIPs in the timetable. */
  get size(): number {
    return this.turns.size;
  }

  /** From now on: refreshes that a slower pace had put off come as the new one has it. */
  setPace(pace: Pace, now: number): void {
    this.refill(now);
    this.pace = pace;
    this.tokens = Math.min(this.tokens, this.capacity);
    const waiting = this.refreshes.data.filter((turn) => this.turns.get(turn.address) === turn);
    for (const turn of waiting) {
      const soon = Math.max(now + pace.refresh * this.random(), turn.sent + LOCKTIME);
      turn.due = Math.min(turn.due, soon);
    }
    this.refreshes = new TinyQueue(waiting, byDue);
  }

  /** The VIP is announced from now on; one that is already is announced anew. */
  gain(address: Address, now: number): void {
    const turn = { address, due: now, step: 0, gained: now, sent: Number.NEGATIVE_INFINITY };
    this.turns.set(address, turn);
    this.bursts.push(turn);
  }

  /**
   * The VIP was owned before this process began: no burst, for nothing moved; only refreshes, spread over the whole
   * interval from now.
   */
  keep(address: Address, now: number): void {
    const due = now + this.pace.refresh * this.random();
    const turn = { address, due, step: BURST.length, gained: now, sent: Number.NEGATIVE_INFINITY };
    this.turns.set(address, turn);
    this.refreshes.push(turn);
  }

  lose(address: Address): void {
    this.turns.delete(address);
  }

  /** The next VIP to announce now; undefined where none is due, or the bucket is empty. */
  next(now: number): Address | undefined {
    this.refill(now);
    if (this.tokens < TOKEN) return undefined;
    for (const queue of [this.bursts, this.refreshes]) {
      const turn = this.due(queue, now);
      if (!turn) continue;
      queue.pop();
      this.tokens -= 1;
      this.schedule(turn, now);
      return turn.address;
    }
    return undefined;
  }

  /** When {@link next} may have one, ms; undefined where the timetable is empty. */
  wake(now: number): number | undefined {
    const heads = [this.bursts, this.refreshes].flatMap((queue) => this.head(queue)?.due ?? []);
    if (heads.length === 0) return undefined;
    this.refill(now);
    const tokenAt = this.tokens >= TOKEN ? now : now + ((1 - this.tokens) * 1000) / this.pace.rate;
    return Math.max(Math.min(...heads), tokenAt);
  }

  /** Whether all that waits are refreshes that nothing holds up: they may wait a little for others. */
  canWait(now: number): boolean {
    this.refill(now);
    return this.tokens >= TOKEN && !this.head(this.bursts);
  }

  /** The queue's first turn that still counts: a VIP lost or gained anew leaves its old turn behind. */
  private head(queue: TinyQueue<Turn>): Turn | undefined {
    for (;;) {
      const turn = queue.peek();
      if (!turn || this.turns.get(turn.address) === turn) return turn;
      queue.pop();
    }
  }

  private due(queue: TinyQueue<Turn>, now: number): Turn | undefined {
    const turn = this.head(queue);
    return turn && turn.due <= now ? turn : undefined;
  }

  private schedule(turn: Turn, now: number): void {
    const { refresh } = this.pace;
    turn.sent = now;
    turn.step = Math.min(turn.step + 1, BURST.length + 1);
    const offset = BURST[turn.step];
    if (offset !== undefined) {
      // Late as a whole where the bucket held it up: what counts is the time between two, above a host's locktime.
      turn.due = Math.max(turn.gained + offset, now + offset - BURST[turn.step - 1]!);
      this.bursts.push(turn);
      return;
    }
    // The first refresh after a burst comes early by up to a third, so that VIPs gained together drift apart.
    const isFirst = turn.step === BURST.length;
    const factor = isFirst ? 2 / 3 + this.random() / 3 : 0.95 + this.random() / 10;
    turn.due = now + refresh * factor;
    this.refreshes.push(turn);
  }

  private refill(now: number): void {
    const earned = (Math.max(0, now - this.filled) * this.pace.rate) / 1000;
    this.tokens = Math.min(this.capacity, this.tokens + earned);
    this.filled = now;
  }
}

function byDue(a: Turn, b: Turn): number {
  return a.due - b.due;
}
