/** Converts IPv4 addresses between text, numbers and bytes. */

/** An IPv4 address as an unsigned 32-bit number in host order: 10.9.0.1 is 0x0a090001. */
export type Address = number;

/** All addresses from `first` to `last`, both included. */
export interface Range {
  first: Address;
  last: Address;
}

/** True for a range that has the address. */
export const having =
  (address: Address) =>
  ({ first, last }: Range): boolean =>
    first <= address && address <= last;

/** The forms that {@link parseRange} accepts, for help texts and errors. */
export const RANGE_FORMS = "an address (10.9.0.1), a range (10.9.0.10-10.9.0.19) or a block (10.9.1.0/24)";

/** Parses `10.9.0.1`. Leading zeros are rejected: some programs read them as octal. @throws Error for other text */
export function parseAddress(text: string): Address {
  const address = tryParse(text);
  if (address === undefined) {
    throw new Error(`Cannot read "${text}" as an IPv4 address: four numbers from 0 to 255 are needed, as in 10.9.0.1`);
  }
  return address;
}

/** Formats an address as `10.9.0.1`. */
export function formatAddress(address: Address): string {
  return addressBytes(address).join(".");
}

/** The 4 bytes of the address in network byte order. */
export function addressBytes(address: Address): Uint8Array {
  return Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);
}

/** The address in the first 4 of the bytes, as they stand in a frame. */
export const addressOfBytes = (bytes: Uint8Array): Address => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);

/** Parses one of the {@link RANGE_FORMS}. A block means all of its addresses. @throws Error for other text */
export function parseRange(text: string): Range {
  const fail = (reason: string): never => {
    throw new Error(`Cannot read "${text}" as addresses: ${reason}. Accepted: ${RANGE_FORMS}`);
  };
  const address = (part: string): Address => tryParse(part) ?? fail(`"${part}" is not an IPv4 address`);

  const block = /^([^/]*)\/([^/]*)$/.exec(text);
  if (block) {
    const [, base = "", prefix = ""] = block;
    const first = address(base);
    if (!/^(\d|[12]\d|3[0-2])$/.test(prefix)) return fail(`"${prefix}" is not a prefix length from 0 to 32`);
    const size = 2 ** (32 - Number(prefix));
    const outside = first % size;
    if (outside) return fail(`${base} lies inside the block ${formatAddress(first - outside)}/${prefix}`);
    return { first, last: first + size - 1 };
  }

  const dash = text.indexOf("-");
  if (dash < 0) {
    const only = address(text);
    return { first: only, last: only };
  }
  const first = address(text.slice(0, dash));
  const last = address(text.slice(dash + 1));
  if (last < first) return fail("it ends before it begins");
  return { first, last };
}

/** RFC 6890 and RFC 1112. Link-local (169.254.0.0/16) is not in the list: hosts resolve it by ARP like any other. */
const RESERVED: [block: string, what: string][] = [
  ["0.0.0.0/8", 'is "this network"'],
  ["127.0.0.0/8", "is loopback"],
  ["224.0.0.0/4", "is multicast"],
  ["255.255.255.255/32", "is the broadcast address"],
  ["240.0.0.0/4", "is reserved (class E)"],
];
const BLOCKS = RESERVED.map(([block, what]) => ({ ...parseRange(block), reason: `${block} ${what}` }));

/** The first reserved block in the range, as `127.0.0.0/8 is loopback`; undefined if all its addresses can be VIPs. */
export function reservedBlock(range: Range): string | undefined {
  return BLOCKS.find((block) => range.first <= block.last && block.first <= range.last)?.reason;
}

/**
 * The addresses that mean something else to every host around this node, and so are never VIPs, with the reasons: the
 * default gateways, and the first and the last address of each subnet.
 */
export function neverVips(
  gateways: Iterable<Address>,
  subnets: Iterable<{ address: Address; prefix: number }>,
): Map<Address, string> {
  const reasons = new Map<Address, string>();
  for (const { address, prefix } of subnets) {
    if (prefix > 30) continue; // RFC 3021: all addresses of such a subnet are hosts
    const size = 2 ** (32 - prefix);
    const network = address - (address % size);
    const name = `${formatAddress(network)}/${prefix}`;
    reasons.set(network, `it is the network's own address in ${name}`);
    reasons.set(network + size - 1, `it is the broadcast address of ${name}`);
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
      if (address < range.first || range.last < address) return [range];
      const parts = [
        { ...range, last: address - 1 },
        { ...range, first: address + 1 },
      ];
      return parts.filter(({ first, last }) => first <= last);
    });
  }
  return left;
}

/** undefined if the text is not an IPv4 address. */
function tryParse(text: string): Address | undefined {
  if (!/^((0|[1-9]\d{0,2})(\.|$)){4}$/.test(text) || text.endsWith(".")) return undefined;
  const bytes = text.split(".").map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((address, byte) => address * 256 + byte, 0);
}
