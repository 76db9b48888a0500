/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The state of this node, and what its kernel answers for, by the maps and the age of the tick. src/core/state.ts
 * computes the same, and a test compares the two.
 */
#ifndef ISAT_STATE_H
#define ISAT_STATE_H

#include <stdbool.h>
#include "maps.h"

/*
 * The place of an interface that is not at the first that its ifindex names; ISAT_MAX_INTERFACES where it has none. A
 * global function: it is verified once, and costs those nothing that are at the first.
 */
__weak __noinline __u32 search_place(__u32 ifindex)
{
	__u32 i;

	for (i = 1; i < ISAT_MAX_INTERFACES; i++) {
		__u32 place = (ifindex + i) % ISAT_MAX_INTERFACES;
		const struct interface *interface = bpf_map_lookup_elem(&interfaces, &place);

		if (interface && interface->ifindex == ifindex)
			return place;
	}
	return ISAT_MAX_INTERFACES;
}

/* The entry of an interface, and its place; NULL where it has none. */
static __always_inline struct interface *find_interface(__u32 ifindex, __u32 *place)
{
	struct interface *interface;

	*place = ifindex % ISAT_MAX_INTERFACES;
	interface = bpf_map_lookup_elem(&interfaces, place);
	if (interface && interface->ifindex == ifindex)
		return interface;
	*place = search_place(ifindex);
	return bpf_map_lookup_elem(&interfaces, place);
}

/* The age of a reading. It is zero where `now` was read a moment before `then`, on another CPU. */
static __always_inline __u64 since(__u64 then, __u64 now)
{
	return now > then ? now - then : 0;
}

/* This node's state, as its peers see it: the state that its control plane wrote last, and the age of that. */
static __always_inline enum node_state state_of(const struct interface *interface, __u64 now)
{
	__u64 age = since(interface->tick_ns, now);

	if (interface->tick_ns == 0)
		return NODE_JOINING;
	/* A node that was told to release its VIPs goes on releasing them, however long its control plane is down. */
	if (interface->state == NODE_DRAINED)
		return interface->state;
	if (age >= interface->hold_ns)
		return NODE_PAST_HOLD;
	if ((interface->state == NODE_LIVE || interface->state == NODE_LAGGING) && age >= interface->live_ns)
		return NODE_HEADLESS;
	return interface->state;
}

/* A node is silent when its tick is older than this limit. */
static __always_inline bool is_fenced(const struct interface *interface, __u64 age)
{
	return age > interface->fence_ns;
}

/*
 * Row 7: isat has gone for good, and everything passes. A tick of zero is no tick, however young the machine. Where
 * peers are heard, a control plane that is down has not gone for good: they answer for the VIPs that this kernel is
 * silent for.
 */
static __always_inline bool is_gone(const struct interface *interface, __u64 age, __u64 now)
{
	if (interface->tick_ns == 0)
		return true;
	if (age <= interface->gone_ns)
		return false;
	return interface->heard_ns == 0 || since(interface->heard_ns, now) > interface->gone_ns;
}

/* A VIP's entry is told by this from others: of IPv4 it is the key itself. src/core/vip.ts computes the same. */
static __always_inline __u64 check_of(__u32 ip, __u32 ifindex)
{
	return ip | (__u64)ifindex << 32;
}

/*
 * The same for IPv6: each half of the address is a number as it stands in memory, and the odd factors make a difference of
 * each part of the key. Two VIPs of one subnet never have the same check, nor have two that end alike.
 */
static __always_inline __u64 check6_of(__u64 first, __u64 last, __u32 ifindex)
{
	return first * 0x9e3779b97f4a7c15 + last + ifindex * 0xc2b2ae3d27d4eb4f;
}

/*
 * True if the entry is still the one that was looked up. Call it behind everything that was read of it, because another
 * CPU may be writing: the barrier keeps the order.
 */
static __always_inline bool is_of(const struct vip *vip, __u64 check)
{
	barrier();
	return *(const volatile __u64 *)&vip->check == check;
}

/* The same for an interface's entry. */
static __always_inline bool is_on(const struct interface *interface, __u32 ifindex)
{
	barrier();
	return *(const volatile __u32 *)&interface->ifindex == ifindex;
}

/* The time, at most a jiffy old. */
static __always_inline __u64 read_clock(struct verdicts *own)
{
	__u64 jiffy = bpf_jiffies64();

	if (own->clock_jiffy != jiffy) {
		own->clock_ns = bpf_ktime_get_boot_ns();
		own->clock_jiffy = jiffy;
	}
	return own->clock_ns;
}

/* True if no peer's claim has been granted since this one began. */
static __always_inline bool is_current(const struct vip *vip, __u64 claimed)
{
	return claimed > vip->released_ns;
}

/* True if this node answers for the VIP, by its own record and by its kernel's releases. */
static __always_inline bool is_answered(const struct vip *vip, __u64 now)
{
	return is_current(vip, vip->claim_ns) &&
	       (vip->state == VIP_OWNED || (vip->state == VIP_LEAVING && now < vip->state_ns));
}

/*
 * True until it is known who owns the VIP: another speaker of this node, beside which isat starts, hears what is asked and
 * may answer.
 */
static __always_inline bool is_open(const struct vip *vip)
{
	return vip->state == VIP_UNDECIDED || (vip->state == VIP_CLAIMING && is_current(vip, vip->state_ns));
}

#endif
