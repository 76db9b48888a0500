import { randomBytes } from "node:crypto";
import type { WireHeader } from "../core/abi.ts";
import type { Frame, Outgoing } from "../core/step.ts";
import {
  decodeHeader,
  decodeWire,
  ETH_P_ISAT,
  encodeWire,
  type Keyring,
  nodeId,
  OLD_VERSION,
  ONLY_IPV4,
  SOURCE_STALE,
} from "../core/wire.ts";
import { cannotSpeakIPv6, type Link } from "./links.ts";
import { ListeningSocket, type PacketSocket, type Received, type Sent } from "./packet.ts";

export interface PeerFramesOptions {
  /** This node's name. */
  node: string;
  keys: { readonly ring: Keyring };
  /** A frame for this speaker came in. */
  onFrame(ifindex: number, frame: Frame): void;
  /** A frame could not be taken in. */
  onError(error: Error): void;
  /** A frame that this speaker sent came in. */
  onOwnFrame(ifindex: number, frame: Frame): void;
  /** A frame of another cluster came in, or of a version that is no longer spoken. Nothing of it is verified. */
  onForeigner(ifindex: number, header: WireHeader): void;
}

/** Frames of the peer protocol, in and out: encoded, signed and verified here. */
export class PeerFrames implements Disposable {
  /** Random, of this run of the speaker. */
  readonly incarnation = randomBytes(8).readBigUInt64LE() || 1n;
  readonly #socket: PacketSocket;
  readonly #listening = new ListeningSocket(ETH_P_ISAT, []);
  readonly #options: PeerFramesOptions;
  readonly #id: bigint;
  /** @throws Error without CAP_NET_RAW */
  constructor(socket: PacketSocket, options: PeerFramesOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#id = nodeId(options.node);
    void this.#listening.listen((received) => this.#receive(received), options.onError);
  }

  /** Frames of these interfaces are taken in from now on. */
  listenOn(ifindexes: readonly number[]): void {
    this.#listening.only(ifindexes);
  }

  /** Sends a frame out of an interface. */
  send(
    link: Link,
    { type, version, destination, to, stamp, nonce, claims }: Outgoing,
    self: { state: number; sourceStale: boolean },
  ): Sent {
    const header = {
      destination,
      source: link.mac,
      type,
      state: self.state,
      flags: (self.sourceStale ? SOURCE_STALE : 0) | (cannotSpeakIPv6(link) ? ONLY_IPV4 : 0),
      node: this.#id,
      incarnation: this.incarnation,
      to,
      stamp,
      nonce,
      name: this.#options.node,
      interface: link.name,
    };
    const frame = encodeWire({ ...header, ...(claims && { claims }) }, this.#options.keys.ring, version);
    return this.#socket.send(link.ifindex, frame);
  }

  /** Our programs have checked these frames already, but for those that came before they were attached, or around them. */
  #receive({ ifindex, frame }: Received): void {
    const message = decodeWire(frame, this.#options.keys.ring);
    if (!message) {
      this.#suspect(ifindex, frame);
      return;
    }
    const isOurNode = message.node === this.#id;
    if (isOurNode && message.incarnation === this.incarnation) this.#options.onOwnFrame(ifindex, message);
    else if (message.to === this.incarnation) this.#options.onFrame(ifindex, message);
  }

  /** Our programs pass one frame of other clusters a second. */
  #suspect(ifindex: number, frame: Uint8Array): void {
    const header = decodeHeader(frame);
    if (!header) return;
    const { keys, oldKeys } = this.#options.keys.ring;
    const isForeign = header.version === OLD_VERSION ? oldKeys.length === 0 : header.cluster !== keys[0]!.cluster;
    if (isForeign) this.#options.onForeigner(ifindex, header);
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
  }
}
