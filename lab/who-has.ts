import { addressBytes, parseAddress } from "../src/core/address.ts";
import { ARP_REQUEST, BROADCAST, encodeArp, NO_MAC } from "../src/core/arp.ts";
import { parseMac } from "./mac.ts";

/** Addresses are text, or bytes where many frames are made. */
type Ip = string | Uint8Array;

const ipBytes = (ip: Ip) => (typeof ip === "string" ? addressBytes(parseAddress(ip)) : ip);

/** An ordinary ARP request by broadcast: who has the target? Tell the sender. */
export function whoHas(target: Ip, sender: { mac: string; ip: Ip }): Uint8Array {
  const mac = parseMac(sender.mac);
  const [spa, tpa] = [ipBytes(sender.ip), ipBytes(target)];
  return encodeArp({ destination: BROADCAST, source: mac, op: ARP_REQUEST, sha: mac, spa, tha: NO_MAC, tpa });
}
