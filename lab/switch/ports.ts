import { PacketPort } from "../packet-port.ts";
import { Poller } from "../poller.ts";
import type { Out, Switch } from "./switch.ts";

/** Is called with every frame that enters or leaves the switch. */
export type Observer = (direction: "in" | "out", port: number, frame: Uint8Array, now: number) => void;

/** The most frames that are taken from one port before the next port has its turn. */
const BURST = 64;

/** The switch's ports: they pass frames from real interfaces to the model, and the model's frames out. */
export class SwitchPorts implements Disposable {
  readonly #gateway: Switch;
  readonly #ports: ReadonlyMap<number, PacketPort>;
  readonly #observe: Observer;
  readonly #poller: Poller;

  /** @param namespace the full name of the namespace with the switch's interfaces p1, p2 and so on */
  constructor(gateway: Switch, namespace: string, observe: Observer) {
    this.#gateway = gateway;
    this.#ports = new Map(gateway.ports.map((port) => [port, new PacketPort(namespace, `p${port}`)]));
    this.#observe = observe;
    this.#poller = new Poller(() => this.#poll());
  }

  /**
   * Pings each IP once from the switch. Frames that have arrived are taken first, as the next hop may depend on them.
   */
  ping(ips: readonly string[]): void {
    this.#poll();
    for (const ip of ips) this.#send(this.#gateway.ping(ip, performance.now()));
  }

  /** Takes arrived frames and sends what is due. @returns true if a frame had arrived */
  #poll(): boolean {
    let arrived = false;
    for (const [number, port] of this.#ports) {
      for (let count = 0; count < BURST; count++) {
        const frame = port.receive();
        if (!frame) break;
        arrived = true;
        const now = performance.now();
        this.#observe("in", number, frame, now);
        this.#send(this.#gateway.frameIn(number, frame, now));
      }
    }
    this.#send(this.#gateway.tick(performance.now()));
    return arrived;
  }

  #send(out: readonly Out[]): void {
    for (const { port, frame } of out) {
      this.#observe("out", port, frame, performance.now());
      this.#ports.get(port)!.send(frame);
    }
  }

  [Symbol.dispose](): void {
    this.#poller[Symbol.dispose]();
    for (const port of this.#ports.values()) port[Symbol.dispose]();
  }
}
