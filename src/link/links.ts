import { attributes, NETLINK_ROUTE, type NetlinkMessage, NetlinkSocket, text, u32 } from "./netlink.ts";

const RTM = { NEWLINK: 16, DELLINK: 17, GETLINK: 18, GETADDR: 22, GETROUTE: 26 } as const;
const RTMGRP = { LINK: 0x1, IPV4_IFADDR: 0x10 } as const;

const AF_INET = 2;
const IFF = { UP: 0x1, LOWER_UP: 0x10000 } as const;
const ARPHRD_ETHER = 1;
const IFLA_IFNAME = 3;
const RT_TABLE_MAIN = 254;

/** One network device as rtnetlink shows it. */
export interface Link {
  ifindex: number;
  name: string;
  /** 6 bytes on Ethernet. */
  mac: Uint8Array;
  isEthernet: boolean;
  /** Administratively up, and with a carrier. */
  isUp: boolean;
  /** The master, and its kind (`bridge`, `bond`, ...); undefined if the device has no master. */
  portOf: { kind: string; ifindex: number } | undefined;
  /** IPv4 addresses (u32, host order) with their prefix lengths, in the kernel's order. */
  addresses: { address: number; prefix: number }[];
  transmitted: { packets: bigint; dropped: bigint };
}

const ipv4 = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, false);
const u64 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);

/** A request's family header, of which the kernel reads the first byte only. */
function familyHeader(length: number, family = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes[0] = family;
  return bytes;
}

function parseLink({ body }: NetlinkMessage): Link {
  const IFLA = { ADDRESS: 1, MASTER: 10, LINKINFO: 18, STATS64: 23 } as const;
  const IFLA_INFO_SLAVE_KIND = 4;
  const view = new DataView(body.buffer, body.byteOffset);
  const found = attributes(body, 16);
  const flags = view.getUint32(8, true);
  const info = attributes(found.get(IFLA.LINKINFO) ?? new Uint8Array(), 0);
  const master = found.get(IFLA.MASTER);
  const stats = found.get(IFLA.STATS64);
  return {
    ifindex: view.getInt32(4, true),
    name: text(found.get(IFLA_IFNAME)),
    mac: found.get(IFLA.ADDRESS) ?? new Uint8Array(6),
    isEthernet: view.getUint16(2, true) === ARPHRD_ETHER,
    isUp: (flags & IFF.UP) !== 0 && (flags & IFF.LOWER_UP) !== 0,
    portOf: master && { kind: text(info.get(IFLA_INFO_SLAVE_KIND)), ifindex: u32(master) },
    addresses: [],
    transmitted: { packets: stats ? u64(stats, 8) : 0n, dropped: stats ? u64(stats, 56) : 0n },
  };
}

/** Reads the network devices of one network namespace, and hears of their changes. */
export class Links implements Disposable {
  readonly #ask = new NetlinkSocket(NETLINK_ROUTE);
  readonly #listen = new NetlinkSocket(NETLINK_ROUTE, RTMGRP.LINK | RTMGRP.IPV4_IFADDR);

  /** All devices with their addresses. */
  read(): Link[] {
    const parsed = this.#ask.dump(RTM.GETLINK, familyHeader(16)).map(parseLink);
    const links = new Map(parsed.map((link) => [link.ifindex, link]));
    const IFA = { ADDRESS: 1, LOCAL: 2 } as const;
    for (const { body } of this.#ask.dump(RTM.GETADDR, familyHeader(8, AF_INET))) {
      const found = attributes(body, 8);
      const address = found.get(IFA.LOCAL) ?? found.get(IFA.ADDRESS);
      const ifindex = new DataView(body.buffer, body.byteOffset).getUint32(4, true);
      if (address?.length === 4) links.get(ifindex)?.addresses.push({ address: ipv4(address), prefix: body[1]! });
    }
    return [...links.values()];
  }

  /** The gateways of all IPv4 default routes. */
  gateways(): Set<number> {
    const RTA_GATEWAY = 5;
    return new Set(
      this.#ask.dump(RTM.GETROUTE, familyHeader(12, AF_INET)).flatMap(({ body }) => {
        const gateway = body[1] === 0 ? attributes(body, 12).get(RTA_GATEWAY) : undefined;
        return gateway ? [ipv4(gateway)] : [];
      }),
    );
  }

  /** The device of the IPv4 default route with the lowest metric; undefined if there is none. */
  defaultRoute(): number | undefined {
    const RTA = { OIF: 4, PRIORITY: 6, TABLE: 15 } as const;
    const routes = this.#ask.dump(RTM.GETROUTE, familyHeader(12, AF_INET)).flatMap(({ body }) => {
      const found = attributes(body, 12);
      const table = found.get(RTA.TABLE);
      const oif = found.get(RTA.OIF);
      const isDefault = body[1] === 0 && oif !== undefined && (table ? u32(table) : body[4]) === RT_TABLE_MAIN;
      const priority = found.get(RTA.PRIORITY);
      return isDefault ? [{ ifindex: u32(oif), metric: priority ? u32(priority) : 0 }] : [];
    });
    return routes.sort((a, b) => a.metric - b.metric)[0]?.ifindex;
  }

  /**
   * True if a device for which `concerns` returns true has changed since the last call. Hosts where Pods come and go
   * report hundreds of other devices. If nothing has happened, it costs one system call.
   */
  changed(concerns: (name: string, ifindex: number) => boolean): boolean {
    const events = this.#listen.events();
    if (events === "lost") return true;
    return events.some(({ type, body }) => {
      const isLink = type === RTM.NEWLINK || type === RTM.DELLINK;
      const name = isLink ? text(attributes(body, 16).get(IFLA_IFNAME)) : "";
      // struct ifinfomsg and struct ifaddrmsg have the ifindex at the same offset.
      return concerns(name, new DataView(body.buffer, body.byteOffset).getUint32(4, true));
    });
  }

  [Symbol.dispose](): void {
    this.#ask[Symbol.dispose]();
    this.#listen[Symbol.dispose]();
  }
}

/** Kinds of master that receive and answer their ports' frames. (A VRF's slave receives its own: it may announce.) */
const PORT_OF: Readonly<Record<string, string>> = {
  bond: "a slave of bond",
  bridge: "a port of bridge",
  openvswitch: "a port of Open vSwitch bridge",
  team: "a port of team",
};

/** The reason why isat cannot announce on the device, and what to do instead; undefined if it can. */
export function cannotAnnounceOn(link: Link, links: readonly Link[]): string | undefined {
  if (!link.isEthernet) return `${link.name} is not an Ethernet interface, and ARP needs Ethernet`;
  const relation = PORT_OF[link.portOf?.kind ?? ""];
  if (!relation) return undefined;
  const master = links.find(({ ifindex }) => ifindex === link.portOf!.ifindex)?.name ?? "its master";
  return `${link.name} is ${relation} ${master}: announce on ${master}, which receives its frames`;
}
