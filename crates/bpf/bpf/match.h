/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The decision itself: run an automaton over a path and read one cell of the decision table.
 * Touches its arguments and the ruleset tables only, so that the test harness can run it without
 * hooks.
 */
#ifndef GORGET_MATCH_H
#define GORGET_MATCH_H

#include "state.h"

/* Bytes matched between two looks at whether to go on. */
#define CHUNK 32

struct matching {
	const u8 *table;
	const u8 *path;
	u32 off;
	u32 state;
	u32 classes;
	u32 sink_end;
};

#define STEP(i, MASK)                                                                              \
	{                                                                                          \
		u32 at = *(const u16 *)(classes + ((u32)p[i] << 1));                               \
		at += state;                                                                       \
		keep(at);                                                                          \
		at &= (MASK);                                                                      \
		state = *(const u32 *)(table + at);                                                \
	}

/* The way from a decision to its verdict. */
struct settling {
	const u8 *table;
	struct lookup *lookup;
	u32 branches;
	u32 answer;
};

/* The way through the arguments of a program. */
struct reading {
	const u8 *table;
	struct lookup *lookup;
	const u8 *bytes;
	u32 start;
	u32 classes;
	u32 state;
	u32 list_words;
};

inline_always u32 stricter(u32 a, u32 b)
{
	return (a & ABI_OUTCOME_MASK) > (b & ABI_OUTCOME_MASK) ? a : b;
}

/*
 * One set of functions for each size class: the verifier wants to know the size of what a pointer
 * points into.
 */
#define DEFINE_CLASS(NAME, BYTES)                                                                  \
	struct table_##NAME {                                                                      \
		u8 bytes[(BYTES) + ABI_TABLE_SLACK];                                               \
	};                                                                                         \
	struct inner_##NAME {                                                                      \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, 1);                                                            \
		__uint(key_size, 4);                                                               \
		__uint(value_size, sizeof(struct table_##NAME));                                   \
	};                                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                          \
		__uint(max_entries, ABI_SLOTS);                                                    \
		__type(key, u32);                                                                  \
		__array(values, struct inner_##NAME);                                              \
	} rules_##NAME SEC(".maps");                                                               \
                                                                                                   \
	static long step_##NAME(u64 i, void *ctx)                                                  \
	{                                                                                          \
		struct matching *m = ctx;                                                          \
		const u8 *table = m->table, *path = m->path, *classes, *p;                         \
		u32 off = m->off, state = m->state, base = m->classes;                             \
                                                                                                   \
		if (!table || !path || off >= ABI_PATH_MAX)                                        \
			return 1;                                                                  \
		keep(off);                                                                         \
		off &= ABI_PATH_MAX - 1;                                                           \
		p = path + off;                                                                    \
		keep(base);                                                                        \
		base &= (BYTES)-2;                                                                 \
		classes = table + base;                                                            \
		_Pragma("unroll") for (int n = 0; n < CHUNK; n++) STEP(n, (BYTES)-4);              \
		m->off = off + CHUNK;                                                              \
		m->state = state;                                                                  \
		return state < m->sink_end;                                                        \
	}                                                                                          \
                                                                                                   \
	inline_always u32 word_##NAME(const struct table_##NAME *t, u32 at)                        \
	{                                                                                          \
		keep(at);                                                                          \
		at &= (BYTES)-4;                                                                   \
		return *(const u32 *)(t->bytes + at);                                              \
	}                                                                                          \
                                                                                                   \
	static long branch_##NAME(u64 i, void *ctx)                                                \
	{                                                                                          \
		struct settling *s = ctx;                                                          \
		const struct table_##NAME *t = (const void *)s->table;                             \
		struct lookup *l = s->lookup;                                                      \
		u32 at, test, holds;                                                               \
                                                                                                   \
		if (!t || !l)                                                                      \
			return 1;                                                                  \
		if (((s->answer >> ABI_CAUSE_SHIFT) & ABI_CAUSE_MASK) != ABI_CAUSE_BRANCH)         \
			return 1;                                                                  \
		at = s->branches + (s->answer >> ABI_RULE_SHIFT) * sizeof(struct rs_branch);       \
		test = word_##NAME(t, at);                                                         \
		if (!test) {                                                                       \
			holds = !(l->flags & LOOKUP_TERMINAL);                                     \
		} else if (l->flags & LOOKUP_ARGUMENTS) {                                          \
			u32 list = test - 1;                                                       \
                                                                                                   \
			keep(list);                                                                \
			list &= ABI_ARGUMENT_LISTS - 1;                                            \
			holds = l->lists[list >> 5] >> (list & 31) & 1;                            \
		} else {                                                                           \
			return 1;                                                                  \
		}                                                                                  \
		s->answer = word_##NAME(t, at + (holds ? 4 : 8));                                  \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	/* A decision's verdict; its branch when that depends on arguments that are not known. */  \
	inline_always u32 settle_##NAME(const struct table_##NAME *t, u32 branches,                \
					struct lookup *l, u32 answer)                              \
	{                                                                                          \
		struct settling s = {                                                              \
		    .table = t->bytes,                                                             \
		    .lookup = l,                                                                   \
		    .branches = branches,                                                          \
		    .answer = answer,                                                              \
		};                                                                                 \
                                                                                                   \
		if (((answer >> ABI_CAUSE_SHIFT) & ABI_CAUSE_MASK) == ABI_CAUSE_BRANCH)            \
			bpf_loop(ABI_MOST_TESTS + 1, branch_##NAME, &s, 0);                        \
		return s.answer;                                                                   \
	}                                                                                          \
                                                                                                   \
	/* Settles `l->answer` now that the arguments are known. */                                \
	verified_once int resume_##NAME(u32 slot, u32 id, struct lookup *l)                        \
	{                                                                                          \
		struct table_##NAME *t;                                                            \
		struct rs_header *h;                                                               \
		u32 zero = 0;                                                                      \
		void *inner;                                                                       \
                                                                                                   \
		inner = bpf_map_lookup_elem(&rules_##NAME, &slot);                                 \
		if (!inner || !l)                                                                  \
			return 1;                                                                  \
		t = bpf_map_lookup_elem(inner, &zero);                                             \
		if (!t)                                                                            \
			return 1;                                                                  \
		h = (struct rs_header *)t->bytes;                                                  \
		if (h->id != id || h->abi != ABI_VERSION)                                          \
			return 1;                                                                  \
		l->answer = settle_##NAME(t, h->branches, l, l->answer);                           \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	/* One byte of the arguments; at the end of each, only lists with it remain. */            \
	static long argument_##NAME(u64 i, void *ctx)                                              \
	{                                                                                          \
		struct reading *r = ctx;                                                           \
		const struct table_##NAME *t = (const void *)r->table;                             \
		struct lookup *l = r->lookup;                                                      \
		const u8 *bytes = r->bytes;                                                        \
		u32 off = i, set, class;                                                           \
                                                                                                   \
		if (!t || !l || !bytes)                                                            \
			return 1;                                                                  \
		keep(off);                                                                         \
		off &= ABI_PATH_MAX - 1;                                                           \
		if (bytes[off]) {                                                                  \
			class = r->classes + ((u32)bytes[off] << 1);                               \
			keep(class);                                                               \
			class &= (BYTES)-2;                                                        \
			class = *(const u16 *)(t->bytes + class);                                  \
			r->state = word_##NAME(t, r->state + class);                               \
			return 0;                                                                  \
		}                                                                                  \
		set = word_##NAME(t, r->state);                                                    \
		for (u32 n = 0; n < ABI_ARGUMENT_LISTS / 32; n++) {                                \
			if (n >= r->list_words)                                                    \
				break;                                                             \
			l->lists[n] &= word_##NAME(t, set + n * 4);                                \
		}                                                                                  \
		r->state = r->start;                                                               \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	/* Finds out which lists hold for `len` bytes of arguments, each with a NUL after it. */   \
	verified_once int arguments_##NAME(u32 slot, u32 id, struct path_buffer *arguments,        \
					   u32 len, struct lookup *l)                              \
	{                                                                                          \
		struct reading r = {};                                                             \
		struct table_##NAME *t;                                                            \
		struct rs_automaton *a;                                                            \
		struct rs_header *h;                                                               \
		u32 zero = 0;                                                                      \
		void *inner;                                                                       \
                                                                                                   \
		inner = bpf_map_lookup_elem(&rules_##NAME, &slot);                                 \
		if (!inner || !l || !arguments)                                                    \
			return 1;                                                                  \
		t = bpf_map_lookup_elem(inner, &zero);                                             \
		if (!t)                                                                            \
			return 1;                                                                  \
		h = (struct rs_header *)t->bytes;                                                  \
		if (h->id != id || h->abi != ABI_VERSION)                                          \
			return 1;                                                                  \
		a = &h->automata[ABI_AUTOMATON_ARGUMENT];                                          \
		r.table = t->bytes;                                                                \
		r.lookup = l;                                                                      \
		r.bytes = arguments->bytes;                                                        \
		r.start = a->start;                                                                \
		r.state = a->start;                                                                \
		r.classes = a->classes;                                                            \
		r.list_words = h->list_words;                                                      \
		for (u32 n = 0; n < ABI_ARGUMENT_LISTS / 32; n++)                                  \
			l->lists[n] = ~0U;                                                         \
		if (len > ABI_PATH_MAX)                                                            \
			len = ABI_PATH_MAX;                                                        \
		bpf_loop(len, argument_##NAME, &r, 0);                                             \
		l->flags |= LOOKUP_ARGUMENTS;                                                      \
		return 0;                                                                          \
	}                                                                                          \
                                                                                                   \
	/* 0, or 1 when the ruleset is not where it should be. */                                  \
	verified_once int lookup_##NAME(u32 slot, u32 id, struct path_buffer *path,                \
					struct lookup *l)                                          \
	{                                                                                          \
		struct table_##NAME *t;                                                            \
		struct rs_automaton *a;                                                            \
		struct rs_header *h;                                                               \
		u32 zero = 0, which, row, map;                                                     \
		void *inner;                                                                       \
                                                                                                   \
		inner = bpf_map_lookup_elem(&rules_##NAME, &slot);                                 \
		if (!inner || !l)                                                                  \
			return 1;                                                                  \
		t = bpf_map_lookup_elem(inner, &zero);                                             \
		if (!t)                                                                            \
			return 1;                                                                  \
		h = (struct rs_header *)t->bytes;                                                  \
		which = l->automaton;                                                              \
		if (h->id != id || h->abi != ABI_VERSION || which >= ABI_AUTOMATON_COUNT)          \
			return 1;                                                                  \
		a = &h->automata[which];                                                           \
		row = a->nothing;                                                                  \
		if (path && !(l->flags & (LOOKUP_NOTHING | LOOKUP_BYTES))) {                       \
			struct matching m = {                                                      \
			    .table = t->bytes,                                                     \
			    .path = path->bytes,                                                   \
			    .off = l->off + unknown_zero,                                          \
			    .state = a->start,                                                     \
			    .classes = a->classes,                                                 \
			    .sink_end = a->sink_end,                                               \
			};                                                                         \
                                                                                                   \
			if (m.state >= m.sink_end)                                                 \
				bpf_loop(ABI_PATH_MAX / CHUNK + 1, step_##NAME, &m, 0);            \
			if (l->flags & LOOKUP_DIRECTORY) {                                         \
				u32 class = m.classes + ('/' << 1);                                \
                                                                                                   \
				keep(class);                                                       \
				class &= (BYTES)-2;                                                \
				class = *(const u16 *)(t->bytes + class);                          \
				l->answer = word_##NAME(t, m.state + class);                       \
				return 0;                                                          \
			}                                                                          \
			row = word_##NAME(t, m.state);                                             \
		} else if (l->flags & LOOKUP_BYTES) {                                              \
			u32 state = a->start, bytes = l->bytes, class;                             \
                                                                                                   \
			for (int n = 0; n < 4 && (bytes & 255); n++) {                             \
				class = a->classes + ((bytes & 255) << 1);                         \
				keep(class);                                                       \
				class &= (BYTES)-2;                                                \
				class = *(const u16 *)(t->bytes + class);                          \
				state = word_##NAME(t, state + class);                             \
				bytes >>= 8;                                                       \
			}                                                                          \
			row = word_##NAME(t, state);                                               \
			if ((l->flags & LOOKUP_AGAIN) && state < a->sink_end &&                    \
			    row == a->nothing) {                                                   \
				l->answer = LOOKUP_NO_MORE;                                        \
				return 0;                                                          \
			}                                                                          \
		}                                                                                  \
		if (which == ABI_AUTOMATON_SOURCE) {                                               \
			l->answer = row;                                                           \
			return 0;                                                                  \
		}                                                                                  \
		map = word_##NAME(t, row);                                                         \
		map = word_##NAME(t, map + l->source * 4);                                         \
		row = word_##NAME(t, row + 4) + map;                                               \
		l->answer =                                                                        \
		    settle_##NAME(t, h->branches, l, word_##NAME(t, row + l->variant * 4));        \
		if (l->flags & LOOKUP_READ_TOO)                                                    \
			l->answer = stricter(                                                      \
			    settle_##NAME(                                                         \
				t, h->branches, l,                                                 \
				word_##NAME(t, row + (l->variant & ABI_VARIANT_OWNER) * 4)),       \
			    l->answer);                                                            \
		return 0;                                                                          \
	}

/*
 * Goes on with a name from the state that its directory's path led to. 1 when the access passes
 * without a word, or when the image's source class is known; 0 when lookup() has to say.
 */
#define DEFINE_NAME(NAME, BYTES)                                                                   \
	verified_once int name_##NAME(u32 slot, u32 id, struct name *n)                            \
	{                                                                                          \
		const u8 *table, *classes, *p;                                                     \
		struct table_##NAME *t;                                                            \
		struct rs_automaton *a;                                                            \
		struct rs_header *h;                                                               \
		u32 zero = 0, which, row, state, base;                                             \
		void *inner;                                                                       \
                                                                                                   \
		inner = bpf_map_lookup_elem(&rules_##NAME, &slot);                                 \
		if (!inner || !n)                                                                  \
			return 0;                                                                  \
		t = bpf_map_lookup_elem(inner, &zero);                                             \
		if (!t)                                                                            \
			return 0;                                                                  \
		h = (struct rs_header *)t->bytes;                                                  \
		which = n->automaton;                                                              \
		if (h->id != id || h->abi != ABI_VERSION || which >= ABI_AUTOMATON_COUNT)          \
			return 0;                                                                  \
		a = &h->automata[which];                                                           \
		state = n->state;                                                                  \
		if (!state) {                                                                      \
			/* Nothing depends on the path, nor on whether there is one. */            \
			row = word_##NAME(t, a->start);                                            \
			if (a->start >= a->sink_end || row != a->nothing)                          \
				return 0;                                                          \
			state = a->start;                                                          \
		}                                                                                  \
		if (state >= a->sink_end) {                                                        \
			table = t->bytes;                                                          \
			base = a->classes;                                                         \
			keep(base);                                                                \
			base &= (BYTES)-2;                                                         \
			classes = table + base;                                                    \
			_Pragma("unroll") for (u32 from = 0; from < SHORT_NAME; from += 8)         \
			{                                                                          \
				if (from >= n->len)                                                \
					break;                                                     \
				p = n->bytes + from;                                               \
				_Pragma("unroll") for (int i = 0; i < 8; i++) STEP(i, (BYTES)-4);  \
			}                                                                          \
		}                                                                                  \
		row = word_##NAME(t, state);                                                       \
		if (which == ABI_AUTOMATON_SOURCE) {                                               \
			n->answer = row;                                                           \
			return 1;                                                                  \
		}                                                                                  \
		base = word_##NAME(t, row);                                                        \
		base = word_##NAME(t, base + n->source * 4);                                       \
		row = word_##NAME(t, row + 4) + base;                                              \
		if (!is_quiet(word_##NAME(t, row + n->variant * 4)))                               \
			return 0;                                                                  \
		return !(n->flags & LOOKUP_READ_TOO) ||                                            \
		       is_quiet(word_##NAME(t, row + (n->variant & ABI_VARIANT_OWNER) * 4));       \
	}

/* It passes, whatever terminal and arguments are, and nobody is told. */
inline_always int is_quiet(u32 answer)
{
	return (answer & ABI_OUTCOME_MASK) == ABI_OUTCOME_PASS &&
	       ((answer >> ABI_CAUSE_SHIFT) & ABI_CAUSE_MASK) != ABI_CAUSE_BRANCH;
}

DEFINE_CLASS(64k, ABI_BYTES_64K)
DEFINE_CLASS(512k, ABI_BYTES_512K)
DEFINE_CLASS(4m, ABI_BYTES_4M)
DEFINE_CLASS(32m, ABI_BYTES_32M)
DEFINE_NAME(64k, ABI_BYTES_64K)
DEFINE_NAME(512k, ABI_BYTES_512K)
DEFINE_NAME(4m, ABI_BYTES_4M)
DEFINE_NAME(32m, ABI_BYTES_32M)

/* Whether the ruleset that `active` names answers for a name, as `name_*` does. */
verified_once int look_up_name(u64 active, struct name *n)
{
	u32 slot = (active >> ABI_ACTIVE_SLOT_SHIFT) & ABI_ACTIVE_SLOT_MASK;
	u32 id = (u32)active;

	if (!n)
		return 0;
	switch ((active >> ABI_ACTIVE_CLASS_SHIFT) & ABI_ACTIVE_CLASS_MASK) {
	case ABI_CLASS_64K:
		return name_64k(slot, id, n);
	case ABI_CLASS_512K:
		return name_512k(slot, id, n);
	case ABI_CLASS_4M:
		return name_4m(slot, id, n);
	case ABI_CLASS_32M:
		return name_32m(slot, id, n);
	}
	return 0;
}

/*
 * Asks the ruleset that `active` names. 0, or 1 when it is not there: the table was switched and
 * its slot used again between reading `active` and now, so the caller reads `active` again.
 */
verified_once int lookup(u64 active, struct path_buffer *path, struct lookup *l)
{
	u32 slot = (active >> ABI_ACTIVE_SLOT_SHIFT) & ABI_ACTIVE_SLOT_MASK;
	u32 id = (u32)active;

	if (!l)
		return 1;
	switch ((active >> ABI_ACTIVE_CLASS_SHIFT) & ABI_ACTIVE_CLASS_MASK) {
	case ABI_CLASS_64K:
		return lookup_64k(slot, id, path, l);
	case ABI_CLASS_512K:
		return lookup_512k(slot, id, path, l);
	case ABI_CLASS_4M:
		return lookup_4m(slot, id, path, l);
	case ABI_CLASS_32M:
		return lookup_32m(slot, id, path, l);
	}
	return 1;
}

/* Finds out which lists of allowed arguments hold. As `lookup`. */
verified_once int lookup_arguments(u64 active, struct path_buffer *arguments, u32 len,
				   struct lookup *l)
{
	u32 slot = (active >> ABI_ACTIVE_SLOT_SHIFT) & ABI_ACTIVE_SLOT_MASK;
	u32 id = (u32)active;

	if (!l)
		return 1;
	switch ((active >> ABI_ACTIVE_CLASS_SHIFT) & ABI_ACTIVE_CLASS_MASK) {
	case ABI_CLASS_64K:
		return arguments_64k(slot, id, arguments, len, l);
	case ABI_CLASS_512K:
		return arguments_512k(slot, id, arguments, len, l);
	case ABI_CLASS_4M:
		return arguments_4m(slot, id, arguments, len, l);
	case ABI_CLASS_32M:
		return arguments_32m(slot, id, arguments, len, l);
	}
	return 1;
}

/* Goes on with a decision that waited for the arguments. As `lookup`. */
verified_once int resume(u64 active, struct lookup *l)
{
	u32 slot = (active >> ABI_ACTIVE_SLOT_SHIFT) & ABI_ACTIVE_SLOT_MASK;
	u32 id = (u32)active;

	if (!l)
		return 1;
	switch ((active >> ABI_ACTIVE_CLASS_SHIFT) & ABI_ACTIVE_CLASS_MASK) {
	case ABI_CLASS_64K:
		return resume_64k(slot, id, l);
	case ABI_CLASS_512K:
		return resume_512k(slot, id, l);
	case ABI_CLASS_4M:
		return resume_4m(slot, id, l);
	case ABI_CLASS_32M:
		return resume_32m(slot, id, l);
	}
	return 1;
}

#endif
