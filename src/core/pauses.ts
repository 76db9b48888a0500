import type { Address } from "./address.ts";
import { type Step, summary } from "./step.ts";
import { MS, type Ns } from "./time.ts";

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
  // A node to which no claim gets answers for it, and goes on to as long as it lives and the wire loses claims. Both ends
  // change the election.
  held: { first: 250n * MS, most: 2_000n * MS },
};
/** The time for which a peer may refuse a VIP before that is worth a warning. */
const CONTESTED: Ns = 1_000n * MS;

interface Pause {
  reason: keyof typeof PAUSES;
  until: Ns;
  length: Ns;
  /** The time when it was first refused. */
  since: Ns;
  isReported: boolean;
}

/** VIPs that were lost or refused a while ago: when each is to be claimed again. */
export class Pauses {
  private readonly pauses = new Map<Address, Pause>();

  has(address: Address): boolean {
    return this.pauses.has(address);
  }

  /** The time when the VIP is to be claimed; undefined: now. */
  until(address: Address): Ns | undefined {
    return this.pauses.get(address)?.until;
  }

  /** The number of these VIPs that peers have refused for more than a second. */
  contested(isWanted: (address: Address) => boolean, now: Ns): number {
    const isLong = ({ reason, since }: Pause) => isRefusal(reason) && now - since >= CONTESTED;
    return [...this.pauses].filter(([address, pause]) => isWanted(address) && isLong(pause)).length;
  }

  /** The election changed: what is kept or held is asked for again, and what is no longer of interest is forgotten. */
  renew(isOfInterest: (address: Address) => boolean): void {
    for (const [address, { reason }] of this.pauses) {
      if (reason === "kept" || reason === "held" || !isOfInterest(address)) this.pauses.delete(address);
    }
  }

  begin(address: Address, reason: Pause["reason"], now: Ns): void {
    const { first, most } = PAUSES[reason];
    const last = this.pauses.get(address);
    // After a long quiet time it begins anew.
    const before = last?.reason === reason && now - last.until < PAUSES.lost.most ? last : undefined;
    const doubled = before ? before.length * 2n : first;
    const length = doubled < most ? doubled : most;
    const { since = now, isReported = false } = before ?? {};
    this.pauses.set(address, { reason, until: now + length, length, since, isReported });
  }

  /** The VIP is owned. Where it was lost a moment ago, the next loss is to be followed by a longer pause. */
  end(address: Address): void {
    if (this.pauses.get(address)?.reason !== "lost") this.pauses.delete(address);
  }

  /** Warns once for each VIP that a peer has refused for a second: the two nodes' views differ. */
  report(addresses: readonly Address[], refused: ReadonlyMap<Address, string>, step: Step): void {
    const byPeer = new Map<string, Address[]>();
    const held = new Set<string>();
    for (const address of addresses) {
      const pause = this.pauses.get(address)!;
      const peer = refused.get(address);
      if (!isRefusal(pause.reason) || pause.isReported || step.now - pause.since < CONTESTED) continue;
      if (peer === undefined) continue;
      pause.isReported = true;
      byPeer.set(peer, [...(byPeer.get(peer) ?? []), address]);
      if (pause.reason === "held") held.add(peer);
    }
    for (const [peer, its] of byPeer) {
      const what = held.has(peer)
        ? `${peer} answers ARP for it, and no claim gets there: it stays there until one does`
        : `${peer} does not release it: the nodes' views differ`;
      step.notice("warn", `${summary(its)} is wanted here, and ${what}`);
    }
  }
}

/** True if a node that has the VIP keeps it, though this node is to have it. */
const isRefusal = (reason: Pause["reason"]): boolean => reason === "refused" || reason === "held";
