import { ffi } from "../ffi/ffi.ts";
import { errno, errnoName, libc, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_RAW } from "../ffi/libc.ts";
import { explain } from "../files.ts";

const AF_NETLINK = 16;
export const NETLINK_ROUTE = 0;
export const NETLINK_GENERIC = 16;
const NLM_F = { REQUEST: 0x1, ACK: 0x4, DUMP: 0x300, DUMP_INTR: 0x10 } as const;
const NLMSG = { ERROR: 2, DONE: 3 } as const;
/** The longest answer that one recv() may give. */
const BUFFER_BYTES = 1 << 18;

/** One message: its type (rtnetlink(7), or a generic netlink family), and its bytes after the netlink header. */
export interface NetlinkMessage {
  type: number;
  body: Uint8Array;
}

/** The attributes from `offset` on, with their types (without the bits NLA_F_NESTED and NLA_F_NET_BYTEORDER). */
function* eachAttribute(body: Uint8Array, offset: number): Generator<[type: number, value: Uint8Array]> {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  for (let at = offset; at + 4 <= body.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4) break;
    yield [view.getUint16(at + 2, true) & 0x3fff, body.subarray(at + 4, at + length)];
    at += (length + 3) & ~3;
  }
}

/** The attributes from `offset` on, by type. */
export const attributes = (body: Uint8Array, offset: number): Map<number, Uint8Array> =>
  new Map(eachAttribute(body, offset));

/** A text attribute, up to its NUL; empty if the attribute is absent. */
export const text = (bytes: Uint8Array | undefined): string =>
  new TextDecoder().decode(bytes ?? new Uint8Array()).split("\0")[0]!;

/** The texts in a list of attributes. */
export const texts = (list: Uint8Array = new Uint8Array()): string[] =>
  [...eachAttribute(list, 0)].map(([, value]) => text(value));

/** The u32 at the beginning of an attribute, in host byte order. */
export const u32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

/** Encodes an attribute, with its header and padding. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((4 + value.length + 3) & ~3);
  new DataView(bytes.buffer).setUint16(0, 4 + value.length, true);
  new DataView(bytes.buffer).setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}

/** The messages that one recv() gave. */
interface Received {
  messages: NetlinkMessage[];
  interrupted: boolean;
  done: boolean;
  /** The kernel's verdict on a request; 0: done. */
  error: number | undefined;
}

function refuse(error: number | undefined): void {
  if (error) throw new Error(`Cannot ask netlink: ${errnoName(error)}`);
}

/** A netlink socket of the network namespace in which it was opened. (/sys/class/net may show another namespace.) */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);

  /** @param groups a mask of RTMGRP_* to listen to; 0 for requests only */
  constructor(protocol: number, groups = 0) {
    this.#fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (this.#fd < 0) throw new Error(`Cannot open a netlink socket: ${explain(errnoName(ffi.errno()))}`);
    const address = new Uint32Array([AF_NETLINK, 0, groups]);
    if (libc.bind(this.#fd, new Uint8Array(address.buffer), 12) < 0) {
      throw new Error(`Cannot bind a netlink socket: ${errnoName(ffi.errno())}`);
    }
  }

  /** The messages since the last call; undefined if there are none, "lost" if the queue has overflowed. */
  #receive(flags: number): Received | "lost" | undefined {
    const length = Number(libc.recv(this.#fd, this.#buffer, this.#buffer.length, flags));
    if (length < 0) {
      const error = ffi.errno();
      if (error === errno.EAGAIN || error === errno.EINTR) return undefined;
      if (error === errno.ENOBUFS) return "lost";
      throw new Error(`Cannot read a netlink socket: ${errnoName(error)}`);
    }
    const view = new DataView(this.#buffer.buffer);
    const result: Received = { messages: [], interrupted: false, done: false, error: undefined };
    for (let at = 0; at + 16 <= length; ) {
      const size = view.getUint32(at, true);
      if (size < 16) break;
      const type = view.getUint16(at + 4, true);
      if (view.getUint16(at + 6, true) & NLM_F.DUMP_INTR) result.interrupted = true;
      if (type === NLMSG.DONE) result.done = true;
      else if (type === NLMSG.ERROR) result.error = -view.getInt32(at + 16, true);
      else result.messages.push({ type, body: this.#buffer.slice(at + 16, at + size) });
      at += (size + 3) & ~3;
    }
    return result;
  }

  /** The events that have arrived, without waiting; "lost" if some were dropped: then read everything again. */
  events(): NetlinkMessage[] | "lost" {
    const all: NetlinkMessage[] = [];
    for (;;) {
      const received = this.#receive(MSG_DONTWAIT);
      if (received === "lost") return "lost";
      if (received === undefined) return all;
      all.push(...received.messages);
    }
  }

  /** Reads all objects of one kind. @param type RTM_GET*; @param body the request's family header */
  dump(type: number, body: Uint8Array): NetlinkMessage[] {
    const ATTEMPTS = 5; // if the table changes during the dump, it is read again
    for (let attempt = 1; ; attempt++) {
      this.#ask(type, body, NLM_F.REQUEST | NLM_F.DUMP);
      const all: NetlinkMessage[] = [];
      let interrupted = false;
      for (let done = false; !done; ) {
        const received = this.#receive(0);
        if (received === undefined || received === "lost") continue;
        refuse(received.error);
        all.push(...received.messages);
        interrupted ||= received.interrupted;
        done = received.done;
      }
      if (!interrupted || attempt === ATTEMPTS) return all;
    }
  }

  /** Sends a request that has one answer. @throws Error if the kernel rejects it */
  get(type: number, body: Uint8Array): NetlinkMessage {
    this.#ask(type, body, NLM_F.REQUEST);
    for (;;) {
      const received = this.#receive(0);
      if (received === "lost" || received === undefined) continue;
      refuse(received.error);
      if (received.messages[0]) return received.messages[0];
    }
  }

  /** Sends a request that changes something. @returns the kernel's error; 0: it is done */
  change(type: number, body: Uint8Array, flags: number): number {
    this.#ask(type, body, NLM_F.REQUEST | NLM_F.ACK | flags);
    for (;;) {
      const received = this.#receive(0);
      if (received !== "lost" && received?.error !== undefined) return received.error;
    }
  }

  #ask(type: number, body: Uint8Array, flags: number): void {
    const request = new Uint8Array(16 + body.length);
    const view = new DataView(request.buffer);
    view.setUint32(0, request.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    request.set(body, 16);
    if (Number(libc.sendto(this.#fd, request, request.length, 0, null, 0)) < 0) {
      throw new Error(`Cannot ask netlink: ${errnoName(ffi.errno())}`);
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}
