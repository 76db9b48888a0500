// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Ingress at XDP: before the kernel makes an skb. It cannot see tags that the NIC strips. */
#include "ctx_xdp.h"
#include "ingress.h"

SEC("xdp")
int isat_xdp(struct xdp_md *ctx)
{
	return ingress(ctx);
}

/*
 * Sends back every frame. Run on a frame of the control plane's own (BPF_F_TEST_XDP_LIVE_FRAMES), it shows whether this
 * NIC transmits the frames of XDP: a program on a veth whose peer has no XDP program is attached, but cannot send.
 */
SEC("xdp")
int isat_xdp_probe(struct xdp_md *ctx)
{
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
