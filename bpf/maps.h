/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps. They are weak, so that each hook is compiled apart and the linker keeps one of each. NO_PREALLOC: a node
 * with ten VIPs does not pay for 65,536.
 */
#ifndef ISAT_MAPS_H
#define ISAT_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "wire.h"

#define MAP(name, kind, entries, key_type, value_type, flags)                                                           \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_##kind);                                                                     \
		__uint(map_flags, flags);                                                                              \
		__uint(max_entries, entries);                                                                          \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} name SEC(".maps") __weak

MAP(vips, HASH, ISAT_MAX_VIPS, struct vip_key, struct vip, BPF_F_NO_PREALLOC);
MAP(vips6, HASH, ISAT_MAX_VIPS, struct vip6_key, struct vip, BPF_F_NO_PREALLOC);
MAP(interfaces, ARRAY, ISAT_MAX_INTERFACES, __u32, struct interface, 0);
MAP(verdicts, PERCPU_ARRAY, ISAT_MAX_INTERFACES, __u32, struct verdicts, 0);
MAP(probes, HASH, ISAT_MAX_PEERS, struct peer_key, struct probe, BPF_F_NO_PREALLOC);
MAP(peers, HASH, ISAT_MAX_PEERS, struct peer_key, struct peer, BPF_F_NO_PREALLOC);
MAP(keys, ARRAY, 2 * ISAT_MAX_KEYS, __u32, struct wire_key, 0);
MAP(recent, ARRAY, ISAT_RECENT, __u32, struct recent, 0);

/*
 * BTF has the types that maps and functions name. This function names the others that TypeScript needs. Nothing calls
 * it, so it is never loaded.
 */
struct types {
	enum isat_constant isat_constant;
	enum wire_constant wire_constant;
	struct wire wire;
	struct wire_claim wire_claim;
	struct wire_old_claim wire_old_claim;
	struct vip_change vip_change;
};
__weak __noinline void name_types(struct types *types)
{
}

#endif
