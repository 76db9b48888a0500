// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Ingress at TC: tcx (Linux >= 6.6) and clsact run the same program. */
#include "mark.h"
#include "speak.h"

/* TCX_NEXT, and for clsact TC_ACT_UNSPEC: the next program decides. Debian's linux/bpf.h lacks the name. */
#define NEXT (-1)
#define DROP 2

__weak __noinline __u64 hash_tc(struct __sk_buff *skb, __u64 k0, __u64 k1, __u32 count)
{
	return siphash((void *)(long)skb->data, (void *)(long)skb->data_end, k0, k1, count);
}

/* Decides a claim's VIPs, and writes the verdicts beside them. */
__weak __noinline int decide_claims_tc(struct __sk_buff *skb, __u32 count, __u64 now, __u32 stance)
{
	__u32 offset = sizeof(struct wire), ifindex = skb->ifindex, i, ip;
	struct wire_claim claim;

	for (i = 0; i < WIRE_MAX_CLAIMS && i < count; i++) {
		if (bpf_skb_load_bytes(skb, offset, &claim, sizeof(claim)))
			return -1;
		__builtin_memcpy(&ip, claim.ip, 4);
		claim.verdict = claim_one(ip, ifindex, claim.hash, now, keeps_of(stance, claim.verdict));
		if (bpf_skb_store_bytes(skb, offset, &claim, sizeof(claim), 0))
			return -1;
		offset += sizeof(claim);
	}
	return 0;
}

/* The tag, if it is that of a key of ours, else 0; the caller has pulled what there is of the frame. */
static __always_inline __u64 authentic_tag_tc(struct __sk_buff *skb, const struct wire_key *first)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
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
	return hash_tc(skb, key->k0, key->k1, frame->count) == tag ? tag : 0;
}

/* Turns a probe or a claim round, with what this node says to it. */
__weak __noinline int turn_tc(struct __sk_buff *skb, __u64 now)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct wire_key *key = signing_key();
	__u32 ifindex = skb->ifindex;
	struct wire *frame = data, answer;
	struct interface *interface;
	__u64 tag;

	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if ((void *)(frame + 1) > end || !interface || !key)
		return -1;
	introduce(&answer, frame, interface, frame->type == WIRE_PROBE ? WIRE_ECHO : WIRE_REPLY, now);
	answer.key_id = key->id;
	if (is_known(frame, ifindex))
		answer.flags |= WIRE_KNOWN;
	if (answer.count > 0 && decide_claims_tc(skb, answer.count, now, stance_of(interface, now)))
		return -1;
	if (bpf_skb_store_bytes(skb, 0, &answer, sizeof(answer), 0))
		return -1;
	tag = hash_tc(skb, key->k0, key->k1, answer.count);
	return bpf_skb_store_bytes(skb, sizeof(answer) + PAIR * answer.count, &tag, WIRE_TAG, 0);
}

/* A frame of the wire protocol. The parts are global functions: each is verified once, and other frames pay no stack. */
__weak __noinline int speak_tc(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, length = skb->len;
	const struct wire_key *first = signing_key();
	struct verdicts *counters;
	struct interface *interface;
	struct wire *frame;
	word verdict, action = STOP;
	__u64 now, tag = 0;

	if (!first)
		return NEXT;
	counters = bpf_map_lookup_elem(&verdicts, &ifindex);
	if (!counters)
		return NEXT;

	/* Some drivers leave all but the Ethernet header out of reach. */
	if (length > WIRE_LEAST && length <= WIRE_MOST)
		bpf_skb_pull_data(skb, length);
	else if (skb->data + WIRE_LEAST > skb->data_end)
		bpf_skb_pull_data(skb, WIRE_LEAST);
	frame = (void *)(long)skb->data;
	if ((void *)(frame + 1) <= (void *)(long)skb->data_end && length <= WIRE_MOST && is_plausible(frame))
		tag = authentic_tag_tc(skb, first);
	if (tag == 0) {
		count(counters, WIRE_REFUSED);
		return DROP;
	}
	if (is_recorded(frame, counters) || is_repeated(tag, ifindex)) {
		count(counters, WIRE_STALE);
		return DROP;
	}

	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!interface)
		return NEXT;
	if (!is_for(interface, frame)) {
		count(counters, WIRE_REFUSED);
		return DROP;
	}
	now = bpf_ktime_get_boot_ns();
	verdict = hear(frame, interface, ifindex, counters, now, &action);
	if (action == TURN && turn_tc(skb, now))
		return DROP;
	count(counters, verdict);
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
		void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

		/* The stack has taken the first tag off already, and put it by. */
		if ((skb->vlan_present ? !(skb->vlan_tci & VID) && hides_speech(protocol, data + 14, end)
				       : is_vlan(protocol) && tagged_speech(data, end)) &&
		    signing_key()) {
			count_on(ifindex, WIRE_REFUSED);
			return DROP;
		}
		if (protocol == bpf_htons(ETH_P_ISAT))
			return skb->vlan_present ? NEXT : speak_tc(skb);
		if (is_vlan(protocol) && tagged_arp(data, end))
			count_on(ifindex, TAGGED);
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

	count_on(ifindex, verdict);
	if (verdict == ANSWERED)
		return bpf_redirect(ifindex, 0);
	return is_drop(verdict) ? DROP : NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
