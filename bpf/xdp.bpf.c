// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Ingress at XDP: before the kernel makes an skb. Blind to tags that the NIC strips. */
#include "speak.h"

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

__weak __noinline __u64 hash_xdp(struct xdp_md *ctx, __u64 k0, __u64 k1, __u32 count)
{
	return siphash((void *)(long)ctx->data, (void *)(long)ctx->data_end, k0, k1, count);
}

/* Decides a claim's VIPs, and writes the verdicts beside them. */
__weak __noinline int decide_claims_xdp(struct xdp_md *ctx, __u32 count, __u64 now, __u32 stance)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct wire_claim *claim = data + sizeof(struct wire);
	__u32 ifindex = ctx->ingress_ifindex, i, ip;

#pragma unroll
	for (i = 0; i < WIRE_MAX_CLAIMS; i++) {
		if (i >= count) {
			barrier(); /* as in siphash() */
			break;
		}
		if ((void *)(claim + 1) > end)
			return -1;
		__builtin_memcpy(&ip, claim->ip, 4);
		claim->verdict = claim_one(ip, ifindex, claim->hash, now, keeps_of(stance, claim->verdict));
		claim++;
	}
	return 0;
}

/* The tag, if it is that of a key of ours, else 0. */
static __always_inline __u64 authentic_tag_xdp(struct xdp_md *ctx, const struct wire_key *first)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct wire *frame = data;
	const struct wire_key *key;
	__u64 tag = 0; /* for where the verifier speculates that it was read */

	if ((void *)(frame + 1) > end || !read_tag(frame, end, &tag))
		return 0;
	key = key_of(frame->key_id, first);
	if (!key)
		return 0;
	if (frame->count == 0)
		return siphash(data, end, key->k0, key->k1, 0) == tag ? tag : 0;
	return hash_xdp(ctx, key->k0, key->k1, frame->count) == tag ? tag : 0;
}

__weak __noinline int write_tag_xdp(struct xdp_md *ctx, __u32 count, __u64 tag)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *at = behind_claims(data + sizeof(struct wire), count);

	if (at + WIRE_TAG > end)
		return -1;
	*(__u64 *)at = tag;
	return 0;
}

/* Turns a probe or a claim round, with what this node says to it. */
__weak __noinline int turn_xdp(struct xdp_md *ctx, __u64 now)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct wire_key *key = signing_key();
	struct wire *frame = data, answer;
	__u32 ifindex = ctx->ingress_ifindex;
	struct interface *interface;

	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if ((void *)(frame + 1) > end || !interface || !key)
		return -1;
	introduce(&answer, frame, interface, frame->type == WIRE_PROBE ? WIRE_ECHO : WIRE_REPLY, now);
	answer.key_id = key->id;
	if (is_known(frame, ifindex))
		answer.flags |= WIRE_KNOWN;
	if (answer.count > 0 && decide_claims_xdp(ctx, answer.count, now, stance_of(interface, now)))
		return -1;
	*frame = answer;
	return write_tag_xdp(ctx, answer.count, hash_xdp(ctx, key->k0, key->k1, answer.count));
}

/* A frame of the wire protocol. The parts are global functions: each is verified once, and other frames pay no stack. */
__weak __noinline int speak_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct wire_key *first = signing_key();
	__u32 ifindex = ctx->ingress_ifindex;
	struct verdicts *counters;
	struct interface *interface;
	struct wire *frame = data;
	word verdict, action = STOP;
	__u64 now, tag = 0;

	if (!first)
		return XDP_PASS;
	counters = bpf_map_lookup_elem(&verdicts, &ifindex);
	if (!counters)
		return XDP_PASS;

	if ((void *)(frame + 1) <= end && is_plausible(frame))
		tag = authentic_tag_xdp(ctx, first);
	if (tag == 0) {
		count(counters, WIRE_REFUSED);
		return XDP_DROP;
	}
	if (is_recorded(frame, counters) || is_repeated(tag, ifindex)) {
		count(counters, WIRE_STALE);
		return XDP_DROP;
	}

	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!interface)
		return XDP_PASS;
	if (!is_for(interface, frame)) {
		count(counters, WIRE_REFUSED);
		return XDP_DROP;
	}
	now = bpf_ktime_get_boot_ns();
	verdict = hear(frame, interface, ifindex, counters, now, &action);
	if (action == TURN && turn_xdp(ctx, now))
		return XDP_DROP;
	count(counters, verdict);
	if (action == TURN)
		return XDP_TX;
	return action == STOP ? XDP_DROP : XDP_PASS;
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
		if (eth->h_proto == bpf_htons(ETH_P_ISAT))
			return speak_xdp(ctx);
		if (!is_vlan(eth->h_proto))
			return XDP_PASS;
		if (tagged_arp(data, end))
			count_on(ifindex, TAGGED);
		if (!tagged_speech(data, end) || !signing_key())
			return XDP_PASS;
		count_on(ifindex, WIRE_REFUSED);
		return XDP_DROP;
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

	count_on(ifindex, verdict);
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
