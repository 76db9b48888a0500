import { attribute, attributes, NETLINK_GENERIC, NETLINK_ROUTE, NetlinkSocket, text, u32 } from "./netlink.ts";

/** A clsact filter, isat's own or another program's. */
export interface Filter {
  direction: "ingress" | "egress";
  priority: number;
  kind: string;
  name: string;
  /** undefined if it is not a BPF filter. */
  programId: number | undefined;
}

/**
 * True if the device has a qdisc `ingress`. It stands where clsact would, has no egress side, and takes filters for either
 * direction into one list.
 */
export function hasIngressQdisc(ifindex: number): boolean {
  const RTM_GETQDISC = 38;
  const TCA_KIND = 1;
  using socket = new NetlinkSocket(NETLINK_ROUTE);
  const request = Uint32Array.of(0, ifindex, 0, 0, 0); // struct tcmsg
  return socket.dump(RTM_GETQDISC, new Uint8Array(request.buffer)).some(({ body }) => {
    return u32(body.subarray(4)) === ifindex && text(attributes(body, 20).get(TCA_KIND)) === "ingress";
  });
}

/** The filters at a device's clsact; empty if it has none. */
export function readFilters(ifindex: number): Filter[] {
  const RTM_GETTFILTER = 46;
  const TCA = { KIND: 1, OPTIONS: 2, BPF_NAME: 7, BPF_ID: 11 } as const;
  using socket = new NetlinkSocket(NETLINK_ROUTE);
  return (["ingress", "egress"] as const).flatMap((direction) => {
    const parent = direction === "ingress" ? 0xfffffff2 : 0xfffffff3; // TC_H_CLSACT with TC_H_MIN_INGRESS or _EGRESS
    const request = Uint32Array.of(0, ifindex, 0, parent, 0); // struct tcmsg
    return socket.dump(RTM_GETTFILTER, new Uint8Array(request.buffer)).flatMap(({ body }) => {
      const found = attributes(body, 20);
      const options = attributes(found.get(TCA.OPTIONS) ?? new Uint8Array(), 0);
      const id = options.get(TCA.BPF_ID);
      const kind = text(found.get(TCA.KIND));
      // For each priority the kernel first dumps an entry without options, which stands for the priority itself.
      if (options.size === 0) return [];
      const priority = u32(body.subarray(16)) >>> 16;
      return [{ direction, priority, kind, name: text(options.get(TCA.BPF_NAME)), programId: id && u32(id) }];
    });
  });
}

/** True if a device's driver declares XDP; undefined on kernels before 6.3, which do not tell. */
export function hasNativeXdp(ifindex: number): boolean | undefined {
  const GENL_ID_CTRL = 16;
  const CTRL = { CMD_GETFAMILY: 3, ATTR_FAMILY_ID: 1, ATTR_FAMILY_NAME: 2 } as const;
  const NETDEV = { CMD_DEV_GET: 1, A_DEV_IFINDEX: 1, A_DEV_XDP_FEATURES: 3 } as const;
  const XDP_BASIC = 1n;
  const command = (number: number, value: Uint8Array) => Uint8Array.of(number, 1, 0, 0, ...value); // struct genlmsghdr
  try {
    using socket = new NetlinkSocket(NETLINK_GENERIC);
    const name = attribute(CTRL.ATTR_FAMILY_NAME, new TextEncoder().encode("netdev\0"));
    const family = attributes(socket.get(GENL_ID_CTRL, command(CTRL.CMD_GETFAMILY, name)).body, 4).get(
      CTRL.ATTR_FAMILY_ID,
    )!;
    const id = new DataView(family.buffer, family.byteOffset).getUint16(0, true);
    const device = attribute(NETDEV.A_DEV_IFINDEX, new Uint8Array(Uint32Array.of(ifindex).buffer));
    const its = attributes(socket.get(id, command(NETDEV.CMD_DEV_GET, device)).body, 4).get(NETDEV.A_DEV_XDP_FEATURES)!;
    const features = new DataView(its.buffer, its.byteOffset).getBigUint64(0, true);
    return (features & XDP_BASIC) !== 0n;
  } catch {
    return undefined;
  }
}
