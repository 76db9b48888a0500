import { type Address, isIPv4 } from "../src/core/address.ts";
import { ETH_P_ARP } from "../src/core/arp.ts";
import { ETH_P_IPV6, TYPE_AT } from "../src/core/icmp6.ts";
import { ADVERTISEMENT } from "../src/core/ndp.ts";
import { ffi } from "../src/ffi/ffi.ts";
import { libc as base, errno, errnoName } from "../src/ffi/libc.ts";
import { asker, CLIENT_INTERFACE, type Family, question, vipAt } from "./addresses.ts";
import { openSocket } from "./sender.ts";
import { libc } from "./system.ts";

const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_ATTACH_FILTER = 26;
const SO_TIMESTAMPNS = 35;
const ETH_P_ALL = 3;
const MSG_DONTWAIT = 0x40;
/** The offset of the last byte of an ARP frame's op. */
const OP = 21;

/** True for a frame, of those that pass the filter, that is an answer. */
const isReply = (frame: Uint8Array): boolean =>
  frame[12] === ETH_P_IPV6 >> 8 ? frame[TYPE_AT] === ADVERTISEMENT : frame[OP] === 2;

/**
 * Sends one request at a time and waits for its answer. The kernel takes the times (SO_TIMESTAMPNS), as the request is
 * given to the interface and as the answer comes from it. So they include neither this runtime nor its scheduling.
 */
export class Prober implements Disposable {
  readonly #sender: number;
  readonly #ear: number;
  readonly #frame = new Uint8Array(2048);
  readonly #control = new Uint8Array(256);
  readonly #vector = new Uint8Array(128);
  readonly #message = new Uint8Array(128); // struct msghdr
  readonly #messageView = new DataView(this.#message.buffer);
  readonly #controlView = new DataView(this.#control.buffer);
  #patience = 0;
  #isOpen = true;
  /** The timestamp of the frame that {@link #receive} has read. */
  #seconds = 0;
  #nanoseconds = 0;

  /** @param namespace the full name of the client's namespace */
  constructor(namespace: string, family: Family = "IPv4") {
    this.#sender = openSocket(namespace, CLIENT_INTERFACE, 0);
    this.#ear = openSocket(namespace, CLIENT_INTERFACE, ETH_P_ALL); // only such sockets receive outgoing frames
    this.#set(SO_TIMESTAMPNS, new Uint8Array(Int32Array.of(1).buffer));
    this.#attachFilter(vipAt(0, family));
    const vector = new DataView(this.#vector.buffer);
    vector.setBigUint64(0, ffi.address(this.#frame), true);
    vector.setBigUint64(8, BigInt(this.#frame.length), true);
    this.#messageView.setBigUint64(16, ffi.address(this.#vector), true);
    this.#messageView.setBigUint64(24, 1n, true);
    this.#messageView.setBigUint64(32, ffi.address(this.#control), true);
  }

  #set(option: number, value: Uint8Array): void {
    if (base.setsockopt(this.#ear, SOL_SOCKET, option, value, value.length) === 0) return;
    throw new Error(`Cannot set option ${option} of a packet socket: ${errnoName(ffi.errno())}`);
  }

  /**
   * Attaches a classic BPF filter for the prober's requests and their answers, so that other frames wake no process.
   */
  #attachFilter(vip: Address): void {
    const [protocol, source, destination] = isIPv4(vip) ? [ETH_P_ARP, 28, 38] : [ETH_P_IPV6, 34, 50];
    const bytes = asker(vip, "prober");
    const its = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4);
    const [LOAD_HALF, LOAD_WORD, JUMP_EQUAL, RETURN] = [0x28, 0x20, 0x15, 0x06] as const;
    const program: [code: number, ifTrue: number, ifFalse: number, k: number][] = [
      [LOAD_HALF, 0, 0, 12],
      [JUMP_EQUAL, 0, 5, protocol],
      [LOAD_WORD, 0, 0, source], // SPA; of IPv6, the end of the source
      [JUMP_EQUAL, 2, 0, its],
      [LOAD_WORD, 0, 0, destination], // TPA; of IPv6, the end of the destination
      [JUMP_EQUAL, 0, 1, its],
      [RETURN, 0, 0, 0xffff],
      [RETURN, 0, 0, 0],
    ];
    const instructions = new Uint8Array(128);
    const view = new DataView(instructions.buffer);
    program.forEach(([code, ifTrue, ifFalse, k], i) => {
      view.setUint16(i * 8, code, true);
      view.setUint8(i * 8 + 2, ifTrue);
      view.setUint8(i * 8 + 3, ifFalse);
      view.setUint32(i * 8 + 4, k, true);
    });
    const header = new Uint8Array(16); // struct sock_fprog
    new DataView(header.buffer).setUint16(0, program.length, true);
    new DataView(header.buffer).setBigUint64(8, ffi.address(instructions), true);
    this.#set(SO_ATTACH_FILTER, header);
  }

  /** Asks for the VIP. @param patience ms @returns time until the answer, ns; undefined where none came */
  ask(vip: Address, patience = 1000): number | undefined {
    this.#wait(patience);
    const frame = question(vip, "prober");
    return this.#exchange(frame);
  }

  /**
   * Asks again and again. @param limit ms @returns each time in ns, unsorted, and the number of requests without an
   * answer
   */
  pingPong(vip: Address, count: number, limit: number): { times: Float64Array; lost: number } {
    this.#wait(1000);
    const frame = question(vip, "prober");
    const times = new Float64Array(count);
    const end = performance.now() + limit;
    let [got, lost] = [0, 0];
    while (got < count && performance.now() < end) {
      const time = this.#exchange(frame);
      if (time === undefined) lost += 1;
      else times[got++] = time;
    }
    return { times: times.subarray(0, got), lost };
  }

  #exchange(frame: Uint8Array): number | undefined {
    if (Number(base.sendto(this.#sender, frame, frame.length, 0, null, 0)) < 0) return undefined;
    if (!this.#receive(0)) return undefined;
    const [seconds, nanoseconds] = [this.#seconds, this.#nanoseconds];
    for (let isAnswer = false; !isAnswer; isAnswer = isReply(this.#frame)) {
      if (this.#receive(0)) continue;
      this.#drain();
      return undefined;
    }
    return (this.#seconds - seconds) * 1e9 + (this.#nanoseconds - nanoseconds);
  }

  /** Reads the next frame. @returns false where none came in time */
  #receive(flags: number): boolean {
    this.#messageView.setBigUint64(40, BigInt(this.#control.length), true);
    if (Number(libc.recvmsg(this.#ear, this.#message, flags)) < 0) {
      const error = ffi.errno();
      if (error === errno.EAGAIN || error === errno.EINTR) return false;
      throw new Error(`Cannot read a packet socket: ${errnoName(error)}`);
    }
    if (this.#controlView.getInt32(12, true) !== SO_TIMESTAMPNS) throw new Error("a frame came without a timestamp");
    this.#seconds = Number(this.#controlView.getBigInt64(16, true));
    this.#nanoseconds = Number(this.#controlView.getBigInt64(24, true));
    return true;
  }

  #drain(): void {
    while (this.#receive(MSG_DONTWAIT));
  }

  #wait(milliseconds: number): void {
    this.#drain();
    if (this.#patience === milliseconds) return;
    this.#patience = milliseconds;
    const whole = Math.floor(milliseconds / 1000);
    this.#set(
      SO_RCVTIMEO,
      new Uint8Array(BigInt64Array.of(BigInt(whole), BigInt((milliseconds % 1000) * 1000)).buffer),
    );
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    base.close(this.#sender);
    base.close(this.#ear);
  }
}
