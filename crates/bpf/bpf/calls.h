/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * System calls that rules are about. They are observed and never denied.
 *
 * A call ends at `sys_exit`, and there it is told, with what it returned. Where it has a path, that
 * was decided on before, by what the kernel had found it to be: by none of the caller's memory. So
 * a path that leads nowhere is the object of no call. What is to be told waits in memory of the
 * task.
 *
 * These programs are loaded and attached only while some workload has rules about system calls.
 */
#ifndef GORGET_CALLS_H
#define GORGET_CALLS_H

#include "decide.h"
#include "call_numbers.h"

/* An event that waits for the end of its call. */
struct call_event {
	/* What it is about. */
	u64 dentry;
	struct event_buffer event;
};

_Static_assert(sizeof(struct call_event) <= 8192 - 256, "an event fits into a slab");

struct call_events {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call_event);
};

/*
 * Only tasks that made one have this. Another one is about another path of the same call, which
 * another rule is about.
 */
struct call_events call_events SEC(".maps");
struct call_events more_call_events SEC(".maps");

/* Who makes the call; NULL when no rule is about what they call. */
inline_always struct task_ctx *caller(struct request *q)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *t;

	/* Threads that the kernel made work for others have made no call. */
	if (!(flags_anywhere & ABI_ACTIVE_SYSCALL) ||
	    (task->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER)))
		return NULL;
	t = identify_subject(q);
	if (!has_flag(q->active, ABI_ACTIVE_SYSCALL))
		return NULL;
	if (!t)
		count_loss(ABI_LOSS_NO_MEMORY);
	return t;
}

/* Whether any rule is about the call, whatever its path is. 1 when the ruleset was switched. */
inline_always int ask_of_call(struct task_ctx *t, struct scratch *s, struct request *q)
{
	struct lookup *l = &s->lookup;

	if (t->source_ruleset != (u32)q->active && update_source(t, s, q))
		return 1;
	l->automaton = ABI_AUTOMATON_SYSCALL;
	l->flags = LOOKUP_BYTES | LOOKUP_AGAIN | terminal_flag(q->active);
	l->source = t->source;
	l->variant = 0;
	l->bytes = q->bytes;
	return lookup(q->active, &s->path, l);
}

/* Memory of the task's with the ruleset's answer about its call; NULL when nothing is to be told.
 */
inline_always struct scratch *asked_about_call(struct task_ctx *t, struct request *q, u32 call)
{
	struct scratch *s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!s) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return NULL;
	}
	q->bytes = call & 0xffff;
	s->walk.workload = q->workload;
	if (ask_of_call(t, s, q)) {
		q->active = active_of(q->workload);
		if (!has_flag(q->active, ABI_ACTIVE_SYSCALL))
			return NULL;
		if (ask_of_call(t, s, q)) {
			count_loss(ABI_LOSS_RULESET_MISSING);
			return NULL;
		}
	}
	return s;
}

inline_always void describe_call(struct scratch *s, struct request *q)
{
	struct decision *d = &s->decision;

	d->workload = q->workload;
	d->ruleset = (u32)q->active;
	d->verdict = s->lookup.answer;
	d->operation = ABI_OP_SYSCALL;
	d->flags = 0;
	d->bytes = 0;
	d->object_name = 0;
}

/* The event that the task's scratch memory describes, in memory of its own. */
inline_always void leave_call_event(struct call_event *e, u32 call, u64 dentry)
{
	struct event_buffer *b;

	if (!e) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return;
	}
	b = &e->event;
	e->dentry = dentry;
	b->pending = fill_event(b);
	b->head.call = call & 0xffff;
}

inline_always struct call_event *waiting_call_event(void *map)
{
	struct call_event *e = bpf_task_storage_get(map, bpf_get_current_task_btf(), NULL, 0);

	return e && e->event.pending ? e : NULL;
}

inline_always struct call_event *new_call_event(void *map)
{
	return bpf_task_storage_get(map, bpf_get_current_task_btf(), NULL,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

inline_always void send_call(struct event_buffer *b, s64 result)
{
	u64 size = b->pending;

	b->pending = 0;
	/* KERNEL: MAX_ERRNO. Everything else is a success, be it an address. */
	b->head.result = result < 0 && result >= -4095 ? (s32)result : 0;
	if (size > sizeof(b->head) + ABI_EVENT_DATA ||
	    bpf_ringbuf_output(&alerts, &b->head, size, 0))
		count_loss(ABI_LOSS_RING_FULL);
}

/*
 * The call in progress is about this object. One rule is told once of a call, whatever the number
 * of its paths that the rule is about; of two rules, each is told.
 */
verified_once int call_is_about(u64 vfsmount, u64 dentry)
{
	struct request q = {};
	struct task_ctx *t = caller(&q);
	struct call_event *waits = NULL;
	struct scratch *s;
	struct lookup *l;
	u32 call, off;

	if (!t)
		return 0;
	call = call_in((u64)bpf_task_pt_regs(bpf_get_current_task_btf()));
	if (!call)
		return 0;
	/* The first is what was found before: nobody has more than two. */
	if (t->call_waits == call) {
		waits = waiting_call_event(&call_events);
		if (!waits || waits->dentry == dentry || waiting_call_event(&more_call_events))
			return 0;
	}
	s = asked_about_call(t, &q, call);
	if (!s || s->lookup.answer == LOOKUP_NO_MORE)
		return 0;
	locate(s, vfsmount, dentry);
	off = s->walk.off;
	if (s->walk.status != WALK_DONE || off < 2 || off >= ABI_PATH_MAX) {
		if (s->walk.status != WALK_NAMELESS)
			count_loss(ABI_LOSS_PATH_UNKNOWN);
		return 0;
	}
	/* In rules the call comes before its path. */
	off -= 2;
	keep(off);
	off &= ABI_PATH_MAX - 1;
	s->path.bytes[off] = q.bytes & 255;
	keep(off);
	s->path.bytes[(off + 1) & (ABI_PATH_MAX - 1)] = q.bytes >> 8;
	l = &s->lookup;
	l->off = off;
	l->flags &= ~(LOOKUP_BYTES | LOOKUP_AGAIN);
	if (lookup(q.active, &s->path, l)) {
		count_loss(ABI_LOSS_RULESET_MISSING);
		return 0;
	}
	if ((l->answer & ABI_OUTCOME_MASK) == ABI_OUTCOME_PASS ||
	    (waits && waits->event.head.verdict == l->answer))
		return 0;
	describe_call(s, &q);
	if (waits) {
		leave_call_event(new_call_event(&more_call_events), call, dentry);
		return 0;
	}
	/* Of a call that ended while nobody looked. */
	waits = waiting_call_event(&more_call_events);
	if (waits)
		waits->event.pending = 0;
	waits = new_call_event(&call_events);
	leave_call_event(waits, call, dentry);
	if (waits)
		t->call_waits = call;
	return 0;
}

/* The call in progress has two paths, and what may be told of `dentry` is about one of them: the
 * other one is added. `flags`: which of them it is. */
verified_once int call_has_other(u64 dentry, u64 other_vfsmount, u64 other, u32 flags)
{
	struct request q = {};
	struct task_ctx *t = caller(&q);
	struct event_buffer *b;
	struct call_event *e;
	struct scratch *s;
	u32 at;

	if (!t || !t->call_waits)
		return 0;
	e = waiting_call_event(&call_events);
	if (!e || e->dentry != dentry)
		e = waiting_call_event(&more_call_events);
	s = own_scratch(0);
	if (!e || e->dentry != dentry || e->event.head.other_len || !s)
		return 0;
	b = &e->event;
	at = b->pending - sizeof(b->head);
	s->walk.workload = q.workload;
	b->head.other_len = add_path(&b->data, at, s, other_vfsmount, other);
	b->pending += b->head.other_len;
	b->head.flags |= flags;
	return 0;
}

inline_always void send_waiting_call(void *map, s64 result)
{
	struct call_event *e = waiting_call_event(map);

	if (e)
		send_call(&e->event, result);
}

/* A call ends, or will not return. */
verified_once int call_ends(u32 call, s64 result)
{
	struct request q = {};
	struct task_ctx *t = caller(&q);
	struct call_event *e;
	struct scratch *s;
	u32 waited;

	if (!t)
		return 0;
	waited = t->call_waits;
	t->call_waits = 0;
	t->mounts_on = 0;
	/* A child comes out of its parent's call. */
	if (!call || ((call & ABI_CALL_FORKS) && !result))
		return 0;
	if (waited == call) {
		send_waiting_call(&call_events, result);
		send_waiting_call(&more_call_events, result);
		return 0;
	}
	s = asked_about_call(t, &q, call);
	if (!s || s->lookup.answer == LOOKUP_NO_MORE)
		return 0;
	s->lookup.flags &= ~LOOKUP_AGAIN;
	if (lookup(q.active, &s->path, &s->lookup)) {
		count_loss(ABI_LOSS_RULESET_MISSING);
		return 0;
	}
	if ((s->lookup.answer & ABI_OUTCOME_MASK) == ABI_OUTCOME_PASS)
		return 0;
	s->walk.status = WALK_NAMELESS;
	describe_call(s, &q);
	e = new_call_event(&call_events);
	leave_call_event(e, call, 0);
	if (e && e->event.pending)
		send_call(&e->event, result);
	return 0;
}

SEC("tp_btf/sys_exit") int BPF_PROG(call_sys_exit, struct pt_regs *regs, long result)
{
	return call_ends(call_in(address(regs)), result);
}

SEC("tp_btf/sys_enter") int BPF_PROG(call_sys_enter, struct pt_regs *regs)
{
	u32 call = call_in(address(regs));

	return call & ABI_CALL_IS_LAST ? call_ends(call, 0) : 0;
}

/* === what calls are about === */

inline_always int call_is_about_path(const struct path *path)
{
	u64 vfsmount = 0, dentry = 0;

	read_at(&vfsmount, path, struct path, mnt);
	read_at(&dentry, path, struct path, dentry);
	return call_is_about(vfsmount, dentry);
}

inline_always void call_is_about_both(u64 vfsmount, u64 first, u64 other_vfsmount, u64 second)
{
	call_is_about(vfsmount, first);
	call_is_about(other_vfsmount, second);
	call_has_other(first, other_vfsmount, second, 0);
	call_has_other(second, vfsmount, first, ABI_EVENT_SECOND);
}

inline_always int call_is_about_paths(const struct path *first, const struct path *second)
{
	u64 vfsmount = 0, dentry = 0, other_vfsmount = 0, other = 0;

	read_at(&vfsmount, first, struct path, mnt);
	read_at(&dentry, first, struct path, dentry);
	read_at(&other_vfsmount, second, struct path, mnt);
	read_at(&other, second, struct path, dentry);
	call_is_about_both(vfsmount, dentry, other_vfsmount, other);
	return 0;
}

inline_always int call_is_about_entries(const struct path *dir, struct dentry *first,
					const struct path *other_dir, struct dentry *second)
{
	u64 vfsmount = 0, other_vfsmount = 0;

	read_at(&vfsmount, dir, struct path, mnt);
	read_at(&other_vfsmount, other_dir, struct path, mnt);
	call_is_about_both(vfsmount, address(first), other_vfsmount, address(second));
	return 0;
}

inline_always int call_is_about_entry(const struct path *dir, struct dentry *dentry)
{
	u64 vfsmount = 0;

	read_at(&vfsmount, dir, struct path, mnt);
	return call_is_about(vfsmount, address(dentry));
}

#define CALL(name) SEC("fexit/security_" #name) int

CALL(path_unlink) BPF_PROG(call_path_unlink, const struct path *dir, struct dentry *dentry)
{
	return call_is_about_entry(dir, dentry);
}

CALL(path_rmdir) BPF_PROG(call_path_rmdir, const struct path *dir, struct dentry *dentry)
{
	return call_is_about_entry(dir, dentry);
}

CALL(path_mkdir) BPF_PROG(call_path_mkdir, const struct path *dir, struct dentry *dentry)
{
	return call_is_about_entry(dir, dentry);
}

CALL(path_mknod) BPF_PROG(call_path_mknod, const struct path *dir, struct dentry *dentry)
{
	return call_is_about_entry(dir, dentry);
}

CALL(path_symlink) BPF_PROG(call_path_symlink, const struct path *dir, struct dentry *dentry)
{
	return call_is_about_entry(dir, dentry);
}

/* Both names are on one mount. */
CALL(path_link)
BPF_PROG(call_path_link, struct dentry *old, const struct path *dir, struct dentry *entry)
{
	return call_is_about_entries(dir, old, dir, entry);
}

CALL(path_rename)
BPF_PROG(call_path_rename, const struct path *old_dir, struct dentry *old,
	 const struct path *new_dir, struct dentry *new)
{
	return call_is_about_entries(old_dir, old, new_dir, new);
}

CALL(path_chmod) BPF_PROG(call_path_chmod, const struct path *path)
{
	return call_is_about_path(path);
}

CALL(path_chown) BPF_PROG(call_path_chown, const struct path *path)
{
	return call_is_about_path(path);
}

CALL(path_truncate) BPF_PROG(call_path_truncate, const struct path *path)
{
	return call_is_about_path(path);
}

CALL(path_chroot) BPF_PROG(call_path_chroot, const struct path *path)
{
	return call_is_about_path(path);
}

CALL(file_open) BPF_PROG(call_file_open, struct file *file)
{
	return call_is_about_path(&file->f_path);
}

CALL(inode_getattr) BPF_PROG(call_inode_getattr, const struct path *path)
{
	return call_is_about_path(path);
}

CALL(bprm_creds_for_exec) BPF_PROG(call_bprm_creds_for_exec, struct linux_binprm *bprm)
{
	return call_is_about_path(&bprm->file->f_path);
}

/* What is mounted here, if it has a path, is looked up afterwards. */
CALL(sb_mount) BPF_PROG(call_sb_mount, const char *device, const struct path *path)
{
	struct request q = {};
	struct task_ctx *t = caller(&q);

	if (t) {
		read_at(&t->mounts_on_vfsmount, path, struct path, mnt);
		read_at(&t->mounts_on, path, struct path, dentry);
	}
	return call_is_about_path(path);
}

CALL(move_mount) BPF_PROG(call_move_mount, const struct path *from, const struct path *to)
{
	return call_is_about_paths(from, to);
}

CALL(sb_pivotroot) BPF_PROG(call_sb_pivotroot, const struct path *put_old, const struct path *root)
{
	return call_is_about_paths(root, put_old);
}

/*
 * What all other calls find their paths by. KERNEL: fs/namei.c; user_path_at() and
 * user_path_at_empty() go through it, and since 6.11 not all calls go through those.
 */
struct filename;

/* A path was found; when the call has one already on which something is to be mounted, it is what
 * is mounted there. */
verified_once int call_found(u64 vfsmount, u64 dentry)
{
	struct request q = {};
	struct task_ctx *t = caller(&q);

	if (!t)
		return 0;
	call_is_about(vfsmount, dentry);
	if (!t->mounts_on)
		return 0;
	call_has_other(dentry, t->mounts_on_vfsmount, t->mounts_on, 0);
	call_has_other(t->mounts_on, vfsmount, dentry, ABI_EVENT_SECOND);
	return 0;
}

SEC("fexit/filename_lookup")
int BPF_PROG(call_filename_lookup, int dir, struct filename *name, unsigned int flags,
	     struct path *path, struct path *root, int failed)
{
	u64 vfsmount = 0, dentry = 0;

	if (failed)
		return 0;
	read_at(&vfsmount, path, struct path, mnt);
	read_at(&dentry, path, struct path, dentry);
	return call_found(vfsmount, dentry);
}

#endif
