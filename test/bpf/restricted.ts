/**
 * Loads the object and attaches it as isat runs in a container: as uid 65532 with three capabilities, without
 * CAP_PERFMON. Node and this checkout may be out of that uid's reach, so the process starts as root, with all modules
 * loaded, and drops its rights then.
 *
 * Usage: restricted.ts CAPABILITIES OBJECT FOLDER IFINDEX, the capabilities as bit numbers joined by commas. Prints one
 * line: "loaded and attached", or the refusal.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { ffi } from "../../src/ffi/ffi.ts";
import { errnoName } from "../../src/ffi/libc.ts";
import { fn } from "../../src/ffi/port.ts";
import { Hooks, hasTcx } from "../../src/kernel/hooks.ts";
import { pointsOf } from "../../src/kernel/kernel.ts";
import { loadObject } from "../../src/kernel/object.ts";
import { PacketSocket } from "../../src/link/packet.ts";

const [capabilities = "", object = "", folder = "", ifindex = ""] = process.argv.slice(2);
const NOBODY = 65_532;

const libc = ffi.open(null, {
  prctl: fn(["i32", "u64", "u64", "u64", "u64"], "i32"),
  setgroups: fn(["u64", "buffer"], "i32"),
  setresgid: fn(["u32", "u32", "u32"], "i32"),
  setresuid: fn(["u32", "u32", "u32"], "i32"),
  capset: fn(["buffer", "buffer"], "i32"),
});

function must(what: string, result: number): void {
  if (result < 0) throw new Error(`Cannot ${what}: ${errnoName(ffi.errno())}`);
}

/** Restricts this thread, which is the one that calls the kernel. */
function restrict(bits: readonly number[]): void {
  const PR_SET_KEEPCAPS = 8;
  const CAPABILITY_VERSION_3 = 0x20080522;
  must("drop groups", libc.setgroups(0, null));
  must("keep capabilities", libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
  must("change the group", libc.setresgid(NOBODY, NOBODY, NOBODY));
  must("change the user", libc.setresuid(NOBODY, NOBODY, NOBODY));
  const set = bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
  const [low, high] = [Number(set & 0xffffffffn), Number(set >> 32n)];
  // struct __user_cap_data_struct[2]: effective, permitted, inheritable
  const data = new Uint8Array(Uint32Array.of(low, low, 0, high, high, 0).buffer);
  must("set capabilities", libc.capset(new Uint8Array(Uint32Array.of(CAPABILITY_VERSION_3, 0).buffer), data));
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/thread-self/status", "utf8"))![1];
  if (BigInt(`0x${effective}`) !== set)
    throw new Error(`Cannot restrict this thread: its capabilities are ${effective}`);
}

restrict(capabilities.split(",").map(Number));
try {
  using loaded = loadObject(object, folder);
  const { isat_ingress, isat_egress, isat_xdp } = loaded.programs;
  const hooks = new Hooks(`${folder}/links`);
  for (const point of [...pointsOf("tc"), ...(hasTcx() ? pointsOf("tcx") : []), ...pointsOf("xdp").slice(1)]) {
    const ingress = point.kind === "xdp" ? isat_xdp : isat_ingress;
    hooks.ensure(Number(ifindex), point, point.direction === "egress" ? isat_egress : ingress);
  }
  using _socket = new PacketSocket();
  console.log("loaded and attached");
} catch (error) {
  console.log((error as Error).message);
}
