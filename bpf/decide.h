/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The rows of docs/verdicts.md that are the same for ARP and for Neighbour Solicitations: who is answered for a VIP that
 * this node manages.
 */
#ifndef ISAT_DECIDE_H
#define ISAT_DECIDE_H

#include "packet.h"
#include "result.h"
#include "state.h"

/* The verdicts of a family stand in the same order; to the number of ARP's, this is added. */
enum family {
	FAMILY_ARP = 0,
	FAMILY_ND = VERDICT_ND_GONE - VERDICT_GONE,
};

_Static_assert(VERDICT_BAD_SENDER + FAMILY_ND == VERDICT_ND_BAD_SENDER, "the same order");
_Static_assert(VERDICT_NOT_OWNED + FAMILY_ND == VERDICT_ND_NOT_OWNED, "the same order");
_Static_assert(VERDICT_FENCED + FAMILY_ND == VERDICT_ND_FENCED, "the same order");
_Static_assert(VERDICT_ANSWERED + FAMILY_ND == VERDICT_ND_ANSWERED, "the same order");

/* True for a MAC that is no other station's: multicast, zero or our own. */
static __always_inline bool is_bad_sender(__u64 mac, const struct interface *interface)
{
	return (mac & 1) || mac == 0 || mac == mac_word(interface->mac);
}

/* Rows 7 to 10. What is to be answered is confirmed when the answer is written. */
static __always_inline struct result judge(const struct interface *interface, const struct vip *vip, bool is_bad,
					   __u64 now, enum family family)
{
	__u64 age = since(interface->tick_ns, now);

	if (is_gone(interface, age, now))
		return pass(VERDICT_GONE + family);
	if (is_bad)
		return drop(VERDICT_BAD_SENDER + family);
	if (!is_answered(vip, now))
		return is_open(vip) ? pass(VERDICT_NOT_OWNED + family) : drop(VERDICT_NOT_OWNED + family);
	if (is_fenced(interface, age))
		return drop(VERDICT_FENCED + family);
	return reply(VERDICT_ANSWERED + family);
}

/*
 * Counts an answer that is written, if the entries that it was made of are still those of the VIP and of the interface.
 */
static __always_inline struct result confirm(const struct interface *interface, struct vip *vip, __u64 check,
					     __u32 ifindex, __u64 now, enum family family)
{
	if (!is_of(vip, check) || !is_on(interface, ifindex))
		return drop(VERDICT_NOT_OWNED + family);
	__sync_fetch_and_add(&vip->answered, 1);
	vip->last_answer_ns = now;
	return reply(VERDICT_ANSWERED + family);
}

#endif
