/**
 * The egress filter at TC for Neighbour Discovery: an Advertisement of a VIP, or a Solicitation from one, leaves as it is
 * only if the VIP is owned here and the MACs are ours.
 *
 * Usage: egress-nd.test.ts [OBJECT], to see the rows fail on an object that was broken on purpose.
 */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { checkOf } from "../../src/core/vip.ts";
import { findObject } from "../../src/kernel/object.ts";
import { keyOf } from "../../src/kernel/vips.ts";
import { type NdFields, ndFrame, sumOfMessage } from "./nd.ts";
import { type Action, Bench, bytes, type Clock, type Counters, type Holding, hex, IFINDEX, neighbours } from "./run.ts";

const OUR_MAC = "02 15 a7 00 00 01";
const OTHER_MAC = "02 15 a7 00 00 02";
const CLIENT = "02 00 5e 10 00 fe";
const textIp = (text: string) => hex(addressBytes(parseAddress(text)));
const [OWNED_TEXT, NOT_OWNED_TEXT] = ["2001:db8::1:1234", "2001:db8::1:1235"];
const OWNED = textIp(OWNED_TEXT);
const NOT_OWNED = textIp(NOT_OWNED_TEXT);
const OWNED_ELSEWHERE = textIp("2001:db8::1:1236"); // owned, but on another interface
const CLIENT_IP = textIp("2001:db8::fe");
const LINK_LOCAL = textIp("fe80::15:a7ff:fe00:1");
const NOBODY = textIp("::");
const ALL_NODES = textIp("ff02::1");
const NONCE = "0e 01 a1 a2 a3 a4 a5 a6";

type Fields = Partial<NdFields>;
const FRAME: NdFields = {
  to: "33 33 ff 00 00 fe",
  from: OUR_MAC,
  type: "86 dd",
  version: "60 00 00 00",
  next: "3a",
  hops: "ff",
  source: OWNED,
  destination: textIp("ff02::1:ff00:fe"),
  kind: "87",
  code: "00",
  flags: "00 00 00 00",
  target: CLIENT_IP,
  options: `01 01 ${OUR_MAC}`,
  padding: "",
};
const frame = (fields: Fields) => ndFrame({ ...FRAME, ...fields });

/** A question from the VIP, and the two kinds of claims; with another MAC of its own where one is given. */
const kinds: [what: string, isClaim: boolean, fields: (vip: string, mac?: string) => Fields][] = [
  ["a Solicitation", false, (vip, mac = OUR_MAC) => ({ source: vip, options: `01 01 ${mac}` })],
  [
    "a Solicitation to one host",
    false,
    (vip, mac = OUR_MAC) => ({ source: vip, to: CLIENT, destination: CLIENT_IP, options: `${NONCE} 01 01 ${mac}` }),
  ],
  [
    "a Solicitation for another VIP",
    false,
    (vip, mac = OUR_MAC) => ({
      source: vip,
      target: vip === OWNED ? NOT_OWNED : OWNED,
      options: `01 01 ${mac}`,
    }),
  ],
  [
    "an answer",
    true,
    (vip, mac = OUR_MAC) => ({
      kind: "88",
      flags: "60 00 00 00",
      to: CLIENT,
      source: vip,
      destination: CLIENT_IP,
      target: vip,
      options: `02 01 ${mac}`,
    }),
  ],
  [
    "an announcement",
    true,
    (vip, mac = OUR_MAC) => ({
      kind: "88",
      flags: "20 00 00 00",
      to: "33 33 00 00 00 01",
      source: LINK_LOCAL,
      destination: ALL_NODES,
      target: vip,
      options: `02 01 ${mac}`,
    }),
  ],
];

interface Row {
  what: string;
  fields: Fields;
  action: Action;
  counters?: Counters;
  /** The source with which it leaves; undefined: as it was. */
  source?: string;
  clock?: Clock | "no entry";
  /** The interface has no link-local address. */
  isBare?: boolean;
}

const untouched = (what: string, fields: Fields, more: Partial<Row> = {}): Row => ({
  what: `${what} leaves untouched`,
  fields,
  action: "pass",
  ...more,
});

/** The outcome for each of the kinds where this node may not claim the VIP with this frame. */
const guarded = (why: string, vip: string, change: Fields = {}, mac = OUR_MAC, more: Partial<Row> = {}): Row[] =>
  kinds.map(([kind, isClaim, fields]): Row => {
    const common = { fields: { ...fields(vip, mac), ...change }, ...more };
    if (isClaim || more.isBare)
      return { what: `${kind} is dropped ${why}`, action: "drop", counters: { egress_dropped: 1 }, ...common };
    return {
      what: `${kind} goes out under the link-local address ${why}`,
      action: "pass",
      counters: { egress_rewritten: 1 },
      source: LINK_LOCAL,
      ...common,
    };
  });

const rows: Row[] = [
  ...kinds.map(([kind, , fields]) =>
    untouched(`${kind}, where the VIP is owned here and the MACs are ours,`, fields(OWNED), {
      counters: { egress_claimed: 1 },
    }),
  ),
  ...kinds.map(([kind, , fields]) =>
    untouched(
      `${kind} without options, where the VIP is owned here,`,
      { ...fields(OWNED), options: "" },
      {
        counters: { egress_claimed: 1 },
      },
    ),
  ),
  ...guarded("where another node owns the VIP", NOT_OWNED),
  ...guarded("where another node owns the VIP and no MAC is told", NOT_OWNED, { options: "" }),
  ...guarded("where the VIP is owned here and the option tells another MAC", OWNED, {}, OTHER_MAC),
  ...guarded("where the VIP is owned here and the frame's source is another MAC", OWNED, { from: OTHER_MAC }),
  ...guarded("where the VIP is owned here and both MACs are another's", OWNED, { from: OTHER_MAC }, OTHER_MAC),
  ...guarded("where the options end nowhere", OWNED, { options: "01 09 02 15 a7 00 00 01" }),
  ...guarded("where the options are too many", OWNED, { options: Array(5).fill(NONCE).join(" ") }),
  ...guarded("past the fence, though the VIP is owned here", OWNED, {}, OUR_MAC, { clock: "fenced" }),
  ...guarded("past the fence, where another node owns the VIP", NOT_OWNED, {}, OUR_MAC, { clock: "fenced" }),
  ...guarded("where isat is gone but its peers are heard", OWNED, {}, OUR_MAC, {
    clock: "fenced for as long, and a peer was heard",
  }),
  ...guarded("as the interface has no link-local address", NOT_OWNED, {}, OUR_MAC, { isBare: true }),
  ...["81 00 00 00", "81 00 e0 00", "88 a8 00 00"].flatMap((tag) => [
    ...guarded(`behind a priority tag (${tag})`, NOT_OWNED, { type: `${tag} 86 dd` }),
  ]),
  {
    what: "Neighbour Discovery behind two priority tags is dropped",
    fields: { type: "81 00 00 00 88 a8 20 00 86 dd" },
    action: "drop",
    counters: { egress_dropped: 1 },
  },
  ...kinds.flatMap(([kind, , fields]) => [
    untouched(`${kind} of an address that is no VIP`, fields(CLIENT_IP)),
    untouched(`${kind} of another interface's VIP`, fields(OWNED_ELSEWHERE)),
    untouched(`${kind} behind a VLAN tag`, { ...fields(NOT_OWNED), type: "81 00 00 05 86 dd" }),
    ...(["no entry", "never ticked", "gone", "gone, by limits in the wrong order"] as const).map((clock) =>
      untouched(`${kind}, where the interface is: ${clock},`, fields(NOT_OWNED), { clock }),
    ),
  ]),
  untouched("a Solicitation for a VIP from the interface's own address", { source: LINK_LOCAL, target: NOT_OWNED }),
  untouched("duplicate address detection of a VIP", { source: NOBODY, target: NOT_OWNED, options: NONCE }),
  untouched("an Advertisement from a VIP of another address", { kind: "88", source: NOT_OWNED, target: CLIENT_IP }),
  ...(
    [
      ["other ICMPv6", { kind: "80" }],
      ["a Router Advertisement", { kind: "86" }],
      ["TCP", { next: "06" }],
    ] as const
  ).map(([what, fields]) => untouched(`${what} from a VIP`, { source: NOT_OWNED, ...fields })),
  ...[...neighbours(NOT_OWNED)]
    .filter(([, source]) => ![OWNED, OWNED_ELSEWHERE].includes(source))
    .map(([bit, source]) => untouched(`a Solicitation from the VIP but for bit ${bit}`, { source })),
  ...[...neighbours(OUR_MAC)].flatMap(([bit, mac]): Row[] => [
    {
      what: `an Advertisement whose option is our MAC but for bit ${bit} is dropped`,
      fields: kinds[4]![2](OWNED, mac),
      action: "drop",
      counters: { egress_dropped: 1 },
    },
    {
      what: `an Advertisement whose frame comes from our MAC but for bit ${bit} is dropped`,
      fields: { ...kinds[4]![2](OWNED), from: mac },
      action: "drop",
      counters: { egress_dropped: 1 },
    },
  ]),
];

const bench = new Bench("isat-t-bpf-egress-nd-", process.argv[2] ?? findObject());
bench.addVip(OWNED_TEXT, "owned");
bench.addVip(NOT_OWNED_TEXT, "not owned");
bench.addVip("2001:db8::1:1236", "owned", 2);

const settle = (clock: Clock | "no entry" = "live", isBare = false) =>
  bench.setInterface(clock === "no entry" ? undefined : clock, bytes(OUR_MAC), "10.9.255.1", {
    link_local: isBare ? new Uint8Array(16) : bytes(LINK_LOCAL),
  });

for (const { what, fields, action, counters = {}, source, clock, isBare } of rows) {
  test(what, () => {
    settle(clock, isBare);
    const tag = fields.type?.length === 17 ? fields.type.slice(0, 11) : undefined;
    // A checksum is that of a frame without a tag.
    const tagged = (bare: Uint8Array) =>
      tag ? Uint8Array.of(...bare.subarray(0, 12), ...bytes(tag), ...bare.subarray(12)) : bare;
    const sent = tagged(frame(tag ? { ...fields, type: "86 dd" } : fields));
    const out = source === undefined ? sent : tagged(frame({ ...fields, type: "86 dd", source }));
    assert.equal(bench.run("isat_egress", sent), { action, counters, frame: hex(out), answers: {} });
  });
}

test("each address of 16 random bytes leaves a right checksum behind", () => {
  settle();
  for (let i = 0; i < 500; i++) {
    const target = hex(Uint8Array.from({ length: 16 }, () => Math.floor(Math.random() * 256)));
    const { action, frame: out } = bench.run("isat_egress", frame({ source: NOT_OWNED, target }));
    assert.is(action, "pass");
    assert.is(sumOfMessage(bytes(out)), 0xffff, target);
  }
});

for (const [holding, isClaimed] of [
  ["owned again", true],
  ["owned, and released since", false],
  ["claiming", true],
  ["undecided", true],
  ["leaving", true],
  ["left", false],
] as [Holding, boolean][]) {
  test(`an announcement of a VIP that is ${holding} ${isClaimed ? "leaves" : "is dropped"}`, () => {
    settle();
    bench.addVip(OWNED_TEXT, holding);
    const { counters } = bench.run("isat_egress", frame(kinds[4]![2](OWNED)));
    bench.addVip(OWNED_TEXT, "owned");
    assert.equal(counters, isClaimed ? { egress_claimed: 1 } : { egress_dropped: 1 });
  });
}

test("an entry that says that it is another VIP's lets no claim leave", () => {
  settle();
  const key = keyOf(IFINDEX, parseAddress(OWNED_TEXT));
  for (const change of [{ ip: addressBytes(parseAddress(NOT_OWNED_TEXT)) }, { ifindex: IFINDEX + 1 }]) {
    bench.changeVip(OWNED_TEXT, { check: checkOf({ ...key, ...change }) });
    const { counters } = bench.run("isat_egress", frame(kinds[4]![2](OWNED)));
    bench.addVip(OWNED_TEXT, "owned");
    assert.equal(counters, { egress_dropped: 1 });
  }
});

test("an answer of isat's own is known by its mark, and leaves unread and uncounted", () => {
  settle();
  const cb = new Uint8Array(20);
  const asked = frame({ to: "33 33 ff 01 12 34", from: CLIENT, source: CLIENT_IP, target: OWNED, options: "" });
  const { action, out } = bench.execute("isat_ingress", asked, { cb });
  assert.is(action, "answer");
  bench.addVip(OWNED_TEXT, "not owned");
  assert.equal(bench.run("isat_egress", out, { cb }).counters, {});
  assert.equal(bench.run("isat_egress", out).counters, { egress_dropped: 1 });
  bench.addVip(OWNED_TEXT, "owned");
});

test.after(() => bench[Symbol.dispose]());
test.run();
