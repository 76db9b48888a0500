import { setTimeout as sleep } from "node:timers/promises";
import { type Address, addressBytes, addressOfBytes } from "../core/address.ts";
import { ARP_REPLY, ARP_REQUEST, BROADCAST, decodeArp, ETH_P_ARP, encodeArp, NO_MAC } from "../core/arp.ts";
import type { Link } from "./links.ts";
import { ListeningSocket, type PacketSocket, type Received } from "./packet.ts";

/** How long to wait for replies, ms. */
const REPLIES_WITHIN = 300;

/** Sends ARP requests for the addresses, as any host does. @returns the addresses for which a reply came */
export async function whoHas(socket: PacketSocket, link: Link, targets: readonly Address[]): Promise<Set<Address>> {
  const answered = new Set<Address>();
  using listening = new ListeningSocket(ETH_P_ARP, [link.ifindex]);
  const take = ({ frame }: Received) => {
    const arp = decodeArp(frame);
    if (arp?.op !== ARP_REPLY) return;
    const address = addressOfBytes(arp.spa);
    if (targets.includes(address)) answered.add(address);
  };
  void listening.listen(take, () => {});
  const own = addressBytes(link.addresses[0]?.address ?? 0);
  for (const target of targets) {
    const request = { destination: BROADCAST, source: link.mac, op: ARP_REQUEST, sha: link.mac, spa: own };
    socket.send(link.ifindex, encodeArp({ ...request, tha: NO_MAC, tpa: addressBytes(target) }));
  }
  await sleep(REPLIES_WITHIN, undefined, { ref: false });
  return answered;
}
