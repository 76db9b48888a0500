import { claimVerdict, vipState } from "./abi.ts";
import { type Address, addressOfBytes } from "./address.ts";
import { isLeaving } from "./difference.ts";
import type { Holders } from "./holders.ts";
import { isOwned, type Step } from "./step.ts";
import { MS, type Ns } from "./time.ts";
import type { Claim } from "./wire.ts";

/**
 * A claim that is not answered is sent again after this long, then after twice as long, up to the most: a kernel takes a
 * reply that is older for a recording.
 */
const RETRY: Ns = 20n * MS;
const RETRY_MOST: Ns = 5_000n * MS;

/** A question to one peer that is not answered yet. */
export interface Question {
  /** The nonces of all frames that asked it: a reply to any of them is the answer. */
  nonces: readonly bigint[];
  /** The times when it was asked first, and last. */
  began: Ns;
  sentAt: Ns;
  /** In frames of this size. */
  tries: number;
}

/** VIPs that are claimed together, as many as a frame has room for. */
export interface Batch {
  addresses: readonly Address[];
  claimNs: Ns;
  /** It re-asserts VIPs that are owned already, against a peer that joined. */
  isReassertion: boolean;
  /** The nodes that had been asked for its VIPs by ARP when it began. */
  holders: Holders["nodes"];
  /** Peers that were asked, by id: with their open question, or undefined once they have answered. */
  asked: Map<bigint, Question | undefined>;
  /** The name of the peer that refused each VIP. */
  refused: Map<Address, string>;
  /** The VIPs that each peer released, and of a re-assertion those that it keeps. It is told once this node has acted. */
  released: Map<bigint, Claim[]>;
  /** Everybody has answered, and the kernel is being read: the batch ends with that reading. */
  isLookedAt: boolean;
}

/** True if the batch's answer still counts for the VIP: it was not given up, or claimed anew, meanwhile. */
export function counts(batch: Batch, address: Address, step: Step): boolean {
  const entry = step.entries.get(address);
  const leaves = isLeaving(entry, step.now);
  if (batch.isReassertion) return (isOwned(entry) || leaves) && entry!.claimNs <= batch.claimNs;
  return leaves || (entry?.state === vipState.CLAIMING && entry.claimNs === batch.claimNs);
}

/** Has the kernel read, where everybody has answered: what it released since, and peers that appeared, come first. */
export function look(batch: Batch, step: Step): void {
  if (isOpen(batch)) return;
  batch.isLookedAt = true;
  step.lookAt(batch.addresses);
}

export const isReleased = ({ verdict }: Claim): boolean => verdict === claimVerdict.RELEASED;

/** True if any peer has yet to answer. */
export function isOpen({ asked }: Batch): boolean {
  for (const question of asked.values()) if (question) return true;
  return false;
}

export const claimsOf = (claims: readonly Claim[], addresses: ReadonlySet<Address>) =>
  claims.filter(({ ip }) => addresses.has(addressOfBytes(ip)));

export function patience({ tries }: Question): Ns {
  const doubled = RETRY << BigInt(Math.min(tries - 1, 10));
  return doubled < RETRY_MOST ? doubled : RETRY_MOST;
}
