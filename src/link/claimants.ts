import { type Address, addressOfBytes, having, type Range } from "../core/address.ts";
import { decodeArp, ETH_P_ARP, formatMac } from "../core/arp.ts";
import { ListeningSocket, type Received } from "./packet.ts";

/** The most frames that are heard in a second: anybody can send such frames, and each costs about 10 us. */
const MOST = 200;

/** Somebody has said by ARP, unasked, that this MAC has the address. */
export interface Claimant {
  ifindex: number;
  address: Address;
  mac: Uint8Array;
}

/** An interface, and the addresses that are listened for on it. */
interface Heard {
  link: { ifindex: number; mac: Uint8Array };
  ranges: readonly Range[];
}

/**
 * Other machines that announce VIPs, answer for them, or ask with them as the sender. isat's programs pass such frames. (A
 * request for a VIP, whose sender is another one, is answered or dropped there.)
 */
export class Claimants implements Disposable {
  readonly #socket = new ListeningSocket(ETH_P_ARP, []);
  readonly #onClaimant: (claimant: Claimant) => void;
  #heard: readonly Heard[] = [];
  #own = new Set<string>();
  #count = 0;
  readonly #timer: NodeJS.Timeout;

  /** @throws Error without CAP_NET_RAW */
  constructor(onClaimant: (claimant: Claimant) => void, onError: (error: Error) => void) {
    this.#onClaimant = onClaimant;
    this.#timer = setInterval(() => this.#allow(), 1_000).unref();
    void this.#socket.listen((received) => this.#hear(received), onError);
  }

  /** Listens on these interfaces. Frames with their MACs are this machine's own. */
  listenOn(heard: readonly Heard[]): void {
    this.#heard = heard;
    this.#own = new Set(heard.map(({ link }) => formatMac(link.mac)));
    this.#filter();
  }

  #filter(): void {
    const heard = this.#count < MOST ? this.#heard.filter(({ ranges }) => ranges.length > 0) : [];
    this.#socket.only(
      heard.map(({ link }) => link.ifindex),
      heard.flatMap(({ ranges }) => ranges),
    );
  }

  #allow(): void {
    const isOver = this.#count >= MOST;
    this.#count = 0;
    if (isOver) this.#filter();
  }

  #hear({ ifindex, frame }: Received): void {
    this.#count += 1;
    if (this.#count === MOST) this.#filter();
    const arp = decodeArp(frame);
    const its = this.#heard.find(({ link }) => link.ifindex === ifindex);
    if (!arp || !its || this.#own.has(formatMac(arp.sha))) return;
    const address = addressOfBytes(arp.spa);
    if (its.ranges.some(having(address))) this.#onClaimant({ ifindex, address, mac: arp.sha.slice() });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#socket[Symbol.dispose]();
  }
}
