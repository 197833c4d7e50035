/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The short way for what happens most: tasks that no rule is about, files that are opened, read and
 * written again, and names in directories whose paths are known. It lets pass without a word or
 * says nothing; with any doubt, the long way is taken.
 *
 * It follows the pointers that a hook is given by plain loads, which cost a tenth of a probe read.
 * decide() cannot: its functions are verified once and take numbers.
 */
#ifndef GORGET_SHORTCUT_H
#define GORGET_SHORTCUT_H

#include "directories.h"

/* The current task and what is in force for it. */
struct subject {
	struct task_ctx *t;
	u64 active;
};

inline_always struct subject current_subject(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct subject s = {};

	if (task->flags & PF_KTHREAD)
		return s;
	s.t = bpf_task_storage_get(&tasks, task, NULL, 0);
	s.active = active_of(s.t ? s.t->workload : 0);
	return s;
}

inline_always u32 wanted_bits(struct inode *inode, u32 access)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 owner = inode->i_uid.val == task->cred->fsuid.val ? ABI_VARIANT_OWNER : 0;
	u32 bits = 0;

	if (access & ACCESS_WRITE)
		bits |= 1u << (owner | ABI_VARIANT_WRITE);
	if ((access & (ACCESS_READ | ACCESS_WRITE)) != ACCESS_WRITE)
		bits |= 1u << owner;
	return bits;
}

/*
 * Whether this access of an open file was decided before and may go on without a word. A function
 * of its own for the sake of the stack, and not verified once, because such take no kernel
 * pointers.
 */
static __noinline int is_known(struct task_ctx *t, u64 active, struct file *file, u32 operation,
			       u32 access)
{
	struct dentry *dentry = file->f_path.dentry;
	struct inode *inode = dentry->d_inode;
	struct remembered *r;
	u32 known, wanted;
	u64 ino;

	/* Without the kernel's counters nothing is remembered. */
	if (!&rename_lock || !&mount_lock || !t || !inode)
		return 0;
	if (t->source_ruleset != (u32)active || has_flag(active, ABI_ACTIVE_TERMINAL))
		return 0;
	ino = inode->i_ino;
	r = &t->remembered[ino & (ABI_REMEMBERED - 1)];
	known = r->passes;
	if (operation == ABI_OP_PERMISSION)
		known |= r->audited;
	wanted = wanted_bits(inode, access);
	if ((known & wanted) != wanted || !is_fresh(r->since) || r->ruleset != t->source_ruleset ||
	    r->source != t->source)
		return 0;
	if (r->ino != ino || r->dev != inode->i_sb->s_dev)
		return 0;
	if (r->dentry != (u64)dentry || r->mount != (u64)file->f_path.mnt)
		return 0;
	/* KERNEL: the verifier knows no `hash_len` beside `hash` and `len`. */
	if (r->parent != (u64)dentry->d_parent || (u32)r->name_hash != dentry->d_name.hash ||
	    r->name_hash >> 32 != dentry->d_name.len)
		return 0;
	return r->rename_seq == sequence(&rename_lock) && r->mount_seq == sequence(&mount_lock);
}

/* === names in known directories === */

/* Whether the ruleset lets a name pass, or which source it is, as `t->name` asks. */
static __noinline int ask_by_name(struct task_ctx *t, u64 active, struct vfsmount *mount,
				  struct dentry *dentry)
{
	struct name *n = &t->name;
	u32 found = find_state(n, mount, dentry, t->workload, (u32)active);

	if (found == FOUND_UNKNOWN) {
		/* Only memory makes numbers of pointers. */
		t->asked_mount = (u64)mount;
		t->asked_directory = (u64)dentry->d_parent;
		if (!learn_directory(t, active, n->automaton))
			return 0;
		found = find_state(n, mount, dentry, t->workload, (u32)active);
	}
	return found == FOUND_STATE && look_up_name(active, n);
}

/* What update_source() does, for an image in a known directory or where no rule has a source. */
static __noinline int find_source(struct task_ctx *t, u64 active)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct name *n = &t->name;
	struct dentry *dentry;
	struct file *exe;

	n->automaton = ABI_AUTOMATON_SOURCE;
	n->state = 0;
	if (!look_up_name(active, n)) {
		if (t->loaded_ino || !task->mm)
			return 0;
		exe = task->mm->exe_file;
		if (!exe)
			return 0;
		dentry = exe->f_path.dentry;
		if (t->exe_ino && (dentry->d_inode->i_ino != t->exe_ino ||
				   dentry->d_inode->i_sb->s_dev != t->exe_dev))
			return 0;
		if (!ask_by_name(t, active, exe->f_path.mnt, dentry))
			return 0;
	}
	t->source = n->answer;
	t->source_ruleset = (u32)active;
	return 1;
}

/* As remember() does, of what is as it was when `n` was looked up. */
inline_always void remember_quickly(struct task_ctx *t, const struct name *n,
				    struct vfsmount *mount, struct dentry *dentry, u32 bits)
{
	struct inode *inode = dentry->d_inode;
	u64 parent = (u64)dentry->d_parent, ino = inode->i_ino;
	u64 hash = (u64)dentry->d_name.len << 32 | dentry->d_name.hash;
	struct remembered *r = &t->remembered[ino & (ABI_REMEMBERED - 1)];

	if (r->dentry != (u64)dentry || r->mount != (u64)mount || r->parent != parent ||
	    r->name_hash != hash || r->ino != ino || r->dev != inode->i_sb->s_dev ||
	    r->ruleset != t->source_ruleset || r->source != t->source ||
	    r->rename_seq != n->rename_seq || r->mount_seq != n->mount_seq || !is_fresh(r->since)) {
		r->passes = 0;
		r->audited = 0;
		r->dentry = (u64)dentry;
		r->mount = (u64)mount;
		r->parent = parent;
		r->name_hash = hash;
		r->ino = ino;
		r->dev = inode->i_sb->s_dev;
		r->ruleset = t->source_ruleset;
		r->source = t->source;
		r->rename_seq = n->rename_seq;
		r->mount_seq = n->mount_seq;
	}
	/* Not later than when the directory was looked at. */
	r->since = n->since;
	r->passes |= bits;
}

/* Whether an access passes without a word, by the name of its object. */
static __noinline int passes_by_name(struct task_ctx *t, u64 active, struct vfsmount *mount,
				     struct dentry *dentry, u32 access)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct inode *inode = dentry->d_inode;
	struct name *n = &t->name;

	n->source = t->source;
	n->automaton = access & ACCESS_PROCESS ? ABI_AUTOMATON_PROCESS : ABI_AUTOMATON_FILE;
	n->variant = 0;
	n->flags = 0;
	if (!inode || inode->i_uid.val == task->cred->fsuid.val)
		n->variant = ABI_VARIANT_OWNER;
	if (access & ACCESS_WRITE) {
		n->variant |= ABI_VARIANT_WRITE;
		if (access & ACCESS_READ)
			n->flags = LOOKUP_READ_TOO;
	}
	if (!ask_by_name(t, active, mount, dentry))
		return 0;
	if ((access & ACCESS_AGAIN) && inode && !has_flag(active, ABI_ACTIVE_TERMINAL))
		remember_quickly(t, n, mount, dentry, wanted_bits(inode, access));
	return 1;
}

/*
 * Whether an access of the current task, which has rules, passes without a word. 0 says nothing.
 * What moves a tree is not asked here.
 */
inline_always int may_pass(struct subject *s, struct vfsmount *mount, struct dentry *dentry,
			   u32 access)
{
	/* Without the kernel's counters no path is known for certain. */
	if (!&rename_lock || !&mount_lock)
		return 0;
	if (!s->t)
		s->t = current_ctx();
	if (!s->t)
		return 0;
	if (s->t->source_ruleset != (u32)s->active && !find_source(s->t, s->active))
		return 0;
	return passes_by_name(s->t, s->active, mount, dentry, access);
}

/* Judges an access of an open file by a task that has rules about files. */
inline_always int judge_file(struct subject *s, struct file *file, u32 operation, u32 access)
{
	if (is_known(s->t, s->active, file, operation, access) ||
	    may_pass(s, file->f_path.mnt, file->f_path.dentry, access | ACCESS_AGAIN))
		return 0;
	return check_path(&file->f_path, operation, access);
}

/* For hooks that get a directory and a name in it. */
inline_always int judge_entry(const struct path *dir, struct dentry *dentry, u32 operation,
			      u32 access)
{
	struct subject s;

	if (!(flags_anywhere & wanted_flags(access, 0)))
		return 0;
	if (!(access & ACCESS_TREE)) {
		s = current_subject();
		if (!has_flag(s.active, ABI_ACTIVE_FILE) || may_pass(&s, dir->mnt, dentry, access))
			return 0;
	}
	return check_entry(dir, dentry, operation, access);
}

/* For hooks that get what is acted upon. */
inline_always int judge_path(const struct path *path, u32 operation, u32 access)
{
	return judge_entry(path, path->dentry, operation, access);
}

#endif
