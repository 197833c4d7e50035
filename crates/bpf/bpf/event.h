/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Telling user space of a decision. Only here are things formatted and copied, and only when an
 * event will be sent. A failure to send is counted and never changes the decision.
 */
#ifndef GORGET_EVENT_H
#define GORGET_EVENT_H

#include "path.h"

/* The strings of an event. */
struct event_data {
	u8 bytes[ABI_EVENT_DATA];
};

struct event_buffer {
	/* Bytes of an event that waits (ABI_EVENT_PENDING); 0 when none does. */
	u64 pending;
	struct ev_decision head;
	struct event_data data;
};

/* KERNEL: from 7.x on a task's storage is taken from the slabs only, which end at two pages. */
_Static_assert(sizeof(struct event_buffer) <= 8192 - 256, "an event fits into a slab");
_Static_assert(sizeof(struct scratch) <= 8192 - 256, "scratch memory fits into a slab");
_Static_assert(sizeof(struct task_ctx) <= 8192 - 256, "what is known of a task fits into a slab");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct event_buffer);
} event_buffers SEC(".maps");

/*
 * KERNEL: a task's storage comes from what can be had at once, without waiting, and on a machine
 * that is short of that it cannot be had. No operation may go undecided for that: a task without
 * memory of its own takes a place here, which is its own until nobody asked for it for a while. No
 * hook lasts that long.
 */
struct reserve {
	/* Process and thread. */
	u64 owner;
	u64 since_ns;
	struct scratch scratch;
	struct event_buffer event;
};

#define RESERVE_NS 10000000000ull

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_RESERVES);
	__type(key, u32);
	__type(value, struct reserve);
} reserves SEC(".maps");

static __noinline struct reserve *reserve(void)
{
	u64 task = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns(), owner;
	u32 key = (u32)task & (ABI_RESERVES - 1);
	struct reserve *r = bpf_map_lookup_elem(&reserves, &key);

	if (!r)
		return NULL;
	owner = r->owner;
	if (owner != task) {
		if (owner && now - r->since_ns < RESERVE_NS)
			return NULL;
		if (__sync_val_compare_and_swap(&r->owner, owner, task) != owner)
			return NULL;
	}
	r->since_ns = now;
	return r;
}

/* `create`: BPF_LOCAL_STORAGE_GET_F_CREATE, or 0 for what an earlier step of this hook left. */
inline_always struct scratch *own_scratch(u64 create)
{
	struct scratch *s =
	    bpf_task_storage_get(&scratches, bpf_get_current_task_btf(), NULL, create);
	struct reserve *r;

	if (s)
		return s;
	r = reserve();
	return r ? &r->scratch : NULL;
}

inline_always struct event_buffer *own_event_buffer(u64 create)
{
	struct event_buffer *b =
	    bpf_task_storage_get(&event_buffers, bpf_get_current_task_btf(), NULL, create);
	struct reserve *r;

	if (b)
		return b;
	r = reserve();
	return r ? &r->event : NULL;
}

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ABI_ALERT_RING);
} alerts SEC(".maps");

/* Adds a string of at most `most` bytes. The longest strings of an event fit side by side. */
inline_always u32 add_bytes(struct event_data *d, u32 at, const void *from, u32 len, u32 most)
{
	keep(at);
	keep(len);
	if (at > ABI_EVENT_DATA - most || len > most)
		return 0;
	if (bpf_probe_read_kernel(d->bytes + at, len, from))
		return 0;
	return len;
}

/* Adds the path that was built in `s`, at most `most` of its first bytes. */
inline_always u32 add_walk(struct event_data *d, u32 at, struct scratch *s, u32 most)
{
	u32 off = s->walk.off, len;

	if (s->walk.status != WALK_DONE || off > ABI_PATH_MAX)
		return 0;
	len = ABI_PATH_MAX - off;
	if (len > most)
		len = most;
	keep(off);
	off &= ABI_PATH_MAX - 1;
	return add_bytes(d, at, s->path.bytes + off, len, most);
}

verified_once u32 add_path(struct event_data *d, u32 at, struct scratch *s, u64 vfsmount,
			   u64 dentry)
{
	if (!d || !s || !vfsmount || !dentry)
		return 0;
	walk_path(s, vfsmount, dentry);
	return add_walk(d, at, s, ABI_SHOWN_MAX);
}

inline_always u32 add_exe(struct event_data *d, u32 at, struct scratch *s, struct task_struct *task)
{
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);

	if (!exe)
		return 0;
	return add_path(d, at, s, (u64)BPF_CORE_READ(exe, f_path.mnt),
			(u64)BPF_CORE_READ(exe, f_path.dentry));
}

inline_always u32 pid_at_level(struct task_struct *task, u32 level)
{
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	u32 own = BPF_CORE_READ(pid, level), nr = 0;

	if (own < level || level > 32)
		return 0;
	bpf_probe_read_kernel(&nr, sizeof(nr),
			      (void *)pid + bpf_core_field_offset(struct pid, numbers) +
				  level * bpf_core_type_size(struct upid) +
				  bpf_core_field_offset(struct upid, nr));
	return nr;
}

inline_always u32 add_args(struct event_data *d, u32 at, struct task_struct *task)
{
	u64 start = BPF_CORE_READ(task, mm, arg_start), end = BPF_CORE_READ(task, mm, arg_end);
	u64 len = end - start;

	if (!start || end <= start)
		return 0;
	if (len > ABI_ARGS_MAX)
		len = ABI_ARGS_MAX;
	keep(at);
	if (at > ABI_EVENT_DATA - ABI_ARGS_MAX)
		return 0;
	if (bpf_probe_read_user(d->bytes + at, (u32)len, (void *)start))
		return 0;
	return len;
}

inline_always u32 add_tty(struct event_data *d, u32 at, struct task_struct *task)
{
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	long len;

	keep(at);
	if (!tty || at > ABI_EVENT_DATA - ABI_TTY_MAX)
		return 0;
	len =
	    bpf_probe_read_kernel_str(d->bytes + at, ABI_TTY_MAX,
				      (void *)tty + bpf_core_field_offset(struct tty_struct, name));
	return len > 1 ? len - 1 : 0;
}

/*
 * Who acts, and their strings from `at` on. Gives where these end. Fills in no image where the
 * event has one already.
 */
inline_always u32 add_actor(struct ev_actor *a, struct event_data *data, u32 at, struct scratch *s)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *t = bpf_task_storage_get(&tasks, task, NULL, 0);
	u32 level = BPF_CORE_READ(task, group_leader, thread_pid, level);

	a->session = t && (t->workload || t->entering) ? t->session : 0;
	if (a->session)
		__builtin_memcpy(a->session_name, t->session_name, sizeof(a->session_name));
	a->uid = (u32)bpf_get_current_uid_gid();
	a->host_pid = BPF_CORE_READ(task, tgid);
	a->host_ppid = BPF_CORE_READ(task, real_parent, tgid);
	a->pid = pid_at_level(task, level);
	a->ppid = pid_at_level(BPF_CORE_READ(task, real_parent), level);
	at += a->exe_len;
	a->parent_len = add_exe(data, at, s, BPF_CORE_READ(task, real_parent));
	at += a->parent_len;
	a->cwd_len = add_path(data, at, s, (u64)BPF_CORE_READ(task, fs, pwd.mnt),
			      (u64)BPF_CORE_READ(task, fs, pwd.dentry));
	at += a->cwd_len;
	a->tty_len = add_tty(data, at, task);
	at += a->tty_len;
	a->args_len = add_args(data, at, task);
	return at + a->args_len;
}

/* The object and the decision are in the task's scratch memory; the other strings use `s` after it
 * was copied. Gives how long the event is, 0 when it cannot be written. */
verified_once u64 fill_event(struct event_buffer *b)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s;
	struct decision *d;
	struct ev_decision *h;
	u32 at = unknown_zero;

	s = own_scratch(0);
	if (!b || !s) {
		count_loss(ABI_LOSS_RING_FULL);
		return 0;
	}
	d = &s->decision;
	h = &b->head;
	h->boot_ns = bpf_ktime_get_boot_ns();
	h->abi = ABI_VERSION;
	h->workload = d->workload;
	h->ruleset = d->ruleset;
	h->verdict = d->verdict;
	h->operation = d->operation;
	h->flags = d->flags;
	h->result = 0;
	h->call = 0;
	h->other_len = 0;

	if (d->bytes) {
		h->object_len = add_bytes(&b->data, at, &d->bytes, sizeof(d->bytes), ABI_PATH_MAX);
	} else if (s->walk.status == WALK_NAMELESS && d->object_name) {
		/* memfd:NAME, as the kernel names it. */
		long n =
		    bpf_probe_read_kernel_str(b->data.bytes, ABI_SHOWN_MAX, (void *)d->object_name);

		h->object_len = n > 1 ? n - 1 : 0;
	} else {
		h->object_len = add_walk(&b->data, at, s, ABI_PATH_MAX);
	}
	at += h->object_len;
	h->actor.exe_len = add_exe(&b->data, at, s, task);
	at = add_actor(&h->actor, &b->data, at, s);
	keep(at);
	if (at > ABI_EVENT_DATA) {
		count_loss(ABI_LOSS_RING_FULL);
		return 0;
	}
	return sizeof(*h) + at;
}

/* Sends the event that the task's scratch memory describes, or keeps it. */
verified_once int emit(void)
{
	struct event_buffer *b = own_event_buffer(BPF_LOCAL_STORAGE_GET_F_CREATE);
	u64 size;

	if (!b) {
		count_loss(ABI_LOSS_RING_FULL);
		return 0;
	}
	b->pending = 0;
	size = fill_event(b);
	if (!size || size > sizeof(b->head) + ABI_EVENT_DATA)
		return 0;
	if (b->head.flags & ABI_EVENT_PENDING)
		b->pending = size;
	else if (bpf_ringbuf_output(&alerts, &b->head, size, 0))
		count_loss(ABI_LOSS_RING_FULL);
	return 0;
}

/* Sends the event that waited, with what was decided in the end. */
verified_once int emit_pending(u32 verdict, u32 flags)
{
	struct event_buffer *b = own_event_buffer(0);
	u64 size;

	if (!b || !b->pending) {
		count_loss(ABI_LOSS_RING_FULL);
		return 0;
	}
	size = b->pending;
	b->pending = 0;
	b->head.verdict = verdict;
	b->head.flags = flags;
	if (size > sizeof(b->head) + ABI_EVENT_DATA)
		return 0;
	if (bpf_ringbuf_output(&alerts, &b->head, size, 0))
		count_loss(ABI_LOSS_RING_FULL);
	return 0;
}

#endif
