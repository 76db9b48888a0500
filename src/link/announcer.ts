import { type Address, addressBytes } from "../core/address.ts";
import { announcement } from "../core/arp.ts";
import { type Pace, Timetable } from "../core/timetable.ts";
import type { PacketSocket, Sent } from "./packet.ts";

/** The least time between two wakes, ms: what has come due since goes out together. */
const REST = 10;
/** The same where only refreshes wait: with thousands of VIPs, each wake costs more than the frames. */
const GATHER = 500;

interface Nic {
  mac: Uint8Array;
  timetable: Timetable;
  sent: number;
}

/** Sends gratuitous ARP, each interface by its own timetable. */
export class Announcer implements Disposable {
  readonly #socket: PacketSocket;
  readonly #onError: (error: Error) => void;
  readonly #nics = new Map<number, Nic>();
  #pace: Pace;
  #timer: NodeJS.Timeout | undefined;

  constructor(socket: PacketSocket, pace: Pace, onError: (error: Error) => void) {
    this.#socket = socket;
    this.#pace = pace;
    this.#onError = onError;
  }

  setPace(pace: Pace): void {
    if (pace.refresh === this.#pace.refresh && pace.rate === this.#pace.rate) return;
    this.#pace = pace;
    for (const { timetable } of this.#nics.values()) timetable.setPace(pace, performance.now());
  }

  /** Announces on the interface from now on, or with another MAC. */
  add(ifindex: number, mac: Uint8Array): void {
    const nic = this.#nics.get(ifindex);
    if (nic) nic.mac = mac;
    else
      this.#nics.set(ifindex, { mac, timetable: new Timetable(this.#pace, performance.now(), Math.random), sent: 0 });
  }

  remove(ifindex: number): void {
    this.#nics.delete(ifindex);
  }

  /** The VIP was gained, or must be told of anew: a burst, then refreshes. */
  gain(ifindex: number, address: Address): void {
    this.#nics.get(ifindex)?.timetable.gain(address, performance.now());
  }

  /** The VIP was owned before this process began: refreshes only. */
  keep(ifindex: number, address: Address): void {
    this.#nics.get(ifindex)?.timetable.keep(address, performance.now());
  }

  lose(ifindex: number, address: Address): void {
    this.#nics.get(ifindex)?.timetable.lose(address);
  }

  /** Frames that left on the interface. */
  sent(ifindex: number): number {
    return this.#nics.get(ifindex)?.sent ?? 0;
  }

  /** Sends what is due, and sleeps until more is. To be called after every change. */
  run(): void {
    clearTimeout(this.#timer);
    try {
      for (const [ifindex, nic] of this.#nics) this.#send(ifindex, nic);
    } catch (error) {
      this.#onError(error as Error);
    }
    const now = performance.now();
    const timetables = [...this.#nics.values()].map(({ timetable }) => timetable);
    const wakes = timetables.flatMap((timetable) => timetable.wake(now) ?? []);
    if (wakes.length === 0) return;
    const rest = timetables.every((timetable) => timetable.canWait(now)) ? GATHER : REST;
    this.#timer = setTimeout(() => this.run(), Math.max(rest, Math.min(...wakes) - now));
  }

  #send(ifindex: number, nic: Nic): void {
    for (;;) {
      const address = nic.timetable.next(performance.now());
      if (address === undefined) return;
      // One that meets a link that is down or gone is not repeated: the link's return announces all anew.
      const became: Sent = this.#socket.send(ifindex, announcement(nic.mac, addressBytes(address)));
      if (became === "sent") nic.sent += 1;
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
