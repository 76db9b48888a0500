import { type InterfaceEntry, nodeState } from "./abi.ts";

/** A node's state, as frames and the kernel's maps carry it. */
export type NodeState = (typeof nodeState)[keyof typeof nodeState];

/**
 * What a node is to its peers, from what its control plane said last and how long ago it said it. The kernel computes the
 * same in state_of() (bpf/), and a test runs both.
 * @param now ns of CLOCK_BOOTTIME
 */
export function stateOf(
  { tick_ns, live_ns, hold_ns, state }: Pick<InterfaceEntry, "tick_ns" | "live_ns" | "hold_ns" | "state">,
  now: bigint,
): NodeState {
  const age = now > tick_ns ? now - tick_ns : 0n;
  if (tick_ns === 0n) return nodeState.JOINING;
  // A node that was told to release its VIPs goes on releasing them, however long its control plane is down.
  if (state === nodeState.DRAINED || state === nodeState.LAGGING) return state;
  if (age >= hold_ns) return nodeState.PAST_HOLD;
  if (state === nodeState.LIVE && age >= live_ns) return nodeState.HEADLESS;
  return state as NodeState;
}
