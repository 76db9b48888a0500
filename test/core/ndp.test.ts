/** Neighbour Discovery and MLD: their frames, byte for byte. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { addressBytes, formatAddress, type IPv6, ipv6OfBytes, parseAddress } from "../../src/core/address.ts";
import { formatMac } from "../../src/core/arp.ts";
import { decodeIcmp6, encodeIcmp6, multicastMac } from "../../src/core/icmp6.ts";
import { decodeQuery, reports } from "../../src/core/mld.ts";
import {
  ADVERTISEMENT,
  decodeNdp,
  FLAG,
  SOLICITATION,
  solicitation,
  solicitedNode,
  unsolicited,
} from "../../src/core/ndp.ts";

const six = (text: string) => parseAddress(text) as IPv6;
const bytes = (text: string) => addressBytes(six(text));
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const VIP = "2001:db8::1:1234";

test("an unsolicited Advertisement goes to all nodes with O=1, and S=0 and R=0", () => {
  const frame = unsolicited(MAC, bytes(VIP));
  assert.is(
    Buffer.from(frame).toString("hex"),
    [
      "333300000001" + "020000000001" + "86dd",
      "60000000" + "0020" + "3aff",
      "20010db8000000000000000000011234" + "ff020000000000000000000000000001",
      "8800d4c2" + "20000000" + "20010db8000000000000000000011234" + "0201020000000001",
    ].join(""),
  );
  const ndp = decodeNdp(frame)!;
  assert.is(ndp.type, ADVERTISEMENT);
  assert.is(ndp.flags, FLAG.override);
  assert.is(formatAddress(ipv6OfBytes(ndp.target)), VIP);
  assert.is(formatMac(ndp.mac!), "02:00:00:00:00:01");
});

test("a Solicitation goes to the target's group, or to one MAC alone", () => {
  const all = decodeNdp(solicitation(six(VIP), MAC, bytes("fe80::1")))!;
  assert.is(all.type, SOLICITATION);
  assert.is(formatMac(all.destination), "33:33:ff:01:12:34");
  assert.is(formatAddress(ipv6OfBytes(all.to)), "ff02::1:ff01:1234");
  assert.is(formatAddress(ipv6OfBytes(all.from)), "fe80::1");
  assert.equal([...all.mac!], [...MAC]);
  const one = decodeNdp(solicitation(six(VIP), MAC, bytes("fe80::1"), Uint8Array.of(2, 0, 0, 0, 0, 9)))!;
  assert.is(formatMac(one.destination), "02:00:00:00:00:09");
  assert.is(formatAddress(ipv6OfBytes(one.to)), VIP);
});

/** RFC 4861 7.1: what is silently discarded. */
const wrong: [what: string, change: (frame: Uint8Array) => Uint8Array | undefined][] = [
  ["a frame that is cut short", (frame) => frame.subarray(0, 70)],
  ["a wrong checksum", (frame) => void (frame[57]! ^= 1)],
  ["another EtherType", (frame) => void (frame[13] = 0xdc)],
  ["an Echo Request", (frame) => again(frame, { type: 128 })],
  ["a hop limit of 254", (frame) => void (frame[21] = 254)],
  ["a code", (frame) => again(frame, { code: 1 })],
  ["a multicast target", (frame) => again(frame, { target: 0xff })],
  ["an option of length 0", (frame) => again(frame, { length: 0 })],
  ["an option that goes on beyond the end", (frame) => again(frame, { length: 2 })],
];
function again(frame: Uint8Array, { type = 136, code = 0, target = 0x20, length = 1 }): Uint8Array {
  const icmp = decodeIcmp6(frame)!;
  const message = icmp.message.slice();
  [message[0], message[1], message[8], message[25]] = [type, code, target, length];
  return encodeIcmp6({ ...icmp, message });
}
for (const [what, change] of wrong) {
  test(`${what} is not taken`, () => {
    const frame = unsolicited(MAC, bytes(VIP));
    assert.is(decodeNdp(change(frame) ?? frame), undefined);
  });
}

test("an Advertisement with other options before the MAC's, or without it, is taken", () => {
  const icmp = decodeIcmp6(unsolicited(MAC, bytes(VIP)))!;
  const head = icmp.message.subarray(0, 24);
  const message = Uint8Array.of(...head, 14, 1, 1, 2, 3, 4, 5, 6, 2, 1, ...MAC);
  assert.equal([...decodeNdp(encodeIcmp6({ ...icmp, message }))!.mac!], [...MAC]);
  assert.is(decodeNdp(encodeIcmp6({ ...icmp, message: head }))!.mac, undefined);
});

test("addresses with the same last 24 bits have one group", () => {
  assert.is(formatAddress(solicitedNode(six("2001:db8::1:2:1234"))), "ff02::1:ff02:1234");
  assert.is(solicitedNode(six("2001:db8:7::aa02:1234")), solicitedNode(six("2001:db8::1:2:1234")));
  assert.is(formatMac(multicastMac(bytes("ff02::1:ff02:1234"))), "33:33:ff:02:12:34");
});

test("MLD: reports have 60 groups each, behind a Router Alert, with hop limit 1", () => {
  const groups = Array.from({ length: 130 }, (_, i) => solicitedNode(BigInt(i)));
  for (const [isNew, type] of [
    [true, 4],
    [false, 2],
  ] as const) {
    const frames = reports(groups, MAC, six("fe80::1"), isNew);
    const said = frames.flatMap((frame) => {
      assert.ok(frame.length <= 1294);
      const { hopLimit, hasAlert, destination, to, message } = decodeIcmp6(frame)!;
      assert.equal([hopLimit, hasAlert, formatMac(destination)], [1, true, "33:33:00:00:00:16"]);
      assert.is(formatAddress(ipv6OfBytes(to)), "ff02::16");
      assert.is(message[0], 143);
      return Array.from({ length: message[7]! }, (_, i) => {
        const record = message.subarray(8 + 20 * i, 28 + 20 * i);
        assert.equal([...record.subarray(0, 4)], [type, 0, 0, 0]);
        return ipv6OfBytes(record.subarray(4));
      });
    });
    assert.is(frames.length, 3);
    assert.equal(said, groups);
  }
  assert.equal(reports([], MAC, six("fe80::1"), true), []);
});

test("MLD: queries of both versions are read, of all groups or of one", () => {
  const query = (group: string, code: number, more: number[] = [], hopLimit = 1) => {
    const message = Uint8Array.of(130, 0, 0, 0, code >> 8, code, 0, 0, ...bytes(group), ...more);
    const to = bytes("ff02::1");
    return encodeIcmp6({
      ...{ destination: multicastMac(to), source: MAC, hopLimit, from: bytes("fe80::9"), to, hasAlert: true, message },
    });
  };
  assert.equal(decodeQuery(query("::", 1000)), { group: undefined, within: 1000 });
  assert.equal(decodeQuery(query("ff02::1:ff01:1234", 10_000, [2, 125, 0, 0])), {
    ...{ group: six("ff02::1:ff01:1234"), within: 10_000 },
  });
  assert.is(decodeQuery(query("::", 0x8000))!.within, 32_768);
  assert.is(decodeQuery(query("::", 1000, [], 255)), undefined);
  assert.is(decodeQuery(unsolicited(MAC, bytes(VIP))), undefined);
});

test.run();
