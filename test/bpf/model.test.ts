// limit: 300 s
/**
 * The compiled programs against the model, on random frames in random worlds: same verdict, same bytes, same counters.
 * The seed is printed; SEED=N npm test -- bpf/model repeats a run.
 */
import { execFileSync } from "node:child_process";
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { ProgramName } from "../../src/kernel/object.ts";
import { Namespaces } from "../lab/namespaces.ts";
import { build, copySources } from "./build.ts";
import { makeFrame, pcap, randomOf, shrink } from "./frames.ts";
import { type Expected, egress, ingress, type World } from "./model.ts";
import { Bench, bytes, CLOCKS, type Clock, hex } from "./run.ts";

const FRAMES = 210_000;
/** Frames in one world before the maps are written anew. */
const STAY = 50;

const MACS = {
  ours: "02 15 a7 00 00 01",
  others: [
    "02 00 5e 10 00 fe",
    "ff ff ff ff ff ff",
    "00 00 00 00 00 00",
    "01 00 5e 00 00 fb",
    "02 15 a7 00 00 00",
    "00 15 a7 00 00 01",
    "02 15 a7 00 01 01",
    "fe ff ff ff ff ff",
  ],
};
const ADDRESSES = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.1.1", "0.0.0.0", "10.9.255.254", "255.255.255.255"];
const POOLS = {
  macs: [MACS.ours, "ff ff ff ff ff ff", "ff ff ff ff ff ff", ...MACS.others].map(bytes),
  ips: ADDRESSES.map((address) => Uint8Array.from(address.split("."), Number)),
};

const PROGRAMS: [ProgramName, (frame: Uint8Array, world: World) => Expected][] = [
  ["isat_ingress", ingress],
  ["isat_xdp", ingress],
  ["isat_egress", egress],
];

/** Writes a random world into the maps. */
function settle(bench: Bench, random: () => number): World {
  const clocks = Object.keys(CLOCKS) as Clock[];
  const clock = random() < 0.6 ? "live" : clocks[Math.floor(random() * clocks.length)]!;
  const address = random() < 0.8 ? "10.9.255.1" : "0.0.0.0";
  const isKnown = random() < 0.95;
  bench.setInterface(isKnown ? clock : undefined, bytes(MACS.ours), address);
  const vips = new Map(
    ADDRESSES.slice(0, 4).flatMap((vip) => (random() < 0.8 ? [[vip, random() < 0.6] as const] : [])),
  );
  bench.clearVips();
  for (const [vip, isOwned] of vips) bench.addVip(vip, isOwned ? "owned" : "not owned");
  return { interface: isKnown ? { mac: MACS.ours, address, clock } : undefined, vips };
}

/** What differs between a program and the model on one frame; undefined where nothing does. */
function difference(bench: Bench, program: ProgramName, expected: Expected, frame: Uint8Array): string | undefined {
  const outcome = bench.run(program, frame);
  // A frame that is dropped goes nowhere: its bytes do not matter.
  const out = outcome.action === "drop" ? "" : outcome.frame;
  const wanted = expected.action === "drop" ? "" : hex(expected.frame);
  const is = JSON.stringify([outcome.action, out, outcome.counters, outcome.answers]);
  const should = JSON.stringify([expected.action, wanted, expected.counters, expected.answers]);
  return is === should ? undefined : `the program: ${is}\n  the model:   ${should}`;
}

function describe(frame: Uint8Array): string {
  try {
    return execFileSync("tcpdump", ["-entr", "-"], { input: pcap(frame), encoding: "utf8", stdio: "pipe" }).trim();
  } catch (error) {
    return `tcpdump cannot read it: ${(error as Error).message}`;
  }
}

/** Runs random frames through all programs; what differed first, its frame made small; undefined where nothing did. */
function search(bench: Bench, seed: number, frames: number): string | undefined {
  const random = randomOf(seed);
  let world: World = { interface: undefined, vips: new Map() };
  bench.countVerdicts();
  for (let number = 0; number < frames; number++) {
    if (number % STAY === 0) world = settle(bench, random);
    const frame = makeFrame(random, POOLS);
    for (const [program, model] of PROGRAMS) {
      const differs = (tried: Uint8Array) => difference(bench, program, model(tried, world), tried);
      if (differs(frame) === undefined) continue;
      const small = shrink(frame, (tried) => differs(tried) !== undefined);
      const state = JSON.stringify({ ...world, vips: Object.fromEntries(world.vips) });
      return `${program}, frame ${number}:\n  ${hex(small)}\n  ${describe(small)}\n  in ${state}\n  ${differs(small)}`;
    }
  }
  return undefined;
}

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
console.log(`MEASURED SEED=${seed}, ${FRAMES} frames through each of ${PROGRAMS.length} programs`);

test(`${FRAMES} random frames: the programs do what the model says`, () => {
  using bench = new Bench("isat-t-bpf-model-");
  assert.is(search(bench, seed, FRAMES), undefined);
});

/** Programs that are wrong on purpose: the comparison must find each. */
const mutants: [what: string, file: string, from: string, to: string][] = [
  ["announcements are answered", "decide.h", "if (same_ip(arp->spa, arp->tpa))\n\t\treturn ANNOUNCEMENT;", ""],
  [
    "the last two bytes of a unicast destination do not matter",
    "parse.h",
    "x[1] == y[1] && x[2] == y[2]",
    "x[1] == y[1]",
  ],
  ["a node that is fenced answers", "decide.h", "if (age > interface->fence_ns)\n\t\treturn FENCED;", ""],
  ["a sender of zeroes is answered", "decide.h", "is_zero(arp->sha) || ", ""],
  ["a VIP of another node is passed on", "decide.h", "verdict == NOT_OWNED_HERE || ", ""],
  [
    "the answer goes to the Ethernet source",
    "decide.h",
    "out->eth.h_dest, request->arp.sha",
    "out->eth.h_dest, request->eth.h_source",
  ],
  [
    "rows 7 and 8 change places",
    "decide.h",
    "if (is_gone(interface, age))\n\t\treturn GONE;",
    "if (is_gone(interface, age) && !is_zero(arp->sha))\n\t\treturn GONE;",
  ],
  ["the protocol's length does not matter", "parse.h", " && arp->protocol_length == 4", ""],
  [
    "the guard does not look at the Ethernet source",
    "egress.bpf.c",
    " &&\n\t    same_mac(frame->eth.h_source, interface->mac)",
    "",
  ],
  ["the guard lets announcements be rewritten", "egress.bpf.c", " && !same_ip(frame->arp.spa, frame->arp.tpa)", ""],
  ["a probe's padding comes back at XDP", "xdp.bpf.c", "*(__u8 *)(data + i) = 0;", ""],
];
for (const [what, file, from, to] of mutants) {
  test(`found: ${what}`, () => {
    using scratch = new Namespaces("isat-t-bpf-mutant-");
    let isEdited = false;
    const folder = copySources(scratch.folder(), (text, name) => {
      if (name !== file) return text;
      isEdited = text.includes(from);
      return text.replace(from, to);
    });
    assert.ok(isEdited, `bpf/${file} does not say: ${from}`);
    using bench = new Bench("isat-t-bpf-model-", build(folder));
    const difference = search(bench, seed, FRAMES / 10);
    assert.ok(difference, "nothing differs");
  });
}

test.run();
