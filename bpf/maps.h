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

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ISAT_MAX_VIPS);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ISAT_MAX_VIPS);
	__type(key, struct vip_key);
	__type(value, struct answers);
} answers SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ISAT_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct interface);
} interfaces SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ISAT_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct verdicts);
} verdicts SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ISAT_MAX_PEERS);
	__type(key, struct peer_key);
	__type(value, struct probe);
} probes SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ISAT_MAX_PEERS);
	__type(key, struct peer_key);
	__type(value, struct peer);
} peers SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ISAT_MAX_KEYS);
	__type(key, __u32);
	__type(value, struct wire_key);
} keys SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ISAT_RECENT);
	__type(key, __u32);
	__type(value, struct recent);
} recent SEC(".maps") __weak;

/*
 * BTF has the types that maps and functions name. This function names the others that TypeScript needs. Nothing calls
 * it, so it is never loaded.
 */
__weak __noinline void name_types(enum isat_constant isat, enum wire_constant wire, enum wire_type type,
				  struct wire *header, struct wire_claim *claim)
{
}

#endif
