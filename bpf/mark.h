/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * An answer that TC sends back passes the egress filter on its way out. It was decided a moment ago, so it carries a
 * mark, and the filter lets it pass unread. The mark is in skb->cb, which the kernel keeps from bpf_redirect() to the
 * egress hook and which nobody can fill from user space. It has 128 bits, so that bytes left there by another layer are
 * never taken for it.
 */
#ifndef ISAT_MARK_H
#define ISAT_MARK_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Random numbers. */
#define MARK_0 0x5f1d8a27
#define MARK_1 0xc36be904
#define MARK_2 0x2e947ab1
#define MARK_3 0x98d05cf3

static __always_inline void mark(struct __sk_buff *skb)
{
	skb->cb[0] = MARK_0;
	skb->cb[1] = MARK_1;
	skb->cb[2] = MARK_2;
	skb->cb[3] = MARK_3;
}

static __always_inline bool is_marked(const struct __sk_buff *skb)
{
	return skb->cb[0] == MARK_0 && skb->cb[1] == MARK_1 && skb->cb[2] == MARK_2 && skb->cb[3] == MARK_3;
}

#endif
