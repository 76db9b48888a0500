import type { Address } from "./address.ts";
import { formatMac } from "./arp.ts";
import type { NodeEntry } from "./demand.ts";
import type { Station } from "./holders.ts";
import type { Election } from "./ownership.ts";
import { ASKS, Presence } from "./presence.ts";
import type { Question } from "./step.ts";
import { MS, type Ns, SECOND } from "./time.ts";
import { nodeId } from "./wire.ts";

/** The pause between two questions by ARP for nodes that are not heard. */
const ASK: Ns = SECOND;
/** The same beside peers, until it is known whether the others are there: their VIPs may be answered by nobody. */
const ASK_SOON: Ns = 400n * MS;
/** More nodes than these are not asked for beside peers: where a thousand boot, each would ask for most of the others. */
const MOST = 100;
/** The time in which answers are waited for. */
const PATIENCE: Ns = 300n * MS;
/** The time from the first question to the second one, which goes to each MAC that answered, alone. */
const FOLLOW: Ns = 100n * MS;
/** The time in which a node waits to hear a peer where the source does not give the nodes' addresses. */
const WAIT: Ns = 10n * SECOND;
/**
 * The time for which a link on which nothing of others was seen may not forward yet: a switch's port with STP
 * forwards after up to 30 s (IEEE 802.1D, two times the forward delay), one with LACP a few seconds after it is up.
 */
const SHUT: Ns = 30n * SECOND;

/** The surroundings of a segment. */
export interface Surroundings {
  /** The nodes of the source that are to be asked for. */
  others: readonly NodeEntry[];
  /** Gateways, and the source's nodes that are known otherwise: a MAC that answers for one of them too is nobody's. */
  bystanders: readonly Address[];
  /** True once a peer has been heard. */
  hasPeers: boolean;
}

/**
 * Nodes of the source that are not heard, as ARP shows them: all of them while no peer has been heard, which may mean that
 * there is nobody, that the wire drops the peer protocol, or that it does not forward yet. Beside peers these are the nodes on
 * which isat has never served: another speaker, as MetalLB's, may answer there.
 *
 * Each second everybody is asked for each node's address, which gives the MACs. Then each MAC alone is asked for the node's
 * VIPs: only an answer to that counts, as whoever answers for others (proxy ARP, EVPN's suppression of ARP) is not asked
 * then. A node that has not answered three times is away; until that is known of all, this node keeps what it owns.
 */
export class Unheard {
  /** True if all others are away: this node takes itself for the only one alive. */
  isAlone = false;
  /** True until it is known of all others whether they are there: this node keeps what it owns meanwhile. */
  isUndecided = true;
  /** Beside peers: the nodes on which isat has never served, unless nothing answers for their VIPs. */
  strangers: readonly string[] = [];
  private readonly began: Ns;
  private readonly presences = new Map<string, Presence>();
  /** The MACs that answered the last question, each with the nodes' and gateways' addresses for which it did. */
  private readonly macs = new Map<string, { mac: Uint8Array; addresses: Set<Address> }>();
  /** The MAC of each node that answers for its address, be it that an answer or two are lost; undefined: not known yet. */
  stations: readonly Station[] | undefined;
  /** The stations of each node as they answered last, and the number of questions since. */
  private readonly answered = new Map<string, { stations: readonly Station[]; missed: number }>();
  private readonly away = new Set<string>();
  private readonly there = new Set<string>();
  private askedAt: Ns | undefined;
  /** The time when the MACs that answered are asked; undefined: they were. */
  private followAt: Ns | undefined;
  /** The number of frames of others that the kernel had counted at first. */
  private seenAtFirst: bigint | undefined;
  private isLinkOpen = false;

  constructor(now: Ns) {
    this.began = now;
  }

  /** True if the node is known not to be there. */
  isAway(name: string): boolean {
    return this.away.has(name);
  }

  /** True if the node answers for its VIPs, or for its address where it wins none. */
  isThere(name: string): boolean {
    return this.there.has(name);
  }

  /** Takes in how many frames of others came in. */
  see(seen: bigint): void {
    this.seenAtFirst ??= seen;
    if (seen > this.seenAtFirst) this.isLinkOpen = true;
  }

  /** The questions that are due now. @param shares tells a few of the VIPs that a node wins */
  questions(surroundings: Surroundings, shares: Pick<Election, "shareOf">, now: Ns): Question[] {
    const { others, bystanders, hasPeers } = surroundings;
    if (hasPeers && (others.length === 0 || others.length > MOST)) return [];
    const pause = hasPeers && this.isUndecided ? ASK_SOON : ASK;
    if (this.askedAt === undefined || now >= this.askedAt + pause) {
      this.askedAt = now;
      this.followAt = now + FOLLOW;
      this.macs.clear();
      const nodes = others.flatMap(({ name, address }) => (address === undefined ? [] : [{ name, address }]));
      for (const { name } of nodes) this.presenceOf(name).asked(now);
      const isNode = (bystander: Address) => nodes.some(({ address }) => address === bystander);
      return [
        ...nodes.map(({ name, address }) => ({ node: nodeId(name), target: address, mac: undefined })),
        ...bystanders
          .filter((bystander) => !isNode(bystander))
          .map((target) => ({ node: undefined, target, mac: undefined })),
      ];
    }
    if (this.followAt === undefined || now < this.followAt) return [];
    this.followAt = undefined;
    this.stations = others.flatMap((node) => this.stationsOf(node));
    return others.flatMap(({ name, address }) => {
      // Beside peers a node's own address tells nothing: only what it answers for is left to it.
      const fallback = hasPeers ? undefined : address;
      const targets = this.presenceOf(name).aim(shares.shareOf(name), fallback, !this.isAway(name));
      const macs = address === undefined ? [] : this.macsOf(address);
      return macs.flatMap((mac) => targets.map((target) => ({ node: nodeId(name), target, mac })));
    });
  }

  private presenceOf(name: string): Presence {
    const known = this.presences.get(name) ?? new Presence();
    this.presences.set(name, known);
    return known;
  }

  /** The MACs that answered for the address, and for no other node's and no bystander's. */
  private macsOf(address: Address): Uint8Array[] {
    const its = [...this.macs.values()].filter(({ addresses }) => addresses.size === 1 && addresses.has(address));
    return its.map(({ mac }) => mac);
  }

  /** One lost answer makes no node a free one: what it has would be claimed unasked, and answered by two. */
  private stationsOf({ name, address }: NodeEntry): readonly Station[] {
    const stations = address === undefined ? [] : this.macsOf(address).map((mac) => ({ name, mac }));
    const before = this.answered.get(name);
    const missed = stations.length > 0 || !before ? 0 : (before.missed + 1) % ASKS;
    const known = missed > 0 ? before!.stations : stations;
    this.answered.set(name, { stations: known, missed });
    return known;
  }

  /** A MAC answered by ARP. */
  hear(address: Address, mac: Uint8Array, { others, bystanders }: Surroundings, now: Ns): void {
    const text = formatMac(mac);
    const isToAll = this.followAt !== undefined;
    if (isToAll && (bystanders.includes(address) || others.some((node) => node.address === address))) {
      const known = this.macs.get(text) ?? { mac, addresses: new Set() };
      known.addresses.add(address);
      this.macs.set(text, known);
    }
    if (isToAll) return;
    const owns = this.macs.get(text)?.addresses;
    if (owns?.size !== 1) return;
    for (const { name, address: own } of others) {
      if (own !== undefined && owns.has(own)) this.presenceOf(name).hear(address, now);
    }
  }

  /** Concludes who is there. @returns whether anything changed by that */
  judge({ others, hasPeers }: Surroundings, now: Ns): boolean {
    const before = this.describe();
    for (const { name, address } of others) {
      const presence = this.presenceOf(name);
      const isAway = presence.isGone(now, PATIENCE) || (hasPeers && (address === undefined || others.length > MOST));
      this.away[isAway ? "add" : "delete"](name);
      this.there[!isAway && presence.answeredNs > 0n ? "add" : "delete"](name);
    }
    if (hasPeers) {
      this.isAlone = false;
      this.strangers = others.map(({ name }) => name).filter((name) => !this.away.has(name));
      this.isUndecided = this.strangers.some((name) => !this.there.has(name));
      return this.describe() !== before;
    }
    const isUnknown = others.some(({ name, address }) => address !== undefined && !this.isAway(name));
    const canAskAll = others.every(({ address }) => address !== undefined);
    const hasWaited = canAskAll || now - this.began >= WAIT;
    this.isAlone = !isUnknown && hasWaited && (this.isLinkOpen || now - this.began >= SHUT);
    if (this.isAlone) for (const { name } of others) this.away.add(name);
    else if (this.there.size === 0) this.away.clear();
    const isOpen = ({ name, address }: NodeEntry) =>
      !this.away.has(name) && !this.there.has(name) && !(address === undefined && now - this.began >= WAIT);
    this.isUndecided = !this.isAlone && (others.some(isOpen) || this.there.size === 0);
    return this.describe() !== before;
  }

  private describe(): string {
    return `${this.isAlone} ${this.isUndecided} ${this.strangers} ${[...this.away].sort()} / ${[...this.there].sort()}`;
  }
}
