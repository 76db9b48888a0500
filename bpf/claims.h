/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A peer's claim of VIPs. The kernel decides it, so that a node whose control plane is busy, stopped or dead still
 * releases its VIPs. docs/membership.md has the rules with their reasons.
 */
#ifndef ISAT_CLAIMS_H
#define ISAT_CLAIMS_H

#include "result.h"
#include "state.h"

/* A node keeps more or less of its VIPs from a claim, by its state. */
enum keeps {
	KEEPS_NONE,
	KEEPS_BETTER, /* what it owns or claims itself by a better hash */
	KEEPS_OWNED,  /* all that it owns */
	KEEPS_HELD,   /* all that it owns or claims itself */
};

/* A node that lags stands back for one whose source is fresh, and among its equals the better hash counts. */
static __always_inline enum keeps keeps_of(const struct interface *interface, const struct wire *claim,
					   enum claim_verdict asked, __u64 now)
{
	enum node_state state = state_of(interface, now);

	if (state == NODE_LIVE)
		return claim->state == NODE_LAGGING && !interface->source_stale ? KEEPS_HELD : KEEPS_BETTER;
	if (state == NODE_LAGGING)
		return claim->state == NODE_LAGGING || claim->flags & WIRE_SOURCE_STALE ? KEEPS_BETTER : KEEPS_NONE;
	/*
	 * A headless node keeps its VIPs from a stand-in while it answers: the stand-in wants them only if it does not.
	 */
	if (asked != CLAIM_FREE || is_fenced(interface, since(interface->tick_ns, now)))
		return KEEPS_NONE;
	return state == NODE_HEADLESS || state == NODE_PAST_HOLD ? KEEPS_OWNED : KEEPS_NONE;
}

/*
 * Records a release. Another CPU may have recorded a later one meanwhile, and that one stays: else a claim that this node
 * granted to the other claimant would count for this node again. (An atomic maximum would need Linux 5.12.)
 */
static __always_inline void release(struct vip *vip, __u64 at)
{
	bpf_spin_lock(&vip->lock);
	if (at > vip->released_ns)
		vip->released_ns = at;
	bpf_spin_unlock(&vip->lock);
}

/* The terms of a claim: which VIPs this node keeps from it, and the place of the interface's counters. */
#define terms(keeps, place) ((keeps) | (place) << 8)

/*
 * Decides one VIP of a claim, by its entry. A release is recorded even where nothing was held: a claim that was granted to a
 * peer must beat one of ours that began earlier, and whose control plane was paused.
 */
static __always_inline enum claim_verdict decide_claim(struct vip *vip, __u64 check, __u64 hash, __u64 now, __u32 terms)
{
	__u64 claimed = vip->claim_ns, claiming = vip->state_ns;
	__u32 keeps = terms & 255, place = terms >> 8;
	enum vip_state state = vip->state;
	struct verdicts *counters;
	bool holds, keeps_it;

	/* Without CAP_PERFMON the verifier refuses a load from a place that is chosen, but not a choice of what was loaded. */
	barrier_var(claimed);
	barrier_var(claiming);
	if (state == VIP_CLAIMING)
		claimed = claiming;
	holds = is_answered(vip, now) || (state == VIP_CLAIMING && is_current(vip, claimed));
	keeps_it = holds && state != VIP_LEAVING &&
		   (keeps == KEEPS_HELD || (keeps == KEEPS_OWNED && state == VIP_OWNED) ||
		    (keeps == KEEPS_BETTER && hash >= vip->hash));
	/* A claim that was decided by another VIP's entry is refused: the claimant asks again. */
	if (keeps_it || !is_of(vip, check))
		return CLAIM_MINE;

	release(vip, now > claimed ? now : claimed);
	if (!holds)
		return CLAIM_FREE;
	counters = bpf_map_lookup_elem(&verdicts, &place);
	if (counters)
		add_one(&counters->released);
	return state == VIP_CLAIMING ? CLAIM_FREE : CLAIM_RELEASED;
}

/* The same for a VIP of IPv4. A global function is verified once. */
__weak __noinline enum claim_verdict claim_one(__u32 ip, __u32 ifindex, __u64 hash, __u64 now, __u32 terms)
{
	struct vip_key key = { .ifindex = ifindex };
	struct vip *vip;

	__builtin_memcpy(key.ip, &ip, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	return vip ? decide_claim(vip, check_of(ip, ifindex), hash, now, terms) : CLAIM_FREE;
}

/* An ifindex and a claim's terms in one number, because a function takes no more than five. */
#define here(ifindex, terms) ((__u64)(terms) << 32 | (ifindex))

/* The same for a VIP of IPv6, of which each half is a number as it stands in memory. */
__weak __noinline enum claim_verdict claim_one6(__u64 first, __u64 last, __u64 hash, __u64 now, __u64 here)
{
	struct vip6_key key = { .ifindex = here };
	struct vip *vip;

	__builtin_memcpy(key.ip, &first, 8);
	__builtin_memcpy(key.ip + 8, &last, 8);
	vip = bpf_map_lookup_elem(&vips6, &key);
	return vip ? decide_claim(vip, check6_of(first, last, here), hash, now, here >> 32) : CLAIM_FREE;
}

#endif
