import { ffi } from "../ffi/ffi.ts";
import { errno } from "../ffi/libc.ts";
import { check, type Fd, libbpf } from "./libbpf.ts";

/** A device, and how its counters stand when asked. */
interface Device {
  ifindex: number;
  name: string;
  mac: Uint8Array;
  /** Frames sent, and frames dropped on the way out. */
  transmitted(): { packets: bigint; dropped: bigint };
}

/** Frames that the probe sends, and how long it waits for the NIC to have counted them, ms. */
const FRAMES = 16;
const PATIENCE = 3_000;
const STEP = 20;

/** IEEE 802's first EtherType for local experiments: no host or switch makes anything of it. */
const ETH_P_EXPERIMENTAL = [0x88, 0xb5] as const;

/**
 * Sends frames of our own through the NIC's XDP transmit path and watches its counters: a driver may attach a program
 * and still transmit nothing (a veth whose peer runs no XDP program). The program must be attached already.
 * @returns "unknown" on kernels before 5.18, which cannot run XDP on live frames
 * @throws Error where the frames do not leave
 */
export function requireXdpAnswers(device: Device, probe: Fd): "answers" | "unknown" {
  const before = device.transmitted();
  if (run(device, probe) === "unknown") return "unknown";
  let after = before;
  for (let waited = 0; waited < PATIENCE; waited += STEP) {
    after = device.transmitted();
    if (after.dropped - before.dropped >= FRAMES) break;
    if (after.packets - before.packets >= FRAMES) return "answers";
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STEP);
  }
  throw new Error(
    `Cannot answer by XDP on ${device.name} as frames that XDP sends do not leave it: of ${FRAMES} probes,` +
      ` ${after.packets - before.packets} left and ${after.dropped - before.dropped} were dropped.` +
      " (A veth's peer needs an XDP program of its own.) Set hook: tcx or tc",
  );
}

function run(device: Device, probe: Fd): "ran" | "unknown" {
  const BPF_F_TEST_XDP_LIVE_FRAMES = 2;
  const frame = new Uint8Array(64);
  frame.set(device.mac, 0);
  frame.set(device.mac, 6);
  frame.set(ETH_P_EXPERIMENTAL, 12);
  const context = new Uint8Array(24); // struct xdp_md
  new Uint32Array(context.buffer).set([0, frame.length, 0, device.ifindex, 0, 0]);
  const options = new Uint8Array(80); // struct bpf_test_run_opts
  const view = new DataView(options.buffer);
  view.setBigUint64(0, BigInt(options.length), true);
  view.setBigUint64(8, ffi.address(frame), true);
  view.setUint32(24, frame.length, true);
  view.setBigUint64(32, ffi.address(context), true);
  view.setUint32(48, context.length, true);
  view.setInt32(60, FRAMES, true);
  view.setUint32(68, BPF_F_TEST_XDP_LIVE_FRAMES, true);
  const result = libbpf.bpf_prog_test_run_opts(probe.number, options);
  if (result === -errno.EINVAL) return "unknown";
  check(`Cannot probe XDP on ${device.name}`, result);
  return "ran";
}
