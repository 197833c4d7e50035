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

/* The last name of the path that is decided about by it. */
struct name shortly SEC(".bss.name");

/* How many accesses passed by the short way. */
volatile u64 passed_shortly;

inline_always u8 *byte_at(struct path_buffer *path, u32 off)
{
	keep(off);
	off &= ABI_PATH_MAX - 1;
	return path->bytes + off;
}

/* Moves the last name of a path to `shortly`, and the `/` before it away. 0 when it is too long. */
verified_once int cut_name(struct path_buffer *path)
{
	struct name *n = &shortly;
	u32 len, off;

	if (!path)
		return 0;
	for (len = 0; len < SHORT_NAME; len++)
		if (*byte_at(path, ABI_PATH_MAX - 1 - len) == '/')
			break;
	/* VERIFIER: else it goes through the rest for each length. */
	len += unknown_zero;
	if (!len || len >= SHORT_NAME)
		return 0;
	__builtin_memset(n, 0, sizeof(*n));
	n->len = len;
	off = ABI_PATH_MAX - len;
	for (u32 i = 0; i < len; i++) {
		u32 to = i;

		keep(to);
		n->bytes[to & (SHORT_NAME - 1)] = *byte_at(path, off + i);
		*byte_at(path, off + i) = 0;
	}
	*byte_at(path, off - 1) = 0;
	return 1;
}

/*
 * The short way, which goes on from where the directory's path led: it must find the same source,
 * and may let pass only what passes.
 */
static __noinline int decide_shortly(u64 active, struct path_buffer *path, u32 automaton,
				     struct lookup *l, u32 flags)
{
	if (!path || !l || !cut_name(path))
		return 0;
	l->automaton = automaton;
	l->off = unknown_zero;
	l->flags = LOOKUP_DIRECTORY;
	if (lookup(active, path, l))
		return 0;
	shortly.state = l->answer;
	shortly.flags = flags;
	shortly.automaton = automaton;
	shortly.source = l->source;
	shortly.variant = l->variant;
	return look_up_name(active, &shortly);
}

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
	if (c->subject_len && decide_shortly(w->active, &c->subject, ABI_AUTOMATON_SOURCE, l, 0) &&
	    shortly.answer != l->source)
		return -5;
	if (!c->object_len ||
	    (c->category != ABI_AUTOMATON_PROCESS && c->category != ABI_AUTOMATON_FILE))
		return 0;
	if (!decide_shortly(w->active, &c->object, c->category, l,
			    c->read_and_write ? LOOKUP_READ_TOO : 0))
		return 0;
	if ((c->verdict & ABI_OUTCOME_MASK) != ABI_OUTCOME_PASS)
		return -6;
	passed_shortly++;
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
