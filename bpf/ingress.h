/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Ingress, the same at TC and at XDP: a program includes ctx_skb.h or ctx_xdp.h first. Neighbour Discovery and the parts of
 * the peer protocol are global functions: each is verified once, and other frames pay no stack for them.
 */
#ifndef ISAT_INGRESS_H
#define ISAT_INGRESS_H

#include "arp.h"
#include "claims.h"
#include "nd.h"
#include "peers.h"

/* The one exit: makes the action the hook's own. */
static __always_inline int leave(__u32 ifindex, struct result result)
{
	if (result.action == ACT_REPLY)
		return ctx_reply(ctx, ifindex);
	return result.action == ACT_DROP ? CTX_DROP : CTX_PASS;
}

__weak __noinline __u64 PER_HOOK(hash)(ctx_t *ctx, __u64 k0, __u64 k1, __u32 pairs)
{
	return siphash(ctx_data(ctx), ctx_end(ctx), k0, k1, pairs);
}

/* In the place of a tag: why a frame has none that counts. No frame of ours has one of these tags. */
enum no_tag {
	TAG_WRONG,
	TAG_OF_COPY,
	TAG_OF_FOREIGNER,
	TAG_LEAST,
};

/* Makes a frame readable. Returns its tag, if it is that of a key of ours, else why not. */
__weak __noinline __u64 PER_HOOK(authentic_tag)(ctx_t *ctx)
{
	const struct wire_key *first = signing_key(), *key;
	const struct wire *frame;
	void *data, *end;
	__u64 tag = 0; /* the verifier speculates that it is used unread */

	if (!first || !ctx_pull_all(ctx, WIRE_LEAST, WIRE_MOST))
		return TAG_WRONG;
	frame = data = ctx_data(ctx);
	end = ctx_end(ctx);
	if (data + WIRE_OLD_HEADER > end || !is_plausible(frame) || !read_tag(frame, end, &tag))
		return TAG_WRONG;
	if (is_copy(frame))
		return TAG_OF_COPY;
	if (is_foreign(frame, end, first))
		return TAG_OF_FOREIGNER;
	key = key_of(frame->version, frame->key_id, first);
	if (!key || tag < TAG_LEAST)
		return TAG_WRONG;
	if (is_plain(frame))
		return siphash_header(data, end, key->k0, key->k1) == tag ? tag : TAG_WRONG;
	return PER_HOOK(hash)(ctx, key->k0, key->k1, pairs_of(frame->version, frame->count)) == tag ? tag : TAG_WRONG;
}

/* Answers a question for a node. */
static __always_inline void tell_of(struct wire_old_claim *claim, __u32 ifindex, __u64 now)
{
	__u64 word = heard_of(claim->hash, ifindex, now);

	claim->verdict = word == NEVER_HEARD ? 0 : word & (WIRE_NODE_STATE | WIRE_NODE_STALE);
	claim->hash = word == NEVER_HEARD ? word : word >> HEARD_SHIFT;
}

/*
 * Decides a claim's VIPs, and writes the verdicts beside them. The terms `usual` are for claims proper, `soft` for those of
 * a stand-in. A VIP of a family that is not known is not managed here.
 */
__weak __noinline int PER_HOOK(decide_claims)(ctx_t *ctx, __u32 count, __u64 now, __u32 usual, __u32 soft)
{
	__u32 ifindex = ctx_ifindex(ctx), i, family, terms;
	struct wire_old_claim claim;
	struct { __u64 first, last; } ip;

#pragma unroll
	for (i = 0; i < WIRE_MAX_CLAIMS; i++) {
		__u32 at = sizeof(struct wire) + i * sizeof(struct wire_claim);

		if (i >= count) {
			barrier(); /* as in siphash() */
			break;
		}
		if (ctx_load(ctx, at, &ip) || ctx_load(ctx, at + PAIR, &claim))
			return -1;
		__builtin_memcpy(&family, claim.ip, 4);
		terms = claim.verdict == CLAIM_FREE ? soft : usual;
		if (family == 4)
			claim.verdict = claim_one(ip.first, ifindex, claim.hash, now, terms);
		else if (family == 6)
			claim.verdict = claim_one6(ip.first, ip.last, claim.hash, now, here(ifindex, terms));
		else if (family == 0)
			tell_of(&claim, ifindex, now);
		else
			claim.verdict = CLAIM_FREE;
		if (ctx_store(ctx, at + PAIR, &claim))
			return -1;
	}
	return 0;
}

/* Decides the VIPs of a claim of version 1, as decide_claims() does those of the current version. */
__weak __noinline int PER_HOOK(decide_old_claims)(ctx_t *ctx, __u32 count, __u64 now, __u32 usual, __u32 soft)
{
	__u32 ifindex = ctx_ifindex(ctx), i, ip;
	struct wire_old_claim claim;

#pragma unroll
	for (i = 0; i < WIRE_OLD_MAX_CLAIMS; i++) {
		__u32 at = WIRE_OLD_HEADER + i * sizeof(claim);

		if (i >= count) {
			barrier(); /* as in siphash() */
			break;
		}
		if (ctx_load(ctx, at, &claim))
			return -1;
		__builtin_memcpy(&ip, claim.ip, 4);
		claim.verdict = claim_one(ip, ifindex, claim.hash, now,
					  claim.verdict == CLAIM_FREE ? soft : usual);
		if (ctx_store(ctx, at, &claim))
			return -1;
	}
	return 0;
}

/* Decides all claims of a frame, in its version. */
static __always_inline int decide_all(ctx_t *ctx, const struct wire *answer, const struct wire *asked,
				      const struct interface *interface, __u32 place, __u64 now)
{
	__u32 usual, soft;

	if (answer->count == 0)
		return 0;
	usual = terms(keeps_of(interface, asked, CLAIM_CLAIMED, now), place);
	soft = terms(keeps_of(interface, asked, CLAIM_FREE, now), place);
	if (answer->version == WIRE_OLD_VERSION)
		return PER_HOOK(decide_old_claims)(ctx, answer->count, now, usual, soft);
	return PER_HOOK(decide_claims)(ctx, answer->count, now, usual, soft);
}

/* The part of a header that version 1 has. */
struct old_header {
	__u64 words[WIRE_OLD_HEADER / 8];
};

/* Turns a probe or a claim round into the answer. */
__weak __noinline int PER_HOOK(answer_peer)(ctx_t *ctx, __u64 now)
{
	__u32 ifindex = ctx_ifindex(ctx), place, pairs;
	struct interface *interface;
	const struct wire_key *key;
	struct wire *frame, answer;
	__u64 tag;
	int error;

	interface = find_interface(ifindex, &place);
	frame = ctx_data(ctx);
	if ((void *)frame + WIRE_OLD_HEADER > ctx_end(ctx) || !interface)
		return -1;
	key = key_of_version(frame->version);
	if (!key)
		return -1;
	introduce(&answer, frame, interface, frame->type == WIRE_PROBE ? WIRE_ECHO : WIRE_REPLY, now);
	if (!is_on(interface, ifindex))
		return -1;
	answer.key_id = key->id;
	answer.cluster = key->cluster;
	if (is_known(frame, ifindex))
		answer.flags |= WIRE_KNOWN;
	if (decide_all(ctx, &answer, frame, interface, place, now))
		return -1;
	if (answer.version == WIRE_OLD_VERSION)
		error = ctx_store(ctx, 0, (struct old_header *)&answer);
	else
		error = ctx_store(ctx, 0, &answer);
	if (error)
		return -1;
	pairs = pairs_of(answer.version, answer.count);
	tag = PER_HOOK(hash)(ctx, key->k0, key->k1, pairs);
	return ctx_store(ctx, WIRE_OLD_HEADER + pairs * PAIR, &tag);
}

/* Decides on a frame of the peer protocol, and writes the answer where there is one. */
static __always_inline struct result decide_peer(ctx_t *ctx, __u32 ifindex, struct interface *interface)
{
	__u64 now, tag = PER_HOOK(authentic_tag)(ctx);
	struct result result;
	struct wire *frame;
	void *end;

	if (tag == TAG_OF_COPY)
		return drop(VERDICT_WIRE_STALE);
	if (tag == TAG_OF_FOREIGNER)
		return meet_foreigner(interface);
	frame = ctx_data(ctx);
	end = ctx_end(ctx);
	if (tag < TAG_LEAST || (void *)frame + WIRE_OLD_HEADER > end)
		return drop(VERDICT_WIRE_REFUSED);
	if (is_recorded(frame, interface) || is_repeated(tag, ifindex))
		return drop(VERDICT_WIRE_STALE);
	if (!is_for(interface, frame))
		return drop(VERDICT_WIRE_REFUSED);
	now = bpf_ktime_get_boot_ns();
	result = hear(frame, end, interface, ifindex, now);
	if (result.action == ACT_REPLY && PER_HOOK(answer_peer)(ctx, now))
		return drop(VERDICT_NONE);
	return result;
}

/* A frame of the peer protocol. It passes unread without a key, and on an interface where isat does not announce. */
__weak __noinline int PER_HOOK(receive_peer)(ctx_t *ctx)
{
	__u32 ifindex = ctx_ifindex(ctx), place;
	struct interface *interface;
	struct result result;

	if (!signing_key())
		return CTX_PASS;
	interface = find_interface(ifindex, &place);
	if (!interface || interface->is_guard)
		return CTX_PASS;
	result = decide_peer(ctx, ifindex, interface);
	count_at(place, result.verdict);
	return leave(ifindex, result);
}

/* Decides on any other frame, which may hide ARP or a frame of the peer protocol behind tags. */
static __always_inline struct result decide_tagged(ctx_t *ctx, __be16 type)
{
	const __be16 *tag = ctx_data(ctx) + ETH_HLEN;
	const void *end = ctx_end(ctx);
	bool is_nested = false;

	if (ctx_is_tagged(ctx))
		is_nested = !ctx_vlan_id(ctx) && is_second_priority(type, tag, end);
	else if (is_vlan(type) && (const void *)(tag + 2) <= end)
		is_nested = is_priority(tag[0]) && is_second_priority(tag[1], tag + 2, end);
	if (is_nested && signing_key())
		return drop(VERDICT_WIRE_REFUSED);
	return pass(is_vlan(type) && is_tagged_arp(ctx_data(ctx), end) ? VERDICT_TAGGED : VERDICT_NONE);
}

/* The type of a frame that isat reads, behind a priority tag; 0 where it is no such frame. */
static __always_inline __be16 type_behind_priority(ctx_t *ctx, __be16 type)
{
	const __be16 *tag = ctx_data(ctx) + ETH_HLEN;

	if (ctx_is_tagged(ctx)) {
		if (ctx_vlan_id(ctx))
			return 0;
		if (type == bpf_htons(ETH_P_IPV6))
			return is_solicitation(ctx, ETH_HLEN) ? type : 0;
	} else {
		if (!is_vlan(type) || (const void *)(tag + 2) > ctx_end(ctx) || !is_priority(tag[0]))
			return 0;
		type = tag[1];
		if (type == bpf_htons(ETH_P_IPV6))
			return is_solicitation(ctx, ETH_HLEN + VLAN_HLEN) ? type : 0;
	}
	return type == bpf_htons(ETH_P_ARP) || type == bpf_htons(ETH_P_ISAT) ? type : 0;
}

/* Decides on an ARP frame: rows 2 to 10 of the verdict table. It passes uncounted where isat has no entry. */
static __always_inline int receive_arp(ctx_t *ctx, __u32 ifindex)
{
	__u8 answer[ANSWER_ROOM] __attribute__((aligned(8)));
	struct interface *interface;
	struct verdicts *counters;
	struct result result;
	struct frame *frame;
	__u32 place;

	interface = find_interface(ifindex, &place);
	counters = bpf_map_lookup_elem(&verdicts, &place);
	if (!interface || !counters)
		return CTX_PASS;
	ctx_pull(ctx, sizeof(*frame));
	frame = ctx_data(ctx);
	if (ctx_is_tagged(ctx))
		result = pass(VERDICT_TAGGED);
	else if ((void *)(frame + 1) > ctx_end(ctx))
		result = pass(VERDICT_NOT_REQUEST);
	else
		result = decide(frame, ifindex, interface, counters, answer);
	if (result.action == ACT_REPLY && ctx_answer(ctx, answer))
		return CTX_DROP;
	count(counters, result.verdict);
	return leave(ifindex, result);
}

/* Decides on a frame that is_solicitation(). It passes uncounted where isat has no entry. */
__weak __noinline int PER_HOOK(receive_nd)(ctx_t *ctx)
{
	__u32 ifindex = ctx_ifindex(ctx), place;
	struct nd_message message = {};
	struct interface *interface;
	struct verdicts *counters;
	struct result result;

	interface = find_interface(ifindex, &place);
	counters = bpf_map_lookup_elem(&verdicts, &place);
	if (!interface || !counters)
		return CTX_PASS;
	result = decide_nd(ctx, &message, ifindex, interface, counters);
	if (result.action == ACT_REPLY) {
		if (ctx_resize(ctx, sizeof(struct advertisement_bytes)) ||
		    ctx_store(ctx, 0, (struct advertisement_bytes *)bytes_of(&message.nd)))
			return CTX_DROP;
		ctx_mark(ctx);
	}
	count(counters, result.verdict);
	return leave(ifindex, result);
}

/* Any other frame. */
static __always_inline int receive_other(ctx_t *ctx, __u32 ifindex, __be16 type)
{
	struct result result = decide_tagged(ctx, type);
	__u32 place;

	if (result.verdict != VERDICT_NONE && find_interface(ifindex, &place))
		count_at(place, result.verdict);
	return leave(ifindex, result);
}

static __always_inline int ingress(ctx_t *ctx)
{
	__be16 type = ctx_ethertype(ctx), behind = type_behind_priority(ctx, type);
	__u32 ifindex = ctx_ifindex(ctx);

	if (behind && ctx_pop(ctx) == 0)
		type = behind;
	if (type == bpf_htons(ETH_P_ARP))
		return receive_arp(ctx, ifindex);
	if (type == bpf_htons(ETH_P_IPV6) && !ctx_is_tagged(ctx) && is_solicitation(ctx, ETH_HLEN))
		return PER_HOOK(receive_nd)(ctx);
	if (type == bpf_htons(ETH_P_ISAT) && !ctx_is_tagged(ctx))
		return PER_HOOK(receive_peer)(ctx);
	return receive_other(ctx, ifindex, type);
}

#endif
