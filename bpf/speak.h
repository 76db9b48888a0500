/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the nodes say to each other (wire.h), and what a kernel makes of it: probes and claims are answered here, so that
 * a node whose control plane is busy, stopped or dead still says how it is and still gives VIPs away. Nothing here
 * knows whether it runs at TC or at XDP. docs/wire.md has the rules with their reasons.
 */
#ifndef ISAT_SPEAK_H
#define ISAT_SPEAK_H

#include "decide.h"
#include "siphash.h"
#include "wire.h"

#define SECOND 1000000000ULL
#define FRESH (5 * SECOND)          /* a frame that gives back an older stamp of ours was recorded */
#define ECHO_PAUSE (5 * SECOND)     /* a peer that was silent for longer is news: more than the pause of a thousand's probes */
#define OWN_PAUSE (SECOND / 100)    /* between two frames of our own name that are passed on */

/* What becomes of a frame. */
enum action {
	PASS, /* on to user space */
	STOP, /* dropped: all that it says is in the maps */
	TURN, /* turned round and sent back */
};

/*
 * A local variable that lives long is a whole word here: a smaller one, which the compiler puts by in half of a slot of
 * the stack where a pointer was, is refused without CAP_PERFMON, by Linux 6.1 at least.
 */
typedef __u64 word;

#define VID 0x0fff

/*
 * Whether behind a tag of no VLAN (VID 0), which the stack takes off, stands what nobody may read unread: isat's own
 * EtherType, or another such tag, which nobody else sends. `inner` is what stands behind the first one.
 */
static __always_inline bool hides_speech(__be16 type, const __be16 *inner, const void *end)
{
	if (type == bpf_htons(ETH_P_ISAT))
		return true;
	return is_vlan(type) && (const void *)(inner + 1) <= end && !(*inner & bpf_htons(VID));
}

/* The same of a frame that has all of its tags. */
static __always_inline bool tagged_speech(const void *data, const void *end)
{
	const __be16 *tag = data + 14;

	return (const void *)(tag + 2) <= end && !(tag[0] & bpf_htons(VID)) && hides_speech(tag[1], tag + 2, end);
}

/* The key that signs; without it this node does not speak, and passes every frame. */
static __always_inline const struct wire_key *signing_key(void)
{
	__u32 first = 0;
	const struct wire_key *key = bpf_map_lookup_elem(&keys, &first);

	return key && (key->k0 | key->k1) ? key : NULL;
}

/* The key of that id; `first` is the one that signs, and nearly always it. */
static __always_inline const struct wire_key *key_of(__u8 id, const struct wire_key *first)
{
	__u32 i;

	if (first->id == id)
		return first;
#pragma unroll
	for (i = 1; i < ISAT_MAX_KEYS; i++) {
		__u32 place = i;
		const struct wire_key *key = bpf_map_lookup_elem(&keys, &place);

		if (key && key->id == id && (key->k0 | key->k1))
			return key;
	}
	return NULL;
}

/*
 * All that can be said of a frame before its tag is computed; the caller has made sure that the header is there. What
 * takes a lookup in a hash map comes after the tag: anybody can send frames that get as far as to it.
 */
static __always_inline bool is_plausible(const struct wire *frame)
{
	return frame->version == WIRE_VERSION && frame->type >= WIRE_PROBE && frame->type <= WIRE_NOTICE &&
	       frame->count <= (frame->type < WIRE_CLAIM ? 0 : WIRE_MAX_CLAIMS);
}

static __always_inline bool is_for(const struct interface *interface, const struct wire *frame)
{
	return is_broadcast(frame->destination) || same_mac(frame->destination, interface->mac);
}

/*
 * Where the tag stands: behind `count` claims, at most 127. By powers of two, as without CAP_PERFMON the verifier lets a
 * packet pointer move by constants only, and follows a loop that does to where it would never come.
 */
static __always_inline void *behind_claims(struct wire_claim *claims, __u32 count)
{
	__u32 step;

#pragma unroll
	for (step = 64; step > 0; step /= 2)
		if (count & step) {
			claims += step;
			barrier_var(claims); /* else the compiler makes one addition of all */
		}
	return claims;
}

/*
 * Reads the tag, which ends the frame; false where the frame is shorter or longer. Two comparisons, because without
 * CAP_PERFMON the verifier refuses to compare a pointer with the end for equality. Not inlined, which puts the types of
 * wire.h into the object's BTF.
 */
static __noinline bool read_tag_behind(struct wire_claim *claims, const void *end, __u32 count, __u64 *tag)
{
	void *at = behind_claims(claims, count);

	if (at + WIRE_TAG > end)
		return false;
	*tag = *(const __u64 *)at;
	barrier(); /* a second look at the first comparison is one that the verifier knows, and speculates on */
	return at + WIRE_TAG + 1 > end;
}

/* Reads the tag, which ends the frame; false where the frame is shorter or longer. Most frames have no claims. */
static __always_inline bool read_tag(const struct wire *frame, const void *end, __u64 *tag)
{
	const void *at = frame + 1;

	if (frame->count > 0)
		return read_tag_behind((struct wire_claim *)at, end, frame->count, tag);
	if (at + WIRE_TAG > end)
		return false;
	*tag = *(const __u64 *)at;
	barrier(); /* as above */
	return at + WIRE_TAG + 1 > end;
}

/* What this node is to its peers: what its control plane said last, and how long ago. */
static __always_inline enum node_state state_of(const struct interface *interface, __u64 now)
{
	__u64 age = since(interface->tick_ns, now);

	if (interface->tick_ns == 0)
		return JOINING;
	/* What it was told to give away it gives away, however long its speaker is dead. */
	if (interface->state == DRAINED || interface->state == LAGGING)
		return interface->state;
	if (age >= interface->hold_ns)
		return PAST_HOLD;
	if (interface->state == LIVE && age >= interface->live_ns)
		return HEADLESS;
	return interface->state;
}

/* Whether a reading of this node's clock, which a frame gives back, is one of the last five seconds. */
static __always_inline bool is_fresh(__u64 reading, __u64 now)
{
	return reading != 0 && reading <= now && now - reading < FRESH;
}

/*
 * Whether a reading of this node's clock was too old when a peer was heard last, and is older now: a flood of recorded
 * frames costs no look at the clock, nor at who is said to have sent them. A probe is echoed however old it is.
 */
static __always_inline bool is_recorded(const struct wire *frame, const struct verdicts *counters)
{
	bool is_answer = frame->type == WIRE_ECHO || frame->type == WIRE_REPLY;
	__u64 reading = frame->stamp, nonce = frame->nonce;

	barrier_var(nonce); /* else the compiler chooses the place, not the value, and moves a packet pointer by it */
	if (is_answer)
		reading = nonce;
	return frame->type != WIRE_PROBE && reading != 0 && since(reading, counters->heard_ns) >= FRESH;
}

/*
 * Whether this very frame came lately: all that a node sends are different, by nonce and stamp. Two CPUs may take one
 * twice, or another frame have its place: what is taken has to bear that.
 */
static __always_inline bool is_repeated(__u64 tag, __u32 ifindex)
{
	__u32 place = tag & (ISAT_RECENT - 1);
	struct recent *last = bpf_map_lookup_elem(&recent, &place);

	if (!last)
		return false; /* never */
#ifndef ISAT_BENCH /* BPF_PROG_TEST_RUN repeats one frame */
	if (last->tag == tag && last->ifindex == ifindex)
		return true;
#endif
	last->tag = tag;
	last->ifindex = ifindex;
	return false;
}

/*
 * Makes the entry of a peer; another CPU may have been first, or the map be full. Apart from the rest for its stack. An
 * entry may have been there before: what was taken from it then is not taken again.
 */
__weak __noinline int enter(__u64 node, __u32 ifindex, __u64 now)
{
	struct peer_key key = { .node = node, .ifindex = ifindex };
	struct peer unknown = { .taken_stamp_ns = now };

	return bpf_map_update_elem(&peers, &key, &unknown, BPF_NOEXIST);
}

/* The entry of a peer, made where there is none; NULL where there is no room. */
static __always_inline struct peer *peer_of(const struct peer_key *key, __u64 now)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, key);

	if (peer)
		return peer;
	enter(key->node, key->ifindex, now);
	return bpf_map_lookup_elem(&peers, key);
}

static __always_inline void describe(struct peer *peer, const struct wire *frame)
{
	__builtin_memcpy(peer->node, frame->name, sizeof(peer->node));
	__builtin_memcpy(peer->mac, frame->source, 6);
	peer->state = frame->state;
	peer->source_stale = frame->flags & WIRE_SOURCE_STALE;
	peer->max_version = frame->max_version;
	peer->incarnation = frame->incarnation;
}

static __always_inline bool is_nonce(const struct interface *interface, const struct peer_key *key, __u64 nonce)
{
	const struct probe *probe;

	if (nonce == 0)
		return false;
	if (nonce == interface->hello_nonce || nonce == interface->last_hello_nonce)
		return true;
	probe = bpf_map_lookup_elem(&probes, key);
	return probe && (nonce == probe->nonce || nonce == probe->last_nonce);
}

/* An answer to a probe of ours: the one word on what a peer is. */
static __always_inline enum verdict take_echo(const struct wire *frame, const struct interface *interface,
					      const struct peer_key *key, __u64 now, word *action)
{
	word stale, knows_us, is_late;
	struct peer *peer;
	__u64 silent;

	if (!is_nonce(interface, key, frame->nonce))
		return WIRE_STALE;
	peer = peer_of(key, now);
	if (!peer)
		return WIRE_TAKEN;

	/*
	 * Of the echoes to one nonce the latest counts: one probe, played to the peer again, makes it echo again. The nonces
	 * are our clock, so a peer whose own went back, as it has rebooted, is heard with the next one.
	 */
	is_late = frame->nonce < peer->echo_nonce;
#ifndef ISAT_BENCH /* BPF_PROG_TEST_RUN repeats one frame */
	is_late |= frame->nonce == peer->echo_nonce && frame->stamp <= peer->stamp_ns;
#endif
	if (is_late)
		return WIRE_STALE;
	silent = since(peer->echoed_ns, now);
	/*
	 * Another speaker on another NIC, while the one that is known answers: a second node of this name, which is joining
	 * and will refuse. Were it taken for the first, nobody would ask the first for what it owns.
	 */
	if (silent <= ECHO_PAUSE && peer->echoed_ns != 0 && peer->incarnation != frame->incarnation &&
	    !same_mac(peer->mac, frame->source))
		return WIRE_STALE;
	stale = !!(frame->flags & WIRE_SOURCE_STALE);
	knows_us = !!(frame->flags & WIRE_KNOWN);
	if (silent > ECHO_PAUSE || peer->echoed_ns == 0 || peer->incarnation != frame->incarnation ||
	    peer->state != frame->state || peer->source_stale != stale || peer->knows_us != knows_us ||
	    peer->max_version != frame->max_version || !same_mac(peer->mac, frame->source))
		*action = PASS;
	describe(peer, frame);
	peer->knows_us = knows_us;
	peer->echo_nonce = frame->nonce;
	peer->stamp_ns = frame->stamp;
	peer->tick_age_ms = frame->tick_age * 100;
	peer->echoed_ns = now;
	peer->heard_ns = now;
	add_one(&peer->echoes);
	return WIRE_TAKEN;
}

/* Whether a claim or notice is later than the one that was taken last; from then on it is the last. */
static __always_inline bool take_turn(struct peer *peer, __u64 stamp, __u64 nonce)
{
	bool is_later;

	bpf_spin_lock(&peer->lock);
	is_later = stamp > peer->taken_stamp_ns || (stamp == peer->taken_stamp_ns && nonce > peer->taken_nonce);
	if (is_later) {
		peer->taken_stamp_ns = stamp;
		peer->taken_nonce = nonce;
	}
	bpf_spin_unlock(&peer->lock);
	return is_later;
}

/* A claim, or a notice. */
static __always_inline enum verdict take_word(const struct wire *frame, const struct peer_key *key, __u64 now,
					      word *action)
{
	__u64 stamp = frame->stamp, nonce = frame->nonce;
	struct peer *peer;

	if (!is_fresh(stamp, now))
		return WIRE_STALE;
	peer = bpf_map_lookup_elem(&peers, key);
	/*
	 * Of whatever speaker of that node: where none runs here nothing asks it, so nothing tells that a new one is there.
	 * Its stamp is as good as the last one's was.
	 */
	if (!peer || !take_turn(peer, stamp, nonce))
		return WIRE_STALE;
	peer->heard_ns = now;
	*action = frame->type == WIRE_CLAIM ? TURN : PASS;
	return WIRE_TAKEN;
}

/* An answer to a claim of ours: user space knows which it has made, so playing one again changes nothing. */
static __always_inline enum verdict take_reply(const struct wire *frame, const struct peer_key *key, __u64 now,
					       word *action)
{
	struct peer *peer;

	if (!is_fresh(frame->nonce, now))
		return WIRE_STALE;
	peer = bpf_map_lookup_elem(&peers, key);
	if (!peer)
		return WIRE_STALE;
	peer->heard_ns = now;
	*action = PASS;
	return WIRE_TAKEN;
}

/*
 * A probe proves that its sender lives where it gives back a late stamp of ours. What its sender is, only an echo tells:
 * a probe can be played again for as long as its stamp is fresh.
 */
static __always_inline bool is_heard_by_probe(const struct wire *frame, const struct interface *interface,
					      const struct peer_key *key, __u64 now)
{
	struct peer *peer;

	if (frame->to != interface->incarnation || !is_fresh(frame->stamp, now))
		return false;
	peer = peer_of(key, now);
	if (!peer)
		return false;
	if (peer->echoed_ns == 0)
		describe(peer, frame);
	peer->heard_ns = now;
	return true;
}

/*
 * A frame of our own name: of this node, come back, or of another that was given the name too. What a recorded one told
 * would stop a speaker that joins, or an interface.
 */
static __always_inline enum verdict take_own(const struct wire *frame, const struct interface *interface,
					     struct verdicts *counters, __u64 now, word *action)
{
	word type = frame->type, reading = frame->nonce, stamp = frame->stamp;

	/* Another node of our name learns by our echo that the name is taken. */
	if (type == WIRE_PROBE && frame->incarnation != interface->incarnation) {
		*action = TURN;
		return WIRE_OWN;
	}
	if (type != WIRE_PROBE && frame->to != interface->incarnation)
		return WIRE_STALE;
	barrier_var(stamp); /* as in is_recorded() */
	if (type == WIRE_CLAIM || type == WIRE_NOTICE)
		reading = stamp;
	if (!is_fresh(reading, now))
		return WIRE_STALE;
	if (since(counters->own_ns, now) >= OWN_PAUSE) {
		counters->own_ns = now;
		*action = PASS;
	}
	return WIRE_OWN;
}

/* What an authentic frame says that may be new, and what becomes of it. */
static __always_inline enum verdict hear(const struct wire *frame, const struct interface *interface, __u32 ifindex,
					 struct verdicts *counters, __u64 now, word *action)
{
	struct peer_key key = { .node = frame->node, .ifindex = ifindex };
	word type = frame->type, verdict, is_heard;

	*action = STOP;
	if (frame->node == interface->node)
		return take_own(frame, interface, counters, now, action);
	if (type == WIRE_PROBE) {
		*action = TURN;
		is_heard = is_heard_by_probe(frame, interface, &key, now);
		verdict = WIRE_ECHOED;
	} else if (frame->to != interface->incarnation) {
		return WIRE_STALE;
	} else {
		if (type == WIRE_ECHO)
			verdict = take_echo(frame, interface, &key, now, action);
		else if (type == WIRE_REPLY)
			verdict = take_reply(frame, &key, now, action);
		else
			verdict = take_word(frame, &key, now, action);
		is_heard = verdict == WIRE_TAKEN;
	}
	if (is_heard)
		counters->heard_ns = now;
	return verdict;
}

enum stance { YIELDS, DEFENDS, HOLDS };
enum keeps { KEEPS_NONE, KEEPS_BETTER, KEEPS_ALL };

/*
 * One VIP of a claim. A yield is recorded even where nothing was held: a claim that was granted to somebody else must
 * beat one of ours that began earlier, and whose control plane was asleep. A global function, verified once.
 */
__weak __noinline enum claim_verdict claim_one(__u32 ip, __u32 ifindex, __u64 hash, __u64 now, __u32 keeps)
{
	struct vip_key key = { .ifindex = ifindex };
	struct verdicts *counters;
	struct answers *answered;
	struct vip *vip;
	bool holds;

	__builtin_memcpy(key.ip, &ip, 4);
	vip = bpf_map_lookup_elem(&vips, &key);
	if (!vip)
		return FREE;
	answered = bpf_map_lookup_elem(&answers, &key);
	holds = is_current(vip, answered) && (vip->state == OWNED || vip->state == CLAIMING ||
					      (vip->state == LEAVING && now < vip->until_ns));
	if (holds && vip->state != LEAVING && ((keeps == KEEPS_ALL && vip->state == OWNED) ||
							 (keeps == KEEPS_BETTER && hash >= vip->hash)))
		return MINE;
	/* What cannot be recorded cannot be given away. */
	if (!answered)
		return holds ? MINE : FREE;

	answered->released_ns = now > vip->claim_ns ? now : vip->claim_ns;
	if (!holds)
		return FREE;
	counters = bpf_map_lookup_elem(&verdicts, &ifindex);
	if (counters)
		add_one(&counters->released);
	return vip->state == CLAIMING ? FREE : RELEASED;
}

/* How this node takes claims: a live one that knows what is wanted, one whose speaker is away, and one that gives away. */
static __always_inline enum stance stance_of(const struct interface *interface, __u64 now)
{
	enum node_state state = state_of(interface, now);

	if (state == LIVE)
		return DEFENDS;
	/* What is silent keeps nothing from anybody. */
	if (since(interface->tick_ns, now) > interface->fence_ns)
		return YIELDS;
	return state == HEADLESS || state == PAST_HOLD ? HOLDS : YIELDS;
}

/* What it keeps of one claim. */
static __always_inline enum keeps keeps_of(enum stance stance, enum claim_verdict asked)
{
	if (stance == DEFENDS)
		return KEEPS_BETTER;
	return stance == HOLDS && asked == FREE ? KEEPS_ALL : KEEPS_NONE;
}

/* The header of the answer to a probe or a claim. Not inlined, for BTF's sake, as read_tag(). */
static __noinline void introduce(struct wire *answer, const struct wire *asked, const struct interface *interface,
				 enum wire_type type, __u64 now)
{
	__u64 tick_age = since(interface->tick_ns, now) / (SECOND / 10);

	/* In whole words and before all else: see turn_round(). */
	__builtin_memset(answer, 0, sizeof(*answer));
	asm volatile("" : : "r"(answer) : "memory");
	__builtin_memcpy(answer->destination, asked->source, 6);
	__builtin_memcpy(answer->source, interface->mac, 6);
	answer->protocol = bpf_htons(ETH_P_ISAT);
	answer->version = WIRE_VERSION;
	answer->type = type;
	answer->state = state_of(interface, now);
	answer->flags = interface->source_stale ? WIRE_SOURCE_STALE : 0;
	answer->max_version = WIRE_VERSION;
	answer->count = asked->count;
	answer->tick_age = interface->tick_ns == 0 || tick_age > 65535 ? 65535 : tick_age;
	answer->node = interface->node;
	answer->incarnation = interface->incarnation;
	answer->to = asked->incarnation;
	answer->nonce = asked->nonce;
	answer->stamp = now;
	__builtin_memcpy(answer->name, interface->node_name, sizeof(answer->name));
}

/* Whether the control plane here counts with the speaker that asks. */
static __always_inline bool is_known(const struct wire *asked, __u32 ifindex)
{
	struct peer_key key = { .node = asked->node, .ifindex = ifindex };
	const struct probe *probe = bpf_map_lookup_elem(&probes, &key);

	return probe && probe->incarnation == asked->incarnation;
}

#endif
