import { Namespaces } from "../../lab/namespaces.ts";
import {
  COUNTERS,
  type Counter,
  type InterfaceEntry,
  interfaceEntry,
  nodeState,
  RECENT,
  type Vip,
  vip,
  vipState,
} from "../../src/core/abi.ts";
import { addressBytes, addressOfBytes, formatAddress, parseAddress } from "../../src/core/address.ts";
import { formatMac } from "../../src/core/arp.ts";
import { checkOf } from "../../src/core/vip.ts";
import { ffi } from "../../src/ffi/ffi.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { check, libbpf } from "../../src/kernel/libbpf.ts";
import {
  type ProgramName as AnyProgram,
  findObject,
  type LoadedObject,
  loadObject,
  type Maps,
} from "../../src/kernel/object.ts";
import { keyOf, mapOf } from "../../src/kernel/vips.ts";
import type { Writer } from "../../src/kernel/writer.ts";
import { bytes } from "./nd.ts";
import { IFINDEX, tagOf } from "./speech.ts";

export { bytes, IFINDEX };

/** The programs that decide on frames. */
export type ProgramName = Exclude<AnyProgram, `isat_write_${string}`>;

/** A program's return values, in words; any other number fails every row. */
const ACTIONS: Record<ProgramName, Record<number, Action>> = {
  isat_ingress: { [-1]: "pass", 2: "drop", 7: "answer" }, // TCX_NEXT, TCX_DROP, TCX_REDIRECT
  isat_egress: { [-1]: "pass", 2: "drop" },
  isat_xdp: { 1: "drop", 2: "pass", 3: "answer" }, // XDP_DROP, XDP_PASS, XDP_TX
  isat_xdp_probe: { 3: "answer" },
};
export type Action = "pass" | "drop" | "answer";

/** The names of the counters, of which an outcome shows those that rose. */
export type Counters = Partial<Record<Counter, number>>;

export interface Outcome {
  action: Action | `action ${number}`;
  /** The frame as the program left it, in hex, byte by byte. */
  frame: string;
  /** By how much each counter rose; one that stayed is not named. */
  counters: Counters;
  /** By how much the answers of each VIP rose. */
  answers: Record<string, number>;
}

/** Bytes as `02 15 a7`. */
export const hex = (frame: Uint8Array): string =>
  Array.from(frame, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

/** The MAC or IP with one bit turned over, for every bit: a comparison that skips some of them shows. */
export function* neighbours(field: string): Generator<[bit: number, field: string]> {
  for (let bit = 0; bit < bytes(field).length * 8; bit++) {
    const changed = bytes(field);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    yield [bit, hex(changed)];
  }
}

const SECOND = 1_000_000_000n;
const HOUR = 3600n * SECOND;
/** An age of many jiffies, because the programs may read the clock once in a jiffy only; and limits that it has passed. */
const AGE = SECOND;
const PASSED = 1000n;

/**
 * States by the tick's age. The limits are so far from each other that neither the machine's uptime nor a pause of this
 * process plays a part. A peer that is heard was heard an hour from now: a moment ago, however long the test takes.
 */
export const CLOCKS = {
  live: { age: 0n, live: HOUR, hold: HOUR, fence: HOUR, gone: HOUR },
  "ticked a moment after this frame": { age: -HOUR, live: 1n, hold: 1n, fence: 1n, gone: 2n },
  "at its limits": { age: -HOUR, live: 0n, hold: 0n, fence: 0n, gone: 0n }, // the age is zero, whenever the frame comes
  headless: { age: AGE, live: PASSED, hold: HOUR, fence: HOUR, gone: HOUR },
  "past hold": { age: AGE, live: PASSED, hold: PASSED, fence: HOUR, gone: HOUR },
  fenced: { age: AGE, live: PASSED, hold: PASSED, fence: PASSED, gone: HOUR },
  gone: { age: AGE, live: PASSED, hold: PASSED, fence: PASSED, gone: PASSED },
  "gone, and a peer was heard long ago": { age: AGE, live: 1n, hold: 1n, fence: 1n, gone: PASSED, heard: -AGE },
  "gone, by limits in the wrong order": { age: AGE, live: HOUR, hold: HOUR, fence: HOUR, gone: PASSED },
  "fenced for as long, and a peer was heard": {
    age: AGE,
    live: 1n,
    hold: 1n,
    fence: PASSED,
    gone: PASSED,
    heard: HOUR,
  },
  "not fenced for as long, and a peer was heard": { age: AGE, live: 1n, hold: 1n, fence: HOUR, gone: 1n, heard: HOUR },
  "never ticked": { age: undefined, live: HOUR, hold: HOUR, fence: HOUR, gone: HOUR },
  "never ticked, and a peer was heard": { age: undefined, live: 1n, hold: 1n, fence: HOUR, gone: HOUR, heard: HOUR },
  // CLOCK_BOOTTIME of a machine is less than 2^62 ns: no limit is ever reached
  "never ticked, without limits": {
    age: undefined,
    live: 2n ** 63n,
    hold: 2n ** 63n,
    fence: 2n ** 63n,
    gone: 2n ** 63n,
  },
} as const satisfies Record<string, ClockState>;
interface ClockState {
  /** The age of the last tick, ns; undefined: there was none. */
  age: bigint | undefined;
  live: bigint;
  hold: bigint;
  fence: bigint;
  gone: bigint;
  /** When a peer was last heard, ns from now; undefined: never. */
  heard?: bigint;
}
export type Clock = keyof typeof CLOCKS;

/** The tick's age that an echo tells, in tenths of a second. */
export function tickAgeOf(clock: Clock): number {
  const { age } = CLOCKS[clock];
  return age === undefined ? 65_535 : Math.max(0, Number(age / (SECOND / 10n)));
}

/** The entry of an address, at a time, and when it was last released. */
type At = (now: bigint) => { entry: Partial<Vip>; released: bigint };
const { NOT_OWNED, OWNED, CLAIMING, LEAVING, UNDECIDED } = vipState;

export const HOLDINGS = {
  owned: (now) => ({ entry: { state: OWNED, claim_ns: now }, released: 0n }),
  "owned again": (now) => ({ entry: { state: OWNED, claim_ns: now }, released: now - 1n }),
  "owned, and released since": (now) => ({ entry: { state: OWNED, claim_ns: now - 1n }, released: now }),
  "owned, and released in that instant": (now) => ({ entry: { state: OWNED, claim_ns: now }, released: now }),
  "owned, without a claim": () => ({ entry: { state: OWNED, claim_ns: 0n }, released: 0n }),
  "not owned": (now) => ({ entry: { state: NOT_OWNED, claim_ns: now }, released: 0n }),
  undecided: () => ({ entry: { state: UNDECIDED }, released: 0n }),
  claiming: (now) => ({ entry: { state: CLAIMING, state_ns: now }, released: 0n }),
  "claiming, and released since": (now) => ({ entry: { state: CLAIMING, state_ns: now - 1n }, released: now }),
  leaving: (now) => ({ entry: { state: LEAVING, claim_ns: now, state_ns: now + HOUR }, released: 0n }),
  "leaving, and released since": (now) => ({
    entry: { state: LEAVING, claim_ns: now - 1n, state_ns: now + HOUR },
    released: now,
  }),
  "owned, and released a moment to come": (now) => ({
    entry: { state: OWNED, claim_ns: now + 2n * HOUR },
    released: now + HOUR,
  }),
  "not owned, and released a moment to come": () => ({ entry: { state: NOT_OWNED }, released: bootTime() + HOUR }),
  "owned, by a claim of a moment to come": (now) => ({ entry: { state: OWNED, claim_ns: now + HOUR }, released: 0n }),
  left: (now) => ({ entry: { state: LEAVING, claim_ns: now, state_ns: now - AGE }, released: 0n }),
} as const satisfies Record<string, At>;
export type Holding = keyof typeof HOLDINGS;

/** The action on a question, by ARP or a Solicitation, for a VIP with such an entry. */
export const QUESTIONED: readonly (readonly [Holding, Action])[] = [
  ["owned", "answer"],
  ["owned again", "answer"],
  ["owned, and released since", "drop"],
  ["owned, and released in that instant", "drop"],
  ["owned, without a claim", "drop"],
  ["claiming", "pass"],
  ["claiming, and released since", "drop"],
  ["undecided", "pass"],
  ["leaving", "answer"],
  ["leaving, and released since", "drop"],
  ["left", "drop"],
];

/** The bytes that a program at TC reads and writes beside the frame: skb->cb, 20 bytes. */
export interface Context {
  readonly cb: Uint8Array;
}
/** struct __sk_buff */
const SKB_SIZE = 192;
const SKB_CB = 48;

/** One loaded object with maps of its own, and programs that are run on frames. */
export class Bench implements Disposable {
  readonly #namespaces: Namespaces;
  readonly #object: LoadedObject;
  readonly maps: Maps;
  readonly writer: Writer;

  /** @param object a file compiled by scripts/build-bpf */
  constructor(prefix: string, object = findObject()) {
    this.#namespaces = new Namespaces(prefix);
    try {
      this.#object = loadObject(object, this.#namespaces.bpffs());
    } catch (error) {
      this.#namespaces[Symbol.dispose]();
      throw error;
    }
    this.maps = this.#object.maps;
    this.writer = this.#object.writer;
  }

  /** The place of the interface on which the frames arrive. */
  get #place(): number {
    return (this.#isAstray ? undefined : this.maps.interfaces.placeOf(IFINDEX)) ?? IFINDEX;
  }
  /** The entry in the interface's place says that it is another one's. */
  #isAstray = false;

  /** What the map says of that interface; undefined where it says nothing. */
  get interface(): InterfaceEntry | undefined {
    const entry = this.maps.interfaces.places.get(this.#place);
    return entry?.ifindex === 0 ? undefined : entry;
  }

  /** Changes some of that, as if it had been so from the start. */
  changeInterface(changes: Partial<InterfaceEntry>): void {
    const entry = this.interface;
    if (entry) this.maps.interfaces.places.set(this.#place, { ...entry, ...changes });
  }

  /** The interface on which the frames arrive, of a live node if its clock is; undefined removes it. */
  setInterface(
    clock: Clock | undefined,
    mac: Uint8Array,
    address = "0.0.0.0",
    more: Partial<InterfaceEntry> = {},
  ): void {
    const { interfaces } = this.maps;
    for (const [place, { ifindex }] of interfaces.places.entries())
      if (ifindex !== 0) interfaces.places.set(place, interfaceEntry.of({}));
    this.#isAstray = more.ifindex !== undefined && more.ifindex !== IFINDEX;
    if (clock === undefined) return;
    const { age, live, hold, fence, gone, heard }: ClockState = CLOCKS[clock];
    const entry = interfaceEntry.of({
      ifindex: IFINDEX,
      name: "test0",
      mac_text: formatMac(mac),
      mac,
      address: addressBytes(parseAddress(address)),
      state: nodeState.LIVE,
      tick_ns: age === undefined ? 0n : bootTime() - age,
      live_ns: live,
      hold_ns: hold,
      fence_ns: fence,
      gone_ns: gone,
      heard_ns: heard === undefined ? 0n : bootTime() + heard,
      ...more,
    });
    interfaces.set(IFINDEX, entry);
  }

  /** Manages an address, and counts for it. */
  addVip(address: string, holding: Holding, ifindex = IFINDEX, hash = 0n): void {
    const ip = parseAddress(address);
    const { entry, released } = HOLDINGS[holding](bootTime());
    const key = keyOf(ifindex, ip);
    mapOf(this.maps, ip).set(key, vip.of({ check: checkOf(key), hash, ...entry, released_ns: released }));
  }

  /** Changes some fields of an address's entry. */
  changeVip(address: string, changes: Partial<Vip>): void {
    const ip = parseAddress(address);
    const map = mapOf(this.maps, ip);
    map.set(keyOf(IFINDEX, ip), { ...map.get(keyOf(IFINDEX, ip))!, ...changes });
  }

  /** Manages nothing any more. */
  clearVips(): void {
    for (const map of [this.maps.vips, this.maps.vips6]) map.deleteMany([...map.entries()].map(([key]) => key));
  }

  /** The key in `recent` of a frame of the peer protocol. */
  static placeOf = (frame: Uint8Array): number => Number(tagOf(frame) % BigInt(RECENT));

  /** As if this frame had not come lately. */
  forget(frame: Uint8Array): void {
    this.maps.recent.set(Bench.placeOf(frame), { tag: 0n, ifindex: 0n });
  }

  /** Runs the program once on the frame, which has 14 bytes at least: the kernel runs it on no less. */
  run(program: ProgramName, frame: Uint8Array, context?: Context): Outcome {
    const countersBefore = this.counters();
    const answersBefore = this.#answers();
    const { action, out } = this.execute(program, frame, context);
    const counters = this.counters();
    const answers = this.#answers();
    return {
      action,
      frame: hex(out),
      counters: risen(countersBefore, counters),
      answers: risen(answersBefore, answers),
    };
  }

  /** Runs the program once, without a look at the maps. */
  execute(program: ProgramName, frame: Uint8Array, context?: Context): { action: Outcome["action"]; out: Uint8Array } {
    const { returned, out } = this.#testRun(program, frame, context);
    return { action: ACTIONS[program][returned] ?? `action ${returned}`, out };
  }

  #testRun(program: ProgramName, frame: Uint8Array, context?: Context): { returned: number; out: Uint8Array } {
    const out = new Uint8Array(frame.length + 256);
    const options = new Uint8Array(80); // struct bpf_test_run_opts
    const view = new DataView(options.buffer);
    view.setBigUint64(0, BigInt(options.length), true);
    view.setBigUint64(8, ffi.address(frame), true);
    view.setBigUint64(16, ffi.address(out), true);
    view.setUint32(24, frame.length, true);
    view.setUint32(28, out.length, true);
    view.setInt32(60, 1, true); // repeat
    const skb = new Uint8Array(SKB_SIZE);
    if (context) {
      skb.set(context.cb, SKB_CB);
      for (const at of [32, 40]) view.setBigUint64(at, ffi.address(skb), true); // in and out
      for (const at of [48, 52]) view.setUint32(at, skb.length, true);
    }
    check(
      `Cannot run ${program} on ${frame.length} bytes`,
      libbpf.bpf_prog_test_run_opts(this.#object.programs[program].number, options),
    );
    context?.cb.set(skb.subarray(SKB_CB, SKB_CB + context.cb.length));
    return { returned: view.getInt32(56, true), out: out.slice(0, view.getUint32(28, true)) };
  }

  /** The clock by which each CPU last decided on an ARP frame of the interface. */
  clocks(): bigint[] {
    const values = this.maps.verdicts.perCpu(this.#place);
    return values.map(({ clock_ns }) => clock_ns);
  }

  /** Has each CPU a value of its own at a place of `verdicts`. */
  setVerdicts(place: number, values: readonly Uint8Array[]): void {
    const { number } = this.maps.verdicts.fd;
    const key = new Uint8Array(Uint32Array.of(place).buffer);
    check("Cannot write verdicts", libbpf.bpf_map_update_elem(number, key, Buffer.concat(values), 0n));
  }

  /** What was counted on the interface. */
  counters(): Record<string, bigint> {
    const counted = this.maps.verdicts.at(this.#place);
    return Object.fromEntries(COUNTERS.map((name) => [name, counted[name]]));
  }

  #answers(): Record<string, bigint> {
    const entries = [...this.maps.vips.entries(), ...this.maps.vips6.entries()];
    const its = entries.filter(([{ ifindex }]) => ifindex === IFINDEX);
    return Object.fromEntries(its.map(([{ ip }, { answered }]) => [formatAddress(addressOfBytes(ip)), answered]));
  }

  [Symbol.dispose](): void {
    this.#object[Symbol.dispose]();
    this.#namespaces[Symbol.dispose]();
  }
}

export function risen(before: Record<string, bigint>, after: Record<string, bigint>): Record<string, number> {
  const changes = Object.entries(after).map(([name, count]) => [name, Number(count - (before[name] ?? 0n))] as const);
  return Object.fromEntries(changes.filter(([, change]) => change !== 0));
}
