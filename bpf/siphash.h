/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012) over whole pairs of words, as every frame of wire.h is up to its tag.
 * Words are little-endian, as the machine is.
 */
#ifndef ISAT_SIPHASH_H
#define ISAT_SIPHASH_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

struct siphash {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate(__u64 value, int bits)
{
	return (value << bits) | (value >> (64 - bits));
}

static __always_inline void sip_round(struct siphash *s)
{
	s->v0 += s->v1;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v2 = rotate(s->v2, 32);
}

static __always_inline void sip_word(struct siphash *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

static __always_inline void sip_pair(struct siphash *s, const __u64 pair[2])
{
	sip_word(s, pair[0]);
	sip_word(s, pair[1]);
}

/* Not inlined: the unrolled caller has 66 call sites. */
static __noinline void sip_more(struct siphash *s, __u64 first, __u64 second)
{
	struct siphash now = *s;

	sip_pair(&now, (__u64[]){ first, second });
	*s = now;
}

static __always_inline struct siphash sip_begin(__u64 k0, __u64 k1)
{
	return (struct siphash){
		k0 ^ 0x736f6d6570736575,
		k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261,
		k1 ^ 0x7465646279746573,
	};
}

/* The last word has the length's lowest byte at its end; whole pairs leave no other bytes over. */
static __always_inline __u64 sip_end(struct siphash *s, __u32 length)
{
	sip_word(s, (__u64)(length & 255) << 56);
	s->v2 ^= 255;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* The hash of a header without claims, as most frames are. */
static __always_inline __u64 siphash_header(const struct wire *frame, const void *end, __u64 k0, __u64 k1)
{
	struct siphash s = sip_begin(k0, k1);
	const void *at = frame;
	__u32 i;

	if (at + sizeof(*frame) > end)
		return 0;
#pragma unroll
	for (i = 0; i < sizeof(*frame) / PAIR; i++) {
		sip_pair(&s, at);
		at += PAIR;
	}
	return sip_end(&s, sizeof(*frame));
}

/*
 * The hash of a frame with so many pairs of words behind the header of version 1. The loop is unrolled: without
 * CAP_PERFMON the verifier follows a loop that moves a packet pointer beyond its end.
 */
static __always_inline __u64 siphash(const struct wire *frame, const void *end, __u64 k0, __u64 k1, __u32 pairs)
{
	struct siphash s = sip_begin(k0, k1);
	const void *at = frame;
	__u32 i;

	if (at + WIRE_OLD_HEADER > end)
		return 0;
#pragma unroll
	for (i = 0; i < WIRE_OLD_HEADER / PAIR; i++) {
		sip_pair(&s, at);
		at += PAIR;
	}
#pragma unroll
	for (i = 0; i < WIRE_MOST_PAIRS; i++) {
		if (i >= pairs || at + PAIR > end) {
			barrier(); /* without it, clang merges the two exits, and cannot unroll */
			break;
		}
		sip_more(&s, *(const __u64 *)at, *(const __u64 *)(at + 8));
		at += PAIR;
	}
	return sip_end(&s, WIRE_OLD_HEADER + PAIR * pairs);
}

#endif
