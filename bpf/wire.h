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
	WIRE_VERSION = 2,    /* the highest version that is known */
	WIRE_OLD_VERSION = 1, /* the lowest: without `cluster` and `interface`, and with claims of half the size */
	WIRE_MAX_CLAIMS = 32,
	WIRE_OLD_MAX_CLAIMS = 64,
	WIRE_TAG = 8,          /* bytes behind the claims: SipHash-2-4 of all bytes before them */
	WIRE_SOURCE_STALE = 1, /* flag: the sender's source has been out of reach */
	WIRE_ONLY_IPV4 = 4,    /* flag: the sender cannot answer for VIPs of IPv6 on this network */
	WIRE_KNOWN = 2,        /* flag of an echo: the answerer's control plane counts with the asker */
	WIRE_NODE_STATE = 255, /* in the verdict on a node that was asked for: its state, as it said itself */
	WIRE_NODE_STALE = 256, /* and that its source is stale */
	FRESH_MS = 5000,       /* a frame that gives back an older stamp of ours was recorded */
	ECHO_PAUSE_MS = 5000,  /* an echo after a longer silence is news: a thousand peers are probed in less */
	OWN_PAUSE_MS = 10,     /* between two frames of our own name that are passed on */
	FOREIGN_PAUSE_MS = 1000, /* between two frames of other clusters that are passed on */
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

/*
 * A claim of family 0 asks for a node: `hash` is that node. In the reply, `hash` is the time since it was last heard
 * there, in nanoseconds, or all ones; and the verdict is what it said of itself.
 */
struct wire_claim {
	__u8 ip[16];  /* an IPv4 address stands in the first four */
	__u32 family; /* 4 or 6 */
	enum claim_verdict verdict;
	__u64 hash;   /* in a claim: the claimant's for this VIP */
};

/* A claim of version 1; in version 2, the family stands where the address was, and the address before it. */
struct wire_old_claim {
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
	/* Version 1 ends here. */
	__u64 cluster;      /* the identity of the sender's cluster */
	char interface[16]; /* by which the sender is on this network: an advertisement may name interfaces */
	__u64 zero;
};

/*
 * Behind the header stand `count` claims, and then the tag. All of it is whole pairs of words. A frame's size is counted
 * in the pairs behind the part of the header that all versions have.
 */
#define PAIR 16
#define WIRE_OLD_HEADER __builtin_offsetof(struct wire, cluster)
#define WIRE_MORE_PAIRS ((sizeof(struct wire) - WIRE_OLD_HEADER) / PAIR)
#define WIRE_CLAIM_PAIRS (sizeof(struct wire_claim) / PAIR)
#define WIRE_MOST_PAIRS (WIRE_MORE_PAIRS + WIRE_MAX_CLAIMS * WIRE_CLAIM_PAIRS)
#define WIRE_LEAST (WIRE_OLD_HEADER + WIRE_TAG)
#define WIRE_MOST (WIRE_LEAST + WIRE_MOST_PAIRS * PAIR)

_Static_assert(WIRE_OLD_HEADER == 96 && sizeof(struct wire) == 128, "a header is whole pairs of words");
_Static_assert(sizeof(struct wire_old_claim) == PAIR && sizeof(struct wire_claim) == 2 * PAIR, "so is a claim");
_Static_assert(__builtin_offsetof(struct wire_claim, verdict) == PAIR + 4, "a claim ends as it did in version 1");
_Static_assert(WIRE_OLD_MAX_CLAIMS <= WIRE_MOST_PAIRS, "no version has longer frames than the latest");

#endif
