// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Ingress at TC: tcx (Linux >= 6.6) and clsact run the same program. */
#include "ctx_skb.h"
#include "ingress.h"

SEC("tc")
int isat_ingress(struct __sk_buff *skb)
{
	return ingress(skb);
}

char _license[] SEC("license") = "Dual BSD/GPL";
