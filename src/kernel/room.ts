import { MAX_VIPS } from "../core/abi.ts";
import { type Ns, SECOND } from "../core/time.ts";
import { errno } from "../ffi/libc.ts";
import { KernelError } from "./libbpf.ts";

/** There is no memory, or the map is full. */
const FULL: readonly number[] = [errno.ENOMEM, errno.E2BIG];
/** The kernel takes memory for an entry without waiting, so that a first refusal may be over at once. */
const TRIES = 3;
/** The time after which the kernel is tried with some more entries, once it had no memory for them. */
const GROW: Ns = 30n * SECOND;

/** How many entries the kernel has room for, as far as it has refused some. */
export class Room {
  entries = MAX_VIPS;
  /** The kernel lacks entries for which it had no room, until somebody has written all anew. */
  isPartial = false;
  #growAt: Ns | undefined;

  /** The entries that may be tried now: some time after there was no memory for more, there may be some. */
  at(now: Ns): number {
    if (this.entries === MAX_VIPS) return MAX_VIPS;
    this.#growAt ??= now + GROW;
    if (now < this.#growAt) return this.entries;
    this.#growAt = undefined;
    this.entries = Math.min(MAX_VIPS, this.entries + (this.entries >> 4) + 1);
    return this.entries;
  }

  /**
   * Writes as many entries as fit.
   * @param held counts those that the kernel holds @returns false where they were not all
   */
  asFits(write: () => void, held: () => number): boolean {
    for (let tries = 1; tries <= TRIES; tries++) {
      try {
        write();
        return true;
      } catch (error) {
        if (!(error instanceof KernelError && FULL.includes(error.errno))) throw error;
      }
    }
    const count = held();
    // Where it held no fewer before, there is less memory than then.
    this.entries = count < this.entries ? count : Math.max(0, this.entries - (this.entries >> 4) - 1);
    this.isPartial = true;
    this.#growAt = undefined;
    return false;
  }
}
