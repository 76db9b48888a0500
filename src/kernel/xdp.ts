import { ETH_P_ISAT } from "../core/wire.ts";
import { ffi } from "../ffi/ffi.ts";
import { errno } from "../ffi/libc.ts";
import { check, type Fd, libbpf } from "./libbpf.ts";

/** A device, and a way to read its counters. */
interface Device {
  ifindex: number;
  name: string;
  mac: Uint8Array;
  /** Frames sent, and frames dropped on the way out. */
  transmitted(): { packets: bigint; dropped: bigint };
}

/** The number of frames that the probe sends. */
const FRAMES = 16;
/** How long the probe waits until the NIC has counted them, and how often it looks, ms. */
const COUNTED_WITHIN = 3_000;
const STEP = 20;

/**
 * Sends frames through the NIC's XDP transmit path and watches its counters. A driver may accept a program and still
 * transmit nothing, as does a veth whose peer has no XDP program. The program must be attached already.
 * @returns "unknown" on kernels before 5.18, which cannot run XDP on live frames
 * @throws Error if the frames do not leave the NIC
 */
export function requireXdpAnswers(device: Device, probe: Fd): "answers" | "unknown" {
  const before = device.transmitted();
  if (sendProbes(device, probe) === "unknown") return "unknown";
  let after = before;
  for (let waited = 0; waited < COUNTED_WITHIN; waited += STEP) {
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

function sendProbes(device: Device, probe: Fd): "sent" | "unknown" {
  const BPF_F_TEST_XDP_LIVE_FRAMES = 2;
  const frame = new Uint8Array(64);
  frame.set(device.mac, 0);
  frame.set(device.mac, 6);
  new DataView(frame.buffer).setUint16(12, ETH_P_ISAT);
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
  return "sent";
}
