/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The context at XDP, by the names that ingress.h uses. */
#ifndef ISAT_CTX_H
#define ISAT_CTX_H

#include <linux/bpf.h>
#include "packet.h"

#define ctx_t struct xdp_md
#define CTX_PASS XDP_PASS
#define CTX_DROP XDP_DROP
/* The linker keeps one of two global functions of the same name. */
#define PER_HOOK(name) name##_xdp

/*
 * A pointer of the context, which is declared as a number of 32 bits. Where clang reads it, it may copy these alone, and
 * the verifier does not know the copy as a pointer.
 */
#define ctx_pointer(ctx, field)                                                                    \
	({                                                                                         \
		void *_pointer;                                                                    \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                                              \
			     : "=r"(_pointer)                                                      \
			     : "r"(ctx), "i"(__builtin_offsetof(ctx_t, field)));                   \
		_pointer;                                                                          \
	})
#define ctx_data(ctx) ctx_pointer(ctx, data)
#define ctx_end(ctx) ctx_pointer(ctx, data_end)
#define ctx_ifindex(ctx) ((ctx)->ingress_ifindex)
/* A tag that the NIC has stripped cannot be seen here. */
#define ctx_is_tagged(ctx) false
#define ctx_vlan_id(ctx) 0

static __always_inline __be16 ctx_ethertype(ctx_t *ctx)
{
	const struct ethhdr *eth = ctx_data(ctx);

	return (void *)(eth + 1) <= ctx_end(ctx) ? eth->h_proto : 0;
}

/* The whole frame is readable. */
#define ctx_pull(ctx, size)
#define ctx_pull_all(ctx, least, most) true

/* Takes the first tag out: the MACs move up to what is behind it. */
static __always_inline int ctx_pop(ctx_t *ctx)
{
	struct ethhdr *eth = ctx_data(ctx), macs;

	if ((void *)(eth + 1) > ctx_end(ctx))
		return -1;
	macs = *eth;
	if (bpf_xdp_adjust_head(ctx, VLAN_HLEN))
		return -1;
	eth = ctx_data(ctx);
	if ((void *)(eth + 1) > ctx_end(ctx))
		return -1;
	__builtin_memcpy(eth, &macs, 2 * ETH_ALEN);
	return 0;
}

/* `at` is even and below 2048. */
#define ctx_load(ctx, at, to)                                                                      \
	({                                                                                         \
		typeof(to) _bytes = advance(ctx_data(ctx), at, 1024, 2);                           \
		bool _fits = (void *)(_bytes + 1) <= ctx_end(ctx);                                 \
		if (_fits)                                                                         \
			*(to) = *_bytes;                                                           \
		_fits ? 0 : -1;                                                                    \
	})
#define ctx_store(ctx, at, from)                                                                   \
	({                                                                                         \
		typeof(from) _bytes = advance(ctx_data(ctx), at, 1024, 2);                         \
		bool _fits = (void *)(_bytes + 1) <= ctx_end(ctx);                                 \
		if (_fits)                                                                         \
			*_bytes = *(from);                                                         \
		_fits ? 0 : -1;                                                                    \
	})

/*
 * Cuts the frame down to `size` bytes, the excess by powers of two: without CAP_PERFMON the verifier refuses
 * `end - data`, and bpf_xdp_get_buff_len() came with Linux 5.18. An excess is rare.
 */
static __always_inline int trim(ctx_t *ctx, __u32 size)
{
	int step;

#pragma unroll
	for (step = 8192; step > 0; step /= 2)
		if (ctx_data(ctx) + size + step <= ctx_end(ctx) && bpf_xdp_adjust_tail(ctx, -step))
			return -1;
	return 0;
}

/* Makes the frame that long, if it lacks less than 16 bytes. Not every driver lets a frame grow. */
static __always_inline int ctx_resize(ctx_t *ctx, __u32 size)
{
	int step;

#pragma unroll
	for (step = 8; step > 0; step /= 2)
		if (ctx_data(ctx) + size - step + 1 > ctx_end(ctx) && bpf_xdp_adjust_tail(ctx, step))
			return -1;
	return trim(ctx, size);
}

/* No filter sees frames that XDP sends. */
#define ctx_mark(ctx)

/* Puts an ARP answer of ETH_ZLEN bytes in the place of the request; a shorter frame keeps its length. */
static __always_inline int ctx_answer(ctx_t *ctx, const void *answer)
{
	void *data, *end;
	int i;

	if (trim(ctx, ETH_ZLEN) || ctx_store(ctx, 0, (struct frame *)answer))
		return -1;
	data = ctx_data(ctx);
	end = ctx_end(ctx);
#pragma unroll
	for (i = sizeof(struct frame); i < ETH_ZLEN; i++) {
		if (data + i + 1 > end)
			break;
		*(__u8 *)(data + i) = 0;
	}
	return 0;
}

#define ctx_reply(ctx, ifindex) XDP_TX

#endif
