import { ETH_P_ISAT } from "../../src/core/wire.ts";
import { PacketPort } from "../packet-port.ts";
import { type LabNode, NODES } from "../topology.ts";
import type { Trio } from "./trio.ts";

/** A frame of isat's own EtherType, and the node that sent it. */
export interface Tapped {
  from: LabNode;
  frame: Uint8Array;
}

/** The ports of a trio's switch: what the nodes say to each other is recorded there, and frames of any kind are put in. */
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
   * Puts a frame onto the wire to one node, past the switch: that learns no MAC from it. (A frame with a node's MAC from
   * elsewhere would turn the switch's own table; no protocol above can help that.)
   */
  send(to: LabNode, frame: Uint8Array): void {
    this.#ports.get(to)!.send(frame);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const port of this.#ports.values()) port[Symbol.dispose]();
  }
}
