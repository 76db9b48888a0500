import { type Peer, vipState, type WireHeader, type wireType } from "./abi.ts";
import { type Address, formatAddress } from "./address.ts";
import type { Ns } from "./time.ts";
import { type Claim, OLD_VERSION, printable } from "./wire.ts";

/** An entry of the kernel's map `vips`, as this node wrote it. */
export interface Entry {
  readonly state: (typeof vipState)[keyof typeof vipState];
  /** When the claim began by which the VIP is owned, or is to be owned. */
  readonly claimNs: Ns;
  /** LEAVING: not answered from then on. */
  readonly untilNs: Ns;
  /** The first 64 bits of this node's rendezvous hash; the lowest wins. */
  readonly hash: bigint;
}

/** A VIP that this node manages and some other node answers. */
export const UNOWNED: Entry = Object.freeze({ state: vipState.NOT_OWNED, claimNs: 0n, untilNs: 0n, hash: 0n });

/** A VIP of which this node does not know yet who owns it. */
export const UNDECIDED: Entry = Object.freeze({ ...UNOWNED, state: vipState.UNDECIDED });

/** True if the VIP is owned here, is to be, or was until now. */
export const isHeld = (entry: Entry | undefined): boolean =>
  entry !== undefined && entry.state !== vipState.NOT_OWNED && entry.state !== vipState.UNDECIDED;

export const isOwned = (entry: Entry | undefined): boolean => entry?.state === vipState.OWNED;

/** A peer's entry of the kernel's map `peers`, as far as the control plane uses it. */
export interface Heard {
  /** The node's id. */
  node: bigint;
  /** Its name, cut off after 31 bytes. */
  name: string;
  mac: Uint8Array;
  state: number;
  sourceStale: boolean;
  /** It cannot answer for VIPs of IPv6 on this network. */
  onlyIPv4: boolean;
  /** Its control plane counts this speaker among its peers. */
  knowsUs: boolean;
  incarnation: bigint;
  /** The highest version of the wire format that it knows. */
  maxVersion: number;
  /** The id of the key that it signs with. */
  keyId: number;
  /** Its own name of the interface; empty where it speaks version 1, which does not tell. */
  interfaceName: string;
  /** Its clock at its last echo; a frame that gives it back is fresh. */
  stamp: bigint;
  /** When it last answered a probe, by our clock; 0: never. */
  echoedNs: Ns;
  /** The time when it was last heard at all, be it by a probe of its own; 0: never. */
  heardNs: Ns;
}

export function heardOf(node: bigint, peer: Peer): Heard {
  return {
    node,
    name: printable(peer.node),
    mac: peer.mac,
    state: peer.state,
    sourceStale: peer.source_stale,
    onlyIPv4: peer.only_ipv4 || peer.max_version === OLD_VERSION, // whose claims have room for no other
    knowsUs: peer.knows_us,
    incarnation: peer.incarnation,
    maxVersion: peer.max_version,
    keyId: peer.key_id,
    interfaceName: peer.interface,
    stamp: peer.stamp_ns,
    echoedNs: peer.echoed_ns,
    heardNs: peer.heard_ns,
  };
}

/** The kernel's maps for one interface at one moment. */
export interface Reading {
  peers: readonly Heard[];
  /** How many VIPs this kernel has released to peers so far. */
  releases: bigint;
  /** The addresses that were looked for and that the kernel has released since they were claimed. */
  released: readonly Address[];
  /** The number of frames of other machines that have come in so far, of those that the kernel's programs count. */
  seen: bigint;
}

/** A frame of the peer protocol that came in, authentic and for this speaker. */
export type Frame = WireHeader & { claims: Claim[] };

/** A frame of the peer protocol to send. The sender's name, MAC, state and signature are added where it leaves. */
export interface Outgoing {
  type: (typeof wireType)[keyof typeof wireType];
  /** The version of the wire format to say it in. */
  version: number;
  /** The peer's id; undefined: a broadcast. */
  node: bigint | undefined;
  /** 6 bytes. */
  destination: Uint8Array;
  to: bigint;
  stamp: bigint;
  nonce: bigint;
  claims?: readonly Claim[];
}

/** A question by ARP: who has the address? */
export interface Question {
  /** The id of the node that is asked, or asked for; undefined: none, as for a gateway. */
  node: bigint | undefined;
  target: Address;
  /** 6 bytes: the node's MAC, so that nobody else hears the question and answers it; undefined: everybody is asked. */
  mac: Uint8Array | undefined;
}

/** The outcome of the frames and questions of one step. */
export interface Departure {
  at: Ns;
  /** Frames that left. */
  frames: readonly Outgoing[];
  /** Frames that this machine itself dropped, as a full queue or a filter at its egress does. */
  refused: readonly Outgoing[];
  /** Questions that left. */
  asked: readonly Question[];
}

/** This node's words of itself on the interface, in the kernel's map `interfaces`. */
export interface Self {
  state: number;
  sourceStale: boolean;
  /** When the last verification that passed began. */
  tick: Ns;
  /** The nonces of the last two hellos: only their echoes count. */
  helloNonce: bigint;
  lastHelloNonce: bigint;
}

/** An entry to write into the kernel's map `probes`. */
export interface ProbeEntry {
  peer: Heard;
  nonce: bigint;
  lastNonce: bigint;
}

export interface Notice {
  level: "info" | "warn" | "error";
  message: string;
  fields?: Record<string, number>;
}

/** The effects that one step of a segment asks for. The speaker applies them from top to bottom. */
export interface Effects {
  /** 1. What this node says of itself; undefined: as before. */
  self: Self | undefined;
  /** 2. The kernel's entries: written before anybody is told. */
  readonly write: ReadonlyMap<Address, Entry>;
  /** 3. After the writes, so that no freed element is read as another VIP's. */
  readonly remove: readonly Address[];
  /** 4. Nonces whose echoes count from now on: before the probes leave. */
  readonly probes: readonly ProbeEntry[];
  /** 5. Peers that the kernel's maps are to forget. */
  readonly forget: readonly bigint[] | "all";
  /** 6. Frames to peers. What became of them, and of the questions, comes back as an event `sent`. */
  readonly send: readonly Outgoing[];
  /** 7. Gratuitous ARP. */
  readonly announce: readonly Address[];
  /** 8. Questions by ARP; each answer comes back as an event `answered`. */
  readonly ask: readonly Question[];
  /** 9. The log. */
  readonly notices: readonly Notice[];
  /** 10. Another machine has this node's name, and had it first: this one must not serve. */
  readonly conflict: string | undefined;
  /**
   * 11. Addresses whose releases are to be read, beside the peers; the answer comes back at once as an event `reading`.
   */
  readonly look: ReadonlySet<Address> | "all" | undefined;
  /** 12. When the segment is to be called again; undefined: only when something happens. */
  wakeAt: Ns | undefined;
}

/** One step of a segment while it is decided: its effects, and the entries as they will be after it. */
export class Step implements Effects {
  readonly now: Ns;
  readonly entries: Map<Address, Entry>;
  self: Self | undefined;
  readonly write = new Map<Address, Entry>();
  readonly remove: Address[] = [];
  readonly probes: ProbeEntry[] = [];
  forget: bigint[] | "all" = [];
  readonly send: Outgoing[] = [];
  readonly announce: Address[] = [];
  readonly ask: Question[] = [];
  readonly notices: Notice[] = [];
  conflict: string | undefined;
  look: Set<Address> | "all" | undefined;
  wakeAt: Ns | undefined;
  /** VIPs that are owned after the step and were not before, and the other way round. */
  readonly gained = new Set<Address>();
  readonly lost = new Set<Address>();
  /** VIPs that another node answered too, until now: it released them, or gave them up. */
  readonly disputed = new Set<Address>();
  /** A peer that was not heard is heard again: it may have announced what is owned here. */
  isPeerBack = false;

  constructor(now: Ns, entries: Map<Address, Entry>) {
    this.now = now;
    this.entries = entries;
  }

  set(address: Address, entry: Entry): void {
    this.note(isOwned(this.entries.get(address)), isOwned(entry), address);
    this.entries.set(address, entry);
    this.write.set(address, entry);
  }

  private note(wasOwned: boolean, isOwned: boolean, address: Address): void {
    if (isOwned && !wasOwned && !this.lost.delete(address)) this.gained.add(address);
    if (wasOwned && !isOwned && !this.gained.delete(address)) this.lost.add(address);
  }

  delete(address: Address): void {
    this.note(isOwned(this.entries.get(address)), false, address);
    this.entries.delete(address);
    this.write.delete(address);
    this.remove.push(address);
  }

  /** Has the kernel's maps read: the peers, and what became of these addresses. */
  lookAt(addresses: Iterable<Address> | "all"): void {
    if (addresses === "all" || this.look === "all") this.look = "all";
    else this.look = new Set([...(this.look ?? []), ...addresses]);
  }

  forgetPeer(node: bigint): void {
    if (this.forget !== "all") this.forget.push(node);
  }

  wake(at: Ns | undefined): void {
    if (at !== undefined && (this.wakeAt === undefined || at < this.wakeAt)) this.wakeAt = at;
  }

  notice(level: Notice["level"], message: string, fields?: Record<string, number>): void {
    this.notices.push({ level, message, ...(fields && { fields }) });
  }
}

/** The first of the VIPs, and how many others: `10.9.0.1 (and 3 more)`. */
export function summary(addresses: readonly Address[]): string {
  const others = addresses.length > 1 ? ` (and ${addresses.length - 1} more)` : "";
  return `${formatAddress(addresses[0]!)}${others}`;
}
