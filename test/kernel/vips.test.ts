import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MAX_VIPS, vip, vip6Key, vipKey, vipState } from "../../src/core/abi.ts";
import { type Address, compare, isIPv4, parseAddress, plus } from "../../src/core/address.ts";
import { type Entry, UNOWNED } from "../../src/core/step.ts";
import { SECOND } from "../../src/core/time.ts";
import { checkOf } from "../../src/core/vip.ts";
import { addressOf, keyOf, mapOf, readEntries, VipTable } from "../../src/kernel/vips.ts";
import { Bench } from "../bpf/run.ts";

const test = suite("the table of VIPs");
const bench = new Bench("isat-t-vips-");
test.after(() => bench[Symbol.dispose]());

const IFINDEX = 1;
const addresses = (first: string, count: number): Address[] =>
  Array.from({ length: count }, (_, i) => plus(parseAddress(first), i));
const size = (map: "vips" | "vips6") => [...bench.maps[map].batches()].reduce((sum, { count }) => sum + count, 0);
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
    gone,
  );
}

const FAMILIES = [
  { family: "IPv4", name: "vips", net: "10.9.0.", other: "10.20.0." },
  { family: "IPv6", name: "vips6", net: "2001:db8:9::", other: "2001:db8:20::" },
] as const;

for (const { family, name, net, other } of FAMILIES) {
  const at = (prefix: string, last: number): Address => plus(parseAddress(`${prefix}0`), last);
  const map = mapOf(bench.maps, at(net, 0));

  test(`${family}: a full map can be replaced by as many other entries`, () => {
    const table = new VipTable(bench.maps, bench.writer);
    const [old, young] = [addresses(`${net}0`, MAX_VIPS), addresses(`${other}0`, MAX_VIPS)];
    replace(table, old);
    replace(table, young, old);
    assert.equal([table.entriesOf(IFINDEX).size, size(name)], [MAX_VIPS, MAX_VIPS]);
    assert.is(map.get(keyOf(IFINDEX, at(other, 1)))?.state, 0);
    assert.is(map.get(keyOf(IFINDEX, at(net, 1))), undefined);
    replace(table, [], young);
    assert.is(size(name), 0);
  });

  test(`F12, ${family}: a map that takes no more costs those that do not fit alone, and no fault is said`, () => {
    const table = new VipTable(bench.maps, bench.writer);
    const others = addresses(`${other}0`, MAX_VIPS - 8);
    const theirs = others.map((address) => [address, UNOWNED] as const);
    table.write(IFINDEX, theirs); // another program's
    const said: string[] = [];
    const all = addresses(`${net}0`, 10);
    assert.not.ok(replace(table, all.slice(0, 5)) === false);
    assert.is(replace(table, all.slice(5)), false);
    assert.is(table.room.at(0n), 8);
    assert.ok(replace(table, [], all.slice(8)), "the plan leaves the youngest out");
    for (let i = 0; !table.verify() && i < 100; i++) table.mend((text) => said.push(text));
    assert.equal(said, []);
    assert.equal(
      all.map((address) => map.get(keyOf(IFINDEX, address)) !== undefined),
      all.map((_, i) => i < 8),
    );
    assert.is(table.room.at(29n * SECOND), 8);
    assert.is(table.room.at(31n * SECOND), 9, "some time later, one more is tried");
    assert.is(replace(table, all.slice(8, 9)), true, "as the other program's entries are gone");
    replace(table, [], all.slice(0, 9));
  });

  test(`${family}: an entry that another program changed is noticed, and written anew`, () => {
    const table = new VipTable(bench.maps, bench.writer);
    replace(table, addresses(`${net}0`, 10));
    assert.ok(table.verify());
    for (const last of [0, 200]) {
      const key = keyOf(IFINDEX, at(net, last)); // one that is there, and one that is not
      map.set(key, vip.of({ check: checkOf(key), state: vipState.OWNED, claim_ns: 1n }));
      assert.not.ok(table.verify());
      table.mend();
      assert.ok(table.verify());
      assert.is(map.get(key)?.state, last === 0 ? vipState.NOT_OWNED : undefined);
    }
  });

  test(`${family}: entries that another layout's map had as owned are owned, and those that it had not are known`, () => {
    const before = new VipTable(bench.maps, bench.writer);
    replace(before, [], [...before.entriesOf(IFINDEX).keys()]);
    const table = new VipTable(bench.maps, bench.writer);
    const [own, others, here] = addresses(`${net}1`, 3) as [Address, Address, Address];
    const ours = { state: vipState.OWNED, claimNs: 5n, untilNs: 0n, hash: 9n };
    table.entriesOf(IFINDEX).set(here, ours);
    table.write(IFINDEX, [[here, ours]]);
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
    const table = new VipTable(bench.maps, bench.writer);
    replace(table, [], [...table.entriesOf(IFINDEX).keys()]);
    const [kept, released] = addresses(`${net}1`, 2) as [Address, Address];
    const former = (isOwned: boolean) => [true, isOwned].map((isOwned, i) => ({ key: raw(at(net, i + 1)), isOwned }));
    table.takeOver(former(true), 77n, () => 7n);
    table.release(former(false));
    const states = (entries: ReadonlyMap<Address, Entry>) => [kept, released].map((vip) => entries.get(vip)?.state);
    assert.equal(states(table.entriesOf(IFINDEX)), [vipState.OWNED, vipState.NOT_OWNED]);
    assert.equal(states(readEntries(bench.maps).get(IFINDEX)!), [vipState.OWNED, vipState.NOT_OWNED]);
  });

  test(`${family}: a control plane that writes late changes its own fields, and takes back no release`, () => {
    const table = new VipTable(bench.maps, bench.writer);
    const address = at(net, 1);
    const key = keyOf(IFINDEX, address);
    const write = (state: Entry["state"], claimNs: bigint, untilNs = 0n) =>
      table.write(IFINDEX, [[address, { state, claimNs, untilNs, hash: 9n }]]);
    write(vipState.OWNED, 5n);
    map.set(key, { ...map.get(key)!, released_ns: 6n, answered: 7n, last_answer_ns: 8n });
    const programs = { released_ns: 6n, answered: 7n, last_answer_ns: 8n };
    const fixed = { lock: 0, hash: 9n, check: checkOf(key), ...programs };
    const { OWNED, CLAIMING, LEAVING } = vipState;
    write(OWNED, 5n);
    assert.equal(map.get(key), { ...fixed, state: OWNED, claim_ns: 5n, state_ns: 0n });
    assert.equal(readEntries(bench.maps).get(IFINDEX)?.get(address), UNOWNED, "it was released");
    write(CLAIMING, 10n);
    assert.equal(map.get(key), { ...fixed, state: CLAIMING, claim_ns: 0n, state_ns: 10n }, "not owned by it yet");
    assert.is(readEntries(bench.maps).get(IFINDEX)?.get(address)?.claimNs, 10n);
    write(LEAVING, 10n, 12n);
    assert.equal(map.get(key), { ...fixed, state: LEAVING, claim_ns: 10n, state_ns: 12n });
    assert.is(readEntries(bench.maps).get(IFINDEX)?.get(address)?.untilNs, 12n);
    table.replace(IFINDEX, [], [address]);
    assert.is(map.get(key), undefined);
  });

  test(`${family}: a release of a VIP that is held here is found, by however many entries`, () => {
    const table = new VipTable(bench.maps, bench.writer);
    replace(table, [], [...table.entriesOf(IFINDEX).keys()]);
    const all = addresses(`${net}0`, 3000);
    const owned = { state: vipState.OWNED, claimNs: 5n, untilNs: 0n, hash: 9n };
    for (const address of all) table.entriesOf(IFINDEX).set(address, owned);
    table.write(
      IFINDEX,
      all.map((address) => [address, owned]),
    );
    // In four parts all entries have been looked at, some of them twice. Between them, steps come that change nothing.
    const look = () => {
      table.replace(IFINDEX, [], []);
      return table.verify();
    };
    const lost = () => [...new Map(Array.from({ length: 4 }, () => [...look()!]).flat())];
    assert.equal(lost(), []);
    const lostOne = plus(at(net, 0), 7 * 256 + 7);
    const key = keyOf(IFINDEX, lostOne);
    map.set(key, { ...map.get(key)!, released_ns: 5n }); // recorded, though nothing was held: uncounted
    assert.equal(lost(), [[IFINDEX, [lostOne]]]);
    map.deleteMany([key]);
    assert.ok(Array.from({ length: 5 }, look).includes(undefined), "an entry is missing");
    table.drop(IFINDEX);
  });
}

test("each entry has a check of its own, and the program computes it as the control plane does", () => {
  const all = [
    ...["10.9.0.1", "10.9.0.2", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::2", "2001:db8:1:0:1::1"],
    ...["2001:db8:0:1::2", "2001:db8:0:2::1", "2001:db8::1:0:2", "2001:db8::2:0:1"],
  ].map(parseAddress);
  const table = new VipTable(bench.maps, bench.writer);
  const on = [IFINDEX, 2, 3];
  for (const ifindex of on) {
    table.write(
      ifindex,
      all.map((address) => [address, UNOWNED]),
    );
  }
  const keys = on.flatMap((ifindex) => all.map((address) => keyOf(ifindex, address)));
  const checks = keys.map((key) => mapOf(bench.maps, addressOf(key)).get(key)!.check);
  assert.equal(checks, keys.map(checkOf));
  assert.is(new Set(checks).size, keys.length);
  for (const ifindex of on) table.replace(ifindex, [], all);
});

test("entries of both families stand side by side, and each goes alone", () => {
  const table = new VipTable(bench.maps, bench.writer);
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
  assert.equal([size("vips"), size("vips6")], [0, 0]);
});

test.run();
