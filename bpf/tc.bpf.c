// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Ingress at TC: tcx (Linux >= 6.6) and clsact run the same program. */
#include "mark.h"
#include "speak.h"

/* TCX_NEXT, and for clsact TC_ACT_UNSPEC: the next program decides. Debian's linux/bpf.h lacks the name. */
#define NEXT (-1)
#define DROP 2

__weak __noinline __u64 hash_tc(struct __sk_buff *skb, __u64 k0, __u64 k1, __u32 pairs)
{
	return siphash((void *)(long)skb->data, (void *)(long)skb->data_end, k0, k1, pairs, MOST_PAIRS);
}

/* Decides a claim's VIPs, and writes the verdicts beside them. */
__weak __noinline int decide_claims_tc(struct __sk_buff *skb, __u32 count, __u64 now, __u32 defends)
{
	__u32 offset = sizeof(struct wire), ifindex = skb->ifindex, i, ip;
	struct wire_claim claim;

	for (i = 0; i < WIRE_MAX_CLAIMS && i < count; i++) {
		if (bpf_skb_load_bytes(skb, offset, &claim, sizeof(claim)))
			return -1;
		__builtin_memcpy(&ip, claim.ip, 4);
		claim.verdict = claim_one(ip, ifindex, claim.bid, now, defends);
		if (bpf_skb_store_bytes(skb, offset, &claim, sizeof(claim), 0))
			return -1;
		offset += sizeof(claim);
	}
	return 0;
}

/* A frame of the wire protocol. A global function, so that other frames do not pay for its stack. */
__weak __noinline int speak_tc(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, length = skb->len;
	const struct wire_key *key, *signing = signing_key();
	enum verdict verdict = WIRE_REFUSED;
	struct interface *interface;
	enum action action = STOP;
	struct wire *frame, answer;
	__u64 *tag, now, sum;
	void *data, *end;
	__u32 pairs;

	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!signing || !interface || skb->vlan_present)
		return NEXT;

	/* Some drivers leave all but the Ethernet header out of reach. */
	if (length > WIRE_LEAST && length <= WIRE_MOST)
		bpf_skb_pull_data(skb, length);
	else if (skb->data + WIRE_LEAST > skb->data_end)
		bpf_skb_pull_data(skb, WIRE_LEAST);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	frame = data;
	if ((void *)(frame + 1) > end || length > WIRE_MOST || !is_plausible(frame, interface))
		goto out;
	key = key_of(frame->key_id);
	tag = tag_behind((void *)(frame + 1), end, frame->count);
	if (!key || !tag)
		goto out;
	sum = *tag;
	pairs = pairs_of(frame);
	if (hash_tc(skb, key->k0, key->k1, pairs) != sum)
		goto out;

	now = bpf_ktime_get_boot_ns();
	verdict = hear(frame, interface, ifindex, now, &action);
	if (action == TURN) {
		answer_wire(&answer, frame, interface, signing, ifindex, now);
		if (frame->count > 0 && decide_claims_tc(skb, frame->count, now, is_defending(interface, now)))
			return DROP;
		if (bpf_skb_store_bytes(skb, 0, &answer, sizeof(answer), 0))
			return DROP;
		sum = hash_tc(skb, signing->k0, signing->k1, pairs);
		if (bpf_skb_store_bytes(skb, PAIR * pairs, &sum, WIRE_TAG, 0))
			return DROP;
	}
out:
	count(ifindex, verdict);
	if (action == TURN)
		return bpf_redirect(ifindex, 0);
	return action == STOP ? DROP : NEXT;
}

SEC("tc")
int isat_ingress(struct __sk_buff *skb)
{
	__be16 protocol = skb->protocol;
	__u32 ifindex = skb->ifindex;
	__u8 answer[ANSWER_ROOM] __attribute__((aligned(8)));
	struct frame *frame;
	enum verdict verdict;

	if (protocol != bpf_htons(ETH_P_ARP)) {
		if (protocol == bpf_htons(ETH_P_ISAT))
			return speak_tc(skb);
		if (is_vlan(protocol) && tagged_arp((void *)(long)skb->data, (void *)(long)skb->data_end))
			count(ifindex, TAGGED);
		return NEXT;
	}

	/* The headers of a non-linear skb are not in reach until they are pulled. */
	if (skb->data + sizeof(*frame) > skb->data_end)
		bpf_skb_pull_data(skb, sizeof(*frame));
	frame = (void *)(long)skb->data;

	if (skb->vlan_present)
		verdict = TAGGED;
	else if ((void *)(frame + 1) > (void *)(long)skb->data_end)
		verdict = NOT_REQUEST;
	else
		verdict = decide(frame, ifindex, answer);

	/*
	 * The answer goes in by a helper: a program that writes to the packet directly
	 * makes the kernel unclone every frame that a tcpdump shares, ARP or not.
	 */
	if (verdict == ANSWERED) {
		__u32 length = skb->len;

		if (length > FRAME_MIN) {
			if (bpf_skb_change_tail(skb, FRAME_MIN, 0))
				return DROP;
			length = FRAME_MIN;
		}
		if (length < sizeof(*frame) || bpf_skb_store_bytes(skb, 0, answer, length, 0))
			return DROP;
		mark(skb);
	}

	count(ifindex, verdict);
	if (verdict == ANSWERED)
		return bpf_redirect(ifindex, 0);
	return is_drop(verdict) ? DROP : NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
