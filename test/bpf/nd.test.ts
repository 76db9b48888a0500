/**
 * The verdict table for Neighbour Solicitations, row by row, on both compiled ingress programs.
 *
 * Usage: nd.test.ts [OBJECT], to see the rows fail on an object that was broken on purpose.
 */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { checkOf } from "../../src/core/vip.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { findObject } from "../../src/kernel/object.ts";
import { keyOf } from "../../src/kernel/vips.ts";
import { blur, build, copySources, strayOf } from "./build.ts";
import { type NdFields, ndFrame, sumOfMessage } from "./nd.ts";
import { type Action, Bench, bytes, type Clock, type Counters, hex, IFINDEX, neighbours, QUESTIONED } from "./run.ts";

const OUR_MAC = "02 15 a7 00 00 01";
const ASKER = "02 00 5e 10 00 fe";
const OTHER_MAC = "02 00 5e 10 00 fd";
/** 2001:db8::N */
const ip = (last: string) => `20 01 0d b8 00 00 00 00 00 00 00 00 00 01 ${last}`;
const OWNED = ip("12 34");
const NOT_OWNED = ip("12 35");
const OWNED_ELSEWHERE = ip("12 36"); // owned, but on another interface
const UNMANAGED = ip("12 99");
const ASKER_IP = ip("00 fe");
const NOBODY = "00 ".repeat(16).trim();
const ALL_NODES = "ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01";
const groupOf = (target: string) => `ff 02 00 00 00 00 00 00 00 00 00 01 ff ${target.slice(-8)}`;
const groupMacOf = (target: string) => `33 33 ff ${target.slice(-8)}`;
const source = (mac: string) => `01 01 ${mac}`;
const NONCE = "0e 01 a1 a2 a3 a4 a5 a6";

type Fields = Partial<NdFields>;

function solicit(fields: Fields = {}): Uint8Array {
  const target = fields.target ?? OWNED;
  return ndFrame({
    to: groupMacOf(target),
    from: ASKER,
    type: "86 dd",
    version: "60 00 00 00",
    next: "3a",
    hops: "ff",
    source: ASKER_IP,
    destination: groupOf(target),
    kind: "87",
    code: "00",
    flags: "00 00 00 00",
    target,
    options: source(ASKER),
    padding: "",
    ...fields,
  });
}
/** Duplicate address detection, as Linux does it. */
const detect = (fields: Fields = {}) => solicit({ source: NOBODY, options: NONCE, ...fields });

/** The answer, in all its bytes. */
const advertise = (fields: Fields = {}): string =>
  hex(
    solicit({
      to: ASKER,
      from: OUR_MAC,
      source: OWNED,
      destination: ASKER_IP,
      kind: "88",
      flags: "60 00 00 00",
      options: `02 01 ${OUR_MAC}`,
      ...fields,
    }),
  );

/** Two answers written out by hand, to check {@link ndFrame} with; the checksums by the sums of RFC 1071. */
const ANSWER = `
  02 00 5e 10 00 fe  02 15 a7 00 00 01  86 dd
  60 00 00 00  00 20  3a ff
  20 01 0d b8 00 00 00 00 00 00 00 00 00 01 12 34
  20 01 0d b8 00 00 00 00 00 00 00 00 00 01 00 fe
  88 00 CHECK  60 00 00 00
  20 01 0d b8 00 00 00 00 00 00 00 00 00 01 12 34
  02 01 02 15 a7 00 00 01`;
const ANSWER_TO_ALL = `
  33 33 00 00 00 01  02 15 a7 00 00 01  86 dd
  60 00 00 00  00 20  3a ff
  20 01 0d b8 00 00 00 00 00 00 00 00 00 01 12 34
  ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01
  88 00 CHECK  20 00 00 00
  20 01 0d b8 00 00 00 00 00 00 00 00 00 01 12 34
  02 01 02 15 a7 00 00 01`;
const TO_ALL: Fields = { to: "33 33 00 00 00 01", destination: ALL_NODES, flags: "20 00 00 00" };

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

const row = (action: Action, what: string, frame: Uint8Array, counters: Counters = {}, clock?: Clock): Row => ({
  what,
  frame,
  action,
  counters,
  ...(clock && { clock }),
});
const passes = (what: string, frame: Uint8Array, counters: Counters = {}, clock?: Clock) =>
  row("pass", `${what} passes`, frame, counters, clock);
const bad = (what: string, frame: Uint8Array) => passes(what, frame, { nd_bad: 1 });
const dropped = (what: string, frame: Uint8Array, counters: Counters, clock?: Clock) =>
  row("drop", `${what} is dropped`, frame, counters, clock);
const answered = (what: string, frame: Uint8Array, answer: Fields = {}, clock?: Clock): Row => ({
  ...row("answer", `${what} is answered`, frame, { nd_answered: 1 }, clock),
  out: advertise(answer),
});

const asked = solicit();
const cut = (frame: Uint8Array, length: number) => frame.slice(0, length);

const rows: Row[] = [
  // no Solicitations: neither counted nor read
  ...(
    [
      ["an Advertisement", { kind: "88" }],
      ["a Router Solicitation", { kind: "85" }],
      ["an echo request", { kind: "80" }],
      ["TCP", { next: "06" }],
      ["UDP", { next: "11" }],
      ["a Solicitation behind a hop-by-hop header", { next: "00" }],
      ["a fragment", { next: "2c" }],
      ["the same in another EtherType", { type: "88 b5" }],
      ["the same in IPv4's EtherType", { type: "08 00" }],
    ] as [string, Fields][]
  ).map(([what, fields]) => passes(what, solicit({ ...fields, checksum: "12 34" }))),
  passes("a Solicitation behind a VLAN tag", solicit({ type: "81 00 00 05 86 dd", checksum: "00 00" })),
  passes("a frame of 54 bytes, an IPv6 header alone,", cut(asked, 54)),

  // row 1
  ...Array.from({ length: 23 }, (_, i) => bad(`a Solicitation cut short to ${55 + i} bytes`, cut(asked, 55 + i))),

  // row 2
  passes("a Solicitation for an address that is no VIP", solicit({ target: UNMANAGED }), { nd_not_managed: 1 }),
  passes("a Solicitation for a VIP of another interface", solicit({ target: OWNED_ELSEWHERE }), { nd_not_managed: 1 }),
  passes("a Solicitation for ::", solicit({ target: NOBODY }), { nd_not_managed: 1 }),
  passes("one that is wrong in every way, for an address that is no VIP", solicit({ target: UNMANAGED, hops: "01" }), {
    nd_not_managed: 1,
  }),
  ...[...neighbours(OWNED)]
    .filter(([, target]) => ![NOT_OWNED, OWNED_ELSEWHERE].includes(target))
    .map(([bit, target]) =>
      passes(`a Solicitation for the VIP but for bit ${bit}`, solicit({ target }), { nd_not_managed: 1 }),
    ),

  // row 3
  ...["00", "01", "40", "fe", "7f"].map((hops) => bad(`hop limit 0x${hops}`, solicit({ hops }))),
  ...["01", "80", "ff"].map((code) => bad(`code 0x${code}`, solicit({ code }))),
  ...[...neighbours(hex(asked.subarray(56, 58)))].map(([bit, checksum]) =>
    bad(`a checksum wrong in bit ${bit}`, solicit({ checksum })),
  ),
  bad("a checksum of zero", solicit({ checksum: "00 00" })),
  bad("a checksum without the pseudo-header", solicit({ checksum: "2f 13" })),
  ...(
    [
      ["an option of length 0", "0e 00 a1 a2 a3 a4 a5 a6"],
      ["an option of length 0 behind the MAC", `${source(ASKER)} 0e 00 a1 a2 a3 a4 a5 a6`],
      ["an option that goes on behind the end", "0e 02 a1 a2 a3 a4 a5 a6"],
      ["an option of 255 units", "0e ff a1 a2 a3 a4 a5 a6"],
      ["a MAC of 14 bytes", `01 02 ${"02 ".repeat(14)}`],
      ["a second MAC of 14 bytes", `${source(ASKER)} 01 02 ${"02 ".repeat(14)}`],
      ["half an option", "0e 01 a1 a2"],
      ["options of 40 bytes", NONCE.repeat(5).replace(/(\w\w)(?=\w)/g, "$1 ")],
    ] as [string, string][]
  ).map(([what, options]) => bad(what, solicit({ options }))),
  bad("a length of 23", solicit({ length: "00 17" })),
  bad("a length of 0", solicit({ length: "00 00" })),
  bad("a length beyond the end of the frame", solicit({ length: "00 28" })),
  bad("a length in the wrong order of bytes", solicit({ length: "20 00" })),
  bad("a multicast source", solicit({ source: ALL_NODES })),
  bad("duplicate address detection with a MAC", detect({ options: source(ASKER) })),
  bad("duplicate address detection with a MAC behind a nonce", detect({ options: `${NONCE} ${source(ASKER)}` })),
  bad("duplicate address detection to us alone", detect({ to: OUR_MAC, destination: OWNED })),
  bad("duplicate address detection to all nodes", detect({ destination: ALL_NODES })),
  ...[...neighbours(groupOf(OWNED))]
    .filter(([bit]) => bit < 104)
    .map(([bit, destination]) =>
      bad(`duplicate address detection to the group but for bit ${bit}`, detect({ destination })),
    ),

  // row 4
  ...[...neighbours(OUR_MAC)].map(([bit, to]) =>
    passes(`a Solicitation to our MAC but for bit ${bit}`, solicit({ to }), { nd_not_for_us: 1 }),
  ),
  ...[...neighbours(groupMacOf(OWNED))].map(([bit, to]) =>
    passes(`a Solicitation to the VIP's group but for bit ${bit}`, solicit({ to }), { nd_not_for_us: 1 }),
  ),
  ...["33 33 00 00 00 01", "ff ff ff ff ff ff", ASKER, "00 00 00 00 00 00"].map((to) =>
    passes(`a Solicitation to ${to}`, solicit({ to }), { nd_not_for_us: 1 }),
  ),

  // row 5
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
    passes(`a VIP owned here, where the interface is: ${clock},`, solicit(), { nd_gone: 1 }, clock),
    passes(
      `a VIP not owned here, where the interface is: ${clock},`,
      solicit({ target: NOT_OWNED }),
      { nd_gone: 1 },
      clock,
    ),
    passes(`duplicate address detection, where the interface is: ${clock},`, detect(), { nd_gone: 1 }, clock),
  ]),

  // row 6
  ...(
    [
      ["multicast", "33 33 5e 10 00 fe"],
      ["the broadcast MAC", "ff ff ff ff ff ff"],
      ["zero", "00 00 00 00 00 00"],
      ["our own", OUR_MAC],
    ] as const
  ).flatMap(([what, mac]) => [
    dropped(`a Solicitation that says its MAC is ${what}`, solicit({ options: source(mac) }), { nd_bad_sender: 1 }),
    dropped(`a Solicitation that says no MAC and comes from ${what}`, solicit({ from: mac, options: "" }), {
      nd_bad_sender: 1,
    }),
    dropped(`duplicate address detection from ${what}`, detect({ from: mac }), { nd_bad_sender: 1 }),
  ]),

  // row 7
  ...(["live", "fenced", "fenced for as long, and a peer was heard"] as const).flatMap((clock) => [
    dropped(`a VIP of another node (${clock})`, solicit({ target: NOT_OWNED }), { nd_not_owned: 1 }, clock),
    dropped(
      `duplicate address detection of such a VIP (${clock})`,
      detect({ target: NOT_OWNED }),
      { nd_not_owned: 1 },
      clock,
    ),
  ]),
  dropped("a unicast Solicitation for a VIP of another node", solicit({ target: NOT_OWNED, to: OUR_MAC }), {
    nd_not_owned: 1,
  }),
  dropped("a VIP owned here, past the fence,", solicit(), { nd_fenced: 1 }, "fenced"),
  dropped("duplicate address detection of a VIP owned here, past the fence,", detect(), { nd_fenced: 1 }, "fenced"),

  // row 8
  answered("a Solicitation to the VIP's group", solicit()),
  answered("a Solicitation to us", solicit({ to: OUR_MAC, destination: OWNED })),
  answered("a Solicitation to the VIP's group's MAC and the VIP", solicit({ destination: OWNED })),
  answered("a Solicitation from a link-local address", solicit({ source: `fe 80 ${"00 ".repeat(13)} 05` }), {
    destination: `fe 80 ${"00 ".repeat(13)} 05`,
  }),
  answered("a Solicitation with a flow label and a class", solicit({ version: "6a bc de f1" })),
  answered("a Solicitation with reserved bits", solicit({ flags: "ff ff ff ff" })),
  answered("a Solicitation whose MAC is not that of the frame", solicit({ from: OTHER_MAC })),
  answered("a nonce before the MAC", solicit({ options: `${NONCE} ${source(ASKER)}` })),
  answered("a nonce behind the MAC", solicit({ options: `${source(ASKER)} ${NONCE}` })),
  answered(
    "an unknown option of 24 bytes behind the MAC",
    solicit({ options: `${source(ASKER)} fd 03 ${"01 ".repeat(22)}` }),
  ),
  answered(
    "a long option whose content looks like another MAC",
    solicit({
      options: `fd 02 00 00 00 00 00 00 ${source(OTHER_MAC)} ${source(ASKER)}`,
    }),
  ),
  answered("of two MACs, the first", solicit({ options: `${source(ASKER)} ${source(OTHER_MAC)}` })),
  answered("options of 32 bytes", solicit({ options: [source(ASKER), NONCE, NONCE, NONCE].join(" ") })),
  answered("no MAC: to the Ethernet source, the question", solicit({ options: "", to: OUR_MAC, destination: OWNED })),
  answered("a nonce alone: to the Ethernet source, the question", solicit({ options: NONCE })),
  answered("duplicate address detection", detect(), TO_ALL),
  answered("duplicate address detection without a nonce", detect({ options: "" }), TO_ALL),
  answered("duplicate address detection to the group in a frame to us", detect({ to: OUR_MAC }), TO_ALL),
  ...(
    [
      "headless",
      "past hold",
      "not fenced for as long, and a peer was heard",
      "ticked a moment after this frame",
    ] as const
  ).flatMap((clock) => [
    answered(`a Solicitation where the node is: ${clock},`, solicit(), {}, clock),
    answered(`duplicate address detection where the node is: ${clock},`, detect(), TO_ALL, clock),
  ]),
  ...["", "00 ", "a5 ".repeat(2), "a5 ".repeat(8), "a5 ".repeat(9), "a5 ".repeat(64), "a5 ".repeat(1400)].flatMap(
    (padding) => {
      const many = `${bytes(padding).length} bytes behind the packet`;
      return [
        answered(`a Solicitation with ${many}`, solicit({ padding })),
        answered(`a Solicitation without options, with ${many},`, solicit({ padding, options: "" })),
        answered(
          `duplicate address detection without options, with ${many},`,
          detect({ padding, options: "" }),
          TO_ALL,
        ),
      ];
    },
  ),
  ...["81 00 00 00", "81 00 e0 00", "88 a8 00 00"].flatMap((tag): Row[] => {
    const behind = (frame: Uint8Array) => Uint8Array.of(...frame.subarray(0, 12), ...bytes(tag), ...frame.subarray(12));
    const passing = solicit({ target: UNMANAGED });
    const router = solicit({ kind: "85" });
    return [
      answered(`a Solicitation behind a priority tag (${tag})`, behind(solicit())),
      answered(`duplicate address detection behind a priority tag (${tag})`, behind(detect()), TO_ALL),
      {
        ...passes(`one behind a priority tag (${tag}), without it,`, behind(passing), { nd_not_managed: 1 }),
        out: hex(passing),
      },
      passes(`other ICMPv6 behind a priority tag (${tag}), with it,`, behind(router)),
    ];
  }),

  // every bit that goes into the answer
  ...[...neighbours(ASKER)]
    .filter(([bit]) => bit !== 0)
    .map(([bit, mac]) =>
      answered(`a Solicitation with another MAC, bit ${bit},`, solicit({ options: source(mac) }), { to: mac }),
    ),
  ...[...neighbours(ASKER_IP)].map(([bit, from]) =>
    answered(`a Solicitation from another address, bit ${bit},`, solicit({ source: from }), { destination: from }),
  ),
];

const bench = new Bench("isat-t-bpf-nd-", process.argv[2] ?? findObject());
const [OWNED_TEXT, NOT_OWNED_TEXT, ELSEWHERE_TEXT] = ["2001:db8::1:1234", "2001:db8::1:1235", "2001:db8::1:1236"];
bench.addVip(OWNED_TEXT, "owned");
bench.addVip(NOT_OWNED_TEXT, "not owned");
bench.addVip(ELSEWHERE_TEXT, "owned", 2);
const key = keyOf(IFINDEX, parseAddress(OWNED_TEXT));

const setClock = (clock: Clock | "no entry" = "live") =>
  bench.setInterface(clock === "no entry" ? undefined : clock, bytes(OUR_MAC), "10.9.255.1");

test("an answer's bytes are those that were written out by hand, and its checksum is right", () => {
  for (const [fields, byHand] of [
    [{}, ANSWER],
    [TO_ALL, ANSWER_TO_ALL],
  ] as [Fields, string][]) {
    const answer = bytes(advertise(fields));
    assert.is(hex(answer), hex(bytes(byHand.replace("CHECK", hex(answer.subarray(56, 58))))));
    assert.is(sumOfMessage(answer), 0xffff);
  }
});

for (const program of ["isat_ingress", "isat_xdp"] as const) {
  for (const { what, frame, action, counters = {}, out, clock } of rows) {
    test(`${program}: ${what}`, () => {
      setClock(clock);
      assert.equal(bench.run(program, frame), {
        action,
        counters,
        frame: out ?? hex(frame),
        answers: action === "answer" ? { [OWNED_TEXT]: 1 } : {},
      });
    });
  }

  for (const [holding, expected] of QUESTIONED) {
    test(`${program}: the action on a Solicitation for a VIP that is ${holding}: ${expected}`, () => {
      setClock();
      bench.addVip(OWNED_TEXT, holding);
      const { action, counters } = bench.run(program, solicit());
      bench.addVip(OWNED_TEXT, "owned");
      assert.equal([action, counters], [expected, expected === "answer" ? { nd_answered: 1 } : { nd_not_owned: 1 }]);
    });
  }

  test(`${program}: the time of a VIP's last answer is that of the answer`, () => {
    setClock();
    const before = bootTime();
    bench.run(program, solicit());
    const { last_answer_ns } = bench.maps.vips6.get(key)!;
    assert.ok(before - 100_000_000n <= last_answer_ns && last_answer_ns <= bootTime()); // ten of the longest jiffies
  });

  test(`${program}: an interface that has no entry passes all Solicitations, uncounted`, () => {
    setClock("no entry");
    for (const target of [OWNED, NOT_OWNED, UNMANAGED]) {
      const { action, counters } = bench.run(program, solicit({ target }));
      assert.equal([action, counters], ["pass", {}]);
    }
  });

  for (const [what, change] of [
    ["of another address", { ...key, ip: addressBytes(parseAddress(NOT_OWNED_TEXT)) }],
    ["of another interface", { ...key, ifindex: IFINDEX + 1 }],
  ] as const) {
    test(`${program}: an entry that says that it is a VIP's ${what} is not answered from`, () => {
      setClock();
      bench.changeVip(OWNED_TEXT, { check: checkOf(change) });
      const { action, counters } = bench.run(program, solicit());
      bench.addVip(OWNED_TEXT, "owned");
      assert.equal([action, counters], ["drop", { nd_not_owned: 1 }]);
    });
  }
}

test("an entry that became another interface's, with that one's MAC, is not answered from", () => {
  using scratch = new Namespaces("isat-t-bpf-stray-");
  using bench = new Bench("isat-t-bpf-astray-", build(copySources(scratch.folder(), blur)));
  bench.addVip(OWNED_TEXT, "owned");
  for (const program of ["isat_ingress", "isat_xdp"] as const) {
    bench.setInterface("live", bytes(OUR_MAC));
    assert.equal(bench.run(program, solicit()).counters, { nd_answered: 1 });
    bench.setInterface("live", bytes(OUR_MAC), "0.0.0.0", { ifindex: strayOf(IFINDEX) });
    assert.equal(bench.run(program, solicit()).counters, { nd_not_owned: 1 });
  }
});

test.after(() => bench[Symbol.dispose]());
test.run();
