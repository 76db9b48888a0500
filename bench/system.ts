import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { ffi } from "../src/ffi/ffi.ts";
import { libc as base, errnoName } from "../src/ffi/libc.ts";
import { fn } from "../src/ffi/port.ts";

/** Functions of libc that only the benchmarks call. */
export const libc = ffi.open(null, {
  sched_setaffinity: fn(["i32", "u64", "buffer"], "i32"),
  sched_getaffinity: fn(["i32", "u64", "buffer"], "i32"),
  sendmmsg: fn(["i32", "buffer", "u32", "i32"], "i32"),
  recvmsg: fn(["i32", "buffer", "i32"], "i64"),
  if_nametoindex: fn(["string"], "u32"),
});

const MASK_BYTES = 128;

/** The CPUs on which this thread may run. */
function allowed(): number[] {
  const mask = new Uint8Array(MASK_BYTES);
  libc.sched_getaffinity(0, MASK_BYTES, mask);
  return Array.from({ length: MASK_BYTES * 8 }, (_, cpu) => cpu).filter((cpu) => mask[cpu >> 3]! & (1 << (cpu & 7)));
}

/** The CPUs of this run, before any pinning. */
export const CPUS: readonly number[] = allowed();
/** The CPU on which requests are sent. Answers by the kernel come from it too. */
export const SENDER_CPU = CPUS.at(-1)!;
/** The CPU for other load: not the same, if there are two. */
export const OTHER_CPU = CPUS[0]!;

/** Keeps this thread on the CPUs until the result is disposed of. */
export function pin(...chosen: readonly number[]): Disposable {
  set(chosen);
  return { [Symbol.dispose]: () => set(CPUS) };
}

function set(chosen: readonly number[]): void {
  const mask = new Uint8Array(MASK_BYTES);
  for (const cpu of chosen) mask[cpu >> 3]! |= 1 << (cpu & 7);
  if (libc.sched_setaffinity(0, MASK_BYTES, mask) < 0) {
    throw new Error(`Cannot run on CPU ${chosen.join(", ")}: ${errnoName(ffi.errno())}`);
  }
}

const CLOCK_THREAD_CPUTIME_ID = 3;
const timespec = new BigInt64Array(16);

/** Processor time of this thread, ns. */
export function processorTime(): bigint {
  base.clock_gettime(CLOCK_THREAD_CPUTIME_ID, new Uint8Array(timespec.buffer));
  return timespec[0]! * 1_000_000_000n + timespec[1]!;
}

/** The interface's number in this network namespace. @throws Error where there is no such interface */
export function ifindexOf(name: string): number {
  const index = libc.if_nametoindex(name);
  if (index === 0) throw new Error(`Cannot find interface ${name} in this network namespace`);
  return index;
}

/** The machine, without its host name, as results are published. */
export function describeMachine(): Record<string, string | number> {
  const read = (path: string) => readFileSync(path, "utf8").trim();
  return {
    processor: cpus()[0]?.model ?? "unknown",
    cpus: CPUS.length,
    architecture: process.arch,
    kernel: read("/proc/sys/kernel/osrelease"),
    memoryMb: Math.round(Number(/MemTotal:\s+(\d+)/.exec(read("/proc/meminfo"))![1]) / 1000),
    node: process.version,
  };
}
