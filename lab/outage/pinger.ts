import { ffi } from "../../src/ffi/ffi.ts";
import { errnoName, libc } from "../../src/ffi/libc.ts";
import { inNamespace } from "../namespaces.ts";
import { decodeEchoPacket, ECHO_REPLY, ECHO_REQUEST, encodeEchoMessage } from "../switch/icmp.ts";

const AF_INET = 2;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const IPPROTO_ICMP = 1;
const MSG_DONTWAIT = 0x40;

/** Pings as a host does. It uses a raw socket, so the kernel resolves the address and picks the route. */
export class Pinger implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(2048);
  #sequence = 0;

  /** @param namespace the full name of the host's namespace */
  constructor(namespace: string) {
    this.#fd = inNamespace(namespace, () => libc.socket(AF_INET, SOCK_RAW_CLOEXEC, IPPROTO_ICMP));
    if (this.#fd < 0) throw new Error(`Cannot open a raw socket: ${errnoName(ffi.errno())}. CAP_NET_RAW is needed`);
  }

  /** Sends one echo request. @throws Error where the kernel has no route */
  send(ip: string): void {
    this.#sequence = (this.#sequence + 1) & 0xffff;
    const address = new Uint8Array(16); // struct sockaddr_in
    address.set([AF_INET, 0, 0, 0, ...ip.split(".").map(Number)]);
    const message = encodeEchoMessage(ECHO_REQUEST, 1, this.#sequence);
    if (Number(libc.sendto(this.#fd, message, message.length, MSG_DONTWAIT, address, address.length)) < 0) {
      throw new Error(`Cannot ping ${ip}: ${errnoName(ffi.errno())}`);
    }
  }

  /** The addresses that have answered since the last call. */
  answers(): string[] {
    const ips: string[] = [];
    for (;;) {
      const length = Number(libc.recv(this.#fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT));
      if (length < 0) return ips;
      const echo = decodeEchoPacket(this.#buffer.subarray(0, length));
      if (echo?.type === ECHO_REPLY) ips.push(echo.from.join("."));
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}
