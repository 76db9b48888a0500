import type { WireHeader } from "./abi.ts";
import type { Address } from "./address.ts";
import type { Nonces } from "./claims.ts";
import type { VipRange } from "./demand.ts";
import type { ProbeOptions } from "./liveness.ts";
import type { PeeringPlan } from "./peering.ts";
import type { Departure, Entry, Frame, Reading, Self } from "./step.ts";
import type { Ns } from "./time.ts";
import type { Pace } from "./timetable.ts";

/** The VIPs that a segment is to manage, and the nodes with whom. Computed by src/plan.ts. */
export interface SegmentPlan extends PeeringPlan {
  isUp: boolean;
  ranges: readonly VipRange[];
  isDrained: boolean;
  /** This machine is being shut down: it stands back for others, as if it lagged. */
  isEnding: boolean;
  /** The kernel here has no room for VIPs that others may hold: its source counts as stale. */
  isShort?: boolean;
  /** How peers are probed; undefined: static membership, where every listed node counts as alive. */
  probes: ProbeOptions | undefined;
  /** How long a headless node is left its VIPs. */
  hold: Ns;
  pace: Pace;
}

/** Everything that can happen to a segment. */
export type SegmentEvent =
  /**
   * `isAnnounced`: with the first plan, an earlier speaker announced what is owned by the same MAC, and its answers went on
   * since: no burst is needed.
   */
  | { kind: "plan"; plan: SegmentPlan; isAnnounced?: boolean }
  /** `wakeAt` has come. */
  | { kind: "wake" }
  /**
   * The kernel says that neighbours have to be told anew where this interface is: another port of a bond, another host.
   */
  | { kind: "moved" }
  /** The answer to {@link Effects.look}. */
  | { kind: "reading"; reading: Reading }
  /** A frame of the peer protocol, authentic and for this speaker. */
  | { kind: "frame"; frame: Frame }
  /** A frame of another cluster, or of a version that is no longer spoken here; nobody has verified it. */
  | { kind: "foreigner"; header: WireHeader }
  /** The frames and questions of {@link Effects.send} and {@link Effects.ask} that really left, and when. */
  | ({ kind: "sent" } & Departure)
  /** The VIPs of {@link Effects.announce} whose frames did not leave though the link is up. */
  | { kind: "refused"; addresses: readonly Address[] }
  /** An answer to one of {@link Effects.ask}. */
  | { kind: "answered"; address: Address; mac: Uint8Array }
  /** Another machine announces the address, or says that it has it: nobody asked it. */
  | { kind: "announced"; address: Address; mac: Uint8Array }
  /** A verification that began then found the kernel as it should be. */
  | { kind: "verified"; at: Ns };

export interface SegmentOptions {
  nonces: Nonces;
  /** From 0 to 1. */
  random: () => number;
  /** When this process began. */
  began: Ns;
  /** The kernel's entries, as an earlier speaker left them. */
  entries: Map<Address, Entry>;
  /** The last words of an earlier speaker here about itself; undefined: there were none. */
  pinned: Pick<Self, "state" | "tick"> | undefined;
  /** An earlier speaker of this node had joined under its name, on any interface, and the kernel goes on for it. */
  isRightful: boolean;
}
