import type { Entries, EntryKey } from "./ownership.ts";

/** What turns the actual entries into the wanted ones. */
export interface Difference {
  /** Entries to write, with whether they are owned. */
  set: [EntryKey, boolean][];
  remove: EntryKey[];
}

export function difference(wanted: Entries, actual: Entries): Difference {
  return {
    set: [...wanted].filter(([key, isOwned]) => actual.get(key) !== isOwned),
    remove: [...actual.keys()].filter((key) => !wanted.has(key)),
  };
}
