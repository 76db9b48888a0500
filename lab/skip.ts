import type { Test } from "uvu";

/** Skips a test for a reason that the run's output shows. */
export function skip(test: Test, name: string, reason: string): void {
  console.log(`SKIPPED ${name}: ${reason}`);
  test.skip(name);
}
