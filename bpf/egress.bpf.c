// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The egress filter, at TC. A kernel with the VIP on `lo` asks "who-has client tell VIP" with this node's MAC, and the
 * client's neighbour entry moves here. So ARP that names a managed VIP as its sender leaves only if the VIP is owned
 * here and the MAC is ours. The same goes for Neighbour Discovery: a Solicitation from a VIP, and an Advertisement of one.
 */
#include "ctx_skb.h"
#include "arp.h"
#include "nd.h"

/* The most tags that are looked behind. */
#define TAGS 2

/* The part of a frame that the filter looks at. */
enum speech {
	SPEECH_NONE,
	SPEECH_ARP,
	SPEECH_ND,
	SPEECH_HIDDEN, /* behind more than one priority tag, which nobody needs */
};

/*
 * Finds ARP and Neighbour Discovery, behind a priority tag too: such a tag names no VLAN, and hosts strip it. The frame's
 * bytes decide, not skb->protocol: a packet socket may name a protocol of its own. `place` becomes where it stands.
 */
static __always_inline enum speech find_speech(struct __sk_buff *skb, __u32 *place)
{
	int at = ETH_HLEN, tags = !!skb->vlan_present, i;
	struct ethhdr *eth = ctx_data(skb);
	__be16 tag[2], type;
	__u8 kind;

	if ((void *)(eth + 1) > ctx_end(skb) || (skb->vlan_present && ctx_vlan_id(skb)))
		return SPEECH_NONE;
	type = eth->h_proto;
#pragma unroll
	for (i = 0; i < TAGS && is_vlan(type); i++) {
		if (bpf_skb_load_bytes(skb, at, tag, sizeof(tag)) || !is_priority(tag[0]))
			return SPEECH_NONE;
		type = tag[1];
		at += VLAN_HLEN;
		tags++;
	}
	if (tags > 1)
		return SPEECH_HIDDEN;
	*place = at;
	if (type == bpf_htons(ETH_P_ARP))
		return SPEECH_ARP;
	if (type != bpf_htons(ETH_P_IPV6))
		return SPEECH_NONE;
	kind = at == ETH_HLEN ? icmpv6_type(skb, ETH_HLEN) : icmpv6_type(skb, ETH_HLEN + VLAN_HLEN);
	return kind == ND_SOLICITATION || kind == ND_ADVERTISEMENT ? SPEECH_ND : SPEECH_NONE;
}

/*
 * True if the claim of a VIP is ours to make, or that of another speaker of this node while isat starts beside it: until it
 * is known who owns the VIP, what that one says leaves. It speaks through a socket; the kernel's own ARP has none.
 */
static __always_inline bool may_claim(struct __sk_buff *skb, const struct vip *vip, __u64 check,
				      const struct interface *interface, __u64 now)
{
	bool is_another = is_open(vip) && skb->sk;

	return (is_another || is_answered(vip, now)) && is_of(vip, check) &&
	       !is_fenced(interface, since(interface->tick_ns, now));
}

/*
 * The interface's own address in the target's subnet: some hosts ignore a question from another one. Its first address
 * where the target lies in none.
 */
static __always_inline __u32 own_address(const struct interface *interface, const __u8 target[4])
{
	const __u32 *own = (const __u32 *)interface->own, *masks = (const __u32 *)interface->masks;
	__u32 ip, i;

	__builtin_memcpy(&ip, target, 4);
#pragma unroll
	for (i = 0; i < ISAT_MAX_SUBNETS; i++)
		if (masks[i] && !((own[i] ^ ip) & masks[i]))
			return own[i];
	__builtin_memcpy(&ip, interface->address, 4);
	return ip;
}

/* Decides on a frame of an interface where isat announces, and is not gone. */
static __always_inline int guard(struct __sk_buff *skb, __u32 at, const struct interface *interface, __u32 place,
				 __u64 now)
{
	struct vip_key key = { .ifindex = skb->ifindex };
	__u8 source[6] __attribute__((aligned(8)));
	struct vip *vip;
	struct arp arp;
	__u32 own;

	if (bpf_skb_load_bytes(skb, at, &arp, sizeof(arp)) || !is_ethernet_ipv4(&arp) ||
	    bpf_skb_load_bytes(skb, ETH_ALEN, source, sizeof(source)))
		return CTX_PASS;
	__builtin_memcpy(key.ip, arp.spa, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	if (!vip)
		return CTX_PASS;
	if (may_claim(skb, vip, check_of(*(const __u32 *)key.ip, key.ifindex), interface, now) &&
	    same_mac(arp.sha, interface->mac) && same_mac(source, interface->mac)) {
		count_at(place, VERDICT_EGRESS_CLAIMED);
		return CTX_PASS;
	}
	own = own_address(interface, arp.tpa);
	/* A request for another address goes on, under the interface's own address. */
	if (arp.op == bpf_htons(ARPOP_REQUEST) && !same_ip(arp.spa, arp.tpa) && is_on(interface, skb->ifindex)) {
		if (bpf_skb_store_bytes(skb, at + __builtin_offsetof(struct arp, spa), &own, 4, 0))
			return CTX_DROP;
		count_at(place, VERDICT_EGRESS_REWRITTEN);
		return CTX_PASS;
	}
	count_at(place, VERDICT_EGRESS_DROPPED);
	return CTX_DROP;
}

/* Offsets behind the IPv6 header's beginning. */
#define ND_SOURCE 8
#define ND_CHECKSUM 42
#define ND_OPTIONS 64

_Static_assert(sizeof(struct nd) == __builtin_offsetof(struct nd, version) + ND_OPTIONS, "the options come last");

/*
 * Puts the interface's link-local address, which each host of the network can answer, into a Solicitation, and what that
 * changes into the checksum (RFC 1624).
 */
static __always_inline int ask_as_ourselves(struct __sk_buff *skb, __u32 at, const struct nd *nd, const __u32 own[4])
{
	__u64 sum = (__u16)~nd->checksum;
	__u16 checksum;

	sum += (__u64)(__u32)~nd->source[0] + (__u32)~nd->source[1] + (__u32)~nd->source[2] + (__u32)~nd->source[3];
	checksum = ~fold(sum + sum_of(own));
	return bpf_skb_store_bytes(skb, at + ND_SOURCE, own, 16, 0) ||
	       bpf_skb_store_bytes(skb, at + ND_CHECKSUM, &checksum, 2, 0);
}

/*
 * This decides on Neighbour Discovery at `at` as guard() does on ARP. An option with a MAC has to name ours. A global
 * function is verified once, and ARP pays no stack for it.
 */
__weak __noinline int guard_nd(struct __sk_buff *skb, __u32 at, __u32 place, __u64 now)
{
	struct vip6_key key = { .ifindex = skb->ifindex };
	const struct interface *interface;
	struct nd_message message = {};
	const struct nd *nd = &message.nd;
	__u32 own[4], i;
	__u64 mac = NO_MAC;
	bool is_question, is_read;
	struct vip *vip;

	interface = bpf_map_lookup_elem(&interfaces, &place);
	asm volatile("" : : "r"(&message) : "memory"); /* as in decide_nd() */
	if (!interface || bpf_skb_load_bytes(skb, 0, message.nd.to, 12) ||
	    bpf_skb_load_bytes(skb, at, &message.nd.version, ND_OPTIONS))
		return CTX_PASS;
	is_question = nd->type == ND_SOLICITATION;
#pragma unroll
	for (i = 0; i < 4; i++) {
		__u32 source = nd->source[i], target = nd->target[i];

		/* Else clang selects the address, not the value. */
		barrier_var(source);
		barrier_var(target);
		own[i] = is_question ? source : target;
	}
	__builtin_memcpy(key.ip, own, 16);
	vip = bpf_map_lookup_elem(&vips6, &key);
	if (!vip)
		return CTX_PASS;
	is_read = read_options(skb, at + ND_OPTIONS, &message, is_question ? ND_SOURCE_MAC : ND_TARGET_MAC, &mac);
	if (is_read && (mac == NO_MAC || mac == mac_word(interface->mac)) && same_mac(nd->from, interface->mac) &&
	    may_claim(skb, vip, check6_of(two_words(own), two_words(own + 2), key.ifindex), interface, now)) {
		count_at(place, VERDICT_EGRESS_CLAIMED);
		return CTX_PASS;
	}
	__builtin_memcpy(own, interface->link_local, 16);
	if (is_question && !is_unspecified(own) && is_on(interface, skb->ifindex)) {
		if (ask_as_ourselves(skb, at, nd, own))
			return CTX_DROP;
		count_at(place, VERDICT_EGRESS_REWRITTEN);
		return CTX_PASS;
	}
	count_at(place, VERDICT_EGRESS_DROPPED);
	return CTX_DROP;
}

SEC("tc")
int isat_egress(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, place, at = 0;
	enum speech speech = find_speech(skb, &at);
	struct interface *interface;
	__u64 now;

	if (speech == SPEECH_NONE || is_marked(skb))
		return CTX_PASS;
	interface = find_interface(ifindex, &place);
	if (!interface)
		return CTX_PASS;
	now = bpf_ktime_get_boot_ns();
	if (is_gone(interface, since(interface->tick_ns, now), now))
		return CTX_PASS;
	if (speech == SPEECH_ARP)
		return guard(skb, at, interface, place, now);
	if (speech == SPEECH_ND)
		return guard_nd(skb, at, place, now);
	count_at(place, VERDICT_EGRESS_DROPPED);
	return CTX_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
