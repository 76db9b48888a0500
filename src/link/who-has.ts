import { type Address, addressBytes, addressOfBytes, isIPv4 } from "../core/address.ts";
import { ARP_REPLY, ARP_REQUEST, BROADCAST, decodeArp, ETH_P_ARP, encodeArp, NO_MAC } from "../core/arp.ts";
import { ETH_P_IPV6 } from "../core/icmp6.ts";
import { ADVERTISEMENT, decodeNdp, solicitation } from "../core/ndp.ts";
import type { Question } from "../core/step.ts";
import type { Link } from "./links.ts";
import { ADVERTISEMENTS, ListeningSocket, type PacketSocket, type Received, type Sent } from "./packet.ts";

/** The time in which replies are listened for after a question, ms. */
const REPLIES_WITHIN = 500;

/** The reply to a question: this MAC answers for the address. */
export interface Answer {
  ifindex: number;
  address: Address;
  mac: Uint8Array;
}

/** Questions by ARP or Neighbour Discovery, as any host asks them, and the replies. Sockets listen while something is asked. */
export class WhoHas implements Disposable {
  readonly #socket: PacketSocket;
  readonly #onAnswer: (answer: Answer) => void;
  /** Addresses that are asked for, by interface. */
  readonly #asked = new Map<number, Set<Address>>();
  /** By what they listen to: ARP or IPv6. */
  readonly #listening = new Map<number, ListeningSocket>();
  #timer: NodeJS.Timeout | undefined;

  constructor(socket: PacketSocket, onAnswer: (answer: Answer) => void) {
    this.#socket = socket;
    this.#onAnswer = onAnswer;
  }

  ask(link: Link, { target, mac }: Question): Sent {
    const frame = isIPv4(target) ? arpFor(link, addressBytes(target), mac) : solicitationFor(link, target, mac);
    if (!frame) return "dropped";
    this.#listen(link.ifindex, isIPv4(target) ? ETH_P_ARP : ETH_P_IPV6);
    this.#asked.get(link.ifindex)!.add(target);
    return this.#socket.send(link.ifindex, frame);
  }

  #listen(ifindex: number, etherType: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#close(), REPLIES_WITHIN).unref();
    const isNew = !this.#asked.has(ifindex);
    if (isNew) this.#asked.set(ifindex, new Set());
    const ifindexes = [...this.#asked.keys()];
    const those = (its: number) => (its === ETH_P_IPV6 ? ADVERTISEMENTS : undefined);
    if (isNew) for (const [its, listening] of this.#listening) listening.only(ifindexes, those(its));
    if (this.#listening.has(etherType)) return;
    const listening = new ListeningSocket(etherType, ifindexes, those(etherType));
    this.#listening.set(etherType, listening);
    void listening.listen(
      (received) => this.#hear(received),
      () => {},
    );
  }

  #hear({ ifindex, frame }: Received): void {
    const said = sayingOf(frame);
    if (said?.isAnswer && this.#asked.get(ifindex)?.has(said.address)) this.#onAnswer({ ifindex, ...said });
  }

  #close(): void {
    this.#asked.clear();
    for (const listening of this.#listening.values()) listening[Symbol.dispose]();
    this.#listening.clear();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#close();
  }
}

function arpFor({ mac: source, addresses }: Link, tpa: Uint8Array, mac: Uint8Array | undefined): Uint8Array {
  const spa = addressBytes(addresses.find(({ address }) => isIPv4(address))?.address ?? 0);
  return encodeArp({ destination: mac ?? BROADCAST, source, op: ARP_REQUEST, sha: source, spa, tha: NO_MAC, tpa });
}

/** undefined: this node has no address of its own by which it could ask. */
const solicitationFor = ({ mac: source, linkLocal }: Link, target: bigint, mac: Uint8Array | undefined) =>
  linkLocal === undefined ? undefined : solicitation(target, source, addressBytes(linkLocal), mac);

/** The claim of a frame that a MAC has an address, be it as an answer or not; undefined for other frames. */
export function sayingOf(frame: Uint8Array): { address: Address; mac: Uint8Array; isAnswer: boolean } | undefined {
  const arp = decodeArp(frame);
  if (arp) return { address: addressOfBytes(arp.spa), mac: arp.sha.slice(), isAnswer: arp.op === ARP_REPLY };
  const ndp = decodeNdp(frame);
  if (ndp?.type !== ADVERTISEMENT) return undefined;
  return { address: addressOfBytes(ndp.target), mac: (ndp.mac ?? ndp.source).slice(), isAnswer: true };
}
