import type { Address } from "./address.ts";
import { formatMac } from "./arp.ts";
import type { Step } from "./step.ts";
import { MS, type Ns } from "./time.ts";

/** The pause between two questions for a VIP, and the number of questions without an answer after which it is free. */
const ASK: Ns = 20n * MS;
const ASKS = 3;
/** The number of questions at a time: their answers fit the queue of a socket, as one that is lost reads as none. */
const MOST = 128;

/** A node that answers ARP, and to which no claim gets. */
export interface Station {
  name: string;
  mac: Uint8Array;
}

/** The questions for one VIP. */
interface Check {
  stations: readonly Station[];
  asks: number;
  askedAt: Ns;
  /** The name of the node that answered. */
  holder: string | undefined;
}

/**
 * Asks nodes that cannot be sent a claim whether they have a VIP: deaf ones, and those that were never heard and answer
 * ARP. Each is asked by ARP, alone, for that VIP, right before it is claimed of the others. A node that answers keeps it.
 */
export class Holders {
  private stations: readonly Station[] | undefined = [];
  private readonly checks = new Map<Address, Check>();

  /** The nodes that are to be asked, the same list while they are the same; undefined: they are not known yet. */
  get nodes(): readonly Station[] | undefined {
    return this.stations;
  }

  set nodes(stations: readonly Station[] | undefined) {
    if (describe(stations) !== describe(this.stations)) this.stations = stations;
  }

  /** Forgets the questions for other VIPs. */
  only(wanted: ReadonlyMap<Address, unknown>): void {
    for (const address of this.checks.keys()) if (!wanted.has(address)) this.checks.delete(address);
  }

  /** @returns who has the VIP, if anybody; undefined: that is not known yet, and is asked */
  find(address: Address, step: Step): { holder: string | undefined } | undefined {
    const { checks, stations = [] } = this;
    if (stations.length === 0) return { holder: undefined };
    const check = checks.get(address);
    if (check?.stations !== stations) {
      if (!check && checks.size > 0 && checks.size * stations.length >= MOST) return undefined;
      this.ask(address, { stations, asks: 0, askedAt: 0n, holder: undefined }, step);
      return undefined;
    }
    if (check.holder === undefined && step.now - check.askedAt < ASK) return undefined;
    if (check.holder === undefined && check.asks < ASKS) this.ask(address, check, step);
    else checks.delete(address);
    return checks.has(address) ? undefined : check;
  }

  private ask(target: Address, check: Check, step: Step): void {
    this.checks.set(target, { ...check, asks: check.asks + 1, askedAt: step.now });
    for (const { mac } of check.stations) step.ask.push({ node: undefined, target, mac });
  }

  /** A MAC answered for the address by ARP. */
  hear(address: Address, mac: Uint8Array): void {
    const check = this.checks.get(address);
    const text = formatMac(mac);
    if (check) check.holder ??= check.stations.find((station) => formatMac(station.mac) === text)?.name;
  }
}

const describe = (stations: readonly Station[] | undefined): string | undefined =>
  stations?.map(({ name, mac }) => `${name} ${formatMac(mac)}`).join();
