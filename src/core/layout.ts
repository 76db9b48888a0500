/** C structs as TypeScript objects, and their codec. src/core/abi.generated.ts lays out the kernel's maps with it. */

type Kind = "u8" | "u16" | "u32" | "u64" | "bool" | "bytes" | "text";

export interface Field<T> {
  readonly kind: Kind;
  readonly size: number;
  /** The C enum's name, where the field is one. */
  readonly enum?: string;
  /** Never set: carries the TypeScript type. */
  readonly type?: T;
}

export const u8: Field<number> = { kind: "u8", size: 1 };
export const u16: Field<number> = { kind: "u16", size: 2 };
export const u32: Field<number> = { kind: "u32", size: 4 };
export const u64: Field<bigint> = { kind: "u64", size: 8 };
export const bool: Field<boolean> = { kind: "bool", size: 1 };
export const bytes = (size: number): Field<Uint8Array> => ({ kind: "bytes", size });
export const text = (size: number): Field<string> => ({ kind: "text", size });
export const enumOf = <T extends number = number>(name: string): Field<T> => ({ kind: "u32", size: 4, enum: name });

// biome-ignore lint/suspicious/noExplicitAny: a field of whatever type
export type Fields = Readonly<Record<string, Field<any>>>;
type Value<F extends Fields> = { -readonly [Name in keyof F]: NonNullable<F[Name]["type"]> };

/** A C struct (or, with one unnamed field, a scalar) and its codec. Sizes and offsets are bytes. */
export interface Layout<T> {
  readonly name: string;
  readonly size: number;
  readonly fields: ReadonlyMap<string, Field<unknown> & { readonly offset: number }>;
  /** The fields given, all others zero. */
  of(value: Partial<T>): T;
  encode(value: T): Uint8Array;
  decode(bytes: Uint8Array): T;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Lays fields out by C's rule: each at the next multiple of its own alignment, the whole rounded up to the largest. */
export function layout<const F extends Fields>(name: string, fields: F): Layout<Value<F>> {
  const placed = new Map<string, Field<unknown> & { offset: number }>();
  let end = 0;
  let alignment = 1;
  for (const [field, type] of Object.entries(fields)) {
    const align = /^u/.test(type.kind) ? type.size : 1;
    const offset = Math.ceil(end / align) * align;
    placed.set(field, { ...type, offset });
    end = offset + type.size;
    alignment = Math.max(alignment, align);
  }
  const size = Math.ceil(end / alignment) * alignment;

  function encode(value: Value<F>): Uint8Array {
    const out = new Uint8Array(size);
    const view = new DataView(out.buffer);
    for (const [field, { kind, offset, size }] of placed) {
      const item = value[field];
      if (kind === "u8") out[offset] = item as number;
      else if (kind === "u16") view.setUint16(offset, item as number, true);
      else if (kind === "u32") view.setUint32(offset, item as number, true);
      else if (kind === "u64") view.setBigUint64(offset, item as bigint, true);
      else if (kind === "bool") out[offset] = item ? 1 : 0;
      else if (kind === "bytes") out.set((item as Uint8Array).subarray(0, size), offset);
      else out.set(encoder.encode(item as string).subarray(0, size - 1), offset);
    }
    return out;
  }

  function decode(raw: Uint8Array): Value<F> {
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    const value: Record<string, unknown> = {};
    for (const [field, place] of placed) value[field] = read(view, raw, place);
    return value as Value<F>;
  }

  const nothing = decode(new Uint8Array(size));
  return { name, size, fields: placed, of: (value) => ({ ...nothing, ...value }), encode, decode };
}

function read(view: DataView, raw: Uint8Array, { kind, offset, size }: Field<unknown> & { offset: number }): unknown {
  if (kind === "u8") return view.getUint8(offset);
  if (kind === "u16") return view.getUint16(offset, true);
  if (kind === "u32") return view.getUint32(offset, true);
  if (kind === "u64") return view.getBigUint64(offset, true);
  if (kind === "bool") return raw[offset] !== 0;
  if (kind === "bytes") return raw.slice(offset, offset + size);
  let end = offset;
  while (end < offset + size && raw[end] !== 0) end += 1;
  return decoder.decode(raw.subarray(offset, end));
}

/** Reads one field of a struct's bytes, where reading all of them would cost too much. */
export function decodeField<T, N extends keyof T & string>({ fields }: Layout<T>, raw: Uint8Array, field: N): T[N] {
  return read(new DataView(raw.buffer, raw.byteOffset, raw.byteLength), raw, fields.get(field)!) as T[N];
}

/** A map's key that is a plain __u32: an ifindex, or a place in an array. */
export const ifindexKey: Layout<number> = {
  name: "__u32",
  size: 4,
  fields: new Map(),
  of: (value) => value ?? 0,
  encode: (value) => new Uint8Array(Uint32Array.of(value).buffer),
  decode: (raw) => new DataView(raw.buffer, raw.byteOffset).getUint32(0, true),
};

/** Bytes as they are. */
export const rawLayout = (size: number): Layout<Uint8Array> => ({
  name: "bytes",
  size,
  fields: new Map(),
  of: (value) => value as Uint8Array,
  encode: (value) => value,
  decode: (raw) => raw.slice(),
});
