/** The rules of src/core/state.ts are those of the compiled programs, at the limits too. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type InterfaceEntry, interfaceEntry, nodeState, wireType } from "../../src/core/abi.ts";
import { isFenced, isGone, stateName, stateOf } from "../../src/core/state.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { Bench, bytes, IFINDEX } from "./run.ts";
import { speak, understand } from "./speech.ts";

const bench = new Bench("isat-t-bpf-state-");
const MAC = bytes("02 00 00 00 00 01");
const CLIENT = bytes("02 00 00 00 00 02");
const KEY = { k0: 1n, k1: 2n, id: 1, cluster: 0n };
const VIP = "10.9.0.1";
const HOUR = 3_600_000_000_000n;

/** A tick that is still to come has the age zero, whenever the program runs: a limit of zero is met exactly. */
const AGES: Record<string, (now: bigint) => bigint> = {
  "no tick": () => 0n,
  "a tick of age zero": (now) => now + HOUR,
  "an old tick": (now) => now - 1_000_000_000n, // of many jiffies: see read_clock()
};
/** Below, at and above the ages. */
const LIMITS = { zero: 0n, "1 us": 1000n, "an hour": HOUR };
const HEARD: Record<string, (now: bigint) => bigint> = {
  "no peer was heard": () => 0n,
  "a peer was heard long ago": (now) => now - 1_000_000_000n,
  "a peer is heard": (now) => now + HOUR,
};

let nonce = 0n;

/** The state that the program on the object tells a peer, and the clock that it had. */
function echo(entry: InterfaceEntry): { state: number; now: bigint } {
  bench.maps.interfaces.set(IFINDEX, entry); // the bucket of strangers' probes is full again
  const header = { type: wireType.WIRE_PROBE, destination: MAC, source: CLIENT, node: 7n, nonce: ++nonce };
  const { action, out } = bench.execute("isat_ingress", speak(header, KEY));
  assert.is(action, "answer");
  const { state, stamp } = understand(out).header;
  return { state, now: stamp };
}

/** The counter of the verdict on a request for a VIP that is owned here. */
function verdict(entry: InterfaceEntry, heard_ns: bigint): string {
  bench.maps.interfaces.set(IFINDEX, { ...entry, heard_ns });
  const request = bytes(`ff ff ff ff ff ff 02 00 00 00 00 02 08 06 00 01 08 00 06 04 00 01
    02 00 00 00 00 02 0a 09 00 02 00 00 00 00 00 00 0a 09 00 01 ${"00 ".repeat(18)}`);
  return Object.keys(bench.run("isat_ingress", request).counters)[0]!;
}

test.before(() => {
  bench.maps.keys.set(0, KEY);
  bench.addVip(VIP, "owned");
});

for (const [tick, tickAt] of Object.entries(AGES)) {
  for (const state of Object.values(nodeState)) {
    test(`${tick}, ${stateName(state)}: stateOf() is the state in the echo, whatever the limits`, () => {
      const seen = new Set<number>();
      for (const live_ns of Object.values(LIMITS)) {
        for (const hold_ns of Object.values(LIMITS)) {
          const entry = interfaceEntry.of({
            ifindex: IFINDEX,
            mac: MAC,
            state,
            tick_ns: tickAt(bootTime()),
            live_ns,
            hold_ns,
          });
          const said = echo(entry);
          assert.is(stateName(stateOf(entry, said.now)), stateName(said.state), `live ${live_ns}, hold ${hold_ns}`);
          seen.add(said.state);
        }
      }
      if (state === nodeState.LIVE && tick !== "no tick")
        assert.equal([...seen].sort(), [nodeState.LIVE, nodeState.HEADLESS, nodeState.PAST_HOLD]);
    });
  }

  for (const [heard, heardAt] of Object.entries(HEARD)) {
    test(`${tick}, ${heard}: isGone() and isFenced() are the programs' verdict, whatever the limits`, () => {
      for (const fence_ns of Object.values(LIMITS)) {
        for (const gone_ns of Object.values(LIMITS)) {
          const now = bootTime();
          const tick_ns = tickAt(now);
          const entry = interfaceEntry.of({
            ifindex: IFINDEX,
            mac: MAC,
            state: nodeState.LIVE,
            tick_ns,
            fence_ns,
            gone_ns,
          });
          const heard_ns = heardAt(now);
          const expected = isGone(entry, heard_ns, now) ? "gone" : isFenced(entry, now) ? "fenced" : "answered";
          assert.is(verdict(entry, heard_ns), expected, `fence ${fence_ns}, gone ${gone_ns}`);
        }
      }
    });
  }
}

test.after(() => bench[Symbol.dispose]());
test.run();
