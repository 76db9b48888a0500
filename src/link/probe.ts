/** Probes whether somebody on the wire has an address, before it is given out: RFC 5227 2.1.1, and RFC 4862 5.4. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Address, addressBytes, addressOfBytes, blockOf, having, isIPv4 } from "../core/address.ts";
import { ARP_REQUEST, BROADCAST, decodeArp, ETH_P_ARP, encodeArp, formatMac, NO_MAC } from "../core/arp.ts";
import { ETH_P_IPV6 } from "../core/icmp6.ts";
import { decodeNdp, SOLICITATION, solicitation } from "../core/ndp.ts";
import type { Link } from "./links.ts";
import { DISCOVERY, ListeningSocket, PacketSocket } from "./packet.ts";

/**
 * Three probes as in RFC 5227, but half a second apart: its seconds are for hosts that start at the same time, and for
 * links that do not forward yet, and this node has announced on its link for long.
 */
const [PROBES, PAUSE] = [3, 500];
/** So many frames are sent at once, and then a pause is made, ms: a switch's queue is small. */
const [BURST, BREATH] = [32, 5];

export interface Finding {
  /** The MACs that have an address, or probe for it themselves at this moment. */
  taken: Map<Address, string>;
  /** The addresses that cannot be probed from this node. */
  unable: Address[];
}

/** @param links those on which this node announces */
export async function probe(addresses: readonly Address[], links: readonly Link[]): Promise<Finding> {
  const near = new Map(addresses.map((address) => [address, linksFor(address, links)]));
  const unable = addresses.filter((address) => near.get(address)!.length === 0);
  const asked = [...near].flatMap(([address, its]) => its.map((link) => ({ address, link })));
  const taken = new Map<Address, string>();
  if (asked.length === 0) return { taken, unable };
  using socket = new PacketSocket();
  const own = new Set(links.map(({ mac }) => formatMac(mac)));
  const ifindexes = [...new Set(asked.map(({ link }) => link.ifindex))];
  const hear = (frame: Uint8Array) => {
    const address = holderOf(frame);
    const mac = formatMac(frame.subarray(6, 12));
    if (address !== undefined && near.has(address) && !own.has(mac)) taken.set(address, mac);
  };
  using sockets = new DisposableStack();
  const listen = (etherType: number, isTaken?: typeof DISCOVERY) =>
    void sockets.use(new ListeningSocket(etherType, ifindexes, isTaken)).listen(
      ({ frame }) => hear(frame),
      () => {},
    );
  // One for each family that is asked for: all of this host's IPv6 passes the filter of the second.
  if (asked.some(({ address }) => isIPv4(address))) listen(ETH_P_ARP);
  if (asked.some(({ address }) => !isIPv4(address))) listen(ETH_P_IPV6, DISCOVERY);
  for (let count = 0; count < PROBES; count++) {
    const left = asked.filter(({ address }) => !taken.has(address));
    for (const [index, { address, link }] of left.entries()) {
      socket.send(link.ifindex, probeOf(address, link.mac));
      if (index % BURST === BURST - 1) await sleep(BREATH);
    }
    await sleep(PAUSE);
  }
  return { taken, unable };
}

/**
 * The interfaces in whose subnet the address is, or else all: a VIP may be in no subnet of its node. Those alone that are
 * up: nobody is heard on the others.
 */
function linksFor(address: Address, links: readonly Link[]): readonly Link[] {
  const able = links.filter(({ isUp, linkLocal }) => isUp && (isIPv4(address) || linkLocal !== undefined));
  const has = ({ addresses }: Link) =>
    addresses.some(({ address: own, prefix }) => having(address)(blockOf(own, prefix)));
  const inside = links.filter(has);
  return inside.length > 0 ? able.filter((link) => inside.includes(link)) : able;
}

/** The sender has no address, so that nobody learns a wrong one. */
function probeOf(address: Address, mac: Uint8Array): Uint8Array {
  if (!isIPv4(address)) return solicitation(address, mac, addressBytes(0n));
  return encodeArp({
    ...{ destination: BROADCAST, source: mac, op: ARP_REQUEST, sha: mac, tha: NO_MAC },
    ...{ spa: addressBytes(0), tpa: addressBytes(address) },
  });
}

/** The address that the sender of a frame has, or probes for. */
function holderOf(frame: Uint8Array): Address | undefined {
  const arp = decodeArp(frame);
  if (arp) {
    const sender = addressOfBytes(arp.spa);
    if (sender !== 0) return sender;
    return arp.op === ARP_REQUEST ? addressOfBytes(arp.tpa) : undefined;
  }
  const ndp = decodeNdp(frame);
  if (!ndp) return undefined;
  const sender = addressOfBytes(ndp.from);
  return ndp.type === SOLICITATION && sender !== 0n ? sender : addressOfBytes(ndp.target);
}
