/** Random frames in random worlds through the programs and the model, until something differs. */

import { execFileSync } from "node:child_process";
import { inspect } from "node:util";
import { randomOf } from "../../lab/random.ts";
import {
  type InterfaceEntry,
  interfaceEntry,
  nodeState,
  peer as peerLayout,
  probe as probeLayout,
  type WireKey,
} from "../../src/core/abi.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { checkOf } from "../../src/core/vip.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { keyOf as keyOn, mapOf } from "../../src/kernel/vips.ts";
import { makeFrame, makeNd, pcap, pick, shrink } from "./frames.ts";
import { type Expected, egress, ingress, untagged, type World } from "./model.ts";
import { makeSpeech, type SpeechPools } from "./random-speech.ts";
import {
  Bench,
  bytes,
  CLOCKS,
  type Clock,
  HOLDINGS,
  type Holding,
  hex,
  IFINDEX,
  type ProgramName,
  risen,
} from "./run.ts";
import { ETH_P_ISAT, headerOf, isSigned, sign, tagOf } from "./speech.ts";

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
const ADDRESSES6 = [
  "2001:db8::1:1234",
  "2001:db8::1:1235",
  "2001:db8:5::1:1234", // the first one's group
  "fd00::ff00:1234",
  "::",
  "2001:db8::fe",
  "ff02::1",
  "ff02::1:ff01:1234",
  "ff02::1:ff01:1235",
  "fe80::5",
];
const ALL = [...ADDRESSES, ...ADDRESSES6];
const POOLS = {
  ip6s: ADDRESSES6.map((address) => addressBytes(parseAddress(address))),
  macs: [MACS.ours, "ff ff ff ff ff ff", "ff ff ff ff ff ff", ...MACS.others].map(bytes),
  ips: ADDRESSES.map((address) => Uint8Array.from(address.split("."), Number)),
};
const CLUSTER = 0xc1n;
const KEYS: WireKey[] = [
  { k0: 0x0123_4567_89ab_cdefn, k1: 0xfedc_ba98_7654_3210n, id: 1, cluster: CLUSTER },
  { k0: 5n, k1: 0n, id: 2, cluster: CLUSTER },
  { k0: 0n, k1: 6n, id: 3, cluster: CLUSTER },
];
const OLD_KEYS: WireKey[] = [
  { k0: 0x1123_4567_89ab_cdefn, k1: 0xeedc_ba98_7654_3210n, id: 1, cluster: CLUSTER },
  { k0: 7n, k1: 0n, id: 2, cluster: CLUSTER },
];
const NO_KEY: WireKey = { k0: 0n, k1: 0n, id: 0, cluster: 0n };
const OUR_BID = 2n ** 63n;
const LATE = 2n ** 62n;
const SECOND = 1_000_000_000n;
const HOUR = 3600n * SECOND;
const SPEECH_POOLS: SpeechPools = {
  ...POOLS,
  ourMac: bytes(MACS.ours),
  keys: [...KEYS, ...OLD_KEYS, { k0: 8n, k1: 9n, id: 1, cluster: CLUSTER }, NO_KEY],
  nodes: [
    { node: 0x11n, incarnation: 0xa1n, mac: bytes(MACS.ours), name: "n1" },
    { node: 0x12n, incarnation: 0xa2n, mac: bytes("02 15 a7 00 00 02"), name: "n2" },
    { node: 0x12n, incarnation: 0xa2n, mac: bytes("02 15 a7 00 00 02"), name: "n2" },
    { node: 0x13n, incarnation: 0xa3n, mac: bytes("02 15 a7 00 00 03"), name: "n3" },
    { node: 0x12n + (1n << 32n), incarnation: 0xa2n, mac: bytes("02 15 a7 00 00 04"), name: "n4" },
  ],
  incarnations: [0n, 0xa1n, 0xa2n, 0xa3n, 0xa1n + (1n << 32n), 2n ** 64n - 1n],
  // Readings of a clock: one that is old, and some that never are.
  nonces: [1n, LATE + 2n, LATE + 3n, LATE + 4n, LATE + 5n, LATE + 2n + (1n << 32n)],
  hashes: [0n, 1n, OUR_BID - 1n, OUR_BID, OUR_BID + 1n, 2n ** 64n - 1n],
};

export const PROGRAMS: [ProgramName, (frame: Uint8Array, world: World, now: bigint) => Expected][] = [
  ["isat_ingress", ingress],
  ["isat_xdp", ingress],
  ["isat_egress", egress],
];

/** Fills the maps with a random world. */
function settle(bench: Bench, random: () => number, stray: number | undefined): void {
  const chance = (of: number) => random() < of;
  const { maps } = bench;
  const now = bootTime();
  const [, peer] = SPEECH_POOLS.nodes;
  const nonce = () => pick(random, [0n, ...SPEECH_POOLS.nonces]);
  const clock = chance(0.6) ? "live" : pick(random, Object.keys(CLOCKS) as Clock[]);
  const entry: Partial<InterfaceEntry> = {
    node: 0x11n,
    incarnation: 0xa1n,
    node_name: "n1",
    state: chance(0.7) ? nodeState.LIVE : pick(random, [nodeState.JOINING, nodeState.DRAINED, nodeState.LAGGING]),
    source_stale: chance(0.15),
    only_ipv4: chance(0.15),
    ifindex: stray === undefined || chance(0.97) ? IFINDEX : stray,
    is_guard: chance(0.03),
    own: bytes(OWN.padEnd(95, " 00")),
    masks: bytes(chance(0.5) ? MASKS.padEnd(95, " 00") : "00 ".repeat(32)),
    link_local: bytes(chance(0.8) ? "fe 80 00 00 00 00 00 00 00 15 a7 ff fe 00 00 01" : "00 ".repeat(16)),
    hello_nonce: nonce(),
    last_hello_nonce: nonce(),
  };
  const soon = (of: number) => (chance(of) ? now + HOUR : 0n);
  const times: Partial<InterfaceEntry> = { own_ns: soon(0.3), strangers_ns: soon(0.1), foreign_ns: soon(0.3) };
  if (chance(0.3)) times.heard_ns = now - pick(random, [0n, 10_000_000_000n]);
  const address = chance(0.8) ? "10.9.255.1" : "0.0.0.0";
  bench.setInterface(chance(0.95) ? clock : undefined, bytes(MACS.ours), address, { ...entry, ...times });

  bench.clearVips();
  const holdings = Object.keys(HOLDINGS) as Holding[];
  for (const vip of [...ADDRESSES.slice(0, 4), ...ADDRESSES6.slice(0, 4)]) {
    if (chance(0.2)) continue;
    bench.addVip(vip, chance(0.5) ? "owned" : pick(random, holdings), IFINDEX, OUR_BID);
    // Memory that is another entry's by now.
    const key = keyOf(vip);
    const others = chance(0.5) ? { ifindex: IFINDEX + 1 } : { ip: key.ip.map((byte) => byte ^ 1) };
    if (chance(0.04)) bench.changeVip(vip, { check: checkOf({ ...key, ...others }) });
  }
  for (const vip of ["10.9.255.254", "2001:db8::fe"]) bench.addVip(vip, "owned", IFINDEX + 1, OUR_BID);

  for (const map of [maps.peers, maps.probes]) map.deleteMany([...map.entries()].map(([key]) => key));
  for (const { node, incarnation, mac, name } of [peer!, SPEECH_POOLS.nodes[3]!]) {
    const key = { node, ifindex: chance(0.9) ? IFINDEX : IFINDEX + 1, zero: 0 };
    const incarnations = { incarnation: chance(0.85) ? incarnation : pick(random, SPEECH_POOLS.incarnations) };
    if (chance(0.6)) maps.probes.set(key, probeLayout.of({ ...incarnations, nonce: nonce(), last_nonce: nonce() }));
    if (chance(0.3)) continue;
    const age = pick(random, [undefined, 0n, 100_000_000n, 3_000_000_000n, 10_000_000_000n]);
    const entry = peerLayout.of({
      ...{ node: name, mac, ...incarnations },
      state: pick(random, [nodeState.LIVE, nodeState.LIVE, nodeState.JOINING]),
      max_version: chance(0.7) ? 2 : 1,
      interface: chance(0.9) ? "eth0" : "",
      source_stale: chance(0.2),
      only_ipv4: chance(0.2),
      knows_us: chance(0.5),
      echo_nonce: chance(0.7) ? 0n : nonce(),
      stamp_ns: now - pick(random, [0n, 1_000_000_000n]),
      echoed_ns: age === undefined ? 0n : now - age,
      heard_ns: now - (chance(0.5) ? 0n : (age ?? 0n)),
      taken_stamp_ns: chance(0.5) ? 0n : now - pick(random, [100_000_000n, 1_000_000_000n]),
      taken_nonce: pick(random, SPEECH_POOLS.nonces),
      probe_incarnation: chance(0.3) ? 0n : chance(0.8) ? incarnation : pick(random, SPEECH_POOLS.incarnations),
      probe_nonce: chance(0.5) ? 0n : nonce(),
    });
    maps.peers.set(key, entry);
  }
  const keys = chance(0.9) ? KEYS : pick(random, [[], [NO_KEY, ...KEYS], [KEYS[1]!, KEYS[0]!]]);
  const oldKeys = chance(0.8) ? OLD_KEYS : [];
  for (let place = 0; place < 4; place++) {
    maps.keys.set(place, keys[place] ?? NO_KEY);
    maps.keys.set(4 + place, oldKeys[place] ?? NO_KEY);
  }
}

/** The programs' counts, beside the world. */
interface Seen {
  world: World;
  counters: Record<string, bigint>;
  answered: Record<string, bigint>;
}

/** An address in a large subnet of the interface's, and one in a small one. */
const [OWN, MASKS] = ["0a 09 fe 01 0a 09 ff 02", "ff ff ff 00 ff ff 00 00"];
const keyOf = (address: string) => keyOn(IFINDEX, parseAddress(address));
const peerKeyOf = (node: bigint) => ({ node, ifindex: IFINDEX, zero: 0 });
const present = <K, V>(keys: Iterable<K>, get: (key: K) => V | undefined): Map<K, V> =>
  new Map(
    [...keys].flatMap((key) => {
      const value = get(key);
      return value === undefined ? [] : [[key, value] as const];
    }),
  );

/** Reads the entries that a frame may change; after a first look, only those that the programs write. */
function look(bench: Bench, frame?: Uint8Array, before?: World): Seen {
  const { maps } = bench;
  const nodes = nodesOf(frame);
  const entry = bench.interface;
  const { heard_ns, own_ns, strangers_ns, foreign_ns } = entry ?? interfaceEntry.of({});
  const vips = present(ALL, (address) => mapOf(maps, parseAddress(address)).get(keyOf(address)));
  const written = {
    releases: new Map([...vips].map(([address, { released_ns }]) => [address, released_ns])),
    peers: present(new Set([...nodes, ...(before?.peers.keys() ?? [])]), (node) => maps.peers.get(peerKeyOf(node))),
    heard_ns,
    own_ns,
    strangers_ns,
    foreign_ns,
    recent:
      frame && isSpeech(frame) ? maps.recent.get(Bench.placeOf(frame))! : (before?.recent ?? { tag: 0n, ifindex: 0n }),
  };
  const read = (): Omit<World, keyof typeof written> => ({
    interface: entry,
    vips,
    probes: present(nodes, (node) => maps.probes.get(peerKeyOf(node))),
    keys: [0, 1, 2, 3, 4, 5, 6, 7].map((place) => maps.keys.get(place)!),
  });
  return {
    world: { ...(before ?? read()), ...written },
    counters: bench.counters(),
    answered: Object.fromEntries([...vips].map(([address, { answered }]) => [address, answered])),
  };
}

/** Puts what the programs write back to what it was. */
function restore(bench: Bench, { releases, peers, recent, ...times }: World, frame: Uint8Array): void {
  const { maps } = bench;
  const { heard_ns, own_ns, strangers_ns, foreign_ns } = times;
  bench.changeInterface({ heard_ns, own_ns, strangers_ns, foreign_ns });
  maps.peers.deleteMany([...maps.peers.entries()].map(([key]) => key));
  for (const [node, peer] of peers) maps.peers.set(peerKeyOf(node), peer);
  for (const [address, released_ns] of releases) bench.changeVip(address, { released_ns });
  if (!isSpeech(frame)) return;
  bench.forget(frame);
  if (recent.tag === tagOf(frame)) maps.recent.set(Bench.placeOf(frame), recent);
}

/** A frame of the peer protocol, behind a priority tag or not. */
const isSpeech = (frame: Uint8Array) => {
  const bare = untagged(frame);
  return bare.length >= 22 && bare[12] === ETH_P_ISAT[0] && bare[13] === ETH_P_ISAT[1];
};

/** When a stranger was admitted who found the bucket full. */
function admittedAt({ strangers_ns: before }: World, { strangers_ns: after }: World): bigint | undefined {
  const at = after - SECOND / 256n;
  return after === before || before >= at ? undefined : at;
}

/** The difference between a program and the model on one frame, in the world of the maps, and the maps afterwards. */
function compare(
  bench: Bench,
  [program, model]: (typeof PROGRAMS)[number],
  frame: Uint8Array,
  before: Seen,
): { difference: string | undefined; after: Seen } {
  const started = bootTime();
  const { action, out } = bench.execute(program, frame);
  const ended = bootTime();
  const after = look(bench, frame, before.world);
  const isAnswer = action === "answer" && isSpeech(out);
  // The program's own time, as far as it tells.
  const stamp = isAnswer ? headerOf(out).stamp : admittedAt(before.world, after.world);
  const [earliest, latest] = [stamp ?? started, stamp ?? ended];

  /** As text, with the time of the frame as a word, for the model's is another. */
  const inWords = (action: string, bytes: Uint8Array, ...rest: unknown[]) =>
    JSON.stringify(
      // A frame that is dropped goes nowhere: its bytes do not matter.
      [action, action === "drop" ? "" : hex(bytes), ...rest],
      (_, value) => {
        if (typeof value === "bigint") return started <= value && value <= ended ? "now" : `${value}`;
        if (value instanceof Map) return [...value].map(([key, entry]) => [`${key}`, entry]).sort();
        return value instanceof Uint8Array ? hex(value) : value;
      },
    );
  const stateOf = ({ releases, peers, heard_ns, own_ns, strangers_ns, foreign_ns, recent }: World) => ({
    ...{ releases, peers, heard_ns, own_ns, strangers_ns, foreign_ns, recent },
  });
  const counted = [risen(before.counters, after.counters), risen(before.answered, after.answered)];
  const is = inWords(action, out, ...counted, stateOf(after.world));
  const should = (now: bigint) => {
    const { action, frame: left, counters, answers, changes } = model(frame, before.world, now);
    // In the order of the counters in their map.
    const ordered = Object.keys(after.counters).flatMap((name) => {
      const rise = counters[name as keyof typeof counters];
      return rise ? [[name, rise]] : [];
    });
    return inWords(action, left, Object.fromEntries(ordered), answers, stateOf({ ...before.world, ...changes }));
  };
  if (earliest < started || latest > ended)
    return { difference: `the program's stamp is ${earliest}, and it ran at ${started}`, after };
  if (should(earliest) === is || should(latest) === is) return { difference: undefined, after };
  // ARP's clock is read once a jiffy; a second is far more than that.
  const clocks = isSpeech(frame) ? [] : bench.clocks().filter((clock) => started - clock < SECOND);
  if (clocks.some((clock) => should(clock) === is)) return { difference: undefined, after };
  return { difference: `the program: ${is}\n  the model:   ${should(earliest)}`, after };
}

const NODES = SPEECH_POOLS.nodes.map(({ node }) => node);
/** The frame's sender is included, whoever it may be. */
const nodesOf = (frame?: Uint8Array): Set<bigint> =>
  new Set(
    frame && untagged(frame).length >= 96 && isSpeech(frame) ? [...NODES, headerOf(untagged(frame)).node] : NODES,
  );

function describe(frame: Uint8Array): string {
  try {
    return execFileSync("tcpdump", ["-entr", "-"], { input: pcap(frame), encoding: "utf8", stdio: "pipe" }).trim();
  } catch (error) {
    return `tcpdump cannot read it: ${(error as Error).message}`;
  }
}

/**
 * Runs random frames through all programs; what differed first, its frame made small; undefined where nothing did.
 * @param spoken how many of the frames are of the peer protocol: 0 to 1
 * @param stray for programs that are blurred (build.ts): whose number the interface's entry may have instead
 */
export function search(bench: Bench, seed: number, frames: number, spoken: number, stray?: number): string | undefined {
  const random = randomOf(seed);
  const earlier: Uint8Array[] = [];
  let seen!: Seen;
  for (let number = 0; number < frames; number++) {
    if (number % STAY === 0) {
      settle(bench, random, stray);
      seen = look(bench);
    }
    const make = random() < 0.4 ? makeNd : makeFrame;
    const frame = random() < spoken ? makeSpeech(random, SPEECH_POOLS, bootTime(), earlier) : make(random, POOLS);
    // A frame that is played twice is taken once, so each hook has to be the first as often.
    for (const program of random() < 0.5 ? PROGRAMS : PROGRAMS.toReversed()) {
      if (isSpeech(frame)) {
        if (random() < 0.8) bench.forget(frame);
        seen = look(bench, frame, seen.world);
      }
      const { difference, after } = compare(bench, program, frame, seen);
      const before = seen;
      seen = after;
      if (difference === undefined) continue;
      const key = isSpeech(frame) && frame.length >= 16 && before.world.keys.find((key) => isSigned(frame, key));
      const signed = (tried: Uint8Array) => (key && tried.length >= 16 ? sign(tried, key) : tried);
      const differs = (tried: Uint8Array) => {
        const frame = signed(tried);
        restore(bench, before.world, frame);
        return compare(bench, program, frame, look(bench, frame, before.world)).difference;
      };
      const small = signed(shrink(frame, (tried) => differs(tried) !== undefined));
      const world = inspect(before.world, { depth: 4, breakLength: 120 });
      const now = differs(small) ?? `not seen again; at first ${difference}`;
      return `${program[0]}, frame ${number}:\n  ${hex(small)}\n  ${describe(small)}\n  in ${world}\n  ${now}`;
    }
  }
  return undefined;
}
