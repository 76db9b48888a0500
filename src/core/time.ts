/** Times of the protocol are nanoseconds of CLOCK_BOOTTIME; durations of the configuration are milliseconds. */
export type Ns = bigint;
export const MS = 1_000_000n;
export const SECOND = 1_000_000_000n;

/** Nanoseconds in so many milliseconds. */
export const toNs = (milliseconds: number): Ns => BigInt(Math.round(milliseconds * 1e6));

/** Milliseconds in so many nanoseconds. */
export const toMs = (nanoseconds: Ns): number => Number(nanoseconds) / 1e6;

/** A pause, twice as long each time: `first`, and after so many `times` at most `most`, in whatever unit these are. */
export const doubled = ({ first, most }: { first: number; most: number }, times: number): number =>
  Math.min(most, first * 2 ** Math.min(times, 30));

/** The earlier of two times; the only one where there is no other. */
export const earlier = (a: Ns, b: Ns | undefined): Ns => (b === undefined || a < b ? a : b);

export const later = (a: Ns, b: Ns): Ns => (a > b ? a : b);
