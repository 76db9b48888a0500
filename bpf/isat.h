/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The whole contract between the kernel programs and the control plane: what
 * stands in the maps, byte for byte, and what the counters mean. The twin of
 * this file is src/core/abi.ts; the build compares the two through the object's
 * BTF and fails where they differ. What goes over the wire is in wire.h.
 *
 * Each map has one writer. The control plane writes `vips`, `interfaces`, `probes`
 * and `keys`; the programs write `answers`, `verdicts`, `peers` and `recent` (the control
 * plane only adds and removes entries of the first two, so that the answer path
 * never allocates, and removes peers that are long gone). So a control plane that
 * writes late cannot take back what its kernel has given away.
 *
 * All times are nanoseconds of CLOCK_BOOTTIME: it does not jump, and it counts
 * while the machine sleeps.
 */
#ifndef ISAT_H
#define ISAT_H

#include <linux/bpf.h>
#include <linux/types.h>

/* The pin folder is v<ISAT_LAYOUT>. Raise it with every change of what is below:
 * the kernel accepts a map whose fields were reordered if the size is the same.
 * What tells who owns what stays where it is in every layout, so that the next one
 * can take it over: vip_key, vip.state, vip.claim_ns and answers.released_ns. */
#define ISAT_LAYOUT 3

#define ISAT_MAX_VIPS 65536 /* entries: VIPs x announcing interfaces */
#define ISAT_MAX_INTERFACES 64
#define ISAT_MAX_PEERS 4096 /* entries: peers x announcing interfaces */
#define ISAT_MAX_KEYS 4
#define ISAT_RECENT 4096 /* entries, by the lowest bits of the tag; a power of two */

enum vip_state {
	NOT_OWNED = 0, /* managed, and answered by some other node: nothing here may answer */
	OWNED = 1,     /* answered here */
	CLAIMING = 2,  /* peers are being asked for it: not answered, and defended as if it were */
	LEAVING = 3,   /* answered here until `until_ns`, and given to whoever claims it */
};

struct vip_key {
	__u8 ip[4];
	__u32 ifindex;
};

/*
 * map `vips`: what this node manages. An entry counts, whatever its state, only while
 * `claim_ns` is later than the same entry's `released_ns` in `answers`.
 */
struct vip {
	enum vip_state state;
	char interface[16];
	__u64 claim_ns; /* when the claim began by which it is owned, or is to be */
	__u64 until_ns; /* LEAVING: not answered from then on */
	__u64 hash;      /* this node's: the first 8 bytes of SHA-256, as a number; the lower wins */
};

/* map `answers`: by the same key, what the kernel answered, and what it gave away */
struct answers {
	__u64 answered;
	__u64 last_answer_ns;
	__u64 released_ns; /* when a peer's claim of it was last granted; 0: never */
};

/* What a node is to its peers. The order is that of the wire. */
enum node_state {
	UNKNOWN = 0,
	JOINING = 1,   /* does not know its peers yet: owns nothing that it did not own before */
	LIVE = 2,      /* answers, and defends what it owns */
	HEADLESS = 3,      /* no tick for live_ns: answers, and releases to any claim */
	PAST_HOLD = 4, /* no tick for hold_ns: the same, and its peers claim its VIPs */
	DRAINED = 5,   /* gives away what it has, and takes nothing */
	LAGGING = 6,    /* the same, as its source has been out of reach beside a peer's that is not */
};

/* map `interfaces`: by ifindex, where this node announces */
struct interface {
	char name[16];
	char mac_text[18];
	__u8 mac[6];
	__u8 address[4];  /* the interface's own first address; 0.0.0.0: it has none */
	__u32 netns;      /* inode of the network namespace in which the ifindex counts */
	_Bool vlan_strip_off; /* for XDP, isat told the NIC to leave VLAN tags in; clean tells it back */
	_Bool source_stale;   /* the source of the VIPs has been out of reach: what a live node says of it does not count */
	enum node_state state; /* JOINING, LIVE, DRAINED or LAGGING, as of the last tick; its age makes HEADLESS, then PAST_HOLD of LIVE */
	char node_name[32];   /* this node's name, cut off where it is longer */
	__u64 node;       /* the first 8 bytes of SHA-256 of its whole name, as a number */
	__u64 incarnation;   /* random, of the speaker that runs or ran last */
	__u64 hello_nonce;      /* of the last broadcast probe, and of the one before; 0: none */
	__u64 last_hello_nonce;
	__u64 tick_ns;    /* when the control plane last began a verification that passed */
	__u64 live_ns;    /* a tick older than this: HEADLESS */
	__u64 hold_ns;    /* a tick older than this: PAST_HOLD */
	__u64 fence_ns;   /* a tick older than this: silent */
	__u64 gone_ns;    /* a tick older than this, and no peer heard for so long: isat has gone for good, everything passes */
};

/* One node as heard on one interface. */
struct peer_key {
	__u64 node;
	__u32 ifindex;
	__u32 zero;
};

/* map `probes`: what the control plane has asked of each peer last; an entry says that it counts with this peer */
struct probe {
	char node[32];
	char mac_text[18];
	__u8 mac[6];
	__u64 incarnation; /* of the peer, as the control plane knows it */
	__u64 nonce;    /* of the last probe, and of the one before: an echo with another one is old, or forged */
	__u64 last_nonce;
};

/* map `peers`: what the programs know of each peer by frames that were authentic and fresh */
struct peer {
	/*
	 * Of taken_stamp_ns and taken_nonce: two CPUs must not take one claim twice. First, because without CAP_PERFMON the
	 * verifier refuses to add to a pointer what makes it point at a lock.
	 */
	struct bpf_spin_lock lock;
	char node[32];
	enum node_state state;
	__u8 mac[6];
	_Bool source_stale;
	_Bool knows_us;   /* its control plane counts with this speaker */
	__u8 max_version;      /* the highest version of the wire protocol that it knows */
	__u64 incarnation;
	__u64 echo_nonce; /* of the last echo that was taken: one of an earlier nonce is late, or was recorded */
	__u64 stamp_ns;   /* the peer's clock at its last echo: given back, it proves that a frame is fresh */
	__u64 tick_age_ms;
	__u64 echoed_ns;  /* our clock, when it last answered a probe; 0: never */
	__u64 heard_ns;   /* our clock, when it was last heard at all */
	__u64 echoes;
	__u64 taken_stamp_ns; /* stamp and nonce of the last claim or notice that was taken from it: a later one has more */
	__u64 taken_nonce;
};

/* map `keys`: the first one signs, all verify; without any, frames of the wire protocol are passed unread */
struct wire_key {
	__u64 k0; /* SipHash-2-4, little-endian halves; an entry with both halves 0 is none */
	__u64 k1;
	__u32 id; /* sent with each frame, so that a frame is verified once: 1 to 255 */
};

/* map `recent`: the last authentic frame of those whose tags have the same lowest bits; one that comes again is dropped */
struct recent {
	__u64 tag;
	__u64 ifindex;
};

/* What was decided for one frame: the row of the verdict table, first match wins.
 * The order is that of the counters in struct verdicts. */
enum verdict {
	TAGGED,         /* row 2, pass: VLAN-tagged ARP, in the frame or stripped by the NIC */
	NOT_REQUEST,    /* row 3, pass: cut short, not Ethernet and IPv4, or not a request */
	NOT_MANAGED,    /* row 4, pass: the target is no VIP of this interface */
	ANNOUNCEMENT,   /* row 5, pass: SPA == TPA */
	NOT_FOR_US,     /* row 6, pass: Ethernet destination neither broadcast nor our MAC */
	GONE,           /* row 7, pass: no tick and no peer for gone_ns */
	BAD_SENDER,     /* row 8, drop: SHA multicast, zero or our own */
	NOT_OWNED_HERE, /* row 9, drop: another node answers */
	FENCED,         /* row 9, drop: owned here, but no tick for fence_ns */
	ANSWERED,       /* row 10 */
	EGRESS_CLAIMED, /* egress, pass: a claim of a VIP owned here, with our MAC */
	EGRESS_REWRITTEN, /* egress, pass: a request that named a VIP as its sender */
	EGRESS_DROPPED,   /* egress, drop: a claim of a VIP that is not ours to claim */
	WIRE_ECHOED,      /* wire, answered: a probe */
	WIRE_TAKEN,       /* wire: an echo, a reply, a claim or a notice that was authentic and fresh */
	WIRE_REFUSED,     /* wire, drop: cut short, of a version, type or key that is not ours, or with a wrong tag */
	WIRE_STALE,       /* wire, drop: authentic, but recorded, come before, late, or meant for an earlier speaker */
	WIRE_OWN,         /* wire: our own node's name, from wherever it comes */
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
	__u64 wire_echoed;
	__u64 wire_taken;
	__u64 wire_refused;
	__u64 wire_stale;
	__u64 wire_own;
	/* of the answered: Ethernet source != SHA, as VRRP gateways and NLB clients ask */
	__u64 answered_other_source;
	__u64 released;   /* VIPs that were held here and granted to a peer */
	__u64 heard_ns;  /* when any peer was last heard: authentic, and fresh */
	__u64 own_ns;    /* when a frame of our own node's name was last passed on */
};

#endif
