import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MAX_VIPS, vipKey, vipState } from "../../src/core/abi.ts";
import { parseAddress } from "../../src/core/address.ts";
import { UNOWNED } from "../../src/core/difference.ts";
import { type EntryKey, entryKey } from "../../src/core/ownership.ts";
import { readEntries, VipTable } from "../../src/kernel/vips.ts";
import { Bench } from "../bpf/run.ts";

const test = suite("the table of VIPs");
const bench = new Bench("isat-t-vips-");
test.after(() => bench[Symbol.dispose]());

const keys = (first: string, count: number): EntryKey[] =>
  Array.from({ length: count }, (_, i) => entryKey(1, parseAddress(first) + i));
const blank = (all: readonly EntryKey[]) => all.map((key) => [key, UNOWNED] as const);
const size = (map: "vips" | "answers") => [...bench.maps[map].batches()].reduce((sum, { count }) => sum + count, 0);

test("all that it may hold is replaced by as many others", () => {
  const table = new VipTable(bench.maps);
  const [old, young] = [keys("10.9.0.0", MAX_VIPS), keys("10.20.0.0", MAX_VIPS)];
  table.replace(blank(old), []);
  table.replace(blank(young), old);
  assert.equal([table.entries.size, size("vips"), size("answers")], [MAX_VIPS, MAX_VIPS, MAX_VIPS]);
  assert.is(bench.maps.vips.get({ ip: Uint8Array.of(10, 20, 0, 1), ifindex: 1 })?.state, 0);
  assert.is(bench.maps.vips.get({ ip: Uint8Array.of(10, 9, 0, 1), ifindex: 1 }), undefined);
  table.remove(young);
  assert.equal([size("vips"), size("answers")], [0, 0]);
});

test("what was left behind in a write that ended half-way goes with the next start", () => {
  new VipTable(bench.maps).replace(blank(keys("10.9.0.0", 10)), []);
  for (let i = 0; i < 5; i++) {
    bench.maps.answers.set(
      { ip: Uint8Array.of(10, 30, 0, i), ifindex: 1 },
      { answered: 1n, last_answer_ns: 0n, released_ns: 0n },
    );
  }
  assert.is(size("answers"), 15);
  assert.is(new VipTable(bench.maps).entries.size, 10);
  assert.is(size("answers"), 10);
});

test("of another layout's entries, what was owned there is owned, and what was not is known all the same", () => {
  const table = new VipTable(bench.maps);
  table.remove([...table.entries.keys()]);
  const [own, others, here] = keys("10.9.0.1", 3) as [EntryKey, EntryKey, EntryKey];
  const ours = { state: vipState.OWNED, claimNs: 5n, untilNs: 0n, hash: 9n };
  table.write([[here, ours]]);
  const raw = (last: number) => vipKey.encode({ ip: Uint8Array.of(10, 9, 0, last), ifindex: 1 });
  const former = [1, 2, 3].map((last) => ({ key: raw(last), isOwned: last === 1 }));
  table.takeOver(former, 77n, () => 7n);
  assert.equal(
    [...readEntries(bench.maps)].sort(([a], [b]) => a - b),
    [
      [own, { state: vipState.OWNED, claimNs: 77n, untilNs: 0n, hash: 7n }],
      [others, UNOWNED],
      [here, ours],
    ],
  );
});

test.run();
