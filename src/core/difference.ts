import type { Entries, EntryKey } from "./ownership.ts";

/** What turns the actual entries into the wanted ones. */
export interface Difference {
  /** Entries to write, with whether they are owned. */
  set: [EntryKey, boolean][];
  remove: EntryKey[];
}

/** @param isOutdated entries to write although they are owned, or not, as wanted */
export function difference(
  wanted: Entries,
  actual: Entries,
  isOutdated: (entry: [EntryKey, boolean]) => boolean = () => false,
): Difference {
  return {
    set: [...wanted].filter((entry) => actual.get(entry[0]) !== entry[1] || isOutdated(entry)),
    remove: [...actual.keys()].filter((key) => !wanted.has(key)),
  };
}
