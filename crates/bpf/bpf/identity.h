/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which workload a task belongs to.
 *
 * A task enters a workload by an execve inside a bound cgroup and stays in it, with all its
 * descendants, whatever namespaces or cgroups they move to. What the container runtime does inside
 * the cgroup before that execve is the runtime's.
 */
#ifndef GORGET_IDENTITY_H
#define GORGET_IDENTITY_H

#include "path.h"

struct cgroup_search {
	u32 workload;
};

static long search_cgroup(u64 level, void *ctx)
{
	struct cgroup_search *s = ctx;
	u64 id = bpf_get_current_ancestor_cgroup_id(level);
	u32 *workload;

	if (!id)
		return 1;
	workload = bpf_map_lookup_elem(&cgroups, &id);
	/* The deepest bound one wins. */
	if (workload)
		s->workload = *workload;
	return 0;
}

/* The workload whose cgroup the current task is in or below, 0 when there is none. */
verified_once u32 current_cgroup_workload(void)
{
	struct cgroup_search s = {.workload = unknown_zero};

	if (bound_cgroups)
		bpf_loop(ABI_CGROUP_DEPTH, search_cgroup, &s, 0);
	return s.workload;
}

/*
 * The current task's memory; NULL when there is none to be had. A task that was never seen belongs
 * to the host: members of a workload have theirs from their execve, from their parent, or from the
 * enrolment of tasks that ran before their cgroup was bound.
 */
inline_always struct task_ctx *current_ctx(void)
{
	return bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

inline_always u64 active_of(u32 workload)
{
	struct workload *w = bpf_map_lookup_elem(&workloads, &workload);

	return w ? *(volatile u64 *)&w->active : 0;
}

inline_always int has_flag(u64 active, u32 flag)
{
	return (active >> ABI_ACTIVE_FLAGS_SHIFT) & flag;
}

/* Remembers the root directory of a workload and its mount namespace, once. */
inline_always void learn_root(u32 workload, struct task_struct *task)
{
	struct workload_root *root = bpf_map_lookup_elem(&roots, &workload);
	u64 dentry, inode = 0, ino = 0;

	if (!root || root->inode)
		return;
	dentry = (u64)BPF_CORE_READ(task, fs, root.dentry);
	if (read_at(&inode, dentry, struct dentry, d_inode) || !inode ||
	    read_at(&ino, inode, struct inode, i_ino))
		return;
	root->mnt_ns = (u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
	read_at(&root->sb, inode, struct inode, i_sb);
	root->ino = ino;
	root->inode = inode;
}

/* Makes the task one of the workload's. */
inline_always void become_member(struct task_ctx *t, u32 workload)
{
	struct workload_root *root = bpf_map_lookup_elem(&roots, &workload);

	t->workload = workload;
	if (root)
		root->began = 1;
}

/* Whether the workload has or had members: who enters it now is not its first. */
inline_always int is_running(u32 workload)
{
	struct workload_root *root = bpf_map_lookup_elem(&roots, &workload);

	return root && root->began;
}

/*
 * Whether a task still has the machine's root directory. One in a container's cgroup that has is
 * the runtime's: what it has as its root now is not the container's.
 */
inline_always int has_host_root(struct task_struct *task)
{
	u32 host = 0;
	struct workload_root *root = bpf_map_lookup_elem(&roots, &host);
	u64 inode = 0;

	read_at(&inode, (u64)BPF_CORE_READ(task, fs, root.dentry), struct dentry, d_inode);
	return root && inode && inode == root->inode;
}

/* The file system that an inode is on, and its number there. */
inline_always void identify(u64 inode, u64 *ino, u32 *dev)
{
	u64 sb = 0;

	read_at(ino, inode, struct inode, i_ino);
	read_at(&sb, inode, struct inode, i_sb);
	read_at(dev, sb, struct super_block, s_dev);
}

#endif
