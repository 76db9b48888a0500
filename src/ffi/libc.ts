import { constants } from "node:os";
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

/** Error numbers by name. */
export const { errno } = constants;

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_CLOEXEC = 0o2000000;
export const MSG_DONTWAIT = 0x40;

/** `EPERM`, or `errno 4242` for a number without a name. */
export function errnoName(number: number): string {
  return Object.entries(errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
}

const CLOCK_BOOTTIME = 7;

const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

/** Reads CLOCK_BOOTTIME, the same clock as bpf_ktime_get_boot_ns() in the programs. */
export function bootTime(): Ns {
  libc.clock_gettime(CLOCK_BOOTTIME, timespecBytes);
  return timespec[0]! * SECOND + timespec[1]!;
}

/** Keeps tables from being collected while another thread uses them. */
const lent = new Set<Uint8Array>();

/** Resolves when one of the descriptors is readable, or after `milliseconds`. Meanwhile the process does other things. */
export async function readable(descriptors: readonly number[], milliseconds: number): Promise<void> {
  const POLLIN = 1;
  const table = new Uint8Array(8 * descriptors.length); // of struct pollfd
  const view = new DataView(table.buffer);
  descriptors.forEach((descriptor, i) => {
    view.setInt32(8 * i, descriptor, true);
    view.setInt16(8 * i + 4, POLLIN, true);
  });
  lent.add(table);
  await ffi.poll(table, descriptors.length, milliseconds).finally(() => lent.delete(table));
}
