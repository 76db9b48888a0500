// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The control plane's changes of entries that the programs write too. The control plane runs this program by
 * BPF_PROG_TEST_RUN on a frame that carries the change. It stores field by field, so what the programs have written beside
 * stays, and a MAC is never half the old one and half the new one. A map's own update promises neither.
 */
#include "packet.h"
#include "state.h"

/* An Ethernet header that names no protocol, and two bytes that align what follows. */
#define HEADER 16

/* The store happens here, whole, and in the order of the text. */
#define STORE(field)                                                                               \
	do {                                                                                       \
		barrier();                                                                         \
		*(volatile typeof(to->field) *)&to->field = from->field;                           \
	} while (0)
#define STORE_BYTES(field)                                                                         \
	do {                                                                                       \
		barrier();                                                                         \
		__builtin_memcpy(&to->field, &from->field, sizeof(to->field));                     \
	} while (0)

/* The word that has the MAC. */
static __always_inline void store_mac(struct interface *to, const struct interface *from)
{
	barrier();
	*(volatile __u64 *)to->mac = *(const __u64 *)from->mac;
}

_Static_assert(__builtin_offsetof(struct interface, mac) % 8 == 0, "a MAC is stored as one word");
_Static_assert(__builtin_offsetof(struct interface, heard_ns) == 64, "an answer reads one cache line of an interface");

/* Makes a free place an interface's: nobody has been heard there yet. */
static __always_inline void clear(struct interface *to)
{
	*(volatile __u32 *)&to->ifindex = 0;
	barrier();
	__builtin_memset(to->address, 0, 4);
	__builtin_memset((void *)to + 8, 0, sizeof(*to) - 8);
}

/*
 * Writes an interface's entry at its place; ifindex 0 frees the place. Returns 0, or -1 where the frame does not carry
 * that.
 */
SEC("tc")
int isat_write_interface(struct __sk_buff *skb)
{
	struct { __u32 place, zero; struct interface interface; } change;
	const struct interface *from = &change.interface;
	struct interface *to;

	if (bpf_skb_load_bytes(skb, HEADER, &change, sizeof(change)))
		return -1;
	to = bpf_map_lookup_elem(&interfaces, &change.place);
	if (!to)
		return -1;
	if (to->ifindex != from->ifindex)
		clear(to);
	if (from->ifindex == 0)
		return 0;
	STORE_BYTES(address);
	store_mac(to, from);
	STORE(fence_ns);
	STORE(gone_ns);
	STORE(live_ns);
	STORE(hold_ns);
	STORE(state);
	STORE(source_stale);
	STORE(only_ipv4);
	STORE(vlan_strip_off);
	STORE(node);
	STORE(incarnation);
	STORE(hello_nonce);
	STORE(last_hello_nonce);
	STORE_BYTES(own);
	STORE_BYTES(masks);
	STORE_BYTES(link_local);
	STORE_BYTES(node_name);
	STORE_BYTES(name);
	STORE_BYTES(mac_text);
	STORE(netns);
	STORE(tick_ns);
	STORE(ifindex);
	return 0;
}

/* Writes a VIP's entry as a change has it, or removes it. Returns 0, or a negative error number. */
static __always_inline int write_vip(void *map, const void *key, __u64 check, const struct vip_change *from)
{
	struct vip *to;

	if (from->is_removed) {
		bpf_map_delete_elem(map, key); /* it may have gone already */
		return 0;
	}
	to = bpf_map_lookup_elem(map, key);
	if (!to) {
		struct vip fresh = { .state = from->state, .state_ns = from->state_ns, .hash = from->hash,
				     .claim_ns = from->claim_ns, .check = check };

		return bpf_map_update_elem(map, key, &fresh, BPF_NOEXIST);
	}
	STORE(state_ns);
	STORE(hash);
	*(volatile __u32 *)&to->state = from->state;
	STORE(claim_ns);
	*(volatile __u64 *)&to->check = check;
	return 0;
}

/* Makes the change that stands there in the frame, if there is one, and none has failed before. */
__weak __noinline int make_change(struct __sk_buff *skb, __u32 at, int error)
{
	struct vip_key key = {};
	struct vip6_key key6 = {};
	struct vip_change change;
	__u64 ip[2];

	if (error || bpf_skb_load_bytes(skb, at, &change, sizeof(change)))
		return error;
	__builtin_memcpy(ip, change.ip, sizeof(ip));
	if (change.is_ipv6) {
		__builtin_memcpy(key6.ip, ip, sizeof(ip));
		key6.ifindex = change.ifindex;
		return write_vip(&vips6, &key6, check6_of(ip[0], ip[1], change.ifindex), &change);
	}
	__builtin_memcpy(key.ip, ip, 4);
	key.ifindex = change.ifindex;
	return write_vip(&vips, &key, check_of(ip[0], change.ifindex), &change);
}

/*
 * Makes the changes of VIPs that the frame carries, in their order. Returns 0, or a negative error number. No branch is
 * left of the loop: without CAP_PERFMON the verifier would follow each way out of it through all that is left.
 */
SEC("tc")
int isat_write_vips(struct __sk_buff *skb)
{
	int error = 0;
	__u32 i;

#pragma unroll
	for (i = 0; i < ISAT_MAX_CHANGES; i++)
		error = make_change(skb, HEADER + i * sizeof(struct vip_change), error);
	return error;
}

char _license[] SEC("license") = "Dual BSD/GPL";
