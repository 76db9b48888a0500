import { isIPv6 } from "node:net";
import { Address6 } from "ip-address";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type Address,
  addressBytes,
  addressOfBytes,
  blockOf,
  compare,
  formatAddress,
  having,
  neverVips,
  overlap,
  parseAddress,
  parseRange,
  plus,
  readAddress,
  reservedBlock,
  sizeOf,
  without,
} from "../../src/core/address.ts";

const addresses: [text: string, address: number][] = [
  ["0.0.0.0", 0],
  ["10.9.0.1", 0x0a090001],
  ["127.255.255.255", 0x7fffffff],
  ["128.0.0.0", 0x80000000],
  ["255.255.255.255", 0xffffffff],
];
for (const [text, address] of addresses) {
  test(`${text} is the number ${address}, and back`, () => {
    assert.is(parseAddress(text), address);
    assert.is(formatAddress(address), text);
    assert.equal([...addressBytes(address)], text.split(".").map(Number));
  });
}

for (const text of [
  "",
  "10.9.0",
  "10.9.0.1.",
  "10.9.0.1.2",
  "10.9.0.256",
  "10.9.00.1",
  "10.9.0.-1",
  " 10.9.0.1",
  "10.9.0.1\n",
  "a.b.c.d",
  "1e1.0.0.1",
]) {
  test(`${JSON.stringify(text)} is no address, and the error quotes it`, () => {
    assert.throws(
      () => parseAddress(text),
      (error: Error) => error.message.includes(`"${text}"`) && error.message.includes("10.9.0.1"),
    );
  });
}

const ranges: [text: string, first: string, last: string][] = [
  ["10.9.0.1", "10.9.0.1", "10.9.0.1"],
  ["10.9.0.10-10.9.0.19", "10.9.0.10", "10.9.0.19"],
  ["10.9.0.255-10.9.1.0", "10.9.0.255", "10.9.1.0"],
  ["10.9.0.7-10.9.0.7", "10.9.0.7", "10.9.0.7"],
  ["10.9.1.0/24", "10.9.1.0", "10.9.1.255"],
  ["10.9.1.7/32", "10.9.1.7", "10.9.1.7"],
  ["192.0.0.0/3", "192.0.0.0", "223.255.255.255"],
  ["0.0.0.0/0", "0.0.0.0", "255.255.255.255"],
];
for (const [text, first, last] of ranges) {
  test(`${text} means ${first} to ${last}`, () => {
    assert.equal(parseRange(text), { first: parseAddress(first), last: parseAddress(last) });
  });
}

const wrong: [text: string, says: string][] = [
  ["", '"" is not an address'],
  ["10.9.0", '"10.9.0" is not an address'],
  ["10.9.0.1-", '"" is not an address'],
  ["10.9.0.1-7", '"7" is not an address'],
  ["10.9.0.1 - 10.9.0.7", '"10.9.0.1 " is not an address'],
  ["10.9.0.9-10.9.0.1", "it ends before it begins"],
  ["10.9.1.5/24", "10.9.1.5 lies inside the block 10.9.1.0/24"],
  ["200.1.1.1/1", "the block 128.0.0.0/1"],
  ["10.9.1.0/33", '"33" is not a prefix length'],
  ["10.9.1.0/", '"" is not a prefix length'],
  ["10.9.1.0/024", '"024" is not a prefix length'],
  ["10.9.1.0/24/8", '"10.9.1.0/24/8" is not an address'],
];
for (const [text, says] of wrong) {
  test(`${JSON.stringify(text)} is refused as ${says}, with what is accepted`, () => {
    assert.throws(
      () => parseRange(text),
      (error: Error) => error.message.includes(says) && error.message.includes("10.9.0.10-10.9.0.19"),
    );
  });
}

const vips: [range: string, reason: string | undefined][] = [
  ["10.9.0.1", undefined],
  ["169.254.1.1", undefined],
  ["1.0.0.0-126.255.255.255", undefined],
  ["128.0.0.0-223.255.255.255", undefined],
  ["0.0.0.0", '0.0.0.0/8 is "this network"'],
  ["0.255.255.255", '0.0.0.0/8 is "this network"'],
  ["127.0.0.1", "127.0.0.0/8 is loopback"],
  ["126.0.0.0-128.0.0.0", "127.0.0.0/8 is loopback"],
  ["224.0.0.1", "224.0.0.0/4 is multicast"],
  ["239.255.255.255", "224.0.0.0/4 is multicast"],
  ["223.255.255.255-224.0.0.0", "224.0.0.0/4 is multicast"],
  ["240.0.0.1", "240.0.0.0/4 is reserved (class E)"],
  ["255.255.255.255", "255.255.255.255/32 is the broadcast address"],
];
for (const [range, reason] of vips) {
  test(`${range} ${reason ? `can be no VIP: ${reason}` : "can be VIPs"}`, () => {
    assert.is(reservedBlock(parseRange(range)), reason);
  });
}

/** Each text, and the form of Go's netip.ParseAddr(text).String(). */
const sixes: [text: string, canonical: string][] = [
  ["::", "::"],
  ["::1", "::1"],
  ["1::", "1::"],
  ["2001:DB8::0010", "2001:db8::10"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"], // RFC 5952 4.2.3: the first of two runs of one length
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"], // RFC 5952 4.2.3: the longest run
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"], // RFC 5952 4.2.2: no run of one
  ["10:0:1:0:0:2:3:4", "10:0:1::2:3:4"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ["64:ff9b::192.0.2.1", "64:ff9b::c000:201"],
  ["::10.9.0.1", "::a09:1"],
];
for (const [text, canonical] of sixes) {
  test(`${text} is ${canonical}, and back by its bytes`, () => {
    const address = parseAddress(text);
    assert.is(formatAddress(address), canonical);
    assert.is(parseAddress(canonical), address);
    assert.is(addressOfBytes(addressBytes(address)), address);
    assert.is(addressBytes(address).length, 16);
  });
}

for (const text of [
  ":",
  ":::",
  "1:::2",
  "1::2::3",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "1:2:3:4::5:6:7:8", // `::` stands for one group at least
  ":1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:",
  "12345::",
  "g::",
  "0x1::",
  "-1::",
  " ::1",
  "::1\n",
  "fe80::1%eth0",
  "::1.2.3",
  "::01.2.3.4",
  "1.2.3.4::",
  "1:2:3:4:5:6:7:1.2.3.4",
]) {
  test(`${JSON.stringify(text)} is no IPv6 address`, () => {
    assert.is(readAddress(text), undefined);
    assert.throws(
      () => parseAddress(text),
      (error: Error) => error.message.includes("as an address: four numbers"),
    );
  });
}

test("IPv4 that is mapped into IPv6 is IPv4 for who reads as Go does, and refused in a configuration", () => {
  for (const text of ["::ffff:10.9.0.1", "::FFFF:0a09:1", "0:0:0:0:0:ffff:a09:1"]) {
    assert.is(readAddress(text), 0x0a090001);
    assert.throws(() => parseAddress(text), /IPv4, mapped into IPv6: write 10\.9\.0\.1/);
    assert.throws(() => parseRange(`${text}/128`), /IPv4, mapped into IPv6: write 10\.9\.0\.1/);
  }
});

/** A random number below `most`; the same ones in each run of a seed. */
let state = 1n;
function random(most: number): number {
  state = (state * 6364136223846793005n + 1442695040888963407n) & (2n ** 64n - 1n);
  return Number((state >> 33n) % BigInt(most));
}
/** Groups of zeros are frequent, so that runs of them meet. */
const groups = () => Array.from({ length: 8 }, () => (random(2) ? 0 : random(2) ? random(16) : random(65_536)));
const numberOf = (all: readonly number[]) => all.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n);

test("50,000 random IPv6 addresses are printed as ip-address prints them, and read again", () => {
  for (let i = 0; i < 50_000; i++) {
    const address = numberOf(groups());
    if (address >> 32n === 0xffffn) continue;
    const text = formatAddress(address);
    assert.is(text, Address6.fromBigInt(address).correctForm());
    assert.is(parseAddress(text), address);
    assert.is(addressOfBytes(addressBytes(address)), address);
  }
});

test("50,000 random texts are read or refused as ip-address and inet_pton() do", () => {
  const pieces = [":", "::", "0", "1", "ab", "fFfF", "00f0", "12345", "g", ".", "1.2.3.4", "1.2.3", "%e", ""];
  for (let i = 0; i < 50_000; i++) {
    const whole = groups().map((group) => group.toString(16));
    const at = random(9);
    if (random(2)) whole.splice(at, random(9 - at), "");
    if (random(2)) whole[random(whole.length)] = pieces[random(pieces.length)]!;
    const text = random(8)
      ? whole.join(":")
      : Array.from({ length: random(8) }, () => pieces[random(pieces.length)]).join("");
    if (!text.includes(":")) continue;
    const its = readAddress(text);
    const isValid = isIPv6(text) && !text.includes("%");
    assert.is(its !== undefined, isValid, text);
    if (its !== undefined)
      assert.is(BigInt(its), new Address6(text).bigInt() & (typeof its === "number" ? 0xffff_ffffn : ~0n), text);
  }
});

test("10,000 random blocks of IPv6 are those of ip-address", () => {
  for (let i = 0; i < 10_000; i++) {
    const address = numberOf(groups());
    const prefix = random(129);
    const { first, last } = blockOf(address, prefix);
    const block = new Address6(`${Address6.fromBigInt(address).correctForm()}/${prefix}`);
    assert.equal([first, last], [block.startAddress().bigInt(), block.endAddress().bigInt()]);
    if (BigInt(first) >> 32n === 0xffffn) continue;
    assert.equal(parseRange(`${formatAddress(first)}/${prefix}`), { first, last });
  }
});

const ranges6: [text: string, first: string, last: string, size: number][] = [
  ["2001:db8::10", "2001:db8::10", "2001:db8::10", 1],
  ["2001:db8::10-2001:db8::1f", "2001:db8::10", "2001:db8::1f", 16],
  ["2001:db8::/112", "2001:db8::", "2001:db8::ffff", 65_536],
  ["2001:db8::7/128", "2001:db8::7", "2001:db8::7", 1],
  ["2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", 2 ** 64],
];
for (const [text, first, last, size] of ranges6) {
  test(`${text} means ${first} to ${last}: ${size}`, () => {
    const range = parseRange(text);
    assert.equal(range, { first: parseAddress(first), last: parseAddress(last) });
    assert.is(sizeOf(range), size);
  });
}

const wrong6: [text: string, says: string][] = [
  ["2001:db8::1f-2001:db8::10", "it ends before it begins"],
  ["10.9.0.1-2001:db8::1", "it begins in one family and ends in the other"],
  ["2001:db8::5/64", "2001:db8::5 lies inside the block 2001:db8::/64"],
  ["2001:db8::/129", '"129" is not a prefix length from 0 to 128'],
  ["2001:db8::10-1f", '"1f" is not an address'],
];
for (const [text, says] of wrong6) {
  test(`${text} is refused as ${says}`, () =>
    assert.throws(
      () => parseRange(text),
      (error: Error) => error.message.includes(says),
    ));
}

const vips6: [range: string, reason: string | undefined][] = [
  ["2001:db8::10", undefined],
  ["fd00::1", undefined],
  ["fec0::1", undefined], // RFC 3879 4: to be treated as global unicast
  ["::", "::/128 is the unspecified address"],
  ["::1", "::1/128 is loopback"],
  ["::2", undefined],
  ["fe80::1", "fe80::/10 is link-local"],
  ["febf::1", "fe80::/10 is link-local"],
  ["ff02::1", "ff00::/8 is multicast"],
  ["fe7f:ffff::-fe80::", "fe80::/10 is link-local"],
  ["::fffe:ffff:ffff-::1:0:0:0", "::ffff:0:0/96 is IPv4, mapped into IPv6"],
];
for (const [range, reason] of vips6) {
  test(`${range} ${reason ? `can be no VIP: ${reason}` : "can be VIPs"}`, () => {
    assert.is(reservedBlock(parseRange(range)), reason);
  });
}

test("an address of one family is in no range of the other one, whatever its number", () => {
  const [four, six] = [parseRange("0.0.0.0/0"), parseRange("::/0")];
  assert.not(having(parseAddress("::1"))(four));
  assert.not(having(parseAddress("10.9.0.1"))(six));
  assert.not(overlap(four, six));
  assert.ok(compare(parseAddress("255.255.255.255"), parseAddress("::1")) < 0);
  assert.ok(compare(parseAddress("::1"), parseAddress("0.0.0.0")) > 0);
  assert.equal(without([four, six], [parseAddress("::")]), [four, { first: 1n, last: 2n ** 128n - 1n }]);
});

test("a subnet's first address is never a VIP, in IPv4 its last one neither, and no gateway of either family is", () => {
  const subnet = (text: string) => {
    const [address = "", prefix] = text.split("/");
    return { address: parseAddress(address), prefix: Number(prefix) };
  };
  const subnets = ["10.9.1.7/24", "10.9.2.7/31", "2001:db8::7/64", "2001:db8:1::7/127", "2001:db8:2::7/128"].map(
    subnet,
  );
  const never = neverVips([parseAddress("10.9.1.254"), parseAddress("2001:db8::ff")], subnets);
  assert.equal(Object.fromEntries([...never].map(([address, reason]) => [formatAddress(address), reason])), {
    "10.9.1.0": "it is the network's own address in 10.9.1.0/24",
    "10.9.1.255": "it is the broadcast address of 10.9.1.0/24",
    "2001:db8::": "every router answers for it: it is the subnet-router anycast address of 2001:db8::/64",
    "10.9.1.254": "it is a default gateway's address",
    "2001:db8::ff": "it is a default gateway's address",
  });
});

test("ranges of IPv6 without an address in them, at the beginning, at the end and inside", () => {
  const range = parseRange("2001:db8::1-2001:db8::5");
  const left = (...texts: string[]) =>
    without([range], texts.map(parseAddress)).map(({ first, last }) => [first, last].map(formatAddress).join("-"));
  assert.equal(left("2001:db8::1", "2001:db8::5"), ["2001:db8::2-2001:db8::4"]);
  assert.equal(left("2001:db8::3"), ["2001:db8::1-2001:db8::2", "2001:db8::4-2001:db8::5"]);
  const all: Address[] = [];
  for (let address = range.first; address <= range.last; address++) all.push(address);
  assert.equal(left(...all.map(formatAddress)), []);
  assert.is(plus(range.first, 4), range.last);
});

test.run();
