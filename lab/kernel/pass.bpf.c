/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Somebody else's programs: they let everything pass. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static __always_inline void count(__u32 key)
{
	__u64 *count = bpf_map_lookup_elem(&seen, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/* Counts frames. */
SEC("tc")
int pass_tc(struct __sk_buff *skb)
{
	count(0);
	return -1; /* TC_ACT_UNSPEC, TCX_NEXT */
}

/* Counts ARP replies whose SHA is their Ethernet source. */
SEC("tc")
int count_replies(struct __sk_buff *skb)
{
	__u16 mac[3], sha[3], op = 0;

	if (skb->protocol != bpf_htons(ETH_P_ARP))
		return -1;
	bpf_skb_load_bytes(skb, 6, mac, 6);
	bpf_skb_load_bytes(skb, 20, &op, 2);
	bpf_skb_load_bytes(skb, 22, sha, 6);
	if (op == bpf_htons(2) && mac[0] == sha[0] && mac[1] == sha[1] && mac[2] == sha[2])
		count(1);
	return -1;
}

SEC("xdp")
int pass_xdp(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
