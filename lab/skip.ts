// The one file of lab/ that names uvu: uvu alone can skip a test, and only in its own count.
import type { Test } from "uvu";

/** Skips a test for a reason, which `npm test` prints. */
export function skip(test: Test, name: string, reason: string): void {
  console.log(`SKIPPED ${name}: ${reason}`);
  test.skip(name);
}

/** Returns a function that adds tests to the suite, or skips them all where there is a reason to. */
export function checker(test: Test, reason: string | undefined): (name: string, body: () => Promise<void>) => void {
  return (name, body) => {
    if (reason) skip(test, name, reason);
    else test(name, body);
  };
}
