import { addressOfBytes, formatAddress } from "../../src/core/address.ts";
import { decodeArp, formatMac } from "../../src/core/arp.ts";
import { PacketPort } from "../packet-port.ts";
import { ArpTable } from "../switch/arp-table.ts";
import { H3C } from "../switch/settings.ts";
import { CLIENT, NODES, nodeByMac } from "../topology.ts";
import type { Trio } from "../trio/trio.ts";

/** A switch beside the client, which keeps a port in each ARP entry and learns from announcements alone. */
export class Learner implements Disposable {
  /** Announcements that came. */
  count = 0;
  readonly #vips: readonly string[];
  readonly #table = new ArpTable({ ...H3C, portFromGratuitous: "ingress", timeScale: 1 });
  readonly #port: PacketPort;
  readonly #timer: NodeJS.Timeout;

  constructor(trio: Trio, vips: readonly string[]) {
    this.#vips = vips;
    this.#port = new PacketPort(trio.namespaces.full(trio.place(CLIENT.name)), "eth0");
    this.#timer = setInterval(() => this.#learn(), 2);
  }

  #learn(): void {
    for (let frame = this.#port.receive(); frame; frame = this.#port.receive()) {
      const arp = decodeArp(frame);
      const node = nodeByMac(formatMac(arp?.source ?? new Uint8Array(6)));
      const ip = formatAddress(addressOfBytes(arp?.spa ?? new Uint8Array(4)));
      if (!arp || !node || !this.#vips.includes(ip) || ip !== formatAddress(addressOfBytes(arp.tpa))) continue;
      this.count += 1;
      this.#table.hear({ ip, mac: formatMac(arp.sha), port: node.port, kind: "gratuitous" }, performance.now());
    }
  }

  /**
   * The node whose MAC and whose port each entry has; undefined where there is no entry, or they are not one node's.
   */
  get owners(): Record<string, string | undefined> {
    const nameOf = (ip: string) => {
      const entry = this.#table.entry(ip, performance.now());
      return NODES.find(({ mac, port }) => entry?.mac === mac && entry.port === port)?.name;
    };
    return Object.fromEntries(this.#vips.map((ip) => [ip, nameOf(ip)]));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#port[Symbol.dispose]();
  }
}
