import { PacketPort } from "../packet-port.ts";
import { Poller } from "../poller.ts";
import type { Out, Switch } from "./switch.ts";

/** Sees every frame that enters or leaves the switch. */
export type Observer = (direction: "in" | "out", port: number, frame: Uint8Array, now: number) => void;

/** At most so many frames of one port are taken before the next port has its turn. */
const BURST = 64;

/** The switch's wires: frames from real interfaces into the model, and the model's frames out. */
export class SwitchPorts implements Disposable {
  readonly #gateway: Switch;
  readonly #ports: ReadonlyMap<number, PacketPort>;
  readonly #observe: Observer;
  readonly #poller: Poller;

  /** @param namespace the full name of the one in which the interfaces p1, p2, and so on of the switch are */
  constructor(gateway: Switch, namespace: string, observe: Observer) {
    this.#gateway = gateway;
    this.#ports = new Map(gateway.ports.map((port) => [port, new PacketPort(namespace, `p${port}`)]));
    this.#observe = observe;
    this.#poller = new Poller(() => this.#poll());
  }

  /** Pings from the switch, each IP once. What has arrived is taken first: it may be what the answer depends on. */
  ping(ips: readonly string[]): void {
    this.#poll();
    for (const ip of ips) this.#send(this.#gateway.ping(ip, performance.now()));
  }

  /** Takes what has arrived and does what is due; true where something had arrived. */
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
