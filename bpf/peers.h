/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The peers as their frames tell: who is heard, in which state, and which frames go on to user space. Claims themselves
 * are decided in claims.h. docs/peer-protocol.md has the rules with their reasons.
 */
#ifndef ISAT_PEERS_H
#define ISAT_PEERS_H

#include "auth.h"
#include "result.h"

#define ECHO_PAUSE (ECHO_PAUSE_MS * MILLISECOND)
#define OWN_PAUSE (OWN_PAUSE_MS * MILLISECOND)
#define STRANGER (SECOND / ISAT_STRANGERS)
#define FOREIGN_PAUSE (FOREIGN_PAUSE_MS * MILLISECOND)

static __always_inline bool is_for(const struct interface *interface, const struct wire *frame)
{
	return is_broadcast(frame->destination) || same_mac(frame->destination, interface->mac);
}

/*
 * Makes the entry of a peer, unless another CPU was first or the map is full. The entry may have been there before, so
 * no claim of an earlier time is taken. A global function has a stack of its own.
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

static __always_inline void describe(struct peer *peer, const struct wire *frame, const void *end)
{
	if (frame->version != WIRE_OLD_VERSION && (const void *)(frame + 1) <= end)
		__builtin_memcpy(peer->interface, frame->interface, sizeof(peer->interface));
	else
		__builtin_memset(peer->interface, 0, sizeof(peer->interface));
	__builtin_memcpy(peer->node, frame->name, sizeof(peer->node));
	__builtin_memcpy(peer->mac, frame->source, 6);
	peer->state = frame->state;
	peer->source_stale = frame->flags & WIRE_SOURCE_STALE;
	peer->only_ipv4 = !!(frame->flags & WIRE_ONLY_IPV4);
	peer->max_version = frame->max_version;
	peer->key_id = frame->key_id;
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

/* An echo answers a probe of ours. Only an echo changes a peer's state here. */
static __always_inline struct result take_echo(const struct wire *frame, const void *end,
					       const struct interface *interface, const struct peer_key *key, __u64 now)
{
	word stale, knows_us, is_late, is_news;
	struct peer *peer;
	__u64 silent;

	if (!is_nonce(interface, key, frame->nonce))
		return drop(VERDICT_WIRE_STALE);
	peer = peer_of(key, now);
	if (!peer)
		return drop(VERDICT_WIRE_TAKEN);

	/*
	 * The latest echo to a nonce counts, because a recorded probe that is played to the peer again makes it echo
	 * again. The nonces are our clock, so a peer whose own clock went back, after a reboot, is heard with the next
	 * one.
	 */
	is_late = frame->nonce < peer->echo_nonce;
#ifndef ISAT_BENCH /* BPF_PROG_TEST_RUN repeats one frame */
	is_late |= frame->nonce == peer->echo_nonce && frame->stamp <= peer->stamp_ns;
#endif
	if (is_late)
		return drop(VERDICT_WIRE_STALE);
	silent = since(peer->echoed_ns, now);
	/*
	 * Another incarnation on another NIC, while the known one answers, is a second node of this name. It is
	 * joining, and will refuse. If it were taken for the first one, nobody would ask the first one for its VIPs.
	 */
	if (silent <= ECHO_PAUSE && peer->echoed_ns != 0 && peer->incarnation != frame->incarnation &&
	    !same_mac(peer->mac, frame->source))
		return drop(VERDICT_WIRE_STALE);
	stale = !!(frame->flags & WIRE_SOURCE_STALE);
	knows_us = !!(frame->flags & WIRE_KNOWN);
	is_news = silent > ECHO_PAUSE || peer->echoed_ns == 0 || peer->incarnation != frame->incarnation ||
		  peer->state != frame->state || peer->source_stale != stale || peer->knows_us != knows_us ||
		  peer->max_version != frame->max_version || !same_mac(peer->mac, frame->source);
	describe(peer, frame, end);
	peer->knows_us = knows_us;
	peer->echo_nonce = frame->nonce;
	peer->stamp_ns = frame->stamp;
	peer->tick_age_ms = frame->tick_age * 100;
	peer->echoed_ns = now;
	peer->heard_ns = now;
	add_one(&peer->echoes);
	return is_news ? pass(VERDICT_WIRE_TAKEN) : drop(VERDICT_WIRE_TAKEN);
}

/* Takes a claim or notice if it is later than the last one taken; from then on it is the last. */
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

/* A claim is answered here; a notice is for user space. */
static __always_inline struct result take_claim(const struct wire *frame, const struct peer_key *key, __u64 now)
{
	__u64 stamp = frame->stamp, nonce = frame->nonce;
	struct peer *peer;

	if (!is_fresh(stamp, now))
		return drop(VERDICT_WIRE_STALE);
	peer = bpf_map_lookup_elem(&peers, key);
	/*
	 * Any incarnation of that node may claim: while no control plane runs here, nothing probes the node, so nothing
	 * tells that it has a new one. The stamp of the new one is as good as that of the old one.
	 */
	if (!peer || !take_turn(peer, stamp, nonce))
		return drop(VERDICT_WIRE_STALE);
	peer->heard_ns = now;
	return frame->type == WIRE_CLAIM ? reply(VERDICT_WIRE_TAKEN) : pass(VERDICT_WIRE_TAKEN);
}

/* A reply answers a claim of ours. User space knows its claims, so a reply that is played again changes nothing. */
static __always_inline struct result take_reply(const struct wire *frame, const struct peer_key *key, __u64 now)
{
	struct peer *peer;

	if (!is_fresh(frame->nonce, now))
		return drop(VERDICT_WIRE_STALE);
	peer = bpf_map_lookup_elem(&peers, key);
	if (!peer)
		return drop(VERDICT_WIRE_STALE);
	peer->heard_ns = now;
	return pass(VERDICT_WIRE_TAKEN);
}

/*
 * Strangers' probes are echoed as long as there are not too many. The bucket is one time, when it will be full again;
 * two CPUs that take from it at once may take one token for two.
 */
static __always_inline bool may_echo_stranger(struct interface *interface, __u64 now)
{
	__u64 full = interface->strangers_ns;

	if (full < now)
		full = now;
	if (full - now > SECOND - STRANGER)
		return false;
	interface->strangers_ns = full + STRANGER;
	return true;
}

/*
 * A probe is echoed if it is later than the last one of that peer and incarnation: else one recorded broadcast, played
 * again and again, makes all nodes send to whom it names. An incarnation that is not the peer's last one is a stranger's,
 * as is a peer that was never heard: a recording of a former incarnation looks like a start.
 *
 * A probe that gives back a fresh stamp of ours proves that its sender is alive. It does not change the sender's state,
 * unless no echo did before.
 */
static __always_inline struct result take_probe(const struct wire *frame, const void *end,
						struct interface *interface, const struct peer_key *key, __u64 now)
{
	struct peer *peer = bpf_map_lookup_elem(&peers, key);

	if (peer && peer->probe_incarnation == frame->incarnation) {
#ifndef ISAT_BENCH /* BPF_PROG_TEST_RUN repeats one frame */
		if (frame->nonce <= peer->probe_nonce)
			return drop(VERDICT_WIRE_STALE);
#endif
	} else if ((!peer || peer->incarnation != frame->incarnation) && !may_echo_stranger(interface, now)) {
		return drop(VERDICT_WIRE_STRANGER);
	}
	if (frame->to == interface->incarnation && is_fresh(frame->stamp, now)) {
		if (!peer)
			peer = peer_of(key, now);
		if (peer && peer->echoed_ns == 0)
			describe(peer, frame, end);
		if (peer)
			peer->heard_ns = interface->heard_ns = now;
	}
	if (peer) {
		peer->probe_incarnation = frame->incarnation;
		peer->probe_nonce = frame->nonce;
	}
	return reply(VERDICT_WIRE_ECHOED);
}

/*
 * A frame of our own name comes from this node, by a loop, or from another node that was given the same name. It has to
 * be fresh: a recorded one must not stop a speaker that joins, or an interface.
 */
static __always_inline struct result take_own(const struct wire *frame, struct interface *interface, __u64 now)
{
	word type = frame->type, reading = frame->nonce, stamp = frame->stamp;

	/* By our echo, another node of our name learns that the name is taken. */
	if (type == WIRE_PROBE && frame->incarnation != interface->incarnation)
		return may_echo_stranger(interface, now) ? reply(VERDICT_WIRE_OWN) : drop(VERDICT_WIRE_STRANGER);
	if (type != WIRE_PROBE && frame->to != interface->incarnation)
		return drop(VERDICT_WIRE_STALE);
	barrier_var(stamp); /* as in is_recorded() */
	if (type == WIRE_CLAIM || type == WIRE_NOTICE)
		reading = stamp;
	if (!is_fresh(reading, now))
		return drop(VERDICT_WIRE_STALE);
	if (since(interface->own_ns, now) < OWN_PAUSE)
		return drop(VERDICT_WIRE_OWN);
	interface->own_ns = now;
	return pass(VERDICT_WIRE_OWN);
}

/* A frame of another cluster. One in a while is passed on, so that the control plane can name who sends them. */
static __always_inline struct result meet_foreigner(struct interface *interface)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (since(interface->foreign_ns, now) < FOREIGN_PAUSE)
		return drop(VERDICT_WIRE_FOREIGN);
	interface->foreign_ns = now;
	return pass(VERDICT_WIRE_FOREIGN);
}

/* Decides on an authentic frame that is for us. */
static __always_inline struct result hear(const struct wire *frame, const void *end, struct interface *interface,
					  __u32 ifindex, __u64 now)
{
	struct peer_key key = { .node = frame->node, .ifindex = ifindex };
	word type = frame->type;
	struct result result;

	if (frame->node == interface->node)
		return take_own(frame, interface, now);
	if (type == WIRE_PROBE)
		return take_probe(frame, end, interface, &key, now);
	if (frame->to != interface->incarnation)
		return drop(VERDICT_WIRE_STALE);
	if (type == WIRE_ECHO)
		result = take_echo(frame, end, interface, &key, now);
	else if (type == WIRE_REPLY)
		result = take_reply(frame, &key, now);
	else
		result = take_claim(frame, &key, now);
	if (result.verdict == VERDICT_WIRE_TAKEN)
		interface->heard_ns = now;
	return result;
}

/*
 * The answer to a peer that asks for a node, which it may not hear: what the node said of itself, and above HEARD_SHIFT
 * the time since it was last heard here. A global function takes and returns numbers: Linux 5.10 lets it take no pointer.
 */
#define HEARD_SHIFT 9
#define NEVER_HEARD (~0ULL)
__weak __noinline __u64 heard_of(__u64 node, __u32 ifindex, __u64 now)
{
	struct peer_key key = { .node = node, .ifindex = ifindex };
	const struct peer *peer = bpf_map_lookup_elem(&peers, &key);
	__u64 age, said;

	if (!peer || peer->echoed_ns == 0)
		return NEVER_HEARD;
	age = since(peer->heard_ns, now);
	if (age >> (63 - HEARD_SHIFT))
		return NEVER_HEARD;
	said = (peer->state & WIRE_NODE_STATE) | (peer->source_stale ? WIRE_NODE_STALE : 0);
	return age << HEARD_SHIFT | said;
}

/* Writes the header of the answer to a probe or a claim, in the version of the question. */
static __noinline void introduce(struct wire *answer, const struct wire *asked, const struct interface *interface,
				 enum wire_type type, __u64 now)
{
	__u64 tick_age = since(interface->tick_ns, now) / (SECOND / 10);

	/* Whole words are cleared first: see turn_round(). */
	__builtin_memset(answer, 0, sizeof(*answer));
	asm volatile("" : : "r"(answer) : "memory");
	__builtin_memcpy(answer->destination, asked->source, 6);
	__builtin_memcpy(answer->source, interface->mac, 6);
	answer->protocol = bpf_htons(ETH_P_ISAT);
	answer->version = asked->version;
	answer->type = type;
	answer->state = state_of(interface, now);
	answer->flags = (interface->source_stale ? WIRE_SOURCE_STALE : 0) | (interface->only_ipv4 ? WIRE_ONLY_IPV4 : 0);
	answer->max_version = WIRE_VERSION;
	answer->count = asked->count;
	answer->tick_age = interface->tick_ns == 0 || tick_age > 65535 ? 65535 : tick_age;
	answer->node = interface->node;
	answer->incarnation = interface->incarnation;
	answer->to = asked->incarnation;
	answer->nonce = asked->nonce;
	answer->stamp = now;
	__builtin_memcpy(answer->name, interface->node_name, sizeof(answer->name));
	__builtin_memcpy(answer->interface, interface->name, sizeof(answer->interface));
}

/* True if the control plane here counts with the incarnation that asks. */
static __always_inline bool is_known(const struct wire *asked, __u32 ifindex)
{
	struct peer_key key = { .node = asked->node, .ifindex = ifindex };
	const struct probe *probe = bpf_map_lookup_elem(&probes, &key);

	return probe && probe->incarnation == asked->incarnation;
}

#endif
