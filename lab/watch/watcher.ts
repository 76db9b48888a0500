/**
 * Asks for each VIP, by ARP or Neighbour Discovery, every INTERVAL ms until its standard input ends, then prints a report as JSON. Runs in the
 * client's namespace. No two open requests for a VIP have the same sender address, and an answer repeats that address,
 * so each answer belongs to one request, however late this process runs.
 *
 * Usage: watcher.ts INTERVAL GRACE VIP...
 * A request that has no answer after GRACE ms, at most 2 s, is unanswered.
 */
import process from "node:process";
import {
  type Address,
  addressBytes,
  addressOfBytes,
  formatAddress,
  isIPv4,
  parseAddress,
  plus,
} from "../../src/core/address.ts";
import { ARP_REPLY, decodeArp, formatMac } from "../../src/core/arp.ts";
import { ADVERTISEMENT, decodeNdp, FLAG, solicitation } from "../../src/core/ndp.ts";
import { parseMac } from "../mac.ts";
import { PacketPort } from "../packet-port.ts";
import { CLIENT } from "../topology.ts";
import { whoHas } from "../who-has.ts";
import { BUCKET, type Seen } from "./watch.ts";

const [interval, grace, ...vips] = process.argv.slice(2);
/**
 * The sender addresses, with which the requests for one VIP take turns. No host has them. They are few because a kernel
 * that answers keeps a neighbour entry for each, and stops answering when it has 1,024.
 */
const SENDERS = { first: parseAddress("172.16.0.0"), first6: parseAddress("fe80::100:0"), count: 256 };
interface Request {
  vip: number;
  at: number;
  macs: string[];
}

const port = new PacketPort(undefined, "eth0");
const places = new Map(vips.map((vip, place) => [vip, place]));
const seen: Seen[] = vips.map((vip) => ({
  vip,
  asked: 0,
  unanswered: 0,
  doubled: 0,
  doubledAt: undefined,
  silence: 0,
  back: undefined,
  answerers: [],
  announced: [],
  timeline: "",
}));
/** For each VIP, the time of its last answered request, ms, and true if one since was unanswered. */
const last = vips.map(() => ({ answered: undefined as number | undefined, isMute: false }));
/** Open requests, by VIP and sender. */
const open = new Map<number, Request>();
const began = performance.now();
const now = () => performance.timeOrigin + performance.now();

function ask(vip: number, turn: number): void {
  const sender = turn % SENDERS.count;
  const key = vip * SENDERS.count + sender;
  if (open.has(key)) return; // held up for so long that the last request with this sender is still open
  const frame = frameOf(parseAddress(vips[vip]!), sender);
  open.set(key, { vip, at: now(), macs: [] });
  port.send(frame);
}

function frameOf(target: Address, sender: number): Uint8Array {
  const first = isIPv4(target) ? SENDERS.first : SENDERS.first6;
  const ip = addressBytes(plus(first, sender));
  return isIPv4(target)
    ? whoHas(addressBytes(target), { mac: CLIENT.mac, ip })
    : solicitation(target, parseMac(CLIENT.mac), ip);
}

/** An answer to `to`, or where that is undefined, an announcement. */
function sayingOf(frame: Uint8Array): { address: Address; mac: string; to: Address | undefined } | undefined {
  const arp = decodeArp(frame);
  if (arp) {
    const [address, target] = [addressOfBytes(arp.spa), addressOfBytes(arp.tpa)];
    if (arp.op !== ARP_REPLY && address !== target) return undefined;
    return { address, mac: formatMac(arp.sha), to: arp.op === ARP_REPLY ? target : undefined };
  }
  const ndp = decodeNdp(frame);
  if (ndp?.type !== ADVERTISEMENT || !ndp.mac) return undefined;
  const to = ndp.flags & FLAG.solicited ? addressOfBytes(ndp.to) : undefined;
  return { address: addressOfBytes(ndp.target), mac: formatMac(ndp.mac), to };
}

function hear(): void {
  for (let frame = port.receive(); frame; frame = port.receive()) {
    const said = sayingOf(frame);
    const place = said && places.get(formatAddress(said.address));
    if (!said || place === undefined) continue;
    const { mac, to } = said;
    if (to === undefined) {
      const { announced } = seen[place]!;
      if (!announced.some((each) => each.mac === mac)) announced.push({ mac, at: now() });
      continue;
    }
    const first = isIPv4(to) ? SENDERS.first : SENDERS.first6;
    const sender = Number(BigInt(to) - BigInt(first));
    if (sender >= 0 && sender < SENDERS.count) open.get(place * SENDERS.count + sender)?.macs.push(mac);
  }
}

/** Marks a request in the timeline. The worst result of a bucket is the one that shows. */
function mark(its: Seen, at: number, macs: readonly string[]): void {
  const bucket = Math.floor((at - performance.timeOrigin - began) / BUCKET);
  const [mac] = macs;
  const sign = mac === undefined ? "." : new Set(macs).size > 1 ? "X" : mac.at(-1)!;
  const before = its.timeline[bucket];
  const rank = (text: string | undefined) => ["X", "."].indexOf(text ?? "") >>> 0;
  const worse = before !== undefined && rank(before) <= rank(sign) ? before : sign;
  its.timeline = its.timeline.slice(0, bucket).padEnd(bucket, " ") + worse;
}

/** Judges the requests that were sent up to then, in the order in which they were sent. */
function judge(until: number): void {
  for (const [key, { vip, at, macs }] of open) {
    if (at > until) return;
    open.delete(key);
    const its = seen[vip]!;
    const before = last[vip]!;
    its.asked += 1;
    mark(its, at, macs);
    if (new Set(macs).size > 1) {
      its.doubled += 1;
      its.doubledAt = at;
    }
    if (macs.length === 0) {
      its.unanswered += 1;
      before.isMute = true;
      if (before.answered === undefined) before.answered = at; // silent from the first request on
      if (at - before.answered >= its.silence) [its.silence, its.back] = [at - before.answered, undefined];
      continue;
    }
    if (before.isMute && at - before.answered! >= its.silence) [its.silence, its.back] = [at - before.answered!, at];
    before.answered = at;
    before.isMute = false;
    for (const mac of macs) if (its.answerers.at(-1)?.mac !== mac) its.answerers.push({ mac, at });
  }
}

/** Requests are spread over the interval, so that no burst makes answers late. */
let asked = 0;
const timer = setInterval(() => {
  const due = Math.min(((performance.now() - began) / Number(interval)) * vips.length, asked + vips.length);
  for (; asked < due; asked++) {
    ask(asked % vips.length, Math.floor(asked / vips.length));
    if (asked % 32 === 0) hear();
  }
  hear();
  judge(now() - Number(grace));
}, 1);
console.log("asking");

process.stdin.on("end", () => {
  clearInterval(timer);
  const end = setInterval(hear, 5);
  setTimeout(() => {
    clearInterval(end);
    hear();
    judge(Number.POSITIVE_INFINITY);
    process.stdout.write(`${JSON.stringify({ vips: seen })}\n`, () => process.exit(0));
  }, Number(grace));
});
process.stdin.resume();
