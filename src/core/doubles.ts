import { type Address, blockOf, having } from "./address.ts";
import { type Ns, SECOND } from "./time.ts";

/** How long an interface is left alone after this node's own frames were heard there. */
const DOUBLED: Ns = 60n * SECOND;
/**
 * The number of frames each way that show one wire. Anybody can copy a frame from one wire to another, and needs no key
 * for that. A node that starts sends four hellos on each interface.
 */
const TIMES = 3;
/** Frames count for so long: a node of many sends a hello once in a minute or so. */
const COUNTED: Ns = 600n * SECOND;

/** An interface that is served. */
export interface Wired {
  name: string;
  addresses: readonly { address: Address; prefix: number }[];
}

/** Interfaces of this node that are on one wire with another one of its interfaces, which announces for both. */
export class Doubles {
  private readonly barred = new Map<number, { kept: number; why: string; until: Ns }>();
  /** The number of frames that left one interface and came in on another one. */
  private readonly heard = new Map<string, { times: number; at: Ns }>();

  /**
   * A frame of our own came in. It bars an interface only where both are in one subnet, and where frames went both ways.
   * @param on where it came in @param from where it left @param linkOf the interfaces that are served
   * @returns what is to be logged; undefined where that is known already, or is no concern of isat's
   */
  hear(on: number, from: number, linkOf: (ifindex: number) => Wired | undefined, now: Ns): string | undefined {
    const known = this.barred.get(on);
    if (known) {
      known.until = now + DOUBLED;
      return undefined;
    }
    const [link, sender] = [linkOf(on), linkOf(from)];
    if (!link || !sender) return undefined;
    if (on === from) return `isat's own frames come back on ${link.name}: there is a loop in the network`;
    const isSure = this.count(on, from, now) >= TIMES && this.times(from, on, now) >= TIMES;
    if (!isSure || !isOneNetwork(link, sender)) return undefined;
    const [kept, left] = sender.name < link.name ? [from, on] : [on, from];
    const [first, second] = sender.name < link.name ? [sender.name, link.name] : [link.name, sender.name];
    const why = `it is on one wire with ${first}, which announces for both`;
    this.barred.set(left, { kept, why, until: now + DOUBLED });
    return `${first} and ${second} are on one wire: announcing on ${first} only. Take ${second} out of interfaces:`;
  }

  private times(on: number, from: number, now: Ns): number {
    const heard = this.heard.get(`${on} ${from}`);
    return heard && now - heard.at < COUNTED ? heard.times : 0;
  }

  private count(on: number, from: number, now: Ns): number {
    const times = this.times(on, from, now) + 1;
    this.heard.set(`${on} ${from}`, { times, at: now });
    return times;
  }

  /**
   * Lets go of interfaces on which nothing was heard for a minute. (Nobody listens on a barred one, so that it is announced
   * on for a moment then, until the next frame.)
   * @returns whether there were any
   */
  expire(now: Ns): boolean {
    const over = [...this.barred].filter(([, { until }]) => now >= until);
    for (const [ifindex] of over) this.barred.delete(ifindex);
    return over.length > 0;
  }

  /** Why nothing may be announced on an interface, by ifindex. @param isMeant whether the other one announces at all */
  reasons(isMeant: (kept: number) => boolean): ReadonlyMap<number, string> {
    return new Map([...this.barred].flatMap(([ifindex, { kept, why }]) => (isMeant(kept) ? [[ifindex, why]] : [])));
  }
}

/** True if both are in one subnet; nothing is known of one that has no address. */
function isOneNetwork(a: Wired, b: Wired): boolean {
  if (a.addresses.length === 0 || b.addresses.length === 0) return true;
  const covers = (prefix: number, one: Address, other: Address) => having(one)(blockOf(other, prefix));
  return a.addresses.some((own) =>
    b.addresses.some((other) => covers(Math.min(own.prefix, other.prefix), own.address, other.address)),
  );
}
