import { claimVerdict, vipState, type WireClaim, wireType } from "./abi.ts";
import { type Address, addressBytes, addressOfBytes } from "./address.ts";
import { isLeaving } from "./difference.ts";
import type { Census } from "./liveness.ts";
import { type Frame, type Heard, isOwned, type Outgoing, type Step, summary, UNOWNED } from "./step.ts";
import { earlier, later, MS, type Ns } from "./time.ts";
import { claimsWithin, isMine } from "./wire.ts";

/** A claim that is not answered is sent again after this long, then after twice as long, up to the most. */
const RETRY: Ns = 20n * MS;
const RETRY_MOST: Ns = 200n * MS;
/** How often open claims are looked after. */
const LOOK: Ns = 10n * MS;
/**
 * When a VIP is claimed again that a peer refused, that was lost to a better claim, or that a headless node keeps: after
 * `first`, then after twice as long, up to `most`.
 */
const PAUSES = {
  refused: { first: 50n * MS, most: 1_000n * MS },
  lost: { first: 1_000n * MS, most: 60_000n * MS },
  // A headless node that has it keeps it until the election changes, which ends these pauses, or until it passes its fence,
  // of which nobody is told: from then on nobody answers until the VIP is claimed again.
  kept: { first: 1_000n * MS, most: 2_000n * MS },
};
/** How long a peer refuses a VIP before that is worth a warning. */
const CONTESTED: Ns = 1_000n * MS;
/** How many claim frames may be unanswered at a time: more would only fill queues. */
const WINDOW = 256;

/** A question to one peer that is not answered yet. */
interface Question {
  nonce: bigint;
  sentAt: Ns;
  tries: number;
}

/** VIPs that are claimed together, as many as a frame has room for. */
interface Batch {
  addresses: readonly Address[];
  claimNs: Ns;
  /** It re-asserts VIPs that are owned already, against a peer that joined. */
  isReassertion: boolean;
  /** Peers that were asked, by id: with their open question, or undefined once they have answered. */
  asked: Map<bigint, Question | undefined>;
  /** Who refused each VIP. */
  refused: Map<Address, string>;
  /** What each peer released. */
  released: Map<bigint, WireClaim[]>;
  /** Everybody has answered, and the kernel is being read: the batch ends with that reading. */
  isLookedAt: boolean;
}

interface Pause {
  reason: keyof typeof PAUSES;
  until: Ns;
  length: Ns;
  /** When it was first refused. */
  since: Ns;
  isReported: boolean;
}

/** VIPs to claim, and whether each is wanted only if no headless node has it, as this node stands in for one. */
export type Wanted = ReadonlyMap<Address, { isStandIn: boolean }>;

/** Nonces of one process: its clock, and always more than the nonce before. */
export class Nonces {
  private last = 0n;

  next(now: Ns): bigint {
    this.last = now > this.last ? now : this.last + 1n;
    return this.last;
  }
}

/** How a claim leaves: the segment fills in what all of its frames have in common. */
export type Send = (type: Outgoing["type"], peer: Heard, nonce: bigint, claims: readonly WireClaim[]) => void;

/**
 * Asks the kernels of all live peers for the VIPs that are to be owned here, and owns each once all of them have granted
 * it: it was free there, or it was released in that instant. A peer that refuses has a better hash, and is asked again.
 */
export class Claims {
  private wanted: Wanted = new Map();
  private readonly queue = new Set<Address>();
  private readonly batches = new Set<Batch>();
  /** VIPs in a batch that claims them. A re-assertion may have a VIP in several batches, one for each peer that joined. */
  private readonly busy = new Set<Address>();
  private readonly pauses = new Map<Address, Pause>();
  private ranAt: Ns = 0n;
  private readonly nonces: Nonces;
  private readonly hashOf: (address: Address) => bigint;
  /** How many VIPs a frame claims at most. */
  private most: number;

  /**
   * @param hashOf this node's rendezvous hash for a VIP, its first 64 bits
   * @param mtu the interface's
   */
  constructor(nonces: Nonces, hashOf: (address: Address) => bigint, mtu: number) {
    this.nonces = nonces;
    this.hashOf = hashOf;
    this.most = Math.max(1, claimsWithin(mtu));
  }

  /** The interface has this MTU now. Batches that no longer fit a frame are divided. */
  fit(mtu: number): void {
    this.most = Math.max(1, claimsWithin(mtu));
    for (const batch of [...this.batches]) {
      if (batch.addresses.length <= this.most) continue;
      this.batches.delete(batch);
      for (const addresses of this.parts(batch.addresses))
        this.batches.add({ ...batch, addresses, asked: new Map(batch.asked) });
    }
  }

  /** Whether nothing is being claimed, and all that waits to be was claimed before: a peer has it. */
  get isIdle(): boolean {
    if (this.batches.size > 0) return false;
    for (const address of this.queue) if (!this.pauses.has(address)) return false;
    return true;
  }

  /** Whether the VIP was lost or refused a while ago, and is not to be claimed yet. */
  isPausing(address: Address, now: Ns): boolean {
    const pause = this.pauses.get(address);
    return pause !== undefined && pause.until > now;
  }

  /** How many VIPs peers have refused for more than a second. */
  contested(now: Ns): number {
    const isWanted = (address: Address) => this.queue.has(address) || this.busy.has(address);
    const isLong = ({ reason, since }: Pause) => reason === "refused" && now - since >= CONTESTED;
    return [...this.pauses].filter(([address, pause]) => isWanted(address) && isLong(pause)).length;
  }

  /** When {@link run} is to be called again. */
  get wakeAt(): Ns | undefined {
    const soonest = this.ranAt + LOOK;
    if (this.batches.size > 0) return soonest;
    let first: Ns | undefined;
    for (const address of this.queue) first = earlier(this.pauses.get(address)?.until ?? soonest, first);
    return first && later(first, soonest);
  }

  /** Claims these VIPs, and no others any more. Claims that are under way go on. */
  want(wanted: Wanted, step: Step): void {
    this.queue.clear();
    this.wanted = wanted;
    for (const [address, { reason }] of this.pauses) {
      const isStale = !wanted.has(address) && !isOwned(step.entries.get(address));
      if (reason === "kept" || isStale) this.pauses.delete(address);
    }
    for (const address of wanted.keys()) if (!this.busy.has(address)) this.queue.add(address);
  }

  /**
   * Peers joined: each may own what is owned here, so all of it is asked of them. What they granted before counts no more.
   */
  reassert(peers: readonly Heard[], step: Step, send: Send): void {
    if (peers.length === 0) return;
    for (const batch of this.batches) {
      if (!batch.isReassertion) for (const { node } of peers) batch.asked.delete(node);
    }
    const owned = [...step.entries].filter(([, entry]) => isOwned(entry) || isLeaving(entry, step.now));
    const addresses = owned.map(([address]) => address);
    for (const peer of peers) {
      for (const part of this.parts(addresses)) this.ask(this.begin(part, true, step.now), peer, step, send);
    }
  }

  /** The kernel released these to a better claim: they are not claimed again at once. */
  lose(addresses: readonly Address[], now: Ns): void {
    for (const address of addresses) this.pause(address, "lost", now);
  }

  /** A peer answered a claim. The kernel is looked at where that was the last answer. */
  reply({ node, nonce, name, claims }: Frame, step: Step): void {
    for (const batch of this.batches) {
      if (batch.asked.get(node)?.nonce !== nonce) continue;
      batch.asked.set(node, undefined);
      for (const claim of claims) if (isMine(claim)) batch.refused.set(addressOfBytes(claim.ip), name);
      const released = claims.filter(({ verdict }) => verdict === claimVerdict.RELEASED);
      if (released.length > 0) batch.released.set(node, released);
      look(batch, step);
      return;
    }
  }

  /** Sends what is late, and begins with what waits. A batch that everybody has answered has the kernel looked at. */
  run(census: Census, step: Step, send: Send): void {
    this.ranAt = step.now;
    for (const batch of this.batches) this.askAll(batch, census, step, send);
    this.start(census, step, send);
    for (const batch of this.batches) look(batch, step);
  }

  /**
   * Ends the batches that everybody has answered, and begins with what waits. To be called with a fresh census, as peers
   * that appeared since must be asked too, and with what the kernel has released meanwhile.
   * @returns VIPs that were owned and have to be given up
   */
  finish(census: Census, released: readonly Address[], step: Step, send: Send): Address[] {
    const lost: Address[] = [];
    let hasEnded = false;
    const wasReleased = new Set(released);
    for (const batch of [...this.batches]) {
      if (isOpen(batch) || !batch.isLookedAt) continue;
      batch.isLookedAt = false;
      this.askAll(batch, census, step, send);
      if (isOpen(batch) || !(batch.isReassertion || census.isComplete(step.now))) continue;
      lost.push(...this.end(batch, census, wasReleased, step, send));
      hasEnded = true;
    }
    if (hasEnded) this.run(census, step, send);
    return lost;
  }

  private begin(addresses: readonly Address[], isReassertion: boolean, claimNs: Ns): Batch {
    const batch: Batch = {
      addresses,
      claimNs,
      isReassertion,
      asked: new Map(),
      refused: new Map(),
      released: new Map(),
      isLookedAt: false,
    };
    this.batches.add(batch);
    if (!isReassertion) for (const address of addresses) this.busy.add(address);
    return batch;
  }

  /** Begins with what waits, as far as the window allows. */
  private start(census: Census, step: Step, send: Send): void {
    // Whoever is asked releases it at once, and nobody would answer it until all the others are known and asked too.
    if (!census.isComplete(step.now)) return;
    let open = 0;
    for (const { asked } of this.batches) open += asked.size;
    const ready: Address[] = [];
    for (const address of this.queue) {
      if (ready.length >= (WINDOW - open) * this.most) break;
      if (!this.isPausing(address, step.now)) ready.push(address);
    }
    for (const part of this.parts(ready)) {
      if (open >= WINDOW) return;
      const batch = this.begin(part, false, step.now);
      for (const address of part) {
        this.queue.delete(address);
        if (isLeaving(step.entries.get(address), step.now)) continue; // still answered here: nothing need be silent
        const hash = this.hashOf(address);
        step.set(address, { state: vipState.CLAIMING, claimNs: batch.claimNs, untilNs: 0n, hash });
      }
      this.askAll(batch, census, step, send);
      open += batch.asked.size;
    }
  }

  private *parts(addresses: readonly Address[]): Generator<readonly Address[]> {
    for (let at = 0; at < addresses.length; at += this.most) yield addresses.slice(at, at + this.most);
  }

  private ask(batch: Batch, peer: Heard, step: Step, send: Send): void {
    const { addresses, asked, isReassertion } = batch;
    const nonce = this.nonces.next(step.now);
    const claims = addresses.map((address) => {
      const entry = step.entries.get(address);
      // A VIP that is leaving is not to be taken from anybody: its claim only ends it at once where a peer has it already.
      const isSoft = isReassertion ? isLeaving(entry, step.now) : this.wanted.get(address)?.isStandIn;
      const hash = entry?.hash || this.hashOf(address);
      return { ip: addressBytes(address), verdict: isSoft ? claimVerdict.FREE : claimVerdict.CLAIMED, hash };
    });
    send(wireType.WIRE_CLAIM, peer, nonce, claims);
    asked.set(peer.node, { nonce, sentAt: step.now, tries: (asked.get(peer.node)?.tries ?? 0) + 1 });
  }

  /** Asks whom it has not asked yet, and again who is late. */
  private askAll(batch: Batch, census: Census, step: Step, send: Send): void {
    // A grant of a peer that died since counts no more: to that peer, this node may have been dead.
    for (const node of batch.asked.keys()) if (!census.alive.has(node)) batch.asked.delete(node);
    for (const [node, peer] of census.alive) {
      const question = batch.asked.get(node);
      if (batch.isReassertion ? !question : batch.asked.has(node) && !question) continue;
      if (!question || step.now - question.sentAt >= patience(question)) this.ask(batch, peer, step, send);
    }
  }

  private end(batch: Batch, census: Census, released: ReadonlySet<Address>, step: Step, send: Send): Address[] {
    this.batches.delete(batch);
    if (!batch.isReassertion) for (const address of batch.addresses) this.busy.delete(address);
    for (const address of batch.addresses) {
      if (counts(batch, address, step) || this.busy.has(address) || isOwned(step.entries.get(address))) continue;
      if (this.wanted.has(address)) this.queue.add(address);
    }
    const asked = batch.addresses.filter((address) => counts(batch, address, step));
    // A claim that began before the kernel granted another node's counts for nothing.
    const isRefused = (address: Address) =>
      batch.refused.has(address) || (!batch.isReassertion && released.has(address));
    const lost = this.refuse(batch, asked.filter(isRefused), step);
    if (!batch.isReassertion)
      this.win(
        asked.filter((address) => !isRefused(address)),
        step,
      );
    for (const [node, claims] of batch.released) {
      const peer = census.alive.get(node);
      if (peer) send(wireType.WIRE_NOTICE, peer, this.nonces.next(step.now), claims);
    }
    return lost;
  }

  private refuse(batch: Batch, addresses: readonly Address[], step: Step): Address[] {
    const lost = addresses.filter((address) => isOwned(step.entries.get(address)));
    for (const address of addresses) {
      step.set(address, UNOWNED);
      const isKept = !batch.isReassertion && this.wanted.get(address)?.isStandIn;
      this.pause(address, isKept ? "kept" : "refused", step.now);
      if (this.wanted.has(address)) this.queue.add(address);
    }
    this.report(addresses, batch, step);
    return lost;
  }

  private win(addresses: readonly Address[], step: Step): void {
    for (const address of addresses) {
      if (this.pauses.get(address)?.reason !== "lost") this.pauses.delete(address);
      step.set(address, { ...step.entries.get(address)!, state: vipState.OWNED, untilNs: 0n });
    }
  }

  private pause(address: Address, reason: Pause["reason"], now: Ns): void {
    const { first, most } = PAUSES[reason];
    const last = this.pauses.get(address);
    // After a long quiet time it begins anew.
    const before = last?.reason === reason && now - last.until < PAUSES.lost.most ? last : undefined;
    const doubled = before ? before.length * 2n : first;
    const length = doubled < most ? doubled : most;
    const { since = now, isReported = false } = before ?? {};
    this.pauses.set(address, { reason, until: now + length, length, since, isReported });
  }

  /** Warns once for each VIP that a peer has refused for a second: the two nodes' views differ. */
  private report(addresses: readonly Address[], { refused }: Batch, step: Step): void {
    const byPeer = new Map<string, Address[]>();
    for (const address of addresses) {
      const pause = this.pauses.get(address)!;
      const peer = refused.get(address);
      if (pause.reason !== "refused" || pause.isReported || step.now - pause.since < CONTESTED) continue;
      if (peer === undefined) continue;
      pause.isReported = true;
      byPeer.set(peer, [...(byPeer.get(peer) ?? []), address]);
    }
    for (const [peer, its] of byPeer) {
      step.notice("warn", `${summary(its)} is wanted here, and ${peer} does not release it: the nodes' views differ`);
    }
  }
}

/** Whether the batch's answer still means something for the VIP: it was not given up, or claimed anew, meanwhile. */
function counts(batch: Batch, address: Address, step: Step): boolean {
  const entry = step.entries.get(address);
  const leaves = isLeaving(entry, step.now);
  if (batch.isReassertion) return (isOwned(entry) || leaves) && entry!.claimNs <= batch.claimNs;
  return leaves || (entry?.state === vipState.CLAIMING && entry.claimNs === batch.claimNs);
}

/** Has the kernel read where everybody has answered: what it released since, and peers that appeared since, come first. */
function look(batch: Batch, step: Step): void {
  if (isOpen(batch)) return;
  batch.isLookedAt = true;
  step.lookAt(batch.addresses);
}

/** Whether any peer has yet to answer. */
function isOpen({ asked }: Batch): boolean {
  for (const question of asked.values()) if (question) return true;
  return false;
}

function patience({ tries }: Question): Ns {
  const doubled = RETRY << BigInt(Math.min(tries - 1, 8));
  return doubled < RETRY_MOST ? doubled : RETRY_MOST;
}
