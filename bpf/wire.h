/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What isat's nodes say to each other, byte for byte; docs/wire.md explains it. The twin is src/core/wire.ts.
 * Integers are little-endian, and everything is naturally aligned.
 */
#ifndef ISAT_WIRE_H
#define ISAT_WIRE_H

#include <linux/types.h>

#define ETH_P_ISAT 0x88b5 /* IEEE 802, local experimental EtherType 1 */
#define WIRE_VERSION 1
#define WIRE_MAX_CLAIMS 64

enum wire_type {
	WIRE_PROBE = 1,  /* who is there, and how? To one peer, or broadcast to find them. Answered by a kernel */
	WIRE_ECHO = 2,   /* a kernel's answer to a probe */
	WIRE_CLAIM = 3,  /* may I have these? Decided and answered by a kernel */
	WIRE_REPLY = 4,  /* a kernel's answer to a claim */
	WIRE_NOTICE = 5, /* these are mine now: for the control plane of whoever had them */
};

#define WIRE_SOURCE_STALE 1 /* flag: the sender's source has been out of reach */
#define WIRE_KNOWN 2        /* flag of an echo: the control plane here counts with the asker */

enum claim_verdict {
	CLAIMED = 0, /* in a claim */
	FREE = 1,    /* not held here; in a claim: wanted only if whoever is held does not have it */
	RELEASED = 2,   /* held here until this instant */
	MINE = 3,    /* held here, by a live node with a better hash */
};

struct wire_claim {
	__u8 ip[4];
	enum claim_verdict verdict;
	__u64 hash;
};

struct wire {
	__u8 destination[6];
	__u8 source[6];
	__be16 protocol;
	__u8 version;
	__u8 type;
	__u8 key_id;
	__u8 state;     /* enum node_state: the sender's */
	__u8 flags;
	__u8 max_version;    /* the highest version that the sender knows */
	__u16 count;    /* of claims behind the header */
	__u16 tick_age; /* of the sender, in tenths of a second; 65535: that or more */
	__u64 node;     /* the sender */
	__u64 incarnation; /* the sender's */
	__u64 to;       /* the receiver's incarnation, as the sender knows it; 0 in a broadcast */
	__u64 nonce;    /* the asker's clock, more than in the frame before; the answer gives it back */
	__u64 stamp;    /* of an answer: the answerer's clock; else the receiver's clock, as its last answer had it; 0: none */
	char name[32];  /* the sender's */
};

/* Behind the header stand `count` claims, and then 8 bytes: SipHash-2-4 of all before them. */
#define WIRE_TAG 8
#define WIRE_LEAST (sizeof(struct wire) + WIRE_TAG)
#define WIRE_MOST (WIRE_LEAST + WIRE_MAX_CLAIMS * sizeof(struct wire_claim))

_Static_assert(sizeof(struct wire) == 96, "the header is twelve words");
_Static_assert(sizeof(struct wire_claim) == 16, "a claim is two words");

#endif
