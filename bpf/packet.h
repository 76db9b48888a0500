/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Frames as they stand in memory: Ethernet, VLAN tags, ARP. Every field is naturally aligned, so nothing is packed:
 * packed structs are read byte by byte.
 */
#ifndef ISAT_PACKET_H
#define ISAT_PACKET_H

#include <stdbool.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

/* These are linux/if_arp.h's, which includes headers of glibc that do not compile for BPF. */
#define ARPHRD_ETHER 1
#define ARPHRD_IEEE802 6
#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2

#define VLAN_VID_MASK 0x0fff /* linux/if_vlan.h, which is not for user space */
#define VLAN_HLEN 4

/* RFC 826, for Ethernet and IPv4 */
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

/* A MAC as a number, its first byte the lowest. */
static __always_inline __u64 mac_word(const __u8 mac[6])
{
	const __u16 *x = (const __u16 *)mac;

	return x[0] | (__u64)x[1] << 16 | (__u64)x[2] << 32;
}

static __always_inline bool is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

/* Linux takes hardware type 6 for Ethernet too (arp_process()), so what is said with it has to be guarded as well. */
static __always_inline bool is_ethernet_ipv4(const struct arp *arp)
{
	return (arp->hardware_type == bpf_htons(ARPHRD_ETHER) || arp->hardware_type == bpf_htons(ARPHRD_IEEE802)) &&
	       arp->protocol_type == bpf_htons(ETH_P_IP) && arp->hardware_length == 6 && arp->protocol_length == 4;
}

/*
 * Adds `bytes` to a pointer, by powers of two: without CAP_PERFMON the verifier lets a packet pointer move by constants
 * only. The barrier stops clang from merging the additions into one, by a variable.
 */
static __always_inline void *advance(void *at, __u32 bytes, __u32 largest_step, __u32 smallest_step)
{
	__u32 step;

#pragma unroll
	for (step = largest_step; step >= smallest_step; step /= 2)
		if (bytes & step) {
			at += step;
			barrier_var(at);
		}
	return at;
}

/* True if a frame with its (outer) tag in place carries ARP. */
static __always_inline bool is_tagged_arp(const void *data, const void *end)
{
	const __be16 *inner = data + ETH_HLEN + 2;

	return (const void *)(inner + 1) <= end && *inner == bpf_htons(ETH_P_ARP);
}

/*
 * A priority tag (VID 0) names no VLAN: the stack strips it, and some NICs put one into every frame. So a frame behind
 * one is untagged. True if a tag, read as it stands in the frame, is one.
 */
static __always_inline bool is_priority(__be16 tci)
{
	return !(tci & bpf_htons(VLAN_VID_MASK));
}

/* True if a second priority tag is there, at `tag`. The stack strips any number of them; nobody needs two. */
static __always_inline bool is_second_priority(__be16 type, const __be16 *tag, const void *end)
{
	return is_vlan(type) && (const void *)(tag + 1) <= end && is_priority(*tag);
}

#endif
