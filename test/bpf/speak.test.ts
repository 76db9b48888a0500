/**
 * The peer protocol, rule by rule, on both compiled ingress programs.
 *
 * Usage: speak.test.ts [OBJECT], to see the rows fail on an object that was broken on purpose.
 */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  claimVerdict,
  type InterfaceEntry,
  MAX_PEERS,
  nodeState,
  type Peer,
  type Probe,
  peer as peerLayout,
  probe as probeLayout,
  type WireHeader,
  type WireKey,
  wireHeader,
  wireType,
} from "../../src/core/abi.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { checkOf } from "../../src/core/vip.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { findObject } from "../../src/kernel/object.ts";
import { mapOf } from "../../src/kernel/vips.ts";
import { untagged } from "./model.ts";
import {
  type Action,
  Bench,
  bytes,
  type Clock,
  type Counters,
  type Holding,
  hex,
  IFINDEX,
  neighbours,
  tickAgeOf,
} from "./run.ts";
import { addressOf, type Claim, ETH_P_ISAT, isSigned, sign, speak, understand } from "./speech.ts";

const { WIRE_PROBE, WIRE_ECHO, WIRE_CLAIM, WIRE_REPLY, WIRE_NOTICE } = wireType;
const { CLAIMED, FREE, RELEASED, MINE } = claimVerdict;
const { JOINING, LIVE, HEADLESS, PAST_HOLD, DRAINED, LAGGING } = nodeState;
const SOURCE_STALE = 1;
const ONLY_IPV4 = 4;
const KNOWN = 2;

const MS = 1_000_000n;
const SECOND = 1000n * MS;
const HOUR = 3600n * SECOND;

const OUR_MAC = "02 15 a7 00 00 01";
const PEER_MAC = "02 15 a7 00 00 02";
const OTHER_MAC = "02 15 a7 00 00 03";
const BROADCAST = "ff ff ff ff ff ff";
const OUR_NODE = 0x1111_0000_0000_0001n;
const OUR_INCARNATION = 0xa1a1_0000_0000_0001n;
const PEER_NODE = 0x2222_0000_0000_0002n;
const PEER_INCARNATION = 0xb2b2_0000_0000_0002n;
/** The nonces of the last probe and of the one before, to the peer and to all. */
const NONCES = { nonce: 0x51n, last: 0x52n, hello: 0x53n, lastHello: 0x54n };
const PEER_KEY = { node: PEER_NODE, ifindex: IFINDEX, zero: 0 };

const CLUSTER = 0xc1c1_0000_0000_0001n;
const KEY: WireKey = { k0: 0x0706050403020100n, k1: 0x0f0e0d0c0b0a0908n, id: 7, cluster: CLUSTER };
const SECOND_KEY: WireKey = { k0: 3n, k1: 0n, id: 8, cluster: CLUSTER };
/** Of version 1, under the same id. */
const V1_KEY: WireKey = { k0: 21n, k1: 22n, id: 7, cluster: CLUSTER };
const NO_KEY: WireKey = { k0: 0n, k1: 0n, id: 0, cluster: 0n };
const FOREIGN_KEY: WireKey = { k0: 1n, k1: 2n, id: 7, cluster: CLUSTER };

/** The content of the maps when the frame comes. */
interface World {
  clock?: Clock | "no entry";
  interface?: Partial<InterfaceEntry>;
  /** The entry in `probes`; undefined: none. */
  probe?: Partial<Probe>;
  /** The entry in `peers`; undefined: none. */
  peer?: Partial<Peer>;
  vips?: Record<string, Holding>;
  keys?: readonly WireKey[];
  /** The keys of version 1. */
  oldKeys?: readonly WireKey[];
  /** When a frame of another cluster was last passed on. */
  foreign_ns?: bigint;
  /** When a frame of our own name was last passed on. */
  own_ns?: bigint;
  /** When the bucket of strangers' probes will be full again. */
  strangers_ns?: bigint;
  /** When a peer was last heard, as `verdicts` says before the frame. */
  heard_ns?: bigint;
}

interface Expected {
  action: Action;
  counters?: Counters;
  /** The fields of an answer's header that differ from {@link ECHO}. */
  header?: Partial<WireHeader>;
  /** An answer's verdicts. */
  verdicts?: number[];
  /** The fields of the peer's entry that change; where there was none, those that are not zero. `NOW`: the frame's time. */
  peer?: Partial<Peer> | "none";
  /** True if `verdicts` says that a peer was heard. */
  isHeard?: boolean;
}
const NOW = -1n as bigint;

interface Row extends Expected {
  what: string;
  world?: (now: bigint) => World;
  frame: (now: bigint) => Uint8Array;
}

type Said = Partial<WireHeader>;
const header = (type: number, now: bigint, said: Said): Said => ({
  destination: bytes(OUR_MAC),
  source: bytes(PEER_MAC),
  type,
  state: LIVE,
  tick_age: 3,
  node: PEER_NODE,
  incarnation: PEER_INCARNATION,
  to: OUR_INCARNATION,
  nonce: NONCES.nonce,
  stamp: now - 100n * MS,
  name: "n2",
  interface: "eth0",
  ...said,
});
const probe =
  (said: Said | ((now: bigint) => Said) = {}, key = KEY) =>
  (now: bigint) =>
    speak(header(WIRE_PROBE, now, typeof said === "function" ? said(now) : said), key);
const echo =
  (said: Said | ((now: bigint) => Said) = {}, key = KEY) =>
  (now: bigint) =>
    speak(header(WIRE_ECHO, now, { stamp: 9000n, ...(typeof said === "function" ? said(now) : said) }), key);
const reply =
  (said: Said | ((now: bigint) => Said) = {}) =>
  (now: bigint) =>
    speak(header(WIRE_REPLY, now, { nonce: now - MS, ...(typeof said === "function" ? said(now) : said) }), KEY, [
      claim(OWNED, { verdict: RELEASED }),
    ]);
const ip = (address: string) => addressBytes(parseAddress(address));
const claim = (address: string, more: Partial<Claim> = {}): Partial<Claim> => ({
  ip: ip(address),
  verdict: CLAIMED,
  hash: BETTER,
  ...more,
});
const claims =
  (list: readonly Partial<Claim>[], said: Said | ((now: bigint) => Said) = {}) =>
  (now: bigint) =>
    speak(header(WIRE_CLAIM, now, { nonce: 2n, ...(typeof said === "function" ? said(now) : said) }), KEY, list);
const notice =
  (said: Said | ((now: bigint) => Said) = {}) =>
  (now: bigint) =>
    speak(header(WIRE_NOTICE, now, { nonce: 2n, ...(typeof said === "function" ? said(now) : said) }), KEY, [
      claim(OWNED),
    ]);

const OWNED = "10.9.0.1";
const OWNED6 = "2001:db8::1:1234";
const OTHER6 = "2001:db8::1:1235";
const neighbours6 = [...neighbours(hex(ip(OWNED6)))];
/** This node's hash for each VIP, and a claimant's. */
const OUR_BID = 1000n;
const BETTER = 999n;
const WORSE = 1001n;

/** The peer's entry once it has echoed, and our answer to a probe of its own. */
const known = (now: bigint, more: Partial<Peer> = {}): Partial<Peer> => ({
  node: "n2",
  state: LIVE,
  mac: bytes(PEER_MAC),
  max_version: 2,
  key_id: KEY.id,
  incarnation: PEER_INCARNATION,
  stamp_ns: 8000n,
  tick_age_ms: 200n,
  interface: "eth0",
  echoed_ns: now - 100n * MS,
  heard_ns: now - 100n * MS,
  echoes: 5n,
  ...more,
});
const old =
  (type: number, said: Said = {}, list: readonly Partial<Claim>[] = [], key = V1_KEY) =>
  (now: bigint) =>
    speak(header(type, now, { version: 1, ...said }), key, list);
const ECHO: Said = {
  destination: bytes(PEER_MAC),
  source: bytes(OUR_MAC),
  protocol: ETH_P_ISAT,
  version: 2,
  type: WIRE_ECHO,
  key_id: KEY.id,
  state: LIVE,
  flags: 0,
  max_version: 2,
  count: 0,
  tick_age: 0,
  node: OUR_NODE,
  incarnation: OUR_INCARNATION,
  to: PEER_INCARNATION,
  nonce: NONCES.nonce,
  name: "n1",
  cluster: CLUSTER,
  interface: "test0",
};
const V1_ECHO: Said = { version: 1, cluster: 0n, interface: "" };
/** The entry that a probe makes of its sender, if nobody knew it. */
const BY_PROBE: Partial<Peer> = {
  node: "n2",
  state: LIVE,
  mac: bytes(PEER_MAC),
  max_version: 2,
  key_id: KEY.id,
  incarnation: PEER_INCARNATION,
  interface: "eth0",
  heard_ns: NOW,
};
/** What the entry remembers of the last probe that was echoed. */
const PROBED: Partial<Peer> = { probe_incarnation: PEER_INCARNATION, probe_nonce: NONCES.nonce };
const PROBED_BY = { ...BY_PROBE, ...PROBED };
/** The entry that the last echo leaves. */
const ECHOED: Partial<Peer> = {
  echo_nonce: NONCES.nonce,
  stamp_ns: 9000n,
  tick_age_ms: 300n,
  echoed_ns: NOW,
  heard_ns: NOW,
};
const BY_ECHO: Partial<Peer> = { ...BY_PROBE, ...ECHOED, echoes: 1n };
const knows =
  (more: (now: bigint) => Partial<Peer> = () => ({})) =>
  (now: bigint): World => ({
    peer: known(now, more(now)),
  });
const refused = (what: string, frame: Row["frame"], world?: Row["world"]): Row => ({
  what: `${what} is refused`,
  frame,
  ...(world ? { world } : {}),
  action: "drop",
  counters: { wire_refused: 1 },
});
const stale = (what: string, frame: Row["frame"], world?: Row["world"]): Row => ({
  what: `${what} is stale`,
  frame,
  ...(world ? { world } : {}),
  action: "drop",
  counters: { wire_stale: 1 },
});
const cut =
  (frame: Row["frame"], by: number, key = KEY): Row["frame"] =>
  (now) => {
    const whole = frame(now);
    const resized = new Uint8Array(whole.length - by);
    resized.set(whole.subarray(0, resized.length));
    return resized.length < 8 ? resized : sign(resized, key);
  };
const many = (count: number) => Array.from({ length: count }, (_, i) => claim(`10.9.7.${i}`));

const rows: Row[] = [
  // before anything is read
  { what: "without a key, a frame passes unread", frame: probe(), world: () => ({ keys: [] }), action: "pass" },
  {
    what: "without a first key, a frame passes unread though others could verify it",
    frame: probe(),
    world: () => ({ keys: [NO_KEY, KEY] }),
    action: "pass",
  },
  {
    what: "on an interface where this node does not announce, a frame passes unread",
    frame: probe(),
    world: () => ({ clock: "no entry" }),
    action: "pass",
  },

  // what cannot be read
  refused("a frame to another node", probe({ destination: bytes(OTHER_MAC) })),
  refused("a frame to a group", probe({ destination: bytes("01 00 5e 00 00 01") })),
  refused("a bare Ethernet header", (now) => probe()(now).subarray(0, 14)),
  refused("a header that is cut short", (now) => probe()(now).subarray(0, 95)),
  refused("a header without a tag", (now) => probe()(now).subarray(0, 96)),
  refused("a frame that is a byte short", cut(probe(), 1)),
  refused("a frame that is a byte long", cut(probe(), -1)),
  refused("a frame that is a word long", cut(probe(), -8)),
  refused("a claim that is a claim short", cut(claims(many(2)), 32)),
  refused("a claim that is a byte short", cut(claims(many(2)), 1)),
  refused("a claim that is a byte long", cut(claims(many(2)), -1)),
  refused("a claim that is longer than any frame of ours", cut(claims(many(2)), -1400)),
  refused("a claim of one VIP more than there may be", claims(many(33))),
  refused("a probe with a claim", (now) => speak(header(WIRE_PROBE, now, {}), KEY, many(1))),
  refused("an echo with a claim", (now) => speak(header(WIRE_ECHO, now, {}), KEY, many(1)), knows()),
  refused("a count that is not that of the claims", claims(many(2), { count: 1 })),
  refused("version 0", probe({ version: 0 })),
  refused("a later version", probe({ version: 3 })),
  refused("type 0", probe({ type: 0 })),
  refused("an unknown type", probe({ type: 6 })),
  refused("a key of an unknown id", probe({}, { ...KEY, id: 9 })),
  refused("a tag by another key of that id", probe({}, FOREIGN_KEY)),
  refused("a frame with the id of a place that holds no key", probe({}, { ...NO_KEY, cluster: CLUSTER })),
  refused("a frame of zeroes", () => {
    const frame = new Uint8Array(136);
    frame.set(bytes(BROADCAST));
    frame.set(ETH_P_ISAT, 12);
    return frame;
  }),

  // version 1
  refused("a claim in version 1 of one VIP more than there may be", old(WIRE_CLAIM, {}, many(65))),
  refused("a claim in version 1 that is a byte short", cut(old(WIRE_CLAIM, {}, many(2)), 1, V1_KEY)),
  refused("a claim in version 1 with a tag by the key of version 2", old(WIRE_CLAIM, {}, many(2), KEY)),
  refused("a claim in version 2 with a tag by the key of version 1", (now) =>
    speak(header(WIRE_CLAIM, now, { nonce: 2n }), V1_KEY, many(2)),
  ),
  {
    what: "a probe in version 1 is echoed in version 1, without cluster and interface",
    frame: old(WIRE_PROBE, { max_version: 1 }),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { ...V1_ECHO },
    peer: { ...PROBED_BY, max_version: 1, interface: "" },
    isHeard: true,
  },
  {
    what: "a probe in version 1 to this node alone is echoed, be it that its sender knows more",
    frame: old(WIRE_PROBE),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { ...V1_ECHO },
    peer: { ...PROBED_BY, interface: "" },
    isHeard: true,
  },
  stale(
    "a hello in version 1 of a node that knows more",
    old(WIRE_PROBE, { destination: bytes(BROADCAST), to: 0n, stamp: 0n }),
  ),
  {
    what: "a hello in version 1 of a node that knows no more is echoed",
    frame: old(WIRE_PROBE, { destination: bytes(BROADCAST), to: 0n, stamp: 0n, max_version: 1 }),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { ...V1_ECHO },
    peer: "none",
  },
  {
    what: "an echo in version 1 is taken, and tells no interface",
    frame: old(WIRE_ECHO, { stamp: 9000n, max_version: 1 }),
    world: (now) => ({ ...knows()(now), probe: {} }),
    action: "pass",
    counters: { wire_taken: 1 },
    peer: { ...ECHOED, echoes: 6n, max_version: 1, interface: "" },
    isHeard: true,
  },
  {
    what: "of a claim of 64 VIPs in version 1 each is decided by itself",
    frame: old(WIRE_CLAIM, { nonce: 2n, max_version: 1 }, many(64)),
    world: (now) => ({ ...knows()(now), vips: { "10.9.7.0": "owned", "10.9.7.1": "not owned", "10.9.7.63": "owned" } }),
    action: "answer",
    counters: { wire_taken: 1, released: 2 },
    header: { ...V1_ECHO, type: WIRE_REPLY, nonce: 2n, count: 64 },
    verdicts: Array.from({ length: 64 }, (_, i) => (i === 0 || i === 63 ? RELEASED : FREE)),
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },

  // other clusters
  ...(
    [
      ["of another cluster", (now) => probe({}, { ...KEY, cluster: CLUSTER + 1n })(now)],
      ["of another cluster, with the key of that", (now) => probe({}, { ...FOREIGN_KEY, cluster: 0n })(now)],
      [
        "of this node's name in another cluster",
        (now) => echo({ node: OUR_NODE, cluster: CLUSTER ^ (1n << 63n) })(now),
      ],
      ["in version 1, where that is not spoken any more", (now) => old(WIRE_CLAIM, { max_version: 1 }, many(2))(now)],
    ] as [string, Row["frame"]][]
  ).flatMap(([what, frame]): Row[] => [
    {
      what: `a frame ${what} is foreign, and the first in a while is passed on`,
      frame,
      world: (now) => ({ ...knows()(now), oldKeys: [], vips: { [OWNED]: "owned" } }),
      action: "pass",
      counters: { wire_foreign: 1 },
    },
    {
      what: `another frame ${what} is dropped`,
      frame,
      world: (now) => ({ ...knows()(now), oldKeys: [], foreign_ns: now + HOUR }),
      action: "drop",
      counters: { wire_foreign: 1 },
    },
  ]),
  stale(
    "a hello in version 1 of a node that knows more, where version 1 is not spoken any more,",
    old(WIRE_PROBE, { destination: bytes(BROADCAST), to: 0n, stamp: 0n }),
    () => ({ oldKeys: [] }),
  ),

  // what was recorded
  ...(
    [
      ["an echo", (now) => echo({ nonce: now - 6n * SECOND })(now)],
      ["a reply", (now) => reply({ nonce: now - 6n * SECOND })(now)],
      ["a claim", (now) => claims([claim(OWNED)], { stamp: now - 6n * SECOND })(now)],
      ["a notice", (now) => notice({ stamp: now - 6n * SECOND })(now)],
      ["an echo of our own name", (now) => echo({ node: OUR_NODE, nonce: now - 6n * SECOND })(now)],
    ] as [string, Row["frame"]][]
  ).map(([what, frame]) =>
    stale(`${what} that gives back what was five seconds old when a peer was last heard`, frame, (now) => ({
      ...knows()(now),
      probe: { nonce: now - 6n * SECOND },
      vips: { [OWNED]: "owned" },
      heard_ns: now - 100n * MS,
    })),
  ),
  {
    what: "an echo that gives back what was younger when a peer was last heard is taken, whatever the time is now",
    frame: (now) => echo({ nonce: now - 6n * SECOND })(now),
    world: (now) => ({
      ...knows(() => ({ echo_nonce: now - 6n * SECOND }))(now),
      probe: { nonce: now - 6n * SECOND },
      heard_ns: now - 2n * SECOND,
    }),
    action: "drop",
    counters: { wire_taken: 1 },
    peer: { stamp_ns: 9000n, tick_age_ms: 300n, echoed_ns: NOW, heard_ns: NOW, echoes: 6n },
    isHeard: true,
  },
  {
    what: "a probe that gives back what is older is echoed",
    frame: probe((now) => ({ stamp: now - 6n * SECOND })),
    world: (now) => ({ heard_ns: now }),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: "none",
  },

  // probes
  {
    what: "a probe of a node that nobody knew is echoed, and the node is entered",
    frame: probe(),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: PROBED_BY,
    isHeard: true,
  },
  {
    what: "a broadcast probe without a stamp is echoed, and proves nothing",
    frame: probe({ destination: bytes(BROADCAST), to: 0n, stamp: 0n }),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: "none",
  },
  ...(
    [
      ["to an earlier incarnation of this node", () => ({ to: OUR_INCARNATION + 1n })],
      ["without a stamp", () => ({ stamp: 0n })],
      ["with a stamp that is five seconds old", (now) => ({ stamp: now - 5n * SECOND })],
      ["with a stamp of a time to come", (now) => ({ stamp: now + HOUR })],
    ] as [string, (now: bigint) => Said][]
  ).map(
    ([what, said]): Row => ({
      what: `a probe ${what} is echoed, and proves nothing`,
      frame: probe(said),
      action: "answer",
      counters: { wire_echoed: 1 },
      peer: "none",
    }),
  ),
  {
    what: "a probe with a stamp that is almost five seconds old is fresh",
    frame: probe((now) => ({ stamp: now - 4n * SECOND })),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: PROBED_BY,
    isHeard: true,
  },
  {
    what: "a probe of a node that has echoed is a sign of life, and says nothing of what it is",
    frame: probe({
      state: JOINING,
      flags: SOURCE_STALE,
      incarnation: 5n,
      source: bytes(OTHER_MAC),
      name: "x",
      max_version: 3,
    }),
    world: knows(),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { destination: bytes(OTHER_MAC), to: 5n },
    peer: { heard_ns: NOW, ...PROBED, probe_incarnation: 5n },
    isHeard: true,
  },
  {
    what: "a probe of a node that has never echoed says what it is now",
    frame: probe({ state: DRAINED, flags: SOURCE_STALE }),
    world: (now) => ({ peer: { node: "n2", state: JOINING, heard_ns: now - SECOND } }),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: { ...PROBED_BY, state: DRAINED, source_stale: true },
    isHeard: true,
  },
  {
    what: "a probe that another key of ours signed is echoed, and the first key signs",
    frame: probe({}, SECOND_KEY),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: { ...PROBED_BY, key_id: SECOND_KEY.id },
    isHeard: true,
  },
  stale(
    "a probe that is not later than the last one of that peer",
    probe(),
    knows(() => PROBED),
  ),
  stale(
    "a broadcast probe of before the last one",
    probe({ destination: bytes(BROADCAST), to: 0n, stamp: 0n }),
    knows(() => ({ ...PROBED, probe_nonce: NONCES.nonce + 1n })),
  ),
  {
    what: "a probe that is later than the last one of that peer is echoed, be the bucket empty",
    frame: probe({ to: 0n }),
    world: (now) => ({
      ...knows(() => ({ ...PROBED, probe_nonce: NONCES.nonce - 1n }))(now),
      strangers_ns: now + HOUR,
    }),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: PROBED,
  },
  {
    what: "the first probe of an incarnation that has echoed is no stranger's",
    frame: probe({ to: 0n }),
    world: (now) => ({ ...knows()(now), strangers_ns: now + HOUR }),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: PROBED,
  },
  ...(
    [
      ["a node that was never heard", {}, undefined],
      ["another incarnation of a peer", { incarnation: 5n }, PROBED],
      ["another node of our name", { node: OUR_NODE, incarnation: 5n }, undefined],
    ] as [string, Said, Partial<Peer> | undefined][]
  ).map(
    ([who, said, peer]): Row => ({
      what: `a probe of ${who} is dropped where there were too many of strangers`,
      frame: probe({ to: 0n, ...said }),
      world: (now) => ({ ...(peer ? knows(() => peer)(now) : {}), strangers_ns: now + HOUR }),
      action: "drop",
      counters: { wire_stranger: 1 },
    }),
  ),
  {
    what: "an echo goes to the asker's Ethernet source",
    frame: probe({ source: bytes(OTHER_MAC) }),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { destination: bytes(OTHER_MAC) },
    peer: { ...PROBED_BY, mac: bytes(OTHER_MAC) },
    isHeard: true,
  },
  {
    what: "an echo says that the asker is known, if its speaker is the one that is counted with",
    frame: probe(),
    world: (now) => ({ ...knows()(now), probe: { incarnation: PEER_INCARNATION } }),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { flags: KNOWN },
    peer: { heard_ns: NOW, ...PROBED },
    isHeard: true,
  },
  {
    what: "an echo does not say so to a later speaker of that node",
    frame: probe(),
    world: (now) => ({ ...knows()(now), probe: { incarnation: PEER_INCARNATION - 1n } }),
    action: "answer",
    counters: { wire_echoed: 1 },
    peer: { heard_ns: NOW, ...PROBED },
    isHeard: true,
  },
  {
    what: "an echo says that the source is out of reach",
    frame: probe(),
    world: (now) => ({ ...knows()(now), interface: { source_stale: true } }),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { flags: SOURCE_STALE },
    peer: { heard_ns: NOW, ...PROBED },
    isHeard: true,
  },
  {
    what: "an echo says that this node cannot speak IPv6",
    frame: probe(),
    world: (now) => ({ ...knows()(now), interface: { only_ipv4: true } }),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { flags: ONLY_IPV4 },
    peer: { heard_ns: NOW, ...PROBED },
    isHeard: true,
  },
  {
    what: "an echo tells that its sender cannot speak IPv6",
    frame: echo({ flags: ONLY_IPV4 }),
    world: (now) => ({ ...knows()(now), probe: {} }),
    action: "drop",
    counters: { wire_taken: 1 },
    peer: { ...ECHOED, echoes: 6n, only_ipv4: true },
    isHeard: true,
  },
  ...(
    [
      ["live", LIVE, LIVE],
      ["live", JOINING, JOINING],
      ["live", DRAINED, DRAINED],
      ["ticked a moment after this frame", LIVE, LIVE],
      ["headless", LIVE, HEADLESS],
      ["headless", JOINING, JOINING],
      ["headless", DRAINED, DRAINED],
      ["past hold", LIVE, PAST_HOLD],
      ["past hold", JOINING, PAST_HOLD],
      ["past hold", DRAINED, DRAINED],
      ["live", LAGGING, LAGGING],
      ["headless", LAGGING, HEADLESS],
      ["past hold", LAGGING, PAST_HOLD],
      ["gone", LIVE, PAST_HOLD],
      ["never ticked", LIVE, JOINING],
      ["never ticked", DRAINED, JOINING],
    ] as [Clock, number, number][]
  ).map(
    ([clock, state, said]): Row => ({
      what: `a node that is ${clock}, and was ${nameOf(state)}, says ${nameOf(said)}`,
      frame: probe({ to: 0n }),
      world: () => ({ clock, interface: { state } }),
      action: "answer",
      counters: { wire_echoed: 1 },
      header: { state: said, tick_age: tickAgeOf(clock) },
      peer: "none",
    }),
  ),
  {
    what: "an echo tells the tick's age in tenths of a second",
    frame: probe({ to: 0n }),
    world: (now) => ({ interface: { tick_ns: now - 1_250n * MS } }),
    action: "answer",
    counters: { wire_echoed: 1 },
    header: { tick_age: 12 },
    peer: "none",
  },

  // echoes
  ...Object.entries(NONCES).map(
    ([which, nonce]): Row => ({
      what: `an echo to the ${which} nonce is taken, and passed on as its node was not known`,
      frame: echo({ nonce }),
      world: () => ({ probe: {} }),
      action: "pass",
      counters: { wire_taken: 1 },
      peer: { ...BY_ECHO, echo_nonce: nonce },
      isHeard: true,
    }),
  ),
  {
    what: "an echo to a broadcast's nonce is taken from a node that is not probed yet",
    frame: echo({ nonce: NONCES.hello }),
    action: "pass",
    counters: { wire_taken: 1 },
    peer: { ...BY_ECHO, echo_nonce: NONCES.hello },
    isHeard: true,
  },
  stale("an echo to a nonce that was never sent", echo({ nonce: 0x55n }), () => ({ probe: {} })),
  stale("an echo to no nonce", echo({ nonce: 0n }), () => ({
    probe: { nonce: 0n, last_nonce: 0n },
    interface: { hello_nonce: 0n, last_hello_nonce: 0n },
  })),
  stale("an echo to a nonce that another node was sent", echo({ node: PEER_NODE + 1n }), () => ({ probe: {} })),
  stale("an echo to an earlier incarnation of this node", echo({ to: OUR_INCARNATION - 1n }), () => ({ probe: {} })),
  {
    what: "an echo that tells nothing new is stamped, and not passed on",
    frame: echo(),
    world: (now) => ({ ...knows()(now), probe: {} }),
    action: "drop",
    counters: { wire_taken: 1 },
    peer: { ...ECHOED, echoes: 6n },
    isHeard: true,
  },
  ...(
    [
      ["another state", { state: DRAINED }, { state: DRAINED }],
      ["another speaker", { incarnation: 5n }, { incarnation: 5n }],
      ["a stale source", { flags: SOURCE_STALE }, { source_stale: true }],
      ["that it knows us", { flags: KNOWN }, { knows_us: true }],
      ["a later version", { max_version: 3 }, { max_version: 3 }],
      ["another MAC", { source: bytes(OTHER_MAC) }, { mac: bytes(OTHER_MAC) }],
    ] as [string, Said, Partial<Peer>][]
  ).map(
    ([what, said, changed]): Row => ({
      what: `an echo that tells ${what} is passed on`,
      frame: echo(said),
      world: (now) => ({ ...knows()(now), probe: {} }),
      action: "pass",
      counters: { wire_taken: 1 },
      peer: { ...ECHOED, echoes: 6n, ...changed },
      isHeard: true,
    }),
  ),
  {
    what: "an echo of a node that was silent for more than five seconds is passed on",
    frame: echo(),
    world: (now) => ({ ...knows(() => ({ echoed_ns: now - 6n * SECOND }))(now), probe: {} }),
    action: "pass",
    counters: { wire_taken: 1 },
    peer: { ...ECHOED, echoes: 6n },
    isHeard: true,
  },
  {
    what: "an echo of a node that was only known by its probes is passed on",
    frame: echo(),
    world: () => ({ peer: { ...BY_PROBE, heard_ns: 1n }, probe: {} }),
    action: "pass",
    counters: { wire_taken: 1 },
    peer: BY_ECHO,
    isHeard: true,
  },
  ...(
    [
      ["is older than the one before to its nonce", { stamp: 7999n }, NONCES.nonce],
      ["is as old as the one before to its nonce", { stamp: 8000n }, NONCES.nonce],
      ["is to a nonce before that of the last one", { stamp: 9000n }, NONCES.nonce + 1n],
    ] as [string, Said, bigint][]
  ).flatMap(([what, said, echo_nonce]) =>
    (
      [
        ["", 100n * MS],
        [", though its node was silent since", 6n * SECOND],
      ] as [string, bigint][]
    ).map(([silent, age]) =>
      stale(`an echo that ${what}${silent}`, echo(said), (now) => ({
        ...knows(() => ({ echo_nonce, echoed_ns: now - age }))(now),
        probe: {},
      })),
    ),
  ),
  {
    what: "an echo by a younger clock is taken with the next nonce: its node has rebooted",
    frame: echo({ stamp: 7999n }),
    world: (now) => ({ ...knows(() => ({ echo_nonce: NONCES.nonce - 1n }))(now), probe: {} }),
    action: "drop",
    counters: { wire_taken: 1 },
    peer: { ...ECHOED, stamp_ns: 7999n, echoes: 6n },
    isHeard: true,
  },

  // claims
  ...(
    [
      ["not managed", undefined, FREE, FREE],
      ["not owned", "not owned", FREE, FREE],
      ["owned", "owned", RELEASED, MINE],
      ["owned again", "owned again", RELEASED, MINE],
      ["owned, and released since", "owned, and released since", FREE, FREE],
      ["owned, and released in that instant", "owned, and released in that instant", FREE, FREE],
      ["claiming", "claiming", FREE, MINE],
      ["claiming, and released since", "claiming, and released since", FREE, FREE],
      ["leaving", "leaving", RELEASED, RELEASED],
      ["leaving, and released since", "leaving, and released since", FREE, FREE],
      ["left", "left", FREE, FREE],
    ] as [string, Holding | undefined, number, number][]
  ).flatMap(([what, holding, better, worse]) =>
    (
      [
        ["a better hash", BETTER, better],
        ["the same hash", OUR_BID, worse],
        ["a worse hash", WORSE, worse],
      ] as [string, bigint, number][]
    ).flatMap(([by, hash, verdict]): Row[] => {
      const isHeld = ["owned", "owned again", "claiming", "leaving"].includes(what);
      return [OWNED, OWNED6].map((address) => ({
        what: `a claim by ${by} of ${address}, which is ${what} here: ${verdictName(verdict)}`,
        frame: claims([claim(address, { hash })]),
        world: (now) => ({ ...knows()(now), ...(holding ? { vips: { [address]: holding } } : {}) }),
        action: "answer",
        counters: { wire_taken: 1, ...(isHeld && verdict !== MINE ? { released: 1 } : {}) },
        header: { type: WIRE_REPLY, nonce: 2n, count: 1 },
        verdicts: [verdict],
        peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
        isHeard: true,
      }));
    }),
  ),
  ...neighbours6.map(
    ([bit, address]): Row => ({
      what: `a claim of an IPv6 VIP but for bit ${bit} takes nothing`,
      frame: claims([claim(OWNED6, { ip: bytes(address) })]),
      world: (now) => ({ ...knows()(now), vips: { [OWNED6]: "owned" } }),
      action: "answer",
      counters: { wire_taken: 1 },
      header: { type: WIRE_REPLY, nonce: 2n, count: 1 },
      verdicts: [FREE],
      peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
      isHeard: true,
    }),
  ),
  {
    what: "a claim of VIPs of both families, of which one of each is held here",
    frame: claims([OTHER6, OWNED, OWNED6, "10.9.7.7"].map((address) => claim(address))),
    world: (now) => ({ ...knows()(now), vips: { [OWNED]: "owned", [OWNED6]: "owned" } }),
    action: "answer",
    counters: { wire_taken: 1, released: 2 },
    header: { type: WIRE_REPLY, nonce: 2n, count: 4 },
    verdicts: [FREE, RELEASED, RELEASED, FREE],
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },
  ...(
    [
      ["live", {}, MINE],
      ["live", { source_stale: true }, MINE],
      ["live", { state: LAGGING }, RELEASED],
      ["live", { state: JOINING }, RELEASED],
      ["live", { state: DRAINED }, RELEASED],
      ["headless", {}, RELEASED],
      ["past hold", {}, RELEASED],
      ["fenced", {}, RELEASED],
      ["gone", {}, RELEASED],
      ["never ticked", {}, RELEASED],
    ] as [Clock, Partial<InterfaceEntry>, number][]
  ).flatMap(([clock, entry, plain]) =>
    [
      { asked: CLAIMED, verdict: plain, how: "" },
      // A stand-in for a headless node wants a VIP only if that node does not have it.
      {
        asked: FREE,
        verdict: clock === "headless" || clock === "past hold" ? MINE : plain,
        how: " by a stand-in for a headless node",
      },
    ].map(
      ({ asked, verdict, how }): Row => ({
        what: `a claim${how} by a worse hash, of a node that is ${clock}${"state" in entry ? ` and ${nameOf(entry.state!)}` : ""}${entry.source_stale ? " without its source" : ""}: ${verdictName(verdict)}`,
        frame: claims([claim(OWNED, { hash: WORSE, verdict: asked })]),
        world: (now) => ({ ...knows()(now), clock, interface: entry, vips: { [OWNED]: "owned" } }),
        action: "answer",
        counters: { wire_taken: 1, ...(verdict === RELEASED ? { released: 1 } : {}) },
        header: {
          type: WIRE_REPLY,
          nonce: 2n,
          count: 1,
          flags: entry.source_stale ? SOURCE_STALE : 0,
          state:
            entry.state ??
            ({ headless: HEADLESS, "never ticked": JOINING, live: LIVE } as Partial<Record<Clock, number>>)[clock] ??
            PAST_HOLD,
          tick_age: tickAgeOf(clock),
        },
        verdicts: [verdict],
        peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
        isHeard: true,
      }),
    ),
  ),
  // rank comes before hash: fresh, or lagging beside a fresh one
  ...(
    [
      ["live", LIVE, false, LAGGING, true, MINE, MINE],
      ["live", LIVE, true, LAGGING, true, RELEASED, MINE],
      ["live", LIVE, false, LIVE, true, RELEASED, MINE],
      ["live", LAGGING, true, LIVE, false, RELEASED, RELEASED],
      ["live", LAGGING, true, LIVE, true, RELEASED, MINE],
      ["live", LAGGING, true, LAGGING, true, RELEASED, MINE],
      ["live", LAGGING, true, LAGGING, false, RELEASED, MINE],
      ["headless", LAGGING, true, LAGGING, true, RELEASED, RELEASED],
    ] as [Clock, number, boolean, number, boolean, number, number][]
  ).flatMap(([clock, ours, isStale, its, isItStale, better, worse]) =>
    (
      [
        ["better", BETTER, better],
        ["worse", WORSE, worse],
      ] as const
    ).map(
      ([by, hash, verdict]): Row => ({
        what: `a claim by a ${by} hash of a node that is ${nameOf(its)} with a ${isItStale ? "stale" : "fresh"} source, to one that is ${clock} and ${nameOf(ours)} with a ${isStale ? "stale" : "fresh"} one: ${verdictName(verdict)}`,
        frame: claims([claim(OWNED, { hash })], { state: its, flags: isItStale ? SOURCE_STALE : 0 }),
        world: (now) => ({
          ...{ ...knows()(now), clock, vips: { [OWNED]: "owned" } },
          interface: { state: ours, source_stale: isStale },
        }),
        action: "answer",
        counters: { wire_taken: 1, ...(verdict === RELEASED ? { released: 1 } : {}) },
        header: {
          ...{ type: WIRE_REPLY, nonce: 2n, count: 1, flags: isStale ? SOURCE_STALE : 0 },
          ...{ state: clock === "headless" ? HEADLESS : ours, tick_age: tickAgeOf(clock) },
        },
        verdicts: [verdict],
        peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
        isHeard: true,
      }),
    ),
  ),
  {
    what: "a claim of another speaker of that node is taken: nobody here may have asked it yet",
    frame: claims([claim(OWNED)], { incarnation: 5n }),
    world: knows(),
    action: "answer",
    counters: { wire_taken: 1 },
    header: { type: WIRE_REPLY, nonce: 2n, count: 1, to: 5n },
    verdicts: [FREE],
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },
  {
    what: "a claim of nothing is answered",
    frame: claims([]),
    world: knows(),
    action: "answer",
    counters: { wire_taken: 1 },
    header: { type: WIRE_REPLY, nonce: 2n },
    verdicts: [],
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },
  {
    what: "of a claim of 32 VIPs each is decided by itself",
    frame: claims(many(32)),
    world: (now) => ({
      ...knows()(now),
      vips: { "10.9.7.0": "owned", "10.9.7.1": "not owned", "10.9.7.30": "claiming", "10.9.7.31": "owned" },
    }),
    action: "answer",
    counters: { wire_taken: 1, released: 3 },
    header: { type: WIRE_REPLY, nonce: 2n, count: 32 },
    verdicts: Array.from({ length: 32 }, (_, i) => (i === 0 || i === 31 ? RELEASED : FREE)),
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },
  {
    what: "an IPv6 VIP that begins with the bytes of an IPv4 one is free",
    frame: claims([claim(OWNED, { ip: Uint8Array.from({ length: 16 }, (_, i) => [10, 9, 0, 1][i] ?? 0), family: 6 })]),
    world: (now) => ({ ...knows()(now), vips: { [OWNED]: "owned" } }),
    action: "answer",
    counters: { wire_taken: 1 },
    header: { type: WIRE_REPLY, nonce: 2n, count: 1 },
    verdicts: [FREE],
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },
  ...[1, 2, 3, 10, 15, 16, 31].map(
    (count): Row => ({
      what: `a claim of ${count} VIPs is answered with as many`,
      frame: claims(many(count)),
      world: knows(),
      action: "answer",
      counters: { wire_taken: 1 },
      header: { type: WIRE_REPLY, nonce: 2n, count },
      verdicts: Array.from({ length: count }, () => FREE),
      peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
      isHeard: true,
    }),
  ),

  // claims and notices that are not taken
  ...(
    [
      ["a claim", (said: Said | ((now: bigint) => Said)) => claims([claim(OWNED)], said)],
      ["a notice", notice],
    ] as [string, (said: Said | ((now: bigint) => Said)) => Row["frame"]][]
  ).flatMap(([kind, make]): Row[] => [
    stale(`${kind} of a node that nobody knows`, make({})),
    stale(`${kind} to an earlier incarnation of this node`, make({ to: 5n }), knows()),
    stale(`${kind} without a stamp`, make({ stamp: 0n }), knows()),
    stale(
      `${kind} with a stamp that is five seconds old`,
      make((now) => ({ stamp: now - 5n * SECOND })),
      knows(),
    ),
    stale(
      `${kind} with a stamp of a time to come`,
      make((now) => ({ stamp: now + HOUR })),
      knows(),
    ),
    stale(
      `${kind} that was taken before`,
      make({}),
      knows((now) => ({ taken_stamp_ns: now - 100n * MS, taken_nonce: 2n })),
    ),
    stale(
      `${kind} with the stamp of a later one, and a lesser nonce`,
      make({}),
      knows((now) => ({ taken_stamp_ns: now - 100n * MS, taken_nonce: 3n })),
    ),
    stale(
      `${kind} with a lesser stamp than a later one, and a greater nonce`,
      make({}),
      knows((now) => ({ taken_stamp_ns: now - 99n * MS, taken_nonce: 1n })),
    ),
  ]),
  {
    what: "a claim with the stamp of the one before, and a greater nonce, is taken",
    frame: claims([claim(OWNED)]),
    world: knows((now) => ({ taken_stamp_ns: now - 100n * MS, taken_nonce: 1n })),
    action: "answer",
    counters: { wire_taken: 1 },
    header: { type: WIRE_REPLY, nonce: 2n, count: 1 },
    verdicts: [FREE],
    peer: { heard_ns: NOW, taken_nonce: 2n },
    isHeard: true,
  },
  {
    what: "a claim with a greater stamp, and a lesser nonce, is taken",
    frame: claims([claim(OWNED)]),
    world: knows((now) => ({ taken_stamp_ns: now - 101n * MS, taken_nonce: 3n })),
    action: "answer",
    counters: { wire_taken: 1 },
    header: { type: WIRE_REPLY, nonce: 2n, count: 1 },
    verdicts: [FREE],
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },
  {
    what: "a notice is passed on",
    frame: notice(),
    world: (now) => ({ ...knows()(now), vips: { [OWNED]: "owned" } }),
    action: "pass",
    counters: { wire_taken: 1 },
    peer: { heard_ns: NOW, taken_nonce: 2n, taken_stamp_ns: NOW },
    isHeard: true,
  },

  // replies
  {
    what: "a reply is passed on",
    frame: reply(),
    world: knows(),
    action: "pass",
    counters: { wire_taken: 1 },
    peer: { heard_ns: NOW },
    isHeard: true,
  },
  stale("a reply of a node that nobody knows", reply()),
  stale("a reply to an earlier incarnation of this node", reply({ to: 5n }), knows()),
  stale(
    "a reply to a claim of five seconds ago",
    reply((now) => ({ nonce: now - 5n * SECOND })),
    knows(),
  ),
  stale(
    "a reply to a claim of a time to come",
    reply((now) => ({ nonce: now + HOUR })),
    knows(),
  ),
  stale("a reply to no claim", reply({ nonce: 0n }), knows()),

  // behind a tag
  ...(
    [
      ["two tags of no VLAN", [0x81, 0, 0, 0, 0x88, 0xa8, 0, 0], true],
      ["a tag of a VLAN", [0x81, 0, 0, 5], false],
      ["a tag of no VLAN and one of a VLAN", [0x81, 0, 0, 0, 0x81, 0, 0, 5], false],
    ] as [string, number[], boolean][]
  ).map(
    ([what, tag, isDropped]): Row => ({
      what: `a probe behind ${what}, ${isDropped ? "which the stack would take off, is dropped" : "which is another wire's, is passed unread"}`,
      frame: (now) => {
        const frame = probe()(now);
        return Uint8Array.from([...frame.subarray(0, 12), ...tag, ...frame.subarray(12)]);
      },
      action: isDropped ? "drop" : "pass",
      counters: isDropped ? { wire_refused: 1 } : {},
    }),
  ),

  ...(
    [
      [0x81, 0, 0xe0, 0],
      [0x88, 0xa8, 0, 0],
    ] as number[][]
  ).map(
    (tag): Row => ({
      what: `a probe behind a priority tag (${tag}) is echoed as one without it`,
      frame: (now) => {
        const frame = probe()(now);
        return Uint8Array.from([...frame.subarray(0, 12), ...tag, ...frame.subarray(12)]);
      },
      action: "answer",
      counters: { wire_echoed: 1 },
      peer: PROBED_BY,
      isHeard: true,
    }),
  ),

  // our own name
  {
    what: "a probe of another speaker of our name is echoed, so that it learns that the name is taken",
    frame: probe({ node: OUR_NODE, to: 0n }),
    action: "answer",
    counters: { wire_own: 1 },
  },
  {
    what: "a probe of our own that comes back is passed on, and not echoed",
    frame: probe((now) => ({ node: OUR_NODE, incarnation: OUR_INCARNATION, nonce: now - MS })),
    action: "pass",
    counters: { wire_own: 1 },
  },
  stale(
    "a probe of our own that was recorded",
    probe((now) => ({ node: OUR_NODE, incarnation: OUR_INCARNATION, nonce: now - 6n * SECOND })),
  ),
  ...(
    [
      ["an echo", echo, "nonce"],
      ["a claim", (said) => claims([claim(OWNED)], said), "stamp"],
      ["a reply", reply, "nonce"],
      ["a notice", notice, "stamp"],
    ] as [string, (said: (now: bigint) => Said) => Row["frame"], "nonce" | "stamp"][]
  ).flatMap(([kind, make, reading]): Row[] => [
    {
      what: `${kind} of our name is passed on`,
      frame: make((now) => ({ node: OUR_NODE, [reading]: now - MS })),
      world: (now) => ({ vips: { [OWNED]: "owned" }, own_ns: now - 10n * MS }),
      action: "pass",
      counters: { wire_own: 1 },
    },
    {
      what: `${kind} of our name is dropped within 10 ms of another`,
      frame: make((now) => ({ node: OUR_NODE, [reading]: now - MS })),
      world: (now) => ({ own_ns: now + HOUR }),
      action: "drop",
      counters: { wire_own: 1 },
    },
    stale(
      `${kind} of our name that was recorded`,
      make((now) => ({ node: OUR_NODE, [reading]: now - 6n * SECOND })),
    ),
    stale(
      `${kind} of our name to an earlier speaker`,
      make((now) => ({ node: OUR_NODE, [reading]: now - MS, to: 5n })),
    ),
  ]),
];

function nameOf(state: number): string {
  return Object.entries(nodeState).find(([, value]) => value === state)![0];
}
function verdictName(verdict: number): string {
  return Object.entries(claimVerdict).find(([, value]) => value === verdict)![0];
}

const bench = new Bench("isat-t-bpf-speak-", process.argv[2] ?? findObject());

/** When each address was last released. */
const releasesOf = (addresses: readonly string[]) =>
  new Map(
    addresses.map((address) => {
      const key = { ip: ip(address), ifindex: IFINDEX };
      return [address, mapOf(bench.maps, parseAddress(address)).get(key)!.released_ns];
    }),
  );

function settle(world: World): void {
  const { maps } = bench;
  const entry = { name: "test0", node_name: "n1", node: OUR_NODE, incarnation: OUR_INCARNATION, ...world.interface };
  const hellos = { hello_nonce: NONCES.hello, last_hello_nonce: NONCES.lastHello };
  const clock = world.clock ?? "live";
  bench.setInterface(clock === "no entry" ? undefined : clock, bytes(OUR_MAC), "10.9.255.1", { ...hellos, ...entry });
  const { own_ns = 0n, heard_ns = 0n, strangers_ns = 0n, foreign_ns = 0n } = world;
  if (own_ns || heard_ns || strangers_ns || foreign_ns)
    bench.changeInterface({ own_ns, heard_ns, strangers_ns, foreign_ns });
  for (let place = 0; place < 4; place++) {
    maps.keys.set(place, (world.keys ?? [KEY, SECOND_KEY])[place] ?? NO_KEY);
    maps.keys.set(4 + place, (world.oldKeys ?? [V1_KEY])[place] ?? NO_KEY);
  }
  bench.clearVips();
  for (const [address, holding] of Object.entries(world.vips ?? {})) bench.addVip(address, holding, IFINDEX, OUR_BID);
  for (const map of [maps.peers, maps.probes]) map.deleteMany([...map.entries()].map(([key]) => key));
  if (world.peer) maps.peers.set(PEER_KEY, peerLayout.of(world.peer));
  const nonces = { nonce: NONCES.nonce, last_nonce: NONCES.last };
  if (world.probe) maps.probes.set(PEER_KEY, probeLayout.of({ ...nonces, ...world.probe }));
}

for (const program of ["isat_ingress", "isat_xdp"] as const) {
  for (const { what, frame: make, world: worldAt = (): World => ({}), ...expected } of rows) {
    test(`${program}: ${what}`, () => {
      const made = bootTime();
      const world = worldAt(made);
      settle(world);
      const frame = make(made);
      const before = bench.maps.peers.get(PEER_KEY);
      const releases = releasesOf(Object.keys(world.vips ?? {}));
      bench.forget(frame);
      const started = bootTime();
      const outcome = bench.run(program, frame);
      const ended = bootTime();
      const isNow = (time: bigint) => started <= time && time <= ended;
      assert.equal([outcome.action, outcome.counters], [expected.action, expected.counters ?? {}]);
      assert.equal(outcome.answers, {});

      const out = bytes(outcome.frame);
      if (expected.action === "answer") {
        const { header, claims } = understand(out);
        assert.ok(isSigned(out, header.version === 1 ? V1_KEY : KEY), "the first key has signed it");
        assert.ok(isNow(header.stamp), "its stamp is our clock");
        assert.equal({ ...header, stamp: 0n }, wireHeader.of({ ...ECHO, ...expected.header }));
        assert.equal(
          claims.map(({ verdict }) => verdict),
          expected.verdicts ?? [],
        );
        const asked = understand(untagged(frame)).claims;
        assert.equal(
          claims.map(({ ip, hash }) => ({ ip, hash })),
          asked.map(({ ip, hash }) => ({ ip, hash })),
        );
      } else {
        assert.is(outcome.frame, hex(frame));
      }

      const after = bench.maps.peers.get(PEER_KEY);
      const changes = expected.peer === "none" ? undefined : expected.peer;
      if (changes) {
        const times = Object.entries(changes).flatMap(([name, value]) =>
          value === NOW
            ? [[name, name === "taken_stamp_ns" ? understand(frame).header.stamp : after![name as "heard_ns"]]]
            : [],
        );
        for (const name of ["heard_ns", "echoed_ns"] as const)
          if (changes[name] === NOW) assert.ok(isNow(after![name]));
        // Claims from before the peer had an entry are not taken again.
        const blank = peerLayout.of({ taken_stamp_ns: after!.heard_ns });
        assert.equal(after, { ...(before ?? blank), ...changes, ...Object.fromEntries(times) });
      } else {
        assert.equal(after, before);
      }
      const heard_ns = bench.interface?.heard_ns ?? 0n;
      assert.is(expected.isHeard ? isNow(heard_ns) : heard_ns === (world.heard_ns ?? 0n), true, `heard at ${heard_ns}`);

      // A release is recorded for every managed VIP of a granted claim, and for no other.
      const claimed = expected.verdicts ? understand(out).claims : [];
      for (const [address, released] of releasesOf([...releases.keys()])) {
        const claim = claimed.find((claim) => addressOf(claim) === address);
        if (!claim || claim.verdict === MINE) assert.is(released, releases.get(address));
        else assert.ok(isNow(released));
      }
    });
  }

  test(`${program}: a claim that was granted, played again, changes nothing`, () => {
    const now = bootTime();
    settle({ peer: known(now), vips: { [OWNED]: "owned" } });
    const frame = claims([claim(OWNED)])(now);
    assert.is(bench.run(program, frame).action, "answer");
    bench.addVip(OWNED, "owned again", IFINDEX, OUR_BID);
    assert.equal(bench.run(program, frame).counters, { wire_stale: 1 });
    bench.forget(frame);
    assert.equal(bench.run(program, frame).counters, { wire_stale: 1 });
    assert.is(
      releasesOf([OWNED]).get(OWNED)! < bench.maps.vips.get({ ip: ip(OWNED), ifindex: IFINDEX })!.claim_ns,
      true,
    );
  });

  test(`${program}: a peer that asks for nodes is told when each was last heard, and what it said of itself`, () => {
    const now = bootTime();
    settle({ peer: known(now) });
    const entry = (node: bigint, more: Partial<Peer>) =>
      bench.maps.peers.set({ node, ifindex: IFINDEX, zero: 0 }, peerLayout.of({ ...known(now), ...more }));
    entry(41n, { heard_ns: now - 70n * MS });
    entry(42n, { state: DRAINED, source_stale: true, echoed_ns: now - HOUR, heard_ns: now - HOUR });
    entry(43n, { echoed_ns: 0n });
    bench.maps.peers.set({ node: 44n, ifindex: IFINDEX + 1, zero: 0 }, peerLayout.of(known(now)));
    const asked = [41n, 42n, 43n, 44n, 45n].map((hash) => ({ ip: new Uint8Array(0), hash }));
    const { action, frame, counters } = bench.run(program, claims([...asked, claim(OWNED)])(now));
    assert.equal([action, counters], ["answer", { wire_taken: 1 }]);
    const { header, claims: told } = understand(bytes(frame));
    const NEVER = 2n ** 64n - 1n;
    const expected = [
      [LIVE, header.stamp - now + 70n * MS],
      [DRAINED | 256, header.stamp - now + HOUR],
      [0, NEVER],
      [0, NEVER],
      [0, NEVER],
      [FREE, BETTER],
    ];
    assert.equal(
      told.map(({ verdict, hash }) => [verdict, hash]),
      expected,
    );
  });

  test(`${program}: a probe or a reply that comes again is dropped, until another frame has had its place`, () => {
    const now = bootTime();
    settle({ peer: known(now) });
    for (const [frame, action, later] of [
      [probe()(now), "answer", "drop"],
      [reply()(now), "pass", "pass"],
    ] as const) {
      bench.forget(frame);
      assert.is(bench.run(program, frame).action, action);
      for (let again = 0; again < 3; again++) {
        const { action, counters } = bench.run(program, frame);
        assert.equal([action, counters], ["drop", { wire_stale: 1 }]);
      }
      bench.forget(frame);
      assert.is(bench.run(program, frame).action, later);
    }
  });

  test(`${program}: of two recorded probes, played by turns, none is echoed`, () => {
    const now = bootTime();
    settle({ peer: known(now) });
    const [first, second, third] = [1n, 2n, 3n].map((nonce) => probe({ to: 0n, nonce })(now)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    for (const frame of [first, second]) assert.is(bench.run(program, frame).action, "answer");
    for (let again = 0; again < 10; again++) {
      for (const frame of [first, second]) {
        bench.forget(frame);
        assert.equal(bench.run(program, frame).counters, { wire_stale: 1 });
      }
    }
    assert.is(bench.run(program, third).action, "answer");
  });

  test(`${program}: of probes of strangers 256 are echoed at once, and then one in four milliseconds`, () => {
    settle({});
    const began = bootTime();
    let echoed = 0;
    for (let i = 0; i < 1000; i++) {
      const frame = probe({ to: 0n, node: BigInt(i + 100), nonce: BigInt(i + 1) })(began);
      bench.forget(frame);
      const { action, counters } = bench.run(program, frame);
      if (action === "answer") echoed++;
      else assert.equal(counters, { wire_stranger: 1 });
    }
    const most = 256 + Number((bootTime() - began) / (SECOND / 256n)) + 1;
    assert.ok(echoed >= 256 && echoed <= most, `${echoed} were echoed, at most ${most} were to be`);
  });

  test(`${program}: a release does not take back a later one that another CPU has recorded`, () => {
    const now = bootTime();
    settle({ peer: known(now), vips: { [OWNED]: "not owned" } });
    const released_ns = now + HOUR;
    bench.changeVip(OWNED, { released_ns });
    assert.is(bench.run(program, claims([claim(OWNED)])(now)).action, "answer");
    assert.is(releasesOf([OWNED]).get(OWNED), released_ns);
  });

  test(`${program}: a claim is refused where the entry says that it is another VIP's`, () => {
    const now = bootTime();
    settle({ peer: known(now), vips: { [OWNED]: "owned" } });
    bench.changeVip(OWNED, { check: checkOf({ ip: ip(OWNED), ifindex: IFINDEX + 1 }) });
    const { out } = bench.execute(program, claims([claim(OWNED)])(now));
    assert.equal(
      understand(out).claims.map(({ verdict }) => verdict),
      [MINE],
    );
    assert.is(releasesOf([OWNED]).get(OWNED), 0n);
  });

  test(`${program}: a claim that began after the entry's own claim, by a clock a moment behind, beats it`, () => {
    const now = bootTime();
    settle({ peer: known(now), vips: { [OWNED]: "owned" } });
    const claim_ns = now + HOUR;
    bench.changeVip(OWNED, { claim_ns });
    assert.is(bench.run(program, claims([claim(OWNED)])(now)).action, "answer");
    assert.is(releasesOf([OWNED]).get(OWNED), claim_ns);
  });

  test(`${program}: a released VIP is not answered any more, and the egress filter drops its claims`, () => {
    const now = bootTime();
    settle({ peer: known(now), vips: { [OWNED]: "owned" } });
    const request = bytes(`${BROADCAST} ${PEER_MAC} 08 06 00 01 08 00 06 04 00 01 ${PEER_MAC} 0a 09 00 05
      00 00 00 00 00 00 0a 09 00 01`);
    assert.equal(bench.run(program, request).counters, { answered: 1 });
    bench.run(program, claims([claim(OWNED)])(now));
    assert.equal(bench.run(program, request).counters, { not_owned: 1 });
    const announcement = bytes(`${BROADCAST} ${OUR_MAC} 08 06 00 01 08 00 06 04 00 01 ${OUR_MAC} 0a 09 00 01
      00 00 00 00 00 00 0a 09 00 01`);
    assert.equal(bench.run("isat_egress", announcement).counters, { egress_dropped: 1 });
  });

  test(`${program}: a frame with any one bit turned over is refused, or passes as another protocol`, () => {
    const now = bootTime();
    settle({});
    const frame = hex(probe()(now));
    for (const [bit, changed] of neighbours(frame)) {
      const isOtherProtocol = bit >> 4 === 6;
      if (isOtherProtocol) continue;
      const { action, counters } = bench.run(program, bytes(changed));
      const isOfCluster = bit >> 6 === 12; // bytes 96 to 103
      if (isOfCluster) assert.equal(counters, { wire_foreign: 1 }, `bit ${bit}`);
      else assert.equal([action, counters], ["drop", { wire_refused: 1 }], `bit ${bit}`);
    }
    assert.is(bench.maps.peers.get(PEER_KEY), undefined);
  });

  test(`${program}: with no room for a peer, probes are echoed and echoes are taken`, () => {
    const now = bootTime();
    settle({});
    for (const frame of [probe()(now), echo({ nonce: NONCES.hello })(now)]) bench.forget(frame);
    for (let node = 0n; node < BigInt(MAX_PEERS); node++)
      bench.maps.peers.set({ node, ifindex: 9, zero: 0 }, peerLayout.of({}));
    assert.equal(bench.run(program, probe()(now)).counters, { wire_echoed: 1 });
    const { action, counters } = bench.run(program, echo({ nonce: NONCES.hello })(now));
    assert.equal([action, counters], ["drop", { wire_taken: 1 }]);
    settle({});
  });

  test(`${program}: on an interface that is only guarded, all passes unread`, () => {
    const now = bootTime();
    settle({ peer: known(now), vips: { [OWNED]: "owned" } });
    bench.changeInterface({ is_guard: true });
    for (const frame of [probe(), claims([claim(OWNED)]), echo(), probe({}, FOREIGN_KEY)])
      assert.is(bench.run(program, frame(now)).action, "pass");
    assert.equal(bench.maps.peers.get(PEER_KEY), peerLayout.of(known(now)));
  });
}

test.after(() => bench[Symbol.dispose]());
test.run();
