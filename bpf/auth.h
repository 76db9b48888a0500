/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Is a frame of the peer protocol authentic and new? By its key, its tag and its times. docs/peer-protocol.md has the reasons.
 */
#ifndef ISAT_AUTH_H
#define ISAT_AUTH_H

#include "packet.h"
#include "result.h"
#include "siphash.h"
#include "state.h"

#define MILLISECOND 1000000ULL
#define SECOND (1000 * MILLISECOND)
#define FRESH (FRESH_MS * MILLISECOND)

/* The key that signs frames of a version. */
static __always_inline const struct wire_key *key_of_version(__u8 version)
{
	__u32 place = version == WIRE_OLD_VERSION ? ISAT_MAX_KEYS : 0;
	const struct wire_key *key = bpf_map_lookup_elem(&keys, &place);

	return key && (key->k0 | key->k1) ? key : NULL;
}

/* The key that signs. Without it this node does not speak the peer protocol, and passes its frames unread. */
static __always_inline const struct wire_key *signing_key(void)
{
	return key_of_version(WIRE_VERSION);
}

/* The key of a frame's version and id: nearly always `first`, the one that signs. */
static __always_inline const struct wire_key *key_of(__u8 version, __u8 id, const struct wire_key *first)
{
	__u32 i, begin = 0;

	if (version == WIRE_OLD_VERSION)
		begin = ISAT_MAX_KEYS;
	else if (first->id == id)
		return first;
#pragma unroll
	for (i = 0; i < ISAT_MAX_KEYS; i++) {
		__u32 place = begin + i;
		const struct wire_key *key = bpf_map_lookup_elem(&keys, &place);

		if (key && key->id == id && (key->k0 | key->k1))
			return key;
	}
	return NULL;
}

/* The number of pairs of words that a frame has behind the header of version 1. */
static __always_inline __u32 pairs_of(__u8 version, __u32 count)
{
	return version == WIRE_OLD_VERSION ? count : WIRE_MORE_PAIRS + WIRE_CLAIM_PAIRS * count;
}

/* Most frames have the latest version and no claims. */
static __always_inline bool is_plain(const struct wire *frame)
{
	return frame->version == WIRE_VERSION && frame->count == 0;
}

/*
 * The checks that need no tag; the caller has made sure that the header is there. Checks that need a lookup in a hash
 * map come after the tag: anybody can send frames that get as far as that lookup.
 */
static __always_inline bool is_plausible(const struct wire *frame)
{
	word most = frame->version == WIRE_OLD_VERSION ? WIRE_OLD_MAX_CLAIMS : WIRE_MAX_CLAIMS;

	return (frame->version == WIRE_VERSION || frame->version == WIRE_OLD_VERSION) && frame->type >= WIRE_PROBE &&
	       frame->type <= WIRE_NOTICE && frame->count <= (frame->type < WIRE_CLAIM ? 0 : most);
}

/*
 * Reads the tag behind so many pairs, at most 127; false where the frame does not end with it. It takes two
 * comparisons, because without CAP_PERFMON the verifier refuses to compare a pointer with the end for equality.
 */
static __noinline bool read_tag_behind(const void *header_end, const void *end, __u32 pairs, __u64 *tag)
{
	const void *at = advance((void *)header_end, pairs * PAIR, 64 * PAIR, PAIR);

	if (at + WIRE_TAG > end)
		return false;
	*tag = *(const __u64 *)at;
	barrier(); /* else clang repeats the first comparison, and the verifier speculates on its outcome */
	return at + WIRE_TAG + 1 > end;
}

/* Reads the tag; false where the frame does not end with it. */
static __always_inline bool read_tag(const struct wire *frame, const void *end, __u64 *tag)
{
	const void *at = frame + 1;

	if (!is_plain(frame))
		return read_tag_behind((const void *)frame + WIRE_OLD_HEADER, end, pairs_of(frame->version, frame->count),
				       tag);
	if (at + WIRE_TAG > end)
		return false;
	*tag = *(const __u64 *)at;
	barrier(); /* as above */
	return at + WIRE_TAG + 1 > end;
}

/* A node that knows the latest version says each hello in it too, and what it says to all in version 1 is for the others. */
static __always_inline bool is_copy(const struct wire *frame)
{
	return frame->version == WIRE_OLD_VERSION && frame->max_version > WIRE_OLD_VERSION &&
	       is_broadcast(frame->destination);
}

/*
 * True for a frame of another cluster, or of version 1, which names no cluster, once that is no longer spoken here. It
 * is known without a key: whoever has none of ours is most probably such a one, and is to be told from a wrong key.
 */
static __always_inline bool is_foreign(const struct wire *frame, const void *end, const struct wire_key *first)
{
	if (frame->version == WIRE_OLD_VERSION)
		return !key_of_version(WIRE_OLD_VERSION);
	return (const void *)(frame + 1) > end || frame->cluster != first->cluster;
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
static __always_inline bool is_recorded(const struct wire *frame, const struct interface *interface)
{
	bool is_answer = frame->type == WIRE_ECHO || frame->type == WIRE_REPLY;
	__u64 reading = frame->stamp, nonce = frame->nonce;

	barrier_var(nonce); /* else clang selects the address, not the value, by a variable offset */
	if (is_answer)
		reading = nonce;
	return frame->type != WIRE_PROBE && reading != 0 && since(reading, interface->heard_ns) >= FRESH;
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
