/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One decision for both ingress hooks: the verdict table, rows 3 to 10, and the
 * answer. Nothing here knows whether it runs at TC or at XDP.
 */
#ifndef ISAT_DECIDE_H
#define ISAT_DECIDE_H

#include "maps.h"
#include "parse.h"

/* How long ago that was; a clock that was read a moment before `then`, on another CPU, reads no age. */
static __always_inline __u64 since(__u64 then, __u64 now)
{
	return now > then ? now - then : 0;
}

/*
 * Row 7, by the age of the tick. A tick of zero is no tick, however young the machine. A control plane that is dead while
 * its peers live has not gone for good: what its kernel holds back, they answer.
 */
static __always_inline bool is_gone(const struct interface *interface, __u32 ifindex, __u64 age, __u64 now)
{
	struct verdicts *counters;

	if (interface->tick_ns == 0)
		return true;
	if (age <= interface->gone_ns)
		return false;
	counters = bpf_map_lookup_elem(&verdicts, &ifindex);
	return !counters || counters->heard_ns == 0 || since(counters->heard_ns, now) > interface->gone_ns;
}

/* Whether the claim by which the entry stands here has not been given to a peer since. */
static __always_inline bool is_current(const struct vip *vip, const struct answers *answers)
{
	return vip->claim_ns > (answers ? answers->released_ns : 0);
}

/* Whether this node answers for the VIP, by its own record and by what its kernel has given away. */
static __always_inline bool is_answered(const struct vip *vip, const struct answers *answers, __u64 now)
{
	return is_current(vip, answers) &&
	       (vip->state == OWNED || (vip->state == LEAVING && now < vip->until_ns));
}

/* The end is for the compiler: of two additions it makes one, to a pointer that differs by path, which the verifier refuses. */
static __always_inline void add_one(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
	barrier();
}

/* Inlined, verdict by verdict: a call, or a second lookup, costs as much as all the comparisons. */
static __always_inline void count(struct verdicts *counters, enum verdict verdict)
{
	switch (verdict) {
#define COUNTED_AS(verdict, counter)                                                               \
	case verdict:                                                                              \
		add_one(&counters->counter);                                                       \
		break;
		COUNTED_AS(TAGGED, tagged)
		COUNTED_AS(NOT_REQUEST, not_request)
		COUNTED_AS(NOT_MANAGED, not_managed)
		COUNTED_AS(ANNOUNCEMENT, announcement)
		COUNTED_AS(NOT_FOR_US, not_for_us)
		COUNTED_AS(GONE, gone)
		COUNTED_AS(BAD_SENDER, bad_sender)
		COUNTED_AS(NOT_OWNED_HERE, not_owned)
		COUNTED_AS(FENCED, fenced)
		COUNTED_AS(ANSWERED, answered)
		COUNTED_AS(EGRESS_CLAIMED, egress_claimed)
		COUNTED_AS(EGRESS_REWRITTEN, egress_rewritten)
		COUNTED_AS(EGRESS_DROPPED, egress_dropped)
		COUNTED_AS(WIRE_ECHOED, wire_echoed)
		COUNTED_AS(WIRE_TAKEN, wire_taken)
		COUNTED_AS(WIRE_REFUSED, wire_refused)
		COUNTED_AS(WIRE_STALE, wire_stale)
		COUNTED_AS(WIRE_OWN, wire_own)
#undef COUNTED_AS
	case NOT_ARP:
		break;
	}
}

static __always_inline void count_on(__u32 ifindex, enum verdict verdict)
{
	struct verdicts *counters = bpf_map_lookup_elem(&verdicts, &ifindex);

	if (counters)
		count(counters, verdict);
}

/* An answer's FRAME_MIN bytes, in whole slots of the stack. */
#define ANSWER_ROOM 64

/*
 * Turns the request round into `answer`, FRAME_MIN bytes: Ethernet source and
 * SHA ours; Ethernet destination and THA the asker's SHA (DAI drops a reply
 * whose THA differs from its destination); zeroes behind.
 */
static __always_inline void turn_round(void *answer, const struct frame *request, const struct interface *interface)
{
	struct frame *out = answer;

	/*
	 * In whole slots of the stack and before all else: the compiler may have kept a pointer in a slot, and without
	 * CAP_PERFMON the verifier refuses to see a part of it overwritten.
	 */
	__builtin_memset(answer, 0, ANSWER_ROOM);
	asm volatile("" : : "r"(answer) : "memory");
	__builtin_memcpy(out->eth.h_dest, request->arp.sha, 6);
	__builtin_memcpy(out->eth.h_source, interface->mac, 6);
	out->eth.h_proto = bpf_htons(ETH_P_ARP);
	out->arp.hardware_type = bpf_htons(1);
	out->arp.protocol_type = bpf_htons(ETH_P_IP);
	out->arp.hardware_length = 6;
	out->arp.protocol_length = 4;
	out->arp.op = bpf_htons(ARP_REPLY);
	__builtin_memcpy(out->arp.sha, interface->mac, 6);
	__builtin_memcpy(out->arp.spa, request->arp.tpa, 4);
	__builtin_memcpy(out->arp.tha, request->arp.sha, 6);
	__builtin_memcpy(out->arp.tpa, request->arp.spa, 4);
#ifdef ISAT_BENCH
	/* As many copies, and a request again: BPF_PROG_TEST_RUN repeats on what the last run has left. */
	__builtin_memcpy(out->eth.h_dest, interface->mac, 6);
	__builtin_memcpy(out->eth.h_source, request->arp.sha, 6);
	out->arp.op = bpf_htons(ARP_REQUEST);
	__builtin_memcpy(out->arp.sha, request->arp.sha, 6);
	__builtin_memcpy(out->arp.spa, request->arp.spa, 4);
	__builtin_memcpy(out->arp.tha, interface->mac, 6);
	__builtin_memcpy(out->arp.tpa, request->arp.tpa, 4);
#endif
}

/* Decides, and where the verdict is ANSWERED writes the answer (FRAME_MIN bytes) and counts it for the VIP. */
static __always_inline enum verdict decide(const struct frame *frame, __u32 ifindex, void *answer)
{
	const struct arp *arp = &frame->arp;
	struct vip_key key = { .ifindex = ifindex };
	struct interface *interface;
	struct verdicts *counters;
	struct answers *answered;
	struct vip *vip;
	__u64 now, age;

	if (!is_ethernet_ipv4(arp) || arp->op != bpf_htons(ARP_REQUEST))
		return NOT_REQUEST;

	__builtin_memcpy(key.ip, arp->tpa, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	if (!vip)
		return NOT_MANAGED;
	if (same_ip(arp->spa, arp->tpa))
		return ANNOUNCEMENT;

	interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	if (!interface)
		return GONE;
	if (!is_broadcast(frame->eth.h_dest) && !same_mac(frame->eth.h_dest, interface->mac))
		return NOT_FOR_US;

	now = bpf_ktime_get_boot_ns();
	age = since(interface->tick_ns, now);
	if (is_gone(interface, ifindex, age, now))
		return GONE;
	if ((arp->sha[0] & 1) || is_zero(arp->sha) || same_mac(arp->sha, interface->mac))
		return BAD_SENDER;
	answered = bpf_map_lookup_elem(&answers, &key);
	if (!is_answered(vip, answered, now))
		return NOT_OWNED_HERE;
	if (age > interface->fence_ns)
		return FENCED;

	turn_round(answer, frame, interface);
	if (answered) {
		__sync_fetch_and_add(&answered->answered, 1);
		answered->last_answer_ns = now;
	}
	if (!same_mac(frame->eth.h_source, arp->sha)) {
		counters = bpf_map_lookup_elem(&verdicts, &ifindex);
		if (counters)
			__sync_fetch_and_add(&counters->answered_other_source, 1);
	}
	return ANSWERED;
}

static __always_inline bool is_drop(enum verdict verdict)
{
	return verdict == BAD_SENDER || verdict == NOT_OWNED_HERE || verdict == FENCED;
}

#endif
