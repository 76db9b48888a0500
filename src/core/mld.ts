/** Multicast Listener Discovery, version 2 (RFC 3810), as far as a listener to solicited-node groups needs it. */
import { addressBytes, type IPv6, ipv6OfBytes, parseAddress } from "./address.ts";
import { decodeIcmp6, encodeIcmp6, multicastMac } from "./icmp6.ts";

const [QUERY, REPORT] = [130, 143];
/** RFC 3810 5.2.12: a group of which frames of any source are wanted, in answer to a query or where that is new. */
const [IS_EXCLUDE, TO_EXCLUDE] = [2, 4];
const RECORD = 20;
/** Records that fit into the smallest MTU of IPv6, 1,280 bytes. */
const MOST = 60;
const ALL_ROUTERS = addressBytes(parseAddress("ff02::16"));

/** Reports that say that frames to these groups are wanted. @param from this interface's link-local address */
export function reports(groups: readonly IPv6[], mac: Uint8Array, from: IPv6, isNew: boolean): Uint8Array[] {
  const header = { destination: multicastMac(ALL_ROUTERS), source: mac, hopLimit: 1, to: ALL_ROUTERS, hasAlert: true };
  return Array.from({ length: Math.ceil(groups.length / MOST) }, (_, i) => {
    const some = groups.slice(MOST * i, MOST * (i + 1));
    const message = new Uint8Array(8 + RECORD * some.length);
    message.set([REPORT, 0, 0, 0, 0, 0, 0, some.length]);
    some.forEach((group, at) => {
      message[8 + RECORD * at] = isNew ? TO_EXCLUDE : IS_EXCLUDE;
      message.set(addressBytes(group), 12 + RECORD * at);
    });
    return encodeIcmp6({ ...header, from: addressBytes(from), message });
  });
}

/** A router's or a switch's question which groups are listened to. */
export interface Query {
  /** undefined: all. */
  group: IPv6 | undefined;
  /** The time in which the answers are to come, ms. */
  within: number;
}

/** Decodes a query of either version; undefined for anything else, or one that came from elsewhere (RFC 3810 6.2). */
export function decodeQuery(frame: Uint8Array): Query | undefined {
  const icmp = decodeIcmp6(frame);
  if (!icmp?.hasAlert || icmp.hopLimit !== 1 || icmp.message.length < 24 || icmp.message[0] !== QUERY) return undefined;
  const { message } = icmp;
  const code = (message[4]! << 8) | message[5]!;
  // RFC 3810 5.1.3: above 32,767 it is a floating-point number.
  const within = code < 0x8000 ? code : ((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3);
  const group = ipv6OfBytes(message.subarray(8, 24));
  return { group: group === 0n ? undefined : group, within };
}
