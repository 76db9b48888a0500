/**
 * The only way to call C. An adapter (koffi, ffi-napi or Deno's FFI) opens a library by a typed table of its symbols. No
 * code outside this folder depends on the adapter.
 */

/**
 * A C type.
 * - `pointer`: an address of memory that C owns, as a bigint; `0n` is NULL.
 * - `buffer`: our own bytes, which C may use during the call; null is NULL.
 * - `string`: a NUL-terminated string; a result is null if C returns NULL.
 */
export type CType = "void" | "i32" | "u32" | "i64" | "u64" | "pointer" | "buffer" | "string";

type Argument<T extends CType> = T extends "i32" | "u32"
  ? number
  : T extends "i64" | "u64"
    ? number | bigint
    : T extends "pointer"
      ? bigint
      : T extends "buffer"
        ? Uint8Array | null
        : T extends "string"
          ? string
          : never;

/** A 64-bit result is a number or a bigint, depending on the adapter: convert it by Number() or BigInt(). */
type Result<T extends CType> = T extends "void" ? undefined : T extends "string" ? string | null : Argument<T>;

/** The types of a C function's parameters and result. */
export interface Signature {
  readonly parameters: readonly CType[];
  readonly result: CType;
}

export type Symbols = Readonly<Record<string, Signature>>;

type Arguments<P extends readonly CType[]> = { -readonly [I in keyof P]: Argument<P[I]> };

export type Functions<S extends Symbols> = {
  readonly [Name in keyof S]: (...args: Arguments<S[Name]["parameters"]>) => Result<S[Name]["result"]>;
};

export interface Port {
  /** The adapter's name, for `status` and logs. */
  readonly name: string;
  /**
   * Opens a library; null opens the running program, and with it libc.
   * @throws Error with the loader's message, if the library cannot be loaded or a symbol is missing
   */
  open<S extends Symbols>(library: string | null, symbols: S): Functions<S>;
  /** Returns a C function pointer that calls `handler`. It stays valid as long as the process runs. */
  callback(signature: Signature, handler: (...args: (number | bigint | string | null)[]) => number): bigint;
  /** The address of the buffer's first byte. Keep a reference to the buffer for as long as C may use the address. */
  address(buffer: Uint8Array): bigint;
  /** Runs poll(2) on another thread. The caller keeps the table from being collected meanwhile. */
  poll(table: Uint8Array, count: number, milliseconds: number): Promise<unknown>;
  /** `errno` of the last call. Read it directly after that call. */
  errno(): number;
}

/** Opens a library. @throws Error with its name and the loader's message */
export function load<T, Name extends string | null>(name: Name, open: (name: Name) => T): T {
  try {
    return open(name);
  } catch (error) {
    throw new Error(`Cannot load ${name}: ${(error as Error).message}`);
  }
}

/** Writes a row of a symbol table: `fn(["i32", "buffer"], "i32")`. */
export function fn<const P extends readonly CType[], const R extends CType>(parameters: P, result: R) {
  return { parameters, result } as const;
}
