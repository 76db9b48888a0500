import { endianness } from "node:os";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  answers,
  ifindexKey,
  interfaceEntry,
  type Layout,
  maps,
  NO_VERDICTS,
  verdicts,
  vip,
  vipKey,
  vipState,
} from "../../src/core/abi.ts";

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replace(/\s/g, ""), "hex"));
const text = (characters: string, size: number) => Buffer.from(characters.padEnd(size, "\0")).toString("hex");

const interfaceValue = {
  name: "eth0",
  mac_text: "9e:a4:2c:fb:05:98",
  mac: bytes("9e a4 2c fb 05 98"),
  address: bytes("0a 09 ff 01"),
  netns: 0xf0000001,
  vlan_strip_off: true,
  tick_ns: 0x0102030405060708n,
  fence_ns: 300_000_000_000n,
  gone_ns: 2n ** 64n - 1n,
};
const verdictsValue = {
  interface: "eth0",
  tagged: 1n,
  not_request: 2n,
  not_managed: 3n,
  announcement: 4n,
  not_for_us: 5n,
  gone: 6n,
  bad_sender: 7n,
  not_owned: 8n,
  fenced: 9n,
  answered: 10n,
  egress_claimed: 11n,
  egress_rewritten: 12n,
  egress_dropped: 13n,
  answered_other_source: 14n,
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
  ["a VIP that is owned", vip, { state: vipState.OWNED, interface: "eth0" }, `01 00 00 00  ${text("eth0", 16)}`],
  ["a VIP that is not owned", vip, { state: vipState.NOT_OWNED, interface: "" }, `00 00 00 00  ${text("", 16)}`],
  [
    "a VIP on an interface of the longest name",
    vip,
    { state: vipState.OWNED, interface: "enp0s31f6.12345" },
    `01 00 00 00  ${text("enp0s31f6.12345", 16)}`,
  ],
  [
    "answers",
    answers,
    { answered: 1n, last_answer_ns: 0x0102030405060708n },
    "01 00 00 00 00 00 00 00  08 07 06 05 04 03 02 01",
  ],
  [
    "an interface, with three bytes of padding behind the bool",
    interfaceEntry,
    interfaceValue,
    `${text("eth0", 16)} ${text("9e:a4:2c:fb:05:98", 18)}
     9e a4 2c fb 05 98  0a 09 ff 01  01 00 00 f0  01 00 00 00 00 00 00 00
     08 07 06 05 04 03 02 01  00 b8 64 d9 45 00 00 00  ff ff ff ff ff ff ff ff`,
  ],
  [
    "verdicts, in the order of the enum",
    verdicts,
    verdictsValue,
    `${text("eth0", 16)} ${Array.from({ length: 14 }, (_, i) => `${(i + 1).toString(16).padStart(2, "0")}00000000000000`).join(" ")}`,
  ],
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
    const encoded = vip.encode({ state: 0, interface: name });
    assert.is(encoded.length, 20);
    assert.is(encoded.at(-1), 0);
    assert.is(vip.decode(encoded).interface, read);
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

test("every counter of an interface of which nothing was seen is zero", () => {
  const { interface: name, ...counters } = NO_VERDICTS;
  assert.is(name, "");
  assert.equal(new Set(Object.values(counters)), new Set([0n]));
  assert.is(Object.keys(counters).length, 14);
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

test.run();
