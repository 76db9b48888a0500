import { ARP_REPLY, type Arp, decodeArp, formatMac } from "../../src/core/arp.ts";
import type { LabNode } from "../topology.ts";

/** A request counts as lost after this time, ms. */
const STALE_MS = 1000;

/**
 * Holds every frame that crosses the switch against isat's promise: frames that claim a VIP come only out of the
 * owner's NIC, carry the owner's MAC as Ethernet source and as SHA, and come from one node at a time.
 */
export class Witness {
  /** Broken promises: each line once. */
  readonly broken = new Set<string>();
  /** Frames that claimed a VIP, and those among them that were answers. */
  claims = 0;
  answers = 0;
  readonly #owners = new Map<string, readonly LabNode[]>();
  readonly #asked = new Map<string, { open: number; at: number }>();
  readonly #gateway: string;
  #lastOut: Uint8Array | undefined;

  /** @param gateway the MAC of the switch itself */
  constructor(gateway: string) {
    this.#gateway = gateway;
  }

  /** Sets the nodes that may claim the VIP from now on: one node, or either of two during a hand-over. */
  expect(vip: string, owners: readonly LabNode[]): void {
    this.#owners.set(vip, owners);
  }

  see(direction: "in" | "out", port: number, frame: Uint8Array, now: number): void {
    const arp = decodeArp(frame);
    if (!arp) return;
    const spa = arp.spa.join(".");
    const tpa = arp.tpa.join(".");
    if (direction === "in" && this.#owners.has(spa)) this.#judge(port, arp, spa);

    const isNew = direction === "in" || this.#isOfTheGateway(arp, frame);
    if (isNew && arp.op !== ARP_REPLY && spa !== tpa && this.#owners.has(tpa)) this.#noteRequest(arp, tpa, now);
  }

  /**
   * True for the first copy of a request by the switch itself. A broadcast leaves by every port, but is one request.
   */
  #isOfTheGateway(arp: Arp, frame: Uint8Array): boolean {
    const isFirstCopy = frame !== this.#lastOut;
    this.#lastOut = frame;
    return isFirstCopy && formatMac(arp.sha) === this.#gateway;
  }

  #judge(port: number, arp: Arp, vip: string): void {
    this.claims++;
    const owners = this.#owners.get(vip)!;
    const names = owners.map(({ name }) => name).join(" or ");
    const [source, sha] = [formatMac(arp.source), formatMac(arp.sha)];
    const owner = owners.find(({ mac }) => mac === sha);
    if (!owner) this.broken.add(`${vip}, of ${names}, was claimed for ${sha} from port p${port}`);
    if (source !== sha) this.broken.add(`${vip} was claimed with Ethernet source ${source} and SHA ${sha}`);
    if (owner && owner.port !== port) this.broken.add(`${vip}, of ${owner.name}, was claimed from port p${port}`);
    if (arp.op !== ARP_REPLY || arp.spa.join() === arp.tpa.join()) return;

    this.answers++;
    const key = `${formatMac(arp.tha)} ${vip}`;
    const asked = this.#asked.get(key);
    if (asked && asked.open > 0) asked.open--;
    else this.broken.add(`one request for ${vip} by ${formatMac(arp.tha)} had two answers`);
  }

  #noteRequest(arp: Arp, vip: string, now: number): void {
    const key = `${formatMac(arp.sha)} ${vip}`;
    const asked = this.#asked.get(key);
    const open = asked && now - asked.at < STALE_MS ? asked.open + 1 : 1;
    this.#asked.set(key, { open, at: now });
  }
}
