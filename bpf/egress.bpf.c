// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The egress filter, at TC. A kernel with the VIP on `lo` asks "who-has client tell VIP" with this node's MAC, and the
 * client's neighbour entry moves here. So ARP that names a managed VIP as its sender leaves only if the VIP is owned
 * here and the MAC is ours.
 */
#include "arp.h"
#include "ctx_skb.h"

/* The most tags that are looked behind. */
#define TAGS 2

/*
 * Finds ARP, behind a priority tag too: such a tag names no VLAN, and hosts strip it. The frame's bytes decide, not
 * skb->protocol: a packet socket may name a protocol of its own.
 * Returns where the ARP is; 0 where there is none; -1 for more than one priority tag, which nobody needs.
 */
static __always_inline int find_arp(struct __sk_buff *skb)
{
	int at = ETH_HLEN, tags = !!skb->vlan_present, i;
	struct ethhdr *eth = ctx_data(skb);
	__be16 tag[2], type;

	if ((void *)(eth + 1) > ctx_end(skb) || (skb->vlan_present && ctx_vlan_id(skb)))
		return 0;
	type = eth->h_proto;
#pragma unroll
	for (i = 0; i < TAGS && is_vlan(type); i++) {
		if (bpf_skb_load_bytes(skb, at, tag, sizeof(tag)) || !is_priority(tag[0]))
			return 0;
		type = tag[1];
		at += VLAN_HLEN;
		tags++;
	}
	if (tags > 1)
		return -1;
	return type == bpf_htons(ETH_P_ARP) ? at : 0;
}

/*
 * True if the claim is ours to make, or that of another speaker of this node while isat starts beside it: until it is known
 * who owns the VIP, what that one says leaves. It writes its ARP through a socket; the kernel's own ARP has none.
 */
static __always_inline bool is_ours(struct __sk_buff *skb, const struct arp *arp, const __u8 source[6],
				    const struct vip *vip, const struct vip_key *key,
				    const struct interface *interface, __u64 now)
{
	struct answers *answered = bpf_map_lookup_elem(&answers, key);
	bool is_another = is_open(vip, answered) && skb->sk;

	return (is_another || is_answered(vip, answered, now)) &&
	       is_of(vip, *(const __u32 *)key->ip, key->ifindex) &&
	       !is_fenced(interface, since(interface->tick_ns, now)) && same_mac(arp->sha, interface->mac) &&
	       same_mac(source, interface->mac);
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
static __always_inline int guard(struct __sk_buff *skb, int at, const struct interface *interface, __u32 place,
				 __u64 now)
{
	struct vip_key key = { .ifindex = skb->ifindex };
	__u8 source[6] __attribute__((aligned(8)));
	struct vip *vip;
	struct arp arp;
	__u32 own;

	if (at < 0)
		goto drop;
	if (bpf_skb_load_bytes(skb, at, &arp, sizeof(arp)) || !is_ethernet_ipv4(&arp) ||
	    bpf_skb_load_bytes(skb, ETH_ALEN, source, sizeof(source)))
		return CTX_PASS;
	__builtin_memcpy(key.ip, arp.spa, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	if (!vip)
		return CTX_PASS;
	if (is_ours(skb, &arp, source, vip, &key, interface, now)) {
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
drop:
	count_at(place, VERDICT_EGRESS_DROPPED);
	return CTX_DROP;
}

SEC("tc")
int isat_egress(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, place;
	struct interface *interface;
	int at = find_arp(skb);
	__u64 now;

	if (at == 0 || is_marked(skb))
		return CTX_PASS;
	interface = find_interface(ifindex, &place);
	if (!interface)
		return CTX_PASS;
	now = bpf_ktime_get_boot_ns();
	if (is_gone(interface, since(interface->tick_ns, now), now))
		return CTX_PASS;
	return guard(skb, at, interface, place, now);
}

char _license[] SEC("license") = "Dual BSD/GPL";
