/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps. Weak, so that each hook is compiled apart and the linker keeps one.
 * NO_PREALLOC: a node with ten VIPs does not pay for 65,536.
 */
#ifndef ISAT_MAPS_H
#define ISAT_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "isat.h"

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

#endif
