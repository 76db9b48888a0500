import { endianness } from "node:os";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  COUNTERS,
  claimVerdict,
  ifindexKey,
  interfaceEntry,
  type Layout,
  MAX_CHANGES,
  maps,
  NO_VERDICTS,
  nodeState,
  peer,
  peerKey,
  probe,
  verdicts,
  vip,
  vipChange,
  vipKey,
  vipState,
  wireClaim,
  wireHeader,
  wireKey,
  wireOldClaim,
  wireType,
} from "../../src/core/abi.ts";

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replace(/\s/g, ""), "hex"));
const text = (characters: string, size: number) => Buffer.from(characters.padEnd(size, "\0")).toString("hex");

const interfaceValue = {
  ifindex: 6,
  address: bytes("0a 09 ff 01"),
  mac: bytes("9e a4 2c fb 05 98"),
  is_guard: true,
  zero: 0,
  tick_ns: 0x0102030405060708n,
  fence_ns: 300_000_000_000n,
  gone_ns: 2n ** 64n - 1n,
  live_ns: 4n,
  hold_ns: 5n,
  state: nodeState.DRAINED,
  source_stale: false,
  only_ipv4: true,
  vlan_strip_off: true,
  heard_ns: 6n,
  own_ns: 7n,
  strangers_ns: 8n,
  foreign_ns: 9n,
  node: 0x1112131415161718n,
  incarnation: 1n,
  hello_nonce: 2n,
  last_hello_nonce: 3n,
  own: bytes("0a 09 ff 01 ".repeat(8)),
  masks: bytes("ff ff 00 00".repeat(8)),
  link_local: bytes("fe 80 00 00 00 00 00 00 9c a4 2c ff fe fb 05 98"),
  node_name: "n1",
  name: "eth0",
  mac_text: "9e:a4:2c:fb:05:98",
  netns: 0xf0000001,
};
const peerValue = {
  lock: 0,
  node: "n2",
  state: nodeState.HEADLESS,
  mac: bytes("9e a4 2c fb 05 99"),
  source_stale: false,
  only_ipv4: true,
  knows_us: true,
  max_version: 7,
  key_id: 9,
  interface: "eth1",
  incarnation: 0x2122232425262728n,
  echo_nonce: 1n,
  stamp_ns: 2n,
  tick_age_ms: 3n,
  echoed_ns: 4n,
  heard_ns: 5n,
  echoes: 6n,
  probe_incarnation: 7n,
  probe_nonce: 8n,
  taken_stamp_ns: 9n,
  taken_nonce: 10n,
};
const probeValue = {
  node: "n2",
  mac_text: "9e:a4:2c:fb:05:99",
  mac: bytes("9e a4 2c fb 05 99"),
  incarnation: 0x2122232425262728n,
  nonce: 1n,
  last_nonce: 2n,
};
const headerValue = {
  destination: bytes("9e a4 2c fb 05 99"),
  source: bytes("9e a4 2c fb 05 98"),
  protocol: bytes("88 b5"),
  version: 1,
  type: wireType.WIRE_CLAIM,
  key_id: 7,
  state: nodeState.LIVE,
  flags: 3,
  max_version: 1,
  count: 0x0102,
  tick_age: 0x0304,
  node: 0x1112131415161718n,
  incarnation: 0x2122232425262728n,
  to: 1n,
  nonce: 2n,
  stamp: 3n,
  name: "n1",
  cluster: 4n,
  interface: "eth0",
  zero: 5n,
};
/** Small numbers as the words that they are. */
const words = (...numbers: number[]) =>
  numbers.map((number) => `${number.toString(16).padStart(2, "0")}00000000000000`).join(" ");
const NUMBERS = Object.keys(NO_VERDICTS);
const verdictsValue = {
  ...Object.fromEntries(NUMBERS.map((name, i) => [name, BigInt(i + 1)])),
};

/** As a little-endian kernel holds them; what C pads is zero, for the verifier and for comparisons of values. */
const values: [what: string, layout: Layout<unknown>, value: unknown, hex: string][] = [
  ["a map's plain key", ifindexKey, 0x01020304, "04 03 02 01"],
  [
    "a VIP's key, with the address as it stands in a frame",
    vipKey,
    { ip: bytes("0a 09 00 01"), ifindex: 2 },
    "0a 09 00 01  02 00 00 00",
  ],
  [
    "a VIP that is owned",
    vip,
    vip.of({
      ...{ state: vipState.OWNED, state_ns: 2n, hash: 0x0102030405060708n, claim_ns: 1n },
      ...{ released_ns: 3n, answered: 4n, last_answer_ns: 5n, check: 6n },
    }),
    `00 00 00 00  01 00 00 00 ${words(2)} 08 07 06 05 04 03 02 01 ${words(1, 3, 4, 5, 6)}`,
  ],
  ["a VIP that is not owned", vip, vip.of({}), words(0, 0, 0, 0, 0, 0, 0, 0)],
  [
    "an interface",
    interfaceEntry,
    interfaceValue,
    `06 00 00 00 0a 09 ff 01  9e a4 2c fb 05 98 01 00  08 07 06 05 04 03 02 01
     00 b8 64 d9 45 00 00 00 ff ff ff ff ff ff ff ff ${words(4, 5)} 05 00 00 00 00 01 01 00
     ${words(6, 7, 8, 9)} 18 17 16 15 14 13 12 11 ${words(1, 2, 3)}
     ${"0a 09 ff 01 ".repeat(8)} ${"ff ff 00 00 ".repeat(8)} fe 80 00 00 00 00 00 00 9c a4 2c ff fe fb 05 98
     ${text("n1", 32)} ${text("eth0", 16)}
     ${text("9e:a4:2c:fb:05:98", 18)} 00 00 01 00 00 f0`,
  ],
  [
    "a peer's key",
    peerKey,
    { node: 0x1112131415161718n, ifindex: 2, zero: 0 },
    "18 17 16 15 14 13 12 11 02 00 00 00 00 00 00 00",
  ],
  [
    "a peer",
    peer,
    peerValue,
    `00 00 00 00  ${text("n2", 32)} 03 00 00 00  9e a4 2c fb 05 99  00 01 07 09 ${text("eth1", 16)}  01 00 00 00 00 00
     28 27 26 25 24 23 22 21 ${words(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)}`,
  ],
  [
    "a probe",
    probe,
    probeValue,
    `${text("n2", 32)} ${text("9e:a4:2c:fb:05:99", 18)} 9e a4 2c fb 05 99  28 27 26 25 24 23 22 21 ${words(1, 2)}`,
  ],
  ["a key", wireKey, { k0: 1n, k1: 2n, cluster: 3n, id: 255 }, `${words(1, 2, 3)} ff 00 00 00 00 00 00 00`],
  [
    "a frame's header, with its EtherType in network order",
    wireHeader,
    headerValue,
    `9e a4 2c fb 05 99  9e a4 2c fb 05 98  88 b5  01 03 07 02 03 01  02 01  04 03
     18 17 16 15 14 13 12 11  28 27 26 25 24 23 22 21 ${words(1, 2, 3)} ${text("n1", 32)} ${words(4)} ${text("eth0", 16)} ${words(5)}`,
  ],
  [
    "a claim",
    wireClaim,
    {
      ip: bytes("0a 09 00 01 00 00 00 00 00 00 00 00 00 00 00 00"),
      verdict: claimVerdict.MINE,
      family: 4,
      hash: 0x0102030405060708n,
    },
    "0a 09 00 01 00 00 00 00 00 00 00 00 00 00 00 00  04 00 00 00  03 00 00 00  08 07 06 05 04 03 02 01",
  ],
  [
    "a claim of version 1",
    wireOldClaim,
    { ip: bytes("0a 09 00 01"), verdict: claimVerdict.MINE, hash: 0x0102030405060708n },
    "0a 09 00 01  03 00 00 00  08 07 06 05 04 03 02 01",
  ],
  ["verdicts, in the order of the enum", verdicts, verdictsValue, words(...NUMBERS.map((_, i) => i + 1))],
];
for (const [what, layout, value, hex] of values) {
  test(`${what}: the value's bytes are these ${bytes(hex).length}`, () => {
    assert.is(layout.size, bytes(hex).length);
    assert.equal(layout.encode(value), bytes(hex));
  });

  test(`${what}: the value is read back, and from the middle of a buffer too`, () => {
    assert.equal(layout.decode(bytes(hex)), value);
    const buffer = new Uint8Array(layout.size + 21).fill(0xa5);
    buffer.set(bytes(hex), 13);
    assert.equal(layout.decode(buffer.subarray(13, 13 + layout.size)), value);
  });
}

const texts: [what: string, name: string, read: string][] = [
  ["a name of 15 characters is kept whole", "abcdefghijklmno", "abcdefghijklmno"],
  ["a name of 16 characters is cut, for C needs an end", "abcdefghijklmnop", "abcdefghijklmno"],
  ["a name with an end in it ends there", "eth0\0junk", "eth0"],
  ["an empty name is empty", "", ""],
];
for (const [what, name, read] of texts) {
  test(what, () => {
    const encoded = interfaceEntry.encode(interfaceEntry.of({ name }));
    assert.is(encoded[4 + 15], 0);
    assert.is(interfaceEntry.decode(encoded).name, read);
  });
}

test("bytes that are too many do not run into the next field", () => {
  const encoded = vipKey.encode({ ip: bytes("0a 09 00 01 ff ff"), ifindex: 2 });
  assert.equal(encoded, bytes("0a 09 00 01 02 00 00 00"));
});

test("bytes that were read stay as they were when the buffer is used again", () => {
  const buffer = vipKey.encode({ ip: bytes("0a 09 00 01"), ifindex: 2 });
  const { ip } = vipKey.decode(buffer);
  buffer.fill(0xff);
  assert.equal(ip, bytes("0a 09 00 01"));
});

test("every counter of an interface on which no frame was seen is zero", () => {
  assert.equal(new Set(Object.values(NO_VERDICTS)), new Set([0n]));
});

test("every field of the verdicts is a counter, but for the clock", () => {
  assert.equal(
    COUNTERS,
    Object.keys(NO_VERDICTS).filter((name) => !["clock_jiffy", "clock_ns"].includes(name)),
  );
});

for (const [name, { key, value }] of Object.entries(maps)) {
  test(`a key of map ${name} has no padding, of which the kernel would make another key`, () => {
    const sizes = [...key.fields.values()].reduce((sum, { size }) => sum + size, 0);
    if (key.fields.size > 0) assert.is(sizes, key.size);
  });

  test(`the fields of map ${name}'s values follow each other, each aligned to its size`, () => {
    let end = 0;
    for (const { offset, size, kind } of value.fields.values()) {
      assert.ok(offset >= end);
      if (kind === "u32" || kind === "u64") assert.is(offset % size, 0);
      end = offset + size;
    }
    assert.ok(end <= value.size && value.size - end < 8);
  });
}

test("this machine is little-endian, as the layouts are", () => assert.is(endianness(), "LE"));

test("a call's changes of VIPs fit the frame of a test run on every kernel, however many fragments its frames have", () => {
  // bpf_test_init(): a page, less NET_SKB_PAD, NET_IP_ALIGN and a struct skb_shared_info, which has up to 45 fragments.
  const most = 4_096 - 128 - 2 - (48 + 45 * 16);
  assert.ok(16 + MAX_CHANGES * vipChange.size <= most);
});

test.run();
