import { type Address, formatAddress } from "./address.ts";
import type { VipRange } from "./demand.ts";
import { matches } from "./glob.ts";
import type { Electorate } from "./ownership.ts";
import type { Heard } from "./step.ts";
import { type Ns, SECOND } from "./time.ts";
import { nodeId } from "./wire.ts";

/** Peers are heard one after another: so long nobody has to have the interface before that is said. */
const SETTLE: Ns = 5n * SECOND;

/** VIPs that this node may own, for interfaces that it lacks. */
export interface Lack {
  /** One of them. */
  first: Address;
  hasMore: boolean;
  interfaces: readonly string[];
  /** Nodes that may own them; undefined: all. */
  nodes: readonly string[] | undefined;
}

/** An interface of this node. Its segment tells who is on that network, and by which interface. */
export interface Witness {
  isGuard: boolean;
  segment: {
    electorate: Electorate | undefined;
    members: readonly { heard: Pick<Heard, "node" | "interfaceName"> }[];
  };
}

/** The VIPs that a plan cannot serve. */
export interface Wanting {
  lacks: readonly Lack[];
  /** VIPs for which the kernel has no room, the oldest first. */
  leftOut: readonly VipRange[];
}

const LEFT_OUT =
  "is left out, as are all that came later: older VIPs take all room that isat has in the kernel. See the warnings of isat";

/** An address that nobody announces, and the rest of the sentence that it begins. */
export interface Unserved {
  address: Address;
  says: string;
  /** The speaker warns of it in other words. */
  isSaid?: boolean;
}

/** @param names of the interfaces on which this node announces */
export function lacksOf(self: string, vips: readonly VipRange[], names: readonly string[]): Lack[] {
  const lacks = new Map<string, Lack>();
  const isLacking = new Map<readonly string[], boolean>(); // many VIPs have one list
  for (const { first, interfaces, nodes } of vips) {
    if (!interfaces?.length || (nodes && !nodes.includes(self))) continue;
    let lacking = isLacking.get(interfaces);
    if (lacking === undefined) {
      lacking = !names.some((name) => matches(name, interfaces));
      isLacking.set(interfaces, lacking);
    }
    if (!lacking) continue;
    const id = `${interfaces.join()} ${nodes?.join() ?? "*"}`;
    const known = lacks.get(id);
    if (known) known.hasMore = true;
    else lacks.set(id, { first, hasMore: false, interfaces, nodes });
  }
  return [...lacks.values()];
}

/** VIPs that nobody announces, because neither this node nor any that is heard and may own them has an interface for them. */
export class Mute {
  private since = new Map<string, Ns>();

  look(self: string, { lacks, leftOut }: Wanting, attached: Iterable<Witness>, now: Ns): Unserved[] {
    const witnesses = [...attached].filter(({ isGuard }) => !isGuard);
    const before = this.since;
    this.since = new Map();
    const [first] = leftOut;
    const isSaid = { isSaid: true, says: LEFT_OUT };
    const without = lacks.flatMap((lack) => {
      if (!isNowhere(self, lack, witnesses)) return [];
      const { first, hasMore, interfaces } = lack;
      const id = `${first} ${interfaces.join()}`;
      const since = before.get(id) ?? now;
      this.since.set(id, since);
      if (now - since < SETTLE) return [];
      const says = `is announced by nobody${hasMore ? ", as others" : ""}: it is for ${interfaces.join(", ")} only, and no node that may own it and is heard has an interface of that name. See isat status on these nodes`;
      return [{ address: first, says }];
    });
    return first ? [...without, { address: first.first, ...isSaid }] : without;
  }
}

/** @param witnesses the interfaces on which this node announces */
function isNowhere(self: string, { interfaces, nodes }: Lack, witnesses: readonly Witness[]): boolean {
  // A name that is not told may be any.
  const lacks = (name: string | undefined) => Boolean(name) && !matches(name!, interfaces);
  const ids = nodes && new Set(nodes.map(nodeId));
  return witnesses.every(({ segment: { electorate, members } }) => {
    if (!electorate?.candidates) return false; // this node does not know its peers yet
    const others = electorate.candidates.filter((node) => node !== self && (!nodes || nodes.includes(node)));
    const heard = members.filter(({ heard }) => !ids || ids.has(heard.node));
    return (
      others.every((node) => lacks(electorate.names.get(node))) &&
      heard.every(({ heard }) => lacks(heard.interfaceName))
    );
  });
}

/** The sentence, for a log; none where it is said already. */
export const unservedText = ({ address, says, isSaid }: Unserved): string[] =>
  isSaid ? [] : [`${formatAddress(address)} ${says}`];
