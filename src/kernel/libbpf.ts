import { ffi } from "../ffi/ffi.ts";
import { errno, errnoName, libc } from "../ffi/libc.ts";
import { fn } from "../ffi/port.ts";
import { explain } from "../files.ts";

/** The functions of libbpf 1.x that isat calls. Structs are passed as buffers; their layouts stand where they are built. */
export const libbpf = ffi.open("libbpf.so.1", {
  libbpf_set_print: fn(["pointer"], "pointer"),
  libbpf_version_string: fn([], "string"),
  libbpf_num_possible_cpus: fn([], "i32"),

  bpf_object__open_file: fn(["string", "buffer"], "pointer"),
  bpf_object__load: fn(["pointer"], "i32"),
  bpf_object__close: fn(["pointer"], "void"),
  bpf_object__find_map_by_name: fn(["pointer", "string"], "pointer"),
  bpf_object__find_program_by_name: fn(["pointer", "string"], "pointer"),
  bpf_map__set_pin_path: fn(["pointer", "string"], "i32"),
  bpf_map__fd: fn(["pointer"], "i32"),
  bpf_program__fd: fn(["pointer"], "i32"),

  bpf_obj_get: fn(["string"], "i32"),
  bpf_obj_pin: fn(["i32", "string"], "i32"),
  bpf_obj_get_info_by_fd: fn(["i32", "buffer", "buffer"], "i32"),

  bpf_map_lookup_elem: fn(["i32", "buffer", "buffer"], "i32"),
  bpf_map_update_elem: fn(["i32", "buffer", "buffer", "u64"], "i32"),
  bpf_map_delete_elem: fn(["i32", "buffer"], "i32"),
  bpf_map_lookup_batch: fn(["i32", "buffer", "buffer", "buffer", "buffer", "buffer", "buffer"], "i32"),
  bpf_map_update_batch: fn(["i32", "buffer", "buffer", "buffer", "buffer"], "i32"),
  bpf_map_delete_batch: fn(["i32", "buffer", "buffer", "buffer"], "i32"),

  bpf_link_create: fn(["i32", "i32", "i32", "buffer"], "i32"),
  bpf_link_detach: fn(["i32"], "i32"),
  bpf_link_update: fn(["i32", "i32", "buffer"], "i32"),
  bpf_prog_query: fn(["i32", "i32", "u32", "buffer", "buffer", "buffer"], "i32"),
  bpf_prog_get_fd_by_id: fn(["u32"], "i32"),
  bpf_link_get_next_id: fn(["u32", "buffer"], "i32"),
  bpf_link_get_fd_by_id: fn(["u32"], "i32"),
  bpf_prog_test_run_opts: fn(["i32", "buffer"], "i32"),
  bpf_xdp_query_id: fn(["i32", "i32", "buffer"], "i32"),
  bpf_tc_hook_create: fn(["buffer"], "i32"),
  bpf_tc_attach: fn(["buffer", "buffer"], "i32"),
  bpf_tc_detach: fn(["buffer", "buffer"], "i32"),
  bpf_tc_query: fn(["buffer", "buffer"], "i32"),
});

/** Text that libbpf has printed within {@link collectMessages}: warnings, and the verifier's log if a load fails. */
let messages: string[] = [];

const MESSAGE_BYTES = 1 << 20; // the end of the verifier's log says why it rejects: a smaller buffer would cut it off
let messageBuffer: Uint8Array | undefined;

libbpf.libbpf_set_print(
  ffi.callback(fn(["i32", "string", "pointer"], "i32"), (level, format, args) => {
    if (level === 2) return 0; // LIBBPF_DEBUG
    messageBuffer ??= new Uint8Array(MESSAGE_BYTES);
    const length = libc.vsnprintf(messageBuffer, MESSAGE_BYTES, format as string, BigInt(args as number | bigint));
    messages.push(new TextDecoder().decode(messageBuffer.subarray(0, Math.min(length, MESSAGE_BYTES - 1))));
    return 0;
  }),
);

/** Runs `body`, which can read the text that libbpf has printed meanwhile. */
export function collectMessages<T>(body: (said: () => string) => T): T {
  messages = [];
  try {
    return body(() => messages.join(""));
  } finally {
    messages = [];
    messageBuffer = undefined;
  }
}

/** A failed call into the kernel. `errno` is positive; the message is one line that says what to do. */
export class KernelError extends Error {
  override name = "KernelError";
  readonly errno: number;

  constructor(what: string, number: number, advice?: string) {
    super(`${what}: ${advice ?? explain(errnoName(number))}`);
    this.errno = number;
  }
}

/**
 * Returns `result`. @throws KernelError if it is negative: libbpf 1.x returns -errno
 * @param advise the cause and what to do, by the errno
 */
export function check(what: string, result: number, advise?: (number: number) => string): number {
  if (result < 0) throw new KernelError(what, -result, advise?.(-result));
  return result;
}

/** A file descriptor. Disposing of it twice closes it once. */
export class Fd implements Disposable {
  readonly number: number;
  #open = true;

  constructor(number: number) {
    this.number = number;
  }

  [Symbol.dispose](): void {
    if (this.#open) libc.close(this.number);
    this.#open = false;
  }
}

/** The kernel's info of an object, as its struct bpf_*_info. @param what the object, for the error */
export function infoOf(what: string, { number }: Fd, size: number): Uint32Array<ArrayBuffer> {
  const info = new Uint32Array(size / 4);
  const length = new Uint8Array(Uint32Array.of(size).buffer);
  const result = libbpf.bpf_obj_get_info_by_fd(number, new Uint8Array(info.buffer), length);
  check(`Cannot read a ${what}'s info`, result);
  return info;
}

/** Opens the object pinned at `path`; undefined if there is none. @throws KernelError if it cannot be opened */
export function getPinned(path: string): Fd | undefined {
  const fd = libbpf.bpf_obj_get(path);
  if (fd === -errno.ENOENT) return undefined;
  return new Fd(check(`Cannot open the pin ${path}`, fd));
}
