/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The contract between the kernel programs and the control plane: the content of the maps, byte for byte, and the
 * meaning of the counters. scripts/generate-abi.ts writes the TypeScript of it, src/core/abi.generated.ts, from the
 * object's BTF, and the build fails where that file is not current. The frames between nodes are in wire.h.
 *
 * Each field has one writer. The control plane writes `vips`, `interfaces`, `probes` and `keys`; the programs write
 * `verdicts`, `peers` and `recent`, and the fields of `vips` and `interfaces` that are said to be theirs. (The control
 * plane only removes peers that are long gone.) So a control plane that writes late cannot take back what its kernel has
 * released. Where one entry has fields of both, the control plane writes it by a program (write.bpf.c), field by field.
 *
 * All times are nanoseconds of CLOCK_BOOTTIME: it does not jump, and it counts while the machine sleeps.
 */
#ifndef ISAT_ABI_H
#define ISAT_ABI_H

#include <linux/bpf.h>
#include <linux/types.h>

/* An enum, because BTF carries it to TypeScript; it carries no macro. */
enum isat_constant {
	/*
	 * The pin folder is v<ISAT_LAYOUT>. Raise it with every change of this file: the kernel accepts a map whose
	 * fields were reordered if the size is the same. The fields that tell who owns a VIP stay where they are in
	 * every layout, so that the next one can take the VIPs over: vip_key, vip6_key, vip.state, vip.claim_ns and
	 * vip.released_ns. (Up to layout 5 they were elsewhere: formerEntries() knows where.)
	 */
	ISAT_LAYOUT = 6,

	ISAT_MAX_VIPS = 65536, /* entries of each family: VIPs x announcing interfaces */
	ISAT_MAX_INTERFACES = 64, /* a power of two */
	ISAT_MAX_SUBNETS = 8, /* of an interface, to which the egress filter fits a sender's address */
	ISAT_MAX_CHANGES = 64, /* of VIPs, in one call: a test run takes such a frame on every kernel */
	ISAT_MAX_PEERS = 16384, /* entries: peers x announcing interfaces */
	ISAT_MAX_KEYS = 4,
	ISAT_RECENT = 4096, /* entries, by the lowest bits of the tag; a power of two */
	ISAT_STRANGERS = 256, /* probes of strangers that are echoed at once, and in a second */
};

enum vip_state {
	VIP_NOT_OWNED = 0, /* managed, but another node answers: nothing here may answer */
	VIP_OWNED = 1,     /* answered here */
	VIP_CLAIMING = 2,  /* peers are being asked for it: not answered, and defended as if it were */
	VIP_LEAVING = 3,   /* answered here until `state_ns`, and released to whoever claims it */
	VIP_UNDECIDED = 4, /* as NOT_OWNED, but who owns it is not known yet: another speaker of this node may have it */
};

struct vip_key {
	__u8 ip[4];
	__u32 ifindex;
};

struct vip6_key {
	__u8 ip[16];
	__u32 ifindex;
};

/*
 * maps `vips` and `vips6`: the VIPs that this node manages. An entry counts, whatever its state, only while the claim
 * behind it is later than `released_ns`.
 *
 * The control plane changes its fields one by one, and a program may see some of them old and others new, in whatever
 * order: arm64 promises none. So `claim_ns` is another than 0 only where the VIP is owned, and a claim that is still being
 * made has its time elsewhere. Else the state of what was owned and released, beside the time of the next claim, would be
 * answered before peers have granted it.
 *
 * The kernel gives the memory of an entry that was removed to the next new one at once, under the eyes of a program that
 * has just found it. So a program reads what it needs, and then looks whose it is.
 */
struct vip {
	/*
	 * Guards released_ns: of two claims on two CPUs, the later one counts. The lock is the first field because, without
	 * CAP_PERFMON, the verifier refuses to add an offset to a pointer to reach a lock.
	 */
	struct bpf_spin_lock lock;
	enum vip_state state;
	__u64 state_ns;       /* LEAVING: answered until then. CLAIMING: when the claim began */
	__u64 hash;           /* this node's: the first 8 bytes of SHA-256, as a number; the lower wins */
	__u64 claim_ns;       /* OWNED, LEAVING: when the claim began by which it is owned; else 0 */
	__u64 released_ns;    /* the programs': when a peer's claim of it was last granted; 0: never */
	__u64 answered;       /* the programs': answers given */
	__u64 last_answer_ns; /* the programs' */
	__u64 check;          /* whose entry it is: check_of() its address and ifindex */
};

/* A change of a VIP's entry, as the control plane hands it to isat_write_vips(). */
struct vip_change {
	__u8 ip[16]; /* IPv4: the first four */
	__u32 ifindex;
	_Bool is_ipv6;
	_Bool is_removed;
	__u16 state; /* enum vip_state, and what it stands for in struct vip */
	__u64 state_ns;
	__u64 hash;
	__u64 claim_ns;
};

/* A node's state, as its peers see it. The numbers are those of the wire format. */
enum node_state {
	NODE_UNKNOWN = 0,
	NODE_JOINING = 1,   /* does not know its peers yet: owns nothing that it did not own before */
	NODE_LIVE = 2,      /* answers, and defends its VIPs */
	NODE_HEADLESS = 3,  /* no tick for live_ns: answers, and releases to any claim */
	NODE_PAST_HOLD = 4, /* no tick for hold_ns: as HEADLESS, and its peers claim its VIPs */
	NODE_DRAINED = 5,   /* releases its VIPs, and takes none */
	NODE_LAGGING = 6,   /* its source is stale beside a peer's that is fresh: it stands back for such peers */
};

/*
 * map `interfaces`: those on which this node announces or is kept silent. It is an array, because a lookup in one costs a
 * fraction of that in a hash, and each frame makes one. An interface's place is its ifindex modulo ISAT_MAX_INTERFACES,
 * or the next one that was free. Its counters are at the same place of `verdicts`.
 *
 * An entry of an array is not replaced at once. So a program reads what it needs, and then looks whose it is; and what
 * belongs together is one word.
 */
struct interface {
	__u32 ifindex;        /* 0: the place is free. Written last, cleared first */
	__u8 address[4];      /* the interface's own first address; 0.0.0.0: it has none */
	__u8 mac[6];          /* stored as one word, with the next two */
	_Bool is_guard;       /* nothing is announced here, and peers' frames pass unread */
	__u8 zero;
	/* The tick is the control plane's heartbeat: when it last began a verification that passed. */
	__u64 tick_ns;
	__u64 fence_ns;       /* a tick older than this: silent */
	__u64 gone_ns;        /* a tick older than this, and no peer heard for as long: everything passes */
	__u64 live_ns;        /* a tick of this age or older: HEADLESS */
	__u64 hold_ns;        /* a tick of this age or older: PAST_HOLD */
	enum node_state state; /* JOINING, LIVE, DRAINED or LAGGING at the last tick; state_of() adds its age */
	_Bool source_stale;   /* the source of the VIPs has been out of reach: peers ignore what this node wants */
	_Bool vlan_strip_off; /* for XDP, isat made the NIC leave VLAN tags in the frame; `isat clean` undoes that */
	_Bool only_ipv4;      /* it has no link-local address: other nodes own VIPs of IPv6 */
	/* All that an answer reads stands before this line, in one cache line, and no program writes there. */
	__u64 heard_ns;       /* the programs': when any peer was last heard: authentic, and fresh */
	__u64 own_ns;         /* the programs': when a frame of our own node's name was last passed on */
	__u64 strangers_ns;   /* the programs': the bucket of strangers' probes: when it will be full again */
	__u64 foreign_ns;     /* the programs': when a frame of another cluster was last passed on */
	__u64 node;           /* the first 8 bytes of SHA-256 of its whole name, as a number */
	__u64 incarnation;    /* random, of the speaker that runs or ran last */
	__u64 hello_nonce;    /* of the last hello, and of the one before; 0: none */
	__u64 last_hello_nonce;
	/* Its own addresses, one in each subnet, and the subnets' masks; the smallest subnets first. Mask 0: none. */
	__u8 own[4 * ISAT_MAX_SUBNETS];
	__u8 masks[4 * ISAT_MAX_SUBNETS];
	__u8 link_local[16];  /* its link-local address of IPv6; all zero: it has none */
	char node_name[32];   /* this node's name, cut off where it is longer */
	char name[16];
	char mac_text[18];
	__u32 netns;          /* inode of the network namespace in which the ifindex counts */
};

/* One node as heard on one interface. */
struct peer_key {
	__u64 node;
	__u32 ifindex;
	__u32 zero;
};

/* map `probes`: the control plane's last question to each peer; without an entry, the peer is not counted with */
struct probe {
	char node[32];
	char mac_text[18];
	__u8 mac[6];
	__u64 incarnation; /* of the peer, as the control plane knows it */
	__u64 nonce;       /* of the last probe, and of the one before: an echo with another one is old, or forged */
	__u64 last_nonce;
};

/* map `peers`: the programs' knowledge of each peer, by frames that were authentic and fresh */
struct peer {
	/* Guards taken_stamp_ns and taken_nonce: two CPUs must not take one claim twice. It is first as that of `vip`. */
	struct bpf_spin_lock lock;
	char node[32];
	enum node_state state;
	__u8 mac[6];
	_Bool source_stale;
	_Bool knows_us;       /* its control plane counts with this speaker */
	__u8 max_version;     /* the highest version of the wire format that it knows */
	__u8 key_id;          /* of the key that it signs with */
	char interface[16];   /* its own name of the interface; empty where it speaks version 1 */
	_Bool only_ipv4;      /* it cannot answer for VIPs of IPv6 */
	__u64 incarnation;
	__u64 echo_nonce;     /* of the last echo that was taken: one of an earlier nonce is late, or was recorded */
	__u64 stamp_ns;       /* the peer's clock at its last echo: given back, it proves that a frame is fresh */
	__u64 tick_age_ms;
	__u64 echoed_ns;      /* our clock, when it last answered a probe; 0: never */
	__u64 heard_ns;       /* our clock, when it was last heard at all */
	__u64 echoes;
	__u64 probe_incarnation; /* of its last probe that was echoed, and that one's nonce: later ones have more */
	__u64 probe_nonce;
	__u64 taken_stamp_ns; /* stamp and nonce of the last claim or notice that was taken: a later one has more */
	__u64 taken_nonce;
};

/*
 * map `keys`: ISAT_MAX_KEYS for the current version of the wire format, and behind them the same number for version 1,
 * whose keys are not the cluster's own. The first of each signs, all verify. Without any, frames of the peer protocol
 * are passed unread; without those of version 1, that version is not spoken.
 */
struct wire_key {
	__u64 k0;      /* SipHash-2-4, little-endian halves; an entry with both halves 0 is no key */
	__u64 k1;
	__u64 cluster; /* the identity of this node's cluster */
	__u32 id;      /* sent with each frame, so that a frame is verified once: 1 to 255 */
};

/* map `recent`: of the tags with the same lowest bits, the last authentic one; a frame that repeats it is dropped */
struct recent {
	__u64 tag;
	__u64 ifindex;
};

/*
 * The verdicts on a frame, each with its counter, in the order of docs/verdicts.md; the first row that matches decides.
 * The enum, the counters in struct verdicts and the code that counts are made of this list. A new verdict is a line
 * here and a row in docs/verdicts.md (and a new ISAT_LAYOUT).
 */
#define VERDICTS(X)                                                                                                    \
	X(TAGGED, tagged)             /* row 2, pass: VLAN-tagged ARP, in the frame or stripped by the NIC */          \
	X(NOT_REQUEST, not_request)   /* row 3, pass: cut short, not Ethernet and IPv4, or not a request */            \
	X(NOT_MANAGED, not_managed)   /* row 4, pass: the target is not a VIP of this interface */                     \
	X(ANNOUNCEMENT, announcement) /* row 5, pass: SPA == TPA */                                                    \
	X(NOT_FOR_US, not_for_us)     /* row 6, pass: Ethernet destination neither broadcast nor our MAC */            \
	X(GONE, gone)                 /* row 7, pass: no tick and no peer for gone_ns */                               \
	X(BAD_SENDER, bad_sender)     /* row 8, drop: SHA multicast, zero or our own */                                \
	X(NOT_OWNED, not_owned)       /* row 9, drop: another node answers */                                          \
	X(FENCED, fenced)             /* row 9, drop: owned here, but no tick for fence_ns */                          \
	X(ANSWERED, answered)         /* row 10 */                                                                     \
	X(ND_NOT_MANAGED, nd_not_managed) /* nd row 2, pass: the target is not a VIP of this interface */              \
	X(ND_BAD, nd_bad)             /* nd rows 1 and 3, pass: cut short, or not as RFC 4861 7.1.1 has it */          \
	X(ND_NOT_FOR_US, nd_not_for_us)   /* nd row 4, pass: neither to the VIP's group nor to our MAC */              \
	X(ND_GONE, nd_gone)           /* nd row 5: as row 7 */                                                         \
	X(ND_BAD_SENDER, nd_bad_sender)   /* nd row 6: as row 8 */                                                     \
	X(ND_NOT_OWNED, nd_not_owned) /* nd row 7: as row 9 */                                                         \
	X(ND_FENCED, nd_fenced)       /* nd row 7: as row 9 */                                                         \
	X(ND_ANSWERED, nd_answered)   /* nd row 8 */                                                                   \
	X(EGRESS_CLAIMED, egress_claimed)     /* egress, pass: the sender is a VIP owned here, with our MAC */         \
	X(EGRESS_REWRITTEN, egress_rewritten) /* egress, pass: a request that named a VIP as its sender */             \
	X(EGRESS_DROPPED, egress_dropped)     /* egress, drop: the sender is a VIP that is not ours */                 \
	X(WIRE_ECHOED, wire_echoed)   /* peers, answered: a probe */                                                   \
	X(WIRE_TAKEN, wire_taken)     /* peers: an echo, reply, claim or notice that was authentic and fresh */        \
	X(WIRE_REFUSED, wire_refused) /* peers, drop: cut short, of an unknown version, type or key, or a wrong tag */ \
	X(WIRE_FOREIGN, wire_foreign) /* peers, drop: of another cluster, or of a version no longer spoken here */     \
	X(WIRE_STALE, wire_stale)     /* peers, drop: recorded, repeated, late, or meant for an earlier incarnation */ \
	X(WIRE_STRANGER, wire_stranger) /* peers, drop: a probe of a stranger, beyond ISAT_STRANGERS in a second */    \
	X(WIRE_OWN, wire_own)         /* peers: our own node's name, from wherever it comes */

enum verdict {
#define VERDICT(name, counter) VERDICT_##name,
	VERDICTS(VERDICT)
#undef VERDICT
	VERDICT_NONE, /* not counted: row 1 and what isat does not read */
};

/*
 * map `verdicts`: frames by verdict, per CPU and by the place of their interface in `interfaces`. A counter that two CPUs
 * share costs each of them more than all the rest of an ARP frame for someone else. All but the clock are counters.
 */
struct verdicts {
	/*
	 * The clock, read once a jiffy: reading it costs as much as all the lookups of an answer. So an answer's time may
	 * be a jiffy old. A claim's is not.
	 */
	__u64 clock_jiffy;
	__u64 clock_ns;
#define COUNTER(name, counter) __u64 counter;
	VERDICTS(COUNTER)
#undef COUNTER
	__u64 answered_other_source; /* of the answered: Ethernet source != SHA, as VRRP gateways and NLB clients ask */
	__u64 released;              /* VIPs that were held here and granted to a peer */
};

#endif
