import TinyQueue from "tinyqueue";
import { type Address, isIPv4 } from "./address.ts";
import { doubled } from "./time.ts";

/**
 * When a VIP that was gained is announced, in ms after the gain: RFC 5227 asks for two announcements 2 s apart, and a
 * Linux host ignores a change within its locktime of 1 s.
 */
export const BURST = [0, 1_100, 3_100] as const;
/** For IPv6: RFC 4861 7.2.6 has three at most, a second apart, and hosts have no locktime. */
export const BURST6 = [0, 1_000, 2_000] as const;

/** A Linux host ignores a second announcement that comes sooner than this, ms. */
const LOCKTIME = 1_000;

/**
 * A VIP begins no second burst for `first` ms, then for twice as long, up to `most`: so that two machines that dispute it
 * fill no wire. RFC 5227, section 2.4, has a defence each 10 s at most. After `quiet` it begins anew.
 */
const PAUSES = { first: LOCKTIME, most: 10_000, quiet: 20_000 };

/** An announcement that was refused is due again after `first` ms, then after twice as long, up to `most`. */
const RETRIES = { first: 100, most: 1_000 };

/**
 * The number of bursts' announcements that go before a refresh that is due: bursts without end must not starve
 * refreshes.
 */
const SHARE = 3;

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
  /** The number of refusals in a row, where this turn is to make up for them; and before it was given out last. */
  refusals: number;
  refused: number;
  refusedAt: number;
}

const NEW = { step: 0, sent: Number.NEGATIVE_INFINITY, refusals: 0, refused: 0, refusedAt: 0 };

/** A bucket that floating-point sums leave a hair below one token holds one. */
const TOKEN = 1 - 1e-9;

/**
 * The times at which VIPs are announced on one interface: a burst when one is gained, then refreshes, all under one token
 * bucket, bursts before refreshes, as far as those have their share. It reads no clock and rolls no dice: `now` (ms) and
 * `random` (0 to 1) come in as arguments.
 */
export class Timetable {
  private pace: Pace;
  private readonly random: () => number;
  private readonly turns = new Map<Address, Turn>();
  private readonly bursts = new TinyQueue<Turn>([], byDue);
  private refreshes = new TinyQueue<Turn>([], byDue);
  /** The begin of a VIP's last burst and the pause until its next one, ms: of VIPs that had one a short while ago. */
  private readonly begun = new Map<Address, { at: number; pause: number }>();
  /** Announcements of bursts that went since the last refresh. */
  private inARow = 0;
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
    this.hasten(() => now + pace.refresh * this.random());
  }

  /** Refreshes all VIPs now, as far as the rate allows. */
  refreshAll(now: number): void {
    this.hasten(() => now);
  }

  private hasten(soon: () => number): void {
    const waiting = this.refreshes.data.filter((turn) => this.turns.get(turn.address) === turn);
    for (const turn of waiting) turn.due = Math.min(turn.due, Math.max(soon(), turn.sent + LOCKTIME));
    this.refreshes = new TinyQueue(waiting, byDue);
  }

  /**
   * The VIP is announced from now on; one that is already is announced anew. Its burst waits where one began just now.
   */
  gain(address: Address, now: number): void {
    const waiting = this.turns.get(address);
    if (waiting?.step === 0 && waiting.refusals === 0) return;
    const last = this.begun.get(address);
    const gained = last ? Math.max(now, last.at + last.pause) : now;
    this.put({ ...NEW, address, due: gained, gained });
  }

  /**
   * The VIP was owned before this process began: no burst, for nothing moved; only refreshes, spread over the whole
   * interval from now.
   */
  keep(address: Address, now: number): void {
    this.put({ ...NEW, address, due: now + this.pace.refresh * this.random(), step: BURST.length, gained: now });
  }

  /**
   * The announcement that {@link next} gave out did not leave: it is due again soon.
   * @returns for how long the VIP's announcements have been refused, ms
   */
  refuse(address: Address, now: number): number {
    const turn = this.turns.get(address);
    if (!turn || turn.sent < turn.gained) return 0; // it was lost, or gained anew, meanwhile
    const refusedAt = turn.refused > 0 ? turn.refusedAt : now;
    const due = now + doubled(RETRIES, turn.refused);
    this.put({ ...turn, due, step: turn.step - 1, refusals: turn.refused + 1, refusedAt });
    return now - refusedAt;
  }

  private put(turn: Turn): void {
    this.turns.set(turn.address, turn);
    (turn.step < BURST.length ? this.bursts : this.refreshes).push(turn);
  }

  lose(address: Address): void {
    this.turns.delete(address);
  }

  /** The next VIP to announce now; undefined where none is due, or the bucket is empty. */
  next(now: number): Address | undefined {
    this.refill(now);
    if (this.tokens < TOKEN) return undefined;
    const [burst, refresh] = [this.due(this.bursts, now), this.due(this.refreshes, now)];
    const turn = refresh && this.inARow >= SHARE ? refresh : (burst ?? refresh);
    if (!turn) return undefined;
    (turn === burst ? this.bursts : this.refreshes).pop();
    this.inARow = turn === burst ? this.inARow + 1 : 0;
    this.tokens -= 1;
    this.schedule(turn, now);
    return turn.address;
  }

  /** When {@link next} may have one, ms; undefined where the timetable is empty. */
  wake(now: number): number | undefined {
    const heads = [this.bursts, this.refreshes].flatMap((queue) => this.head(queue)?.due ?? []);
    if (heads.length === 0) return undefined;
    this.refill(now);
    const tokenAt = this.tokens >= TOKEN ? now : now + ((1 - this.tokens) * 1000) / this.pace.rate;
    return Math.max(Math.min(...heads), tokenAt);
  }

  /** True if all that waits are refreshes that nothing holds up: they may wait a little for others. */
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
    if (turn.step === 0 && turn.refusals === 0) this.begin(turn.address, now);
    turn.refused = turn.refusals;
    turn.refusals = 0;
    turn.step = Math.min(turn.step + 1, BURST.length + 1);
    const burst = isIPv4(turn.address) ? BURST : BURST6;
    const offset = burst[turn.step];
    if (offset !== undefined) {
      // Late as a whole where the bucket held it up: what counts is the time between two, above a host's locktime.
      turn.due = Math.max(turn.gained + offset, now + offset - burst[turn.step - 1]!);
      this.bursts.push(turn);
      return;
    }
    // The first refresh after a burst comes early by up to a third, so that VIPs gained together drift apart.
    const isFirst = turn.step === BURST.length;
    const factor = isFirst ? 2 / 3 + this.random() / 3 : 0.95 + this.random() / 10;
    turn.due = now + refresh * factor;
    this.refreshes.push(turn);
  }

  /** A burst of the VIP begins. */
  private begin(address: Address, now: number): void {
    for (const [other, { at }] of this.begun) {
      if (now - at < PAUSES.quiet) break;
      this.begun.delete(other);
    }
    const last = this.begun.get(address);
    this.begun.delete(address); // the oldest one stands first
    this.begun.set(address, { at: now, pause: last ? Math.min(2 * last.pause, PAUSES.most) : PAUSES.first });
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
