/**
 * The programs in TypeScript, written from docs/verdicts.md and docs/peer-protocol.md and not from the C. The compiled programs are
 * compared with it on random frames. The node's state by the age of its tick is that of src/core/state.ts.
 */
import {
  claimVerdict,
  type InterfaceEntry,
  nodeState,
  type Peer,
  type Probe,
  peer as peerLayout,
  type Recent,
  type Vip,
  vipState,
  type WireHeader,
  type WireKey,
  wireHeader,
  wireType,
} from "../../src/core/abi.ts";
import { addressBytes, formatAddress, ipv6OfBytes, parseAddress } from "../../src/core/address.ts";
import { isFenced, isGone, since, stateOf } from "../../src/core/state.ts";
import { checkOf } from "../../src/core/vip.ts";
import { onesSum, seal, sumOfMessage } from "./nd.ts";
import type { Action, Counters } from "./run.ts";
import {
  addressOf,
  type Claim,
  ETH_P_ISAT,
  familyOf,
  headerOf,
  IFINDEX,
  isSigned,
  sizeOf,
  speak,
  tagOf,
  understand,
} from "./speech.ts";

/** The content of the kernel's maps for the interface on which the frames come. Addresses are text. */
export interface World {
  interface: InterfaceEntry | undefined;
  vips: ReadonlyMap<string, Vip>;
  /** When each was last released. */
  releases: ReadonlyMap<string, bigint>;
  /** By node. */
  peers: ReadonlyMap<bigint, Peer>;
  probes: ReadonlyMap<bigint, Probe>;
  /** Four of version 2, then four of version 1. */
  keys: readonly WireKey[];
  /** Four fields of the interface's entry, which are its programs'. */
  heard_ns: bigint;
  own_ns: bigint;
  strangers_ns: bigint;
  foreign_ns: bigint;
  /** The entry of `recent` in the place of the frame's tag. */
  recent: Recent;
}

export interface Expected {
  action: Action;
  frame: Uint8Array;
  counters: Counters;
  answers: Record<string, number>;
  /** The parts of the world that differ from before. */
  changes: Partial<
    Pick<World, "releases" | "peers" | "heard_ns" | "own_ns" | "strangers_ns" | "foreign_ns" | "recent">
  >;
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
const isSame = (one: Uint8Array, other: Uint8Array) => one.every((byte, at) => byte === other[at]);
const isBroadcast = (mac: Uint8Array) => mac.every((byte) => byte === 255);
const dotted = (bytes: Uint8Array) => bytes.join(".");
const word = (frame: Uint8Array, at: number) => (frame[at]! << 8) | frame[at + 1]!;

const ARP = 0x0806;
const ISAT = (ETH_P_ISAT[0]! << 8) | ETH_P_ISAT[1]!;
const IPV6 = 0x86dd;
const TAGS = [0x8100, 0x88a8];
/** Ethernet header and ARP for Ethernet and IPv4. */
const ARP_FRAME = 42;
const SHORTEST = 60;
const BROADCAST = "ff ff ff ff ff ff";
const SECOND = 1_000_000_000n;

/** By address, when each VIP was released last. */
type Releases = Pick<World, "vips"> & { releases: Pick<World["releases"], "get"> };

/** When the claim began by which a VIP is owned, or is to be. */
const claimed = ({ state, state_ns, claim_ns }: Vip) => (state === vipState.CLAIMING ? state_ns : claim_ns);

/** True if the entry counts: it was not released since it was claimed. */
const counts = (address: string, { vips, releases }: Releases) =>
  claimed(vips.get(address)!) > (releases.get(address) ?? 0n);

export function isAnswered(address: string, world: Releases, now: bigint): boolean {
  const { state, state_ns } = world.vips.get(address)!;
  return counts(address, world) && (state === vipState.OWNED || (state === vipState.LEAVING && now < state_ns));
}

/** True until it is known who owns the VIP: another speaker of this node is let to hear and to speak. */
export const isOpen = (address: string, world: Releases): boolean => {
  const { state } = world.vips.get(address)!;
  return state === vipState.UNDECIDED || (state === vipState.CLAIMING && counts(address, world));
};

/** True if the entry says that it is that VIP's, of the interface on which the frames come. */
const isIts = (address: string, vip: Vip) =>
  vip.check === checkOf({ ip: addressBytes(parseAddress(address)), ifindex: IFINDEX });

const isIPv4Arp = (frame: Uint8Array) =>
  frame.length >= ARP_FRAME &&
  [1, 6].includes(word(frame, 14)) &&
  word(frame, 16) === 0x0800 &&
  frame[18] === 6 &&
  frame[19] === 4;

function leave(frame: Uint8Array, action: Action, counter?: keyof Counters): Expected {
  return { action, frame, counters: counter ? { [counter]: 1 } : {}, answers: {}, changes: {} };
}

/** True if a priority tag is there, which names no VLAN. */
const isPriority = (frame: Uint8Array, at: number) =>
  frame.length >= at + 4 && TAGS.includes(word(frame, at)) && word(frame, at + 2) % 4096 === 0;

/** Without its tag, a frame of those that isat reads. */
export function untagged(frame: Uint8Array): Uint8Array {
  if (!isPriority(frame, 12) || frame.length < 18) return frame;
  const bare = Uint8Array.of(...frame.subarray(0, 12), ...frame.subarray(16));
  return [ARP, ISAT].includes(word(frame, 16)) || isSolicitation(bare) ? bare : frame;
}

const SOLICITATION = 135;
const isSolicitation = (frame: Uint8Array) =>
  frame.length >= 55 && word(frame, 12) === IPV6 && frame[20] === 58 && frame[54] === SOLICITATION;

/** The programs at ingress. Where the interface has no entry, nothing is counted. */
export function ingress(came: Uint8Array, world: World, now: bigint): Expected {
  const expected = decideIngress(came, world, now);
  return world.interface ? expected : { ...expected, counters: {} };
}

function decideIngress(came: Uint8Array, world: World, now: bigint): Expected {
  const frame = untagged(came);
  const type = word(frame, 12);
  const isNested = isPriority(frame, 12) && isPriority(frame, 16);
  if (isNested && isKey(world.keys[0]!)) return leave(frame, "drop", "wire_refused");
  if (TAGS.includes(type))
    return leave(frame, "pass", frame.length >= 18 && word(frame, 16) === ARP ? "tagged" : undefined);
  if (type === ISAT) return speech(frame, world, now);
  const here = world.interface;
  if (here && isSolicitation(frame)) return solicited(frame, here, world, now);
  if (type !== ARP || !here) return leave(frame, "pass");
  if (!isIPv4Arp(frame) || word(frame, 20) !== 1) return leave(frame, "pass", "not_request");

  const [destination, source] = [hex(frame.subarray(0, 6)), hex(frame.subarray(6, 12))];
  const [sha, spa, tpa] = [frame.subarray(22, 28), frame.subarray(28, 32), frame.subarray(38, 42)];
  if (!world.vips.has(dotted(tpa))) return leave(frame, "pass", "not_managed");
  if (hex(spa) === hex(tpa)) return leave(frame, "pass", "announcement");
  const ourMac = hex(here.mac);
  if (destination !== BROADCAST && destination !== ourMac) return leave(frame, "pass", "not_for_us");
  if (isGone(here, world.heard_ns, now)) return leave(frame, "pass", "gone");
  if (sha[0]! % 2 === 1 || hex(sha) === "00 00 00 00 00 00" || hex(sha) === ourMac)
    return leave(frame, "drop", "bad_sender");
  if (!isAnswered(dotted(tpa), world, now))
    return leave(frame, isOpen(dotted(tpa), world) ? "pass" : "drop", "not_owned");
  if (isFenced(here, now)) return leave(frame, "drop", "fenced");
  if (!isIts(dotted(tpa), world.vips.get(dotted(tpa))!) || here.ifindex !== IFINDEX)
    return leave(frame, "drop", "not_owned");

  const answer = Uint8Array.of(
    ...[...sha, ...here.mac, 0x08, 0x06],
    ...[0, 1, 8, 0, 6, 4, 0, 2],
    ...[...here.mac, ...tpa, ...sha, ...spa],
    ...new Uint8Array(Math.min(frame.length, SHORTEST) - ARP_FRAME),
  );
  return {
    ...leave(answer, "answer", "answered"),
    counters: source === hex(sha) ? { answered: 1 } : { answered: 1, answered_other_source: 1 },
    answers: { [dotted(tpa)]: 1 },
  };
}

const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const isNobody = (address: Uint8Array) => address.every((byte) => byte === 0);

/** The options of a Solicitation; undefined where they are not as they have to be. */
function optionsOf(frame: Uint8Array): { type: number; content: Uint8Array }[] | undefined {
  const length = word(frame, 18) - 24;
  const all = frame.subarray(78, 78 + length);
  if (length < 0 || length > 32 || all.length < length) return undefined;
  const options: { type: number; content: Uint8Array }[] = [];
  for (let at = 0; at < length; ) {
    const size = 8 * (all[at + 1] ?? 0);
    if (size === 0 || at + size > length) return undefined;
    options.push({ type: all[at]!, content: all.subarray(at + 2, at + size) });
    at += size;
  }
  return options;
}

/** A Neighbour Solicitation without a tag: the table of docs/verdicts.md. */
function solicited(frame: Uint8Array, here: InterfaceEntry, world: World, now: bigint): Expected {
  if (frame.length < 78) return leave(frame, "pass", "nd_bad");
  const [source, destination, target] = [frame.subarray(22, 38), frame.subarray(38, 54), frame.subarray(62, 78)];
  const vip = formatAddress(ipv6OfBytes(target));
  if (!world.vips.has(vip)) return leave(frame, "pass", "nd_not_managed");

  const options = optionsOf(frame);
  const macs = options?.filter(({ type }) => type === 1).map(({ content }) => content);
  const isRight = frame[21] === 255 && frame[55] === 0 && target[0] !== 255 && source[0] !== 255;
  if (!isRight || !macs || macs.some(({ length }) => length !== 6) || sumOfMessage(frame) !== 0xffff)
    return leave(frame, "pass", "nd_bad");
  const isToGroup = hex(destination.subarray(0, 13)) === "ff 02 00 00 00 00 00 00 00 00 00 01 ff";
  if (isNobody(source) && (macs.length > 0 || !isToGroup)) return leave(frame, "pass", "nd_bad");

  const [ourMac, to] = [hex(here.mac), hex(frame.subarray(0, 6))];
  if (to !== ourMac && to !== hex(Uint8Array.of(0x33, 0x33, 0xff, ...target.subarray(13))))
    return leave(frame, "pass", "nd_not_for_us");
  if (isGone(here, world.heard_ns, now)) return leave(frame, "pass", "nd_gone");
  const asker = macs[0] ?? frame.subarray(6, 12);
  if (asker[0]! % 2 === 1 || isNobody(asker) || hex(asker) === ourMac) return leave(frame, "drop", "nd_bad_sender");
  if (!isAnswered(vip, world, now)) return leave(frame, isOpen(vip, world) ? "pass" : "drop", "nd_not_owned");
  if (isFenced(here, now)) return leave(frame, "drop", "nd_fenced");
  if (!isIts(vip, world.vips.get(vip)!) || here.ifindex !== IFINDEX) return leave(frame, "drop", "nd_not_owned");

  const isForAll = isNobody(source);
  const answer = Uint8Array.of(
    ...(isForAll ? [0x33, 0x33, 0, 0, 0, 1] : asker),
    ...here.mac,
    ...[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255],
    ...target,
    ...(isForAll ? ALL_NODES : source),
    ...[136, 0, 0, 0, isForAll ? 0x20 : 0x60, 0, 0, 0],
    ...target,
    ...[2, 1],
    ...here.mac,
  );
  return {
    ...leave(seal(answer), "answer", "nd_answered"),
    answers: world.releases.has(vip) ? { [vip]: 1 } : {},
  };
}

/** The egress filter. */
export function egress(frame: Uint8Array, world: World, now: bigint): Expected {
  const here = world.interface;
  if (isPriority(frame, 12) && isPriority(frame, 16) && frame.length >= 22)
    return here && !isGone(here, world.heard_ns, now) ? leave(frame, "drop", "egress_dropped") : leave(frame, "pass");
  const bare = isPriority(frame, 12) ? Uint8Array.of(...frame.subarray(0, 12), ...frame.subarray(16)) : frame;
  const isArp = word(bare, 12) === ARP && isIPv4Arp(bare);
  const isNd = word(bare, 12) === IPV6 && bare.length >= 78 && bare[20] === 58 && [135, 136].includes(bare[54]!);
  if (!isArp && !isNd) return leave(frame, "pass");
  const { action, frame: left, counters } = isArp ? guard(bare, world, now) : guardNd(bare, world, now);
  const whole =
    bare === frame ? left : Uint8Array.of(...left.subarray(0, 12), ...frame.subarray(12, 16), ...left.subarray(12));
  return { ...leave(whole, action), counters };
}

/** The interface's own address in the target's subnet; its first one where there is none. */
function ownAddress({ address, own, masks }: InterfaceEntry, target: Uint8Array): Uint8Array {
  const at = Array.from({ length: masks.length / 4 }, (_, i) => 4 * i).find((at) => {
    const mask = masks.subarray(at, at + 4);
    return mask.some((byte) => byte > 0) && target.every((byte, i) => ((byte ^ own[at + i]!) & mask[i]!) === 0);
  });
  return at === undefined ? address : own.subarray(at, at + 4);
}

/** Neighbour Discovery without a tag, at egress. */
function guardNd(frame: Uint8Array, world: World, now: bigint): Expected {
  const here = world.interface;
  const isQuestion = frame[54] === SOLICITATION;
  const vip = formatAddress(ipv6OfBytes(isQuestion ? frame.subarray(22, 38) : frame.subarray(62, 78)));
  if (!world.vips.has(vip) || !here || isGone(here, world.heard_ns, now)) return leave(frame, "pass");
  const kind = isQuestion ? 1 : 2;
  const macs = optionsOf(frame)?.flatMap(({ type, content }) => (type === kind ? [content] : []));
  const isFromUs =
    macs?.every(({ length }) => length === 6) &&
    macs.slice(0, 1).every((mac) => hex(mac) === hex(here.mac)) &&
    hex(frame.subarray(6, 12)) === hex(here.mac);
  const isRight = isIts(vip, world.vips.get(vip)!);
  // A test run's frames have a socket.
  if ((isOpen(vip, world) || isAnswered(vip, world, now)) && !isFenced(here, now) && isFromUs && isRight)
    return leave(frame, "pass", "egress_claimed");
  if (!isQuestion || isNobody(here.link_local) || here.ifindex !== IFINDEX)
    return leave(frame, "drop", "egress_dropped");
  const rewritten = frame.slice();
  rewritten.set(here.link_local, 22);
  // The sum of the whole stays as right, or as wrong, as it was.
  const before = onesSum(Uint8Array.of(...frame.subarray(22, 38), ...frame.subarray(56, 58)));
  const checksum = onesSum(Uint8Array.of(before >> 8, before & 255, ...here.link_local.map((byte) => 255 - byte)));
  rewritten.set([checksum >> 8, checksum & 255], 56);
  return leave(rewritten, "pass", "egress_rewritten");
}

/** ARP without a tag, at egress. */
function guard(frame: Uint8Array, world: World, now: bigint): Expected {
  const here = world.interface;
  const [sha, spa, tpa] = [frame.subarray(22, 28), frame.subarray(28, 32), frame.subarray(38, 42)];
  if (!world.vips.has(dotted(spa)) || !here || isGone(here, world.heard_ns, now)) return leave(frame, "pass");
  const isRight = isIts(dotted(spa), world.vips.get(dotted(spa))!);
  const isFromUs = hex(sha) === hex(here.mac) && hex(frame.subarray(6, 12)) === hex(here.mac);
  // A test run's frames have a socket.
  if (
    (isOpen(dotted(spa), world) || isAnswered(dotted(spa), world, now)) &&
    !isFenced(here, now) &&
    isFromUs &&
    isRight
  )
    return leave(frame, "pass", "egress_claimed");
  if (word(frame, 20) === 1 && hex(spa) !== hex(tpa) && here.ifindex === IFINDEX) {
    const rewritten = frame.slice();
    rewritten.set(ownAddress(here, tpa), 28);
    return leave(rewritten, "pass", "egress_rewritten");
  }
  return leave(frame, "drop", "egress_dropped");
}

const { WIRE_PROBE, WIRE_ECHO, WIRE_CLAIM, WIRE_REPLY, WIRE_NOTICE } = wireType;
/* The numbers of docs/peer-protocol.md, written down once more: a model that took them from the C could not find them wrong there. */
const VERSION = 2;
const OLD_VERSION = 1;
const SOURCE_STALE = 1;
const ONLY_IPV4 = 4;
const KNOWN = 2;
const TAG = 8;
const MOST_CLAIMS = 32;
const OLD_MOST_CLAIMS = 64;
const isKey = ({ k0, k1 }: WireKey) => k0 !== 0n || k1 !== 0n;

/** The keys of a frame's version. */
const keysOf = ({ keys }: World, version: number) => (version === OLD_VERSION ? keys.slice(4) : keys.slice(0, 4));

/** True if it has the form of a frame of the peer protocol. */
function isWellFormed(frame: Uint8Array): boolean {
  if (frame.length < sizeOf(OLD_VERSION).header + TAG) return false;
  const { version, type, count } = headerOf(frame);
  const most = version === OLD_VERSION ? OLD_MOST_CLAIMS : MOST_CLAIMS;
  const size = sizeOf(version);
  return (
    [VERSION, OLD_VERSION].includes(version) &&
    [WIRE_PROBE, WIRE_ECHO, WIRE_CLAIM, WIRE_REPLY, WIRE_NOTICE].some((known) => known === type) &&
    count <= (type === WIRE_PROBE || type === WIRE_ECHO ? 0 : most) &&
    frame.length === size.header + count * size.claim + TAG
  );
}

/** True if it is signed by a key of ours. */
function isAccepted(frame: Uint8Array, world: World): boolean {
  const { version, key_id } = headerOf(frame);
  const key = keysOf(world, version).find((key) => isKey(key) && key.id === key_id);
  return key !== undefined && tagOf(frame) !== 0n && isSigned(frame, key);
}

/** A hello in version 1 of a node that knows more: it says the same in version 2. */
const isCopy = ({ version, max_version, destination }: WireHeader) =>
  version === OLD_VERSION && max_version > OLD_VERSION && isBroadcast(destination);

/** A node of another cluster; or one of version 1, which names no cluster, where that is not spoken any more. */
const isForeign = ({ version, cluster }: WireHeader, world: World) =>
  version === OLD_VERSION ? !isKey(world.keys[4]!) : cluster !== world.keys[0]!.cluster;

const isFresh = (stamp: bigint, now: bigint) => stamp !== 0n && stamp <= now && now - stamp < 5n * SECOND;

/** An echo or a reply. */
function turn(asked: WireHeader, claims: readonly Claim[], world: Kernel, now: bigint): Message {
  const here = world.interface!;
  const age = since(here.tick_ns, now) / (SECOND / 10n);
  const isKnown = world.probes.get(asked.node)?.incarnation === asked.incarnation;
  const header = wireHeader.of({
    destination: asked.source,
    source: here.mac,
    type: asked.type === WIRE_PROBE ? WIRE_ECHO : WIRE_REPLY,
    state: stateOf(here, now),
    flags: (here.source_stale ? SOURCE_STALE : 0) | (here.only_ipv4 ? ONLY_IPV4 : 0) | (isKnown ? KNOWN : 0),
    max_version: VERSION,
    tick_age: here.tick_ns === 0n || age > 65_535n ? 65_535 : Number(age),
    node: here.node,
    incarnation: here.incarnation,
    to: asked.incarnation,
    nonce: asked.nonce,
    stamp: now,
    name: here.node_name,
    protocol: ETH_P_ISAT,
    version: asked.version,
    interface: asked.version === OLD_VERSION ? "" : here.name,
    count: claims.length,
  });
  return { header, claims };
}

/** The fields of a peer's entry that its frames tell. */
const portrait = ({
  name,
  source,
  state,
  flags,
  max_version,
  key_id,
  incarnation,
  interface: its,
}: WireHeader): Partial<Peer> => ({
  interface: its,
  node: name,
  mac: source,
  state,
  source_stale: (flags & SOURCE_STALE) !== 0,
  only_ipv4: (flags & ONLY_IPV4) !== 0,
  max_version,
  key_id,
  incarnation,
});

/** A frame of EtherType 0x88B5. */
function speech(frame: Uint8Array, world: World, now: bigint): Expected {
  if (!isKey(world.keys[0]!) || !world.interface || world.interface.is_guard) return leave(frame, "pass");
  if (!isWellFormed(frame)) return leave(frame, "drop", "wire_refused");
  const { header } = understand(frame);
  const { type, nonce, stamp } = header;
  const stale = leave(frame, "drop", "wire_stale");
  if (isCopy(header)) return stale;
  if (isForeign(header, world)) {
    const isPassed = since(world.foreign_ns, now) >= SECOND;
    const strange = leave(frame, isPassed ? "pass" : "drop", "wire_foreign");
    return isPassed ? { ...strange, changes: { foreign_ns: now } } : strange;
  }
  if (!isAccepted(frame, world)) return leave(frame, "drop", "wire_refused");
  const reading = type === WIRE_ECHO || type === WIRE_REPLY ? nonce : stamp;
  if (type !== WIRE_PROBE && reading !== 0n && since(reading, world.heard_ns) >= 5n * SECOND) return stale;
  const tag = tagOf(frame);
  if (world.recent.tag === tag && world.recent.ifindex === BigInt(IFINDEX)) return stale;
  const { changes, ...expected } = fresh(frame, world, now);
  return { ...expected, changes: { ...changes, recent: { tag, ifindex: BigInt(IFINDEX) } } };
}

/** A frame of the peer protocol, decoded. */
export interface Message {
  header: WireHeader;
  claims: readonly Claim[];
}

/** The part of the world that the rules for authentic frames go by. */
export type Kernel = Omit<World, "keys" | "recent" | "foreign_ns">;

/** The outcome of an authentic frame. */
export interface Taken {
  action: Action;
  counters: Counters;
  /** Sent back, signed, where the action is `answer`. */
  reply?: Message;
  /** The sender's entry from now on. */
  peer?: Peer;
  /** When each VIP was released that is released now. */
  released?: ReadonlyMap<string, bigint>;
  heard_ns?: bigint;
  own_ns?: bigint;
  strangers_ns?: bigint;
}

/** An answer that cannot be written: what was learnt of the frame stays. */
function astray({ reply: _reply, released: _released, ...outcome }: Taken): Taken {
  return { ...outcome, ...taken("drop") };
}

/** A frame that is authentic, and was not recognised as recorded. */
function fresh(frame: Uint8Array, world: World, now: bigint): Expected {
  const message = understand(frame);
  const outcome = take(message, world, now);
  // An entry that says that it is another interface's cannot be answered from.
  const isAstray = outcome.reply !== undefined && world.interface?.ifindex !== IFINDEX;
  const { reply, peer, released, action, counters, ...changes }: Taken = isAstray ? astray(outcome) : outcome;
  const [key] = keysOf(world, message.header.version);
  const signed = { key_id: key!.id, cluster: key!.cluster };
  const answer = reply ? speak({ ...reply.header, ...signed }, key!, reply.claims) : frame;
  return {
    ...{ action, frame: answer, counters, answers: {} },
    changes: {
      ...changes,
      ...(peer && { peers: new Map([...world.peers, [message.header.node, peer]]) }),
      ...(released && { releases: new Map([...world.releases, ...released]) }),
    },
  };
}

const taken = (action: Action, counter?: keyof Counters): Taken => ({
  action,
  counters: counter ? { [counter]: 1 } : {},
});

/** The rules for an authentic frame that was not seen before. */
export function take({ header, claims }: Message, world: Kernel, now: bigint): Taken {
  const { interface: here, peers } = world;
  const { type, node, incarnation, to, nonce, stamp } = header;
  const stale = taken("drop", "wire_stale");
  if (!here) return taken("pass");
  if (!isBroadcast(header.destination) && !isSame(header.destination, here.mac)) return taken("drop", "wire_refused");

  if (node === here.node) {
    if (type === WIRE_PROBE && incarnation !== here.incarnation) {
      const strangers_ns = admit(world, now);
      if (strangers_ns === undefined) return taken("drop", "wire_stranger");
      return { ...taken("answer", "wire_own"), reply: turn(header, [], world, now), strangers_ns };
    }
    const isOurs = [WIRE_CLAIM, WIRE_NOTICE].some((kind) => kind === type) ? stamp : nonce;
    if ((type !== WIRE_PROBE && to !== here.incarnation) || !isFresh(isOurs, now)) return stale;
    if (since(world.own_ns, now) < SECOND / 100n) return taken("drop", "wire_own");
    return { ...taken("pass", "wire_own"), own_ns: now };
  }

  const peer = peers.get(node);
  /** With the peer heard, and with what else of its entry is another now. */
  const hearing = (expected: Taken, changes: Partial<Peer>): Taken => {
    const entry = { ...(peer ?? peerLayout.of({ taken_stamp_ns: now })), ...changes, heard_ns: now };
    return { ...expected, heard_ns: now, peer: entry };
  };

  if (type === WIRE_PROBE) {
    const isNext = peer?.probe_incarnation === incarnation;
    if (isNext && nonce <= peer.probe_nonce) return stale;
    const isForeign = !isNext && peer?.incarnation !== incarnation;
    const strangers_ns = isForeign ? admit(world, now) : world.strangers_ns;
    if (strangers_ns === undefined) return taken("drop", "wire_stranger");
    const last = { probe_incarnation: incarnation, probe_nonce: nonce };
    const echo = { ...taken("answer", "wire_echoed"), reply: turn(header, [], world, now), strangers_ns };
    if (to === here.incarnation && isFresh(stamp, now))
      return hearing(echo, { ...((peer?.echoed_ns ?? 0n) === 0n ? portrait(header) : {}), ...last });
    return peer ? { ...echo, peer: { ...peer, ...last } } : echo;
  }
  if (to !== here.incarnation) return stale;

  if (type === WIRE_ECHO) {
    const probe = world.probes.get(node);
    const nonces = [here.hello_nonce, here.last_hello_nonce, ...(probe ? [probe.nonce, probe.last_nonce] : [])];
    if (nonce === 0n || !nonces.includes(nonce)) return stale;
    const told = { ...portrait(header), knows_us: (header.flags & KNOWN) !== 0 };
    const isSilent = since(peer?.echoed_ns ?? 0n, now) > 5n * SECOND;
    const isLate = peer && (nonce < peer.echo_nonce || (nonce === peer.echo_nonce && stamp <= peer.stamp_ns));
    if (isLate) return stale;
    const isNamesake =
      peer &&
      !isSilent &&
      peer.echoed_ns !== 0n &&
      peer.incarnation !== incarnation &&
      hex(peer.mac) !== hex(told.mac!);
    if (isNamesake) return stale;
    // None of these is news: the control plane reads the peers in each round.
    const { node: _name, interface: _interface, key_id: _key, only_ipv4: _family, ...compared } = told;
    const isNews =
      !peer ||
      peer.echoed_ns === 0n ||
      isSilent ||
      Object.entries(compared).some(([name, value]) => String(value) !== String(peer[name as keyof Peer]));
    return hearing(taken(isNews ? "pass" : "drop", "wire_taken"), {
      ...told,
      echo_nonce: nonce,
      stamp_ns: stamp,
      tick_age_ms: BigInt(header.tick_age) * 100n,
      echoed_ns: now,
      echoes: (peer?.echoes ?? 0n) + 1n,
    });
  }
  if (!peer) return stale;
  if (type === WIRE_REPLY) return isFresh(nonce, now) ? hearing(taken("pass", "wire_taken"), {}) : stale;

  const isLater = stamp > peer.taken_stamp_ns || (stamp === peer.taken_stamp_ns && nonce > peer.taken_nonce);
  if (!isFresh(stamp, now) || !isLater) return stale;
  const last = { taken_stamp_ns: stamp, taken_nonce: nonce };
  if (type === WIRE_NOTICE) return hearing(taken("pass", "wire_taken"), last);

  const released = new Map<string, bigint>();
  const releases = { get: (address: string) => released.get(address) ?? world.releases.get(address) };
  let count = 0;
  const decided = claims.map((claim): Claim => {
    if (familyOf(claim) === 0) return tellOf(claim, header.node, world, now);
    const verdict = decide(claim, header, { ...world, releases }, now);
    const address = addressOf(claim);
    const vip = address === undefined ? undefined : world.vips.get(address);
    if (address === undefined || verdict === claimVerdict.MINE || !vip) return { ...claim, verdict };
    if (isHeld(address, { ...world, releases }, now)) count++;
    const before = releases.get(address) ?? 0n;
    released.set(
      address,
      [now, claimed(vip), before].reduce((latest, at) => (at > latest ? at : latest)),
    );
    return { ...claim, verdict };
  });
  const reply = { ...taken("answer", "wire_taken"), reply: turn(header, decided, world, now) };
  const counters = { ...reply.counters, ...(count > 0 ? { released: count } : {}) };
  return hearing({ ...reply, counters, released }, last);
}

const NEVER = 2n ** 64n - 1n;
const NODE_STALE = 256;

/** When a node was last heard here, for a peer that asks for it. The asker itself is heard now. */
function tellOf(claim: Claim, asker: bigint, { peers }: Kernel, now: bigint): Claim {
  const peer = peers.get(claim.hash);
  if (!peer || peer.echoed_ns === 0n) return { ...claim, verdict: 0, hash: NEVER };
  const verdict = (peer.state & 255) | (peer.source_stale ? NODE_STALE : 0);
  return { ...claim, verdict, hash: claim.hash === asker ? 0n : since(peer.heard_ns, now) };
}

/** Strangers' probes that are echoed in a second, and at once after a second without one. */
const STRANGERS = 256n;

/** When the bucket of strangers' probes will be full again, with one more of them; undefined where it is empty. */
function admit({ strangers_ns }: Kernel, now: bigint): bigint | undefined {
  const full = (strangers_ns > now ? strangers_ns : now) + SECOND / STRANGERS;
  return full - now > SECOND ? undefined : full;
}

/** True if this node answers for it, or is about to. */
function isHeld(address: string, world: Releases, now: bigint): boolean {
  const isClaiming = world.vips.get(address)!.state === vipState.CLAIMING && counts(address, world);
  return isClaiming || isAnswered(address, world, now);
}

function decide(claim: Claim, claimant: WireHeader, world: Pick<World, "interface"> & Releases, now: bigint): number {
  const { hash, verdict } = claim;
  const here = world.interface!;
  const address = addressOf(claim);
  const vip = address === undefined ? undefined : world.vips.get(address);
  if (address === undefined || !vip) return claimVerdict.FREE;
  if (!isIts(address, vip)) return claimVerdict.MINE;
  if (!isHeld(address, world, now)) return claimVerdict.FREE;
  const { LIVE, LAGGING, HEADLESS, PAST_HOLD } = nodeState;
  const state = stateOf(here, now);
  const isStale = (claimant.flags & SOURCE_STALE) > 0;
  // Rank before hash: a node that lags comes after one whose source is fresh.
  const isFirst = state === LIVE && !here.source_stale && claimant.state === LAGGING;
  const isLast = state === LAGGING && claimant.state !== LAGGING && !isStale;
  const isBetter = isFirst || (!isLast && hash >= vip.hash);
  const isDefending = (state === LIVE || state === LAGGING) && vip.state !== vipState.LEAVING;
  const isHeadless = state === HEADLESS || state === PAST_HOLD;
  const isKept = isHeadless && !isFenced(here, now) && verdict === claimVerdict.FREE && vip.state === vipState.OWNED;
  if ((isDefending && isBetter) || isKept) return claimVerdict.MINE;
  return isAnswered(address, world, now) ? claimVerdict.RELEASED : claimVerdict.FREE;
}
