import { createServer, type Server, Socket } from "node:net";
import { ffi } from "../../src/ffi/ffi.ts";
import { errnoName, libc } from "../../src/ffi/libc.ts";
import { fn } from "../../src/ffi/port.ts";
import { inNamespace } from "../namespaces.ts";

const AF_INET = 2;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

const { connect } = ffi.open(null, { connect: fn(["i32", "buffer", "u32"], "i32") });

/**
 * Forwards a port of this machine's loopback to a port of another namespace's loopback. An interface between the two
 * could disturb the machine's own network.
 */
export class Relay implements Disposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** @param namespace full name @param port of 127.0.0.1 there; it need not be open yet */
  static async open(namespace: string, port: number): Promise<Relay> {
    const server = createServer();
    const relay = new Relay(server);
    server.on("connection", (near) => relay.#join(near, namespace, port));
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  #join(near: Socket, namespace: string, port: number): void {
    const fd = inNamespace(namespace, () => dial(port));
    if (fd === undefined) {
      near.resetAndDestroy();
      return;
    }
    const far = new Socket({ fd, readable: true, writable: true });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Connects to a port of the current namespace's loopback, which does not block; undefined where nothing listens. */
function dial(port: number): number | undefined {
  const fd = libc.socket(AF_INET, SOCK_STREAM_CLOEXEC, 0);
  if (fd < 0) throw new Error(`Cannot open a socket: ${errnoName(ffi.errno())}`);
  const address = new Uint8Array(16); // struct sockaddr_in
  address.set([AF_INET, 0, port >> 8, port & 0xff, 127, 0, 0, 1]);
  if (connect(fd, address, address.length) === 0) return fd;
  libc.close(fd);
  return undefined;
}
