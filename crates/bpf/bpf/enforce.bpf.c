// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that enforce. One program for each hook, for all policies and all workloads: adding
 * a policy adds table entries, never programs.
 *
 * Every hook comes down to check(): who is it (identity.h), may an earlier answer be given again,
 * what is the object's path (path.h), what does the workload's ruleset say (match.h), must
 * somebody be told (event.h). The agent shares with these programs what abi.h describes: it writes
 * `workloads`, `cgroups` and the ruleset tables and reads `alerts` and `losses`.
 *
 * A denied operation returns -EACCES.
 */
#include "path.h"
#include "identity.h"
#include "match.h"
#include "event.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum access {
	ACCESS_READ = 1,
	ACCESS_WRITE = 2,
	ACCESS_TREE = 4,
};

/* What a decision is about. Kernel addresses are numbers here: they are only probe-read. */
struct request {
	u64 vfsmount;
	u64 dentry;
	u64 inode;
	u32 operation;
	u32 access;
	/* For objects that are no paths: enum abi_automaton, and the object. */
	u32 automaton;
	u32 bytes;
	/* Filled in on the way. */
	u32 workload;
	u32 source;
	u32 variant;
	u32 pad;
	u64 active;
};

inline_always u32 is_owner(u64 inode)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 uid = 0;

	/* What does not exist yet will belong to who creates it. */
	if (!inode)
		return ABI_VARIANT_OWNER;
	read_at(&uid, inode, struct inode, i_uid.val);
	return uid == BPF_CORE_READ(task, cred, fsuid.val) ? ABI_VARIANT_OWNER : 0;
}

/* LOOKUP_TERMINAL when the task has a controlling terminal and some rule asks for that. */
inline_always u32 terminal_flag(u64 active)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!has_flag(active, ABI_ACTIVE_TERMINAL) || !BPF_CORE_READ(task, signal, tty))
		return 0;
	return LOOKUP_TERMINAL;
}

/* === remembered answers === */

inline_always void describe(struct remembered *r, struct request *q, u32 renames, u32 mounts)
{
	u64 sb = 0;

	r->dentry = q->dentry;
	r->mount = q->vfsmount;
	r->ruleset = (u32)q->active;
	r->source = q->source | terminal_flag(q->active) << 24;
	r->rename_seq = renames;
	r->mount_seq = mounts;
	read_at(&r->parent, q->dentry, struct dentry, d_parent);
	read_at(&r->name_hash, q->dentry, struct dentry, d_name.hash_len);
	read_at(&r->ino, q->inode, struct inode, i_ino);
	read_at(&sb, q->inode, struct inode, i_sb);
	read_at(&r->dev, sb, struct super_block, s_dev);
}

/* dentry, mount, parent, name and inode are the same, and nothing was renamed or mounted since:
 * so the path is the same. */
inline_always int same_object(const struct remembered *a, const struct remembered *b)
{
	return a->dentry == b->dentry && a->mount == b->mount && a->parent == b->parent &&
	       a->name_hash == b->name_hash && a->ino == b->ino && a->dev == b->dev &&
	       a->ruleset == b->ruleset && a->source == b->source &&
	       a->rename_seq == b->rename_seq && a->mount_seq == b->mount_seq;
}

inline_always struct remembered *remembered_at(struct task_ctx *t, const struct remembered *r)
{
	u32 i = r->ino;

	keep(i);
	i &= ABI_REMEMBERED - 1;
	return &t->remembered[i];
}

/*
 * Whether the request may go on without being decided again. Every opening of an audited file is
 * reported, but not every reading and writing of it while it is open.
 */
inline_always int is_remembered(const struct remembered *r, const struct remembered *now,
				struct request *q, u32 wanted)
{
	u32 known = r->passes;

	if (q->operation == ABI_OP_PERMISSION)
		known |= r->audited;
	return (known & wanted) == wanted && same_object(r, now);
}

inline_always u32 variant_bits(struct request *q)
{
	u32 bits = 1u << (q->variant & 7);

	if (q->access == (ACCESS_READ | ACCESS_WRITE))
		bits |= 1u << (q->variant & ABI_VARIANT_OWNER);
	return bits;
}

/* === deciding === */

/*
 * Which sources of the ruleset the task's image is one of. Worked out once for each image and
 * ruleset, from the image that the kernel started and not from what the task says it is.
 */
verified_once int update_source(struct task_ctx *t, struct scratch *s, struct request *q)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct lookup *l;
	u64 exe, inode = 0, sb = 0, ino = 0;
	u32 dev = 0;

	if (!t || !s || !q)
		return 0;
	l = &s->lookup;
	exe = (u64)BPF_CORE_READ(task, mm, exe_file);
	l->automaton = ABI_AUTOMATON_SOURCE;
	l->flags = LOOKUP_NOTHING;
	if (exe) {
		u64 vfsmount = 0, dentry = 0;

		read_at(&vfsmount, exe, struct file, f_path.mnt);
		read_at(&dentry, exe, struct file, f_path.dentry);
		read_at(&inode, dentry, struct dentry, d_inode);
		read_at(&ino, inode, struct inode, i_ino);
		read_at(&sb, inode, struct inode, i_sb);
		read_at(&dev, sb, struct super_block, s_dev);
		if (!t->exe_ino || (t->exe_ino == ino && t->exe_dev == dev)) {
			walk_path(s, vfsmount, dentry);
			if (s->walk.status == WALK_DONE &&
			    !is_foreign(q->workload, s->walk.visible_root)) {
				l->flags = 0;
				l->off = s->walk.off;
			} else if (s->walk.status != WALK_NAMELESS) {
				count_loss(ABI_LOSS_PATH_UNKNOWN);
			}
		}
	}
	if (lookup(q->active, &s->path, l))
		return 1;
	t->source = l->answer;
	t->source_ruleset = (u32)q->active;
	return 0;
}

/* Asks the ruleset in force; again when it was switched between two steps. */
verified_once int ask(struct task_ctx *t, struct scratch *s, struct request *q)
{
	struct lookup *l;
	struct walk *w;

	if (!s || !q)
		return 1;
	l = &s->lookup;
	w = &s->walk;
	if (q->operation == ABI_OP_EXEC && t && t->entering == q->workload &&
	    t->workload != q->workload) {
		q->source = 0;
	} else if (t) {
		if (t->source_ruleset != (u32)q->active && update_source(t, s, q))
			return 1;
		q->source = t->source;
	}
	l->source = q->source;
	l->variant = q->variant;
	l->flags = terminal_flag(q->active);
	l->bytes = q->bytes;
	if (q->bytes) {
		l->automaton = q->automaton;
		l->flags |= LOOKUP_BYTES;
		return lookup(q->active, &s->path, l);
	}
	if (q->access == (ACCESS_READ | ACCESS_WRITE))
		l->flags |= LOOKUP_READ_TOO;
	walk_path(s, q->vfsmount, q->dentry);
	l->automaton = q->operation == ABI_OP_EXEC ? ABI_AUTOMATON_PROCESS : ABI_AUTOMATON_FILE;
	l->off = w->off;
	if (w->status == WALK_NAMELESS) {
		l->flags |= LOOKUP_NOTHING;
	} else if (w->status != WALK_DONE || is_foreign(q->workload, w->visible_root)) {
		count_loss(ABI_LOSS_PATH_UNKNOWN);
		l->flags |= LOOKUP_NOTHING;
	}
	if (q->operation == ABI_OP_EXEC && w->status == WALK_DONE) {
		u32 links = 1;

		read_at(&links, q->inode, struct inode, i_nlink);
		if (!links) {
			w->status = WALK_NAMELESS;
			l->flags |= LOOKUP_NOTHING;
		}
	}
	return lookup(q->active, &s->path, l);
}

/* No memory to build a path in: what the ruleset says of an object that nothing is known of. */
verified_once u32 ask_blind(struct request *q)
{
	struct lookup l = {.flags = LOOKUP_NOTHING};

	if (!q)
		return 0;
	count_loss(ABI_LOSS_NO_MEMORY);
	l.variant = q->variant;
	l.automaton = q->operation == ABI_OP_EXEC ? ABI_AUTOMATON_PROCESS : ABI_AUTOMATON_FILE;
	if (q->bytes) {
		l.automaton = q->automaton;
		l.bytes = q->bytes;
		l.flags = LOOKUP_BYTES;
	}
	if (lookup(q->active, NULL, &l))
		return 0;
	return l.answer;
}

inline_always int carry_out(u64 active, u32 verdict)
{
	if ((verdict & ABI_OUTCOME_MASK) != ABI_OUTCOME_BLOCK)
		return 0;
	return has_flag(active, ABI_ACTIVE_AUDITED) ? 0 : 1;
}

/* What is to be done about a decision. */
enum todo {
	DENY = 1,
	/* Send the event that `struct scratch` describes. */
	TELL = 2,
};

/*
 * A decision about an execve that depends on arguments which cannot be read yet: kept for
 * bprm_committed_creds. Two at once, for a script and its interpreter, are too many: the
 * interpreter's arguments begin with the script, and count as in no list.
 */
inline_always int wait_for_arguments(struct task_ctx *t, struct request *q, struct lookup *l)
{
	if (t && !t->pending_active) {
		t->pending = l->answer;
		t->pending_active = q->active;
		return 1;
	}
	__builtin_memset(l->lists, 0, sizeof(l->lists));
	l->flags |= LOOKUP_ARGUMENTS;
	if (resume(q->active, l))
		count_loss(ABI_LOSS_RULESET_MISSING);
	return 0;
}

inline_always int is_branch(u32 answer)
{
	return ((answer >> ABI_CAUSE_SHIFT) & ABI_CAUSE_MASK) == ABI_CAUSE_BRANCH;
}

inline_always void describe_event(struct decision *d, struct request *q, u32 answer)
{
	d->workload = q->workload;
	d->ruleset = (u32)q->active;
	d->verdict = answer;
	d->operation = q->operation;
	/* What a preset is about is the path that was built for it, if any. */
	d->bytes = q->automaton == ABI_AUTOMATON_PRESET ? 0 : q->bytes;
	d->flags = has_flag(q->active, ABI_ACTIVE_AUDITED) ? ABI_EVENT_AUDITED : 0;
	read_at(&d->object_name, q->dentry, struct dentry, d_name.name);
}

verified_once int decide(struct task_ctx *t, struct request *q)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct remembered *now = NULL, *slot = NULL;
	struct scratch *s;
	int missing, named, verdict = 0;
	u32 answer;

	if (!q)
		return 0;
	/* Without the kernel's counters nothing can be remembered. */
	if (&rename_lock && &mount_lock && t && q->inode && q->operation != ABI_OP_EXEC &&
	    !(q->access & ACCESS_TREE) && t->source_ruleset == (u32)q->active) {
		q->source = t->source;
		now = &t->candidate;
		describe(now, q, sequence(&rename_lock), sequence(&mount_lock));
		slot = remembered_at(t, now);
		if (is_remembered(slot, now, q, variant_bits(q)))
			return 0;
	}
	s = bpf_task_storage_get(&scratches, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s)
		return carry_out(q->active, ask_blind(q)) ? DENY : 0;
	missing = ask(t, s, q);
	if (missing) {
		/* The table was switched under us, and its slot used again: ask the new one. */
		q->active = active_of(q->workload);
		if (!q->active)
			return 0;
		missing = ask(t, s, q);
		slot = NULL;
	}
	if (missing) {
		count_loss(ABI_LOSS_RULESET_MISSING);
		return 0;
	}
	if (is_branch(s->lookup.answer) && wait_for_arguments(t, q, &s->lookup)) {
		describe_event(&s->decision, q, s->lookup.answer);
		s->decision.flags |= ABI_EVENT_PENDING;
		return TELL;
	}
	answer = s->lookup.answer;
	named = s->walk.status == WALK_DONE && !(s->lookup.flags & LOOKUP_NOTHING);
	if ((answer & ABI_OUTCOME_MASK) != ABI_OUTCOME_PASS) {
		describe_event(&s->decision, q, answer);
		verdict |= TELL;
	}
	if (carry_out(q->active, answer))
		return verdict | DENY;
	/* Only where the path was the same before and after: the counters were read before. */
	if (slot && now && named && !((now->rename_seq | now->mount_seq) & 1)) {
		if (same_object(slot, now)) {
			now->passes = slot->passes;
			now->audited = slot->audited;
		} else {
			now->passes = 0;
			now->audited = 0;
		}
		if ((answer & ABI_OUTCOME_MASK) == ABI_OUTCOME_PASS)
			now->passes |= variant_bits(q);
		else
			now->audited |= variant_bits(q);
		*slot = *now;
	}
	return verdict;
}

/* Not nested in decide(): the stack is short. */
inline_always int finish(int todo)
{
	if (todo & TELL)
		emit();
	return todo & DENY ? -EACCES : 0;
}

/*
 * Pipes, sockets and memfds are no files of the tree: no rule can name them, and an allow list is
 * about the tree. Running a memfd is another matter, and judged as a process.
 */
inline_always int is_nameless(u64 dentry, u64 inode)
{
	u64 parent = 0;
	u16 mode = 0;

	read_at(&parent, dentry, struct dentry, d_parent);
	if (parent != dentry)
		return 0;
	/* The root of a file system is its own parent, too. */
	read_at(&mode, inode, struct inode, i_mode);
	return (mode & S_IFMT) != S_IFDIR;
}

/* Who it is, and what is in force for them. 0 when it is nobody. */
inline_always struct task_ctx *identify(struct request *q)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *t;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return NULL;
	t = bpf_task_storage_get(&tasks, task, NULL, 0);
	if (!t && (bound_cgroups || active_of(0)))
		t = current_ctx();
	if (t)
		q->workload = t->workload;
	else if (bound_cgroups)
		q->workload = current_cgroup_workload();
	q->active = active_of(q->workload);
	return t;
}

/* Every file hook. */
verified_once int check(u64 vfsmount, u64 dentry, u32 operation, u32 access)
{
	struct request q = {};
	struct task_ctx *t = identify(&q);

	if (!has_flag(q.active,
		      access & ACCESS_TREE ? ABI_ACTIVE_FILE | ABI_ACTIVE_TREE : ABI_ACTIVE_FILE))
		return 0;
	q.vfsmount = vfsmount;
	q.dentry = dentry;
	q.operation = operation;
	q.access = access;
	read_at(&q.inode, dentry, struct dentry, d_inode);
	if (is_nameless(dentry, q.inode))
		return 0;
	q.variant = is_owner(q.inode);
	if (access & (ACCESS_WRITE | ACCESS_TREE))
		q.variant |= ABI_VARIANT_WRITE;
	if (access & ACCESS_TREE)
		q.variant |= ABI_VARIANT_TREE;
	return finish(decide(t, &q));
}

/* Every hook whose object is a few bytes. */
verified_once int check_bytes(u32 automaton, u32 operation, u32 bytes)
{
	struct request q = {};
	struct task_ctx *t = identify(&q);
	u32 flag = automaton == ABI_AUTOMATON_NETWORK ? ABI_ACTIVE_NETWORK : ABI_ACTIVE_CAPABILITY;

	if (!has_flag(q.active, flag))
		return 0;
	q.automaton = automaton;
	q.operation = operation;
	q.bytes = bytes;
	return finish(decide(t, &q));
}

inline_always int deny_if(int denied)
{
	return denied ? -EACCES : 0;
}

/* For hooks that get a directory and a name in it. */
inline_always int check_entry(const struct path *dir, struct dentry *dentry, u32 operation,
			      u32 access)
{
	u64 vfsmount = 0;

	read_at(&vfsmount, dir, struct path, mnt);
	return deny_if(check(vfsmount, address(dentry), operation, access));
}

/* For hooks that get what is acted upon. */
inline_always int check_path(const struct path *path, u32 operation, u32 access)
{
	u64 vfsmount = 0, dentry = 0;

	read_at(&vfsmount, path, struct path, mnt);
	read_at(&dentry, path, struct path, dentry);
	return deny_if(check(vfsmount, dentry, operation, access));
}

inline_always u32 dentry_mode(struct dentry *dentry)
{
	u64 inode = 0;
	u16 mode = 0;

	read_at(&inode, dentry, struct dentry, d_inode);
	if (!inode)
		return 0;
	read_at(&mode, inode, struct inode, i_mode);
	return mode & S_IFMT;
}

#include "presets.h"

/* === processes === */

/*
 * A task of the host that executes something inside a bound cgroup enters that workload: it is the
 * runtime that starts the entrypoint, or an exec session.
 */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm, int ret)
{
	struct request q = {};
	struct task_ctx *t;

	if (ret)
		return ret;
	t = current_ctx();
	if (t) {
		q.workload = t->workload;
		t->entering = t->workload;
		if (!q.workload) {
			q.workload = current_cgroup_workload();
			t->entering = q.workload;
		}
	} else if (current_cgroup_workload()) {
		/* It could not be remembered that the task is in the workload now. */
		count_loss(ABI_LOSS_NO_MEMORY);
		return -ENOMEM;
	}
	if (t && BPF_CORE_READ(bprm, interp) == BPF_CORE_READ(bprm, filename)) {
		/* The first round of this execve; an earlier one may have failed while it waited.
		 */
		t->pending_active = 0;
		t->pending_argc = BPF_CORE_READ(bprm, argc);
	}
	q.vfsmount = (u64)BPF_CORE_READ(bprm, file, f_path.mnt);
	q.dentry = (u64)BPF_CORE_READ(bprm, file, f_path.dentry);
	read_at(&q.inode, q.dentry, struct dentry, d_inode);
	q.active = active_of(q.workload);
	if (!has_flag(q.active, ABI_ACTIVE_PROCESS))
		return 0;
	q.operation = ABI_OP_EXEC;
	q.variant = is_owner(q.inode);
	return finish(decide(t, &q));
}

struct argument_reader {
	struct scratch *s;
	u64 from;
	u32 skip;
	u32 len;
	u32 failed;
	u32 count;
};

static long read_argument(u64 i, void *ctx)
{
	struct argument_reader *r = ctx;
	struct scratch *s = r->s;
	u32 len = r->len;
	long size;

	if (!s || i >= r->count)
		return 1;
	keep(len);
	len &= ABI_PATH_MAX - 1;
	if (len > ABI_PATH_MAX - ABI_ARGUMENT_MAX) {
		r->failed = 1;
		return 1;
	}
	size =
	    bpf_probe_read_user_str(s->path.bytes + len, ABI_ARGUMENT_MAX, (const void *)r->from);
	if (size <= 0 || size >= ABI_ARGUMENT_MAX) {
		r->failed = 1;
		return 1;
	}
	r->from += size;
	if (i >= r->skip)
		r->len = len + size;
	return 0;
}

/*
 * What `allowedArgs` says about the program that is about to run. Before this moment nobody could
 * read its arguments, and from its first instruction on it can change them. It can no longer be
 * refused, but be killed before that instruction. Arguments that are too many, too long or cannot
 * be read are in no list.
 */
verified_once int check_arguments(struct task_ctx *t, u64 from, u32 argc)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct argument_reader r = {.from = from, .count = argc};
	u64 active;
	struct scratch *s;
	struct lookup *l;
	u32 flags;

	if (!t)
		return 0;
	active = t->pending_active;
	t->pending_active = 0;
	s = bpf_task_storage_get(&scratches, task, NULL, 0);
	if (!s)
		return DENY;
	l = &s->lookup;
	__builtin_memset(l->lists, 0, sizeof(l->lists));
	l->flags = LOOKUP_ARGUMENTS | terminal_flag(active);
	r.s = s;
	r.len = unknown_zero;
	/* A `#!` line puts its own words in front and replaces the first argument. */
	r.skip = argc - t->pending_argc + 1;
	if (argc > ABI_ARGUMENTS || argc < t->pending_argc)
		r.failed = 1;
	else
		bpf_loop(ABI_ARGUMENTS, read_argument, &r, 0);
	if (!r.failed && lookup_arguments(active, &s->path, r.len, l))
		count_loss(ABI_LOSS_RULESET_MISSING);
	l->answer = t->pending;
	if (resume(active, l)) {
		count_loss(ABI_LOSS_RULESET_MISSING);
		return DENY;
	}
	if ((l->answer & ABI_OUTCOME_MASK) == ABI_OUTCOME_PASS)
		return 0;
	flags = has_flag(active, ABI_ACTIVE_AUDITED) ? ABI_EVENT_AUDITED : 0;
	if (!carry_out(active, l->answer)) {
		emit_pending(l->answer, flags);
		return 0;
	}
	emit_pending(l->answer, ABI_EVENT_KILLED);
	return DENY;
}

SEC("lsm/bprm_committed_creds")
int BPF_PROG(bprm_committed_creds, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *t = bpf_task_storage_get(&tasks, task, NULL, 0);
	u64 dentry, inode = 0, sb = 0;

	if (!t)
		return 0;
	if (t->entering && !t->workload) {
		/* The runtime has made the container's root the task's own by now. */
		learn_root(t->entering, (u64)BPF_CORE_READ(task, fs, root.dentry));
		t->workload = t->entering;
	}
	t->entering = 0;
	t->source_ruleset = 0;
	if (t->pending_active && check_arguments(t, bprm->p, bprm->argc))
		bpf_send_signal(SIGKILL);
	dentry = (u64)BPF_CORE_READ(bprm, file, f_path.dentry);
	read_at(&inode, dentry, struct dentry, d_inode);
	read_at(&t->exe_ino, inode, struct inode, i_ino);
	read_at(&sb, inode, struct inode, i_sb);
	read_at(&t->exe_dev, sb, struct super_block, s_dev);
	return 0;
}

/* A child is where its parent is. Without memory to say so there is no child. */
SEC("lsm/task_alloc")
int BPF_PROG(task_alloc, struct task_struct *child, unsigned long clone_flags, int ret)
{
	struct task_ctx *parent, *t;

	if (ret)
		return ret;
	parent = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
	if (!parent || !parent->workload)
		return 0;
	t = bpf_task_storage_get(&tasks, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return -ENOMEM;
	}
	t->workload = parent->workload;
	t->source = parent->source;
	t->source_ruleset = parent->source_ruleset;
	t->exe_ino = parent->exe_ino;
	t->exe_dev = parent->exe_dev;
	return 0;
}

/*
 * Enrols the tasks of a container that ran before its cgroup was bound, when the agent reads this
 * iterator. A task whose image is not below the workload's root is the runtime's.
 */
static __noinline u32 task_cgroup_workload(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);

	for (int i = 0; i < ABI_CGROUP_DEPTH && cgroup; i++) {
		u64 id = BPF_CORE_READ(cgroup, kn, id);
		u32 *workload = bpf_map_lookup_elem(&cgroups, &id);

		if (workload)
			return *workload;
		/* `self` is the first field of struct cgroup. */
		cgroup = (struct cgroup *)BPF_CORE_READ(cgroup, self.parent);
	}
	return 0;
}

SEC("iter/task")
int enrol_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_ctx *t;
	struct scratch *s;
	struct file *exe;
	u64 root;
	u32 index;

	if (!task || (BPF_CORE_READ(task, flags) & PF_KTHREAD))
		return 0;
	if (BPF_CORE_READ(task, pid) == 1) {
		learn_root(0, (u64)BPF_CORE_READ(task, fs, root.dentry));
		return 0;
	}
	index = task_cgroup_workload(task);
	if (!index)
		return 0;
	exe = BPF_CORE_READ(task, mm, exe_file);
	s = bpf_task_storage_get(&scratches, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!exe)
		return 0;
	t = bpf_task_storage_get(&tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t || !s) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return 0;
	}
	if (t->workload)
		return 0;
	walk_path(s, (u64)BPF_CORE_READ(exe, f_path.mnt), (u64)BPF_CORE_READ(exe, f_path.dentry));
	root = (u64)BPF_CORE_READ(task, fs, root.dentry);
	/* The runtime's own image is seen below the host's root, or is a memfd. */
	if (s->walk.status != WALK_DONE || !is_foreign(0, s->walk.visible_root))
		return 0;
	learn_root(index, root);
	if (!is_foreign(index, s->walk.visible_root))
		t->workload = index;
	return 0;
}

/* === files === */

SEC("lsm/file_open")
int BPF_PROG(file_open, struct file *file, int ret)
{
	u32 mode = file->f_mode, access = 0;

	if (ret)
		return ret;
	/* Opened to be executed: judged as a process. */
	if (file->f_flags & FMODE_EXEC_FLAG)
		return 0;
	if (mode & FMODE_READ)
		access |= ACCESS_READ;
	if (mode & FMODE_WRITE)
		access |= ACCESS_WRITE;
	if (file->f_inode->i_sb->s_magic == PROC_SUPER_MAGIC && check_proc(file))
		return -EACCES;
	return check_path(&file->f_path, ABI_OP_OPEN, access);
}

/* What is open already is judged again when the rules or the image have changed. */
SEC("lsm/file_permission")
int BPF_PROG(file_permission, struct file *file, int mask, int ret)
{
	u32 access = 0;

	if (ret)
		return ret;
	if (file->f_flags & FMODE_EXEC_FLAG)
		return 0;
	if (mask & MAY_READ)
		access |= ACCESS_READ;
	if (mask & (MAY_WRITE | MAY_APPEND))
		access |= ACCESS_WRITE;
	if (!access)
		return 0;
	return check_path(&file->f_path, ABI_OP_PERMISSION, access);
}

SEC("lsm/path_mknod")
int BPF_PROG(path_mknod, const struct path *dir, struct dentry *dentry, u32 mode, u32 dev, int ret)
{
	return ret ? ret : check_entry(dir, dentry, ABI_OP_CREATE, ACCESS_WRITE);
}

SEC("lsm/path_mkdir")
int BPF_PROG(path_mkdir, const struct path *dir, struct dentry *dentry, u32 mode, int ret)
{
	return ret ? ret : check_entry(dir, dentry, ABI_OP_MKDIR, ACCESS_WRITE);
}

SEC("lsm/path_unlink")
int BPF_PROG(path_unlink, const struct path *dir, struct dentry *dentry, int ret)
{
	return ret ? ret : check_entry(dir, dentry, ABI_OP_UNLINK, ACCESS_WRITE);
}

SEC("lsm/path_rmdir")
int BPF_PROG(path_rmdir, const struct path *dir, struct dentry *dentry, int ret)
{
	return ret ? ret : check_entry(dir, dentry, ABI_OP_RMDIR, ACCESS_WRITE | ACCESS_TREE);
}

SEC("lsm/path_symlink")
int BPF_PROG(path_symlink, const struct path *dir, struct dentry *dentry, const char *target,
	     int ret)
{
	return ret ? ret : check_entry(dir, dentry, ABI_OP_SYMLINK, ACCESS_WRITE);
}

/* Both names are on one mount: the kernel refuses a link across two. */
SEC("lsm/path_link")
int BPF_PROG(path_link, struct dentry *old, const struct path *dir, struct dentry *dentry, int ret)
{
	if (ret)
		return ret;
	ret = check_entry(dir, old, ABI_OP_LINK, ACCESS_WRITE);
	if (ret)
		return ret;
	return check_entry(dir, dentry, ABI_OP_LINK, ACCESS_WRITE);
}

inline_always u32 rename_access(struct dentry *dentry)
{
	return dentry_mode(dentry) == S_IFDIR ? ACCESS_WRITE | ACCESS_TREE : ACCESS_WRITE;
}

/* An exchange moves both; a plain rename removes what stands at the new name. */
SEC("lsm/path_rename")
int BPF_PROG(path_rename, const struct path *old_dir, struct dentry *old,
	     const struct path *new_dir, struct dentry *new)
{
	int ret;

	ret = check_entry(old_dir, old, ABI_OP_RENAME, rename_access(old));
	if (ret)
		return ret;
	return check_entry(new_dir, new, ABI_OP_RENAME, rename_access(new));
}

SEC("lsm/path_chmod")
int BPF_PROG(path_chmod, const struct path *path, u32 mode, int ret)
{
	return ret ? ret : check_path(path, ABI_OP_CHMOD, ACCESS_WRITE);
}

SEC("lsm/path_chown")
int BPF_PROG(path_chown, const struct path *path)
{
	return check_path(path, ABI_OP_CHOWN, ACCESS_WRITE);
}

SEC("lsm/path_truncate")
int BPF_PROG(path_truncate, const struct path *path, int ret)
{
	return ret ? ret : check_path(path, ABI_OP_TRUNCATE, ACCESS_WRITE);
}

#include "objects.h"
#include "dns.h"

/* Types that no map mentions, so that the Rust side gets them too. */
const volatile struct {
	struct ev_decision event;
	struct rs_header header;
	struct rs_row row;
	struct rs_branch branch;
	enum abi_limit limit;
	enum abi_class class;
	enum abi_class_bytes class_bytes;
	enum abi_automaton automaton;
	enum abi_outcome outcome;
	enum abi_cause cause;
	enum abi_verdict verdict;
	enum abi_variant variant;
	enum abi_active active;
	enum abi_loss loss;
	enum abi_operation operation;
	enum abi_event_flag event_flag;
} anchors SEC(".rodata.abi") = {};
