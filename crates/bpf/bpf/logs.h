/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Telling what a workload does, where that is to be visible, and counting repeats instead of
 * telling each.
 *
 * INVARIANT: an operation that is to be told is counted once as attempted, and once as sent, as a
 * repeat, or as lost. The number of repeats is sent, or counted as lost.
 *
 * Repeats are operations of one workload and one image with the same object and result, within some
 * seconds of the first. They are counted in a slot that is found by what they have in common. Two
 * things that fall on one slot push each other out, with their numbers; who finds a slot in use by
 * another processor does without.
 */
#ifndef GORGET_LOGS_H
#define GORGET_LOGS_H

#include "event.h"
#include "identity.h"

/* The agent, which is not told of. Written by itself before loading. */
const volatile u32 agent_pid;

/* By workload: a mask of enum abi_visible. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_WORKLOADS);
	__type(key, u32);
	__type(value, u32);
} visible SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ABI_LOGS_COUNTS);
	__type(key, u32);
	__type(value, u64);
} log_counts SEC(".maps");

/* What is repeated. Whoever has made `busy` 1 may change it. */
struct log_slot {
	u32 busy;
	u32 pad;
	/* What the repeats have in common; 0: nothing is repeated here. */
	u64 tag;
	u64 since_ns;
	u64 serial;
	u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_LOG_SLOTS);
	__type(key, u32);
	__type(value, struct log_slot);
} log_slots SEC(".maps");

/* 1: all repeats are to be told now. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} log_ends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ABI_LOG_RING);
} logs SEC(".maps");

struct log_buffer {
	/* What the operation has in common with its repeats, as far as it is known. */
	u64 tag;
	/* What is sent. */
	struct ev_log head;
	struct event_data data;
};

_Static_assert(sizeof(struct ev_log) % 8 == 0, "strings follow, and can be read in words");
_Static_assert(sizeof(struct log_buffer) <= 8192 - 256, "a log fits into a slab");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct log_buffer);
} log_buffers SEC(".maps");

inline_always void count_logs(u32 what, u64 by)
{
	u64 *n = bpf_map_lookup_elem(&log_counts, &what);

	/* A hook that is called by an interrupt is counted, too. */
	if (n)
		__sync_fetch_and_add(n, by);
}

inline_always void lose_logs(u64 by)
{
	u32 stage = ABI_LOSS_LOGS;
	u64 *n = bpf_map_lookup_elem(&losses, &stage);

	count_logs(ABI_LOGS_LOST, by);
	if (n)
		__sync_fetch_and_add(n, by);
}

/* An operation that is to be told, and of which too little is known. */
inline_always void lose_log(void)
{
	count_logs(ABI_LOGS_ATTEMPTED, 1);
	lose_logs(1);
}

/* What of the current task's workload is visible. */
inline_always u32 visible_of(u32 workload)
{
	u32 *mask = bpf_map_lookup_elem(&visible, &workload);

	return mask ? *mask : 0;
}

/* Whose operation it is, and what of theirs is visible. */
inline_always u32 look(u32 *workload)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *t;

	/* Of the threads that the kernel makes work for others, only those of io_uring do what
	 * programs ask for. */
	if ((task->flags & PF_KTHREAD) || task->tgid == agent_pid ||
	    (task->flags & (PF_USER_WORKER | PF_IO_WORKER)) == PF_USER_WORKER)
		return 0;
	t = bpf_task_storage_get(&tasks, task, NULL, 0);
	*workload = t ? t->workload : 0;
	return visible_of(*workload);
}

/* Any change of any bit of `with` changes about half of the bits of what comes out. */
inline_always u64 mix(u64 tag, u64 with)
{
	tag = (tag ^ with) * 0x9fb21c651e98df25ull;
	return tag ^ (tag >> 28);
}

/* Words of an event's strings that are part of a tag: more would be compared in vain. */
#define TAG_WORDS 32

inline_always void clear_words(u8 *bytes)
{
	u64 *words = (u64 *)bytes;

	for (int i = 0; i < TAG_WORDS; i++)
		words[i] = 0;
}

inline_always u64 mix_words(u64 tag, const u8 *bytes)
{
	const u64 *words = (const u64 *)bytes;

	for (int i = 0; i < TAG_WORDS; i++)
		tag = mix(tag, words[i]);
	return tag;
}

/* Memory to put a log together in. NULL: there is none, and the log is lost. */
inline_always struct log_buffer *log_buffer(void)
{
	struct log_buffer *b = bpf_task_storage_get(&log_buffers, bpf_get_current_task_btf(), NULL,
						    BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!b)
		lose_log();
	return b;
}

/* === repeats === */

/* 1: nobody else changes the slot until it is given back. */
inline_always int take(struct log_slot *slot)
{
	return !__sync_val_compare_and_swap(&slot->busy, 0, 1);
}

inline_always void give_back(struct log_slot *slot)
{
	__sync_lock_test_and_set(&slot->busy, 0);
}

/* Tells how many repeats there were. */
inline_always void tell_repeats(struct log_slot *slot, u32 number)
{
	struct ev_repeats e = {
	    .head.boot_ns = bpf_ktime_get_boot_ns(),
	    .head.abi = ABI_VERSION,
	    .head.kind = ABI_LOG_REPEATS,
	    .head.serial = slot->serial,
	    .head.slot = number,
	    .count = slot->count,
	};

	slot->count = 0;
	if (e.count && bpf_ringbuf_output(&logs, &e, sizeof(e), 0)) {
		/* Counted so no more. */
		count_logs(ABI_LOGS_COUNTED, -e.count);
		lose_logs(e.count);
	}
}

/* Fills in the actor. Gives how long the event is, 0 when it cannot be written. */
verified_once u64 fill_log(struct log_buffer *b)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct ev_log *h;
	u32 at;

	if (!b || !s)
		return 0;
	h = &b->head;
	s->walk.workload = h->workload;
	at = h->object_len;
	/* Of an execve it is who called it: after one that failed, still the image. */
	if (h->head.kind != ABI_LOG_EXEC || (h->result && !h->actor.exe_len))
		h->actor.exe_len = add_exe(&b->data, at, s, task);
	at = add_actor(&h->actor, &b->data, at, s);
	keep(at);
	return at > ABI_EVENT_DATA ? 0 : sizeof(*h) + at;
}

/* Sends what `b` says, and gives whether it was sent. */
inline_always int send_log(struct log_buffer *b)
{
	u64 size = fill_log(b);

	if (!size || size > sizeof(b->head) + ABI_EVENT_DATA)
		return 0;
	return !bpf_ringbuf_output(&logs, &b->head, size, 0);
}

/* The image that acts, as a part of a tag. */
inline_always u64 image(void)
{
	return (u64)BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file);
}

/*
 * Tells an operation, or counts it as a repeat. Filled in: workload, kind, flags, call, result,
 * number, the object, and the tag of the object.
 */
verified_once int tell(struct log_buffer *b)
{
	struct log_slot *slot;
	struct ev_log *h;
	u64 now = bpf_ktime_get_boot_ns(), tag;
	u32 number;

	if (!b)
		return 0;
	h = &b->head;
	count_logs(ABI_LOGS_ATTEMPTED, 1);
	tag = mix(b->tag, image());
	tag = mix(tag, (u64)h->workload << 32 | h->head.kind);
	tag = mix(tag, (u64)h->call << 32 | (u32)h->result);
	tag = mix(tag, (u64)h->number << 32 | h->flags);
	tag |= 1;
	h->head.boot_ns = now;
	h->head.abi = ABI_VERSION;
	h->head.serial = now;
	h->head.slot = ABI_LOG_SLOTS;
	h->head.pad = 0;
	number = (tag >> 32) & (ABI_LOG_SLOTS - 1);
	slot = bpf_map_lookup_elem(&log_slots, &number);
	if (!slot || !take(slot)) {
		if (send_log(b))
			count_logs(ABI_LOGS_SENT, 1);
		else
			lose_logs(1);
		return 0;
	}
	if (slot->tag == tag && now - slot->since_ns < ABI_LOG_WINDOW_MS * 1000000ull) {
		slot->count++;
		give_back(slot);
		count_logs(ABI_LOGS_COUNTED, 1);
		return 0;
	}
	tell_repeats(slot, number);
	h->head.slot = number;
	slot->serial = now;
	slot->since_ns = now;
	if (send_log(b)) {
		slot->tag = tag;
		count_logs(ABI_LOGS_SENT, 1);
	} else {
		/* Nobody knows what would be repeated. */
		slot->tag = 0;
		lose_logs(1);
	}
	give_back(slot);
	return 0;
}

struct flushing {
	u64 now;
	u32 all;
};

static long flush_slot(u64 i, void *ctx)
{
	struct flushing *f = ctx;
	u32 number = i;
	struct log_slot *slot = bpf_map_lookup_elem(&log_slots, &number);

	if (!slot)
		return 1;
	if (!slot->count || (!f->all && f->now - slot->since_ns < ABI_LOG_WINDOW_MS * 1000000ull) ||
	    !take(slot))
		return 0;
	tell_repeats(slot, number);
	/* What goes on being repeated needs no telling of its own. */
	slot->since_ns = f->now;
	if (f->all)
		slot->tag = 0;
	give_back(slot);
	return 0;
}

/* Read by the agent now and then: tells the repeats that were counted for long enough. */
SEC("iter/bpf_map")
int log_flush(struct bpf_iter__bpf_map *ctx)
{
	struct flushing f = {.now = bpf_ktime_get_boot_ns()};
	u32 zero = 0, *ends;

	/* Once, when all tables were visited. */
	if (ctx->map)
		return 0;
	ends = bpf_map_lookup_elem(&log_ends, &zero);
	f.all = ends && *ends;
	bpf_loop(ABI_LOG_SLOTS, flush_slot, &f, 0);
	return 0;
}

#endif
