import { ETH_P_ISAT } from "../../src/core/wire.ts";
import { PacketPort } from "../packet-port.ts";
import { type LabNode, NODES } from "../topology.ts";
import type { Trio } from "./trio.ts";

/** A frame of isat's own EtherType, and the node that sent it. */
export interface Tapped {
  from: LabNode;
  frame: Uint8Array;
}

/**
 * Records the frames of the peer protocol at the ports of a trio's switch, and sends frames of any kind to the nodes.
 */
export class Tap implements Disposable {
  readonly frames: Tapped[] = [];
  readonly #ports: ReadonlyMap<LabNode, PacketPort>;
  readonly #timer: NodeJS.Timeout;

  constructor(trio: Trio) {
    const namespace = trio.namespaces.full(trio.place("switch"));
    this.#ports = new Map(NODES.map((node) => [node, new PacketPort(namespace, `p${node.port}`)]));
    this.#timer = setInterval(() => this.#record(), 2);
  }

  #record(): void {
    for (const [from, port] of this.#ports) {
      for (let frame = port.receive(); frame; frame = port.receive()) {
        if (((frame[12]! << 8) | frame[13]!) === ETH_P_ISAT) this.frames.push({ from, frame });
      }
    }
  }

  /**
   * Sends a frame to one node, past the switch, which therefore learns no MAC from it. (A frame with another node's MAC
   * would change the switch's own table, which no protocol above it can prevent.)
   */
  send(to: LabNode, frame: Uint8Array): void {
    this.#ports.get(to)!.send(frame);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const port of this.#ports.values()) port[Symbol.dispose]();
  }
}
