import { existsSync, readFileSync } from "node:fs";
import { type Address, type IPv6, isIPv4Range, type Range } from "../core/address.ts";
import { ETH_P_IPV6, TYPE_AT } from "../core/icmp6.ts";
import { decodeQuery, reports } from "../core/mld.ts";
import { solicitedNode } from "../core/ndp.ts";
import { ffi } from "../ffi/ffi.ts";
import { AF_INET, errno, errnoName, libc, SOCK_CLOEXEC, SOCK_DGRAM } from "../ffi/libc.ts";
import { describeLink, type Link } from "./links.ts";
import { ListeningSocket, type PacketSocket, type Received, withBytes } from "./packet.ts";

const SIOCADDMULTI = 0x8931;
const SIOCDELMULTI = 0x8932;
/** Reports come so often unasked, ms: a switch forgets a group after 260 s, and some hear of a new port only by one. */
const REPORT = 60_000;
/** An answer to a query waits for so long at least, ms: anybody can ask. */
const LEAST_WAIT = 100;
/** A query stands behind a hop-by-hop header. */
const QUERIES = withBytes({ 20: 0, [TYPE_AT]: 58, [TYPE_AT + 8]: 130 });

/** The last 24 bits of an address: what its solicited-node group is made of. */
type Low = number;
const lowOf = (address: IPv6): Low => Number(address & 0xff_ffffn);

interface Joined {
  link: Link;
  groups: Set<Low>;
  /** The groups that a query has asked for. */
  asked: Set<Low>;
  timer?: NodeJS.Timeout;
}

/**
 * The solicited-node groups of the VIPs that this node manages. The NIC is told to receive them (SIOCADDMULTI), and MLD's
 * reports, of isat's own, tell switches to forward them. The kernel's own list of groups is left alone: it walks through
 * all of it for each frame, 7 ns a group, and holds some 2,300. What the NIC receives outlives the process.
 */
export class Groups implements Disposable {
  readonly #socket: PacketSocket;
  readonly #say: (error: Error) => void;
  /** undefined until there are groups: all of this host's IPv6 passes such a socket's filter. */
  #queries: ListeningSocket | undefined;
  readonly #joined = new Map<number, Joined>();
  readonly #timer: NodeJS.Timeout;

  /** @throws Error without CAP_NET_RAW */
  constructor(socket: PacketSocket, say: (error: Error) => void) {
    this.#socket = socket;
    this.#say = say;
    this.#timer = setInterval(() => {
      for (const joined of this.#joined.values()) this.#report(joined, joined.groups, false);
    }, REPORT).unref();
  }

  /** From now on, listens for these VIPs, and for no others: not for those of an earlier speaker either. */
  follow(planned: readonly { link: Link; ranges: readonly Range[] }[]): void {
    for (const [ifindex, joined] of this.#joined) {
      if (planned.some(({ link }) => link.ifindex === ifindex)) continue;
      this.#change(joined.link.name, [], joined.groups);
      clearTimeout(joined.timer);
      this.#joined.delete(ifindex);
    }
    for (const { link, ranges } of planned) {
      const known = this.#joined.get(link.ifindex);
      const before = known?.groups ?? joinedBefore(link.name);
      const groups = groupsOf(ranges);
      const added = [...groups].filter((low) => !before.has(low));
      const gone = [...before].filter((low) => !groups.has(low));
      const isSame = known && describeLink(known.link) === describeLink(link);
      const joined = { asked: new Set<Low>(), ...known, link, groups };
      this.#joined.set(link.ifindex, joined);
      this.#change(link.name, added, gone);
      this.#report(joined, isSame ? added : groups, true);
    }
    const asked = [...this.#joined].flatMap(([ifindex, { groups }]) => (groups.size > 0 ? [ifindex] : []));
    if (asked.length > 0 && !this.#queries) {
      this.#queries = new ListeningSocket(ETH_P_IPV6, [], QUERIES);
      void this.#queries.listen((received) => this.#hear(received), this.#say);
    }
    this.#queries?.only(asked, QUERIES);
  }

  /** Tells switches anew, as these VIPs are announced: solicitations for them have to come. */
  renew(ifindex: number, addresses: readonly Address[]): void {
    const joined = this.#joined.get(ifindex);
    const six = addresses.filter((address) => typeof address === "bigint");
    if (joined) this.#report(joined, new Set(six.map(lowOf)), true);
  }

  #change(name: string, added: Iterable<Low>, gone: Iterable<Low>): void {
    const error = changeGroups(name, added, SIOCADDMULTI) ?? changeGroups(name, gone, SIOCDELMULTI);
    if (error) this.#say(error);
  }

  #report({ link }: Joined, lows: Iterable<Low>, isNew: boolean): void {
    const { ifindex, mac, linkLocal, isUp } = link;
    if (linkLocal === undefined || !isUp) return;
    const groups = Array.from(lows, (low) => solicitedNode(BigInt(low)));
    for (const frame of reports(groups, mac, linkLocal, isNew)) this.#socket.send(ifindex, frame);
  }

  #hear({ ifindex, frame }: Received): void {
    const query = decodeQuery(frame);
    const joined = this.#joined.get(ifindex);
    if (!query || !joined) return;
    const { group } = query;
    const its =
      group === undefined ? joined.groups : [lowOf(group)].filter((low) => solicitedNode(BigInt(low)) === group);
    for (const low of its) if (joined.groups.has(low)) joined.asked.add(low);
    if (joined.timer || joined.asked.size === 0) return;
    // RFC 3810 6.2: listeners answer at different times.
    const wait = LEAST_WAIT + Math.max(0, query.within - LEAST_WAIT) * Math.random();
    joined.timer = setTimeout(() => this.#answer(ifindex), wait).unref();
  }

  #answer(ifindex: number): void {
    const joined = this.#joined.get(ifindex);
    if (!joined) return;
    const asked = [...joined.asked].filter((low) => joined.groups.has(low));
    joined.asked.clear();
    delete joined.timer;
    this.#report(joined, asked, false);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const { timer } of this.#joined.values()) clearTimeout(timer);
    this.#queries?.[Symbol.dispose]();
  }
}

function groupsOf(ranges: readonly Range[]): Set<Low> {
  const groups = new Set<Low>();
  for (const range of ranges) {
    if (isIPv4Range(range)) continue;
    for (let address = range.first as IPv6; address <= (range.last as IPv6); address++) groups.add(lowOf(address));
  }
  return groups;
}

/** Removes the groups from a NIC that isat has added. */
export function leaveGroups(name: string): void {
  changeGroups(name, joinedBefore(name), SIOCDELMULTI);
}

/** The number of solicited-node groups that the NIC receives for VIPs. */
export const countGroups = (name: string): number => joinedBefore(name).size;

const JOINED = "/proc/net/dev_mcast";

/**
 * The solicited-node groups that the NIC receives for a program, which outlive it. The kernel's own ones have no such mark.
 * None is known where there is no /proc.
 */
function joinedBefore(name: string): Set<Low> {
  const lines = existsSync(JOINED) ? readFileSync(JOINED, "utf8").split("\n") : [];
  const found = lines.map((line) => /^\d+\s+(\S+)\s+\d+\s+(\d+)\s+3333ff([0-9a-f]{6})$/.exec(line.trim()));
  return new Set(found.flatMap((match) => (match?.[1] === name && match[2] !== "0" ? [Number(`0x${match[3]}`)] : [])));
}

/** @returns the first error; a device that is gone, and a group that is, are none */
function changeGroups(name: string, lows: Iterable<Low>, request: number): Error | undefined {
  let failed: Error | undefined;
  const fd = libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const ifreq = new Uint8Array(40); // its name, and a struct sockaddr of no family with the MAC
  ifreq.set(new TextEncoder().encode(name).subarray(0, 15));
  ifreq.set([0x33, 0x33, 0xff], 18);
  for (const low of lows) {
    ifreq.set([low >> 16, low >> 8, low], 21);
    if (libc.ioctl(fd, request, ifreq) === 0) continue;
    const error = ffi.errno();
    if (error === errno.ENODEV || error === errno.ENOENT) continue;
    failed ??= new Error(`Cannot have ${name} receive solicitations for VIPs of IPv6: ${errnoName(error)}`);
  }
  libc.close(fd);
  return failed;
}
