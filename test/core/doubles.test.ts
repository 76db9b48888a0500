import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../src/core/address.ts";
import { Doubles, type Wired } from "../../src/core/doubles.ts";
import { SECOND } from "../../src/core/time.ts";

const NOW = 1_000n * SECOND;
const wired = (name: string, ...subnets: string[]): Wired => ({
  name,
  addresses: subnets.map((text) => {
    const [address, prefix] = text.split("/");
    return { address: parseAddress(address!), prefix: Number(prefix) };
  }),
});
const LINKS: Record<number, Wired> = { 2: wired("eth0", "10.9.0.1/16"), 3: wired("eth1", "10.9.7.2/24") };
const linkOf = (ifindex: number) => LINKS[ifindex];
const everywhere = () => true;
const SAID = "eth0 and eth1 are on one wire: announcing on eth0 only. Take eth1 out of interfaces:";
type Frame = readonly [on: number, from: number];
const [ON_SECOND, ON_FIRST]: [Frame, Frame] = [
  [3, 2],
  [2, 3],
];

/** Hears frames, one a second. @returns what was said, and the time after the last one */
function hearAll(doubles: Doubles, frames: readonly Frame[], links = linkOf, began = NOW) {
  const said = frames.map(([on, from], i) => doubles.hear(on, from, links, began + BigInt(i) * SECOND));
  return { said: said.filter((text) => text !== undefined), last: began + BigInt(frames.length - 1) * SECOND };
}

const BOTH_WAYS = [ON_FIRST, ON_SECOND, ON_FIRST, ON_SECOND, ON_SECOND, ON_FIRST];

for (const frames of [BOTH_WAYS, BOTH_WAYS.toReversed()]) {
  test("of two interfaces on one wire, the first by name announces, once frames were heard three times each way", () => {
    const doubles = new Doubles();
    assert.equal(hearAll(doubles, frames.slice(0, 5)).said, []);
    assert.is(doubles.reasons(everywhere).size, 0);
    assert.equal(hearAll(doubles, frames.slice(5)).said, [SAID]);
    assert.equal(doubles.reasons(everywhere), new Map([[3, "it is on one wire with eth0, which announces for both"]]));
  });
}

test("a relay that copies frames from one wire to another bars no interface, however many", () => {
  for (const frame of [ON_FIRST, ON_SECOND]) {
    const doubles = new Doubles();
    assert.equal(hearAll(doubles, Array(100).fill(frame)).said, []);
    assert.is(doubles.reasons(everywhere).size, 0);
  }
});

test("interfaces of different subnets are no doubles, whatever a relay copies; one without an address may be", () => {
  for (const [subnets, isBarred] of [
    [["10.8.0.2/16"], false],
    [["10.8.0.2/16", "172.16.0.1/12"], false],
    [["10.8.0.2/16", "10.9.255.1/30"], true],
    [["10.9.0.2/32"], true],
    [["10.200.0.2/8"], true],
    [[], true],
  ] as const) {
    const doubles = new Doubles();
    const links = (ifindex: number) => (ifindex === 3 ? wired("eth1", ...subnets) : linkOf(ifindex));
    hearAll(doubles, [...BOTH_WAYS, ...BOTH_WAYS], links);
    assert.is(doubles.reasons(everywhere).size > 0, isBarred, subnets.join());
  }
});

test("a frame of long ago counts no more", () => {
  const doubles = new Doubles();
  const { last } = hearAll(doubles, BOTH_WAYS.slice(0, 5));
  assert.equal(hearAll(doubles, [ON_FIRST], linkOf, last + 600n * SECOND).said, []);
  assert.is(doubles.reasons(everywhere).size, 0);
});

test("a frame that comes back where it left is a loop, and bars no interface", () => {
  const doubles = new Doubles();
  assert.is(doubles.hear(2, 2, linkOf, NOW), "isat's own frames come back on eth0: there is a loop in the network");
  assert.is(doubles.reasons(everywhere).size, 0);
});

test("an interface that is not served may well be on the same wire: nothing is logged, and nothing is barred", () => {
  const doubles = new Doubles();
  const frames = BOTH_WAYS.map((frame): Frame => [frame[0] === 3 ? 9 : 2, frame[1] === 3 ? 9 : 2]);
  assert.equal(hearAll(doubles, frames).said, []);
  assert.is(doubles.reasons(everywhere).size, 0);
});

test("an interface that is barred stays so while frames come in, and for a minute after the last", () => {
  const doubles = new Doubles();
  const { last } = hearAll(doubles, BOTH_WAYS);
  // It is no longer served, so it is not known here.
  const onlyFirst = (ifindex: number) => (ifindex === 2 ? LINKS[2] : undefined);
  assert.is(doubles.hear(3, 2, onlyFirst, last + 50n * SECOND), undefined, "known already");
  assert.is(doubles.expire(last + 110n * SECOND - 1n), false);
  assert.is(doubles.reasons(everywhere).size, 1);
  assert.is(doubles.expire(last + 110n * SECOND), true);
  assert.is(doubles.reasons(everywhere).size, 0);
  assert.is(doubles.expire(last + 200n * SECOND), false);
  assert.equal(hearAll(doubles, [ON_FIRST, ON_SECOND], linkOf, last + 201n * SECOND).said, [SAID]);
});

test("an interface is barred only while the other one announces", () => {
  const doubles = new Doubles();
  hearAll(doubles, BOTH_WAYS);
  assert.is(doubles.reasons((kept) => kept !== 2).size, 0);
  assert.is(doubles.reasons((kept) => kept === 2).size, 1);
});

test.run();
