// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The decision code of match.h without hooks, run with BPF_PROG_TEST_RUN. It needs no LSM and
 * attaches to nothing, so it can run on any machine: in tests, and before the agent enforces
 * anything, because a kernel was seen to compile a correct program wrongly without an error.
 */
#include "match.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_HARNESS_CASES);
	__type(key, u32);
	__type(value, struct harness_case);
} cases SEC(".maps");

/* How many of the cases are to be decided. */
volatile u32 case_count;

/* Out of the 512 bytes of stack that the lookup needs. Cases run one after the other. */
struct lookup current SEC(".bss.lookup");

static __noinline int decide_case(struct harness_case *c)
{
	struct workload *w;
	struct lookup *l = &current;
	u32 index;

	if (!c)
		return -1;
	__builtin_memset(l, 0, sizeof(*l));
	index = c->workload;
	w = bpf_map_lookup_elem(&workloads, &index);
	if (!w)
		return -1;
	l->automaton = ABI_AUTOMATON_SOURCE;
	l->off = ABI_PATH_MAX - c->subject_len;
	l->flags = c->subject_len ? 0 : LOOKUP_NOTHING;
	if (lookup(w->active, &c->subject, l))
		return -2;
	l->source = l->answer;
	l->automaton = c->category;
	l->off = ABI_PATH_MAX - c->object_len;
	l->flags = c->object_len ? 0 : LOOKUP_NOTHING;
	if (c->read_and_write)
		l->flags |= LOOKUP_READ_TOO;
	if (c->terminal)
		l->flags |= LOOKUP_TERMINAL;
	if (lookup_arguments(w->active, &c->arguments, c->arguments_len, l))
		return -4;
	l->variant = c->variant;
	if (lookup(w->active, &c->object, l))
		return -3;
	c->verdict = l->answer;
	return 0;
}

static long each_case(u64 i, void *ctx)
{
	struct harness_case *c;
	u32 key = i;

	c = bpf_map_lookup_elem(&cases, &key);
	if (!c)
		return 1;
	c->error = decide_case(c);
	return 0;
}

SEC("syscall")
int decide_cases(void *ctx)
{
	bpf_loop(case_count, each_case, NULL, 0);
	return 0;
}

const volatile struct harness_case anchor_case SEC(".rodata.abi") = {};
