import type { Config } from "../config/config.ts";
import type { Address } from "../core/address.ts";
import type { Demand, VipRange } from "../core/demand.ts";
import type { Electorate } from "../core/ownership.ts";
import type { Member } from "../core/peer.ts";
import type { Entry } from "../core/step.ts";
import type { Point } from "../kernel/hooks.ts";
import type { Maps } from "../kernel/object.ts";
import type { Link } from "../link/links.ts";
import type { Status } from "./status.ts";

/** One interface of a running speaker, at one moment. */
export interface SegmentSnapshot {
  link: Link;
  /** Nothing is announced there. */
  isGuard: boolean;
  /** Gratuitous ARP frames that have left. */
  announcements: number;
  /** How often a machine that is no peer has said that it has a VIP that is owned here. */
  usurped: number;
  hooks: readonly (Point & { isAttached: boolean })[];
  /** Why nothing may be owned there; undefined: nothing keeps this node from it. */
  blocked: string | undefined;
  state: number;
  entries: ReadonlyMap<Address, Entry>;
  /** The inputs of the last election. */
  electorate: Electorate | undefined;
  members: readonly Member[];
  /** VIPs that a peer has refused for more than a second. */
  contested: number;
  /** Peers that echo and have not answered a claim for a second: how many VIPs wait for each. */
  unanswered: ReadonlyMap<bigint, { count: number }>;
}

/** A running speaker at one moment: everything that status and metrics tell of it. */
export interface Snapshot
  extends Pick<Status, "isDrained" | "isEnding" | "isSourceStale" | "warnings" | "notes" | "lastError"> {
  config: Config;
  demand: Demand;
  /** The default gateways of this machine, which are never VIPs. */
  gateways: readonly Address[];
  /** VIPs for which the kernel has no room. */
  leftOut: readonly VipRange[];
  maps: Maps;
  /** The id of the key that signs this node's frames; undefined with static membership. */
  signs: number | undefined;
  segments: readonly SegmentSnapshot[];
}
