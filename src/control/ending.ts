/**
 * A machine that is shut down by order gives its VIPs away before its network goes. A speaker that alone is stopped keeps
 * them, as its kernel goes on answering.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { isHeld } from "../core/step.ts";
import type { Speaker } from "../speaker.ts";

/** Exists where systemd runs the machine (sd_booted(3)): not in a pod. */
const SYSTEMD = "/run/systemd/system";
/** systemctl asks the process 1 itself, so that it answers without D-Bus too, ms. */
const ASKED = 1_000;
/** Kubelet stops pods right after it has begun to tell the API that the node goes: the news may come this much later, ms. */
const NEWS = 500;
/** VIPs that nobody has taken for this long are wanted by nobody, ms. */
const CALM = 500;
/** A pod has five seconds (terminationGracePeriodSeconds), all in all, ms. */
const LONGEST = 3_000;
const STEP = 20;

/** Resolves with true if systemd is stopping this machine, and not the speaker alone. */
export async function isMachineStopping(): Promise<boolean> {
  if (!existsSync(SYSTEMD)) return false;
  return await new Promise((resolve) => {
    const options = { timeout: ASKED };
    // It ends with another status than 0, but in the state `running`.
    execFile("systemctl", ["is-system-running"], options, (_error, said) => resolve(said.trim() === "stopping"));
  });
}

/** Waits a moment for the API's news that this machine is going down. */
export async function comesTrue(isEnding: () => boolean): Promise<boolean> {
  for (const end = performance.now() + NEWS; !isEnding() && performance.now() < end; ) await sleep(STEP);
  return isEnding();
}

/** Waits until the other nodes have what they may own of this speaker's VIPs. @returns how many are left */
export async function giveAway(speaker: Speaker): Promise<number> {
  speaker.take({ kind: "ending", isEnding: true });
  const held = () =>
    speaker.snapshot().segments.reduce((sum, { entries }) => sum + [...entries.values()].filter(isHeld).length, 0);
  const began = performance.now();
  let left = held();
  for (let movedAt = began; left > 0; ) {
    const now = performance.now();
    if (now - movedAt > CALM || now - began > LONGEST) break;
    await sleep(STEP);
    const before = left;
    left = held();
    if (left !== before) movedAt = performance.now();
  }
  return left;
}
