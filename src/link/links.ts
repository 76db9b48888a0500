import {
  type Address,
  addressOfBytes,
  blockOf,
  formatAddress,
  having,
  type IPv6,
  isIPv4,
  isLinkLocal,
} from "../core/address.ts";
import { formatMac } from "../core/arp.ts";
import { matches } from "../core/glob.ts";
import { claimsWithin } from "../core/wire.ts";
import { AF_INET, AF_INET6 } from "../ffi/libc.ts";
import { attributes, NETLINK_ROUTE, type NetlinkMessage, NetlinkSocket, text, texts, u32 } from "./netlink.ts";

const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  GETNEXTHOP: 106,
} as const;
/** RTNLGRP_NEXTHOP is 32: its bit is the last one. */
const RTMGRP = {
  ...{ LINK: 0x1, IPV4_IFADDR: 0x10, IPV4_ROUTE: 0x40, IPV6_IFADDR: 0x100, IPV6_ROUTE: 0x400, NEXTHOP: 0x80000000 },
} as const;

const IFF = { UP: 0x1, NOARP: 0x80, LOWER_UP: 0x10000 } as const;
const ARPHRD_ETHER = 1;
const IFLA_IFNAME = 3;
const IFLA_EVENT = 44;
/** Values of IFLA_EVENT: a bond sends by another port, or a virtual machine has moved to another host. */
const MOVES: readonly number[] = [3, 4]; // IFLA_EVENT_BONDING_FAILOVER, IFLA_EVENT_NOTIFY_PEERS
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;
/** Another host has the address, so that the kernel does not use it. */
const IFA_F_DADFAILED = 0x08;

/** One network device as rtnetlink shows it. */
export interface Link {
  ifindex: number;
  name: string;
  /** Its other names (`ip link property add dev eth0 altname enp0s3`). */
  altnames: readonly string[];
  /** `veth`, `bridge`, ...; empty for a NIC. */
  kind: string;
  /** The ifindex of the device whose frames a macvlan or ipvlan takes part in. */
  over: number | undefined;
  /** 6 bytes on Ethernet. */
  mac: Uint8Array;
  /** Ethernet, and not told to do without ARP, as dummies are. */
  isEthernet: boolean;
  mtu: number;
  /** Administratively up, and with a carrier. */
  isUp: boolean;
  /** The master, and its kind (`bridge`, `bond`, ...); undefined if the device has no master. */
  portOf: { kind: string; ifindex: number } | undefined;
  /** Addresses with their prefix lengths, in the kernel's order; those of IPv6 that are link-local are left out. */
  addresses: { address: Address; prefix: number }[];
  /** Its first link-local address of IPv6; undefined: it has none, as where IPv6 is switched off. */
  linkLocal: IPv6 | undefined;
  transmitted: { packets: bigint; dropped: bigint };
}

const u64 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);

/** A request's family header, of which the kernel reads the first byte only. */
function familyHeader(length: number, family = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes[0] = family;
  return bytes;
}

function parseLink({ body }: NetlinkMessage): Link {
  const IFLA = { ADDRESS: 1, MTU: 4, LINK: 5, MASTER: 10, LINKINFO: 18, STATS64: 23, PROP_LIST: 52 } as const;
  const IFLA_INFO = { KIND: 1, SLAVE_KIND: 4 } as const;
  const view = new DataView(body.buffer, body.byteOffset);
  const found = attributes(body, 16);
  const flags = view.getUint32(8, true);
  const info = attributes(found.get(IFLA.LINKINFO) ?? new Uint8Array(), 0);
  const master = found.get(IFLA.MASTER);
  const stats = found.get(IFLA.STATS64);
  return {
    ifindex: view.getInt32(4, true),
    name: text(found.get(IFLA_IFNAME)),
    altnames: texts(found.get(IFLA.PROP_LIST)),
    kind: text(info.get(IFLA_INFO.KIND)),
    over: /^(mac|ip)v(lan|tap)$/.test(text(info.get(IFLA_INFO.KIND))) ? u32(found.get(IFLA.LINK)!) : undefined,
    mac: found.get(IFLA.ADDRESS) ?? new Uint8Array(6),
    isEthernet: view.getUint16(2, true) === ARPHRD_ETHER && (flags & IFF.NOARP) === 0,
    mtu: u32(found.get(IFLA.MTU) ?? new Uint8Array(4)),
    isUp: (flags & IFF.UP) !== 0 && (flags & IFF.LOWER_UP) !== 0,
    portOf: master && { kind: text(info.get(IFLA_INFO.SLAVE_KIND)), ifindex: u32(master) },
    addresses: [],
    linkLocal: undefined,
    transmitted: { packets: stats ? u64(stats, 8) : 0n, dropped: stats ? u64(stats, 56) : 0n },
  };
}

/** A default route, or one of its two halves (0.0.0.0/1 and 128.0.0.0/1). */
interface Route {
  prefix: number;
  table: number;
  metric: number;
  /** The id of the nexthop object that the route uses; 0: none. */
  nexthop: number;
  hops: Hop[];
}

interface Hop {
  ifindex: number | undefined;
  /** undefined: none, or for a route of IPv4 an address of IPv6. */
  gateway: Address | undefined;
}

const isRoute = ({ type }: NetlinkMessage) => type === RTM.NEWROUTE || type === RTM.DELROUTE;

/** struct rtmsg: the length of the destination's prefix is its second byte, and the route's type its eighth. */
const isDefaultRoute = ({ body }: NetlinkMessage) => body[1]! <= 1 && body[7] === RTN_UNICAST;

function parseRoute({ body }: NetlinkMessage): Route {
  const RTA = { PRIORITY: 6, MULTIPATH: 9, TABLE: 15, NH_ID: 30 } as const;
  const found = attributes(body, 12);
  const number = (type: number) => u32(found.get(type) ?? new Uint8Array(4));
  const hops = found.has(RTA.MULTIPATH) ? parseHops(found.get(RTA.MULTIPATH)!) : [hopOf(found)];
  return {
    prefix: body[1]!,
    table: number(RTA.TABLE) || body[4]!,
    metric: number(RTA.PRIORITY),
    nexthop: number(RTA.NH_ID),
    hops: hops.filter(({ ifindex }) => ifindex !== undefined),
  };
}

function hopOf(found: Map<number, Uint8Array>, OIF = 4, GATEWAY = 5): Hop {
  const [oif, gateway] = [found.get(OIF), found.get(GATEWAY)];
  return { ifindex: oif && u32(oif), gateway: gateway && addressOfBytes(gateway) };
}

/** Reads RTA_MULTIPATH: each struct rtnexthop (length, flags, hops, ifindex) has attributes of its own. */
function parseHops(bytes: Uint8Array): Hop[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hops: Hop[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 8) break;
    const { gateway } = hopOf(attributes(bytes.subarray(at, at + length), 8));
    hops.push({ ifindex: view.getInt32(at + 4, true), gateway });
    at += (length + 3) & ~3;
  }
  return hops;
}

/** The hops of each nexthop object by its id; a group has those of its members. */
function nexthops(messages: readonly NetlinkMessage[]): Map<number, Hop[]> {
  const NHA = { ID: 1, GROUP: 2, OIF: 5, GATEWAY: 6 } as const;
  const objects = messages.map(({ body }) => attributes(body, 8));
  const idOf = (found: Map<number, Uint8Array>) => u32(found.get(NHA.ID)!);
  const single = new Map(objects.map((found) => [idOf(found), hopOf(found, NHA.OIF, NHA.GATEWAY)]));
  return new Map(
    objects.map((found) => {
      const group = found.get(NHA.GROUP); // struct nexthop_grp: 8 bytes that begin with the id
      if (!group) return [idOf(found), [single.get(idOf(found))!]];
      const ids = Array.from({ length: group.length / 8 }, (_, at) => u32(group.subarray(8 * at)));
      return [idOf(found), ids.flatMap((id) => single.get(id) ?? [])];
    }),
  );
}

/** The default routes, as far as plans go by them. */
export interface Defaults {
  gateways: ReadonlySet<Address>;
  /** The first device of the default route of IPv4, and that of IPv6. */
  device: number | undefined;
  device6: number | undefined;
}

function firstDevice(routes: readonly Route[]): number | undefined {
  const main = routes.filter(({ table }) => table === RT_TABLE_MAIN);
  return main.sort((a, b) => a.prefix - b.prefix || a.metric - b.metric)[0]?.hops[0]?.ifindex;
}

/** Reads the network devices of one network namespace, and hears of their changes. */
export class Links implements Disposable {
  readonly #ask = new NetlinkSocket(NETLINK_ROUTE);
  readonly #listen = new NetlinkSocket(NETLINK_ROUTE, RTMGRP.LINK | RTMGRP.IPV4_IFADDR | RTMGRP.IPV6_IFADDR);
  /** Apart, so that a routing daemon's many changes do not overflow the queue of the links' ones. */
  readonly #routes = new NetlinkSocket(NETLINK_ROUTE, RTMGRP.IPV4_ROUTE | RTMGRP.IPV6_ROUTE | RTMGRP.NEXTHOP);

  readonly #moved = new Set<number>();

  /** All devices with their addresses. */
  read(): Link[] {
    const parsed = this.#ask.dump(RTM.GETLINK, familyHeader(16)).map(parseLink);
    const links = new Map(parsed.map((link) => [link.ifindex, link]));
    const IFA = { ADDRESS: 1, LOCAL: 2 } as const;
    for (const { body } of this.#ask.dump(RTM.GETADDR, familyHeader(8))) {
      const found = attributes(body, 8);
      const bytes = found.get(IFA.LOCAL) ?? found.get(IFA.ADDRESS);
      const link = links.get(new DataView(body.buffer, body.byteOffset).getUint32(4, true));
      const [family, prefix, flags] = body as unknown as [number, number, number]; // struct ifaddrmsg
      if (!bytes || !link || (family !== AF_INET && family !== AF_INET6)) continue;
      const address = addressOfBytes(bytes);
      if (!isLinkLocal(address)) link.addresses.push({ address, prefix });
      else if (!(flags & IFA_F_DADFAILED)) link.linkLocal ??= address;
    }
    return [...links.values()];
  }

  /**
   * The gateways of all default routes, in every routing table, and for each family the first device of the one with the
   * lowest metric. Halves count only where there is no whole one: a VPN puts them in front of the route by which it is
   * reached.
   */
  defaults(): Defaults {
    const [four, six] = [AF_INET, AF_INET6].map((family) => this.#defaultRoutes(family)) as [Route[], Route[]];
    const hops = [...four, ...six].flatMap(({ hops }) => hops);
    const gateways = new Set(hops.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway])));
    return { gateways, device: firstDevice(four), device6: firstDevice(six) };
  }

  /** The default routes of a family with their next hops. */
  #defaultRoutes(family: number): Route[] {
    const routes = this.#ask.dump(RTM.GETROUTE, familyHeader(12, family)).filter(isDefaultRoute).map(parseRoute);
    // The kernel lists the hops of a nexthop object itself, unless net.ipv4.nexthop_compat_mode is 0.
    if (!routes.some(({ nexthop, hops }) => nexthop && hops.length === 0)) return routes;
    const objects = nexthops(this.#ask.dump(RTM.GETNEXTHOP, familyHeader(8)));
    return routes.map((route) => (route.nexthop ? { ...route, hops: objects.get(route.nexthop) ?? [] } : route));
  }

  /** True if a default route has changed since the last call. */
  routesChanged(): boolean {
    const events = this.#routes.events();
    // An event of a nexthop object names no route.
    return events === "lost" || events.some((event) => !isRoute(event) || isDefaultRoute(event));
  }

  /** Devices of which the kernel has said since the last call that neighbours have to be told anew where they are. */
  takeMoved(): number[] {
    const moved = [...this.#moved];
    this.#moved.clear();
    return moved;
  }

  /**
   * True if a device for which `concerns` returns true has changed since the last call. Hosts where Pods come and go
   * report hundreds of other devices. If nothing has happened, it costs one system call.
   */
  changed(concerns: (name: string, ifindex: number) => boolean): boolean {
    const events = this.#listen.events();
    if (events === "lost") return true;
    let isChanged = false;
    for (const { type, body } of events) {
      const isLink = type === RTM.NEWLINK || type === RTM.DELLINK;
      const found = isLink ? attributes(body, 16) : new Map<number, Uint8Array>();
      // struct ifinfomsg and struct ifaddrmsg have the ifindex at the same offset.
      const ifindex = new DataView(body.buffer, body.byteOffset).getUint32(4, true);
      if (MOVES.includes(u32(found.get(IFLA_EVENT) ?? new Uint8Array(4)))) this.#moved.add(ifindex);
      isChanged ||= concerns(text(found.get(IFLA_IFNAME)), ifindex);
    }
    return isChanged;
  }

  [Symbol.dispose](): void {
    this.#ask[Symbol.dispose]();
    this.#listen[Symbol.dispose]();
    this.#routes[Symbol.dispose]();
  }
}

/** Kinds of master that receive and answer their ports' frames. (A VRF's slave receives its own: it may announce.) */
const PORT_OF: Readonly<Record<string, string>> = {
  bond: "a slave of bond",
  bridge: "a port of bridge",
  openvswitch: "a port of Open vSwitch bridge",
  team: "a port of team",
};

/** True if a name or an altname of the device is one of the globs, or fits one. */
export const isNamed = ({ name, altnames }: Link, globs: readonly string[]): boolean =>
  matches(name, globs) || altnames.some((altname) => matches(altname, globs));

/** True if the address lies in a subnet of the device. */
export const isInSubnet = ({ addresses }: Link, address: Address): boolean =>
  addresses.some(({ address: own, prefix }) => having(address)(blockOf(own, prefix)));

/** True for a Pod's end of a wire: only that Pod is behind it. CNIs give such ends no subnet. */
export const isPodsWire = ({ kind, addresses }: Link): boolean =>
  kind === "veth" && addresses.every(({ address, prefix }) => prefix === (isIPv4(address) ? 32 : 128));

/** The reason why this node cannot stand for VIPs of IPv6 on the device; undefined if it can. */
export const cannotSpeakIPv6 = ({ name, linkLocal, isUp }: Link): string | undefined =>
  linkLocal === undefined && isUp // with its link, the kernel takes an address away
    ? `${name} has no link-local address of IPv6: switch IPv6 on there (net.ipv6.conf.${name}.disable_ipv6=0, addr_gen_mode=0)`
    : undefined;

/** The reason why isat cannot announce on the device, and what to do instead; undefined if it can. */
export function cannotAnnounceOn(link: Link, links: readonly Link[]): string | undefined {
  if (!link.isEthernet) return `${link.name} is not an Ethernet interface, or has ARP switched off`;
  if (claimsWithin(link.mtu) === 0) return `${link.name} has an MTU of ${link.mtu}, which no claim of a VIP fits`;
  const relation = PORT_OF[link.portOf?.kind ?? ""];
  if (!relation) return undefined;
  const master = links.find(({ ifindex }) => ifindex === link.portOf!.ifindex)?.name ?? "its master";
  return `${link.name} is ${relation} ${master}: announce on ${master}, which receives its frames`;
}

/** The properties of a link that matter here, for people. */
export function describeLink(link: Link): string {
  const own = link.addresses.map(({ address, prefix }) => `${formatAddress(address)}/${prefix}`);
  const addresses = [...own, ...(link.linkLocal === undefined ? [] : [formatAddress(link.linkLocal)])];
  return `${link.name} (ifindex ${link.ifindex}, ${formatMac(link.mac)}, ${addresses.join(" ") || "no address"}, MTU ${link.mtu}, ${link.isUp ? "up" : "down"})`;
}
