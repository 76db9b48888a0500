/** Frames of the peer protocol, at random: mostly such as a peer sends, often changed, cut, grown or played again. */
import { claimVerdict, nodeState, type WireHeader, type WireKey, wireType } from "../../src/core/abi.ts";
import { flip, pick, resize } from "./frames.ts";
import { sign, speak } from "./speech.ts";

/** The values of a field that matter. The first ones belong together. */
export interface SpeechPools {
  macs: readonly Uint8Array[];
  ips: readonly Uint8Array[];
  ip6s: readonly Uint8Array[];
  keys: readonly WireKey[];
  ourMac: Uint8Array;
  nodes: readonly { node: bigint; incarnation: bigint; mac: Uint8Array; name: string }[];
  incarnations: readonly bigint[];
  nonces: readonly bigint[];
  hashes: readonly bigint[];
}

const { WIRE_PROBE, WIRE_ECHO, WIRE_CLAIM, WIRE_REPLY, WIRE_NOTICE } = wireType;
/** The first of a peer's claims is taken, of many that follow few are. */
const TYPES = [WIRE_PROBE, WIRE_ECHO, WIRE_ECHO, WIRE_CLAIM, WIRE_CLAIM, WIRE_CLAIM, WIRE_REPLY, WIRE_NOTICE];
/** How many of the last frames, some of which are played again. */
const REMEMBERED = 20;

const SECOND = 1_000_000_000n;
/** Ages of stamps, far from the age at which they are stale. */
const AGES = [0n, SECOND / 1000n, SECOND / 10n, SECOND, 3n * SECOND];
const STALE = [8n * SECOND, 20n * SECOND, -3600n * SECOND];

/** @param earlier frames that were made before, of which some are played again */
export function makeSpeech(random: () => number, pools: SpeechPools, now: bigint, earlier: Uint8Array[]): Uint8Array {
  const chance = (of: number) => random() < of;
  const byte = () => Math.floor(random() * 256);
  if (earlier.length > 0 && chance(0.1)) return pick(random, earlier).slice();

  const time = () => now - (chance(0.5) ? 0n : pick(random, chance(0.75) ? AGES : STALE));
  const sender = pick(random, pools.nodes);
  const type = chance(0.97) ? pick(random, TYPES) : pick(random, [0, 6, 255]);
  const isLong = type >= WIRE_CLAIM ? chance(0.95) : chance(0.03);
  const version = chance(0.7) ? 2 : chance(0.9) ? 1 : pick(random, [0, 3, 255]);
  const many = version === 1 ? 64 : 32;
  const count = isLong ? pick(random, [0, 1, 1, 2, 2, 3, 5, chance(0.1) ? many : 4, chance(0.05) ? many + 1 : 1]) : 0;
  const about = () => ({ family: 0, hash: pick(random, pools.nodes).node });
  const claims = Array.from({ length: count }, () => ({
    ip: version === 2 && chance(0.35) ? pick(random, pools.ip6s.slice(0, 4)) : pick(random, pools.ips),
    verdict: chance(0.6) ? claimVerdict.CLAIMED : chance(0.8) ? claimVerdict.FREE : byte(),
    hash: pick(random, pools.hashes),
    ...(chance(0.1) && { family: pick(random, [0, 4, 6, 260]) }),
    ...(chance(0.1) && about()),
  }));
  const header: Partial<WireHeader> = {
    destination: chance(0.8) ? pools.ourMac : pick(random, pools.macs),
    source: chance(0.9) ? sender.mac : pick(random, pools.macs),
    version,
    type,
    state: chance(0.5) ? nodeState.LIVE : chance(0.9) ? pick(random, Object.values(nodeState)) : byte(),
    flags: chance(0.5) ? 0 : chance(0.9) ? Math.floor(random() * 8) : byte(),
    max_version: chance(0.65) ? version : pick(random, [0, 1, 2, 2, 255]),
    ...(chance(0.05) && { cluster: pick(random, [0n, 0xc1n, 0xc1n + (1n << 32n)]) }),
    interface: chance(0.9) ? "eth0" : "i".repeat(Math.floor(random() * 20)),
    count: chance(0.97) ? count : pick(random, [0, 1, 2, 32, 33, 64, 65, 128, 65_535]),
    tick_age: chance(0.9) ? 3 : pick(random, [0, 65_535]),
    node: sender.node,
    incarnation: chance(0.9) ? sender.incarnation : pick(random, pools.incarnations),
    to: chance(0.85) ? pools.nodes[0]!.incarnation : pick(random, pools.incarnations),
    nonce: chance(0.6) ? pick(random, pools.nonces) : chance(0.9) ? time() : 0n,
    stamp: chance(0.05) ? 0n : time(),
    name: chance(0.95) ? sender.name : "n".repeat(Math.floor(random() * 40)),
  };
  const key = chance(0.95) ? pools.keys[version === 1 ? 3 : 0]! : pick(random, pools.keys);
  let frame = speak(header, key, claims);
  if (chance(0.05))
    frame = resize(
      frame,
      pick(random, [14, 95, 96, 103, 104, 105, 120, 127, 128, 135, 136, 137, 168, 1128, 1129, 1160, 1161]),
      random,
    );
  if (chance(0.1)) flip(frame, chance(0.5) ? 64 : frame.length, random);
  // Most that was changed is refused for its tag alone: some of it is signed again.
  if (chance(0.5) && frame.length >= 8) frame = sign(frame, key);
  if (chance(0.04))
    frame = Uint8Array.of(...frame.subarray(0, 12), 0x81, 0, 0, chance(0.8) ? 0 : 7, ...frame.subarray(12));
  earlier[earlier.length < REMEMBERED ? earlier.length : Math.floor(random() * REMEMBERED)] = frame.slice();
  return frame;
}
