import { type Address, addressBytes, addressOfBytes, isIPv4 } from "../core/address.ts";
import { AF_INET, AF_INET6, errnoName } from "../ffi/libc.ts";
import { attribute, attributes, NETLINK_ROUTE, NetlinkSocket, text, u32 } from "./netlink.ts";

const RTM = { NEWADDR: 20, DELADDR: 21, GETADDR: 22 } as const;
const IFA = { ADDRESS: 1, LOCAL: 2, LABEL: 3, CACHEINFO: 6, RT_PRIORITY: 9 } as const;
const NLM_F_EXCL_CREATE = 0x600;
const EEXIST = 17;
const EADDRNOTAVAIL = 99;
/** The index of `lo` in every network namespace. */
const LO = 1;
/** No other node has the address in mind as a sender of its own packets (RT_SCOPE_HOST). */
const SCOPE_HOST = 254;
/** The mark of isat's own addresses. What an administrator put on `lo` has another label, and is left alone. */
const LABEL = "lo:isat";
/** Addresses of IPv6 have no label: their mark is the metric of the route to them. */
const METRIC = 0x15a7;
/** No host is asked whether it has the address, too. */
const IFA_F_NODAD = 0x02;
/** struct ifa_cacheinfo: never preferred as a sender of its own packets (RFC 6724 5, rule 3), and valid for ever. */
const CACHEINFO = new Uint8Array(Uint32Array.of(0, 0xffffffff, 0, 0).buffer);
/** The most addresses that are put there at once: the kernel looks at all others for each. */
const SOME = 256;

/** The VIPs that isat has put on `lo`, as /32, or /128, so that this node accepts their packets. They outlive the process. */
export class Loopback implements Disposable {
  readonly #socket = new NetlinkSocket(NETLINK_ROUTE);
  readonly #own = new Set<Address>();
  /** Addresses that others have put there. */
  readonly #others = new Set<Address>();

  constructor() {
    for (const { body } of this.#socket.dump(RTM.GETADDR, new Uint8Array(8))) {
      const found = attributes(body, 8);
      const local = found.get(IFA.LOCAL) ?? found.get(IFA.ADDRESS);
      if (new DataView(body.buffer, body.byteOffset).getUint32(4, true) !== LO || !local) continue;
      const metric = found.get(IFA.RT_PRIORITY);
      const isOwn = text(found.get(IFA.LABEL)) === LABEL || (local.length === 16 && metric && u32(metric) === METRIC);
      (isOwn ? this.#own : this.#others).add(addressOfBytes(local));
    }
  }

  /** Removes what is not wanted. @returns whether there was any */
  keep(wanted: ReadonlySet<Address>): boolean {
    const gone = [...this.#own].filter((address) => !wanted.has(address));
    for (const address of gone) {
      this.#change(RTM.DELADDR, address, 0, EADDRNOTAVAIL);
      this.#own.delete(address);
    }
    return gone.length > 0;
  }

  /** Adds some of what is wanted and not there. @returns whether all are there now */
  add(wanted: ReadonlySet<Address>): boolean {
    let left = SOME;
    for (const address of wanted) {
      if (this.#own.has(address) || this.#others.has(address)) continue;
      if (left-- === 0) return false;
      const isNew = this.#change(RTM.NEWADDR, address, NLM_F_EXCL_CREATE, EEXIST);
      (isNew ? this.#own : this.#others).add(address);
    }
    return true;
  }

  /** @param accepted the error that is none @returns false for that one */
  #change(type: number, address: Address, flags: number, accepted: number): boolean {
    const body = Buffer.concat([...(isIPv4(address) ? HEADER : HEADER6), attribute(IFA.LOCAL, addressBytes(address))]);
    const error = this.#socket.change(type, body, flags);
    if (error === 0 || error === accepted) return error === 0;
    throw new Error(`Cannot ${type === RTM.NEWADDR ? "put a VIP on" : "take a VIP off"} lo: ${errnoName(error)}`);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}

/** The part of a request that is the same for all addresses of a family: struct ifaddrmsg, and attributes. */
const HEADER = [
  Uint8Array.of(AF_INET, 32, 0, SCOPE_HOST, LO, 0, 0, 0),
  attribute(IFA.LABEL, new TextEncoder().encode(`${LABEL}\0`)),
];
const HEADER6 = [
  Uint8Array.of(AF_INET6, 128, IFA_F_NODAD, SCOPE_HOST, LO, 0, 0, 0),
  attribute(IFA.CACHEINFO, CACHEINFO),
  attribute(IFA.RT_PRIORITY, new Uint8Array(Uint32Array.of(METRIC).buffer)),
];
