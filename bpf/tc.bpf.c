// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Ingress at TC: tcx (Linux >= 6.6) and clsact run the same program. */
#include "decide.h"

/* TCX_NEXT, and for clsact TC_ACT_UNSPEC: the next program decides. Debian's linux/bpf.h lacks the name. */
#define NEXT (-1)
#define DROP 2

SEC("tc")
int isat_ingress(struct __sk_buff *skb)
{
	__be16 protocol = skb->protocol;
	__u32 ifindex = skb->ifindex;
	__u8 answer[ANSWER_ROOM] __attribute__((aligned(8)));
	struct frame *frame;
	enum verdict verdict;

	if (protocol != bpf_htons(ETH_P_ARP)) {
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
	}

	count(ifindex, verdict);
	if (verdict == ANSWERED)
		return bpf_redirect(ifindex, 0);
	return is_drop(verdict) ? DROP : NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
