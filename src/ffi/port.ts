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

/** What C on another thread reads and writes must not be collected before it has done with it. */
const lent = new Set<Uint8Array>();

/**
 * Lends poll(2) its table, a struct pollfd each that waits for POLLIN, for as long as `call` takes.
 * @param call calls poll(2) on a thread of its own
 */
export async function withPollTable(
  descriptors: readonly number[],
  call: (table: Uint8Array) => Promise<unknown>,
): Promise<void> {
  const POLLIN = 1;
  const table = new Uint8Array(8 * descriptors.length);
  const view = new DataView(table.buffer);
  descriptors.forEach((descriptor, i) => {
    view.setInt32(8 * i, descriptor, true);
    view.setInt16(8 * i + 4, POLLIN, true);
  });
  lent.add(table);
  try {
    await call(table);
  } finally {
    lent.delete(table);
  }
}

/** Shorthand for a row of a symbol table: `fn(["i32", "buffer"], "i32")`. */
export function fn<const P extends readonly CType[], const R extends CType>(parameters: P, result: R) {
  return { parameters, result } as const;
}
