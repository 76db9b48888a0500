import { type CType, load, type Port } from "./port.ts";

type Pointer = object | null;

/** The part of Deno's API that is used here (https://docs.deno.com/api/deno/ffi). Deno's own types would bring all of it. */
interface DenoFfi {
  dlopen(
    path: string,
    symbols: Record<string, { parameters: readonly string[]; result: string; nonblocking?: boolean }>,
  ): { symbols: Record<string, (...args: unknown[]) => unknown> };
  UnsafeCallback: new (
    definition: { parameters: readonly string[]; result: string },
    handler: (...args: unknown[]) => unknown,
  ) => { pointer: Pointer };
  UnsafePointer: {
    of(buffer: Uint8Array): Pointer;
    value(pointer: Pointer): number | bigint;
  };
  UnsafePointerView: {
    new (pointer: Pointer): { getInt32(): number };
    getCString(pointer: Pointer): string;
  };
}

const { Deno } = globalThis as unknown as { Deno: DenoFfi };

/** The types that have another name. `usize` is a pointer that is passed as a bigint. */
const TYPES: Partial<Record<CType, string>> = { pointer: "usize", string: "buffer" };
const toC = (type: CType) => TYPES[type] ?? type;

/** The type of a value that comes from C: Deno does not support `buffer` as a result. */
const fromC = (type: CType) => (type === "string" ? "pointer" : toC(type));

const encoder = new TextEncoder();
const readString = (pointer: Pointer) => (pointer === null ? null : Deno.UnsafePointerView.getCString(pointer));

/** Deno cannot open the running program itself, which is opened for the symbols of libc. */
const LIBC = "libc.so.6";

/** Keeps the callbacks from being collected: C may call them at any time. */
const callbacks: object[] = [];

const { __errno_location, poll } = Deno.dlopen(LIBC, {
  __errno_location: { parameters: [], result: "pointer" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
}).symbols;

/** Deno.dlopen, the only adapter on Deno. Its memory does not grow, and it is as fast as koffi. */
export const denoPort: Port = {
  name: "deno",

  open(library, symbols) {
    const table = Object.fromEntries(
      Object.entries(symbols).map(([name, { parameters, result }]) => [
        name,
        { parameters: parameters.map(toC), result: fromC(result) },
      ]),
    );
    const loaded = load(library ?? LIBC, (path) => Deno.dlopen(path, table).symbols);
    const functions = Object.entries(symbols).map(([name, { parameters, result }]) => {
      const call = loaded[name]!;
      const strings = parameters.flatMap((type, i) => (type === "string" ? [i] : []));
      if (strings.length === 0 && result !== "string") return [name, call];
      return [
        name,
        (...args: unknown[]) => {
          for (const i of strings) args[i] = encoder.encode(`${args[i]}\0`);
          const value = call(...args);
          return result === "string" ? readString(value as Pointer) : value;
        },
      ];
    });
    return Object.fromEntries(functions);
  },

  callback({ parameters, result }, handler) {
    const definition = { parameters: parameters.map(fromC), result: toC(result) };
    const callback = new Deno.UnsafeCallback(definition, (...args) =>
      handler(...args.map((arg, i) => (parameters[i] === "string" ? readString(arg as Pointer) : arg) as bigint)),
    );
    callbacks.push(callback);
    return BigInt(Deno.UnsafePointer.value(callback.pointer));
  },

  address(buffer) {
    void buffer.buffer; // V8 may move an array of up to 64 bytes until its ArrayBuffer has been read
    return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer)));
  },

  poll: (table, count, milliseconds) => poll!(table, BigInt(count), milliseconds) as Promise<number>,

  // Deno does not change errno between two calls: of 16 million failing calls beside busy threads, all read it right.
  errno: () => new Deno.UnsafePointerView(__errno_location!() as Pointer).getInt32(),
};
