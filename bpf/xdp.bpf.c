// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Ingress at XDP: before the kernel makes an skb. Blind to tags that the NIC strips. */
#include "decide.h"

/*
 * Cuts the frame down to FRAME_MIN bytes, the excess by powers of two: without CAP_PERFMON the verifier refuses
 * `end - data`, and bpf_xdp_get_buff_len() came with Linux 5.18. What has to be cut is rare.
 */
static __always_inline int trim(struct xdp_md *ctx)
{
	int step;

#pragma unroll
	for (step = 8192; step > 0; step /= 2) {
		void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

		if (data + FRAME_MIN + step <= end && bpf_xdp_adjust_tail(ctx, -step))
			return -1;
	}
	return 0;
}

SEC("xdp")
int isat_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 ifindex = ctx->ingress_ifindex;
	struct frame *frame = data;
	struct ethhdr *eth = data;
	__u8 answer[ANSWER_ROOM] __attribute__((aligned(8)));
	enum verdict verdict;
	int i;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_ARP)) {
		if (is_vlan(eth->h_proto) && tagged_arp(data, end))
			count(ifindex, TAGGED);
		return XDP_PASS;
	}

	if ((void *)(frame + 1) > end)
		verdict = NOT_REQUEST;
	else
		verdict = decide(frame, ifindex, answer);

	if (verdict == ANSWERED) {
		if (trim(ctx))
			return XDP_DROP;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		frame = data;
		if ((void *)(frame + 1) > end)
			return XDP_DROP;
		__builtin_memcpy(frame, answer, sizeof(*frame));
#pragma unroll
		for (i = sizeof(*frame); i < FRAME_MIN; i++) {
			if (data + i + 1 > end)
				break;
			*(__u8 *)(data + i) = 0;
		}
	}

	count(ifindex, verdict);
	if (verdict == ANSWERED)
		return XDP_TX;
	return is_drop(verdict) ? XDP_DROP : XDP_PASS;
}

/*
 * Sends back whatever it is run on. Run on a frame of the control plane's own
 * (BPF_F_TEST_XDP_LIVE_FRAMES) it shows whether this NIC really transmits what
 * XDP gives it: a veth whose peer has no XDP program attaches and stays mute.
 */
SEC("xdp")
int isat_xdp_probe(struct xdp_md *ctx)
{
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
