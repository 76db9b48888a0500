import { type Ns, SECOND } from "./time.ts";

/** How long an interface is left alone after this node's own frames were heard there. */
const DOUBLED: Ns = 60n * SECOND;

/** Interfaces of this node that are on one wire with another one of its interfaces, which announces for both. */
export class Doubles {
  private readonly barred = new Map<number, { kept: number; why: string; until: Ns }>();

  /**
   * A frame of our own came in.
   * @param on where it came in @param from where it left @param nameOf the names of the interfaces that are served
   * @returns what is to be logged; undefined where that is known already, or is no concern of isat's
   */
  hear(on: number, from: number, nameOf: (ifindex: number) => string | undefined, now: Ns): string | undefined {
    const known = this.barred.get(on);
    if (known) {
      known.until = now + DOUBLED;
      return undefined;
    }
    const [name, sender] = [nameOf(on), nameOf(from)];
    if (name === undefined || sender === undefined) return undefined;
    if (on === from) return `isat's own frames come back on ${name}: there is a loop in the network`;
    const [kept, left] = sender < name ? [from, on] : [on, from];
    const [first, second] = sender < name ? [sender, name] : [name, sender];
    const why = `it is on one wire with ${first}, which announces for both`;
    this.barred.set(left, { kept, why, until: now + DOUBLED });
    return `${first} and ${second} are on one wire: announcing on ${first} only. Take ${second} out of interfaces:`;
  }

  /** Forgets what was not heard for a minute. @returns whether anything was forgotten */
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
