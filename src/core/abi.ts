/**
 * What stands in the kernel's maps, byte for byte: the twin of bpf/isat.h. scripts/check-abi.ts compares the two through
 * the compiled object's BTF, and the build fails where they differ.
 */

/** The pin folder is `v<LAYOUT>` (ISAT_LAYOUT). */
export const LAYOUT = 1;
export const MAX_VIPS = 65_536;
export const MAX_INTERFACES = 64;

type Kind = "u32" | "u64" | "bool" | "bytes" | "text";

interface Field<T> {
  readonly kind: Kind;
  readonly size: number;
  /** The C enum's name, where the field is one. */
  readonly enum?: string;
  /** Never set: carries the TypeScript type. */
  readonly type?: T;
}

const u32: Field<number> = { kind: "u32", size: 4 };
const u64: Field<bigint> = { kind: "u64", size: 8 };
const bool: Field<boolean> = { kind: "bool", size: 1 };
const bytes = (size: number): Field<Uint8Array> => ({ kind: "bytes", size });
const text = (size: number): Field<string> => ({ kind: "text", size });
const enumOf = (name: string): Field<number> => ({ kind: "u32", size: 4, enum: name });

// biome-ignore lint/suspicious/noExplicitAny: a field of whatever type
type Fields = Readonly<Record<string, Field<any>>>;
type Value<F extends Fields> = { -readonly [Name in keyof F]: NonNullable<F[Name]["type"]> };

/** A C struct (or, with one unnamed field, a scalar) and its codec. Sizes and offsets are bytes. */
export interface Layout<T> {
  readonly name: string;
  readonly size: number;
  readonly fields: ReadonlyMap<string, Field<unknown> & { readonly offset: number }>;
  encode(value: T): Uint8Array;
  decode(bytes: Uint8Array): T;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Lays fields out by C's rule: each at the next multiple of its own alignment, the whole rounded up to the largest. */
function layout<const F extends Fields>(name: string, fields: F): Layout<Value<F>> {
  const placed = new Map<string, Field<unknown> & { offset: number }>();
  let end = 0;
  let alignment = 1;
  for (const [field, type] of Object.entries(fields)) {
    const align = type.kind === "u32" || type.kind === "u64" ? type.size : 1;
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
      if (kind === "u32") view.setUint32(offset, item as number, true);
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
    for (const [field, { kind, offset, size }] of placed) {
      if (kind === "u32") value[field] = view.getUint32(offset, true);
      else if (kind === "u64") value[field] = view.getBigUint64(offset, true);
      else if (kind === "bool") value[field] = raw[offset] !== 0;
      else {
        const slice = raw.slice(offset, offset + size);
        value[field] = kind === "bytes" ? slice : decoder.decode(slice).split("\0")[0];
      }
    }
    return value as Value<F>;
  }

  return { name, size, fields: placed, encode, decode };
}

/** A map's key that is a plain __u32. */
export const ifindexKey: Layout<number> = {
  name: "__u32",
  size: 4,
  fields: new Map(),
  encode: (value) => new Uint8Array(Uint32Array.of(value).buffer),
  decode: (raw) => new DataView(raw.buffer, raw.byteOffset).getUint32(0, true),
};

export const vipState = { NOT_OWNED: 0, OWNED: 1 } as const;

export const vipKey = layout("vip_key", { ip: bytes(4), ifindex: u32 });
export const vip = layout("vip", { state: enumOf("vip_state"), interface: text(16) });
export const answers = layout("answers", { answered: u64, last_answer_ns: u64 });
export const interfaceEntry = layout("interface", {
  name: text(16),
  mac_text: text(18),
  mac: bytes(6),
  address: bytes(4),
  netns: u32,
  vlan_strip_off: bool,
  tick_ns: u64,
  fence_ns: u64,
  gone_ns: u64,
});
export const verdicts = layout("verdicts", {
  interface: text(16),
  tagged: u64,
  not_request: u64,
  not_managed: u64,
  announcement: u64,
  not_for_us: u64,
  gone: u64,
  bad_sender: u64,
  not_owned: u64,
  fenced: u64,
  answered: u64,
  egress_claimed: u64,
  egress_rewritten: u64,
  egress_dropped: u64,
  answered_other_source: u64,
});

/** The counters of an interface of which no frame was seen yet. */
export const NO_VERDICTS: Verdicts = verdicts.decode(new Uint8Array(verdicts.size));

export type VipKey = ReturnType<typeof vipKey.decode>;
export type Vip = ReturnType<typeof vip.decode>;
export type Answers = ReturnType<typeof answers.decode>;
export type InterfaceEntry = ReturnType<typeof interfaceEntry.decode>;
export type Verdicts = ReturnType<typeof verdicts.decode>;

/** The maps by name: the type of each one's key and value, and how many entries it holds. */
export const maps = {
  vips: { key: vipKey, value: vip, entries: MAX_VIPS },
  answers: { key: vipKey, value: answers, entries: MAX_VIPS },
  interfaces: { key: ifindexKey, value: interfaceEntry, entries: MAX_INTERFACES },
  verdicts: { key: ifindexKey, value: verdicts, entries: MAX_INTERFACES },
} as const;

/** The C enums that the control plane knows, by name. */
export const enums: Readonly<Record<string, Readonly<Record<string, number>>>> = { vip_state: vipState };
