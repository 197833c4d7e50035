/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Programs that run: what is executed, by which loader, with which arguments, and in which workload
 * the task is then.
 */
#ifndef GORGET_PROCESSES_H
#define GORGET_PROCESSES_H

#include "guard.h"
#include "starting.h"
#include "shortcut.h"

/* === starting === */

/* Whether a program runs without a word, by the short way: not when it enters a workload, and not
 * when it has no name any more. */
inline_always int may_run(struct task_ctx *t, struct file *file)
{
	struct subject s = {.t = t};
	struct dentry *dentry = file->f_path.dentry;

	if (t->entering && t->entering != t->workload)
		return 0;
	s.active = active_of(t->workload);
	if (!has_flag(s.active, ABI_ACTIVE_PROCESS))
		return 1;
	if (!dentry->d_inode->i_nlink)
		return 0;
	return may_pass(&s, file->f_path.mnt, dentry, ACCESS_PROCESS);
}

/*
 * Notes who is brought into a container that runs, which is what people call an exec session, and
 * everything that comes of it. A child of a member is one itself that nobody enrolled yet.
 */
inline_always void note_session(struct task_ctx *t, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *parent = bpf_task_storage_get(&tasks, task->real_parent, NULL, 0);

	t->session = 0;
	if (!t->entering || !is_running(t->entering) || (parent && parent->workload))
		return;
	t->session = bpf_ktime_get_boot_ns();
	bpf_probe_read_kernel_str(t->session_name, sizeof(t->session_name),
				  BPF_CORE_READ(bprm, file, f_path.dentry, d_name.name));
}

/*
 * A task of the host that executes something inside a bound cgroup enters that workload: it is the
 * runtime that starts the entrypoint, or an exec session.
 */
inline_always int check_image(struct linux_binprm *bprm)
{
	struct task_ctx *t;
	u64 vfsmount, dentry;

	t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
	/* Nobody has rules, and what is remembered of the task needs no correction. */
	if (!t && !flags_anywhere && !bound_cgroups) {
		note_execve();
		return 0;
	}
	if (!t)
		t = current_ctx();
	if (t) {
		t->entering = t->workload ? t->workload : current_cgroup_workload();
		if (!t->workload && (!t->entering || !active_of(t->entering)))
			note_execve();
		t->opened_ino = 0;
		if (bprm->interp == bprm->filename) {
			/* The first round of this execve; an earlier one may have failed while it
			 * waited. */
			t->pending_active = 0;
			t->pending_argc = bprm->argc;
			if (!t->workload)
				note_session(t, bprm);
		}
	} else if (current_cgroup_workload()) {
		/* It could not be remembered that the task is in the workload now. */
		count_loss(ABI_LOSS_NO_MEMORY);
		return -ENOMEM;
	}
	if (!(flags_anywhere & ABI_ACTIVE_PROCESS) || (t && may_run(t, bprm->file)))
		return 0;
	vfsmount = (u64)BPF_CORE_READ(bprm, file, f_path.mnt);
	dentry = (u64)BPF_CORE_READ(bprm, file, f_path.dentry);
	return deny_if(check_program(vfsmount, dentry, ABI_OP_EXEC, 0));
}

int HOOK_AT(bprm_check_security, bprm_check_security, security_bprm_check,
	    struct linux_binprm *bprm)
{
	return check_image(bprm);
}

#ifdef AUDIT_ONLY
/* Where another module, AppArmor for one, has denied a program already, nobody is asked above. */
int HOOK(bprm_creds_for_exec, struct linux_binprm *bprm)
{
	struct task_ctx *t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);

	return was_denied(t) ? check_image(bprm) : 0;
}
#endif

/* === loaders === */

inline_always int is_loader(u32 workload, u64 ino, u32 dev)
{
	struct workload_root *root = bpf_map_lookup_elem(&roots, &workload);

	if (!root)
		return 0;
	if (root->loaders_known > ABI_LOADERS)
		return 1;
	for (int i = 0; i < ABI_LOADERS; i++) {
		if (root->loaders[i].ino == ino && root->loaders[i].dev == dev)
			return 1;
	}
	return 0;
}

inline_always void learn_loader(u32 workload, u64 ino, u32 dev)
{
	struct workload_root *root;
	u32 i;

	if (is_loader(workload, ino, dev))
		return;
	root = bpf_map_lookup_elem(&roots, &workload);
	if (!root)
		return;
	i = root->loaders_known;
	if (i < ABI_LOADERS) {
		root->loaders[i].dev = dev;
		root->loaders[i].ino = ino;
	}
	root->loaders_known = i + 1;
}

/* The image that an execve opens after the last one that was judged: it starts that one. */
inline_always void note_opened(struct file *file)
{
	struct task_ctx *t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
	struct inode *inode = file->f_path.dentry->d_inode;

	if (!t)
		return;
	t->opened_ino = inode->i_ino;
	t->opened_dev = inode->i_sb->s_dev;
}

/*
 * `ld.so PROGRAM` runs PROGRAM: the first file that a loader maps to execute it is judged as a
 * program, and is the subject from then on. A loader that never loaded anything in this workload is
 * not known; an image that was started without one may be one, and is taken for one when it maps
 * what may be executed. Libraries are mapped after that and are not judged.
 */
inline_always int check_loaded(struct file *file)
{
	struct task_ctx *t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
	u64 vfsmount, dentry, inode = 0, ino = 0;
	u32 dev = 0;
	u16 mode = 0;

	if (!flags_anywhere || !t || t->loading == LOADING_NOTHING)
		return 0;
	vfsmount = address(file->f_path.mnt);
	dentry = address(file->f_path.dentry);
	read_at(&inode, dentry, struct dentry, d_inode);
	identify(inode, &ino, &dev);
	if (ino == t->exe_ino && dev == t->exe_dev)
		return 0;
	read_at(&mode, inode, struct inode, i_mode);
	if (t->loading == LOADING_PROGRAMS && !(mode & S_IXUGO))
		return 0;
	if (check_program(vfsmount, dentry, ABI_OP_LOAD, 0))
		return -EACCES;
	t->loading = LOADING_NOTHING;
	t->loaded_vfsmount = vfsmount;
	t->loaded_dentry = dentry;
	t->loaded_dev = dev;
	t->loaded_ino = ino;
	t->source_ruleset = 0;
	return 0;
}

/* === arguments === */

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
	struct argument_reader r = {.from = from, .count = argc};
	u64 active;
	struct scratch *s;
	struct lookup *l;
	u32 flags;

	if (!t)
		return 0;
	active = t->pending_active;
	t->pending_active = 0;
	s = own_scratch(0);
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

/* === after the point of no return === */

int HOOK(bprm_committed_creds, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *t = bpf_task_storage_get(&tasks, task, NULL, 0);
	struct inode *inode;

	if (!t)
		return 0;
	if (t->entering && !t->workload) {
		/* The runtime has made the container's root the task's own by now. */
		learn_root(t->entering, task);
		become_member(t, t->entering);
	}
	t->entering = 0;
	t->source_ruleset = 0;
	t->loaded_ino = 0;
	if (t->pending_active && check_arguments(t, bprm->p, bprm->argc))
		bpf_send_signal(SIGKILL);
	inode = bprm->file->f_path.dentry->d_inode;
	t->exe_ino = inode->i_ino;
	t->exe_dev = inode->i_sb->s_dev;
	t->loading = LOADING_NOTHING;
	if (t->opened_ino)
		learn_loader(t->workload, t->opened_ino, t->opened_dev);
	else if (is_loader(t->workload, t->exe_ino, t->exe_dev))
		t->loading = LOADING_ANYTHING;
	else
		t->loading = LOADING_PROGRAMS;
	return 0;
}

/* === belonging === */

/* A child is where its parent is. Without memory to say so there is no child. */
int HOOK(task_alloc, struct task_struct *child, unsigned long clone_flags)
{
	struct task_ctx *parent, *t;

	parent = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
	if (!parent || !parent->workload)
		return 0;
	t = bpf_task_storage_get(&tasks, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return -ENOMEM;
	}
	t->workload = parent->workload;
	t->session = parent->session;
	__builtin_memcpy(t->session_name, parent->session_name, sizeof(t->session_name));
	t->source = parent->source;
	t->source_ruleset = parent->source_ruleset;
	t->exe_ino = parent->exe_ino;
	t->exe_dev = parent->exe_dev;
	t->loading = parent->loading;
	t->loaded_ino = parent->loaded_ino;
	t->loaded_dev = parent->loaded_dev;
	t->loaded_vfsmount = parent->loaded_vfsmount;
	t->loaded_dentry = parent->loaded_dentry;
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
	u64 vfsmount, dentry;
	u32 index;

	if (!task || (BPF_CORE_READ(task, flags) & PF_KTHREAD))
		return 0;
	learn_ours(task);
	if (BPF_CORE_READ(task, pid) == 1) {
		learn_root(0, task);
		return 0;
	}
	index = task_cgroup_workload(task);
	if (!index)
		return 0;
	exe = BPF_CORE_READ(task, mm, exe_file);
	/* For the work of this program, which is the agent's task. */
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!exe)
		return 0;
	t = bpf_task_storage_get(&tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t || !s) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return 0;
	}
	if (t->workload)
		return 0;
	vfsmount = (u64)BPF_CORE_READ(exe, f_path.mnt);
	dentry = (u64)BPF_CORE_READ(exe, f_path.dentry);
	/* The runtime's own image is seen below the host's root, or is a memfd. */
	s->walk.workload = 0;
	walk_path(s, vfsmount, dentry);
	if (s->walk.status != WALK_DONE || s->walk.rooted || has_host_root(task))
		return 0;
	learn_root(index, task);
	s->walk.workload = index;
	walk_path(s, vfsmount, dentry);
	if (s->walk.rooted)
		become_member(t, index);
	return 0;
}

#endif
