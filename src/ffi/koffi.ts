import { type CType, load, type Port } from "./port.ts";

// An import statement would load koffi in the bundle even if another adapter is chosen.
const { default: koffi } = await import("koffi");

const TYPES: Record<CType, string> = {
  void: "void",
  i32: "int32_t",
  u32: "uint32_t",
  i64: "int64_t",
  u64: "uint64_t",
  pointer: "uintptr_t",
  buffer: "void *",
  string: "const char *",
};

const poll = koffi.load(null).func("int poll(void *, unsigned long, int)");

/** koffi, the default on Node. Its memory does not grow, and a call takes about 0.3 us. */
export const koffiPort: Port = {
  name: "koffi",

  open(name, symbols) {
    const library = load(name, (path) => koffi.load(path));
    const functions = Object.entries(symbols).map(([name, { parameters, result }]) => {
      const call = library.func(
        name,
        TYPES[result],
        parameters.map((type) => TYPES[type]),
      );
      return [name, result === "pointer" ? (...args: unknown[]) => BigInt(call(...args)) : call];
    });
    return Object.fromEntries(functions);
  },

  callback({ parameters, result }, handler) {
    const types = parameters.map((type) => TYPES[type]);
    return koffi.register(handler, koffi.pointer(koffi.proto(TYPES[result], types)));
  },

  address: (buffer) => koffi.address(buffer),

  poll: (table, count, milliseconds) =>
    new Promise<void>((resolve) => poll.async(table, count, milliseconds, () => resolve())),

  errno: () => koffi.errno(),
};
