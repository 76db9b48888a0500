import { suite } from "uvu";
import * as assert from "uvu/assert";
import { answers, MAX_VIPS, vip, vipKey, vipState } from "../../src/core/abi.ts";
import { type Address, compare, parseAddress, plus } from "../../src/core/address.ts";
import { type Entry, UNOWNED } from "../../src/core/step.ts";
import { readEntries, VipTable } from "../../src/kernel/vips.ts";
import { Bench } from "../bpf/run.ts";

const test = suite("the table of VIPs");
const bench = new Bench("isat-t-vips-");
test.after(() => bench[Symbol.dispose]());

const IFINDEX = 1;
const addresses = (first: string, count: number): Address[] =>
  Array.from({ length: count }, (_, i) => plus(parseAddress(first), i));
const size = (map: "vips" | "answers") => [...bench.maps[map].batches()].reduce((sum, { count }) => sum + count, 0);

/** Gives the table other entries, as a segment does: first in its own map, then in the kernel's. */
function replace(table: VipTable, added: readonly Address[], gone: readonly Address[] = []): void {
  const entries = table.entriesOf(IFINDEX);
  for (const address of gone) entries.delete(address);
  for (const address of added) entries.set(address, UNOWNED);
  table.replace(
    IFINDEX,
    added.map((address) => [address, UNOWNED]),
    new Set(added),
    gone,
  );
}

test("a full map can be replaced by as many other entries", () => {
  const table = new VipTable(bench.maps);
  const [old, young] = [addresses("10.9.0.0", MAX_VIPS), addresses("10.20.0.0", MAX_VIPS)];
  replace(table, old);
  replace(table, young, old);
  assert.equal([table.entriesOf(IFINDEX).size, size("vips"), size("answers")], [MAX_VIPS, MAX_VIPS, MAX_VIPS]);
  assert.is(bench.maps.vips.get({ ip: Uint8Array.of(10, 20, 0, 1), ifindex: IFINDEX })?.state, 0);
  assert.is(bench.maps.vips.get({ ip: Uint8Array.of(10, 9, 0, 1), ifindex: IFINDEX }), undefined);
  replace(table, [], young);
  assert.equal([size("vips"), size("answers")], [0, 0]);
});

test("elements that a write left behind half-way go with the next start", () => {
  replace(new VipTable(bench.maps), addresses("10.9.0.0", 10));
  for (let i = 0; i < 5; i++) {
    bench.maps.answers.set({ ip: Uint8Array.of(10, 30, 0, i), ifindex: IFINDEX }, answers.of({ answered: 1n }));
  }
  assert.is(size("answers"), 15);
  assert.is(new VipTable(bench.maps).entriesOf(IFINDEX).size, 10);
  assert.is(size("answers"), 10);
});

test("an entry that another program changed is noticed, and written anew", () => {
  const table = new VipTable(bench.maps);
  assert.ok(table.verify());
  for (const last of [0, 200]) {
    const key = { ip: Uint8Array.of(10, 9, 0, last), ifindex: IFINDEX }; // one that is there, and one that is not
    bench.maps.vips.set(key, vip.of({ ...key, state: vipState.OWNED, claim_ns: 1n }));
    assert.not.ok(table.verify());
    table.mend();
    assert.ok(table.verify());
    assert.is(bench.maps.vips.get(key)?.state, last === 0 ? vipState.NOT_OWNED : undefined);
  }
});

test("entries that another layout's map had as owned are owned, and those that it had not are known", () => {
  const before = new VipTable(bench.maps);
  replace(before, [], [...before.entriesOf(IFINDEX).keys()]);
  const table = new VipTable(bench.maps);
  const [own, others, here] = addresses("10.9.0.1", 3) as [Address, Address, Address];
  const ours = { state: vipState.OWNED, claimNs: 5n, untilNs: 0n, hash: 9n };
  table.entriesOf(IFINDEX).set(here, ours);
  table.write(IFINDEX, [[here, ours]], new Set([here]));
  const raw = (last: number) => vipKey.encode({ ip: Uint8Array.of(10, 9, 0, last), ifindex: IFINDEX });
  const former = [1, 2, 3].map((last) => ({ key: raw(last), isOwned: last === 1 }));
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

test("what another layout's programs released between the first reading and their replacement is not owned", () => {
  const table = new VipTable(bench.maps);
  replace(table, [], [...table.entriesOf(IFINDEX).keys()]);
  const [kept, released] = addresses("10.9.0.1", 2) as [Address, Address];
  const raw = (last: number) => vipKey.encode({ ip: Uint8Array.of(10, 9, 0, last), ifindex: IFINDEX });
  const former = (isOwned: boolean) => [true, isOwned].map((isOwned, i) => ({ key: raw(i + 1), isOwned }));
  table.takeOver(former(true), 77n, () => 7n);
  table.release(former(false));
  const states = (entries: ReadonlyMap<Address, Entry>) => [kept, released].map((vip) => entries.get(vip)?.state);
  assert.equal(states(table.entriesOf(IFINDEX)), [vipState.OWNED, vipState.NOT_OWNED]);
  assert.equal(states(readEntries(bench.maps).get(IFINDEX)!), [vipState.OWNED, vipState.NOT_OWNED]);
});

test("a release of a VIP that is held here is found, by however many entries", () => {
  const table = new VipTable(bench.maps);
  replace(table, [], [...table.entriesOf(IFINDEX).keys()]);
  const all = addresses("10.9.0.0", 3000);
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
  const key = { ip: Uint8Array.of(10, 9, 7, 7), ifindex: IFINDEX };
  bench.maps.answers.set(key, answers.of({ released_ns: 5n })); // recorded, though nothing was held: uncounted
  assert.ok(table.verify(), "`vips` holds what was written");
  assert.equal(lost(), [[IFINDEX, [parseAddress("10.9.7.7")]]]);
});

test.run();
