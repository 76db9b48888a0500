import { libc } from "../../src/ffi/libc.ts";
import { attribute } from "../../src/link/netlink.ts";
import { inNamespace } from "../namespaces.ts";

/** include/uapi/linux/if_link.h: values of IFLA_EVENT. */
export const NOTIFY_PEERS = 4;

/**
 * Sends what the kernel sends to those who listen for changes of links, where a bond fails over or a virtual machine has
 * moved; this kernel has no bonds. Root may send to the group as the kernel does.
 * @param namespace its whole name
 */
export function tellOfEvent(namespace: string, name: string, ifindex: number, event: number): void {
  inNamespace(namespace, () => {
    const fd = libc.socket(16, 3, 0); // AF_NETLINK, SOCK_RAW, NETLINK_ROUTE
    const label = new TextEncoder().encode(`${name}\0`);
    const body = [attribute(3, label), attribute(44, new Uint8Array(Uint32Array.of(event).buffer))]; // IFLA_IFNAME, IFLA_EVENT
    const length = 32 + body.reduce((sum, { length }) => sum + length, 0);
    // struct nlmsghdr and struct ifinfomsg
    const head = Uint32Array.of(length, 16, 0, 0, 1 << 16, ifindex, 0x11043, 0); // RTM_NEWLINK, ARPHRD_ETHER, up
    const message = Buffer.concat([new Uint8Array(head.buffer), ...body]);
    const group = new Uint8Array(Uint32Array.of(16, 0, 1).buffer); // struct sockaddr_nl: RTMGRP_LINK
    libc.sendto(fd, message, message.length, 0, group, 12);
    libc.close(fd);
  });
}
