/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * An ARP frame as it stands on the wire. Every field is naturally aligned, so
 * nothing is packed: packed structs are read byte by byte.
 */
#ifndef ISAT_PARSE_H
#define ISAT_PARSE_H

#include <stdbool.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ARP_REQUEST 1
#define ARP_REPLY 2

/* RFC 826, for Ethernet (hardware type 1) and IPv4 */
struct arp {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 op;
	__u8 sha[6];
	__u8 spa[4];
	__u8 tha[6];
	__u8 tpa[4];
};

struct frame {
	struct ethhdr eth;
	struct arp arp;
};

_Static_assert(sizeof(struct frame) == 42, "an ARP frame has 42 bytes");

/* An Ethernet frame has 60 bytes at least, so an ARP frame arrives with 18 bytes behind it. */
#define FRAME_MIN 60

static __always_inline bool same_ip(const __u8 a[4], const __u8 b[4])
{
	const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

static __always_inline bool same_mac(const __u8 a[6], const __u8 b[6])
{
	const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline bool is_broadcast(const __u8 mac[6])
{
	const __u16 *x = (const __u16 *)mac;

	return (x[0] & x[1] & x[2]) == 0xffff;
}

static __always_inline bool is_zero(const __u8 mac[6])
{
	const __u16 *x = (const __u16 *)mac;

	return (x[0] | x[1] | x[2]) == 0;
}

static __always_inline bool is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool is_ethernet_ipv4(const struct arp *arp)
{
	return arp->hardware_type == bpf_htons(1) && arp->protocol_type == bpf_htons(ETH_P_IP) &&
	       arp->hardware_length == 6 && arp->protocol_length == 4;
}

/* Whether a tagged frame carries ARP: the EtherType behind the (outer) tag. */
static __always_inline bool tagged_arp(const void *data, const void *end)
{
	const __be16 *inner = data + 16;

	return (const void *)(inner + 1) <= end && *inner == bpf_htons(ETH_P_ARP);
}

#endif
