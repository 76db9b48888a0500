import { claimVerdict, vipState, wireType } from "./abi.ts";
import { type Address, addressBytes, addressOfBytes } from "./address.ts";
import { type Batch, claimsOf, counts, isOpen, isReleased, look, patience, type Question } from "./batch.ts";
import { isLeaving } from "./difference.ts";
import { Holders } from "./holders.ts";
import type { Census } from "./liveness.ts";
import { Pauses } from "./pauses.ts";
import { type Frame, type Heard, isOwned, type Outgoing, type Step, UNOWNED } from "./step.ts";
import { earlier, later, MS, type Ns } from "./time.ts";
import { type Claim, claimsWithin, isMine } from "./wire.ts";

/** A claim that a peer which echoes has left unanswered so often goes in two frames: perhaps large ones do not pass. */
const TRIES = 3;
/** The time for which a peer that echoes may leave a claim unanswered before that is worth a warning. */
const UNANSWERED: Ns = 1_000n * MS;
/** How often open claims are looked after. */
const LOOK: Ns = 10n * MS;
/** How many claim frames may be unanswered at a time: more would only fill queues. */
const WINDOW = 256;

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
export type Send = (type: Outgoing["type"], peer: Heard, nonce: bigint, claims: readonly Claim[]) => void;

/**
 * Asks the kernels of all live peers for the VIPs that are to be owned here, and owns each once all of them have granted
 * it: it was free there, or it was released in that instant. A peer that refuses has a better hash, and is asked again.
 */
export class Claims {
  private wanted: Wanted = new Map();
  private readonly queue = new Set<Address>();
  private readonly batches = new Set<Batch>();
  /** VIPs in a batch that claims them. A re-assertion may have a VIP in several batches, one a peer that joined. */
  private readonly busy = new Set<Address>();
  private readonly pauses = new Pauses();
  /** Nodes that are asked by ARP, as claims do not arrive there. */
  readonly holders = new Holders();
  private ranAt: Ns = 0n;
  private readonly nonces: Nonces;
  private readonly hashOf: (address: Address) => bigint;
  /** The most VIPs that a frame claims, by the MTU, and while peers do not answer larger ones. */
  private most: number;
  private size: number;
  /** When each peer last answered a frame of that size: what is late then is not lost, and smaller frames would be more. */
  private readonly passed = new Map<bigint, Ns>();
  /** Peers that echo and have not answered a claim for a second: how many VIPs wait for each. */
  unanswered: ReadonlyMap<bigint, { name: string; count: number }> = new Map();

  /**
   * @param hashOf this node's rendezvous hash for a VIP, its first 64 bits
   * @param mtu the interface's
   */
  constructor(nonces: Nonces, hashOf: (address: Address) => bigint, mtu: number) {
    this.nonces = nonces;
    this.hashOf = hashOf;
    this.most = Math.max(1, claimsWithin(mtu));
    this.size = this.most;
  }

  /** The interface has this MTU now. Batches that no longer fit a frame are divided. */
  fit(mtu: number): void {
    this.most = Math.max(1, claimsWithin(mtu));
    this.size = Math.min(this.size, this.most);
    for (const batch of [...this.batches]) if (batch.addresses.length > this.most) this.divide(batch);
  }

  /** Asks for the batch's VIPs in smaller frames, and for those that some peer has answered already only the others. */
  private divide(batch: Batch): void {
    this.batches.delete(batch);
    const { asked, refused, released } = batch;
    for (const addresses of this.parts(batch.addresses)) {
      const again = ([node, question]: [bigint, Question | undefined]) =>
        [node, question && { ...question, sentAt: 0n, tries: 0 }] as const;
      const own = new Set(addresses);
      this.batches.add({
        ...{ ...batch, addresses, asked: new Map([...asked].map(again)), refused: new Map(refused) },
        released: new Map([...released].map(([node, claims]) => [node, claimsOf(claims, own)])),
      });
    }
  }

  /** True if nothing is being claimed, and all that waits to be was claimed before: a peer has it. */
  get isIdle(): boolean {
    if (this.batches.size > 0) return false;
    for (const address of this.queue) if (!this.pauses.has(address)) return false;
    return true;
  }

  /** True if there may be nodes that are to be asked for VIPs. */
  hasOthers(census: Census, now: Ns): boolean {
    return !census.isComplete(now) || census.alive.size > 0 || this.holders.nodes?.length !== 0;
  }

  /** True if the VIP was lost or refused a while ago, and is not to be claimed yet. */
  isPausing(address: Address, now: Ns): boolean {
    return (this.pauses.until(address) ?? 0n) > now;
  }

  /** How many VIPs peers have refused for more than a second. */
  contested(now: Ns): number {
    return this.pauses.contested((address) => this.queue.has(address) || this.busy.has(address), now);
  }

  /** When {@link run} is to be called again. */
  get wakeAt(): Ns | undefined {
    const soonest = this.ranAt + LOOK;
    if (this.batches.size > 0) return soonest;
    let first: Ns | undefined;
    for (const address of this.queue) first = earlier(this.pauses.until(address) ?? soonest, first);
    return first && later(first, soonest);
  }

  /** Claims these VIPs, and no others any more. Claims that are under way go on. */
  want(wanted: Wanted, step: Step): void {
    this.queue.clear();
    this.wanted = wanted;
    this.pauses.renew((address) => wanted.has(address) || isOwned(step.entries.get(address)));
    for (const address of wanted.keys()) if (!this.busy.has(address)) this.queue.add(address);
    this.holders.only(wanted);
  }

  /**
   * Peers joined: each may own what is owned here, so all of it is asked of them. What they granted before counts no more.
   */
  reassert(peers: readonly Heard[], step: Step, send: Send): void {
    if (peers.length === 0) return;
    for (const batch of this.batches) {
      if (!batch.isReassertion) for (const { node } of peers) batch.asked.delete(node);
      // It is asked anew: a peer that joins again and again must not be asked the same ever more often.
      else if (peers.some(({ node }) => batch.asked.get(node))) this.batches.delete(batch);
    }
    const owned = [...step.entries].filter(([, entry]) => isOwned(entry) || isLeaving(entry, step.now));
    const addresses = owned.map(([address]) => address);
    for (const peer of peers) {
      for (const part of this.parts(addresses)) this.ask(this.begin(part, true, step.now), peer, step, send);
    }
  }

  /** The kernel released these to a better claim: they are not claimed again at once. */
  lose(addresses: readonly Address[], now: Ns): void {
    for (const address of addresses) this.pauses.begin(address, "lost", now);
  }

  /** A peer answered a claim. The kernel is looked at where that was the last answer. */
  reply({ node, nonce, name, claims }: Frame, step: Step): void {
    for (const batch of this.batches) {
      if (!batch.asked.get(node)?.nonces.includes(nonce)) continue;
      batch.asked.set(node, undefined);
      if (batch.addresses.length >= this.size) this.passed.set(node, step.now);
      for (const claim of claims) if (isMine(claim)) batch.refused.set(addressOfBytes(claim.ip), name);
      const isNews = (claim: Claim) => isReleased(claim) || (batch.isReassertion && isMine(claim));
      const released = claims.filter(isNews);
      if (released.length > 0) batch.released.set(node, claimsOf(released, new Set(batch.addresses)));
      look(batch, step);
    }
  }

  /** Sends what is late, and begins with what waits. A batch that everybody has answered has the kernel looked at. */
  run(census: Census, step: Step, send: Send): void {
    this.ranAt = step.now;
    for (const batch of [...this.batches]) if (this.isTooLarge(batch, census, step.now)) this.divide(batch);
    for (const batch of this.batches) this.askAll(batch, census, step, send);
    this.start(census, step, send);
    this.unanswered = this.findUnanswered(census, step.now);
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
      // A peer that was sent the claim may have become deaf meanwhile, and have the VIP.
      if (!batch.isReassertion && batch.holders !== this.holders.nodes) {
        this.putBack(batch, () => true);
        hasEnded = true;
        continue;
      }
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
      holders: this.holders.nodes,
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
    if (!census.isComplete(step.now) || !this.holders.nodes) return;
    if (this.batches.size === 0) this.size = this.most;
    let open = 0;
    for (const { asked } of this.batches) open += asked.size;
    const ready: Address[] = [];
    for (const address of this.queue) {
      if (ready.length >= (WINDOW - open) * this.size) break;
      if (this.isPausing(address, step.now)) continue;
      const found = this.holders.find(address, step);
      if (found?.holder !== undefined) this.hold(address, found.holder, step);
      else if (found) ready.push(address);
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
    for (let at = 0; at < addresses.length; at += this.size) yield addresses.slice(at, at + this.size);
  }

  /** True once a peer that echoes does not answer the batch: frames are smaller then, until nothing is open. */
  private isTooLarge({ addresses, asked }: Batch, census: Census, now: Ns): boolean {
    const { length } = addresses;
    for (const [node, question] of length > 1 ? asked : []) {
      if (!question || question.tries < TRIES || now - question.sentAt < patience(question)) continue;
      if ((census.alive.get(node)?.echoedNs ?? 0n) <= question.sentAt) continue;
      if (now - (this.passed.get(node) ?? -UNANSWERED) < UNANSWERED) continue;
      this.size = Math.min(this.size, Math.ceil(length / 2));
      return true;
    }
    return false;
  }

  private findUnanswered(census: Census, now: Ns): Claims["unanswered"] {
    const found = new Map<bigint, { name: string; count: number }>();
    for (const { addresses, asked } of this.batches) {
      for (const [node, question] of asked) {
        const peer = census.alive.get(node);
        if (!question || !peer || now - question.began < UNANSWERED || peer.echoedNs <= question.began) continue;
        found.set(node, { name: peer.name, count: (found.get(node)?.count ?? 0) + addresses.length });
      }
    }
    return found;
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
    const { nonces = [], began = step.now, tries = 0 } = asked.get(peer.node) ?? {};
    asked.set(peer.node, { nonces: [...nonces, nonce], began, sentAt: step.now, tries: tries + 1 });
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

  /** Ends the batch. Those of its VIPs that are still wanted are claimed anew. */
  private putBack(batch: Batch, isAgain: (address: Address) => boolean): void {
    this.batches.delete(batch);
    if (!batch.isReassertion) for (const address of batch.addresses) this.busy.delete(address);
    for (const address of batch.addresses) {
      if (this.wanted.has(address) && !this.busy.has(address) && isAgain(address)) this.queue.add(address);
    }
  }

  /** A node to which no claim gets answers for the VIP. */
  private hold(address: Address, holder: string, step: Step): void {
    this.pauses.begin(address, "held", step.now);
    this.pauses.report([address], new Map([[address, holder]]), step);
  }

  private end(batch: Batch, census: Census, released: ReadonlySet<Address>, step: Step, send: Send): Address[] {
    this.putBack(batch, (address) => !counts(batch, address, step) && !isOwned(step.entries.get(address)));
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
      if (!batch.isReassertion) continue;
      for (const claim of claims) if (isReleased(claim)) step.disputed.add(addressOfBytes(claim.ip));
    }
    return lost;
  }

  private refuse(batch: Batch, addresses: readonly Address[], step: Step): Address[] {
    const lost = addresses.filter((address) => isOwned(step.entries.get(address)));
    for (const address of addresses) {
      step.set(address, UNOWNED);
      const isKept = !batch.isReassertion && this.wanted.get(address)?.isStandIn;
      this.pauses.begin(address, isKept ? "kept" : "refused", step.now);
      if (this.wanted.has(address)) this.queue.add(address);
    }
    this.pauses.report(addresses, batch.refused, step);
    return lost;
  }

  private win(addresses: readonly Address[], step: Step): void {
    for (const address of addresses) {
      this.pauses.end(address);
      step.set(address, { ...step.entries.get(address)!, state: vipState.OWNED, untilNs: 0n });
    }
  }
}

/** The warning about a peer that echoes and does not answer claims. */
export const unansweredBy = (peer: string, interfaceName: string): string =>
  `${peer} answers probes on ${interfaceName} and no claims: VIPs wait for it, which nobody answers meanwhile. See isat status there: frames from here may not pass, or be refused`;
