import { suite } from "uvu";
import * as assert from "uvu/assert";
import { answers, MAX_VIPS, vip, vip6Key, vipKey, vipState } from "../../src/core/abi.ts";
import { type Address, addressBytes, compare, isIPv4, parseAddress, plus } from "../../src/core/address.ts";
import { type Entry, UNOWNED } from "../../src/core/step.ts";
import { SECOND } from "../../src/core/time.ts";
import { keyOf, mapsOf, ownIpOf, readEntries, VipTable } from "../../src/kernel/vips.ts";
import { Bench } from "../bpf/run.ts";

const test = suite("the table of VIPs");
const bench = new Bench("isat-t-vips-");
test.after(() => bench[Symbol.dispose]());

const IFINDEX = 1;
const addresses = (first: string, count: number): Address[] =>
  Array.from({ length: count }, (_, i) => plus(parseAddress(first), i));
const size = (map: "vips" | "answers" | "vips6" | "answers6") =>
  [...bench.maps[map].batches()].reduce((sum, { count }) => sum + count, 0);
/** A key as it stands in a map. */
const raw = (address: Address) => (isIPv4(address) ? vipKey : vip6Key).encode(keyOf(IFINDEX, address));

/** Gives the table other entries, as a segment does: first in its own map, then in the kernel's. */
function replace(table: VipTable, added: readonly Address[], gone: readonly Address[] = []): boolean {
  const entries = table.entriesOf(IFINDEX);
  for (const address of gone) entries.delete(address);
  for (const address of added) entries.set(address, UNOWNED);
  return table.replace(
    IFINDEX,
    added.map((address) => [address, UNOWNED]),
    new Set(added),
    gone,
  );
}

const FAMILIES = [
  { family: "IPv4", names: ["vips", "answers"], net: "10.9.0.", other: "10.20.0." },
  { family: "IPv6", names: ["vips6", "answers6"], net: "2001:db8:9::", other: "2001:db8:20::" },
] as const;

for (const { family, names, net, other } of FAMILIES) {
  const at = (prefix: string, last: number): Address => plus(parseAddress(`${prefix}0`), last);
  const maps = mapsOf(bench.maps, at(net, 0));

  test(`${family}: a full map can be replaced by as many other entries`, () => {
    const table = new VipTable(bench.maps);
    const [old, young] = [addresses(`${net}0`, MAX_VIPS), addresses(`${other}0`, MAX_VIPS)];
    replace(table, old);
    replace(table, young, old);
    assert.equal([table.entriesOf(IFINDEX).size, size(names[0]), size(names[1])], [MAX_VIPS, MAX_VIPS, MAX_VIPS]);
    assert.is(maps.vips.get(keyOf(IFINDEX, at(other, 1)))?.state, 0);
    assert.is(maps.vips.get(keyOf(IFINDEX, at(net, 1))), undefined);
    replace(table, [], young);
    assert.equal([size(names[0]), size(names[1])], [0, 0]);
  });

  test(`F12, ${family}: a map that takes no more costs those that do not fit alone, and no fault is said`, () => {
    const table = new VipTable(bench.maps);
    const others = addresses(`${other}0`, MAX_VIPS - 8);
    for (const map of [maps.vips, maps.answers]) {
      map.setMany(others.length, (i, keys, at) => new Uint8Array(keys.buffer).set(raw(others[i]!), at)); // another's
    }
    const said: string[] = [];
    const all = addresses(`${net}0`, 10);
    assert.not.ok(replace(table, all.slice(0, 5)) === false);
    assert.is(replace(table, all.slice(5)), false);
    assert.is(table.room.at(0n), 8);
    assert.ok(replace(table, [], all.slice(8)), "the plan leaves the youngest out");
    for (let i = 0; !table.verify() && i < 100; i++) table.mend((text) => said.push(text));
    assert.equal(said, []);
    assert.equal(
      all.map((address) => maps.vips.get(keyOf(IFINDEX, address)) !== undefined),
      all.map((_, i) => i < 8),
    );
    assert.is(table.room.at(29n * SECOND), 8);
    assert.is(table.room.at(31n * SECOND), 9, "some time later, one more is tried");
    assert.is(replace(table, all.slice(8, 9)), true, "as the other program's entries are gone");
    replace(table, [], all.slice(0, 9));
  });

  test(`${family}: elements that a write left behind half-way go with the next start`, () => {
    replace(new VipTable(bench.maps), addresses(`${net}0`, 10));
    for (let i = 0; i < 5; i++) {
      maps.answers.set(keyOf(IFINDEX, at(other, 30 + i)), answers.of({ answered: 1n }));
    }
    assert.is(size(names[1]), 15);
    assert.is(new VipTable(bench.maps).entriesOf(IFINDEX).size, 10);
    assert.is(size(names[1]), 10);
  });

  test(`${family}: an entry that another program changed is noticed, and written anew`, () => {
    const table = new VipTable(bench.maps);
    assert.ok(table.verify());
    for (const last of [0, 200]) {
      const key = keyOf(IFINDEX, at(net, last)); // one that is there, and one that is not
      maps.vips.set(key, vip.of({ ...key, state: vipState.OWNED, claim_ns: 1n }));
      assert.not.ok(table.verify());
      table.mend();
      assert.ok(table.verify());
      assert.is(maps.vips.get(key)?.state, last === 0 ? vipState.NOT_OWNED : undefined);
    }
  });

  test(`${family}: entries that another layout's map had as owned are owned, and those that it had not are known`, () => {
    const before = new VipTable(bench.maps);
    replace(before, [], [...before.entriesOf(IFINDEX).keys()]);
    const table = new VipTable(bench.maps);
    const [own, others, here] = addresses(`${net}1`, 3) as [Address, Address, Address];
    const ours = { state: vipState.OWNED, claimNs: 5n, untilNs: 0n, hash: 9n };
    table.entriesOf(IFINDEX).set(here, ours);
    table.write(IFINDEX, [[here, ours]], new Set([here]));
    const former = [1, 2, 3].map((last) => ({ key: raw(at(net, last)), isOwned: last === 1 }));
    table.takeOver(former, 77n, () => 7n);
    assert.equal(
      [...readEntries(bench.maps).get(IFINDEX)!].sort(([a], [b]) => compare(a, b)),
      [
        [own, { state: vipState.OWNED, claimNs: 77n, untilNs: 0n, hash: 7n }],
        [others, UNOWNED],
        [here, ours],
      ],
    );
  });

  test(`${family}: what another layout's programs released between the first reading and their replacement is not owned`, () => {
    const table = new VipTable(bench.maps);
    replace(table, [], [...table.entriesOf(IFINDEX).keys()]);
    const [kept, released] = addresses(`${net}1`, 2) as [Address, Address];
    const former = (isOwned: boolean) => [true, isOwned].map((isOwned, i) => ({ key: raw(at(net, i + 1)), isOwned }));
    table.takeOver(former(true), 77n, () => 7n);
    table.release(former(false));
    const states = (entries: ReadonlyMap<Address, Entry>) => [kept, released].map((vip) => entries.get(vip)?.state);
    assert.equal(states(table.entriesOf(IFINDEX)), [vipState.OWNED, vipState.NOT_OWNED]);
    assert.equal(states(readEntries(bench.maps).get(IFINDEX)!), [vipState.OWNED, vipState.NOT_OWNED]);
  });

  test(`${family}: a release of a VIP that is held here is found, by however many entries`, () => {
    const table = new VipTable(bench.maps);
    replace(table, [], [...table.entriesOf(IFINDEX).keys()]);
    const all = addresses(`${net}0`, 3000);
    const owned = { state: vipState.OWNED, claimNs: 5n, untilNs: 0n, hash: 9n };
    for (const address of all) table.entriesOf(IFINDEX).set(address, owned);
    table.write(
      IFINDEX,
      all.map((address) => [address, owned]),
      new Set(all),
    );
    // In four parts all entries have been looked at, some of them twice.
    const lost = () => [...new Map(Array.from({ length: 4 }, () => [...table.lost()]).flat())];
    assert.equal(lost(), []);
    const lostOne = plus(at(net, 0), 7 * 256 + 7);
    const key = keyOf(IFINDEX, lostOne);
    maps.answers.set(key, answers.of({ released_ns: 5n })); // recorded, though nothing was held: uncounted
    assert.ok(table.verify(), "`vips` holds what was written");
    assert.equal(lost(), [[IFINDEX, [lostOne]]]);
    table.drop(IFINDEX);
  });
}

test("an entry repeats of an IPv6 address what tells it from its neighbours, and from the same host of other subnets", () => {
  const all = ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::2", "2001:db8:1:0:1::1"].map(parseAddress);
  assert.is(new Set(all.map(ownIpOf)).size, all.length);
  const words = new Uint32Array(addressBytes(all[0]!).buffer);
  const xored = new Uint8Array(Uint32Array.of(words.reduce((sum, word) => sum ^ word)).buffer);
  assert.is(ownIpOf(all[0]!), new DataView(xored.buffer).getUint32(0));
  assert.is(ownIpOf(parseAddress("10.9.0.1")), 0x0a090001);
});

test("entries of both families stand side by side, and each goes alone", () => {
  const table = new VipTable(bench.maps);
  replace(table, [], [...table.entriesOf(IFINDEX).keys()]);
  const [four, six] = [parseAddress("10.9.0.1"), parseAddress("2001:db8:9::1")];
  replace(table, [four, six]);
  assert.equal([...readEntries(bench.maps).get(IFINDEX)!.keys()], [four, six]);
  assert.ok(table.verify());
  bench.maps.vips6.deleteMany([keyOf(IFINDEX, six)]);
  assert.not.ok(table.verify(), "an entry is missing");
  table.mend();
  assert.ok(table.verify());
  replace(table, [], [four]);
  assert.equal([...readEntries(bench.maps).get(IFINDEX)!.keys()], [six]);
  table.drop(IFINDEX);
  assert.equal([size("vips"), size("vips6"), size("answers6")], [0, 0, 0]);
});

test.run();
