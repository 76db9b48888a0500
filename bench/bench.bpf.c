/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The benchmarks' own programs: they pass, drop, answer, hash, or count the answers that come. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "../bpf/siphash.h"

/* Offsets in the frame. */
#define ARP_OP 20
#define ICMP6_TYPE 54
#define ARP_FRAME 42
#define ND_ADVERTISEMENT 136

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} replies SEC(".maps");

/* True for an ARP reply, and for a Neighbour Advertisement. */
static __always_inline bool is_reply(const void *data, const void *end)
{
	if (data + ICMP6_TYPE < end && *(__be16 *)(data + 12) == bpf_htons(ETH_P_IPV6))
		return *(__u8 *)(data + ICMP6_TYPE) == ND_ADVERTISEMENT;
	return data + ARP_FRAME <= end && *(__be16 *)(data + 12) == bpf_htons(ETH_P_ARP) &&
	       *(__be16 *)(data + ARP_OP) == bpf_htons(2);
}

static __always_inline void count_reply(const void *data, const void *end)
{
	__u32 key = 0;
	__u64 *count;

	if (!is_reply(data, end))
		return;
	count = bpf_map_lookup_elem(&replies, &key);
	if (count)
		*count += 1;
}

SEC("tc")
int bench_pass(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("tc")
int bench_drop(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

/*
 * Counts answers, and keeps all ARP and IPv6 from the client's own kernel, whose work is not a part of an answer's cost.
 */
SEC("tc")
int bench_sink(struct __sk_buff *skb)
{
	if (skb->protocol != bpf_htons(ETH_P_ARP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	if (skb->data + ICMP6_TYPE >= skb->data_end)
		bpf_skb_pull_data(skb, 0); /* all that is there */
	count_reply((void *)(long)skb->data, (void *)(long)skb->data_end);
	return TC_ACT_SHOT;
}

/*
 * Answers every request with the node's MAC and does nothing else: no map, no clock, no check. Its cost is that of a
 * frame's way back; no program at this hook can do better.
 */
SEC("tc")
int bench_answer(struct __sk_buff *skb)
{
	__u8 request[ARP_FRAME] __attribute__((aligned(8))), answer[ARP_FRAME] __attribute__((aligned(8)));
	const __u8 node[6] = { 2, 0, 0, 0, 1, 1 }; /* NODE_MAC of addresses.ts */

	if (skb->protocol != bpf_htons(ETH_P_ARP) || bpf_skb_load_bytes(skb, 0, request, ARP_FRAME) ||
	    request[ARP_OP + 1] != 1)
		return TC_ACT_UNSPEC;
	__builtin_memcpy(answer, request, ARP_FRAME);
	__builtin_memcpy(answer, request + 22, 6);
	__builtin_memcpy(answer + 6, node, 6);
	answer[ARP_OP + 1] = 2;
	__builtin_memcpy(answer + 22, node, 6);
	__builtin_memcpy(answer + 28, request + 38, 4);
	__builtin_memcpy(answer + 32, request + 22, 6);
	__builtin_memcpy(answer + 38, request + 28, 4);
	if (bpf_skb_store_bytes(skb, 0, answer, ARP_FRAME, 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* Computes the tag of a frame without claims, and nothing else: the least cost of verifying one. */
SEC("tc")
int bench_tag(struct __sk_buff *skb)
{
	const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	return siphash(data, end, 1, 2, 0) == 0 ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("xdp")
int bench_xdp_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* Counts like bench_sink, but before an skb is made: for answers that come as XDP sent them. */
SEC("xdp")
int bench_xdp_sink(struct xdp_md *ctx)
{
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 14 > end || (*(__be16 *)(data + 12) != bpf_htons(ETH_P_ARP) &&
				*(__be16 *)(data + 12) != bpf_htons(ETH_P_IPV6)))
		return XDP_PASS;
	count_reply(data, end);
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
