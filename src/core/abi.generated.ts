// Written by scripts/generate-abi.ts from the BTF of the kernel programs: bpf/abi.h and bpf/wire.h explain it.
import { bool, bytes, enumOf, ifindexKey, layout, text, u8, u16, u32, u64 } from "./layout.ts";

export const LAYOUT = 6;
export const MAX_VIPS = 65536;
export const MAX_INTERFACES = 64;
export const MAX_SUBNETS = 8;
export const MAX_CHANGES = 64;
export const MAX_PEERS = 16384;
export const MAX_KEYS = 4;
export const RECENT = 4096;
export const STRANGERS = 256;
export const ETH_P_ISAT = 34997;
export const WIRE_VERSION = 2;
export const WIRE_OLD_VERSION = 1;
export const WIRE_MAX_CLAIMS = 32;
export const WIRE_OLD_MAX_CLAIMS = 64;
export const WIRE_TAG = 8;
export const WIRE_SOURCE_STALE = 1;
export const WIRE_ONLY_IPV4 = 4;
export const WIRE_KNOWN = 2;
export const WIRE_NODE_STATE = 255;
export const WIRE_NODE_STALE = 256;
export const FRESH_MS = 5000;
export const ECHO_PAUSE_MS = 5000;
export const OWN_PAUSE_MS = 10;
export const FOREIGN_PAUSE_MS = 1000;

export const vipState = {
  NOT_OWNED: 0,
  OWNED: 1,
  CLAIMING: 2,
  LEAVING: 3,
  UNDECIDED: 4,
} as const;
export type VipState = (typeof vipState)[keyof typeof vipState];

export const nodeState = {
  UNKNOWN: 0,
  JOINING: 1,
  LIVE: 2,
  HEADLESS: 3,
  PAST_HOLD: 4,
  DRAINED: 5,
  LAGGING: 6,
} as const;
export type NodeState = (typeof nodeState)[keyof typeof nodeState];

export const wireType = {
  WIRE_PROBE: 1,
  WIRE_ECHO: 2,
  WIRE_CLAIM: 3,
  WIRE_REPLY: 4,
  WIRE_NOTICE: 5,
} as const;
export type WireType = (typeof wireType)[keyof typeof wireType];

export const claimVerdict = {
  CLAIMED: 0,
  FREE: 1,
  RELEASED: 2,
  MINE: 3,
} as const;
export type ClaimVerdict = (typeof claimVerdict)[keyof typeof claimVerdict];

export const interfaceEntry = layout("interface", {
  ifindex: u32,
  address: bytes(4),
  mac: bytes(6),
  is_guard: bool,
  zero: u8,
  tick_ns: u64,
  fence_ns: u64,
  gone_ns: u64,
  live_ns: u64,
  hold_ns: u64,
  state: enumOf("node_state"),
  source_stale: bool,
  vlan_strip_off: bool,
  only_ipv4: bool,
  heard_ns: u64,
  own_ns: u64,
  strangers_ns: u64,
  foreign_ns: u64,
  node: u64,
  incarnation: u64,
  hello_nonce: u64,
  last_hello_nonce: u64,
  own: bytes(32),
  masks: bytes(32),
  link_local: bytes(16),
  node_name: text(32),
  name: text(16),
  mac_text: text(18),
  netns: u32,
});
export type InterfaceEntry = ReturnType<typeof interfaceEntry.decode>;

export const vipKey = layout("vip_key", {
  ip: bytes(4),
  ifindex: u32,
});
export type VipKey = ReturnType<typeof vipKey.decode>;

export const vip = layout("vip", {
  lock: u32,
  state: enumOf<VipState>("vip_state"),
  state_ns: u64,
  hash: u64,
  claim_ns: u64,
  released_ns: u64,
  answered: u64,
  last_answer_ns: u64,
  check: u64,
});
export type Vip = ReturnType<typeof vip.decode>;

export const vip6Key = layout("vip6_key", {
  ip: bytes(16),
  ifindex: u32,
});
export type Vip6Key = ReturnType<typeof vip6Key.decode>;

export const peerKey = layout("peer_key", {
  node: u64,
  ifindex: u32,
  zero: u32,
});
export type PeerKey = ReturnType<typeof peerKey.decode>;

export const peer = layout("peer", {
  lock: u32,
  node: text(32),
  state: enumOf("node_state"),
  mac: bytes(6),
  source_stale: bool,
  knows_us: bool,
  max_version: u8,
  key_id: u8,
  interface: text(16),
  only_ipv4: bool,
  incarnation: u64,
  echo_nonce: u64,
  stamp_ns: u64,
  tick_age_ms: u64,
  echoed_ns: u64,
  heard_ns: u64,
  echoes: u64,
  probe_incarnation: u64,
  probe_nonce: u64,
  taken_stamp_ns: u64,
  taken_nonce: u64,
});
export type Peer = ReturnType<typeof peer.decode>;

export const verdicts = layout("verdicts", {
  clock_jiffy: u64,
  clock_ns: u64,
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
  nd_not_managed: u64,
  nd_bad: u64,
  nd_not_for_us: u64,
  nd_gone: u64,
  nd_bad_sender: u64,
  nd_not_owned: u64,
  nd_fenced: u64,
  nd_answered: u64,
  egress_claimed: u64,
  egress_rewritten: u64,
  egress_dropped: u64,
  wire_echoed: u64,
  wire_taken: u64,
  wire_refused: u64,
  wire_foreign: u64,
  wire_stale: u64,
  wire_stranger: u64,
  wire_own: u64,
  answered_other_source: u64,
  released: u64,
});
export type Verdicts = ReturnType<typeof verdicts.decode>;

export const probe = layout("probe", {
  node: text(32),
  mac_text: text(18),
  mac: bytes(6),
  incarnation: u64,
  nonce: u64,
  last_nonce: u64,
});
export type Probe = ReturnType<typeof probe.decode>;

export const wireKey = layout("wire_key", {
  k0: u64,
  k1: u64,
  cluster: u64,
  id: u32,
});
export type WireKey = ReturnType<typeof wireKey.decode>;

export const recent = layout("recent", {
  tag: u64,
  ifindex: u64,
});
export type Recent = ReturnType<typeof recent.decode>;

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
  cluster: u64,
  interface: text(16),
  zero: u64,
});
export type WireHeader = ReturnType<typeof wireHeader.decode>;

export const wireClaim = layout("wire_claim", {
  ip: bytes(16),
  family: u32,
  verdict: enumOf("claim_verdict"),
  hash: u64,
});
export type WireClaim = ReturnType<typeof wireClaim.decode>;

export const wireOldClaim = layout("wire_old_claim", {
  ip: bytes(4),
  verdict: enumOf("claim_verdict"),
  hash: u64,
});
export type WireOldClaim = ReturnType<typeof wireOldClaim.decode>;

export const vipChange = layout("vip_change", {
  ip: bytes(16),
  ifindex: u32,
  is_ipv6: bool,
  is_removed: bool,
  state: u16,
  state_ns: u64,
  hash: u64,
  claim_ns: u64,
});
export type VipChange = ReturnType<typeof vipChange.decode>;

/** The maps by name: the type of each one's key and value, and how many entries it holds. */
export const maps = {
  interfaces: { key: ifindexKey, value: interfaceEntry, entries: 64, type: "array" },
  vips: { key: vipKey, value: vip, entries: 65536, type: "hash" },
  vips6: { key: vip6Key, value: vip, entries: 65536, type: "hash" },
  peers: { key: peerKey, value: peer, entries: 16384, type: "hash" },
  verdicts: { key: ifindexKey, value: verdicts, entries: 64, type: "per-CPU array" },
  probes: { key: peerKey, value: probe, entries: 16384, type: "hash" },
  keys: { key: ifindexKey, value: wireKey, entries: 8, type: "array" },
  recent: { key: ifindexKey, value: recent, entries: 4096, type: "array" },
} as const;
