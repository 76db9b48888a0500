import { type IPv4, isIPv4Range, type Range } from "../core/address.ts";
import { TYPE_AT } from "../core/icmp6.ts";
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

/** socket(7) and packet(7); a frame that is for another host, or for a VLAN that has no device, has PACKET_OTHERHOST. */
const [SOL_SOCKET, SO_ATTACH_FILTER, PACKET_OTHERHOST] = [1, 26, 3];
/** linux/filter.h and linux/bpf_common.h: instructions, and what they load of a frame that is not among its bytes. */
const [LOAD, LOAD_BYTE, AND, RETURN] = [0x20, 0x30, 0x54, 0x06];
const [JUMP_IF_EQUAL, JUMP_IF_GREATER, JUMP_UNLESS_LESS] = [0x15, 0x25, 0x35];
/** Where a frame of ARP has the sender's address, and the most ranges that a filter compares it with. */
const [SENDER, MOST_RANGES] = [28, 60];
const ANCILLARY = { type: 0xfffff004, ifindex: 0xfffff008, tag: 0xfffff02c, isTagged: 0xfffff030 };

/** A struct sock_filter. */
type Instruction = readonly number[];
/** @param yes @param no how many instructions are skipped */
const instruction = (code: number, k: number, yes = 0, no = 0): Instruction => [code | (yes << 16) | (no << 24), k];
const [DROP, TAKE] = [instruction(RETURN, 0), instruction(RETURN, 0xffff)];

/** Only ARP of a sender in one of these ranges. */
export function fromSenders(senders: readonly Range[]): Instruction[] {
  const isIn = ({ first, last }: Range<IPv4>) => [
    ...[instruction(JUMP_UNLESS_LESS, first, 0, 2), instruction(JUMP_IF_GREATER, last, 1, 0), TAKE],
  ];
  return [instruction(LOAD, SENDER), ...merged(senders.filter(isIPv4Range)).flatMap(isIn), DROP];
}

/** Only frames that have these bytes at these places. A frame that ends before one is dropped. */
export const withBytes = (bytes: Readonly<Record<number, number>>): Instruction[] => [
  ...Object.entries(bytes).flatMap(([at, byte]) => [
    ...[instruction(LOAD_BYTE, Number(at)), instruction(JUMP_IF_EQUAL, byte, 1, 0), DROP],
  ]),
  TAKE,
];

/** Only Advertisements of Neighbour Discovery. */
export const ADVERTISEMENTS = withBytes({ 20: 58, [TYPE_AT]: 136 });
/** Solicitations, too. */
export const DISCOVERY: Instruction[] = [
  ...[instruction(LOAD_BYTE, 20), instruction(JUMP_IF_EQUAL, 58, 1, 0), DROP],
  ...[instruction(LOAD_BYTE, TYPE_AT), instruction(JUMP_IF_EQUAL, 135, 2, 0), instruction(JUMP_IF_EQUAL, 136, 1, 0)],
  ...[DROP, TAKE],
];

/** A classic BPF program: frames of these interfaces that are for this host or for all, and in no VLAN. */
function filterOf(ifindexes: readonly number[], isTaken: readonly Instruction[]): Uint8Array {
  const { length } = ifindexes;
  const isOurs = [...ifindexes.map((ifindex, i) => instruction(JUMP_IF_EQUAL, ifindex, length - i)), DROP, ...isTaken];
  const code = [
    ...[instruction(LOAD, ANCILLARY.type), instruction(JUMP_IF_EQUAL, PACKET_OTHERHOST, 0, 1), DROP],
    // A tag of VID 0 names no VLAN.
    ...[instruction(LOAD, ANCILLARY.isTagged), instruction(JUMP_IF_EQUAL, 0, 4, 0)],
    ...[instruction(LOAD, ANCILLARY.tag), instruction(AND, 0xfff), instruction(JUMP_IF_EQUAL, 0, 1, 0), DROP],
    ...[instruction(LOAD, ANCILLARY.ifindex), ...isOurs],
  ];
  return new Uint8Array(Uint32Array.from(code.flat()).buffer);
}

/** The ranges without overlaps, and few enough for a filter: those that are too many become one with the last. */
function merged(ranges: readonly Range<IPv4>[]): Range<IPv4>[] {
  const result: Range<IPv4>[] = [];
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = result.at(-1);
    if (before && (first <= before.last + 1 || result.length === MOST_RANGES))
      before.last = Math.max(before.last, last);
    else result.push({ first, last });
  }
  return result;
}

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
  /** Kept for as long as the kernel reads it. */
  #filter: Uint8Array = new Uint8Array();

  /** @param ifindexes the interfaces of which it takes frames @throws Error without CAP_NET_RAW */
  constructor(etherType: number, ifindexes: readonly number[], those?: readonly Instruction[]) {
    this.#fd = openSocket(etherType);
    this.#waker = libc.eventfd(0, SOCK_CLOEXEC);
    this.only(ifindexes, those);
  }

  /**
   * From now on, takes frames of these interfaces only. A host has many others, of Pods: each frame that wakes this process
   * in vain costs about 10 us.
   * @param those {@link fromSenders} or {@link withBytes}: only such frames
   */
  only(ifindexes: readonly number[], those: readonly Instruction[] = [TAKE]): void {
    this.#filter = filterOf(ifindexes, those);
    const { length } = this.#filter;
    const program = new BigUint64Array([BigInt(length / 8), ffi.address(this.#filter)]); // struct sock_fprog
    if (libc.setsockopt(this.#fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(program.buffer), 16) < 0)
      throw new Error(`Cannot filter a packet socket: ${errnoName(ffi.errno())}`);
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
    const room = Uint8Array.from([20, 0, 0, 0]);
    const size = Number(libc.recvfrom(this.#fd, this.#buffer, length, MSG_DONTWAIT, this.#from, room));
    if (size < 0) return undefined; // nothing is left, or a link went down, which netlink reports
    const ifindex = new DataView(this.#from.buffer).getInt32(4, true);
    return { ifindex, frame: this.#buffer.slice(0, size) };
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
