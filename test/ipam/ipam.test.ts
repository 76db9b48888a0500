/** The rules of docs/addresses.md, one by one. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../src/core/address.ts";
import { Counter, pool } from "./desk.ts";

const test = suite("addresses");
const A = pool("a", ["10.9.0.1-10.9.0.4"]);

test("what stands at the start is taken before anything is given, the oldest first", () => {
  const its = new Counter([A]);
  its.put({ key: "n/new", created: 1 }, { key: "n/old", created: 5, standing: ["10.9.0.1"] });
  its.put({ key: "n/twice", created: 6, standing: ["10.9.0.1"] });
  assert.equal([its.of("n/new"), its.of("n/old"), its.of("n/twice")], ["10.9.0.2", "10.9.0.1", "10.9.0.3"]);
});

test("Services that share stand at the start in any order", () => {
  const its = new Counter([A]);
  its.put({ key: "n/b", created: 9, standing: ["10.9.0.3"], share: "k", ports: [1] });
  its.put({ key: "n/a", created: 2, standing: ["10.9.0.3"], share: "k", ports: [2] });
  assert.equal([its.of("n/a"), its.of("n/b")], ["10.9.0.3", "10.9.0.3"]);
});

test("an edit of pools takes nothing away, and is told", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a" });
  assert.is(its.of("n/a"), "10.9.0.1");
  its.pools([pool("a", ["10.9.0.3-10.9.0.4"])]);
  assert.equal([its.of("n/a"), its.reason("n/a")], ["10.9.0.1", "Assigned"]);
  assert.is(its.ipam.verdict("n/a")!.kept, "10.9.0.1 is in no pool");
  its.pools([]);
  assert.is(its.of("n/a"), "10.9.0.1");
});

test("stable: the same names have the same addresses, in whatever order they come", () => {
  const big = pool("a", ["10.9.0.0/16"]);
  const names = Array.from({ length: 50 }, (_, index) => `n/s${index}`);
  const given = (order: string[]) => {
    const its = new Counter([big], { choice: "stable" });
    for (const key of order) its.put({ key });
    return names.map((key) => its.of(key));
  };
  const [one, other] = [given(names), given([...names].reverse())];
  const same = one.filter((ip, index) => ip === other[index]).length;
  assert.ok(same >= 48, `${same} of 50`); // two that meet are in the order of their creation
  assert.is(new Set(one).size, 50);
});

test("an address rests after its release, unless the same Service comes back", () => {
  const its = new Counter([pool("a", ["10.9.0.1"])], { rest: 1000 });
  its.put({ key: "n/a" });
  assert.is(its.of("n/a"), "10.9.0.1");
  its.remove("n/a");
  its.put({ key: "n/b" });
  assert.is(its.of("n/b"), "PoolExhausted");
  its.put({ key: "n/a", uid: "again" });
  assert.equal([its.of("n/a"), its.of("n/b")], ["10.9.0.1", "PoolExhausted"]);
  its.remove("n/a");
  assert.is(its.ipam.wakeAt, 1000);
  its.now = 1000;
  assert.is(its.of("n/b"), "10.9.0.1");
});

test("a resting address is given to whom asks for it", () => {
  const its = new Counter([A], { rest: 1000 });
  its.put({ key: "n/a" });
  its.of("n/a");
  its.remove("n/a");
  its.put({ key: "n/b", ip: "10.9.0.1" });
  assert.is(its.of("n/b"), "10.9.0.1");
});

test("who waits gets an address in the order of creation, and a pinned one holds up nobody", () => {
  const its = new Counter([pool("a", ["10.9.0.1"]), pool("b", ["10.9.1.1"])]);
  its.put({ key: "n/1" }, { key: "n/2" }, { key: "n/b", pool: "b" }, { key: "n/3" }, { key: "n/4" });
  assert.equal(
    ["n/b", "n/3", "n/4"].map((key) => its.of(key)),
    ["PoolExhausted", "PoolExhausted", "PoolExhausted"],
  );
  assert.equal(its.ipam.waiting, ["n/b", "n/3", "n/4"]);
  its.remove("n/1");
  assert.equal(
    ["n/b", "n/3", "n/4"].map((key) => its.of(key)),
    ["PoolExhausted", "10.9.0.1", "PoolExhausted"],
  );
});

test("a request that cannot be met changes nothing, and is met once it can", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a" }, { key: "n/b" });
  its.of("n/b");
  its.put({ key: "n/b", ip: "10.9.0.1" });
  assert.equal([its.of("n/b"), its.reason("n/b")], ["10.9.0.2", "InUse"]);
  assert.is(its.ipam.verdict("n/b")!.message, "it keeps 10.9.0.2, as n/a has 10.9.0.1");
  its.remove("n/a");
  assert.equal([its.of("n/b"), its.reason("n/b")], ["10.9.0.1", "Assigned"]);
});

test("requests that contradict each other change nothing", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a", fault: "it asks for 10.9.0.1 and for 10.9.0.2" });
  assert.is(its.of("n/a"), "AmbiguousRequest");
});

test("who edits the sharing moves, and whoever else is on the address stays", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a", share: "k", ports: [1] }, { key: "n/b", share: "k", ports: [2] });
  assert.equal([its.of("n/a"), its.of("n/b")], ["10.9.0.1", "10.9.0.1"]);
  its.put({ key: "n/a", share: "k", ports: [2] });
  assert.equal([its.of("n/a"), its.of("n/b")], ["10.9.0.2", "10.9.0.1"]);
});

test("an edit of a Service that shares lets another one in", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a", share: "k", ports: [1] }, { key: "n/b", share: "k", ports: [1], ip: "10.9.0.1" });
  assert.is(its.of("n/b"), "SharingRefused");
  its.put({ key: "n/a", share: "k", ports: [2] });
  assert.is(its.of("n/b"), "10.9.0.1");
});

test("namespaces do not share unless the pool says so, and are not told of each other", () => {
  const its = new Counter([pool("a", ["10.9.0.1-10.9.0.2"], { acrossNamespaces: false })]);
  its.put({ key: "n/a", share: "k", ports: [1] }, { key: "m/b", share: "k", ports: [2], ip: "10.9.0.1" });
  assert.is(its.of("m/b"), "SharingRefused");
  assert.not.match(its.ipam.verdict("m/b")!.message, /n\/a/);
});

test("what no Service may have is not given, and a request for it is refused with the reason", () => {
  const its = new Counter([A]);
  its.ipam.setNever(
    new Map([[parseAddress("10.9.0.1"), { reason: "AnswersOnTheWire", message: "02:00:00:00:00:01 has it" }]]),
  );
  its.put({ key: "n/a" }, { key: "n/b", ip: "10.9.0.1" });
  assert.equal([its.of("n/a"), its.of("n/b")], ["10.9.0.2", "AnswersOnTheWire"]);
});

test("a pinned pool that changes moves the Service, one that is edited does not", () => {
  const b = pool("b", ["10.9.1.1"]);
  const its = new Counter([A, b]);
  its.put({ key: "n/a", pool: "a" });
  assert.is(its.of("n/a"), "10.9.0.1");
  its.put({ key: "n/a", pool: "b" });
  assert.is(its.of("n/a"), "10.9.1.1");
  its.pools([A, pool("b", ["10.9.1.2"])]);
  assert.is(its.of("n/a"), "10.9.1.1");
});

const V6 = pool("six", ["2001:db8::10-2001:db8::11"]);
const BOTH = { families: [4, 6] } as const;

test("both families come from two pools, in the order of the Service's families", () => {
  const its = new Counter([A, V6]);
  its.put({ key: "n/a", ...BOTH }, { key: "n/b", families: [6, 4] });
  assert.is(its.of("n/a"), "10.9.0.1,2001:db8::10");
  assert.is(its.of("n/b"), "2001:db8::11,10.9.0.2");
});

test("who prefers both gets the second later, and keeps the first", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a", ...BOTH });
  assert.equal([its.of("n/a"), its.reason("n/a")], ["10.9.0.1", "Assigned"]);
  its.pools([A, V6]);
  assert.is(its.of("n/a"), "10.9.0.1,2001:db8::10");
});

test("who requires both gets both or none, and keeps one that stands", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a", ...BOTH, isStrict: true }, { key: "n/b", ...BOTH, isStrict: true, standing: ["10.9.0.3"] });
  assert.equal([its.of("n/a"), its.of("n/b"), its.reason("n/b")], ["FamilyMissing", "10.9.0.3", "FamilyMissing"]);
  its.pools([A, V6]);
  assert.equal([its.of("n/a"), its.of("n/b")], ["10.9.0.1,2001:db8::10", "10.9.0.3,2001:db8::11"]);
});

test("a family that a Service has no more is given up", () => {
  const its = new Counter([A, V6]);
  its.put({ key: "n/a", ...BOTH });
  its.of("n/a");
  its.put({ key: "n/a", families: [6] });
  assert.is(its.of("n/a"), "2001:db8::10");
});

test("a change says what changed, and nothing else", () => {
  const its = new Counter([A]);
  its.put({ key: "n/a" }, { key: "n/b" });
  assert.equal([...its.decide().keys()], ["n/a", "n/b"]);
  its.put({ key: "n/a" });
  assert.is(its.decide().size, 0);
});

for (const choice of ["stable", "lowest"] as const) {
  test(`10,000 Services at once, and 1,000 that wait, are decided in a moment (${choice})`, () => {
    const its = new Counter([pool("a", ["10.9.0.0-10.9.39.15"])], { choice });
    for (let index = 0; index < 11_000; index++) its.put({ key: `n/s${index}` });
    const began = process.cpuUsage();
    assert.is(its.decide().size, 11_000);
    const { user, system } = process.cpuUsage(began);
    console.log(`MEASURED 11,000 Services, 10,000 addresses, ${choice}: ${(user + system) / 1000} ms`);
    assert.is(its.ipam.waiting.length, 1_000);
    its.remove("n/s5");
    assert.equal([...its.decide().keys()], ["n/s10000"]);
  });
}

test.run();
