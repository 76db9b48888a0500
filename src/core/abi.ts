/**
 * What stands in the kernel's maps, byte for byte: the twin of bpf/isat.h. scripts/check-abi.ts compares the two through
 * the compiled object's BTF, and the build fails where they differ.
 */

/** The pin folder is `v<LAYOUT>` (ISAT_LAYOUT). */
export const LAYOUT = 3;
export const MAX_VIPS = 65_536;
export const MAX_INTERFACES = 64;
export const MAX_PEERS = 4096;
export const MAX_KEYS = 4;
export const RECENT = 4096;

type Kind = "u8" | "u16" | "u32" | "u64" | "bool" | "bytes" | "text";

interface Field<T> {
  readonly kind: Kind;
  readonly size: number;
  /** The C enum's name, where the field is one. */
  readonly enum?: string;
  /** Never set: carries the TypeScript type. */
  readonly type?: T;
}

const u8: Field<number> = { kind: "u8", size: 1 };
const u16: Field<number> = { kind: "u16", size: 2 };
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
  /** The fields given, all others zero. */
  of(value: Partial<T>): T;
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

/** One field of a struct's bytes, where all of them would be too much. */
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

export const vipState = { NOT_OWNED: 0, OWNED: 1, CLAIMING: 2, LEAVING: 3 } as const;
export const nodeState = {
  UNKNOWN: 0,
  JOINING: 1,
  LIVE: 2,
  HEADLESS: 3,
  PAST_HOLD: 4,
  DRAINED: 5,
  LAGGING: 6,
} as const;
export const wireType = { WIRE_PROBE: 1, WIRE_ECHO: 2, WIRE_CLAIM: 3, WIRE_REPLY: 4, WIRE_NOTICE: 5 } as const;
/** In a claim, FREE means: only if whoever does not defend it does not have it either. */
export const claimVerdict = { CLAIMED: 0, FREE: 1, RELEASED: 2, MINE: 3 } as const;

export const vipKey = layout("vip_key", { ip: bytes(4), ifindex: u32 });
export const vip = layout("vip", {
  state: enumOf("vip_state"),
  interface: text(16),
  claim_ns: u64,
  until_ns: u64,
  hash: u64,
});
export const answers = layout("answers", { answered: u64, last_answer_ns: u64, released_ns: u64 });
export const interfaceEntry = layout("interface", {
  name: text(16),
  mac_text: text(18),
  mac: bytes(6),
  address: bytes(4),
  netns: u32,
  vlan_strip_off: bool,
  source_stale: bool,
  state: enumOf("node_state"),
  node_name: text(32),
  node: u64,
  incarnation: u64,
  hello_nonce: u64,
  last_hello_nonce: u64,
  tick_ns: u64,
  live_ns: u64,
  hold_ns: u64,
  fence_ns: u64,
  gone_ns: u64,
});
export const peerKey = layout("peer_key", { node: u64, ifindex: u32, zero: u32 });
export const probe = layout("probe", {
  node: text(32),
  mac_text: text(18),
  mac: bytes(6),
  incarnation: u64,
  nonce: u64,
  last_nonce: u64,
});
export const peer = layout("peer", {
  lock: u32,
  node: text(32),
  state: enumOf("node_state"),
  mac: bytes(6),
  source_stale: bool,
  knows_us: bool,
  max_version: u8,
  incarnation: u64,
  echo_nonce: u64,
  stamp_ns: u64,
  tick_age_ms: u64,
  echoed_ns: u64,
  heard_ns: u64,
  echoes: u64,
  taken_stamp_ns: u64,
  taken_nonce: u64,
});
export const wireKey = layout("wire_key", { k0: u64, k1: u64, id: u32 });
/** What stands on the wire (bpf/wire.h); `protocol` is big-endian there, and so raw bytes here. */
export const wireHeader = layout("wire", {
  destination: bytes(6),
  source: bytes(6),
  protocol: bytes(2),
  version: u8,
  type: u8,
  key_id: u8,
  state: u8,
  flags: u8,
  max_version: u8,
  count: u16,
  tick_age: u16,
  node: u64,
  incarnation: u64,
  to: u64,
  nonce: u64,
  stamp: u64,
  name: text(32),
});
export const recent = layout("recent", { tag: u64, ifindex: u64 });
export const wireClaim = layout("wire_claim", { ip: bytes(4), verdict: enumOf("claim_verdict"), hash: u64 });
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
  wire_echoed: u64,
  wire_taken: u64,
  wire_refused: u64,
  wire_stale: u64,
  wire_own: u64,
  answered_other_source: u64,
  released: u64,
  heard_ns: u64,
  own_ns: u64,
});

/** The counters of an interface of which no frame was seen yet. */
export const NO_VERDICTS: Verdicts = verdicts.of({});

export type VipKey = ReturnType<typeof vipKey.decode>;
export type Vip = ReturnType<typeof vip.decode>;
export type Answers = ReturnType<typeof answers.decode>;
export type InterfaceEntry = ReturnType<typeof interfaceEntry.decode>;
export type Verdicts = ReturnType<typeof verdicts.decode>;
export type PeerKey = ReturnType<typeof peerKey.decode>;
export type Probe = ReturnType<typeof probe.decode>;
export type Peer = ReturnType<typeof peer.decode>;
export type WireKey = ReturnType<typeof wireKey.decode>;
export type Recent = ReturnType<typeof recent.decode>;
export type WireHeader = ReturnType<typeof wireHeader.decode>;
export type WireClaim = ReturnType<typeof wireClaim.decode>;

/** The maps by name: the type of each one's key and value, and how many entries it holds. */
export const maps = {
  vips: { key: vipKey, value: vip, entries: MAX_VIPS },
  answers: { key: vipKey, value: answers, entries: MAX_VIPS },
  interfaces: { key: ifindexKey, value: interfaceEntry, entries: MAX_INTERFACES },
  verdicts: { key: ifindexKey, value: verdicts, entries: MAX_INTERFACES },
  probes: { key: peerKey, value: probe, entries: MAX_PEERS },
  peers: { key: peerKey, value: peer, entries: MAX_PEERS },
  keys: { key: ifindexKey, value: wireKey, entries: MAX_KEYS },
  recent: { key: ifindexKey, value: recent, entries: RECENT },
} as const;

/** The C enums that the control plane knows, by name. */
export const enums: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  vip_state: vipState,
  node_state: nodeState,
  wire_type: wireType,
  claim_verdict: claimVerdict,
};
