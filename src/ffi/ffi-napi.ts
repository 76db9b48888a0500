import { createRequire } from "node:module";
import { type CType, load, type Port, type Signature } from "./port.ts";

/** The parts of ffi-napi and ref-napi that are used here. They are optional packages, so their own types may be missing. */
interface FfiNapi {
  DynamicLibrary: new (name: string | null, mode: number) => { get(symbol: string): Buffer };
  RTLD_NOW: number;
  CIF(result: string, parameters: string[]): Buffer;
  ForeignFunction(pointer: Buffer, result: string, parameters: string[]): (...args: unknown[]) => unknown;
  Callback(result: string, parameters: string[], handler: (...args: unknown[]) => unknown): Buffer;
}
interface RefNapi {
  address(buffer: Uint8Array): number;
  reinterpret(pointer: Buffer, size: number, offset: number): Buffer;
  types: { CString: { get(buffer: Buffer, offset: number): string | null } };
}
interface Bindings {
  ffi_call(cif: Buffer, pointer: Buffer, result: Buffer, parameters: Buffer): void;
  ffi_call_async(cif: Buffer, pointer: Buffer, result: Buffer, parameters: Buffer, done: () => void): void;
}

const [ffiNapi, ref, bindings] = requireAll();

function requireAll(): [FfiNapi, RefNapi, Bindings] {
  const require = createRequire(import.meta.url);
  try {
    return [require("ffi-napi"), require("@2060.io/ref-napi"), require("ffi-napi/lib/bindings")];
  } catch (error) {
    const reason = (error as Error).message.split("\n")[0];
    throw new Error(
      `Cannot use ffi-napi, which is compiled where it is used: ${reason}. Run: apt-get install build-essential python3` +
        " && npm run build (or unset ISAT_FFI)",
    );
  }
}

/** Pointers are passed as numbers, and so are buffers and strings. */
const TYPES: Record<CType, string> = {
  void: "void",
  i32: "int32",
  u32: "uint32",
  i64: "int64",
  u64: "uint64",
  pointer: "uint64",
  buffer: "uint64",
  string: "uint64",
};

const encoder = new TextEncoder();
const readString = ref.types.CString;

const library = (name: string | null) => new ffiNapi.DynamicLibrary(name, ffiNapi.RTLD_NOW);

/** This thread's `errno`, as memory: to read it by a call would change it, because ffi-napi makes system calls meanwhile. */
const errnoNow = ref.reinterpret(
  ffiNapi.ForeignFunction(library(null).get("__errno_location"), "pointer", [])() as Buffer,
  4,
  0,
);
let errno = 0;

/** The address of each value of 8 bytes. */
function placesOf(values: Buffer): Buffer {
  const places = Buffer.alloc(values.length);
  for (let at = 0; at < values.length; at += 8) places.writeBigUInt64LE(BigInt(ref.address(values) + at), at);
  return places;
}

/**
 * Binds one C function. ffi-napi's own wrapper allocates buffers for each call and leaks about 300 bytes of them; here
 * each function has one set of buffers. libffi reads the arguments before C runs, so a callback may call the function.
 */
function bind(pointer: Buffer, { parameters, result }: Signature): (...args: unknown[]) => unknown {
  const cif = ffiNapi.CIF(
    TYPES[result],
    parameters.map((type) => TYPES[type]),
  );
  const values = Buffer.alloc(8 * parameters.length);
  const places = placesOf(values);
  const out = Buffer.alloc(8);
  return (...args) => {
    const lent: (Uint8Array | null)[] = [];
    for (let i = 0; i < parameters.length; i++) {
      const type = parameters[i]!;
      if (type === "i32") values.writeInt32LE(args[i] as number, 8 * i);
      else if (type === "u32") values.writeUInt32LE(args[i] as number, 8 * i);
      else if (type === "i64") values.writeBigInt64LE(BigInt(args[i] as number | bigint), 8 * i);
      else if (type === "u64" || type === "pointer") values.writeBigUInt64LE(BigInt(args[i] as number | bigint), 8 * i);
      else {
        const bytes = type === "string" ? encoder.encode(`${args[i]}\0`) : (args[i] as Uint8Array | null);
        lent.push(bytes);
        values.writeBigUInt64LE(bytes === null ? 0n : BigInt(ref.address(bytes)), 8 * i);
      }
    }
    bindings.ffi_call(cif, pointer, out, places);
    errno = errnoNow.readInt32LE(0);
    lent.length = 0; // this use after the call keeps the bytes from being collected before
    if (result === "i32") return out.readInt32LE(0);
    if (result === "u32") return out.readUInt32LE(0);
    if (result === "i64") return out.readBigInt64LE(0);
    if (result === "u64" || result === "pointer") return out.readBigUInt64LE(0);
    if (result === "string") return readString.get(out, 0);
    return undefined;
  };
}

/** Keeps the callbacks from being collected: C may call them at any time. */
const callbacks: object[] = [];

const POLL = {
  cif: ffiNapi.CIF("int32", ["uint64", "uint64", "int32"]),
  pointer: library(null).get("poll"),
};

/** ffi-napi, by the fork that builds on Node 20 and later. */
export const ffiNapiPort: Port = {
  name: "ffi-napi",

  open(name, symbols) {
    const loaded = load(name, library);
    const functions = Object.entries(symbols).map(([name, signature]) => [name, bind(loaded.get(name), signature)]);
    return Object.fromEntries(functions);
  },

  callback({ parameters, result }, handler) {
    const types = parameters.map((type) => (type === "string" ? "string" : TYPES[type]));
    const callback = ffiNapi.Callback(TYPES[result], types, (...args) =>
      handler(...args.map((arg, i) => (parameters[i] === "pointer" ? BigInt(arg as number | string) : arg) as bigint)),
    );
    callbacks.push(callback);
    return BigInt(ref.address(callback));
  },

  address: (buffer) => BigInt(ref.address(buffer)),

  poll(table, count, milliseconds) {
    const values = Buffer.alloc(24);
    values.writeBigUInt64LE(BigInt(ref.address(table)), 0);
    values.writeBigUInt64LE(BigInt(count), 8);
    values.writeInt32LE(milliseconds, 16);
    const lent = { values, places: placesOf(values), out: Buffer.alloc(8) };
    return new Promise((resolve) => {
      // The callback keeps what it names from being collected.
      bindings.ffi_call_async(POLL.cif, POLL.pointer, lent.out, lent.places, () => resolve(lent));
    });
  },

  errno: () => errno,
};
