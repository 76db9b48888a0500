/**
 * The one door to C. An adapter (koffi here; others may stand beside it) opens a library by a typed table of its
 * symbols; nothing above this folder knows which adapter it is.
 */

/**
 * A C type.
 * - `pointer`: an address that C owns, as a bigint; `0n` is NULL.
 * - `buffer`: bytes of ours, lent for the time of the call; null is NULL.
 * - `string`: a NUL-terminated string; as a result, null where C returned NULL.
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

/** 64-bit results come as number or bigint, whichever the adapter prefers: say Number() or BigInt() to them. */
type Result<T extends CType> = T extends "void" ? undefined : T extends "string" ? string | null : Argument<T>;

/** A C function: its parameters' types, then its result's. */
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
   * Opens the first library of `names` that can be loaded; null opens the running program itself, and so libc.
   * @throws Error naming all of `names` and the loader's own words, when none can be loaded or a symbol is missing.
   */
  open<S extends Symbols>(names: readonly string[] | null, symbols: S): Functions<S>;
  /** A C function pointer that calls `handler`. It stays valid for the life of the process. */
  callback(signature: Signature, handler: (...args: (number | bigint | string | null)[]) => number): bigint;
  /** The address of the buffer's first byte. Keep the buffer referenced for as long as C may use the address. */
  address(buffer: Uint8Array): bigint;
  /** poll(2) on a thread of its own: when one of the descriptors can be read, or `milliseconds` have passed. */
  readable(descriptors: readonly number[], milliseconds: number): Promise<void>;
  /** `errno` of the last call: to be read at once. */
  errno(): number;
}

/** What poll(2) reads: a struct pollfd each, waiting for POLLIN. */
export function pollTable(descriptors: readonly number[]): Uint8Array {
  const POLLIN = 1;
  return new Uint8Array(Int32Array.from(descriptors.flatMap((descriptor) => [descriptor, POLLIN])).buffer);
}

/** Shorthand for a row of a symbol table: `fn(["i32", "buffer"], "i32")`. */
export function fn<const P extends readonly CType[], const R extends CType>(parameters: P, result: R) {
  return { parameters, result } as const;
}
