import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseMac } from "../../lab/mac.ts";
import {
  ARP_REPLY,
  ARP_REQUEST,
  type Arp,
  announcement,
  BROADCAST,
  decodeArp,
  encodeArp,
  formatMac,
  NO_MAC,
} from "../../src/core/arp.ts";

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replace(/\s/g, ""), "hex"));
const PADDING = "00".repeat(18);

const MAC = bytes("02 15 a7 00 00 01");
const ASKER = bytes("02 00 5e 10 00 fe");
const VIP = bytes("0a 09 00 01");
const ASKER_IP = bytes("0a 09 ff fe");

const frames: [what: string, arp: Arp, hex: string][] = [
  [
    "who-has 10.9.0.1 tell 10.9.255.254",
    { destination: BROADCAST, source: ASKER, op: ARP_REQUEST, sha: ASKER, spa: ASKER_IP, tha: NO_MAC, tpa: VIP },
    `ff ff ff ff ff ff  02 00 5e 10 00 fe  08 06
     00 01  08 00  06 04  00 01
     02 00 5e 10 00 fe  0a 09 ff fe
     00 00 00 00 00 00  0a 09 00 01  ${PADDING}`,
  ],
  [
    "10.9.0.1 is-at 02:15:a7:00:00:01",
    { destination: ASKER, source: MAC, op: ARP_REPLY, sha: MAC, spa: VIP, tha: ASKER, tpa: ASKER_IP },
    `02 00 5e 10 00 fe  02 15 a7 00 00 01  08 06
     00 01  08 00  06 04  00 02
     02 15 a7 00 00 01  0a 09 00 01
     02 00 5e 10 00 fe  0a 09 ff fe  ${PADDING}`,
  ],
  [
    "an op of two bytes",
    { destination: ASKER, source: MAC, op: 0x1234, sha: MAC, spa: VIP, tha: ASKER, tpa: ASKER_IP },
    `02 00 5e 10 00 fe  02 15 a7 00 00 01  08 06
     00 01  08 00  06 04  12 34
     02 15 a7 00 00 01  0a 09 00 01
     02 00 5e 10 00 fe  0a 09 ff fe  ${PADDING}`,
  ],
];
for (const [what, arp, hex] of frames) {
  test(`${what}: the frame's bytes are these 60`, () => {
    assert.equal(encodeArp(arp), bytes(hex));
    assert.is(bytes(hex).length, 60);
  });

  test(`${what}: the frame is read back`, () => assert.equal(decodeArp(bytes(hex)), arp));

  test(`${what}: the frame is read without its padding, and from the middle of a buffer`, () => {
    const buffer = new Uint8Array(100).fill(0xa5);
    buffer.set(bytes(hex).subarray(0, 42), 17);
    assert.equal(decodeArp(buffer.subarray(17, 17 + 42)), arp);
  });
}

test("an announcement is a broadcast request with SPA = TPA = the VIP, and no THA", () => {
  assert.equal(
    announcement(MAC, VIP),
    bytes(`ff ff ff ff ff ff  02 15 a7 00 00 01  08 06
      00 01  08 00  06 04  00 01
      02 15 a7 00 00 01  0a 09 00 01
      00 00 00 00 00 00  0a 09 00 01  ${PADDING}`),
  );
});

const REQUEST = bytes(frames[0]![2]);
const wrong: [what: string, at: number, value: number][] = [
  ["IPv4", 13, 0x00],
  ["behind a tag", 12, 0x81],
  ["for other hardware", 15, 6],
  ["for hardware type 257", 14, 1],
  ["for another protocol", 16, 0x86],
  ["for hardware addresses of 8 bytes", 18, 8],
  ["for protocol addresses of 16 bytes", 19, 16],
];
for (const [what, at, value] of wrong) {
  test(`a frame that is ${what} is no ARP`, () => {
    const frame = REQUEST.slice();
    frame[at] = value;
    assert.is(decodeArp(frame), undefined);
  });
}

test("a frame cut short is no ARP, at whatever length", () => {
  for (let length = 0; length < 42; length++) assert.is(decodeArp(REQUEST.subarray(0, length)), undefined, `${length}`);
  assert.ok(decodeArp(REQUEST.subarray(0, 42)));
});

const macs: [text: string, bytes: number[]][] = [
  ["9e:a4:2c:fb:05:98", [0x9e, 0xa4, 0x2c, 0xfb, 0x05, 0x98]],
  ["00:00:00:00:00:00", [0, 0, 0, 0, 0, 0]],
  ["ff:ff:ff:ff:ff:ff", [255, 255, 255, 255, 255, 255]],
];
for (const [text, expected] of macs) {
  test(`${text} is a MAC, and back`, () => {
    assert.equal([...parseMac(text)], expected);
    assert.is(formatMac(Uint8Array.from(expected)), text);
  });
}

test("a MAC may be written in capitals", () => assert.equal([...parseMac("9E:A4:2C:FB:05:98")], macs[0]![1]));

for (const text of [
  "",
  "9e:a4:2c:fb:05",
  "9e:a4:2c:fb:05:98:00",
  "9e-a4-2c-fb-05-98",
  "9ea42cfb0598",
  "9e:a4:2c:fb:5:98",
  "9e:a4:2c:fb:05:9g",
  " 9e:a4:2c:fb:05:98",
  "9e:a4:2c:fb:05:98\n",
]) {
  test(`${JSON.stringify(text)} is no MAC, and the error quotes it`, () => {
    assert.throws(
      () => parseMac(text),
      (error: Error) => error.message.includes(`"${text}"`),
    );
  });
}

test.run();
