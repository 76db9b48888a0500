/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* An ARP frame that comes in: the verdict table of docs/verdicts.md, rows 3 to 10, and the answer. */
#ifndef ISAT_ARP_H
#define ISAT_ARP_H

#include "decide.h"
#include "packet.h"

/* The ETH_ZLEN bytes of an answer, in whole slots of the stack. */
#define ANSWER_ROOM 64

/*
 * Turns the request round into `answer`, ETH_ZLEN bytes: Ethernet source and SHA are ours; Ethernet destination and THA
 * are the asker's SHA (Dynamic ARP Inspection drops a reply whose THA differs from its destination); zeroes follow.
 */
static __always_inline void turn_round(void *answer, const struct frame *request, const struct interface *interface)
{
	struct frame *out = answer;

	/*
	 * Whole slots of the stack are cleared first: the compiler may have kept a pointer in one, and without
	 * CAP_PERFMON the verifier refuses to overwrite a part of it.
	 */
	__builtin_memset(answer, 0, ANSWER_ROOM);
	asm volatile("" : : "r"(answer) : "memory");
	__builtin_memcpy(out->eth.h_dest, request->arp.sha, 6);
	__builtin_memcpy(out->eth.h_source, interface->mac, 6);
	out->eth.h_proto = bpf_htons(ETH_P_ARP);
	out->arp.hardware_type = bpf_htons(ARPHRD_ETHER);
	out->arp.protocol_type = bpf_htons(ETH_P_IP);
	out->arp.hardware_length = 6;
	out->arp.protocol_length = 4;
	out->arp.op = bpf_htons(ARPOP_REPLY);
	__builtin_memcpy(out->arp.sha, interface->mac, 6);
	__builtin_memcpy(out->arp.spa, request->arp.tpa, 4);
	__builtin_memcpy(out->arp.tha, request->arp.sha, 6);
	__builtin_memcpy(out->arp.tpa, request->arp.spa, 4);
#ifdef ISAT_BENCH
	/* The bench build makes as many copies, but a request again: BPF_PROG_TEST_RUN repeats on the last run's bytes. */
	__builtin_memcpy(out->eth.h_dest, interface->mac, 6);
	__builtin_memcpy(out->eth.h_source, request->arp.sha, 6);
	out->arp.op = bpf_htons(ARPOP_REQUEST);
	__builtin_memcpy(out->arp.sha, request->arp.sha, 6);
	__builtin_memcpy(out->arp.spa, request->arp.spa, 4);
	__builtin_memcpy(out->arp.tha, interface->mac, 6);
	__builtin_memcpy(out->arp.tpa, request->arp.tpa, 4);
#endif
}

/* Decides rows 3 to 10. For an answered request it writes the answer (ETH_ZLEN bytes) and counts it for the VIP. */
static __always_inline struct result decide(const struct frame *frame, __u32 ifindex, const struct interface *interface,
					    struct verdicts *counters, void *answer)
{
	const struct arp *arp = &frame->arp;
	struct vip_key key = { .ifindex = ifindex };
	struct result result;
	struct vip *vip;
	__u64 now;

	if (!is_ethernet_ipv4(arp) || arp->op != bpf_htons(ARPOP_REQUEST))
		return pass(VERDICT_NOT_REQUEST);

	__builtin_memcpy(key.ip, arp->tpa, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	if (!vip)
		return pass(VERDICT_NOT_MANAGED);
	if (same_ip(arp->spa, arp->tpa))
		return pass(VERDICT_ANNOUNCEMENT);
	if (!is_broadcast(frame->eth.h_dest) && !same_mac(frame->eth.h_dest, interface->mac))
		return pass(VERDICT_NOT_FOR_US);

	now = read_clock(counters);
	result = judge(interface, vip, is_bad_sender(mac_word(arp->sha), interface), now, FAMILY_ARP);
	if (result.action != ACT_REPLY)
		return result;
	turn_round(answer, frame, interface);
	result = confirm(interface, vip, check_of(*(const __u32 *)key.ip, ifindex), ifindex, now, FAMILY_ARP);
	if (result.action != ACT_REPLY)
		return result;
	if (!same_mac(frame->eth.h_source, arp->sha))
		add_one(&counters->answered_other_source);
	return result;
}

#endif
