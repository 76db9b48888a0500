import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../src/core/address.ts";
import { SECOND } from "../../src/core/time.ts";
import { lacksOf, Mute, type Witness } from "../../src/core/unserved.ts";
import { heardOf, range, START } from "./stage.ts";

const VIP = range("10.9.0.1", { interfaces: ["eth9"] });
const LACKS = lacksOf("a", [VIP], ["eth0"]);

/** An interface of node `a`, and by which name each peer is on its network. */
function witness(peers: Record<string, string>, gone: Record<string, string> = {}, isKnown = true): Witness {
  const candidates = isKnown ? ["a", ...Object.keys(peers)] : undefined;
  const names = new Map(Object.entries({ a: "eth0", ...peers }));
  const electorate = {
    self: "a",
    ranges: [VIP],
    candidates,
    headless: [],
    lagging: [],
    fresh: [],
    onlyIPv4: [],
    names,
  };
  const all = Object.entries({ ...peers, ...gone });
  const members = all.map(([name, interfaceName]) => ({ heard: heardOf(name, { interfaceName }) }));
  return { isGuard: false, segment: { electorate, members } };
}

/** The addresses that are said after a time, ns. */
function told(witnesses: readonly Witness[], lacks = LACKS, after = 5n * SECOND) {
  const mute = new Mute();
  mute.look("a", { lacks, leftOut: [] }, witnesses, START);
  return mute.look("a", { lacks, leftOut: [] }, witnesses, START + after).map(({ address }) => address);
}

const IT = [parseAddress("10.9.0.1")];
const rows: [what: string, witnesses: Witness[], told: typeof IT][] = [
  ["this node is alone", [witness({})], IT],
  ["all peers lack the interface", [witness({ b: "eth0", c: "ens3" })], IT],
  ["one peer has it", [witness({ b: "eth0", c: "eth9" })], []],
  ["one peer has it on another network that this node is on", [witness({ b: "eth0" }), witness({ b: "eth9" })], []],
  ["the peer that has it is dead, which is said elsewhere", [witness({ b: "eth0" }, { c: "eth9" })], []],
  ["a peer does not tell its interface", [witness({ b: "eth0", c: "" })], []],
  ["this node does not know its peers yet", [witness({ b: "eth0" }, {}, false)], []],
  ["a guard tells nothing", [{ ...witness({ b: "eth9" }), isGuard: true }, witness({ b: "eth0" })], IT],
];
for (const [what, witnesses, expected] of rows) {
  test(`a VIP for an interface that this node lacks: ${what}`, () => assert.equal(told(witnesses), expected));
}

test("a VIP that nobody has the interface for is said once that has lasted, in one line for all that have the cause", () => {
  assert.equal(told([witness({ b: "eth0" })], LACKS, 4n * SECOND), []);
  const mute = new Mute();
  const lacks = lacksOf("a", [VIP, range("10.9.0.2", { interfaces: ["eth9"] })], ["eth0"]);
  mute.look("a", { lacks, leftOut: [] }, [witness({})], START);
  const [one, ...others] = mute.look("a", { lacks, leftOut: [] }, [witness({})], START + 5n * SECOND);
  assert.equal([one?.address, others], [parseAddress("10.9.0.1"), []]);
  assert.match(one!.says, /^is announced by nobody, as others: it is for eth9 only, and no node /);
  mute.look("a", { lacks, leftOut: [] }, [witness({ b: "eth9" })], START + 6n * SECOND);
  assert.equal(mute.look("a", { lacks, leftOut: [] }, [witness({})], START + 7n * SECOND), [], "it begins anew");
});

test("only the nodes that may own the VIP matter, and this node where it may", () => {
  const its = (...nodes: string[]) => lacksOf("a", [{ ...VIP, nodes }], ["eth0"]);
  assert.equal(told([witness({ b: "eth0", c: "eth9" })], its("a", "b")), IT);
  assert.equal(its("b", "c"), []);
});

test("of VIPs for which the kernel has no room, the oldest is named, and the speaker says it in other words", () => {
  const leftOut = [range("10.9.0.4"), range("10.9.0.5")];
  const [one, ...others] = new Mute().look("a", { lacks: [], leftOut }, [witness({})], START);
  assert.equal([one?.address, one?.isSaid, others], [parseAddress("10.9.0.4"), true, []]);
});

test("a VIP for an interface that this node has, or for all, is not lacking", () => {
  assert.equal(lacksOf("a", [VIP], ["eth0", "eth9"]), []);
  assert.equal(lacksOf("a", [range("10.9.0.1"), range("10.9.0.2", { interfaces: [] })], ["eth0"]), []);
});

test.run();
