import { type InterfaceEntry, type NodeState, nodeState } from "./abi.ts";

/** The part of an interface's entry that tells the state of the node. */
type Ticks = Pick<InterfaceEntry, "tick_ns" | "live_ns" | "hold_ns" | "fence_ns" | "gone_ns" | "state">;

/** The age of a reading; zero where `now` was read before `then`, on another CPU. */
export const since = (then: bigint, now: bigint): bigint => (now > then ? now - then : 0n);

/**
 * A node's state as its peers see it: the state that its control plane wrote last, and the age of that. The kernel computes
 * the same in state_of() of bpf/state.h, and a test compares the two; so it is with the functions below.
 * @param now ns of CLOCK_BOOTTIME
 */
export function stateOf(
  { tick_ns, live_ns, hold_ns, state }: Pick<Ticks, "tick_ns" | "live_ns" | "hold_ns" | "state">,
  now: bigint,
): NodeState {
  const age = since(tick_ns, now);
  if (tick_ns === 0n) return nodeState.JOINING;
  // A node that was told to release its VIPs goes on releasing them, however long its control plane is down.
  if (state === nodeState.DRAINED) return state;
  if (age >= hold_ns) return nodeState.PAST_HOLD;
  if ((state === nodeState.LIVE || state === nodeState.LAGGING) && age >= live_ns) return nodeState.HEADLESS;
  return state as NodeState;
}

/** A node is silent when its tick is older than this limit. */
export const isFenced = ({ tick_ns, fence_ns }: Pick<Ticks, "tick_ns" | "fence_ns">, now: bigint): boolean =>
  since(tick_ns, now) > fence_ns;

/**
 * True if isat has gone for good, and the programs let everything pass.
 * @param heard_ns when any peer was last heard on this interface; 0: never
 */
export function isGone(
  { tick_ns, gone_ns }: Pick<Ticks, "tick_ns" | "gone_ns">,
  heard_ns: bigint,
  now: bigint,
): boolean {
  if (tick_ns === 0n) return true;
  return since(tick_ns, now) > gone_ns && (heard_ns === 0n || since(heard_ns, now) > gone_ns);
}

/** The state in words, for people. */
export type StateName = Lowercase<Exclude<keyof typeof nodeState, "PAST_HOLD">> | "past hold";
const NAMES = new Map<number, StateName>(
  Object.entries(nodeState).map(([name, state]) => [state, name.toLowerCase().replace("_", " ") as StateName]),
);
export const stateName = (state: number): StateName => NAMES.get(state) ?? "unknown";
