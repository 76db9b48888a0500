/**
 * What MetalLB's controller decides, told in rows of our own: its allocator, its controller, and the moves that its tests
 * of a whole cluster make. The rows after `differs` have another answer than MetalLB's; docs/addresses.md says why.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Pool } from "../../src/core/pools.ts";
import { type Asked, Counter, pool } from "./desk.ts";

const test = suite("decisions of MetalLB");

/** A step: a Service that is put, a name with `-` that is removed, or new pools. */
type Step = Asked | `-${string}` | readonly Pool[];
type Row = [name: string, pools: readonly Pool[], steps: readonly Step[], expected: Record<string, string>];

const ONE = [pool("one", ["10.0.0.0/29"])];
const TWO = [pool("one", ["10.0.0.4/31"]), pool("two", ["10.0.1.16/30"], { autoAssign: false })];
const BUGGY = [
  pool("buggy", ["10.2.0.0/30"], { avoidBuggy: true }),
  pool("end", ["10.2.1.254/31"], { avoidBuggy: true }),
];
const FOR_SOME = [
  pool("all", ["10.3.0.0/30"]),
  pool("later", ["10.3.1.0/32"], { isSelective: true, priority: 20 }),
  pool("first", ["10.3.2.0/32"], { isSelective: true, priority: 10 }),
  pool("last", ["10.3.3.0/32"], { isSelective: true }),
];
const s = (key: string, more: Omit<Asked, "key"> = {}): Asked => ({ key: `t/${key}`, ...more });
const k = (key: string, ip: string | undefined, share: string, port: number, backend = ""): Asked =>
  s(key, { ...(ip && { ip }), share, ports: [port], backend });

const ALLOCATOR: readonly Row[] = [
  ["an address that is asked for", TWO, [s("a", { ip: "10.0.0.4" })], { a: "10.0.0.4" }],
  ["the same again changes nothing", TWO, [s("a", { ip: "10.0.0.4" }), s("a", { ip: "10.0.0.4" })], { a: "10.0.0.4" }],
  ["one that another has", TWO, [s("a", { ip: "10.0.0.4" }), s("b", { ip: "10.0.0.4" })], { b: "InUse" }],
  ["another one instead", TWO, [s("a", { ip: "10.0.0.4" }), s("a", { ip: "10.0.0.5" })], { a: "10.0.0.5" }],
  [
    "what was left behind",
    TWO,
    [s("a", { ip: "10.0.0.4" }), s("a", { ip: "10.0.0.5" }), s("b", { ip: "10.0.0.4" })],
    { b: "10.0.0.4" },
  ],
  ["out of a pool that gives none by itself", TWO, [s("a", { ip: "10.0.1.17" })], { a: "10.0.1.17" }],
  ["outside of all pools", TWO, [s("a", { ip: "10.0.9.9" })], { a: "NoPool" }],
  ["a sharing key where nobody is", TWO, [k("a", "10.0.0.4", "x", 80)], { a: "10.0.0.4" }],
  [
    "two with one key and other ports",
    TWO,
    [k("a", "10.0.0.4", "x", 80), k("b", "10.0.0.4", "x", 81)],
    { b: "10.0.0.4" },
  ],
  [
    "two with one key and the same port",
    TWO,
    [k("a", "10.0.0.4", "x", 80), k("b", "10.0.0.4", "x", 80)],
    { b: "SharingRefused" },
  ],
  ["two keys", TWO, [k("a", "10.0.0.4", "x", 80), k("b", "10.0.0.4", "y", 81)], { b: "SharingRefused" }],
  [
    "one key, other backends",
    TWO,
    [k("a", "10.0.0.4", "x", 80, "p"), k("b", "10.0.0.4", "x", 81, "q")],
    { b: "SharingRefused" },
  ],
  ["a key beside one without", TWO, [s("a", { ip: "10.0.0.4" }), k("b", "10.0.0.4", "x", 81)], { b: "InUse" }],
  [
    "none beside one with a key",
    TWO,
    [k("a", "10.0.0.4", "x", 80), s("b", { ip: "10.0.0.4", ports: [81] })],
    { b: "InUse" },
  ],
  ["the only one changes its key", TWO, [k("a", "10.0.0.4", "x", 80), k("a", "10.0.0.4", "y", 80)], { a: "10.0.0.4" }],
  [
    "the only one changes its port",
    TWO,
    [k("a", "10.0.0.4", "x", 80), k("a", "10.0.0.4", "x", 90), k("b", "10.0.0.4", "x", 80)],
    { b: "10.0.0.4" },
  ],
  [
    "the only one changes its backend",
    TWO,
    [k("a", "10.0.0.4", "x", 80, "p"), k("a", "10.0.0.4", "x", 80, "q")],
    { a: "10.0.0.4" },
  ],
  [
    "three on one address",
    TWO,
    [k("a", "10.0.0.4", "x", 1), k("b", "10.0.0.4", "x", 2), k("c", "10.0.0.4", "x", 3)],
    { c: "10.0.0.4" },
  ],
  [
    "a port that has become free",
    TWO,
    [k("a", "10.0.0.4", "x", 1), k("b", "10.0.0.4", "x", 2), "-a", k("c", "10.0.0.4", "x", 1)],
    { c: "10.0.0.4" },
  ],
  [
    "the last with the key has left",
    TWO,
    [k("a", "10.0.0.4", "x", 1), "-a", s("b", { ip: "10.0.0.4" })],
    { b: "10.0.0.4" },
  ],
  [
    "the second leaves, and a third with another key may not come",
    TWO,
    [k("a", "10.0.0.4", "x", 1), k("b", "10.0.0.4", "x", 2), "-b", k("c", "10.0.0.4", "y", 2)],
    { c: "SharingRefused" },
  ],
  ["the lowest that is free", ONE, [s("a"), s("b"), s("c")], { a: "10.0.0.0", b: "10.0.0.1", c: "10.0.0.2" }],
  ["a hole is filled", ONE, [s("a"), s("b"), s("c"), "-b", s("d")], { d: "10.0.0.1" }],
  ["no more than there are", TWO, [s("a"), s("b"), s("c")], { a: "10.0.0.4", b: "10.0.0.5", c: "PoolExhausted" }],
  ["whoever waits gets what is freed", TWO, [s("a"), s("b"), s("c"), "-a"], { c: "10.0.0.4" }],
  ["from the pool that is named", TWO, [s("a", { pool: "two" })], { a: "10.0.1.16" }],
  [
    "from the pool that is named, to its end",
    TWO,
    [..."abcde"].map((key) => s(key, { pool: "two" })),
    { d: "10.0.1.19", e: "PoolExhausted" },
  ],
  ["a pool that is named, and is not there", TWO, [s("a", { pool: "three" })], { a: "NoPool" }],
  ["an address and a pool that has it", TWO, [s("a", { pool: "one", ip: "10.0.0.5" })], { a: "10.0.0.5" }],
  ["an address and a pool that has it not", TWO, [s("a", { pool: "two", ip: "10.0.0.5" })], { a: "AmbiguousRequest" }],
  [
    "a pool without autoAssign is left out",
    [pool("two", ["10.0.1.0/30"], { autoAssign: false })],
    [s("a")],
    { a: "NotSelected" },
  ],
  [
    "a shared address comes before a fresh one",
    ONE,
    [k("a", undefined, "x", 1), k("b", undefined, "x", 2)],
    { b: "10.0.0.0" },
  ],
  [
    "a fresh one where the shared one's port is taken",
    ONE,
    [k("a", undefined, "x", 1), k("b", undefined, "x", 1)],
    { b: "10.0.0.1" },
  ],
  [
    "a shared pool that is full takes more by the key",
    TWO,
    [k("a", undefined, "x", 1), s("b"), k("c", undefined, "x", 2), s("d")],
    { c: "10.0.0.4", d: "PoolExhausted" },
  ],
  [".0 is left out", BUGGY, [s("a", { pool: "buggy" })], { a: "10.2.0.1" }],
  [".0 that is asked for", BUGGY, [s("a", { ip: "10.2.0.0" })], { a: "NoPool" }],
  [".255 that is asked for", BUGGY, [s("a", { ip: "10.2.1.255" })], { a: "NoPool" }],
  [
    ".254 and no .255",
    BUGGY,
    [s("a", { pool: "end" }), s("b", { pool: "end" })],
    { a: "10.2.1.254", b: "PoolExhausted" },
  ],
  [
    "all of a small pool but .0",
    BUGGY,
    [..."abcd"].map((key) => s(key, { pool: "buggy" })),
    { c: "10.2.0.3", d: "PoolExhausted" },
  ],
  [
    "pools for some come first, by priority",
    FOR_SOME,
    [s("a"), s("b"), s("c"), s("d")],
    { a: "10.3.2.0", b: "10.3.1.0", c: "10.3.3.0", d: "10.3.0.0" },
  ],
  ["a pool that does not select it", FOR_SOME, [s("a", { pools: ["all"] })], { a: "10.3.0.0" }],
  ["only pools that do not select it", FOR_SOME, [s("a", { pools: [] })], { a: "NotSelected" }],
  [
    "an address of a pool that does not select it",
    FOR_SOME,
    [s("a", { pools: ["all"], ip: "10.3.2.0" })],
    { a: "NotSelected" },
  ],
  [
    "a pool that is named, and does not select it",
    FOR_SOME,
    [s("a", { pools: ["all"], pool: "first" })],
    { a: "NotSelected" },
  ],
  [
    "one pool of two is full",
    FOR_SOME,
    [s("a", { pools: ["first", "all"] }), s("b", { pools: ["first", "all"] })],
    { a: "10.3.2.0", b: "10.3.0.0" },
  ],
  ["a pool grows", TWO, [s("a"), s("b"), s("c"), [pool("one", ["10.0.0.4/30"])]], { a: "10.0.0.4", c: "10.0.0.6" }],
  ["a pool gets another name", TWO, [s("a"), [pool("other", ["10.0.0.4/31"])]], { a: "10.0.0.4" }],
  [
    "pools are joined",
    TWO,
    [s("a"), s("b", { pool: "two" }), [pool("all", ["10.0.0.0/23"])]],
    { a: "10.0.0.4", b: "10.0.1.16" },
  ],
  [
    "a pool is split",
    ONE,
    [s("a"), s("b"), [pool("x", ["10.0.0.0/32"]), pool("y", ["10.0.0.1/32"])]],
    { a: "10.0.0.0", b: "10.0.0.1" },
  ],
  ["a pool loses addresses that nobody has", ONE, [s("a"), [pool("one", ["10.0.0.0/31"])]], { a: "10.0.0.0" }],
];

const CONTROLLER: readonly Row[] = [
  ["no pools", [], [s("a")], { a: "NoPool" }],
  ["pools that come later", [], [s("a"), ONE], { a: "10.0.0.0" }],
  ["an address that stands", ONE, [s("a", { standing: ["10.0.0.3"] })], { a: "10.0.0.3" }],
  [
    "an address that stands and is asked for",
    ONE,
    [s("a", { standing: ["10.0.0.3"], ip: "10.0.0.3" })],
    { a: "10.0.0.3" },
  ],
  [
    "another one is asked for than stands",
    ONE,
    [s("a", { standing: ["10.0.0.3"], ip: "10.0.0.5" })],
    { a: "10.0.0.5" },
  ],
  ["a pool is asked for that has it", TWO, [s("a", { standing: ["10.0.0.5"], pool: "one" })], { a: "10.0.0.5" }],
  ["another pool is asked for", TWO, [s("a", { pool: "one" }), s("a", { pool: "two" })], { a: "10.0.1.16" }],
  ["a pool is asked for later", TWO, [s("a"), s("a", { pool: "two" })], { a: "10.0.1.16" }],
  ["an address is asked for later", ONE, [s("a"), s("a", { ip: "10.0.0.6" })], { a: "10.0.0.6" }],
  ["nothing is asked for any more", ONE, [s("a", { ip: "10.0.0.6" }), s("a")], { a: "10.0.0.6" }],
  ["who is removed gives way", TWO, [s("a", { ip: "10.0.0.4" }), s("b", { ip: "10.0.0.4" }), "-a"], { b: "10.0.0.4" }],
  ["requests that cannot be read", ONE, [s("a", { fault: "odd" })], { a: "AmbiguousRequest" }],
  [
    "two that stand on one address and share",
    ONE,
    [k("a", undefined, "x", 1), k("b", undefined, "x", 2)].map((its) => ({ ...its, standing: ["10.0.0.4"] })),
    { a: "10.0.0.4", b: "10.0.0.4" },
  ],
  [
    "two that stand on one address and do not share",
    ONE,
    [s("a", { standing: ["10.0.0.4"] }), s("b", { standing: ["10.0.0.4"] })],
    { a: "10.0.0.4", b: "10.0.0.0" },
  ],
  [
    "after a restart nobody moves",
    ONE,
    [s("a", { standing: ["10.0.0.7"] }), s("b"), s("c", { standing: ["10.0.0.0"] })],
    { a: "10.0.0.7", b: "10.0.0.1", c: "10.0.0.0" },
  ],
  [
    "sharing is looked at anew: another port",
    ONE,
    [k("a", undefined, "x", 1), k("b", undefined, "x", 2), k("b", undefined, "x", 1)],
    { a: "10.0.0.0", b: "10.0.0.1" },
  ],
  [
    "sharing is looked at anew: no key",
    ONE,
    [k("a", undefined, "x", 1), k("b", undefined, "x", 2), s("b", { ports: [2] })],
    { a: "10.0.0.0", b: "10.0.0.1" },
  ],
  [
    "sharing is looked at anew: Local",
    ONE,
    [k("a", undefined, "x", 1), k("b", undefined, "x", 2), k("b", undefined, "x", 2, "p")],
    { a: "10.0.0.0", b: "10.0.0.1" },
  ],
  [
    "both become Local with one selector",
    ONE,
    [k("a", "10.0.0.1", "x", 1, "p"), k("b", "10.0.0.1", "x", 2, "p")],
    { b: "10.0.0.1" },
  ],
];

/** MetalLB's answer is in the name. */
const DIFFERS: readonly Row[] = [
  ["a pool goes away (MetalLB: the address too)", ONE, [s("a"), []], { a: "10.0.0.0" }],
  ["a pool shrinks (MetalLB: another address)", ONE, [s("a"), [pool("one", ["10.0.0.4/30"])]], { a: "10.0.0.0" }],
  [
    "a pool ceases to select (MetalLB: another address)",
    FOR_SOME,
    [s("a"), s("a", { pools: ["all"] })],
    { a: "10.3.2.0" },
  ],
  [
    "a request that is in use (MetalLB: no address)",
    ONE,
    [s("a"), s("b"), s("b", { ip: "10.0.0.0" })],
    { b: "10.0.0.1" },
  ],
  ["a request outside (MetalLB: no address)", ONE, [s("a"), s("a", { ip: "10.9.9.9" })], { a: "10.0.0.0" }],
  ["a pool that is not there (MetalLB: no address)", ONE, [s("a"), s("a", { pool: "none" })], { a: "10.0.0.0" }],
  [
    "a full pool (MetalLB: no address)",
    TWO,
    [s("a", { pool: "two" }), s("b"), s("c"), s("a", { pool: "one" })],
    { a: "10.0.1.16" },
  ],
  [
    "a priority without a selector (MetalLB: never by itself)",
    [pool("p", ["10.0.0.0/30"], { priority: 5 }), pool("a", ["10.0.1.0/30"])],
    [s("a")],
    { a: "10.0.0.0" },
  ],
  [
    "pools alike (MetalLB: at random)",
    [pool("b", ["10.0.1.0/30"]), pool("a", ["10.0.0.0/30"])],
    [s("a")],
    { a: "10.0.0.0" },
  ],
];

for (const [what, rows] of Object.entries({ allocator: ALLOCATOR, controller: CONTROLLER, differs: DIFFERS })) {
  for (const [name, pools, steps, expected] of rows) {
    test(`${what}: ${name}`, () => {
      const counter = new Counter(pools);
      const isStart = steps.some((step) => typeof step === "object" && "standing" in step && step.standing);
      for (const step of steps) {
        if (typeof step === "string") counter.remove(`t/${step.slice(1)}`);
        else if ("key" in step) counter.put(step);
        else counter.pools(step);
        if (!isStart) counter.decide(); // what stands is read before the first decision
      }
      const found = Object.fromEntries(Object.keys(expected).map((key) => [key, counter.of(`t/${key}`)]));
      assert.equal(found, expected);
    });
  }
}
console.log(
  `MEASURED ${ALLOCATOR.length + CONTROLLER.length} cases as MetalLB decides them, ${DIFFERS.length} that differ`,
);

test.run();
