/**
 * The verdict table, row by row, on both compiled ingress programs.
 *
 * Usage: ingress.test.ts [OBJECT], to see the rows fail on an object that was broken on purpose.
 */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { MAX_INTERFACES } from "../../src/core/abi.ts";
import { checkOf } from "../../src/core/vip.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { findObject } from "../../src/kernel/object.ts";
import { blur, build, copySources, strayOf } from "./build.ts";
import { type Action, Bench, bytes, type Clock, type Counters, hex, IFINDEX, neighbours, QUESTIONED } from "./run.ts";

const OUR_MAC = "02 15 a7 00 00 01";
const ASKER = "02 00 5e 10 00 fe";
const ASKER_IP = "0a 09 ff fe";
const BROADCAST = "ff ff ff ff ff ff";
const OWNED = "0a 09 00 01";
const NOT_OWNED = "0a 09 00 02";
const OWNED_ELSEWHERE = "0a 09 00 03"; // owned, but on another interface
const UNMANAGED = "0a 09 00 63";

/** A frame's fields in hex, in the order in which they are sent. */
const REQUEST = {
  destination: BROADCAST,
  source: ASKER,
  /** A VLAN tag, or none. */
  tag: "",
  type: "08 06",
  hardware: "00 01",
  protocol: "08 00",
  lengths: "06 04",
  op: "00 01",
  sha: ASKER,
  spa: ASKER_IP,
  tha: "00 00 00 00 00 00",
  tpa: OWNED,
  padding: "00 ".repeat(18),
};
type Fields = Partial<typeof REQUEST>;

const request = (fields: Fields = {}): Uint8Array => bytes(Object.values({ ...REQUEST, ...fields }).join(""));

/** The answer to REQUEST, written out by hand. */
const ANSWER = `
  02 00 5e 10 00 fe  02 15 a7 00 00 01  08 06
  00 01  08 00  06 04  00 02
  02 15 a7 00 00 01  0a 09 00 01
  02 00 5e 10 00 fe  0a 09 ff fe
  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`;

/** The answer to the same question of a host that has no address yet: TPA is 0.0.0.0, as its SPA was. */
const ANSWER_TO_PROBE = `
  02 00 5e 10 00 fe  02 15 a7 00 00 01  08 06
  00 01  08 00  06 04  00 02
  02 15 a7 00 00 01  0a 09 00 01
  02 00 5e 10 00 fe  00 00 00 00
  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00`;

interface Row {
  what: string;
  frame: Uint8Array;
  action: Action;
  /** The counters that rise; undefined: none does. */
  counters?: Counters;
  /** The frame out in hex; undefined: as it came in. */
  out?: string;
  /** The interface's tick; "no entry": the interface has no entry at all. Default: live. */
  clock?: Clock | "no entry";
}

const pass = (what: string, fields: Fields, counters: Counters = {}): Row => ({
  what,
  frame: request(fields),
  action: "pass",
  counters,
});

/** 60 bytes cut or grown to a length. */
function resize(frame: Uint8Array, length: number, filler = 0): Uint8Array {
  const resized = new Uint8Array(length).fill(filler);
  resized.set(frame.subarray(0, length));
  return resized;
}

const MULTICAST_BIT = 0;

const rows: Row[] = [
  // row 1
  pass("IPv4 passes and is not counted", { type: "08 00" }),
  pass("IPv6 passes and is not counted", { type: "86 dd" }),
  pass("RARP passes and is not counted", { type: "80 35" }),
  pass("an EtherType that is ARP's with its bytes swapped passes and is not counted", { type: "06 08" }),
  pass("an 802.3 frame, with a length in the place of the EtherType, passes and is not counted", { type: "00 2e" }),
  { what: "a bare header of another protocol passes", frame: resize(request({ type: "88 b5" }), 14), action: "pass" },

  // row 2
  pass("ARP behind an 802.1Q tag passes and is counted as tagged", { tag: "81 00 00 05" }, { tagged: 1 }),
  pass("ARP behind an 802.1ad tag passes and is counted as tagged", { tag: "88 a8 00 05" }, { tagged: 1 }),
  // VID 0 names no VLAN
  ...["81 00 00 00", "81 00 e0 00", "88 a8 00 00"].flatMap((tag): Row[] => [
    {
      what: `a request behind a priority tag (${tag}) is answered as one without it`,
      frame: request({ tag }),
      action: "answer",
      counters: { answered: 1 },
      out: ANSWER,
    },
    {
      what: `a request behind a priority tag (${tag}) for a VIP of another node is dropped`,
      frame: request({ tag, tpa: NOT_OWNED }),
      action: "drop",
      counters: { not_owned: 1 },
      out: hex(request({ tpa: NOT_OWNED })),
    },
    {
      what: `a request behind a priority tag (${tag}) that passes goes on without it`,
      frame: request({ tag, tpa: UNMANAGED }),
      action: "pass",
      counters: { not_managed: 1 },
      out: hex(request({ tpa: UNMANAGED })),
    },
  ]),
  pass("IPv4 behind a tag passes and is not counted", { tag: "81 00 00 05", type: "08 00" }),
  pass("ARP behind two tags passes and is not counted", { tag: "88 a8 00 05 81 00 00 06" }),
  {
    what: "a tagged frame that ends behind its inner EtherType is counted as tagged",
    frame: resize(request({ tag: "81 00 00 05" }), 18),
    action: "pass",
    counters: { tagged: 1 },
  },
  {
    what: "a tagged frame that ends within its inner EtherType passes and is not counted",
    frame: resize(request({ tag: "81 00 00 05" }), 17),
    action: "pass",
  },
  {
    what: "a tagged frame that ends behind its outer EtherType passes and is not counted",
    frame: resize(request({ tag: "81 00 00 05" }), 14),
    action: "pass",
  },

  // row 3
  ...Array.from(
    { length: 28 },
    (_, i): Row => ({
      what: `a request cut short to ${14 + i} bytes is no request`,
      frame: resize(request(), 14 + i),
      action: "pass",
      counters: { not_request: 1 },
    }),
  ),
  ...(
    [
      ["hardware type 0", { hardware: "00 00" }],
      ["hardware type 7", { hardware: "00 07" }],
      ["hardware type 2", { hardware: "00 02" }],
      ["hardware type 1536, which is 6 with its bytes swapped", { hardware: "06 00" }],
      ["hardware type 256, which is 1 with its bytes swapped", { hardware: "01 00" }],
      ["hardware type 257", { hardware: "01 01" }],
      ["protocol type 0", { protocol: "00 00" }],
      ["protocol type 8, which is IPv4's with its bytes swapped", { protocol: "00 08" }],
      ["protocol type IPv6", { protocol: "86 dd" }],
      ["a hardware address of 0 bytes", { lengths: "00 04" }],
      ["a hardware address of 5 bytes", { lengths: "05 04" }],
      ["a hardware address of 8 bytes", { lengths: "08 04" }],
      ["a protocol address of 0 bytes", { lengths: "06 00" }],
      ["a protocol address of 16 bytes", { lengths: "06 10" }],
      ["the two lengths swapped", { lengths: "04 06" }],
      ["op 0", { op: "00 00" }],
      ["op 2, a reply", { op: "00 02" }],
      ["op 2 from the VIP, a gratuitous reply", { op: "00 02", spa: OWNED }],
      ["op 3, a reverse request", { op: "00 03" }],
      ["op 8, an inverse request", { op: "00 08" }],
      ["op 256, which is 1 with its bytes swapped", { op: "01 00" }],
      ["op 257", { op: "01 01" }],
    ] as [string, Fields][]
  ).map(([what, fields]) => pass(`ARP with ${what} is no request`, fields, { not_request: 1 })),

  // row 4
  pass("a request for an address that is no VIP is not managed", { tpa: UNMANAGED }, { not_managed: 1 }),
  pass("a request for a VIP of another interface is not managed", { tpa: OWNED_ELSEWHERE }, { not_managed: 1 }),
  pass("a request for 0.0.0.0 is not managed", { tpa: "00 00 00 00" }, { not_managed: 1 }),
  pass("a request for a VIP with its bytes reversed is not managed", { tpa: "01 00 09 0a" }, { not_managed: 1 }),

  // row 5
  pass("an announcement of a VIP owned here passes", { spa: OWNED }, { announcement: 1 }),
  pass("an announcement of a VIP not owned here passes", { spa: NOT_OWNED, tpa: NOT_OWNED }, { announcement: 1 }),

  // row 6
  pass("a request to an IPv4 multicast MAC is not for us", { destination: "01 00 5e 00 00 01" }, { not_for_us: 1 }),
  pass("a request to the LLDP multicast MAC is not for us", { destination: "01 80 c2 00 00 0e" }, { not_for_us: 1 }),
  pass("a request to the asker itself is not for us", { destination: ASKER }, { not_for_us: 1 }),
  pass("a request to the zero MAC is not for us", { destination: "00 00 00 00 00 00" }, { not_for_us: 1 }),

  // row 7
  ...(
    [
      "never ticked",
      "never ticked, and a peer was heard",
      "never ticked, without limits",
      "gone",
      "gone, and a peer was heard long ago",
      "gone, by limits in the wrong order",
    ] as const
  ).flatMap((clock) => [
    { ...pass(`a VIP owned here passes where the interface is: ${clock}`, {}, { gone: 1 }), clock },
    { ...pass(`a VIP not owned here passes where the interface is: ${clock}`, { tpa: NOT_OWNED }, { gone: 1 }), clock },
  ]),

  // row 8
  ...(
    [
      ["multicast", "01 00 5e 10 00 fe"],
      ["the broadcast MAC", BROADCAST],
      ["zero", "00 00 00 00 00 00"],
      ["our own", OUR_MAC],
    ] as const
  ).flatMap(([what, sha]): Row[] => [
    {
      what: `a sender whose SHA is ${what} gets no answer`,
      frame: request({ sha, source: sha }),
      action: "drop",
      counters: { bad_sender: 1 },
    },
    {
      what: `a sender whose SHA is ${what} gets no answer, whatever its Ethernet source`,
      frame: request({ sha }),
      action: "drop",
      counters: { bad_sender: 1 },
    },
  ]),

  // row 9
  {
    what: "a request for a VIP that another node owns is dropped, so that nothing here answers",
    frame: request({ tpa: NOT_OWNED }),
    action: "drop",
    counters: { not_owned: 1 },
  },
  {
    what: "a unicast request for a VIP that another node owns is dropped",
    frame: request({ tpa: NOT_OWNED, destination: OUR_MAC }),
    action: "drop",
    counters: { not_owned: 1 },
  },
  {
    what: "a request for a VIP owned here is dropped past the fence",
    frame: request(),
    action: "drop",
    counters: { fenced: 1 },
    clock: "fenced",
  },
  {
    what: "a request for a VIP that another node owns is dropped past the fence",
    frame: request({ tpa: NOT_OWNED }),
    action: "drop",
    counters: { not_owned: 1 },
    clock: "fenced",
  },

  ...(["fenced for as long, and a peer was heard", "not fenced for as long, and a peer was heard"] as const).map(
    (clock): Row => ({
      what: `a request for a VIP that another node owns is dropped where the node is: ${clock}`,
      frame: request({ tpa: NOT_OWNED }),
      action: "drop",
      counters: { not_owned: 1 },
      clock,
    }),
  ),
  {
    what: "a request for a VIP owned here is dropped past the fence, for as long as a peer is heard",
    frame: request(),
    action: "drop",
    counters: { fenced: 1 },
    clock: "fenced for as long, and a peer was heard",
  },

  // row 10
  {
    what: "a request of hardware type 6 (IEEE 802), which Linux takes too, is answered with type 1",
    frame: request({ hardware: "00 06" }),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER,
  },
  {
    what: "a request of hardware type 6 for a VIP of another node is dropped",
    frame: request({ hardware: "00 06", tpa: NOT_OWNED }),
    action: "drop",
    counters: { not_owned: 1 },
  },
  {
    what: "a broadcast request is answered",
    frame: request(),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER,
  },
  {
    what: "a request is answered though its frame came a moment before the tick that is in the map",
    frame: request(),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER,
    clock: "ticked a moment after this frame",
  },
  ...(["headless", "past hold", "not fenced for as long, and a peer was heard"] as const).map(
    (clock): Row => ({
      what: `a request is answered where the node is: ${clock}`,
      frame: request(),
      action: "answer",
      counters: { answered: 1 },
      out: ANSWER,
      clock,
    }),
  ),
  {
    what: "a unicast request to us is answered",
    frame: request({ destination: OUR_MAC }),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER,
  },
  {
    what: "a probe (SPA 0.0.0.0) is answered, with TPA 0.0.0.0",
    frame: request({ spa: "00 00 00 00" }),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER_TO_PROBE,
  },
  {
    what: "a request whose Ethernet source is not its SHA is answered to its SHA, and counted apart too",
    frame: request({ source: "00 00 5e 00 01 07" }),
    action: "answer",
    counters: { answered: 1, answered_other_source: 1 },
    out: ANSWER,
  },
  {
    what: "a THA in the request is not looked at, nor kept",
    frame: request({ tha: "de ad be ef de ad" }),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER,
  },
  {
    what: "a THA of broadcast, as some hosts send, is not looked at",
    frame: request({ tha: BROADCAST }),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER,
  },
  {
    what: "garbage in the padding comes back as zeroes",
    frame: request({ padding: "a5 ".repeat(18) }),
    action: "answer",
    counters: { answered: 1 },
    out: ANSWER,
  },
  ...Array.from({ length: 18 }, (_, i) => 42 + i).map(
    (length): Row => ({
      what: `a request of ${length} bytes is answered in ${length} bytes, and zeroed behind the ARP`,
      frame: resize(request({ padding: "a5 ".repeat(18) }), length),
      action: "answer",
      counters: { answered: 1 },
      out: hex(resize(bytes(ANSWER), length)),
    }),
  ),
  ...[61, 62, 63, 64, 68, 128, 590, 1514, 3001].map(
    (length): Row => ({
      what: `a request of ${length} bytes, garbage behind the ARP, is answered in 60`,
      frame: resize(request({ padding: "" }), length, 0xa5),
      action: "answer",
      counters: { answered: 1 },
      out: ANSWER,
    }),
  ),

  // every bit of every comparison
  ...[...neighbours(OUR_MAC)].map(
    ([bit, destination]): Row =>
      pass(
        `a unicast request to another MAC, bit ${bit} other than ours, is not for us`,
        { destination },
        { not_for_us: 1 },
      ),
  ),
  ...[...neighbours(BROADCAST)].map(
    ([bit, destination]): Row =>
      pass(`a request to all ones but bit ${bit} is not for us`, { destination }, { not_for_us: 1 }),
  ),
  ...[...neighbours(OWNED)]
    .filter(([, tpa]) => tpa !== OWNED_ELSEWHERE)
    .map(
      ([bit, tpa]): Row => pass(`a request for the VIP but for bit ${bit} is not managed`, { tpa }, { not_managed: 1 }),
    ),
  ...[...neighbours(OWNED)].map(
    ([bit, spa]): Row => ({
      what: `a request from the VIP but for bit ${bit} is no announcement`,
      frame: request({ spa }),
      action: "answer",
      counters: { answered: 1 },
      out: ANSWER.replace(ASKER_IP, spa),
    }),
  ),
  ...[...neighbours(OUR_MAC)]
    .filter(([bit]) => bit !== MULTICAST_BIT)
    .map(
      ([bit, sha]): Row => ({
        what: `a SHA that is ours but for bit ${bit} is answered`,
        frame: request({ sha, source: sha }),
        action: "answer",
        counters: { answered: 1 },
        out: ANSWER.replaceAll(ASKER, sha),
      }),
    ),
  ...[...neighbours("00 00 00 00 00 00")]
    .filter(([bit]) => bit !== MULTICAST_BIT)
    .map(
      ([bit, sha]): Row => ({
        what: `a SHA that is zero but for bit ${bit} is answered`,
        frame: request({ sha, source: sha }),
        action: "answer",
        counters: { answered: 1 },
        out: ANSWER.replaceAll(ASKER, sha),
      }),
    ),
  ...[...neighbours(ASKER)].map(
    ([bit, source]): Row => ({
      what: `an Ethernet source that is the SHA but for bit ${bit} is another source`,
      frame: request({ source }),
      action: "answer",
      counters: { answered: 1, answered_other_source: 1 },
      out: ANSWER,
    }),
  ),
];

/**
 * The table's rows as changes to a frame that would be answered, in the table's order. The VIPs' states come first and
 * the announcement last, for they change the same fields.
 */
const order: { row: number; change?: Fields; clock?: Clock; action: Action; counters: Counters }[] = [
  { row: 2, change: { tag: "81 00 00 05" }, action: "pass", counters: { tagged: 1 } },
  { row: 3, change: { op: "00 02" }, action: "pass", counters: { not_request: 1 } },
  { row: 4, change: { tpa: UNMANAGED }, action: "pass", counters: { not_managed: 1 } },
  { row: 5, action: "pass", counters: { announcement: 1 } },
  { row: 6, change: { destination: "02 15 a7 00 00 02" }, action: "pass", counters: { not_for_us: 1 } },
  { row: 7, clock: "gone", action: "pass", counters: { gone: 1 } },
  { row: 8, change: { sha: OUR_MAC }, action: "drop", counters: { bad_sender: 1 } },
  { row: 9, change: { tpa: NOT_OWNED }, action: "drop", counters: { not_owned: 1 } },
  { row: 9, clock: "fenced", action: "drop", counters: { fenced: 1 } },
];

const bench = new Bench("isat-t-bpf-ingress-", process.argv[2] ?? findObject());
bench.addVip("10.9.0.1", "owned");
bench.addVip("10.9.0.2", "not owned");
bench.addVip("10.9.0.3", "owned", 2);

const setClock = (clock: Clock | "no entry" = "live") =>
  bench.setInterface(clock === "no entry" ? undefined : clock, bytes(OUR_MAC), "10.9.255.1");

for (const program of ["isat_ingress", "isat_xdp"] as const) {
  for (const { what, frame, action, counters = {}, out, clock } of rows) {
    test(`${program}: ${what}`, () => {
      setClock(clock);
      assert.equal(bench.run(program, frame), {
        action,
        counters,
        frame: hex(out === undefined ? frame : bytes(out)),
        answers: action === "answer" ? { "10.9.0.1": 1 } : {},
      });
    });
  }

  test(`${program}: of the rows that match a frame, the first decides, for every set of rows`, () => {
    for (let set = 1; set < 1 << order.length; set++) {
      const matching = order.filter((_, i) => set & (1 << i));
      const fields: Fields = Object.assign({}, ...matching.map(({ change }) => change).reverse());
      if (matching.some(({ row }) => row === 5)) fields.spa = fields.tpa ?? OWNED;
      setClock(matching.find(({ clock }) => clock)?.clock);
      const frame = request(fields);
      const [first] = matching;
      assert.equal(
        bench.run(program, frame),
        { action: first!.action, counters: first!.counters, frame: hex(frame), answers: {} },
        `rows ${matching.map(({ row, counters }) => `${row} (${Object.keys(counters)})`).join(", ")}`,
      );
    }
  });

  for (const [holding, expected] of QUESTIONED) {
    test(`${program}: a question for a VIP that is ${holding}: ${expected}`, () => {
      setClock();
      bench.addVip("10.9.0.1", holding);
      const { action, counters } = bench.run(program, request());
      assert.is(action, expected);
      assert.equal(counters, expected === "answer" ? { answered: 1 } : { not_owned: 1 });
      bench.addVip("10.9.0.1", "owned");
    });
  }

  test(`${program}: the time of a VIP's last answer is that of the answer`, () => {
    const key = { ip: bytes(OWNED), ifindex: IFINDEX };
    setClock();
    const before = bootTime();
    bench.run(program, request());
    const { last_answer_ns } = bench.maps.vips.get(key)!;
    const jiffy = 10_000_000n; // with CONFIG_HZ=100, the longest; on an idle machine of two CPUs it comes late
    assert.ok(before - 10n * jiffy <= last_answer_ns && last_answer_ns <= bootTime());
    bench.run(program, request({ tpa: NOT_OWNED }));
    assert.is(bench.maps.vips.get(key)!.last_answer_ns, last_answer_ns, "a drop is no answer");
  });

  test(`${program}: an interface that has no entry passes all ARP, uncounted`, () => {
    bench.setInterface(undefined, bytes(OUR_MAC));
    for (const fields of [{}, { tpa: NOT_OWNED }, { tpa: UNMANAGED }] as Fields[]) {
      const { action, counters } = bench.run(program, request(fields));
      assert.equal([action, counters], ["pass", {}]);
    }
  });

  test(`${program}: an interface is found in any place, and none is found in another's`, () => {
    const { places } = bench.maps.interfaces;
    setClock();
    const entry = bench.interface!;
    for (let place = 0; place < MAX_INTERFACES; place++) {
      for (let at = 0; at < MAX_INTERFACES; at++)
        places.set(at, at === place ? entry : { ...entry, ifindex: IFINDEX + (at + 1) * MAX_INTERFACES });
      assert.equal(bench.run(program, request()).counters, { answered: 1 }, `place ${place}`);
    }
    for (let at = 0; at < MAX_INTERFACES; at++)
      places.set(at, { ...entry, ifindex: IFINDEX + (at + 1) * MAX_INTERFACES });
    assert.is(bench.run(program, request()).action, "pass");
    setClock();
  });
}

test("isat_xdp_probe sends back whatever it is run on, as it came", () => {
  const frame = request({ type: "88 b5" });
  assert.equal(bench.run("isat_xdp_probe", frame), { action: "answer", frame: hex(frame), counters: {}, answers: {} });
});

/** Memory that the kernel has given to another entry, under the eyes of a program that has just found it. */
for (const program of ["isat_ingress", "isat_xdp"] as const) {
  for (const [what, change] of [
    ["of another address", { ip: bytes(NOT_OWNED), ifindex: IFINDEX }],
    ["of another interface", { ip: bytes(OWNED), ifindex: IFINDEX + 1 }],
  ] as const) {
    test(`${program}: an entry that says that it is a VIP's ${what} is not answered from`, () => {
      bench.setInterface("live", bytes(OUR_MAC));
      bench.changeVip("10.9.0.1", { check: checkOf(change) });
      const { action, counters } = bench.run(program, request());
      bench.addVip("10.9.0.1", "owned");
      assert.equal([action, counters], ["drop", { not_owned: 1 }]);
    });
  }
}

test("an entry that became another interface's, with that one's MAC, is not answered from", () => {
  using scratch = new Namespaces("isat-t-bpf-stray-");
  using bench = new Bench("isat-t-bpf-astray-", build(copySources(scratch.folder(), blur)));
  bench.addVip("10.9.0.1", "owned");
  for (const program of ["isat_ingress", "isat_xdp"] as const) {
    bench.setInterface("live", bytes(OUR_MAC));
    assert.equal(bench.run(program, request()).counters, { answered: 1 });
    bench.setInterface("live", bytes(OUR_MAC), "0.0.0.0", { ifindex: strayOf(IFINDEX) });
    const { action, counters } = bench.run(program, request());
    assert.equal([action, counters], ["drop", { not_owned: 1 }]);
  }
});

test.after(() => bench[Symbol.dispose]());
test.run();
