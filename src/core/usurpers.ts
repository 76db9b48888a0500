import { type Address, formatAddress } from "./address.ts";
import { formatMac } from "./arp.ts";
import { type Ns, SECOND } from "./time.ts";

/** A machine that is no longer heard is warned of for so long. */
const FORGET: Ns = 60n * SECOND;
/** The number of machines that are named at once: anybody can make MACs up. */
const MOST = 4;

/** Machines that are no peers, and announce VIPs that are owned here, or say that they have them. */
export class Usurpers {
  /** How often one did. */
  times = 0;
  private readonly heard = new Map<string, { address: Address; until: Ns }>();

  hear(address: Address, mac: Uint8Array, now: Ns): void {
    this.times += 1;
    for (const [id, { until }] of this.heard) if (now >= until) this.heard.delete(id);
    const id = formatMac(mac);
    const known = this.heard.get(id);
    if (known) known.until = now + FORGET;
    else if (this.heard.size < MOST) this.heard.set(id, { address, until: now + FORGET });
  }

  warnings(interfaceName: string, now: Ns): string[] {
    return [...this.heard]
      .filter(([, { until }]) => now < until)
      .map(
        ([mac, { address }]) =>
          `a machine that is no peer says on ${interfaceName} that it has ${formatAddress(address)}: its MAC is ${mac}. isat announces the VIP again, at most once in ten seconds while this lasts. Find that machine (the switch knows its port), and take the address off it, or the VIP out of what isat serves`,
      );
  }
}
