/**
 * The verdict table in TypeScript, written from docs/verdicts.md and not from the C: what the compiled programs are
 * compared with on frames that nobody thought of. Times are not modelled: the clock is a state, as `Clock` of run.ts.
 */
import type { Action, Clock, Counters } from "./run.ts";

/** What the kernel's maps hold. Addresses are dotted text, MACs hex pairs joined by blanks. */
export interface World {
  /** undefined: the interface has no entry. */
  interface: { mac: string; address: string; clock: Clock } | undefined;
  /** The managed VIPs of the interface, and whether they are owned here. */
  vips: ReadonlyMap<string, boolean>;
}

export interface Expected {
  action: Action;
  frame: Uint8Array;
  counters: Counters;
  answers: Record<string, number>;
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
const unhex = (text: string) => Uint8Array.from(text.split(" "), (pair) => Number.parseInt(pair, 16));
const dotted = (bytes: Uint8Array) => bytes.join(".");
const word = (frame: Uint8Array, at: number) => (frame[at]! << 8) | frame[at + 1]!;

const ARP = 0x0806;
const TAGS = [0x8100, 0x88a8];
/** Ethernet header and ARP for Ethernet and IPv4. */
const ARP_FRAME = 42;
const SHORTEST = 60;
const BROADCAST = "ff ff ff ff ff ff";

const isSilent = (clock: Clock) => clock === "fenced" || isGone(clock);
const isGone = (clock: Clock) => clock.startsWith("gone") || clock.startsWith("never");

const isIPv4Arp = (frame: Uint8Array) =>
  frame.length >= ARP_FRAME &&
  word(frame, 14) === 1 &&
  word(frame, 16) === 0x0800 &&
  frame[18] === 6 &&
  frame[19] === 4;

/** Rows 1 to 10. */
export function ingress(frame: Uint8Array, world: World): Expected {
  const leave = (action: Action, counter?: keyof Counters): Expected => ({
    action,
    frame,
    counters: counter ? { [counter]: 1 } : {},
    answers: {},
  });
  const type = word(frame, 12);
  if (TAGS.includes(type)) return leave("pass", frame.length >= 18 && word(frame, 16) === ARP ? "tagged" : undefined);
  if (type !== ARP) return leave("pass");
  if (!isIPv4Arp(frame) || word(frame, 20) !== 1) return leave("pass", "not_request");

  const [destination, source] = [hex(frame.subarray(0, 6)), hex(frame.subarray(6, 12))];
  const [sha, spa, tpa] = [frame.subarray(22, 28), frame.subarray(28, 32), frame.subarray(38, 42)];
  const isOwned = world.vips.get(dotted(tpa));
  if (isOwned === undefined) return leave("pass", "not_managed");
  if (hex(spa) === hex(tpa)) return leave("pass", "announcement");
  const here = world.interface;
  if (!here) return leave("pass", "gone");
  if (destination !== BROADCAST && destination !== here.mac) return leave("pass", "not_for_us");
  if (isGone(here.clock)) return leave("pass", "gone");
  if (sha[0]! % 2 === 1 || hex(sha) === "00 00 00 00 00 00" || hex(sha) === here.mac)
    return leave("drop", "bad_sender");
  if (!isOwned) return leave("drop", "not_owned");
  if (isSilent(here.clock)) return leave("drop", "fenced");

  const ours = unhex(here.mac);
  const answer = Uint8Array.of(
    ...[...sha, ...ours, 0x08, 0x06],
    ...[0, 1, 8, 0, 6, 4, 0, 2],
    ...[...ours, ...tpa, ...sha, ...spa],
    ...new Uint8Array(Math.min(frame.length, SHORTEST) - ARP_FRAME),
  );
  return {
    action: "answer",
    frame: answer,
    counters: source === hex(sha) ? { answered: 1 } : { answered: 1, answered_other_source: 1 },
    answers: { [dotted(tpa)]: 1 },
  };
}

/** The guard at TC egress. */
export function egress(frame: Uint8Array, world: World): Expected {
  const pass: Expected = { action: "pass", frame, counters: {}, answers: {} };
  const here = world.interface;
  if (word(frame, 12) !== ARP || !isIPv4Arp(frame)) return pass;
  const [sha, spa, tpa] = [frame.subarray(22, 28), frame.subarray(28, 32), frame.subarray(38, 42)];
  const isOwned = world.vips.get(dotted(spa));
  if (isOwned === undefined || !here || isGone(here.clock)) return pass;
  const isFromUs = hex(sha) === here.mac && hex(frame.subarray(6, 12)) === here.mac;
  if (isOwned && !isSilent(here.clock) && isFromUs) return { ...pass, counters: { egress_claimed: 1 } };
  if (word(frame, 20) === 1 && hex(spa) !== hex(tpa)) {
    const rewritten = frame.slice();
    rewritten.set(here.address.split(".").map(Number), 28);
    return { ...pass, frame: rewritten, counters: { egress_rewritten: 1 } };
  }
  return { ...pass, action: "drop", counters: { egress_dropped: 1 } };
}
