import { nodeState } from "../core/abi.ts";
import { isLeaving } from "../core/difference.ts";
import { type Entry, isOwned } from "../core/step.ts";
import { SECOND } from "../core/time.ts";
import { bootTime } from "../ffi/libc.ts";
import type { Maps } from "./object.ts";
import { readEntries } from "./vips.ts";

/** Peers that were heard this recently are there to take over. */
const HEARD = SECOND;
/** The time in which peers may take none of what is left before nobody is expected to, ms. */
const PATIENCE = 1_000;
/** The pause between two looks at that, ms. */
const LOOK = 10;

/**
 * Says goodbye while no speaker runs: this node's kernel tells its peers that the node is drained, and releases what they
 * claim, so that somebody answers all the time. Waits for that.
 */
export function sayGoodbye(maps: Maps): void {
  let [left, since] = [held(maps), performance.now()];
  if (left > 0) sayDrained(maps);
  while (left > 0 && performance.now() - since < PATIENCE) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK);
    const now = held(maps);
    if (now < left) [left, since] = [now, performance.now()];
  }
}

/**
 * Makes the kernel tell peers that this node is drained. No speaker runs, so nothing but the state changes, and a plain
 * update of the map will do.
 */
export function sayDrained({ interfaces }: Maps): void {
  for (const [ifindex, entry] of [...interfaces.entries()]) {
    interfaces.set(ifindex, { ...entry, state: nodeState.DRAINED });
  }
}

/** The number of VIPs that are answered here, on interfaces on which a peer hears that. */
function held(maps: Maps): number {
  const now = bootTime();
  const isHeard = (ifindex: number) => now - (maps.interfaces.get(ifindex)?.heard_ns ?? 0n) < HEARD;
  const heard = [...readEntries(maps)].filter(([ifindex]) => isHeard(ifindex));
  const isHeld = (entry: Entry) => isOwned(entry) || isLeaving(entry, now);
  return heard.flatMap(([, entries]) => [...entries.values()].filter(isHeld)).length;
}
