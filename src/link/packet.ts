import { ETH_P_ARP } from "../core/frame.ts";
import { ffi } from "../ffi/ffi.ts";
import { errno, errnoName, libc } from "../ffi/libc.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;

/**
 * What became of a frame. That a link is down or gone, or that the frame was dropped on its way out (by a full queue, or by
 * the guard, for a VIP that is not owned), is no fault of the program's.
 */
export type Sent = "sent" | "link is down" | "link is gone" | "dropped";

const REFUSALS: Record<number, Sent> = {
  [errno.ENETDOWN]: "link is down",
  [errno.ENXIO]: "link is gone",
  [errno.ENODEV]: "link is gone",
  [errno.ENOBUFS]: "dropped",
  [errno.EAGAIN]: "dropped",
};

/**
 * A packet socket that only sends (protocol 0: the kernel queues nothing to it). Frames pass the TC egress hook, so
 * the guard there sees gratuitous ARP too: one for a VIP that the kernel does not hold as owned never leaves.
 */
export class PacketSocket implements Disposable {
  readonly #fd: number;
  /** struct sockaddr_ll, packet(7). */
  readonly #to = new Uint8Array(20);
  readonly #toView = new DataView(this.#to.buffer);

  /** @throws Error without CAP_NET_RAW. */
  constructor() {
    this.#fd = libc.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (this.#fd < 0) {
      throw new Error(
        `Cannot open a packet socket: ${errnoName(ffi.errno())}. Sending gratuitous ARP needs CAP_NET_RAW`,
      );
    }
    this.#toView.setUint16(0, AF_PACKET, true);
    this.#toView.setUint16(2, ETH_P_ARP, false);
  }

  /** Sends one Ethernet frame out of the interface. @throws Error for anything but the refusals of {@link Sent}. */
  send(ifindex: number, frame: Uint8Array): Sent {
    this.#toView.setInt32(4, ifindex, true);
    if (Number(libc.sendto(this.#fd, frame, frame.length, 0x40 /* MSG_DONTWAIT */, this.#to, 20)) >= 0) return "sent";
    const error = ffi.errno();
    const refusal = REFUSALS[error];
    if (refusal) return refusal;
    throw new Error(`Cannot send on interface ${ifindex}: ${errnoName(error)}`);
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}
