/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The wire format of the peer protocol: the frames between isat's nodes, byte for byte. docs/peer-protocol.md explains them.
 * Integers are little-endian, and everything is naturally aligned.
 */
#ifndef ISAT_WIRE_H
#define ISAT_WIRE_H

#include <linux/types.h>

/* An enum for BTF's sake, as isat_constant. */
enum wire_constant {
	ETH_P_ISAT = 0x88b5, /* IEEE 802, local experimental EtherType 1 */
	WIRE_VERSION = 1,    /* the version that is sent, and the highest that is known */
	WIRE_MAX_CLAIMS = 64,
	WIRE_TAG = 8,          /* bytes behind the claims: SipHash-2-4 of all bytes before them */
	WIRE_SOURCE_STALE = 1, /* flag: the sender's source has been out of reach */
	WIRE_KNOWN = 2,        /* flag of an echo: the answerer's control plane counts with the asker */
	FRESH_MS = 5000,       /* a frame that gives back an older stamp of ours was recorded */
	ECHO_PAUSE_MS = 5000,  /* an echo after a longer silence is news: a thousand peers are probed in less */
	OWN_PAUSE_MS = 10,     /* between two frames of our own name that are passed on */
};

enum wire_type {
	WIRE_PROBE = 1,  /* asks for a node's state: to one peer, or broadcast as a hello. Answered by a kernel */
	WIRE_ECHO = 2,   /* a kernel's answer to a probe */
	WIRE_CLAIM = 3,  /* asks for VIPs. Decided and answered by a kernel */
	WIRE_REPLY = 4,  /* a kernel's answer to a claim */
	WIRE_NOTICE = 5, /* tells the control plane of the last owner that the sender owns these VIPs now */
};

enum claim_verdict {
	CLAIM_CLAIMED = 0,  /* in a claim */
	CLAIM_FREE = 1,     /* not held here; in a claim: by a stand-in, if the headless owner does not have it */
	CLAIM_RELEASED = 2, /* held here until this instant */
	CLAIM_MINE = 3,     /* held here, by a live node with a better hash */
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
	__u8 state;        /* enum node_state: the sender's */
	__u8 flags;
	__u8 max_version;  /* the highest version that the sender knows */
	__u16 count;       /* of claims behind the header */
	__u16 tick_age;    /* of the sender, in tenths of a second; 65535: that or more */
	__u64 node;        /* the sender */
	__u64 incarnation; /* the sender's */
	__u64 to;          /* the receiver's incarnation, as the sender knows it; 0 in a broadcast */
	__u64 nonce;       /* the asker's clock, more than in the frame before; the answer gives it back */
	__u64 stamp;       /* of an answer: the answerer's clock; else the receiver's, from its last answer; 0: none */
	char name[32];     /* the sender's */
};

/* Behind the header stand `count` claims, and then the tag. */
#define WIRE_LEAST (sizeof(struct wire) + WIRE_TAG)
#define WIRE_MOST (WIRE_LEAST + WIRE_MAX_CLAIMS * sizeof(struct wire_claim))

_Static_assert(sizeof(struct wire) == 96, "the header is twelve words");
_Static_assert(sizeof(struct wire_claim) == 16, "a claim is two words");

#endif
