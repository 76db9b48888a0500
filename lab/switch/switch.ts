import {
  ARP_REPLY,
  ARP_REQUEST,
  type Arp,
  BROADCAST,
  decodeArp,
  encodeArp,
  formatMac,
  NO_MAC,
} from "../../src/core/arp.ts";
import { parseMac } from "../mac.ts";
import { type ArpRow, ArpTable, type Claim, type Question } from "./arp-table.ts";
import { Fdb } from "./fdb.ts";
import { answerEcho, decodeEcho, ECHO_REPLY, ECHO_REQUEST, encodeEcho } from "./icmp.ts";
import type { PortSource, Settings } from "./settings.ts";

/** A frame that leaves the switch. Ports count from 1. */
export interface Out {
  port: number;
  frame: Uint8Array;
}

/** The pings of one IP since the last reset. `answeredUntil` is the time at which the latest answered ping was sent. */
export interface Tally {
  sent: number;
  answered: number;
  answeredUntil: number | undefined;
}

/** The reasons for which the switch does not forward a frame, or does not send one of its own. */
export type Drop = "source-MAC check" | "destination-MAC check" | "port disabled" | "unknown unicast";

/** Pings that may wait for an answer to who-has. A switch keeps one, but a test machine may stall. */
const WAITING_MAX = 16;

/**
 * A layer-3 gateway switch, without I/O and without a clock: frames go in with their port and the time in ms, and
 * frames come out with their port.
 */
export class Switch {
  readonly ports: readonly number[];
  readonly mac: string;
  readonly ip: string;
  readonly #mac: Uint8Array;
  readonly #ip: Uint8Array;
  #settings: Settings;
  #arp: ArpTable;
  #fdb: Fdb;
  #disabled = new Set<number>();
  #arpTimes = new Map<number, number[]>();
  #drops = new Map<Drop, number>();
  #tallies = new Map<string, Tally>();
  #unanswered = new Map<number, { ip: string; at: number }>();
  #waiting = new Map<string, number[]>();
  #sequence = 0;
  #epoch = 0;

  /** @param ports the number of ports */
  constructor(ports: number, mac: string, ip: string, settings: Settings) {
    this.ports = Array.from({ length: ports }, (_, index) => index + 1);
    this.mac = mac;
    this.ip = ip;
    this.#mac = parseMac(mac);
    this.#ip = parseIp(ip);
    this.#settings = settings;
    this.#arp = new ArpTable(settings);
    this.#fdb = this.#newFdb();
  }

  get settings(): Settings {
    return this.#settings;
  }

  /** Empties every table, enables every port, counts pings from 0, and takes the settings. */
  reset(settings: Settings = this.#settings): void {
    this.#settings = settings;
    this.#arp = new ArpTable(settings);
    this.#fdb = this.#newFdb();
    for (const memory of [
      this.#disabled,
      this.#arpTimes,
      this.#drops,
      this.#tallies,
      this.#unanswered,
      this.#waiting,
    ]) {
      memory.clear();
    }
    this.#epoch = (this.#epoch + 1) & 0xffff;
  }

  /** Takes a frame that has come in. @returns the frames that the switch sends because of it */
  frameIn(port: number, frame: Uint8Array, now: number): Out[] {
    if (this.#disabled.has(port)) return this.#drop("port disabled");
    if (frame.length < 14) return [];
    const arp = decodeArp(frame);
    if (arp && this.#isTooMuch(port, now)) return this.#drop("port disabled");
    if (!(frame[6]! & 1)) this.#fdb.learn(formatMac(frame.subarray(6, 12)), port, now);

    if (arp) {
      const refusal = this.#refusal(arp);
      if (refusal) return this.#drop(refusal);
    }
    const toUs = same(frame.subarray(0, 6), this.#mac);
    const forward = toUs ? [] : this.#forward(port, frame, now);
    if (arp && (toUs || same(arp.destination, BROADCAST))) return [...forward, ...this.#hearArp(port, arp, now)];
    return toUs ? this.#hearEcho(port, frame) : forward;
  }

  /** Pings an IP from the switch itself. Without a fresh ARP entry it asks who has the IP first. */
  ping(ip: string, now: number): Out[] {
    const sequence = (this.#sequence = (this.#sequence + 1) & 0xffff);
    const tally = this.#tallies.get(ip) ?? { sent: 0, answered: 0, answeredUntil: undefined };
    this.#tallies.set(ip, { ...tally, sent: tally.sent + 1 });
    this.#unanswered.set(sequence, { ip, at: now });
    if (this.#arp.entry(ip, now)) return this.#sendEcho(ip, sequence, now);

    this.#waiting.set(ip, [...(this.#waiting.get(ip) ?? []), sequence].slice(-WAITING_MAX));
    const request = this.#request(BROADCAST, ip);
    return this.#enabled().map((port) => ({ port, frame: request }));
  }

  /** The frames that are due by now. */
  tick(now: number): Out[] {
    return this.#arp.tick(now).flatMap((question) => this.#ask(question, now));
  }

  arpRows(now: number): ArpRow[] {
    return this.#arp.rows(now);
  }

  fdbRows(now: number): { mac: string; port: number; age: number }[] {
    return this.#fdb.rows(now);
  }

  disabledPorts(): number[] {
    return [...this.#disabled];
  }

  drops(reason: Drop): number {
    return this.#drops.get(reason) ?? 0;
  }

  tally(ip: string): Tally {
    return this.#tallies.get(ip) ?? { sent: 0, answered: 0, answeredUntil: undefined };
  }

  /**
   * Forwards by the FDB. Unknown and multicast destinations go to all other ports; a frame never goes back out of its
   * port.
   */
  #forward(from: number, frame: Uint8Array, now: number): Out[] {
    const known = frame[0]! & 1 ? undefined : this.#fdb.port(formatMac(frame.subarray(0, 6)), now);
    const ports = this.#enabled().filter((port) => port !== from && (known === undefined || port === known));
    return ports.map((port) => ({ port, frame }));
  }

  #hearArp(port: number, arp: Arp, now: number): Out[] {
    const ip = arp.spa.join(".");
    const asksUs = arp.op === ARP_REQUEST && same(arp.tpa, this.#ip);
    const out: Out[] = [];
    if (asksUs) out.push({ port, frame: this.#answer(arp) });
    if (ip === this.ip || ip === "0.0.0.0") return out; // a probe (RFC 5227) claims nothing

    const kind = kindOf(arp, asksUs);
    const mac = formatMac(arp.sha);
    const source = kind === "gratuitous" ? this.#settings.portFromGratuitous : this.#settings.portFromReply;
    const question = this.#arp.hear({ ip, mac, port: this.#port(source, mac, port, now), kind }, now);
    if (question) out.push(...this.#ask(question, now));
    if (this.#arp.entry(ip, now)) {
      const waiting = this.#waiting.get(ip) ?? [];
      this.#waiting.delete(ip);
      for (const sequence of waiting) out.push(...this.#sendEcho(ip, sequence, now));
    }
    return out;
  }

  #hearEcho(port: number, frame: Uint8Array): Out[] {
    const echo = decodeEcho(frame);
    if (!echo || !same(echo.to, this.#ip)) return [];
    if (echo.type === ECHO_REQUEST) return [{ port, frame: answerEcho(frame) }];

    const ping = this.#unanswered.get(echo.sequence);
    if (echo.type !== ECHO_REPLY || echo.identifier !== this.#epoch || ping?.ip !== echo.from.join(".")) return [];
    this.#unanswered.delete(echo.sequence);
    const tally = this.tally(ping.ip);
    const answeredUntil = Math.max(tally.answeredUntil ?? ping.at, ping.at);
    this.#tallies.set(ping.ip, { ...tally, answered: tally.answered + 1, answeredUntil });
    return [];
  }

  #sendEcho(ip: string, sequence: number, now: number): Out[] {
    const entry = this.#arp.entry(ip, now);
    if (!entry) return [];
    const frame = encodeEcho({
      destination: parseMac(entry.mac),
      source: this.#mac,
      from: this.#ip,
      to: parseIp(ip),
      type: ECHO_REQUEST,
      identifier: this.#epoch,
      sequence,
    });
    return this.#send(entry.mac, entry.port, frame, now);
  }

  #ask({ ip, mac, port }: Question, now: number): Out[] {
    return this.#send(mac, port, this.#request(parseMac(mac), ip), now);
  }

  /** Sends a frame of the switch's own. The incident happened here. */
  #send(mac: string, entryPort: number, frame: Uint8Array, now: number): Out[] {
    const port = this.#settings.forwardBy === "entry" ? entryPort : this.#fdb.port(mac, now);
    if (port === undefined && this.#settings.unknownUnicast === "drop") return this.#drop("unknown unicast");
    const ports = this.#enabled().filter((one) => port === undefined || one === port);
    if (ports.length === 0) return this.#drop("port disabled");
    return ports.map((one) => ({ port: one, frame }));
  }

  /** For a MAC that the FDB does not know, the only candidate is the port on which the claim came in. */
  #port(source: PortSource, mac: string, ingress: number, now: number): number {
    return source === "ingress" ? ingress : (this.#fdb.port(mac, now) ?? ingress);
  }

  /** Counts an ARP packet. @returns true if its port is now disabled for it */
  #isTooMuch(port: number, now: number): boolean {
    const times = (this.#arpTimes.get(port) ?? []).filter((time) => now - time < 1000);
    times.push(now);
    this.#arpTimes.set(port, times);
    if (times.length <= this.#settings.arpRateLimit) return false;
    this.#disabled.add(port);
    this.#fdb.forget(port);
    return true;
  }

  #refusal(arp: Arp): Drop | undefined {
    const { sourceMacCheck, replyDestinationMacCheck } = this.#settings;
    if (sourceMacCheck && !same(arp.source, arp.sha)) return "source-MAC check";
    if (!replyDestinationMacCheck || arp.op !== ARP_REPLY) return undefined;
    const isRight = same(arp.tha, arp.destination) && !same(arp.tha, BROADCAST) && !same(arp.tha, NO_MAC);
    return isRight ? undefined : "destination-MAC check";
  }

  #request(destination: Uint8Array, ip: string): Uint8Array {
    const [source, sha, spa] = [this.#mac, this.#mac, this.#ip];
    return encodeArp({ destination, source, op: ARP_REQUEST, sha, spa, tha: NO_MAC, tpa: parseIp(ip) });
  }

  #answer({ sha: tha, spa: tpa }: Arp): Uint8Array {
    const [source, sha, spa] = [this.#mac, this.#mac, this.#ip];
    return encodeArp({ destination: tha, source, op: ARP_REPLY, sha, spa, tha, tpa });
  }

  #enabled(): number[] {
    return this.ports.filter((port) => !this.#disabled.has(port));
  }

  #newFdb(): Fdb {
    return new Fdb((this.#settings.fdbAgeing * 1000) / this.#settings.timeScale);
  }

  #drop(reason: Drop): Out[] {
    this.#drops.set(reason, this.drops(reason) + 1);
    return [];
  }
}

function kindOf(arp: Arp, asksUs: boolean): Claim["kind"] {
  if (same(arp.spa, arp.tpa)) return "gratuitous";
  if (arp.op === ARP_REPLY) return "answer";
  return asksUs ? "asking" : "overheard";
}

function parseIp(ip: string): Uint8Array {
  return Uint8Array.from(ip.split("."), Number);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
