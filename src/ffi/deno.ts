import { type CType, type Functions, type Port, type Signature, type Symbols, withPollTable } from "./port.ts";

type Pointer = object | null;

/** What is used of Deno's API (https://docs.deno.com/api/deno/ffi); its own types would come with all the rest. */
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

/** `usize` is a pointer that comes and goes as a bigint. */
const TYPES: Record<CType, string> = {
  void: "void",
  i32: "i32",
  u32: "u32",
  i64: "i64",
  u64: "u64",
  pointer: "usize",
  buffer: "buffer",
  string: "buffer",
};

/** A string that comes from C: Deno takes no `buffer` as a result. */
const fromC = (type: CType) => (type === "string" ? "pointer" : TYPES[type]);

const encoder = new TextEncoder();
const toC = (text: string) => encoder.encode(`${text}\0`);
const readString = (pointer: Pointer) => (pointer === null ? null : Deno.UnsafePointerView.getCString(pointer));

/** The running program's own symbols cannot be asked for; what is wanted of them is libc's. */
const LIBC = "libc.so.6";

function load(names: readonly string[], symbols: Symbols) {
  const table = Object.fromEntries(
    Object.entries(symbols).map(([name, { parameters, result }]) => [
      name,
      { parameters: parameters.map((type) => TYPES[type]), result: fromC(result) },
    ]),
  );
  const refusals: string[] = [];
  for (const name of names) {
    try {
      return Deno.dlopen(name, table).symbols;
    } catch (error) {
      refusals.push((error as Error).message);
    }
  }
  throw new Error(`Cannot load ${names.join(" or ")}: ${refusals.join("; ")}`);
}

/** What C calls must not be collected. */
const callbacks: object[] = [];

const { __errno_location } = Deno.dlopen(LIBC, { __errno_location: { parameters: [], result: "pointer" } }).symbols;

const { poll } = Deno.dlopen(LIBC, {
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
}).symbols;

/** Deno.dlopen: the only one on Deno. Flat in memory, and as quick as koffi. */
export const denoPort: Port = {
  name: "deno",

  open<S extends Symbols>(names: readonly string[] | null, symbols: S): Functions<S> {
    const loaded = load(names ?? [LIBC], symbols);
    const functions = Object.entries(symbols).map(([name, { parameters, result }]) => {
      const call = loaded[name]!;
      const strings = parameters.flatMap((type, i) => (type === "string" ? [i] : []));
      if (strings.length === 0 && result !== "string") return [name, call];
      return [
        name,
        (...args: unknown[]) => {
          for (const i of strings) args[i] = toC(args[i] as string);
          const value = call(...args);
          return result === "string" ? readString(value as Pointer) : value;
        },
      ];
    });
    return Object.fromEntries(functions);
  },

  callback({ parameters, result }: Signature, handler): bigint {
    const definition = { parameters: parameters.map(fromC), result: TYPES[result] };
    const callback = new Deno.UnsafeCallback(definition, (...args) =>
      handler(...args.map((arg, i) => (parameters[i] === "string" ? readString(arg as Pointer) : arg) as bigint)),
    );
    callbacks.push(callback);
    return BigInt(Deno.UnsafePointer.value(callback.pointer));
  },

  address(buffer) {
    void buffer.buffer; // V8 keeps an array of up to 64 bytes where it may move, until its ArrayBuffer is asked for
    return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer)));
  },

  readable: (descriptors, milliseconds) =>
    withPollTable(descriptors, (table) => poll!(table, BigInt(descriptors.length), milliseconds) as Promise<number>),

  // Nothing that Deno does between two calls changes it: 16 million failing calls beside busy threads, none read wrong.
  errno: () => new Deno.UnsafePointerView(__errno_location!() as Pointer).getInt32(),
};
