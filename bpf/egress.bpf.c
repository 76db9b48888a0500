// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The egress filter, at TC. A kernel with the VIP on `lo` asks "who-has client tell VIP" with this node's MAC, and the
 * client's neighbour entry moves here. So ARP that names a managed VIP as its sender leaves only if the VIP is owned
 * here and the MAC is ours.
 */
#include "arp.h"
#include "ctx_skb.h"

SEC("tc")
int isat_egress(struct __sk_buff *skb)
{
	struct vip_key key = { .ifindex = skb->ifindex };
	__u32 ifindex = skb->ifindex;
	struct interface *interface;
	struct answers *answered;
	struct frame *frame;
	struct ethhdr *eth;
	struct vip *vip;
	__u64 now, age;

	/* The frame's bytes decide, not skb->protocol: a packet socket may name a protocol of its own. */
	eth = ctx_data(skb);
	if ((void *)(eth + 1) > ctx_end(skb) || eth->h_proto != bpf_htons(ETH_P_ARP) ||
	    skb->vlan_present || is_marked(skb))
		return CTX_PASS;

	ctx_pull(skb, sizeof(*frame));
	frame = ctx_data(skb);
	if ((void *)(frame + 1) > ctx_end(skb) || !is_ethernet_ipv4(&frame->arp))
		return CTX_PASS;

	__builtin_memcpy(key.ip, frame->arp.spa, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!vip || !interface)
		return CTX_PASS;
	now = bpf_ktime_get_boot_ns();
	age = since(interface->tick_ns, now);
	if (is_gone(interface, ifindex, age, now))
		return CTX_PASS;

	answered = bpf_map_lookup_elem(&answers, &key);
	if (is_answered(vip, answered, now) && !is_fenced(interface, age) &&
	    same_mac(frame->arp.sha, interface->mac) && same_mac(frame->eth.h_source, interface->mac)) {
		count_on(ifindex, VERDICT_EGRESS_CLAIMED);
		return CTX_PASS;
	}
	/* A request for another address goes on, under the interface's own address. */
	if (frame->arp.op == bpf_htons(ARPOP_REQUEST) && !same_ip(frame->arp.spa, frame->arp.tpa)) {
		if (bpf_skb_store_bytes(skb, __builtin_offsetof(struct frame, arp.spa), interface->address, 4, 0))
			return CTX_DROP;
		count_on(ifindex, VERDICT_EGRESS_REWRITTEN);
		return CTX_PASS;
	}
	count_on(ifindex, VERDICT_EGRESS_DROPPED);
	return CTX_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
