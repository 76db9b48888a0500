import { inNamespace } from "../lab/namespaces.ts";
import { linkAddress } from "../lab/packet-port.ts";
import { ffi } from "../src/ffi/ffi.ts";
import { libc as base, errno, errnoName } from "../src/ffi/libc.ts";
import { median } from "./statistics.ts";
import { ifindexOf, libc } from "./system.ts";

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_PACKET = 263;
const PACKET_QDISC_BYPASS = 20;
/** Frames in a call: so many that the call itself costs little, and so few that most calls are not interrupted. */
const BATCH = 256;
/** Sizes of struct mmsghdr and struct iovec with 64 bits. */
const MESSAGE = 64;
const IOVEC = 16;

/** Opens a packet socket on an interface; with protocol 0 it receives nothing. @throws Error without CAP_NET_RAW */
export function openSocket(namespace: string, name: string, protocol: number): number {
  return inNamespace(namespace, () => {
    const fd = base.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0);
    if (fd < 0) throw new Error(`Cannot open a packet socket: ${errnoName(ffi.errno())}. CAP_NET_RAW is needed`);
    if (base.bind(fd, linkAddress(ifindexOf(name), protocol), 20) < 0) {
      throw new Error(`Cannot bind a packet socket to ${name}: ${errnoName(ffi.errno())}`);
    }
    return fd;
  });
}

export interface Sent {
  /** The number of frames. */
  sent: number;
  /** Duration, ms. */
  elapsed: number;
  /** Time for a frame, ns: the median of the calls, so that an interrupted call does not count. */
  frame: number;
}

/** Sends prepared frames in turn, by sendmmsg in large batches. */
export class Sender implements Disposable {
  readonly #fd: number;
  readonly #frames: Uint8Array;
  readonly #vectors: Uint8Array;
  readonly #messages: Uint8Array;
  readonly #count: number;
  #next = 0;

  constructor(namespace: string, name: string, frames: readonly Uint8Array[]) {
    this.#count = frames.length;
    this.#frames = new Uint8Array(frames.reduce((sum, { length }) => sum + length, 0));
    this.#vectors = new Uint8Array(frames.length * IOVEC);
    this.#messages = new Uint8Array(frames.length * MESSAGE);
    const start = ffi.address(this.#frames);
    const vectors = ffi.address(this.#vectors);
    const vectorView = new DataView(this.#vectors.buffer);
    const messageView = new DataView(this.#messages.buffer);
    let place = 0;
    frames.forEach((frame, i) => {
      this.#frames.set(frame, place);
      vectorView.setBigUint64(i * IOVEC, start + BigInt(place), true);
      vectorView.setBigUint64(i * IOVEC + 8, BigInt(frame.length), true);
      place += frame.length;
      messageView.setBigUint64(i * MESSAGE + 16, vectors + BigInt(i * IOVEC), true);
      messageView.setBigUint64(i * MESSAGE + 24, 1n, true);
    });
    this.#fd = openSocket(namespace, name, 0);
    // Bypasses the queueing discipline (a veth has none) and its taps, to keep the sender's own time small.
    base.setsockopt(this.#fd, SOL_PACKET, PACKET_QDISC_BYPASS, new Uint8Array(Int32Array.of(1).buffer), 4);
  }

  /** Sends up to `count` frames with one call. @returns their number */
  send(count: number): number {
    const room = Math.min(count, BATCH, this.#count - this.#next);
    const messages = this.#messages.subarray(this.#next * MESSAGE, (this.#next + room) * MESSAGE);
    const sent = libc.sendmmsg(this.#fd, messages, room, 0);
    if (sent < 0) {
      const error = ffi.errno();
      if (error !== errno.ENOBUFS && error !== errno.EAGAIN) throw new Error(`Cannot send: ${errnoName(error)}`);
      return 0;
    }
    this.#next = (this.#next + sent) % this.#count;
    return sent;
  }

  /** Sends as fast as possible for at least `duration` ms. */
  flood(duration: number): Sent {
    const began = performance.now();
    const frames: number[] = [];
    let sent = 0;
    let now = began;
    while (now < began + duration) {
      const before = now;
      const count = this.send(BATCH);
      now = performance.now();
      sent += count;
      if (count > 0) frames.push(((now - before) * 1e6) / count);
    }
    return { sent, elapsed: now - began, frame: median(frames) };
  }

  [Symbol.dispose](): void {
    base.close(this.#fd);
  }
}
