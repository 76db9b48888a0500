/**
 * The egress filter at TC, on the compiled program: ARP whose SPA is a managed VIP leaves only if the VIP is owned here
 * and the MAC is ours.
 *
 * Usage: egress.test.ts [OBJECT], to see the rows fail on an object that was broken on purpose.
 */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { checkOf } from "../../src/core/vip.ts";
import { findObject } from "../../src/kernel/object.ts";
import { blur, build, copySources, strayOf } from "./build.ts";
import { type Action, Bench, bytes, type Clock, type Counters, hex, IFINDEX, neighbours } from "./run.ts";

const OUR_MAC = "02 15 a7 00 00 01";
const OTHER_MAC = "02 15 a7 00 00 02";
const CLIENT = "02 00 5e 10 00 fe";
const CLIENT_IP = "0a 09 ff fe";
const OWN_ADDRESS = "0a 09 ff 01";
const NO_ADDRESS = "00 00 00 00";
const BROADCAST = "ff ff ff ff ff ff";
const OWNED = "0a 09 00 01";
const NOT_OWNED = "0a 09 00 02";
const OWNED_ELSEWHERE = "0a 09 00 03"; // owned, but on another interface

const FRAME = {
  destination: BROADCAST,
  source: OUR_MAC,
  /** A VLAN tag, or none. */
  tag: "",
  type: "08 06",
  hardware: "00 01",
  protocol: "08 00",
  lengths: "06 04",
  op: "00 01",
  sha: OUR_MAC,
  spa: OWNED,
  tha: "00 00 00 00 00 00",
  tpa: CLIENT_IP,
  padding: "00 ".repeat(18),
};
type Fields = Partial<typeof FRAME>;

const frame = (fields: Fields): Uint8Array => bytes(Object.values({ ...FRAME, ...fields }).join(""));

/** The three kinds of ARP that name a VIP as their sender, and the two forms of an announcement. */
const kinds: [what: string, isClaim: boolean, fields: (vip: string) => Fields][] = [
  ["a question that names the VIP as its sender", false, (vip) => ({ spa: vip })],
  ["a unicast question that names the VIP as its sender", false, (vip) => ({ spa: vip, destination: CLIENT })],
  ["a question for another VIP", false, (vip) => ({ spa: vip, tpa: vip === OWNED ? NOT_OWNED : OWNED })],
  ["an answer", true, (vip) => ({ op: "00 02", spa: vip, destination: CLIENT, tha: CLIENT })],
  ["an announcement", true, (vip) => ({ spa: vip, tpa: vip })],
  ["an announcement in reply form", true, (vip) => ({ op: "00 02", spa: vip, tpa: vip, tha: BROADCAST })],
  ["a reverse request that names the VIP", true, (vip) => ({ op: "00 03", spa: vip })],
  ["ARP of an unknown op", true, (vip) => ({ op: "01 00", spa: vip })],
];

interface Row {
  what: string;
  fields: Fields;
  action: Action;
  counters?: Counters;
  /** The SPA with which it leaves; undefined: as it was. */
  spa?: string;
  clock?: Clock | "no entry";
  /** The interface has no address of its own. */
  isBare?: boolean;
  /** Cut, or grown with zeroes, to this length. */
  length?: number;
}

const untouched = (what: string, fields: Fields, more: Partial<Row> = {}): Row => ({
  what,
  fields,
  action: "pass",
  ...more,
});

/** The outcome for one of {@link kinds} where this node may not claim the VIP with this frame. */
function guarded(why: string, change: Fields, vip: string, more: Partial<Row> = {}): Row[] {
  return kinds.map(([kind, isClaim, fields]): Row => {
    const common = { fields: { ...fields(vip), ...change }, ...more };
    if (isClaim)
      return { what: `${kind} is dropped ${why}`, action: "drop", counters: { egress_dropped: 1 }, ...common };
    return {
      what: `${kind} goes out under the interface's own address ${why}`,
      action: "pass",
      counters: { egress_rewritten: 1 },
      spa: more.isBare ? NO_ADDRESS : OWN_ADDRESS,
      ...common,
    };
  });
}

const rows: Row[] = [
  ...kinds.map(
    ([kind, , fields]): Row =>
      untouched(`${kind} leaves where the VIP is owned here and the MAC is ours`, fields(OWNED), {
        counters: { egress_claimed: 1 },
      }),
  ),
  ...guarded("where the VIP is owned here and SHA is another MAC", { sha: OTHER_MAC }, OWNED),
  ...guarded("where the VIP is owned here and the Ethernet source is another MAC", { source: OTHER_MAC }, OWNED),
  ...guarded("where the VIP is owned here and both MACs are another's", { source: OTHER_MAC, sha: OTHER_MAC }, OWNED),
  ...guarded("where another node owns the VIP", {}, NOT_OWNED),
  ...guarded(
    "where another node owns the VIP and the MAC is another's",
    { source: OTHER_MAC, sha: OTHER_MAC },
    NOT_OWNED,
  ),
  ...guarded(
    "where another node owns the VIP and the hardware type is 6, which Linux takes for Ethernet",
    { hardware: "00 06" },
    NOT_OWNED,
  ),
  ...["81 00 00 00", "81 00 e0 00", "88 a8 00 00"].flatMap((tag) => [
    ...guarded(`behind a priority tag (${tag}) where another node owns the VIP`, { tag }, NOT_OWNED),
    untouched(
      `a claim behind a priority tag (${tag}) leaves where the VIP is owned here`,
      { tag, tpa: OWNED },
      { counters: { egress_claimed: 1 } },
    ),
  ]),
  ...["08 06", "08 00", "88 b5"].map(
    (type): Row => ({
      what: `type ${type} behind two priority tags, which nobody needs, is dropped`,
      fields: { tag: "81 00 00 00 88 a8 20 00", type },
      action: "drop",
      counters: { egress_dropped: 1 },
      length: 64,
    }),
  ),
  ...guarded("past the fence, though the VIP is owned here", {}, OWNED, { clock: "fenced" }),
  ...guarded("past the fence, where another node owns the VIP", {}, NOT_OWNED, { clock: "fenced" }),
  ...guarded("where isat is gone but its peers are heard", {}, OWNED, {
    clock: "fenced for as long, and a peer was heard",
  }),
  ...guarded("(it has none: 0.0.0.0) where another node owns the VIP", {}, NOT_OWNED, { isBare: true }),
  ...guarded("(it has none: 0.0.0.0) past the fence", {}, OWNED, { isBare: true, clock: "fenced" }),

  ...kinds.flatMap(([kind, , fields]) => [
    untouched(`${kind} leaves untouched where the address is no VIP`, fields(CLIENT_IP)),
    untouched(`${kind} leaves untouched where the VIP is another interface's`, fields(OWNED_ELSEWHERE)),
    ...(
      [
        "no entry",
        "never ticked",
        "gone",
        "gone, and a peer was heard long ago",
        "gone, by limits in the wrong order",
      ] as const
    ).flatMap((clock) => [
      untouched(`${kind} leaves untouched where the interface is: ${clock}`, fields(NOT_OWNED), { clock }),
      untouched(
        `${kind} with another MAC leaves untouched where the interface is: ${clock}`,
        {
          ...fields(OWNED),
          sha: OTHER_MAC,
        },
        { clock },
      ),
    ]),
  ]),
  untouched(
    "a claim leaves though the tick in the map is younger than the frame",
    { spa: OWNED, tpa: OWNED },
    {
      clock: "ticked a moment after this frame",
      counters: { egress_claimed: 1 },
    },
  ),
  untouched("a question for a VIP from the interface's own address leaves untouched", {
    spa: OWN_ADDRESS,
    tpa: NOT_OWNED,
  }),
  untouched("a probe for a VIP (SPA 0.0.0.0) leaves untouched", { spa: NO_ADDRESS, tpa: NOT_OWNED }),

  untouched("IPv4 leaves untouched", { type: "08 00", spa: NOT_OWNED }),
  untouched("a tagged frame leaves untouched, for its VLAN is another network", { tag: "81 00 00 05", spa: NOT_OWNED }),
  untouched("ARP for other hardware leaves untouched", { hardware: "00 07", spa: NOT_OWNED }),
  untouched("a VLAN's frame behind a priority tag leaves untouched", {
    tag: "81 00 00 00 81 00 00 05",
    spa: NOT_OWNED,
  }),
  untouched("ARP for another protocol leaves untouched", { protocol: "86 dd", spa: NOT_OWNED }),
  untouched("ARP with other hardware addresses leaves untouched", { lengths: "08 04", spa: NOT_OWNED }),
  untouched("ARP with other protocol addresses leaves untouched", { lengths: "06 10", spa: NOT_OWNED }),
  ...Array.from({ length: 28 }, (_, i) =>
    untouched(`ARP cut short to ${14 + i} bytes leaves untouched`, { spa: NOT_OWNED }, { length: 14 + i }),
  ),
  ...[42, 43, 59, 64, 1514].flatMap((length): Row[] => [
    {
      what: `of a question of ${length} bytes only the SPA is rewritten`,
      fields: { spa: NOT_OWNED },
      length,
      action: "pass",
      counters: { egress_rewritten: 1 },
      spa: OWN_ADDRESS,
    },
    {
      what: `a claim of ${length} bytes is dropped where another node owns the VIP`,
      fields: { spa: NOT_OWNED, tpa: NOT_OWNED },
      length,
      action: "drop",
      counters: { egress_dropped: 1 },
    },
  ]),

  // every bit of every comparison
  ...[...neighbours(OUR_MAC)].flatMap(([bit, mac]): Row[] => [
    {
      what: `a claim whose SHA is ours but for bit ${bit} is dropped`,
      fields: { tpa: OWNED, sha: mac },
      action: "drop",
      counters: { egress_dropped: 1 },
    },
    {
      what: `a claim whose Ethernet source is ours but for bit ${bit} is dropped`,
      fields: { tpa: OWNED, source: mac },
      action: "drop",
      counters: { egress_dropped: 1 },
    },
  ]),
  ...[...neighbours(NOT_OWNED)]
    .filter(([, spa]) => spa !== OWNED_ELSEWHERE)
    .map(([bit, spa]): Row => untouched(`a question from the VIP but for bit ${bit} leaves untouched`, { spa })),
  ...[...neighbours(NOT_OWNED)].map(
    ([bit, tpa]): Row => ({
      what: `a request for the VIP but for bit ${bit} from the VIP is a question`,
      fields: { spa: NOT_OWNED, tpa },
      action: "pass",
      counters: { egress_rewritten: 1 },
      spa: OWN_ADDRESS,
    }),
  ),
];

const bench = new Bench("isat-t-bpf-egress-", process.argv[2] ?? findObject());
bench.addVip("10.9.0.1", "owned");
bench.addVip("10.9.0.2", "not owned");
bench.addVip("10.9.0.3", "owned", 2);

for (const { what, fields, action, counters = {}, spa, clock = "live", isBare, length = 60 } of rows) {
  test(what, () => {
    bench.setInterface(clock === "no entry" ? undefined : clock, bytes(OUR_MAC), isBare ? "0.0.0.0" : "10.9.255.1");
    const cut = (whole: Uint8Array) => {
      const out = new Uint8Array(length);
      out.set(whole.subarray(0, length));
      return out;
    };
    const expected = spa === undefined ? fields : { ...fields, spa };
    assert.equal(bench.run("isat_egress", cut(frame(fields))), {
      action,
      counters,
      frame: hex(cut(frame(expected))),
      answers: {},
    });
  });
}

for (const [holding, isClaimed] of [
  ["owned again", true],
  ["owned, and released since", false],
  ["owned, and released in that instant", false],
  ["owned, without a claim", false],
  ["claiming", true],
  ["claiming, and released since", false],
  ["undecided", true],
  ["leaving", true],
  ["leaving, and released since", false],
  ["left", false],
] as const) {
  test(`an announcement of a VIP that is ${holding} ${isClaimed ? "leaves" : "is dropped"}`, () => {
    bench.setInterface("live", bytes(OUR_MAC), "10.9.255.1");
    bench.addVip("10.9.0.1", holding);
    const { action, counters } = bench.run("isat_egress", frame({ spa: OWNED, tpa: OWNED }));
    assert.is(action, isClaimed ? "pass" : "drop");
    assert.equal(counters, isClaimed ? { egress_claimed: 1 } : { egress_dropped: 1 });
    bench.addVip("10.9.0.1", "owned");
  });
}

test("an entry that says that it is another VIP's lets no claim leave", () => {
  bench.setInterface("live", bytes(OUR_MAC), "10.9.255.1");
  const key = { ip: bytes(OWNED), ifindex: IFINDEX };
  for (const change of [{ ip: bytes(NOT_OWNED) }, { ifindex: IFINDEX + 1 }]) {
    bench.changeVip("10.9.0.1", { check: checkOf({ ...key, ...change }) });
    assert.equal(bench.run("isat_egress", frame({ spa: OWNED, tpa: OWNED })).counters, { egress_dropped: 1 });
    bench.addVip("10.9.0.1", "owned");
  }
});

const OWN = "0a 09 ff 01 0a 09 08 01 ac 10 00 01 c0 a8 05 06";
const MASKS = "ff ff ff ff ff ff ff 00 ff ff 00 00 ff ff ff fc";
const targets: [what: string, target: string, own: string][] = [
  ["in a subnet of the interface", "ac 10 ff fe", "ac 10 00 01"],
  ["in a small subnet within a large one", "0a 09 08 fe", "0a 09 08 01"],
  ["in a subnet of two hosts", "c0 a8 05 05", "c0 a8 05 06"],
  ["beside a subnet of two hosts", "c0 a8 05 08", OWN_ADDRESS],
  ["in no subnet of the interface", "cb 00 71 01", OWN_ADDRESS],
];
for (const [what, tpa, own] of targets) {
  test(`a question for a host ${what} leaves under ${own
    .split(" ")
    .map((byte) => Number.parseInt(byte, 16))
    .join(".")}`, () => {
    const pad = (text: string) => bytes(text.padEnd(95, " 00"));
    bench.setInterface("live", bytes(OUR_MAC), "10.9.255.1", { own: pad(OWN), masks: pad(MASKS) });
    const { action, counters, frame: left } = bench.run("isat_egress", frame({ spa: NOT_OWNED, tpa }));
    assert.equal({ action, counters }, { action: "pass", counters: { egress_rewritten: 1 } });
    assert.is(left, hex(frame({ spa: own, tpa })));
  });
}

test("the address of an interface whose entry became another one's is put into no request", () => {
  using scratch = new Namespaces("isat-t-bpf-stray-");
  using bench = new Bench("isat-t-bpf-astray-", build(copySources(scratch.folder(), blur)));
  bench.addVip("10.9.0.2", "not owned");
  for (const [ifindex, verdict] of [
    [IFINDEX, "egress_rewritten"],
    [strayOf(IFINDEX), "egress_dropped"],
  ] as const) {
    bench.setInterface("live", bytes(OUR_MAC), "10.9.255.1", { ifindex });
    assert.equal(bench.run("isat_egress", frame({ spa: NOT_OWNED })).counters, { [verdict]: 1 });
  }
});

/** The mark that the ingress program leaves in skb->cb of an answer. */
function markOfAnswer(): Uint8Array {
  const cb = new Uint8Array(20);
  const request = frame({ source: CLIENT, sha: CLIENT, spa: CLIENT_IP, tpa: OWNED });
  assert.is(bench.run("isat_ingress", request, { cb }).action, "answer");
  return cb;
}

test("an answer of isat's own is known by its mark, and leaves unread and uncounted", () => {
  bench.setInterface("live", bytes(OUR_MAC), "10.9.255.1");
  const cb = markOfAnswer();
  for (const spa of [OWNED, NOT_OWNED]) {
    const claim = frame({ op: "00 02", spa });
    const left = { action: "pass", counters: {}, frame: hex(claim), answers: {} };
    assert.equal(bench.run("isat_egress", claim, { cb: cb.slice() }), left);
  }
});

test("a mark with one bit of its 128 turned over is none", () => {
  bench.setInterface("live", bytes(OUR_MAC), "10.9.255.1");
  const marked = hex(markOfAnswer().subarray(0, 16));
  for (const [bit, other] of neighbours(marked)) {
    const cb = new Uint8Array(20);
    cb.set(bytes(other));
    const { counters } = bench.run("isat_egress", frame({ op: "00 02", spa: NOT_OWNED }), { cb });
    assert.equal(counters, { egress_dropped: 1 }, `bit ${bit}`);
  }
});

test("a frame that is not answered is not marked", () => {
  bench.setInterface("live", bytes(OUR_MAC), "10.9.255.1");
  for (const tpa of [NOT_OWNED, CLIENT_IP]) {
    const cb = new Uint8Array(20);
    bench.run("isat_ingress", frame({ source: CLIENT, sha: CLIENT, spa: CLIENT_IP, tpa }), { cb });
    assert.equal(cb, new Uint8Array(20));
  }
});

test.after(() => bench[Symbol.dispose]());
test.run();
