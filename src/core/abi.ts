/**
 * The contents of the kernel's maps and of the peer protocol's frames, byte for byte. bpf/abi.h and bpf/wire.h declare and
 * explain them; abi.generated.ts is written from the compiled object, and the build fails where it is not current.
 */
import { type Verdicts, verdicts } from "./abi.generated.ts";

export * from "./abi.generated.ts";
export { decodeField, ifindexKey, type Layout, rawLayout } from "./layout.ts";

/** The counters of an interface on which no frame was seen yet. */
export const NO_VERDICTS: Verdicts = verdicts.of({});

/** A field of `verdicts` that counts; the others are the clock. */
export type Counter = Exclude<keyof Verdicts, `clock_${string}`>;
export const COUNTERS = [...verdicts.fields.keys()].filter((name) => !name.startsWith("clock_")) as Counter[];

const OF_OTHERS = COUNTERS.filter((name) => !/^egress_|^(nd_)?bad_sender$|^wire_own$|^answered_|^released$/.test(name));

/**
 * The number of frames of other machines that were counted: without what this one sends, and its own that come back.
 */
export const framesOfOthers = (counted: Verdicts): bigint =>
  OF_OTHERS.reduce((sum, counter) => sum + counted[counter], 0n);
