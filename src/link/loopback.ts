import { type Address, addressBytes, addressOfBytes } from "../core/address.ts";
import { AF_INET, errnoName } from "../ffi/libc.ts";
import { attribute, attributes, NETLINK_ROUTE, NetlinkSocket, text } from "./netlink.ts";

const RTM = { NEWADDR: 20, DELADDR: 21, GETADDR: 22 } as const;
const IFA = { LOCAL: 2, LABEL: 3 } as const;
const NLM_F_EXCL_CREATE = 0x600;
const EEXIST = 17;
const EADDRNOTAVAIL = 99;
/** The index of `lo` in every network namespace. */
const LO = 1;
/** No other node has the address in mind as a sender of its own packets (RT_SCOPE_HOST). */
const SCOPE_HOST = 254;
/** The mark of isat's own addresses. What an administrator put on `lo` has another label, and is left alone. */
const LABEL = "lo:isat";
/** The most addresses that are put there at once: the kernel looks at all others for each. */
const SOME = 256;

/** The VIPs that isat has put on `lo`, as /32, so that this node accepts their packets. They outlive the process. */
export class Loopback implements Disposable {
  readonly #socket = new NetlinkSocket(NETLINK_ROUTE);
  readonly #own = new Set<Address>();
  /** Addresses that others have put there. */
  readonly #others = new Set<Address>();

  constructor() {
    const request = new Uint8Array(8);
    request[0] = AF_INET;
    for (const { body } of this.#socket.dump(RTM.GETADDR, request)) {
      const found = attributes(body, 8);
      const local = found.get(IFA.LOCAL);
      if (new DataView(body.buffer, body.byteOffset).getUint32(4, true) !== LO || !local) continue;
      (text(found.get(IFA.LABEL)) === LABEL ? this.#own : this.#others).add(addressOfBytes(local));
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
    const header = Uint8Array.of(AF_INET, 32, 0, SCOPE_HOST, LO, 0, 0, 0);
    const label = attribute(IFA.LABEL, new TextEncoder().encode(`${LABEL}\0`));
    const body = Buffer.concat([header, attribute(IFA.LOCAL, addressBytes(address)), label]);
    const error = this.#socket.change(type, body, flags);
    if (error === 0 || error === accepted) return error === 0;
    throw new Error(`Cannot ${type === RTM.NEWADDR ? "put a VIP on" : "take a VIP off"} lo: ${errnoName(error)}`);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}
