import { type Ns, SECOND } from "../core/time.ts";
import { ffi } from "./ffi.ts";
import { fn } from "./port.ts";

/** The functions of libc that neither Node nor Deno offers. */
export const libc = ffi.open(null, {
  socket: fn(["i32", "i32", "i32"], "i32"),
  bind: fn(["i32", "buffer", "u32"], "i32"),
  sendto: fn(["i32", "buffer", "u64", "i32", "buffer", "u32"], "i64"),
  recvfrom: fn(["i32", "buffer", "u64", "i32", "buffer", "buffer"], "i64"),
  eventfd: fn(["u32", "i32"], "i32"),
  write: fn(["i32", "buffer", "u64"], "i64"),
  recv: fn(["i32", "buffer", "u64", "i32"], "i64"),
  setsockopt: fn(["i32", "i32", "i32", "buffer", "u32"], "i32"),
  ioctl: fn(["i32", "u64", "buffer"], "i32"),
  close: fn(["i32"], "i32"),
  flock: fn(["i32", "i32"], "i32"),
  clock_gettime: fn(["i32", "buffer"], "i32"),
  vsnprintf: fn(["buffer", "u64", "string", "pointer"], "i32"),
});

/** Error numbers by name (asm-generic/errno.h: the same on all architectures that isat supports). */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  ENXIO: 6,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  EOPNOTSUPP: 95,
  ENETDOWN: 100,
  ENOBUFS: 105,
} as const;

const NAMES = new Map<number, string>(Object.entries(errno).map(([name, number]) => [number, name]));

/** `EPERM`, or `errno 42` for a number without a name here. */
export function errnoName(number: number): string {
  return NAMES.get(number) ?? `errno ${number}`;
}

const CLOCK_BOOTTIME = 7;

const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

/** Reads CLOCK_BOOTTIME, the same clock as bpf_ktime_get_boot_ns() in the programs. */
export function bootTime(): Ns {
  libc.clock_gettime(CLOCK_BOOTTIME, timespecBytes);
  return timespec[0]! * SECOND + timespec[1]!;
}
