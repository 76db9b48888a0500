import { claimVerdict, vipState, type WireClaim, wireType } from "../core/abi.ts";
import { addressBytes } from "../core/address.ts";
import { type Held, UNOWNED } from "../core/difference.ts";
import { addressOf, type EntryKey, entryKey, ifindexOf } from "../core/ownership.ts";
import { isMine, MAX_CLAIMS, type Message } from "../core/wire.ts";
import { type Clock, machineClock } from "./clock.ts";
import type { Frame, Neighbour } from "./wire.ts";

/** What claims need of the membership, the kernel's map and the speaker. */
export interface ClaimsHost {
  /** Whether peers are looked for on the interface: where none are, nothing is granted. */
  has(ifindex: number): boolean;
  /** Whether it is known who is there: as long as it is not, nothing is granted either. */
  isSure(ifindex: number): boolean;
  /** The peers that must grant a claim on the interface: those whose kernels answer. */
  alive(ifindex: number): Neighbour[];
  /** Reads anew which peers there are. */
  refresh(): void;
  send(ifindex: number, to: Neighbour, message: Message): boolean;
  nextNonce(): bigint;
  hash(key: EntryKey): bigint;
  entries: ReadonlyMap<EntryKey, Held>;
  /** Those of the entries that this node's kernel has given away since they were claimed. */
  released(keys: readonly EntryKey[]): readonly EntryKey[];
  write(set: readonly (readonly [EntryKey, Held])[]): void;
  /** These are owned here now, and are to be announced. */
  won(keys: readonly EntryKey[]): void;
  /** These were owned here, and a peer has the better claim. */
  lost(keys: readonly EntryKey[]): void;
  /** A peer has refused these for more than a second: two views differ. */
  contested(keys: readonly EntryKey[], peer: string): void;
}

const MS = 1_000_000n;
/** A claim that is not answered is sent again after this, then after twice as long, up to the most. */
const RETRY = 20n * MS;
const RETRY_MOST = 200n * MS;
/** How often it is looked whether something is to be sent again, ms. */
const LOOK = 10;
/**
 * When what a peer has refused, what was lost to a better claim, and what a held node keeps is asked for again: doubling,
 * from and up to this.
 */
const PAUSES = {
  refused: { first: 50n * MS, most: 1_000n * MS },
  lost: { first: 1_000n * MS, most: 60_000n * MS },
  // A held node that has it keeps it: until the view changes, with which these pauses end.
  kept: { first: 1_000n * MS, most: 60_000n * MS },
};
/** For so long a peer's refusal is nothing to speak of. */
const CONTESTED = 1_000n * MS;
/** Frames that may be unanswered at a time: more would only fill queues. */
const WINDOW = 256;

type Peers = ReadonlyMap<bigint, Neighbour>;

interface Asked {
  incarnation: bigint;
  nonce: bigint;
  sent: bigint;
  tries: number;
}

/** Up to {@link MAX_CLAIMS} entries of one interface that are asked for together. */
interface Batch {
  ifindex: number;
  keys: readonly EntryKey[];
  claimNs: bigint;
  /** What is owned already is only defended: against a peer that came, or came back. */
  isDefence: boolean;
  /** Peers that have been asked, by id; those that have granted have none. */
  asked: Map<bigint, Asked | undefined>;
  refused: Map<EntryKey, string>;
  /** What each peer gave away. */
  freed: Map<bigint, WireClaim[]>;
}

interface Pause {
  reason: keyof typeof PAUSES;
  until: bigint;
  length: bigint;
  /** When it was first refused. */
  since: bigint;
  isTold: boolean;
}

/**
 * Asks the kernels of all live peers for what is to be owned here, and owns it once all have granted it: free (nobody
 * had it there) or freed (it is given away in that instant). Who refuses has a better hash; it is asked again.
 */
export class Claims implements Disposable {
  readonly #host: ClaimsHost;
  #wanted: ReadonlySet<EntryKey> = new Set();
  /** Those of them that are wanted in a held node's stead. */
  #stead: ReadonlySet<EntryKey> = new Set();
  readonly #queue = new Set<EntryKey>();
  readonly #batches = new Set<Batch>();
  /** What is being asked for; what is only defended may be in several batches, one for each peer that came. */
  readonly #busy = new Set<EntryKey>();
  readonly #pauses = new Map<EntryKey, Pause>();
  readonly #clock: Clock;
  #cancel: (() => void) | undefined;

  constructor(host: ClaimsHost, clock: Clock = machineClock) {
    this.#host = host;
    this.#clock = clock;
  }

  /** Whether nothing is being asked for, and what waits to be was asked for before: a peer has it. */
  get isIdle(): boolean {
    if (this.#batches.size > 0) return false;
    for (const key of this.#queue) if (!this.#pauses.has(key)) return false;
    return true;
  }

  /** Whether the entry went to a better claim, or was refused, a while ago, and is not to be asked for yet. */
  isPausing(key: EntryKey): boolean {
    const pause = this.#pauses.get(key);
    return pause !== undefined && pause.until > this.#clock.now();
  }

  /** Entries that peers refuse, and have refused for more than a second. */
  get contested(): number {
    const now = this.#clock.now();
    const isWanted = (key: EntryKey) => this.#queue.has(key) || this.#busy.has(key);
    const isLong = ({ reason, since }: Pause) => reason === "refused" && now - since >= CONTESTED;
    return [...this.#pauses].filter(([key, pause]) => isWanted(key) && isLong(pause)).length;
  }

  /**
   * Asks for these, and for no others any more. What is asked for already goes on.
   * @param stead what is wanted only if held nodes do not have it
   */
  want(keys: readonly EntryKey[], stead: readonly EntryKey[] = []): void {
    this.#queue.clear();
    this.#wanted = new Set([...keys, ...stead]);
    this.#stead = new Set(stead);
    for (const [key, { reason }] of this.#pauses) {
      const isOwned = this.#host.entries.get(key)?.state === vipState.OWNED;
      if (reason === "kept" || (!this.#wanted.has(key) && !isOwned)) this.#pauses.delete(key);
    }
    for (const key of this.#wanted) if (!this.#busy.has(key)) this.#queue.add(key);
    this.#run();
  }

  /**
   * Peers came, or came back: what is owned here on the interface is asked of them, lest they own the same. What they had
   * granted before counts no more.
   */
  defend(ifindex: number, peers: readonly Neighbour[]): void {
    if (peers.length === 0) return;
    for (const batch of this.#batches) {
      if (batch.isDefence || batch.ifindex !== ifindex) continue;
      for (const { id } of peers) batch.asked.delete(id);
    }
    const owned: EntryKey[] = [];
    for (const [key, { state }] of this.#host.entries) {
      if (ifindexOf(key) === ifindex && (state === vipState.OWNED || this.#isLeaving(key))) owned.push(key);
    }
    for (const peer of peers) {
      for (let at = 0; at < owned.length; at += MAX_CLAIMS) {
        const batch = this.#begin(ifindex, owned.slice(at, at + MAX_CLAIMS), true);
        this.#ask(batch, peer, this.#clock.now());
      }
    }
    this.#arm();
  }

  /** These were released by the kernel: they are not asked for again at once. */
  pause(keys: readonly EntryKey[]): void {
    for (const key of keys) this.#pause(key, "lost");
  }

  /** A peer's answer to a claim. */
  reply(ifindex: number, { node, nonce, name, claims }: Frame): void {
    for (const batch of this.#batches) {
      if (batch.ifindex !== ifindex || batch.asked.get(node)?.nonce !== nonce) continue;
      batch.asked.set(node, undefined);
      for (const claim of claims) if (isMine(claim)) batch.refused.set(keyOf(ifindex, claim), name);
      const freed = claims.filter(({ verdict }) => verdict === claimVerdict.RELEASED);
      if (freed.length > 0) batch.freed.set(node, freed);
      // Not after each of a thousand answers: it goes through all peers. Who is late is seen to by the timer.
      if (!isPending(batch)) this.#run();
      return;
    }
  }

  #run(): void {
    const now = this.#clock.now();
    const known = new Map<number, Peers>();
    for (const batch of [...this.#batches]) this.#settle(batch, now, known);
    this.#start(now);
    this.#arm();
  }

  /** Sees to it that it is looked again when there is something to see. */
  #arm(): void {
    const now = this.#clock.now();
    this.#cancel?.();
    if (this.#batches.size > 0) {
      this.#cancel = this.#clock.after(LOOK, () => this.#run());
      return;
    }
    const waiting = [...this.#queue].map((key) => this.#pauses.get(key)?.until ?? now);
    if (waiting.length === 0) return;
    const first = waiting.reduce((least, until) => (until < least ? until : least));
    this.#cancel = this.#clock.after(Math.max(LOOK, Number((first - now) / MS)), () => this.#run());
  }

  /** Begins with what waits, as far as the window lets it. */
  #start(now: bigint): void {
    let open = [...this.#batches].reduce((sum, { asked }) => sum + asked.size, 0);
    let room = (WINDOW - open) * MAX_CLAIMS; // with one peer; to look at all that waits after each answer takes long
    const ready = new Map<number, EntryKey[]>();
    const sure = new Map<number, boolean>();
    for (const key of this.#queue) {
      if (room <= 0) break;
      const pause = this.#pauses.get(key);
      if (pause && pause.until > now) continue;
      const ifindex = ifindexOf(key);
      // Who is asked gives it away at once, and nobody would answer until it is known who else is to be asked.
      if (!sure.has(ifindex)) sure.set(ifindex, !this.#host.has(ifindex) || this.#host.isSure(ifindex));
      if (!sure.get(ifindex)) continue;
      const keys = ready.get(ifindex) ?? [];
      ready.set(ifindex, keys);
      keys.push(key);
      room -= 1;
    }
    for (const [ifindex, keys] of ready) {
      for (let at = 0; at < keys.length && open < WINDOW; at += MAX_CLAIMS) {
        const part = keys.slice(at, at + MAX_CLAIMS);
        for (const key of part) this.#queue.delete(key);
        const batch = this.#begin(ifindex, part, false);
        const held = { state: vipState.CLAIMING, claimNs: batch.claimNs, untilNs: 0n };
        const silent = part.filter((key) => !this.#isLeaving(key));
        this.#host.write(silent.map((key) => [key, { ...held, hash: this.#host.hash(key) }]));
        this.#settle(batch, now, new Map());
        open += batch.asked.size;
      }
    }
  }

  #begin(ifindex: number, keys: readonly EntryKey[], isDefence: boolean): Batch {
    const batch = {
      ifindex,
      keys,
      claimNs: this.#clock.now(),
      isDefence,
      asked: new Map(),
      refused: new Map(),
      freed: new Map(),
    };
    this.#batches.add(batch);
    if (!isDefence) for (const key of keys) this.#busy.add(key);
    return batch;
  }

  #ask({ ifindex, keys, asked, isDefence }: Batch, peer: Neighbour, now: bigint): void {
    const id = peer.id;
    const nonce = this.#host.nextNonce();
    // What is leaving is not to be taken from anybody: it only ends at once where a peer has it already.
    const isSoft = (key: EntryKey) => (isDefence ? this.#isLeaving(key) : this.#stead.has(key));
    const claims = keys.map((key) => ({
      ip: addressBytes(addressOf(key)),
      verdict: isSoft(key) ? claimVerdict.FREE : claimVerdict.CLAIMED,
      hash: this.#host.entries.get(key)?.hash || this.#host.hash(key),
    }));
    this.#host.send(ifindex, peer, { type: wireType.WIRE_CLAIM, nonce, claims });
    asked.set(id, { incarnation: peer.incarnation, nonce, sent: now, tries: (asked.get(id)?.tries ?? 0) + 1 });
  }

  /** Asks whom it has not asked yet, again who is late, and ends where nobody is left. */
  #settle(batch: Batch, now: bigint, known: Map<number, Peers>): void {
    if (!this.#batches.has(batch)) return;
    if (!this.#host.has(batch.ifindex)) {
      this.#close(batch); // nobody to be asked is not the same as nobody there
      return;
    }
    // Whoever appeared since is asked too: read anew, right before anything is owned.
    if (!isPending(batch)) {
      this.#host.refresh();
      known.clear();
    }
    const { ifindex } = batch;
    const alive = known.get(ifindex) ?? new Map(this.#host.alive(ifindex).map((peer) => [peer.id, peer]));
    known.set(ifindex, alive);
    // Who has granted and died as well: to a peer to which this node was dead, its grant was none.
    for (const node of batch.asked.keys()) if (!alive.has(node)) batch.asked.delete(node);
    for (const [node, peer] of alive) {
      const asked = batch.asked.get(node);
      if (batch.isDefence ? !asked : batch.asked.has(node) && !asked) continue;
      const patience = asked && RETRY << BigInt(Math.min(asked.tries - 1, 8));
      const isLate = asked && now - asked.sent >= (patience! < RETRY_MOST ? patience! : RETRY_MOST);
      if (!asked || isLate) this.#ask(batch, peer, now);
    }
    if (!isPending(batch) && (batch.isDefence || this.#host.isSure(ifindex))) this.#end(batch, alive);
  }

  /** Still answered here while it is asked for again: nothing is silent that need not be. */
  #isLeaving(key: EntryKey): boolean {
    const held = this.#host.entries.get(key);
    return held?.state === vipState.LEAVING && held.untilNs > this.#clock.now();
  }

  #close(batch: Batch): void {
    this.#batches.delete(batch);
    if (!batch.isDefence) for (const key of batch.keys) this.#busy.delete(key);
  }

  #end(batch: Batch, alive: Peers): void {
    this.#close(batch);
    const { entries } = this.#host;
    const wasAsked = (key: EntryKey) => {
      const held = entries.get(key);
      const isHeld = held?.state === vipState.OWNED || this.#isLeaving(key);
      if (batch.isDefence) return isHeld && held!.claimNs <= batch.claimNs; // else claimed anew
      if (this.#isLeaving(key)) return true;
      return held?.state === vipState.CLAIMING && held.claimNs === batch.claimNs; // else it was given up meanwhile
    };
    for (const key of batch.keys) if (!wasAsked(key) && this.#wanted.has(key)) this.#queue.add(key);
    const asked = batch.keys.filter(wasAsked);
    // A claim that began before another one was granted here, and was written after that, counts for nothing.
    const released = new Set(batch.isDefence ? [] : this.#host.released(asked));
    const refused = asked.filter((key) => batch.refused.has(key) || released.has(key));
    const granted = asked.filter((key) => !batch.refused.has(key) && !released.has(key));
    if (refused.length > 0) {
      const lost = refused.filter((key) => entries.get(key)!.state === vipState.OWNED);
      this.#host.write(refused.map((key) => [key, UNOWNED]));
      for (const key of refused) this.#pause(key, !batch.isDefence && this.#stead.has(key) ? "kept" : "refused");
      this.#tell(refused, batch);
      if (lost.length > 0) this.#host.lost(lost);
      for (const key of refused) if (this.#wanted.has(key) || lost.includes(key)) this.#queue.add(key);
    }
    if (!batch.isDefence && granted.length > 0) {
      for (const key of granted) if (this.#pauses.get(key)?.reason !== "lost") this.#pauses.delete(key);
      this.#host.write(granted.map((key) => [key, { ...entries.get(key)!, state: vipState.OWNED, untilNs: 0n }]));
      this.#host.won(granted);
    }
    for (const [node, claims] of batch.freed) {
      const peer = alive.get(node);
      if (!peer) continue;
      const nonce = this.#host.nextNonce();
      this.#host.send(batch.ifindex, peer, { type: wireType.WIRE_NOTICE, nonce, claims });
    }
  }

  #pause(key: EntryKey, reason: Pause["reason"]): void {
    const { first, most } = PAUSES[reason];
    const now = this.#clock.now();
    const last = this.#pauses.get(key);
    // What has been quiet for long enough begins anew.
    const before = last?.reason === reason && now - last.until < PAUSES.lost.most ? last : undefined;
    const doubled = before ? before.length * 2n : first;
    const length = doubled < most ? doubled : most;
    const { since = now, isTold = false } = before ?? {};
    this.#pauses.set(key, { reason, until: now + length, length, since, isTold });
  }

  /** Says once of each entry that two views differ, when they have for a second. */
  #tell(keys: readonly EntryKey[], { refused }: Batch): void {
    const now = this.#clock.now();
    const byPeer = new Map<string, EntryKey[]>();
    for (const key of keys) {
      const pause = this.#pauses.get(key)!;
      if (pause.reason !== "refused" || pause.isTold || now - pause.since < CONTESTED) continue;
      const peer = refused.get(key);
      if (peer === undefined) continue;
      pause.isTold = true;
      byPeer.set(peer, [...(byPeer.get(peer) ?? []), key]);
    }
    for (const [peer, its] of byPeer) this.#host.contested(its, peer);
  }

  [Symbol.dispose](): void {
    this.#cancel?.();
  }
}

/** Whether any peer has yet to answer. */
function isPending({ asked }: Batch): boolean {
  for (const question of asked.values()) if (question) return true;
  return false;
}

const keyOf = (ifindex: number, { ip }: WireClaim) =>
  entryKey(ifindex, new DataView(ip.buffer, ip.byteOffset).getUint32(0));
