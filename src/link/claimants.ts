import { type Address, having, isIPv4Range, type Range } from "../core/address.ts";
import { ETH_P_ARP, formatMac } from "../core/arp.ts";
import { ETH_P_IPV6 } from "../core/icmp6.ts";
import { ADVERTISEMENTS, fromSenders, ListeningSocket, type Received } from "./packet.ts";
import { sayingOf } from "./who-has.ts";

/** The most frames that are heard in a second: anybody can send such frames, and each costs about 10 us. */
const MOST = 200;

/** Somebody has said by ARP or Neighbour Discovery, unasked, that this MAC has the address. */
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
  readonly #arp = new ListeningSocket(ETH_P_ARP, []);
  /** undefined until there are VIPs of IPv6: all of this host's IPv6 passes such a socket's filter. */
  #ndp: ListeningSocket | undefined;
  readonly #onError: (error: Error) => void;
  readonly #onClaimant: (claimant: Claimant) => void;
  #heard: readonly Heard[] = [];
  #own = new Set<string>();
  #count = 0;
  readonly #timer: NodeJS.Timeout;

  /** @throws Error without CAP_NET_RAW */
  constructor(onClaimant: (claimant: Claimant) => void, onError: (error: Error) => void) {
    this.#onClaimant = onClaimant;
    this.#timer = setInterval(() => this.#allow(), 1_000).unref();
    this.#onError = onError;
    void this.#arp.listen((received) => this.#hear(received), onError);
  }

  /** Listens on these interfaces. Frames with their MACs are this machine's own. */
  listenOn(heard: readonly Heard[]): void {
    this.#heard = heard;
    this.#own = new Set(heard.map(({ link }) => formatMac(link.mac)));
    this.#filter();
  }

  #filter(): void {
    const heard = this.#count < MOST ? this.#heard : [];
    const where = (isIts: (range: Range) => boolean) =>
      heard.filter(({ ranges }) => ranges.some(isIts)).map(({ link }) => link.ifindex);
    this.#arp.only(where(isIPv4Range), fromSenders(heard.flatMap(({ ranges }) => ranges)));
    const six = where((range) => !isIPv4Range(range));
    if (six.length > 0 && !this.#ndp) {
      this.#ndp = new ListeningSocket(ETH_P_IPV6, [], ADVERTISEMENTS);
      void this.#ndp.listen((received) => this.#hear(received), this.#onError);
    }
    this.#ndp?.only(six, ADVERTISEMENTS);
  }

  #allow(): void {
    const isOver = this.#count >= MOST;
    this.#count = 0;
    if (isOver) this.#filter();
  }

  #hear({ ifindex, frame }: Received): void {
    this.#count += 1;
    if (this.#count === MOST) this.#filter();
    const said = sayingOf(frame);
    const its = this.#heard.find(({ link }) => link.ifindex === ifindex);
    if (!said || !its || this.#own.has(formatMac(said.mac))) return;
    const { address, mac } = said;
    if (its.ranges.some(having(address))) this.#onClaimant({ ifindex, address, mac });
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#arp[Symbol.dispose]();
    this.#ndp?.[Symbol.dispose]();
  }
}
