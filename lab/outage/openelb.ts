import { ARP_REPLY, ARP_REQUEST, BROADCAST, decodeArp, encodeArp, NO_MAC } from "../../src/core/arp.ts";
import { parseMac } from "../mac.ts";
import { PacketPort } from "../packet-port.ts";
import { Poller } from "../poller.ts";

/**
 * Answers as OpenELB v0.4.4 did in the incident, in layer2 mode: one leader answers for every VIP out of its own NIC,
 * with its own MAC as Ethernet source and the chosen node's MAC as SHA.
 */
export class OpenElb implements Disposable {
  readonly #port: PacketPort;
  readonly #poller: Poller;
  readonly #mac: Uint8Array;
  readonly #macs = new Map<string, Uint8Array>();

  /**
   * @param namespace the full name of the leader's namespace @param name its interface @param mac that interface's MAC
   */
  constructor(namespace: string, name: string, mac: string) {
    this.#port = new PacketPort(namespace, name);
    this.#mac = parseMac(mac);
    this.#poller = new Poller(() => this.#poll());
  }

  /** Gives the VIP to the node with this MAC, and announces it: in request form, then in reply form. */
  assign(vip: string, mac: string): void {
    const owner = parseMac(mac);
    this.#macs.set(vip, owner);
    const spa = Uint8Array.from(vip.split("."), Number);
    const gratuitous = { destination: BROADCAST, source: this.#mac, sha: owner, spa, tpa: spa };
    this.#port.send(encodeArp({ ...gratuitous, op: ARP_REQUEST, tha: NO_MAC }));
    this.#port.send(encodeArp({ ...gratuitous, op: ARP_REPLY, tha: BROADCAST }));
  }

  #poll(): boolean {
    const frame = this.#port.receive();
    if (!frame) return false;
    const request = decodeArp(frame);
    const owner = request?.op === ARP_REQUEST ? this.#macs.get(request.tpa.join(".")) : undefined;
    if (!request || !owner || request.spa.join() === request.tpa.join()) return true;
    const { sha: tha, spa: tpa, tpa: spa } = request;
    this.#port.send(encodeArp({ destination: tha, source: this.#mac, op: ARP_REPLY, sha: owner, spa, tha, tpa }));
    return true;
  }

  [Symbol.dispose](): void {
    this.#poller[Symbol.dispose]();
    this.#port[Symbol.dispose]();
  }
}
