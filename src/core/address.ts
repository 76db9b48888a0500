/** Converts addresses of both families between text, numbers and bytes. */

/** An IPv4 address as an unsigned 32-bit number: 10.9.0.1 is 0x0a090001. */
export type IPv4 = number;
/** An IPv6 address as an unsigned 128-bit number: 2001:db8::1 is 0x20010db8000000000000000000000001n. */
export type IPv6 = bigint;
/** An address. Its type tells its family; one of each are never added, subtracted or compared but by the functions here. */
export type Address = IPv4 | IPv6;

/** All addresses from `first` to `last`, both included and both of one family. */
export interface Range<A extends Address = Address> {
  first: A;
  last: A;
}

export const isIPv4 = (address: Address): address is IPv4 => typeof address === "number";

export type Family = 4 | 6;
export const familyOf = (address: Address): Family => (isIPv4(address) ? 4 : 6);

export const isIPv4Range = (range: Range): range is Range<IPv4> => isIPv4(range.first);

/** True for an address that means something on one link only (RFC 4291 2.5.6). */
export const isLinkLocal = (address: Address): address is IPv6 => !isIPv4(address) && address >> 118n === 0x3fan;

/** The bits that an address of this family has. */
const bitsOf = (address: Address): number => (isIPv4(address) ? 32 : 128);

/** True for a range that has the address. */
export const having =
  (address: Address) =>
  ({ first, last }: Range): boolean =>
    typeof first === typeof address && first <= address && address <= last;

/** True if the ranges have an address in common. */
export const overlap = (a: Range, b: Range): boolean =>
  typeof a.first === typeof b.first && a.first <= b.last && b.first <= a.last;

/** The order of addresses: IPv4 before IPv6, each by its number. */
export function compare(a: Address, b: Address): number {
  if (typeof a !== typeof b) return isIPv4(a) ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The address that is `count` behind the given one. */
export const plus = (address: Address, count: number): Address =>
  isIPv4(address) ? address + count : address + BigInt(count);

/** The number of addresses in the range; of a huge one, about. */
export const sizeOf = (range: Range): number =>
  1 + (isIPv4Range(range) ? range.last - range.first : Number(BigInt(range.last) - BigInt(range.first)));

/** The block of that prefix length that the address lies in. */
export function blockOf(address: Address, prefix: number): Range {
  if (isIPv4(address)) {
    const size = 2 ** (32 - prefix);
    const first = address - (address % size);
    return { first, last: first + size - 1 };
  }
  const size = 1n << BigInt(128 - prefix);
  const first = address - (address % size);
  return { first, last: first + size - 1n };
}

/** The forms that {@link parseRange} accepts, for help texts and errors. */
export const RANGE_FORMS = "an address (10.9.0.1, 2001:db8::1), a range (10.9.0.10-10.9.0.19) or a block (10.9.1.0/24)";

/**
 * Reads an address as Go's `net.ParseIP()` does: an IPv4 address mapped into IPv6 (::ffff:10.9.0.1) is IPv4. Leading zeros
 * in IPv4 are refused: some programs read them as octal. undefined: the text is no address.
 */
export function readAddress(text: string): Address | undefined {
  if (!text.includes(":")) return readIPv4(text);
  const address = readIPv6(text);
  if (address === undefined) return undefined;
  return address >> 32n === 0xffffn ? Number(address & 0xffff_ffffn) : address;
}

const NEEDED =
  "four numbers from 0 to 255 are needed, as in 10.9.0.1, or eight groups of hexadecimal digits, as in 2001:db8::1";

/** Parses `10.9.0.1` or `2001:db8::1`. @throws Error for other text, and for IPv4 that is mapped into IPv6 */
export const parseAddress = (text: string): Address =>
  strictAddress(text, (reason = NEEDED) => {
    throw new Error(`Cannot read "${text}" as an address: ${reason}`);
  });

/** @param fail called with the reason, or without one if the text is nothing like an address */
function strictAddress(text: string, fail: (reason?: string) => never): Address {
  const address = readAddress(text) ?? fail();
  if (!isIPv4(address) || !text.includes(":")) return address;
  return fail(`IPv4, mapped into IPv6: write ${formatAddress(address)}`);
}

/** Formats an address as Go's `net.IP.String()` does: `10.9.0.1`, or `2001:db8::1` as in RFC 5952. */
export function formatAddress(address: Address): string {
  return isIPv4(address) ? addressBytes(address).join(".") : formatIPv6(address);
}

/** The 4 or 16 bytes of the address in network byte order. */
export function addressBytes(address: Address): Uint8Array {
  if (isIPv4(address)) return Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, address >> 64n);
  view.setBigUint64(8, address);
  return bytes;
}

/** The address in the first 4 of the bytes, as they stand in a frame. */
export const ipv4OfBytes = (bytes: Uint8Array): IPv4 => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);

/** The address in the first 16 of the bytes, as they stand in a frame. */
export function ipv6OfBytes(bytes: Uint8Array): IPv6 {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return (view.getBigUint64(0) << 64n) | view.getBigUint64(8);
}

/** The address in 4 or 16 bytes. */
export const addressOfBytes = (bytes: Uint8Array): Address =>
  bytes.length === 4 ? ipv4OfBytes(bytes) : ipv6OfBytes(bytes);

/** Parses one of the {@link RANGE_FORMS}. A block means all of its addresses. @throws Error for other text */
export function parseRange(text: string): Range {
  const fail = (reason: string): never => {
    throw new Error(`Cannot read "${text}" as addresses: ${reason}. Accepted: ${RANGE_FORMS}`);
  };
  const address = (part: string) => strictAddress(part, (reason = "not an address") => fail(`"${part}" is ${reason}`));

  const block = /^([^/]*)\/([^/]*)$/.exec(text);
  if (block) {
    const [, base = "", prefix = ""] = block;
    const its = address(base);
    const bits = bitsOf(its);
    if (!/^(0|[1-9]\d{0,2})$/.test(prefix) || Number(prefix) > bits) {
      return fail(`"${prefix}" is not a prefix length from 0 to ${bits}`);
    }
    const whole = blockOf(its, Number(prefix));
    if (whole.first !== its) return fail(`${base} lies inside the block ${formatAddress(whole.first)}/${prefix}`);
    return whole;
  }

  const dash = text.indexOf("-");
  if (dash < 0) {
    const only = address(text);
    return { first: only, last: only };
  }
  const first = address(text.slice(0, dash));
  const last = address(text.slice(dash + 1));
  if (isIPv4(first) !== isIPv4(last)) return fail("it begins in one family and ends in the other");
  if (last < first) return fail("it ends before it begins");
  return { first, last };
}

/**
 * Blocks of which no address is a VIP. 169.254.0.0/16 is not in the list: hosts resolve it by ARP like any other, and no
 * router forwards it, which is for the network to know. fe80::/10 is: each interface has one of its own, and an address
 * of it means nothing without the interface (RFC 4007 6).
 */
const RESERVED: [block: string, what: string][] = [
  ["0.0.0.0/8", 'is "this network"'], // RFC 6890 2.2.2
  ["127.0.0.0/8", "is loopback"], // RFC 6890 2.2.2
  ["224.0.0.0/4", "is multicast"], // RFC 1112 4
  ["255.255.255.255/32", "is the broadcast address"], // RFC 6890 2.2.2
  ["240.0.0.0/4", "is reserved (class E)"], // RFC 6890 2.2.2
  ["::/128", "is the unspecified address"], // RFC 4291 2.5.2
  ["::1/128", "is loopback"], // RFC 4291 2.5.3
  ["fe80::/10", "is link-local"], // RFC 4291 2.5.6
  ["ff00::/8", "is multicast"], // RFC 4291 2.7
];
const BLOCKS = [
  ...RESERVED.map(([block, what]) => ({ ...parseRange(block), reason: `${block} ${what}` })),
  // RFC 4291 2.5.5.2. parseRange() refuses it.
  { first: 0xffff_0000_0000n, last: 0xffff_ffff_ffffn, reason: "::ffff:0:0/96 is IPv4, mapped into IPv6" },
];

/** The first reserved block in the range, as `127.0.0.0/8 is loopback`; undefined if all its addresses can be VIPs. */
export function reservedBlock(range: Range): string | undefined {
  return BLOCKS.find((block) => overlap(block, range))?.reason;
}

/**
 * The addresses that mean something else to every host around this node, and so are never VIPs, with the reasons: the
 * default gateways, and of each subnet the first address, and of IPv4 the last one.
 */
export function neverVips(
  gateways: Iterable<Address>,
  subnets: Iterable<{ address: Address; prefix: number }>,
): Map<Address, string> {
  const reasons = new Map<Address, string>();
  for (const { address, prefix } of subnets) {
    // All addresses of such a subnet are hosts: RFC 3021, and RFC 6164 5.1.
    if (prefix > bitsOf(address) - 2) continue;
    const { first, last } = blockOf(address, prefix);
    const name = `${formatAddress(first)}/${prefix}`;
    if (isIPv4(first)) {
      reasons.set(first, `it is the network's own address in ${name}`);
      reasons.set(last, `it is the broadcast address of ${name}`);
    } else {
      reasons.set(first, `every router answers for it: it is the subnet-router anycast address of ${name}`); // RFC 4291 2.6.1
    }
  }
  for (const gateway of gateways) reasons.set(gateway, "it is a default gateway's address");
  return reasons;
}

/** The ranges without some addresses; the same list if none of them is in it. */
export function without<T extends Range>(ranges: readonly T[], addresses: Iterable<Address>): readonly T[] {
  let left = ranges;
  for (const address of addresses) {
    if (!left.some(having(address))) continue;
    left = left.flatMap((range) => {
      if (!having(address)(range)) return [range];
      const below = address === range.first ? [] : [{ ...range, last: plus(address, -1) }];
      const above = address === range.last ? [] : [{ ...range, first: plus(address, 1) }];
      return [...below, ...above];
    });
  }
  return left;
}

function readIPv4(text: string): IPv4 | undefined {
  if (!/^((0|[1-9]\d{0,2})(\.|$)){4}$/.test(text) || text.endsWith(".")) return undefined;
  const bytes = text.split(".").map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((address, byte) => address * 256 + byte, 0);
}

/** RFC 4291 2.2: eight groups, of which `::` replaces one or more of zeros; the last two may be written as IPv4. */
function readIPv6(text: string): IPv6 | undefined {
  const tail = text.slice(text.lastIndexOf(":") + 1);
  const dotted = tail.includes(".") ? readIPv4(tail) : undefined;
  const plain =
    dotted === undefined
      ? text
      : `${text.slice(0, -tail.length)}${(dotted >>> 16).toString(16)}:${(dotted & 0xffff).toString(16)}`;
  const [before = [], after, ...more] = plain.split("::").map((part) => (part === "" ? [] : part.split(":")));
  const count = before.length + (after?.length ?? 0);
  if (more.length > 0 || (after ? count > 7 : count !== 8)) return undefined;
  const groups = [...before, ...Array<string>(8 - count).fill("0"), ...(after ?? [])];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return BigInt(`0x${groups.map((group) => group.padStart(4, "0")).join("")}`);
}

/** RFC 5952 4: small letters, no leading zeros, and `::` for the first of the longest runs of two or more zeros. */
function formatIPv6(address: IPv6): string {
  const view = new DataView(addressBytes(address).buffer);
  const text = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16)).join(":");
  let run = { 0: "", index: 0 };
  for (const found of text.matchAll(/\b0(?::0)+\b/g)) if (found[0].length > run[0].length) run = found;
  if (!run[0]) return text;
  const [before, after] = [text.slice(0, run.index), text.slice(run.index + run[0].length)];
  return `${before.replace(/:$/, "")}::${after.replace(/^:/, "")}`;
}
