/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The whole contract between the kernel programs and the control plane: what
 * stands in the maps, byte for byte, and what the counters mean. The twin of
 * this file is src/core/abi.ts; the build compares the two through the object's
 * BTF and fails where they differ.
 *
 * Each map has one writer. The control plane writes `vips` and `interfaces`; the
 * programs write `answers` and `verdicts` (the control plane only adds and
 * removes their entries, so that the answer path never allocates).
 *
 * All times are nanoseconds of CLOCK_BOOTTIME: it does not jump, and it counts
 * while the machine sleeps.
 */
#ifndef ISAT_H
#define ISAT_H

#include <linux/types.h>

/* The pin folder is v<ISAT_LAYOUT>. Raise it with every change of what is below:
 * the kernel accepts a map whose fields were reordered if the size is the same. */
#define ISAT_LAYOUT 1

#define ISAT_MAX_VIPS 65536 /* entries: VIPs x announcing interfaces */
#define ISAT_MAX_INTERFACES 64

enum vip_state {
	NOT_OWNED = 0, /* managed, and answered by some other node: nothing here may answer */
	OWNED = 1,     /* answered here */
};

struct vip_key {
	__u8 ip[4];
	__u32 ifindex;
};

/* map `vips`: what this node manages */
struct vip {
	enum vip_state state;
	char interface[16];
};

/* map `answers`: by the same key, what the kernel answered */
struct answers {
	__u64 answered;
	__u64 last_answer_ns;
};

/* map `interfaces`: by ifindex, where this node announces */
struct interface {
	char name[16];
	char mac_text[18];
	__u8 mac[6];
	__u8 address[4];  /* the interface's own first address; 0.0.0.0: it has none */
	__u32 netns;      /* inode of the network namespace in which the ifindex counts */
	_Bool vlan_strip_off; /* for XDP, isat told the NIC to leave VLAN tags in; clean tells it back */
	__u64 tick_ns;    /* when the control plane last began a verification that passed */
	__u64 fence_ns;   /* a tick older than this: silent */
	__u64 gone_ns;    /* a tick older than this: isat has gone for good, everything passes */
};

/* What was decided for one frame: the row of the verdict table, first match wins.
 * The order is that of the counters in struct verdicts. */
enum verdict {
	TAGGED,         /* row 2, pass: VLAN-tagged ARP, in the frame or stripped by the NIC */
	NOT_REQUEST,    /* row 3, pass: cut short, not Ethernet and IPv4, or not a request */
	NOT_MANAGED,    /* row 4, pass: the target is no VIP of this interface */
	ANNOUNCEMENT,   /* row 5, pass: SPA == TPA */
	NOT_FOR_US,     /* row 6, pass: Ethernet destination neither broadcast nor our MAC */
	GONE,           /* row 7, pass: no tick for gone_ns */
	BAD_SENDER,     /* row 8, drop: SHA multicast, zero or our own */
	NOT_OWNED_HERE, /* row 9, drop: another node answers */
	FENCED,         /* row 9, drop: owned here, but no tick for fence_ns */
	ANSWERED,       /* row 10 */
	EGRESS_CLAIMED, /* egress, pass: a claim of a VIP owned here, with our MAC */
	EGRESS_REWRITTEN, /* egress, pass: a request that named a VIP as its sender */
	EGRESS_DROPPED,   /* egress, drop: a claim of a VIP that is not ours to claim */
	VERDICTS,
	NOT_ARP = VERDICTS, /* row 1, pass: not counted */
};

/* map `verdicts`: by ifindex, frames by verdict */
struct verdicts {
	char interface[16];
	__u64 tagged;
	__u64 not_request;
	__u64 not_managed;
	__u64 announcement;
	__u64 not_for_us;
	__u64 gone;
	__u64 bad_sender;
	__u64 not_owned;
	__u64 fenced;
	__u64 answered;
	__u64 egress_claimed;
	__u64 egress_rewritten;
	__u64 egress_dropped;
	/* of the answered: Ethernet source != SHA, as VRRP gateways and NLB clients ask */
	__u64 answered_other_source;
};

#endif
