import { ffi } from "../ffi/ffi.ts";
import { errno, errnoName, libc, MSG_DONTWAIT, readable, SOCK_CLOEXEC, SOCK_RAW } from "../ffi/libc.ts";
import { explain } from "../files.ts";

const AF_PACKET = 17;

/**
 * The outcome of sending a frame. None of these is an error: links go down and disappear, and a full queue, a bond that
 * is up before its ports, or an egress filter (ours for a VIP that is not owned, or another one) drops frames.
 */
export type Sent = "sent" | "link is down" | "link is gone" | "dropped";

const EXPECTED_FAILURES: Record<number, Sent> = {
  [errno.ENETDOWN]: "link is down",
  [errno.ENXIO]: "link is gone",
  [errno.ENODEV]: "link is gone",
  [errno.ENOBUFS]: "dropped",
  [errno.EAGAIN]: "dropped",
  [errno.EPERM]: "dropped",
  [errno.ENOMEM]: "dropped",
};

/** The most frames that are handled in one turn of the event loop. */
const MOST = 64;

/** struct sockaddr_ll, packet(7). PACKET_OTHERHOST: the frame is for another host, or a VLAN that has no device. */
const SLL_PKTTYPE = 10;
const PACKET_OTHERHOST = 3;

/** @throws Error without CAP_NET_RAW */
function openSocket(etherType: number): number {
  const NETWORK_ORDER = ((etherType & 255) << 8) | (etherType >> 8);
  const fd = libc.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, NETWORK_ORDER);
  if (fd < 0) throw new Error(`Cannot open a packet socket: ${explain(errnoName(ffi.errno()))}`);
  return fd;
}

/** A frame, and the interface on which it has arrived. */
export interface Received {
  ifindex: number;
  frame: Uint8Array;
}

/**
 * A packet socket that receives the frames of one EtherType. The kernel delivers to it after XDP and TC ingress, so it
 * sees only frames that the programs there pass.
 */
export class ListeningSocket implements Disposable {
  readonly #fd: number;
  readonly #waker: number;
  readonly #buffer = new Uint8Array(2048);
  readonly #from = new Uint8Array(20);
  #isOpen = true;

  /** @throws Error without CAP_NET_RAW */
  constructor(etherType: number) {
    this.#fd = openSocket(etherType);
    this.#waker = libc.eventfd(0, SOCK_CLOEXEC);
  }

  /**
   * Calls `handle` for each frame, in order, until the socket is closed. After {@link MOST} frames the rest of the program
   * has its turn: others decide how many come.
   * @param fail called with what `handle` throws
   */
  async listen(handle: (received: Received) => void, fail: (error: Error) => void): Promise<void> {
    while (this.#isOpen) {
      await readable([this.#fd, this.#waker], 60_000);
      for (let count = 0; count < MOST && this.#isOpen; count++) {
        const received = this.#next();
        if (!received) break;
        try {
          handle(received);
        } catch (error) {
          fail(error as Error);
        }
      }
    }
    for (const fd of [this.#fd, this.#waker]) libc.close(fd);
  }

  #next(): Received | undefined {
    if (!this.#isOpen) return undefined;
    const { length } = this.#buffer;
    for (;;) {
      const room = Uint8Array.from([20, 0, 0, 0]);
      const size = Number(libc.recvfrom(this.#fd, this.#buffer, length, MSG_DONTWAIT, this.#from, room));
      if (size < 0) return undefined; // nothing is left, or a link went down, which netlink reports
      if (this.#from[SLL_PKTTYPE] === PACKET_OTHERHOST) continue;
      const ifindex = new DataView(this.#from.buffer).getInt32(4, true);
      return { ifindex, frame: this.#buffer.slice(0, size) };
    }
  }

  /** Ends {@link listen}, which closes the descriptors: until then, a thread may be waiting on them. */
  [Symbol.dispose](): void {
    this.#isOpen = false;
    libc.write(this.#waker, new Uint8Array(BigUint64Array.of(1n).buffer), 8);
  }
}

/**
 * A packet socket that only sends (with protocol 0 the kernel delivers nothing to it). Its frames pass the TC egress
 * hook, so the egress filter also drops gratuitous ARP for a VIP that this node does not own.
 */
export class PacketSocket implements Disposable {
  readonly #fd: number;
  /** struct sockaddr_ll, packet(7). */
  readonly #to = new Uint8Array(20);
  readonly #toView = new DataView(this.#to.buffer);

  /** @throws Error without CAP_NET_RAW */
  constructor() {
    this.#fd = openSocket(0);
    this.#toView.setUint16(0, AF_PACKET, true);
  }

  /** Sends one Ethernet frame out of the interface. @throws Error for failures that are not in {@link Sent} */
  send(ifindex: number, frame: Uint8Array): Sent {
    this.#toView.setUint16(2, (frame[12]! << 8) | frame[13]!, false);
    this.#toView.setInt32(4, ifindex, true);
    if (Number(libc.sendto(this.#fd, frame, frame.length, MSG_DONTWAIT, this.#to, 20)) >= 0) return "sent";
    const error = ffi.errno();
    const outcome = EXPECTED_FAILURES[error];
    if (outcome) return outcome;
    throw new Error(`Cannot send on interface ${ifindex}: ${errnoName(error)}`);
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}
