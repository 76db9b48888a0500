import { test } from "uvu";
import * as assert from "uvu/assert";
import { addressBytes, formatAddress, parseAddress, parseRange, reservedBlock } from "../../src/core/address.ts";

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

test.run();
