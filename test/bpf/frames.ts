/** Random frames, from a seed, so that a run can be repeated. */
import { seal } from "./nd.ts";

/** The values of a field that matter, each as bytes. */
export interface Pools {
  macs: readonly Uint8Array[];
  ips: readonly Uint8Array[];
  /** The first is a VIP; some of the others are groups. */
  ip6s: readonly Uint8Array[];
}

export const pick = <T>(random: () => number, values: readonly T[]): T => values[Math.floor(random() * values.length)]!;

/** BPF_PROG_TEST_RUN refuses frames that say IP and are too short for its header. */
export const isRunnable = (frame: Uint8Array): boolean =>
  frame.length >= 54 || !["8,0", "134,221"].includes(frame.subarray(12, 14).join());

const TAGS = [
  [0x81, 0],
  [0x88, 0xa8],
];

/** A frame that can be run, of 14 bytes at least: mostly ARP with fields that matter, often mutated, cut, grown or tagged. */
export function makeFrame(random: () => number, { macs, ips }: Pools): Uint8Array {
  const mac = () => pick(random, macs);
  const ip = () => pick(random, ips);
  const chance = (of: number) => random() < of;
  const word = (usual: number, others: readonly number[]) => {
    const value = chance(0.95) ? usual : pick(random, others);
    return [value >> 8, value & 255];
  };
  const tag = () => [...pick(random, TAGS), 0, chance(0.6) ? 0 : 7];
  const tags = chance(0.93) ? [] : chance(0.7) ? tag() : [...tag(), ...tag()];
  const source = mac();
  const sha = chance(0.8) ? source : mac();
  const spa = ip();
  let frame: Uint8Array = Uint8Array.of(
    ...[...mac(), ...source],
    ...tags,
    ...word(tags.length > 0 && chance(0.4) ? 0x88b5 : 0x0806, [0x0800, 0x86dd, 0x0608, 0x8100, 0x88b5]),
    ...word(1, [0, 6, 0x0100]),
    ...word(0x0800, [0x0806, 0x86dd, 0x0008]),
    ...[chance(0.97) ? 6 : pick(random, [0, 4, 8]), chance(0.97) ? 4 : pick(random, [0, 6, 16])],
    ...(chance(0.7)
      ? [0, 1]
      : pick(random, [
          [0, 2],
          [0, 0],
          [1, 0],
          [0, 3],
          [1, 1],
        ])),
    ...[...sha, ...spa, ...mac(), ...(chance(0.1) ? spa : ip())],
    ...new Uint8Array(18),
  );
  if (chance(0.2)) for (let i = 42; i < frame.length; i++) frame[i] = Math.floor(random() * 256);
  if (chance(0.15))
    frame = resize(frame, pick(random, [14, 17, 18, 20, 41, 42, 43, 59, 60, 61, 64, 128, 1514]), random);
  if (chance(0.1)) frame = resize(frame, 14 + Math.floor(random() * 100), random);
  if (chance(0.25)) flip(frame, 64, random);
  if (!isRunnable(frame)) frame.set([0x88, 0xb5], 12);
  return frame;
}

/** A frame of Neighbour Discovery that can be run: mostly a Solicitation, often wrong in one way or in several. */
export function makeNd(random: () => number, { macs, ip6s }: Pools): Uint8Array {
  const chance = (of: number) => random() < of;
  const byte = () => Math.floor(random() * 256);
  const mac = () => pick(random, macs);
  const target = pick(random, chance(0.8) ? ip6s.slice(0, 3) : ip6s);
  const groupMac = Uint8Array.of(0x33, 0x33, 0xff, ...target.subarray(13));
  const group = Uint8Array.of(0xff, 2, ...new Uint8Array(9), 1, 0xff, ...target.subarray(13));
  const isDad = chance(0.25);
  const option = (): number[] => {
    const kind = random();
    if (kind < 0.4) return [1, 1, ...mac()];
    if (kind < 0.8) return [14, 1, 1, 2, 3, 4, 5, 6];
    const units = pick(random, [0, 1, 2, 2, 3, 4, 255]);
    return [chance(0.3) ? 1 : byte(), units, ...Array.from({ length: 8 * Math.min(units || 1, 4) - 2 }, byte)];
  };
  const many = pick(random, [0, 1, 1, 1, 2, 2, 3, 4, 5]);
  const options = Array.from({ length: many }, (_, i) =>
    i === 0 && chance(0.5) ? [isDad ? 14 : 1, 1, ...mac()] : option(),
  );
  const message = [
    ...[chance(0.75) ? 135 : chance(0.8) ? 136 : byte(), chance(0.97) ? 0 : byte(), 0, 0],
    ...(chance(0.8) ? [0, 0, 0, 0] : [byte(), 0, 0, byte()]),
    ...target,
    ...options.flat(),
  ];
  const length = chance(0.97) ? message.length : pick(random, [0, 8, 16, 23, 24, 25, 32, 40, 56, 64, 0x2000]);
  const frame = Uint8Array.of(
    ...(chance(0.7) ? groupMac : mac()),
    ...mac(),
    ...[0x86, 0xdd, chance(0.9) ? 0x60 : 0x6f, chance(0.9) ? 0 : byte(), 0, 0],
    ...[length >> 8, length & 255, chance(0.97) ? 58 : pick(random, [0, 6, 44]), chance(0.96) ? 255 : byte()],
    ...(isDad ? new Uint8Array(16) : pick(random, ip6s)),
    ...(chance(0.8) ? group : pick(random, ip6s)),
    ...message,
    ...(chance(0.15) ? Array.from({ length: pick(random, [1, 2, 4, 8, 9, 100]) }, byte) : []),
  );
  let made = chance(0.06) && frame.length >= 58 + length ? frame : seal(frame);
  if (chance(0.05)) made = made.slice(0, 54 + Math.floor(random() * 40));
  if (chance(0.1)) flip(made, 100, random);
  if (chance(0.08)) {
    const tag = () => [...pick(random, TAGS), 0, chance(0.7) ? 0 : 7];
    made = Uint8Array.of(...made.subarray(0, 12), ...tag(), ...(chance(0.2) ? tag() : []), ...made.subarray(12));
  }
  if (!isRunnable(made)) made.set([0x88, 0xb5], 12);
  return made;
}

/** Changes one to three of the first bytes: a bit, or all. */
export function flip(frame: Uint8Array, within: number, random: () => number): void {
  for (let flips = 1 + Math.floor(random() * 3); flips > 0; flips--) {
    const at = Math.floor(random() * Math.min(frame.length, within));
    frame[at] = random() < 0.5 ? frame[at]! ^ (1 << Math.floor(random() * 8)) : Math.floor(random() * 256);
  }
}

export function resize(frame: Uint8Array, length: number, random: () => number): Uint8Array {
  const resized = Uint8Array.from({ length }, () => Math.floor(random() * 256));
  resized.set(frame.subarray(0, length));
  return resized;
}

/**
 * The smallest frame that still fails: bytes zeroed and the end cut off for as long as `fails` holds.
 * @param fails is asked a few hundred times
 */
export function shrink(frame: Uint8Array, fails: (frame: Uint8Array) => boolean): Uint8Array {
  let smallest = frame;
  for (let length = smallest.length - 1; length >= 14; length--) {
    const shorter = smallest.slice(0, length);
    if (!isRunnable(shorter) || !fails(shorter)) break;
    smallest = shorter;
  }
  for (let at = 0; at < smallest.length; at++) {
    const zeroed = smallest.slice();
    zeroed[at] = 0;
    if (smallest[at] !== 0 && isRunnable(zeroed) && fails(zeroed)) smallest = zeroed;
  }
  return smallest;
}

/** A capture of one frame, for `tcpdump -r -`: the classic pcap format, Ethernet. */
export function pcap(frame: Uint8Array): Uint8Array {
  const header = Uint32Array.of(0xa1b2c3d4, 0x00040002, 0, 0, 65_535, 1);
  const record = Uint32Array.of(0, 0, frame.length, frame.length);
  return Uint8Array.of(...new Uint8Array(header.buffer), ...new Uint8Array(record.buffer), ...frame);
}
