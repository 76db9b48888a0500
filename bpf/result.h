/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The result for one frame: a verdict, which is counted, and an action. */
#ifndef ISAT_RESULT_H
#define ISAT_RESULT_H

#include "maps.h"

enum action {
	ACT_PASS,  /* on to the stack, or for the peer protocol to user space */
	ACT_DROP,
	ACT_REPLY, /* turned round and sent back */
};

/*
 * A local variable that lives long is a whole word here. The compiler may put a smaller one in half of a stack slot
 * where a pointer was, which Linux 6.1 at least refuses without CAP_PERFMON.
 */
typedef __u64 word;

struct result {
	word verdict; /* enum verdict */
	word action;  /* enum action */
};

static __always_inline struct result pass(enum verdict verdict)
{
	return (struct result){ verdict, ACT_PASS };
}

static __always_inline struct result drop(enum verdict verdict)
{
	return (struct result){ verdict, ACT_DROP };
}

static __always_inline struct result reply(enum verdict verdict)
{
	return (struct result){ verdict, ACT_REPLY };
}

/*
 * Counts on this CPU. The barrier stops clang from merging two increments into one by a pointer, which the verifier
 * rejects.
 */
static __always_inline void add_one(__u64 *counter)
{
	*counter += 1;
	barrier();
}

/* Inlined, verdict by verdict: a call, or a second lookup, costs as much as all the comparisons. */
static __always_inline void count(struct verdicts *counters, enum verdict verdict)
{
	switch (verdict) {
#define COUNT(name, counter)                                                                       \
	case VERDICT_##name:                                                                       \
		add_one(&counters->counter);                                                       \
		break;
		VERDICTS(COUNT)
#undef COUNT
	case VERDICT_NONE:
		break;
	}
}

/* Counts for the interface that has this place. */
static __always_inline void count_at(__u32 place, enum verdict verdict)
{
	struct verdicts *counters = bpf_map_lookup_elem(&verdicts, &place);

	if (counters)
		count(counters, verdict);
}

#endif
