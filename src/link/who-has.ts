import { type Address, addressBytes, addressOfBytes, isIPv4 } from "../core/address.ts";
import { ARP_REPLY, ARP_REQUEST, BROADCAST, decodeArp, ETH_P_ARP, encodeArp, NO_MAC } from "../core/arp.ts";
import type { Question } from "../core/step.ts";
import type { Link } from "./links.ts";
import { ListeningSocket, type PacketSocket, type Received, type Sent } from "./packet.ts";

/** The time in which replies are listened for after a question, ms. */
const REPLIES_WITHIN = 500;

/** The reply to a question: this MAC answers for the address. */
export interface Answer {
  ifindex: number;
  address: Address;
  mac: Uint8Array;
}

/** Questions by ARP, as any host asks them, and the replies to them. No socket listens while nothing is asked. */
export class WhoHas implements Disposable {
  readonly #socket: PacketSocket;
  readonly #onAnswer: (answer: Answer) => void;
  /** Addresses that are asked for, by interface. */
  readonly #asked = new Map<number, Set<Address>>();
  #listening: ListeningSocket | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(socket: PacketSocket, onAnswer: (answer: Answer) => void) {
    this.#socket = socket;
    this.#onAnswer = onAnswer;
  }

  ask({ ifindex, mac: source, addresses }: Link, { target, mac }: Question): Sent {
    this.#listen(ifindex);
    this.#asked.get(ifindex)!.add(target);
    const own = addressBytes(addresses.find(({ address }) => isIPv4(address))?.address ?? 0);
    const request = { destination: mac ?? BROADCAST, source, op: ARP_REQUEST, sha: source, spa: own, tha: NO_MAC };
    return this.#socket.send(ifindex, encodeArp({ ...request, tpa: addressBytes(target) }));
  }

  #listen(ifindex: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#close(), REPLIES_WITHIN).unref();
    const isNew = !this.#asked.has(ifindex);
    if (isNew) this.#asked.set(ifindex, new Set());
    if (this.#listening && isNew) this.#listening.only([...this.#asked.keys()]);
    if (this.#listening) return;
    this.#listening = new ListeningSocket(ETH_P_ARP, [ifindex]);
    void this.#listening.listen(
      (received) => this.#hear(received),
      () => {},
    );
  }

  #hear({ ifindex, frame }: Received): void {
    const arp = decodeArp(frame);
    if (arp?.op !== ARP_REPLY) return;
    const address = addressOfBytes(arp.spa);
    if (this.#asked.get(ifindex)?.has(address)) this.#onAnswer({ ifindex, address, mac: arp.sha.slice() });
  }

  #close(): void {
    this.#asked.clear();
    this.#listening?.[Symbol.dispose]();
    this.#listening = undefined;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#close();
  }
}
