/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The short way for what happens most: files that are opened, read and written again, and tasks
 * that no rule is about. It gives the answers that decide() remembered and decides nothing itself;
 * with any doubt, the long way is taken.
 *
 * It follows the pointers that a hook is given by plain loads, which cost a tenth of a probe read.
 * decide() cannot: its functions are verified once and take numbers.
 */
#ifndef GORGET_SHORTCUT_H
#define GORGET_SHORTCUT_H

#include "decide.h"

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
	if (access != ACCESS_WRITE)
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
	if ((known & wanted) != wanted || r->ruleset != t->source_ruleset || r->source != t->source)
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

#endif
