/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Is a frame of the peer protocol authentic and new? By its key, its tag and its times. docs/peer-protocol.md has the reasons.
 */
#ifndef ISAT_AUTH_H
#define ISAT_AUTH_H

#include "packet.h"
#include "siphash.h"
#include "state.h"

#define MILLISECOND 1000000ULL
#define SECOND (1000 * MILLISECOND)
#define FRESH (FRESH_MS * MILLISECOND)

/* The key that signs. Without it this node does not speak the peer protocol, and passes its frames unread. */
static __always_inline const struct wire_key *signing_key(void)
{
	__u32 first = 0;
	const struct wire_key *key = bpf_map_lookup_elem(&keys, &first);

	return key && (key->k0 | key->k1) ? key : NULL;
}

/* The key of that id: nearly always `first`, the one that signs. */
static __always_inline const struct wire_key *key_of(__u8 id, const struct wire_key *first)
{
	__u32 i;

	if (first->id == id)
		return first;
#pragma unroll
	for (i = 1; i < ISAT_MAX_KEYS; i++) {
		__u32 place = i;
		const struct wire_key *key = bpf_map_lookup_elem(&keys, &place);

		if (key && key->id == id && (key->k0 | key->k1))
			return key;
	}
	return NULL;
}

/*
 * The checks that need no tag; the caller has made sure that the header is there. Checks that need a lookup in a hash
 * map come after the tag: anybody can send frames that get as far as that lookup.
 */
static __always_inline bool is_plausible(const struct wire *frame)
{
	return frame->version == WIRE_VERSION && frame->type >= WIRE_PROBE && frame->type <= WIRE_NOTICE &&
	       frame->count <= (frame->type < WIRE_CLAIM ? 0 : WIRE_MAX_CLAIMS);
}

/*
 * Reads the tag behind `count` claims, at most 127; false where the frame does not end with it. It takes two
 * comparisons, because without CAP_PERFMON the verifier refuses to compare a pointer with the end for equality.
 */
static __noinline bool read_tag_behind(struct wire_claim *claims, const void *end, __u32 count, __u64 *tag)
{
	void *at = advance(claims, count * sizeof(*claims), 64 * sizeof(*claims), sizeof(*claims));

	if (at + WIRE_TAG > end)
		return false;
	*tag = *(const __u64 *)at;
	barrier(); /* else clang repeats the first comparison, and the verifier speculates on its outcome */
	return at + WIRE_TAG + 1 > end;
}

/* Reads the tag; false where the frame does not end with it. Most frames have no claims. */
static __always_inline bool read_tag(const struct wire *frame, const void *end, __u64 *tag)
{
	const void *at = frame + 1;

	if (frame->count > 0)
		return read_tag_behind((struct wire_claim *)at, end, frame->count, tag);
	if (at + WIRE_TAG > end)
		return false;
	*tag = *(const __u64 *)at;
	barrier(); /* as above */
	return at + WIRE_TAG + 1 > end;
}

/* True if a reading of this node's clock, which a frame gives back, is one of the last five seconds. */
static __always_inline bool is_fresh(__u64 reading, __u64 now)
{
	return reading != 0 && reading <= now && now - reading < FRESH;
}

/*
 * True if the reading that a frame gives back was too old already when a peer was last heard. So a flood of recorded
 * frames costs neither a reading of the clock nor a lookup of the peer. A probe has its own rule: see take_probe().
 */
static __always_inline bool is_recorded(const struct wire *frame, const struct verdicts *counters)
{
	bool is_answer = frame->type == WIRE_ECHO || frame->type == WIRE_REPLY;
	__u64 reading = frame->stamp, nonce = frame->nonce;

	barrier_var(nonce); /* else clang selects the address, not the value, by a variable offset */
	if (is_answer)
		reading = nonce;
	return frame->type != WIRE_PROBE && reading != 0 && since(reading, counters->heard_ns) >= FRESH;
}

/*
 * True if the same frame came lately: all frames of a node differ, by nonce and stamp. It is a filter only: two CPUs
 * may both take one frame, or another frame may have overwritten its place.
 */
static __always_inline bool is_repeated(__u64 tag, __u32 ifindex)
{
	__u32 place = tag & (ISAT_RECENT - 1);
	struct recent *last = bpf_map_lookup_elem(&recent, &place);

	if (!last)
		return false; /* never */
#ifndef ISAT_BENCH /* BPF_PROG_TEST_RUN repeats one frame */
	if (last->tag == tag && last->ifindex == ifindex)
		return true;
#endif
	last->tag = tag;
	last->ifindex = ifindex;
	return false;
}

#endif
