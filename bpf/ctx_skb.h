/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The context at TC, by the names that ingress.h uses. */
#ifndef ISAT_CTX_H
#define ISAT_CTX_H

#include <linux/pkt_cls.h>
#include "mark.h"
#include "packet.h"

#define ctx_t struct __sk_buff
/* TC_ACT_UNSPEC is TCX_NEXT: the next program decides. */
#define CTX_PASS TC_ACT_UNSPEC
#define CTX_DROP TC_ACT_SHOT
/* The linker keeps one of two global functions of the same name. */
#define PER_HOOK(name) name##_skb

#define ctx_data(ctx) ((void *)(long)(ctx)->data)
#define ctx_end(ctx) ((void *)(long)(ctx)->data_end)
#define ctx_ifindex(ctx) ((ctx)->ifindex)
#define ctx_ethertype(ctx) ((__be16)(ctx)->protocol)
/* The stack, or the NIC, has taken the first tag out of the frame. */
#define ctx_is_tagged(ctx) ((ctx)->vlan_present)
#define ctx_vlan_id(ctx) ((ctx)->vlan_tci & VLAN_VID_MASK)

/* Makes the first `size` bytes readable. Some drivers leave all but the Ethernet header out of reach. */
static __always_inline void ctx_pull(ctx_t *ctx, __u32 size)
{
	if (ctx_data(ctx) + size > ctx_end(ctx))
		bpf_skb_pull_data(ctx, size);
}

/* Makes a frame of `least` to `most` bytes readable; false for a longer one. */
static __always_inline bool ctx_pull_all(ctx_t *ctx, __u32 least, __u32 most)
{
	__u32 length = ctx->len;

	if (length > least && length <= most)
		bpf_skb_pull_data(ctx, length);
	else
		ctx_pull(ctx, least);
	return length <= most;
}

/* Takes the first tag out, be it in the frame or not. */
#define ctx_pop(ctx) bpf_skb_vlan_pop(ctx)

/*
 * Writes go through helpers: a program that writes to the packet directly makes the kernel unclone every frame that a
 * tcpdump shares, whatever it carries.
 */
#define ctx_load(ctx, at, to) bpf_skb_load_bytes(ctx, at, to, sizeof(*(to)))
#define ctx_store(ctx, at, from) bpf_skb_store_bytes(ctx, at, from, sizeof(*(from)), 0)

/* Makes the frame that long. */
static __always_inline int ctx_resize(ctx_t *ctx, __u32 size)
{
	return ctx->len == size ? 0 : bpf_skb_change_tail(ctx, size, 0);
}

#define ctx_mark(ctx) mark(ctx)

/* Puts an ARP answer of ETH_ZLEN bytes in the place of the request; a shorter frame keeps its length. */
static __always_inline int ctx_answer(ctx_t *ctx, const void *answer)
{
	__u32 length = ctx->len;

	if (length > ETH_ZLEN) {
		if (bpf_skb_change_tail(ctx, ETH_ZLEN, 0))
			return -1;
		length = ETH_ZLEN;
	}
	if (length < sizeof(struct frame) || bpf_skb_store_bytes(ctx, 0, answer, length, 0))
		return -1;
	mark(ctx);
	return 0;
}

#define ctx_reply(ctx, ifindex) bpf_redirect(ifindex, 0)

#endif
