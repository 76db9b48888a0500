import type { Address } from "./address.ts";

/** A node that runs isat, as a source names it. */
export interface NodeEntry {
  name: string;
  /** The node's own address, by which it can be asked for; undefined where the source does not tell. */
  address: Address | undefined;
}

/** VIPs as a source names them: a block, and who may announce it where. */
export interface VipRange {
  first: Address;
  last: Address;
  /** Nodes that may own them; undefined: all; none: nobody owns them. */
  nodes: readonly string[] | undefined;
  /** Interfaces of this node, by name or glob, that announce them; undefined: all that isat announces on; none: {@link guardOf}. */
  interfaces: readonly string[] | undefined;
  /**
   * The text that is hashed with a node's name for its hash; undefined: each address itself. A dual-stack Service hashes by
   * its first ingress address, which may be IPv6.
   */
  hashAs: string | undefined;
  /** The nodes that are preferred, by name, with their scores: the highest score goes before the lowest hash. */
  scores?: Readonly<Record<string, number>> | undefined;
}

const guards = new WeakMap<VipRange, VipRange>();

/** The same VIPs where they are managed only so that nothing there answers: nobody may own them. One object for each. */
export function guardOf(range: VipRange): VipRange {
  let guard = guards.get(range);
  if (!guard) guards.set(range, (guard = { ...range, nodes: [], interfaces: [] }));
  return guard;
}

export const isGuardRange = ({ interfaces }: VipRange): boolean => interfaces?.length === 0;

/** One check that a source made of a node for a VIP: a column of `isat status VIP`. */
export interface Check {
  /** As `selected`, `endpoint` or `label`. */
  what: string;
  /** Why the node may not own the VIP; undefined where it passes. */
  refusal: string | undefined;
}

/** The wish of a source: the VIPs, and the nodes that may own them. */
export interface Demand {
  /** A text that no other source has: whoever has another one belongs to another cluster. */
  readonly cluster: string;
  nodes: readonly NodeEntry[];
  vips: readonly VipRange[];
  /** These VIPs, the oldest first; absent: in the order in which they are. All nodes have one order. */
  inTurn?(vips: readonly VipRange[]): readonly VipRange[];
  /** The checks that a node met for a VIP, in the order in which they are made; none where the source makes none. */
  checks(address: Address, node: string): Check[];
}
