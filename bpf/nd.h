/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A Neighbour Solicitation that comes in (RFC 4861): the verdict table of docs/verdicts.md for IPv6, and the answer, an
 * Advertisement. The frame is copied to the stack first: so options may stand anywhere, and a frame of which the driver
 * has left all but the Ethernet header out of reach is read like any other.
 */
#ifndef ISAT_ND_H
#define ISAT_ND_H

#include "decide.h"
#include "packet.h"

/* These are linux/icmpv6.h's and net/ndisc.h's, which are not all for user space. */
#define IPPROTO_ICMPV6 58
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_HOP_LIMIT 255
#define ND_SOURCE_MAC 1 /* an option: the source's link-layer address */
#define ND_TARGET_MAC 2
#define ND_SOLICITED bpf_htonl(0x40000000)
#define ND_OVERRIDE bpf_htonl(0x20000000)

/* ff02::1 by its MAC, 33:33:00:00:00:01, as a number. */
#define ALL_NODES_MAC 0x010000003333ULL
/* No MAC's number. */
#define NO_MAC (~0ULL)

/* Options come in units of eight bytes. A host sends one or two: its MAC, and a nonce (RFC 7527). */
#define ND_MOST_OPTIONS 4

/* Offsets in a frame without a tag. */
#define ND_NEXT_HEADER 20
#define ND_TYPE 54

/* An Ethernet frame behind two bytes that align it. */
struct nd {
	__u16 zero;
	__u8 to[6];
	__u8 from[6];
	__be16 protocol;
	__be32 version; /* and class, and flow label */
	__be16 length;  /* of what follows the IPv6 header */
	__u8 next_header;
	__u8 hop_limit;
	__u32 source[4];
	__u32 destination[4];
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 flags;
	__u32 target[4];
};

/* A Solicitation; and once it is turned round, an Advertisement with one option. */
struct nd_message {
	struct nd nd;
	__u64 options[ND_MOST_OPTIONS];
};

/* The frames' bytes, which begin with the MACs. */
struct nd_bytes {
	__u16 halves[39];
};
struct advertisement_bytes {
	__u16 halves[43];
};
#define bytes_of(nd) ((void *)(nd)->to)

_Static_assert(sizeof(struct nd) == 2 + sizeof(struct nd_bytes), "a Solicitation without options has 78 bytes");
_Static_assert(__builtin_offsetof(struct nd_message, options[1]) == 2 + sizeof(struct advertisement_bytes),
	       "an Advertisement has 86");

/* The length of a Solicitation behind the IPv6 header, without options. */
#define ND_BARE_LENGTH (sizeof(struct nd_bytes) - ND_TYPE)

static __always_inline bool is_unspecified(const __u32 ip[4])
{
	return (ip[0] | ip[1] | ip[2] | ip[3]) == 0;
}

static __always_inline __u64 two_words(const __u32 words[2])
{
	return words[0] | (__u64)words[1] << 32;
}

static __always_inline bool is_multicast(const __u32 ip[4])
{
	return *(const __u8 *)ip == 0xff;
}

/* The group that whoever has an address listens to, ff02::1:ffXX:XXXX, is chosen by the address's last three bytes. */
static __always_inline bool is_solicited_node(const __u32 ip[4])
{
	return ip[0] == bpf_htonl(0xff020000) && ip[1] == 0 && ip[2] == bpf_htonl(1) && *(const __u8 *)&ip[3] == 0xff;
}

/* True for the MAC of that group, 33:33:ff:XX:XX:XX. */
static __always_inline bool is_group_of(const __u8 mac[6], const __u32 ip[4])
{
	const __u8 *last = (const __u8 *)&ip[3];

	return mac[0] == 0x33 && mac[1] == 0x33 && mac[2] == 0xff && mac[3] == last[1] && mac[4] == last[2] &&
	       mac[5] == last[3];
}

/*
 * The sum in ones' complement of four words: in any order of bytes it is the same sum (RFC 1071 2.B). No loop: clang
 * would not unroll it, and without CAP_PERFMON the verifier lets a pointer to the stack move by constants only.
 */
static __always_inline __u64 sum_of(const __u32 words[4])
{
	return (__u64)words[0] + words[1] + words[2] + words[3];
}

static __always_inline __u16 fold(__u64 sum)
{
	__u32 i;

#pragma unroll
	for (i = 0; i < 4; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/*
 * The sum of both addresses, the length, the protocol and the message without options, which its checksum makes all ones
 * (RFC 8200 8.1).
 */
static __always_inline __u64 sum_of_nd(const struct nd *nd)
{
	const __u32 *message = (const __u32 *)&nd->type;

	return sum_of(nd->source) + sum_of(nd->destination) + bpf_htonl(bpf_ntohs(nd->length)) +
	       bpf_htonl(IPPROTO_ICMPV6) + message[0] + message[1] + sum_of(nd->target);
}

/* The type of ICMPv6, behind an IPv6 header at `at`; 0 where another header or nothing follows that one. */
static __always_inline __u8 icmpv6_type(ctx_t *ctx, __u32 at)
{
	const __u8 *ip = ctx_data(ctx) + at;
	__u8 next, type;

	if ((const void *)(ip + 41) <= ctx_end(ctx))
		return ip[6] == IPPROTO_ICMPV6 ? ip[40] : 0;
	return !ctx_load(ctx, at + 6, &next) && next == IPPROTO_ICMPV6 && !ctx_load(ctx, at + 40, &type) ? type : 0;
}

#define is_solicitation(ctx, at) (icmpv6_type(ctx, at) == ND_SOLICITATION)

/* An option of eight bytes as a number: type, length in units of eight bytes, and a MAC. */
#define option_type(option) ((option) & 0xff)
#define option_length(option) ((option) >> 8 & 0xff)
#define option_mac(option) ((option) >> 16)
#define option(type, length, mac) ((type) | (length) << 8 | (mac) << 16)

_Static_assert(ND_MOST_OPTIONS == 4, "eight words, as is_valid() adds them");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte is the lowest one");

/*
 * Reads the options, which begin at `at`, into the message, which is zero there. False where one has no length, so that there is
 * no next one, or goes on behind the end, where one says a MAC of another length, or where they are too many. `mac` becomes that of an option of type
 * `kind`, where there is one: of the first, as in Linux.
 */
static __always_inline bool read_options(ctx_t *ctx, __u32 at, struct nd_message *message, __u32 kind, __u64 *mac)
{
	__u32 length = bpf_ntohs(message->nd.length), next = 0, i;

	if (length < ND_BARE_LENGTH || length > ND_BARE_LENGTH + 8 * ND_MOST_OPTIONS)
		return false;
#pragma unroll
	for (i = 0; i < ND_MOST_OPTIONS; i++) {
		__u64 option;

		if (ND_BARE_LENGTH + 8 * i >= length)
			break;
		if (ctx_load(ctx, at + 8 * i, &option))
			return false;
		message->options[i] = option;
		if (i != next)
			continue;
		if (option_type(option) == kind) {
			if (option_length(option) != 1)
				return false;
			if (*mac == NO_MAC)
				*mac = option_mac(option);
		}
		next += option_length(option);
	}
	return ND_BARE_LENGTH + 8 * next == length;
}

/* The checks of RFC 4861 7.1.1, and of the source, which no host has as a multicast address (RFC 4291 2.7). */
static __always_inline bool is_valid(ctx_t *ctx, struct nd_message *asked, __u64 *mac)
{
	const struct nd *nd = &asked->nd;
	const __u32 *options;

	if (nd->hop_limit != ND_HOP_LIMIT || nd->code != 0 || is_multicast(nd->target) || is_multicast(nd->source))
		return false;
	if (!read_options(ctx, sizeof(struct nd_bytes), asked, ND_SOURCE_MAC, mac))
		return false;
	barrier(); /* what follows reads as words what was written otherwise */
	options = (const __u32 *)asked->options;
	if (fold(sum_of_nd(nd) + sum_of(options) + sum_of(options + 4)) != 0xffff)
		return false;
	return !is_unspecified(nd->source) || (*mac == NO_MAC && is_solicited_node(nd->destination));
}

/*
 * Turns a Solicitation round into the Advertisement. Whoever is about to give itself the address asks from the unspecified
 * one (RFC 4862 5.4): that answer goes to all nodes.
 */
static __always_inline void turn_round_nd(struct nd_message *message, __u64 mac, const struct interface *interface)
{
	struct nd *nd = &message->nd;
	bool is_for_all = is_unspecified(nd->source);

	if (is_for_all)
		mac = ALL_NODES_MAC;
	__builtin_memcpy(nd->to, &mac, 6);
	mac = mac_word(interface->mac);
	__builtin_memcpy(nd->from, &mac, 6);
	nd->version = bpf_htonl(6 << 28);
	nd->length = bpf_htons(sizeof(struct advertisement_bytes) - ND_TYPE);
	__builtin_memcpy(nd->destination, nd->source, 16);
	if (is_for_all) {
		nd->destination[0] = bpf_htonl(0xff020000);
		nd->destination[3] = bpf_htonl(1);
	}
	__builtin_memcpy(nd->source, nd->target, 16);
	nd->type = ND_ADVERTISEMENT;
	nd->checksum = 0;
	nd->flags = is_for_all ? ND_OVERRIDE : ND_SOLICITED | ND_OVERRIDE;
	message->options[0] = option(ND_TARGET_MAC, 1, mac);
	barrier(); /* as above */
	nd->checksum = ~fold(sum_of_nd(nd) + (__u32)message->options[0] + (message->options[0] >> 32));
}

/*
 * Decides on a Solicitation: the table of docs/verdicts.md. It writes the answer in the place of the `message`, which it
 * reads first, and counts it for the VIP.
 */
static __always_inline struct result decide_nd(ctx_t *ctx, struct nd_message *message, __u32 ifindex,
					       const struct interface *interface, struct verdicts *counters)
{
	const struct nd *nd = &message->nd;
	struct vip6_key key = { .ifindex = ifindex };
	__u64 now, mac = NO_MAC;
	struct result result;
	struct vip *vip;

	/* Its place is the stack: else clang keeps each half of a word of it in a place of eight bytes. */
	asm volatile("" : : "r"(message) : "memory");
	if (ctx_load(ctx, 0, (struct nd_bytes *)bytes_of(nd)))
		return pass(VERDICT_ND_BAD);
	asm volatile("" : : "r"(message) : "memory");
	__builtin_memcpy(key.ip, nd->target, 16);
	vip = bpf_map_lookup_elem(&vips6, &key);
	if (!vip)
		return pass(VERDICT_ND_NOT_MANAGED);
	if (!is_valid(ctx, message, &mac))
		return pass(VERDICT_ND_BAD);
	if (!is_group_of(nd->to, nd->target) && !same_mac(nd->to, interface->mac))
		return pass(VERDICT_ND_NOT_FOR_US);

	if (mac == NO_MAC)
		mac = mac_word(nd->from);
	now = read_clock(counters);
	result = judge(interface, vip, is_bad_sender(mac, interface), now, FAMILY_ND);
	if (result.action != ACT_REPLY)
		return result;
	turn_round_nd(message, mac, interface);
	return confirm(interface, vip, check6_of(two_words(nd->target), two_words(nd->target + 2), ifindex), ifindex, now, FAMILY_ND);
}

#endif
