import { bootTime } from "../ffi/libc.ts";

/** What time it is, what comes later, and chance. A simulation has its own. */
export interface Clock {
  /** ns of CLOCK_BOOTTIME. */
  now(): bigint;
  /** Calls `body` after so many milliseconds. @returns what cancels that */
  after(milliseconds: number, body: () => void): () => void;
  /** From 0 to 1. */
  random(): number;
}

export const machineClock: Clock = {
  now: bootTime,
  after(milliseconds, body) {
    const timer = setTimeout(body, milliseconds);
    return () => clearTimeout(timer);
  },
  random: Math.random,
};
