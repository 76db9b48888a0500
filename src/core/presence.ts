import type { Address } from "./address.ts";
import type { Ns } from "./time.ts";

/** The number of a node's VIPs that the wire is asked for. */
export const FEW = 3;
/** Questions by ARP in a row without an answer after which a node is not there. */
export const ASKS = 3;

/**
 * A node that is not heard by the peer protocol, as the wire shows it: whether it still answers ARP for its VIPs, as
 * clients would find it; or, where it has none, for its own address.
 */
export class Presence {
  /** The time when it last answered; 0: never. */
  answeredNs: Ns = 0n;
  /** The VIP or address for which it answered last. */
  answeredFor: Address | undefined;
  private targets: readonly Address[] = [];
  /** The times when the questions left that it has not answered. */
  private open: Ns[] = [];

  /**
   * Says for what the node is to be asked.
   * @param share some of the VIPs that it wins
   * @param isElected whether it stands for election: a node that does not wins nothing, and is asked for what it had
   */
  aim(share: readonly Address[], address: Address | undefined, isElected: boolean): readonly Address[] {
    if (share.length > 0) this.targets = share;
    else if (isElected || this.targets.length === 0) this.targets = address === undefined ? [] : [address];
    return this.targets;
  }

  asked(at: Ns): void {
    this.open = [...this.open, at].slice(-ASKS - 1); // the last one may be on its way yet
  }

  /** Its MAC answered for the address. @returns whether that was a sign of it */
  hear(address: Address, now: Ns): boolean {
    if (!this.targets.includes(address)) return false;
    this.answeredNs = now;
    this.answeredFor = address;
    this.open = [];
    return true;
  }

  /** Forgets what was asked before: this process paused, so that answers may have been lost. */
  pause(): void {
    this.open = [];
  }

  /** The time of the first question that it has not answered. */
  get openSince(): Ns | undefined {
    return this.open[0];
  }

  /** True if it has left so many questions in a row without an answer that it is not there. */
  isGone(now: Ns, patience: Ns): boolean {
    return this.open.filter((sent) => now - sent >= patience).length >= ASKS;
  }
}
