/** The map `interfaces`, and the program that writes it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type InterfaceEntry, interfaceEntry, MAX_INTERFACES, verdicts } from "../../src/core/abi.ts";
import { Bench } from "../bpf/run.ts";

const test = suite("the interfaces in the kernel");
const bench = new Bench("isat-t-kern-places-");
test.after(() => bench[Symbol.dispose]());
const { writer, maps } = bench;
const { interfaces } = maps;

/** The fields that the programs write. */
const THEIRS = ["heard_ns", "own_ns", "strangers_ns", "foreign_ns"] as const;
type Theirs = Pick<InterfaceEntry, (typeof THEIRS)[number]>;
const theirs = (value: bigint) => Object.fromEntries(THEIRS.map((name) => [name, value])) as Theirs;

/** An entry in which every byte of every field is `byte`, but for texts, which end. */
function full(ifindex: number, byte: number): InterfaceEntry {
  const entry = interfaceEntry.decode(new Uint8Array(interfaceEntry.size).fill(byte));
  return { ...entry, name: `eth${byte}`, mac_text: `mac ${byte}`, node_name: `n${byte}`, ifindex };
}

test.before.each(() => {
  for (const [ifindex] of [...interfaces.entries()]) writer.removeInterface(ifindex);
});

test("all fields are written but for those of the programs, which stay as they were", () => {
  writer.setInterface(full(7, 1));
  assert.equal(interfaces.get(7), { ...full(7, 1), ...theirs(0n) });
  interfaces.set(7, { ...interfaces.get(7)!, ...theirs(5n) });
  writer.setInterface(full(7, 2));
  assert.equal(interfaces.get(7), { ...full(7, 2), ...theirs(5n) });
});

test("an interface that is removed is there no more, and begins anew when it comes back", () => {
  writer.setInterface(full(7, 1));
  interfaces.set(7, { ...interfaces.get(7)!, ...theirs(5n) });
  writer.removeInterface(7);
  assert.equal([...interfaces.entries()], []);
  assert.equal(interfaces.places.get(7), interfaceEntry.of({}));
  writer.setInterface(full(7, 1));
  assert.equal(interfaces.get(7), { ...full(7, 1), ...theirs(0n) });
});

test("as many interfaces as there are places stand beside each other, whatever their numbers, and one more is refused", () => {
  const numbers = Array.from({ length: MAX_INTERFACES }, (_, i) => 3 + i * MAX_INTERFACES);
  for (const ifindex of numbers) writer.setInterface(full(ifindex, 1));
  for (const ifindex of numbers) assert.is(interfaces.get(ifindex)?.ifindex, ifindex);
  assert.throws(() => writer.setInterface(full(1, 1)), /Cannot announce on interface 1 as there are 64 already/);
  writer.removeInterface(numbers[9]!);
  assert.is(interfaces.get(numbers[9]!), undefined);
  assert.is(interfaces.get(numbers[63]!)?.ifindex, numbers[63]);
  writer.setInterface(full(1, 1));
  assert.is(interfaces.get(1)?.ifindex, 1);
});

test("an interface's counters are those of all CPUs together, and begin at zero", () => {
  writer.setInterface(full(7, 1));
  const place = interfaces.placeOf(7)!;
  const cpus = maps.verdicts.perCpu(place).length;
  const each = verdicts.encode(verdicts.of({ answered: 3n, released: 1n, clock_ns: 9n }));
  bench.setVerdicts(
    place,
    Array.from({ length: cpus }, () => each),
  );
  assert.equal(maps.verdicts.get(7), verdicts.of({ answered: 3n * BigInt(cpus), released: BigInt(cpus) }));
  writer.setInterface(full(7, 2));
  assert.is(maps.verdicts.get(7)?.released, BigInt(cpus), "a change of the entry leaves them");
  writer.removeInterface(7);
  writer.setInterface(full(7 + MAX_INTERFACES, 1));
  assert.equal(maps.verdicts.get(7 + MAX_INTERFACES), verdicts.of({}));
});

test.run();
