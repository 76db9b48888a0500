// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Egress at TC: the other direction of the promise. A kernel with the VIP on `lo`
 * asks "who-has client tell VIP" with this node's MAC, and the client's neighbour
 * entry moves here. So ARP that names a managed VIP as its sender leaves only if
 * the VIP is owned here and the MAC is ours.
 */
#include "decide.h"
#include "mark.h"

#define NEXT (-1)
#define DROP 2

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

	/* The bytes, not skb->protocol: a packet socket may name a protocol of its own. */
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end || eth->h_proto != bpf_htons(ETH_P_ARP) ||
	    skb->vlan_present || is_marked(skb))
		return NEXT;

	if (skb->data + sizeof(*frame) > skb->data_end)
		bpf_skb_pull_data(skb, sizeof(*frame));
	frame = (void *)(long)skb->data;
	if ((void *)(frame + 1) > (void *)(long)skb->data_end || !is_ethernet_ipv4(&frame->arp))
		return NEXT;

	__builtin_memcpy(key.ip, frame->arp.spa, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!vip || !interface)
		return NEXT;
	now = bpf_ktime_get_boot_ns();
	age = since(interface->tick_ns, now);
	if (is_gone(interface, ifindex, age, now))
		return NEXT;

	answered = bpf_map_lookup_elem(&answers, &key);
	if (is_answered(vip, answered, now) && age <= interface->fence_ns &&
	    same_mac(frame->arp.sha, interface->mac) && same_mac(frame->eth.h_source, interface->mac)) {
		count_on(ifindex, EGRESS_CLAIMED);
		return NEXT;
	}
	/* A request that only wants to know something asks on, under the interface's own address. */
	if (frame->arp.op == bpf_htons(ARP_REQUEST) && !same_ip(frame->arp.spa, frame->arp.tpa)) {
		if (bpf_skb_store_bytes(skb, __builtin_offsetof(struct frame, arp.spa), interface->address, 4, 0))
			return DROP;
		count_on(ifindex, EGRESS_REWRITTEN);
		return NEXT;
	}
	count_on(ifindex, EGRESS_DROPPED);
	return DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
