import type { InterfaceEntry, Verdicts } from "../../src/core/abi.ts";
import { NO_VERDICTS, vipState } from "../../src/core/abi.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { formatMac } from "../../src/core/frame.ts";
import { ffi } from "../../src/ffi/ffi.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { check, libbpf } from "../../src/kernel/libbpf.ts";
import { findObject, type LoadedObject, loadObject, type Maps, type ProgramName } from "../../src/kernel/object.ts";
import { Namespaces } from "../lab/namespaces.ts";

/**
 * BPF_PROG_TEST_RUN without a context runs a program as on `lo`, whose ifindex is 1 in every network namespace, at TC and
 * at XDP alike (net/bpf/test_run.c). Nothing arrives on the real `lo`; only the maps' entries have to name it.
 */
export const IFINDEX = 1;

/** What a program returns, in words; a number that is not among them fails every row. */
const ACTIONS: Record<ProgramName, Record<number, Action>> = {
  isat_ingress: { [-1]: "pass", 2: "drop", 7: "answer" }, // TCX_NEXT, TCX_DROP, TCX_REDIRECT
  isat_egress: { [-1]: "pass", 2: "drop" },
  isat_xdp: { 1: "drop", 2: "pass", 3: "answer" }, // XDP_DROP, XDP_PASS, XDP_TX
  isat_xdp_probe: { 3: "answer" },
};
export type Action = "pass" | "drop" | "answer";

/** The names of the counters, of which an outcome shows those that rose. */
export type Counters = Partial<Record<Exclude<keyof Verdicts, "interface">, number>>;

export interface Outcome {
  action: Action | `action ${number}`;
  /** The frame as the program left it, in hex, byte by byte. */
  frame: string;
  /** By how much each counter rose; one that stayed is not named. */
  counters: Counters;
  /** By how much the answers of each VIP rose. */
  answers: Record<string, number>;
}

/** `02 15 a7` as bytes; whatever is no hex digit only separates. */
export const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replace(/[^0-9a-f]/gi, ""), "hex"));

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

/**
 * What the tick's age says, by limits so far from each other that neither the machine's uptime nor a pause of this process
 * plays a part.
 */
export const CLOCKS = {
  live: { age: 0n, fence: 3_600_000_000_000n, gone: 7_200_000_000_000n },
  "ticked a moment after this frame": { age: -3_600_000_000_000n, fence: 1n, gone: 2n },
  fenced: { age: 1_000_000n, fence: 1_000n, gone: 3_600_000_000_000n },
  gone: { age: 1_000_000n, fence: 1_000n, gone: 2_000n },
  "gone, by limits in the wrong order": { age: 1_000_000n, fence: 3_600_000_000_000n, gone: 2_000n },
  "never ticked": { age: undefined, fence: 3_600_000_000_000n, gone: 7_200_000_000_000n },
  // CLOCK_BOOTTIME of a machine is less than 2^62 ns: no limit is ever reached
  "never ticked, without limits": { age: undefined, fence: 2n ** 63n, gone: 2n ** 63n },
} as const;
export type Clock = keyof typeof CLOCKS;

/** One loaded object with maps of its own, and programs that are run on frames. */
export class Bench implements Disposable {
  readonly #namespaces: Namespaces;
  readonly #object: LoadedObject;
  readonly maps: Maps;

  /** @param object a file compiled by scripts/build-bpf */
  constructor(prefix: string, object = findObject()) {
    this.#namespaces = new Namespaces(prefix);
    this.#object = loadObject(object, this.#namespaces.bpffs());
    this.maps = this.#object.maps;
  }

  /** The interface on which the frames arrive; undefined removes it. */
  setInterface(clock: Clock | undefined, mac: Uint8Array, address = "0.0.0.0"): void {
    this.maps.interfaces.deleteMany([IFINDEX]);
    if (clock === undefined) return;
    const { age, fence, gone } = CLOCKS[clock];
    const entry: InterfaceEntry = {
      name: "test0",
      mac_text: formatMac(mac),
      mac,
      address: addressBytes(parseAddress(address)),
      netns: 0,
      vlan_strip_off: false,
      tick_ns: age === undefined ? 0n : bootTime() - age,
      fence_ns: fence,
      gone_ns: gone,
    };
    this.maps.interfaces.set(IFINDEX, entry);
  }

  /** Manages an address, and counts for it. */
  addVip(address: string, state: "owned" | "not owned", ifindex = IFINDEX): void {
    const key = { ip: addressBytes(parseAddress(address)), ifindex };
    const isOwned = state === "owned";
    this.maps.vips.set(key, { state: isOwned ? vipState.OWNED : vipState.NOT_OWNED, interface: "test0" });
    this.maps.answers.set(key, { answered: 0n, last_answer_ns: 0n });
  }

  /** Manages nothing any more. */
  clearVips(): void {
    for (const map of [this.maps.vips, this.maps.answers]) map.deleteMany([...map.entries()].map(([key]) => key));
  }

  /** Begins to count the verdicts of the interface. */
  countVerdicts(): void {
    this.maps.verdicts.set(IFINDEX, { ...NO_VERDICTS, interface: "test0" });
  }

  /** Runs the program once on the frame, which has 14 bytes at least: the kernel runs it on no less. */
  run(program: ProgramName, frame: Uint8Array): Outcome {
    const countersBefore = this.#counters();
    const answersBefore = this.#answers();
    const { returned, out } = this.#testRun(program, frame);
    const counters = this.#counters();
    const answers = this.#answers();
    return {
      action: ACTIONS[program][returned] ?? `action ${returned}`,
      frame: hex(out),
      counters: risen(countersBefore, counters),
      answers: risen(answersBefore, answers),
    };
  }

  #testRun(program: ProgramName, frame: Uint8Array): { returned: number; out: Uint8Array } {
    const out = new Uint8Array(frame.length + 256);
    const options = new Uint8Array(80); // struct bpf_test_run_opts
    const view = new DataView(options.buffer);
    view.setBigUint64(0, BigInt(options.length), true);
    view.setBigUint64(8, ffi.address(frame), true);
    view.setBigUint64(16, ffi.address(out), true);
    view.setUint32(24, frame.length, true);
    view.setUint32(28, out.length, true);
    view.setInt32(60, 1, true); // repeat
    check(
      `Cannot run ${program} on ${frame.length} bytes`,
      libbpf.bpf_prog_test_run_opts(this.#object.programs[program].number, options),
    );
    return { returned: view.getInt32(56, true), out: out.slice(0, view.getUint32(28, true)) };
  }

  #counters(): Record<string, bigint> {
    const { interface: _name, ...counters } = this.maps.verdicts.get(IFINDEX) ?? { interface: "" };
    return counters;
  }

  #answers(): Record<string, bigint> {
    const entries = [...this.maps.answers.entries()].filter(([{ ifindex }]) => ifindex === IFINDEX);
    return Object.fromEntries(entries.map(([{ ip }, { answered }]) => [ip.join("."), answered]));
  }

  [Symbol.dispose](): void {
    this.#object[Symbol.dispose]();
    this.#namespaces[Symbol.dispose]();
  }
}

function risen(before: Record<string, bigint>, after: Record<string, bigint>): Record<string, number> {
  const changes = Object.entries(after).map(([name, count]) => [name, Number(count - (before[name] ?? 0n))] as const);
  return Object.fromEntries(changes.filter(([, change]) => change !== 0));
}
