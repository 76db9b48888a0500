import { test } from "uvu";
import * as assert from "uvu/assert";
import { claimVerdict, nodeState, wireClaim, wireHeader, wireType } from "../../src/core/abi.ts";
import { addressBytes, parseAddress, plus } from "../../src/core/address.ts";
import { sipHash } from "../../src/core/siphash.ts";
import {
  claimsWithin,
  clusterId,
  decodeHeader,
  decodeWire,
  encodeWire,
  type FileKey,
  isMine,
  type Keyring,
  KNOWN,
  keyring,
  MAX_CLAIMS,
  type Message,
  nodeId,
  OLD_VERSION,
  PUBLIC_KEY,
  printable,
  SOURCE_STALE,
  VERSION,
  wireKeyOf,
} from "../../src/core/wire.ts";

const [file, otherFile] = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"].map(wireKeyOf) as [
  FileKey,
  FileKey,
];
const CLUSTER = clusterId("c");
const ringOf = (...files: FileKey[]) => keyring(files, CLUSTER, true);
const ring = ringOf(file);
/** The key of the cluster. */
const key = ring.keys[0]!;

const claims = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    ip: addressBytes(plus(parseAddress("10.9.0.0"), i)),
    verdict: [claimVerdict.CLAIMED, claimVerdict.FREE, claimVerdict.RELEASED, claimVerdict.MINE][i % 4]!,
    hash: 2n ** 64n - 1n - BigInt(i),
  }));

const message: Message = {
  type: wireType.WIRE_REPLY,
  destination: Uint8Array.of(2, 0, 0, 0, 0, 2),
  source: Uint8Array.of(2, 0, 0, 0, 0, 1),
  state: nodeState.HEADLESS,
  flags: SOURCE_STALE | KNOWN,
  tick_age: 65_535,
  node: nodeId("n1"),
  incarnation: 2n ** 64n - 1n,
  to: 2n ** 63n,
  nonce: 1n,
  stamp: 0x0102030405060708n,
  name: "n1",
  interface: "eth0",
};

test("a frame with as many claims as an MTU has room for fits it, and one more claim would not", () => {
  for (let mtu = 68; mtu <= 9_000; mtu++) {
    const most = claimsWithin(mtu);
    const size = (count: number) => encodeWire({ ...message, claims: claims(count) }, ring).length - 14;
    if (most > 0) assert.ok(size(most) <= mtu, `${mtu}`);
    if (most < MAX_CLAIMS) assert.ok(size(most + 1) > mtu, `${mtu}`);
    if (most === MAX_CLAIMS) break;
  }
  assert.is(claimsWithin(1_500), MAX_CLAIMS);
});

for (const [version, size, claimSize] of [
  [VERSION, 128, 32],
  [OLD_VERSION, 96, 16],
] as const) {
  for (const count of [0, 1, 2, MAX_CLAIMS]) {
    test(`a frame of version ${version} with ${count} claims is read as it was written`, () => {
      const frame = encodeWire({ ...message, claims: claims(count) }, ring, version);
      assert.is(frame.length, size + claimSize * count + 8);
      const {
        protocol,
        version: read,
        max_version,
        key_id,
        count: of,
        cluster,
        zero,
        ...said
      } = decodeWire(frame, ring)!;
      assert.equal([...protocol], [0x88, 0xb5]);
      assert.equal([read, max_version, key_id, of, zero], [version, VERSION, key.id, count, 0n]);
      const isOld = version === OLD_VERSION;
      assert.is(cluster, isOld ? 0n : CLUSTER);
      assert.equal(said, { ...message, interface: isOld ? "" : "eth0", claims: claims(count) });
    });
  }
}

test("a frame of the most claims fits into a frame of IPv6's least MTU", () => {
  assert.ok(encodeWire({ ...message, claims: claims(MAX_CLAIMS) }, ring).length <= 14 + 1280);
});

test("a claim has room for an address of 16 bytes", () => {
  const ip = Uint8Array.from({ length: 16 }, (_, i) => i);
  const claim = { ip, verdict: claimVerdict.CLAIMED, hash: 1n };
  assert.equal(decodeWire(encodeWire({ ...message, claims: [claim] }, ring), ring)!.claims, [claim]);
});

test("a frame of version 1, which has no room for IPv6 VIPs, claims the others", () => {
  const [four] = claims(1);
  const six = { ...four!, ip: addressBytes(parseAddress("2001:db8::1")) };
  const said = (list: Message["claims"]) => encodeWire({ ...message, claims: list! }, ring, OLD_VERSION);
  assert.equal(decodeWire(said([six, four!, six]), ring)!.claims, [four]);
  assert.equal(decodeWire(said([six]), ring)!.claims, []);
});

test("a frame in the middle of a buffer is read as it is alone", () => {
  const frame = encodeWire({ ...message, claims: claims(2) }, ring);
  const buffer = new Uint8Array(frame.length + 20);
  buffer.set(frame, 7);
  assert.equal(decodeWire(buffer.subarray(7, 7 + frame.length), ring), decodeWire(frame, ring));
});

test("a name of more than 31 bytes is cut off, and is another node's id all the same", () => {
  const [one, two] = ["a", "b"].map((end) => `node-${"x".repeat(40)}${end}`) as [string, string];
  assert.is(decodeWire(encodeWire({ ...message, name: one }, ring), ring)!.name, one.slice(0, 31));
  assert.is.not(nodeId(one), nodeId(two));
});

test("each of the keys verifies, wherever it stands", () => {
  const frame = encodeWire(message, ring);
  for (const files of [[file], [file, otherFile], [otherFile, file]]) assert.ok(decodeWire(frame, ringOf(...files)));
});

const sound = () => encodeWire({ ...message, claims: claims(2) }, ring);
const HEADER = wireHeader.size;
const at = (field: string) => wireHeader.fields.get(field)!.offset;

/** Signed by the right key, and wrong in what it says of itself. */
function signed(change: (frame: Uint8Array) => void, length = HEADER + 2 * wireClaim.size): Uint8Array {
  const template = new Uint8Array(length);
  template.set(sound().subarray(0, Math.min(length, HEADER + 2 * wireClaim.size)));
  change(template);
  const whole = new Uint8Array(length + 8);
  whole.set(template);
  new DataView(whole.buffer).setBigUint64(length, sipHash(key, template), true);
  return whole;
}

const refused: [what: string, frame: Uint8Array, its?: Keyring][] = [
  ["nothing at all", new Uint8Array()],
  ["a header alone, without a tag", sound().subarray(0, HEADER)],
  ["a frame cut short by a byte", sound().subarray(0, -1)],
  ["a frame cut short by a claim", sound().subarray(0, -wireClaim.size)],
  ["a frame with a byte behind it, as padding would be", Uint8Array.of(...sound(), 0)],
  ["a frame signed by a key that is not here", sound(), ringOf(otherFile)],
  ["a frame signed by another key of the same id", sound(), ringOf({ ...otherFile, id: key.id })],
  ["a frame signed by the public key, where there is a key", encodeWire(message, ringOf(PUBLIC_KEY))],
  ["any frame where there are no keys", sound(), ringOf()],
  ["a frame of another cluster with the same key", encodeWire(message, keyring([file], clusterId("d"), true))],
  [
    "a frame of version 1, where that is not spoken",
    encodeWire(message, ring, OLD_VERSION),
    keyring([file], CLUSTER, false),
  ],
  ["a frame of another version", signed((frame) => (frame[at("version")] = VERSION + 1))],
  ["a frame of version 0", signed((frame) => (frame[at("version")] = 0))],
  ["a frame that counts a claim less than it has", signed((frame) => (frame[at("count")] = 1))],
  ["a frame that counts a claim more than it has", signed((frame) => (frame[at("count")] = 3))],
  [
    "a frame of more claims than there may be",
    signed((frame) => (frame[at("count")] = MAX_CLAIMS + 1), HEADER + (MAX_CLAIMS + 1) * wireClaim.size),
  ],
  ["a frame of the greatest count there is", signed((frame) => frame.fill(255, at("count"), at("count") + 2))],
];
for (const [what, frame, its = ring] of refused) {
  test(`${what} says nothing`, () => assert.is(decodeWire(frame, its), undefined));
}

test("what is signed here by hand is read where nothing is wrong with it", () => {
  assert.ok(
    decodeWire(
      signed(() => undefined),
      ring,
    ),
  );
});

test("a bit flipped anywhere is refused", () => {
  const frame = sound();
  for (let bit = 0; bit < frame.length * 8; bit++) {
    frame[bit >> 3]! ^= 1 << (bit & 7);
    assert.is(decodeWire(frame, ringOf(file, otherFile)), undefined, `bit ${bit}`);
    frame[bit >> 3]! ^= 1 << (bit & 7);
  }
  assert.ok(decodeWire(frame, ringOf(file, otherFile)));
});

test("a key of one cluster is another one in the next, under the same id", () => {
  const [one, next] = ["c", "d"].map((name) => keyring([file], clusterId(name), true));
  assert.is(one!.keys[0]!.id, next!.keys[0]!.id);
  assert.not.equal(one!.keys[0]!.k0, next!.keys[0]!.k0);
  assert.equal([one!.oldKeys[0]!.k0, one!.oldKeys[0]!.k1], [file.k0, file.k1]);
});

test("what a stranger says of itself can be read without its key", () => {
  const { cluster, name } = decodeHeader(encodeWire(message, keyring([otherFile], clusterId("d"), true)))!;
  assert.equal([cluster, name], [clusterId("d"), "n1"]);
  assert.is(decodeHeader(sound().subarray(0, 100)), undefined);
});

test("a name off the wire is printed without what a terminal obeys", () => {
  assert.is(printable("n1.example-2"), "n1.example-2");
  assert.is(printable("a\u001b[31m b\n\u202e"), "a??31m?b??");
});

test("a key is what its text says, without white space around it, and never of id 0", () => {
  assert.equal(wireKeyOf(" secret\n"), wireKeyOf("secret"));
  assert.not.equal(wireKeyOf("secret"), wireKeyOf("Secret"));
  for (let i = 0; i < 2000; i++) {
    const { id } = wireKeyOf(`${i}`);
    assert.ok(id >= 1 && id <= 255);
  }
});

test("a claim of IPv6 has 16 bytes in version 2, in the order of the network, and comes back as it was", () => {
  const claim = { ip: addressBytes(parseAddress("2001:db8::10")), verdict: claimVerdict.CLAIMED, hash: 7n };
  const frame = encodeWire({ ...message, claims: [claim] }, ring);
  assert.equal([...frame.subarray(128, 144)], [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
  assert.is(frame[144], 6, "the family");
  assert.equal(decodeWire(frame, ring)!.claims, [claim]);
});

test("only MINE keeps a claim from its claimant", () => {
  for (const verdict of Object.values(claimVerdict)) {
    assert.is(isMine({ ip: addressBytes(0), verdict, hash: 0n }), verdict === claimVerdict.MINE);
  }
});

test.run();
