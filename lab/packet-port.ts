import { ffi } from "../src/ffi/ffi.ts";
import { errno, errnoName, libc } from "../src/ffi/libc.ts";
import { fn } from "../src/ffi/port.ts";
import { inNamespace } from "./namespaces.ts";

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_MR_PROMISC = 1;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
const MSG_DONTWAIT = 0x40;
const FRAME_MAX = 65_536;

const { if_nametoindex } = ffi.open(null, { if_nametoindex: fn(["string"], "u32") });

/**
 * Receives every frame that arrives at an interface, and sends frames out of it. VLAN tags that the NIC strips stay
 * off.
 */
export class PacketPort implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(FRAME_MAX);

  /** @param namespace full name; undefined for this process's own @throws Error without CAP_NET_RAW or the interface */
  constructor(namespace: string | undefined, name: string) {
    const open = () => {
      const index = if_nametoindex(name);
      if (index === 0)
        throw new Error(`Cannot find interface ${name} in network namespace ${namespace ?? "of this process"}`);
      return openPromiscuous(index);
    };
    this.#fd = namespace === undefined ? open() : inNamespace(namespace, open);
  }

  /** The next frame; undefined where none has arrived. */
  receive(): Uint8Array | undefined {
    const length = Number(libc.recv(this.#fd, this.#buffer, FRAME_MAX, MSG_DONTWAIT));
    if (length >= 0) return this.#buffer.slice(0, length);
    const error = ffi.errno();
    if (error === errno.EAGAIN || error === errno.ENETDOWN || error === errno.EINTR) return undefined;
    throw new Error(`Cannot read a packet socket: ${errnoName(error)}`);
  }

  /** Sends one frame. A full queue or a link that is down loses it without an error, as a wire does. */
  send(frame: Uint8Array): void {
    if (Number(libc.sendto(this.#fd, frame, frame.length, MSG_DONTWAIT, null, 0)) >= 0) return;
    const error = ffi.errno();
    const isLoss = error === errno.EAGAIN || error === errno.ENOBUFS || error === errno.ENETDOWN;
    if (!isLoss) throw new Error(`Cannot send on a packet socket: ${errnoName(error)}`);
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}

/** Makes a struct sockaddr_ll. */
export function linkAddress(ifindex: number, protocol: number): Uint8Array {
  const address = new Uint8Array(20);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, protocol);
  view.setInt32(4, ifindex, true);
  return address;
}

/** The socket starts with protocol 0: with any other it would receive from every interface until it is bound. */
function openPromiscuous(index: number): number {
  const fd = libc.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0);
  if (fd < 0) throw new Error(`Cannot open a packet socket: ${errnoName(ffi.errno())}. CAP_NET_RAW is needed`);

  const membership = new Uint8Array(16); // struct packet_mreq
  const membershipView = new DataView(membership.buffer);
  membershipView.setInt32(0, index, true);
  membershipView.setUint16(4, PACKET_MR_PROMISC, true);

  const address = linkAddress(index, ETH_P_ALL);
  const one = new Uint8Array(new Int32Array([1]).buffer);
  const room = new Uint8Array(new Int32Array([4 << 20]).buffer);
  const isOpen =
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, room, 4) === 0 &&
    libc.setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, one, 4) === 0 &&
    libc.setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership, membership.length) === 0 &&
    libc.bind(fd, address, address.length) === 0;
  if (isOpen) return fd;
  const reason = errnoName(ffi.errno());
  libc.close(fd);
  throw new Error(`Cannot bind a packet socket: ${reason}`);
}
