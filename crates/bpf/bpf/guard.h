/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Protecting what enforces: the tables, what is pinned, and the agent itself, from everybody but
 * the agent, its command line, and the host's first process. There is no rule for this and no
 * workload; the agent says what to guard (`guard`) and whether to deny or only to report.
 *
 * Programs of the agent's are told by where they are on the disk: a directory and two names, so
 * that an upgrade is one of them.
 */
#ifndef GORGET_GUARD_H
#define GORGET_GUARD_H

#include "decide.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct guard);
} guards SEC(".maps");

/* Ids of the tables and, from ABI_GUARDED_LINK, of the links. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ABI_GUARDED);
	__type(key, u64);
	__type(value, u32);
} guarded SEC(".maps");

inline_always struct guard *guard_in_force(void)
{
	u32 zero = 0;
	struct guard *g = bpf_map_lookup_elem(&guards, &zero);

	return g && g->mode != ABI_GUARD_OFF ? g : NULL;
}

inline_always u64 exe_dentry(struct task_struct *task)
{
	return (u64)BPF_CORE_READ(task, mm, exe_file, f_path.dentry);
}

inline_always void directory_of(u64 dentry, u64 *ino, u32 *dev)
{
	u64 parent = 0, inode = 0;

	read_at(&parent, dentry, struct dentry, d_parent);
	read_at(&inode, parent, struct dentry, d_inode);
	identify(inode, ino, dev);
}

/* The agent says which task it is; where its program is, it cannot know as the kernel does. */
inline_always void learn_ours(struct task_struct *task)
{
	struct guard *g = guard_in_force();

	if (g && !g->exe_ino && g->pid == (u32)BPF_CORE_READ(task, tgid))
		directory_of(exe_dentry(task), &g->exe_ino, &g->exe_dev);
}

/* Whether what a task runs is one of ours. */
verified_once int runs_ours(u64 exe, u64 ino_of_ours, u32 dev_of_ours)
{
	char name[8] = {};
	u64 at = 0, ino = 0;
	u32 dev = 0;

	directory_of(exe, &ino, &dev);
	if (ino != ino_of_ours || dev != dev_of_ours)
		return 0;
	read_at(&at, exe, struct dentry, d_name.name);
	if (bpf_probe_read_kernel(name, sizeof(name), (const void *)at))
		return 0;
	/* A NUL is behind either. */
	if (*(u64 *)name == *(const u64 *)"gorgetd")
		return 1;
	name[7] = 0;
	return *(u64 *)name == *(const u64 *)"gorget\0";
}

inline_always int is_trusted(struct guard *g)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (current_workload())
		return 0;
	/* Without directory: the agent has taken leave, and the next may be elsewhere. */
	return !g->exe_ino || BPF_CORE_READ(task, tgid) == 1 ||
	       runs_ours(exe_dentry(task), g->exe_ino, g->exe_dev);
}

/* Reports it, and says whether to deny it. What is attacked is a path or, without one, a name. */
verified_once int tampering(u32 operation, u32 mode, u64 vfsmount, u64 dentry, u64 name)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct task_ctx *t = bpf_task_storage_get(&tasks, task, NULL, 0);

	if (!s) {
		count_loss(ABI_LOSS_RING_FULL);
		return mode == ABI_GUARD_DENY;
	}
	s->walk.workload = 0;
	s->walk.status = WALK_NAMELESS;
	if (dentry)
		walk_path(s, vfsmount, dentry);
	s->decision.object_name = name;
	s->decision.workload = t ? t->workload : 0;
	s->decision.ruleset = 0;
	s->decision.verdict = ABI_OUTCOME_BLOCK;
	s->decision.operation = operation;
	s->decision.flags = mode == ABI_GUARD_DENY || was_denied(t) ? 0 : ABI_EVENT_AUDITED;
	s->decision.bytes = 0;
	emit();
	return mode == ABI_GUARD_DENY;
}

/* === the agent === */

inline_always int guard_agent(struct guard *g, struct task_struct *task, u32 operation)
{
	u64 exe = exe_dentry(task);

	/* Its number may be another's when it has ended without a word. */
	if ((u32)BPF_CORE_READ(task, tgid) != g->pid || !runs_ours(exe, g->exe_ino, g->exe_dev) ||
	    is_trusted(g))
		return 0;
	return deny_if(tampering(operation, g->mode,
				 (u64)BPF_CORE_READ(task, mm, exe_file, f_path.mnt), exe, 0));
}

int HOOK(task_kill, struct task_struct *task, void *info, int sig, const struct cred *cred)
{
	struct guard *g;

	/* 0 only asks whether it is there. */
	if (!sig)
		return 0;
	g = guard_in_force();
	return g ? guard_agent(g, task, ABI_OP_TAMPER_SIGNAL) : 0;
}

int HOOK(ptrace_access_check, struct task_struct *task, unsigned int mode)
{
	struct guard *g;

	if (!(mode & PTRACE_MODE_ATTACH))
		return 0;
	g = guard_in_force();
	return g ? guard_agent(g, task, ABI_OP_TAMPER_TRACE) : 0;
}

/* === tables and links === */

int HOOK(bpf_map, struct bpf_map *map, unsigned int mode)
{
	struct guard *g;
	u64 id;

	if (!(mode & FMODE_WRITE))
		return 0;
	g = guard_in_force();
	if (!g)
		return 0;
	id = BPF_CORE_READ(map, id);
	if (!bpf_map_lookup_elem(&guarded, &id) || is_trusted(g))
		return 0;
	return deny_if(tampering(ABI_OP_TAMPER_TABLE, g->mode, 0, 0,
				 address(map) + bpf_core_field_offset(struct bpf_map, name)));
}

/* What a descriptor of the task's is, as the kind of object that it was made for. */
inline_always u64 private_data(u32 fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	u64 files = (u64)BPF_CORE_READ(table, fd), file = 0, data = 0;

	if (fd >= BPF_CORE_READ(table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), (const void *)(files + fd * sizeof(file))))
		return 0;
	read_at(&data, file, struct file, private_data);
	return data;
}

/* Links that a task has anyway, because it was given a descriptor, or opened what is pinned. */
int HOOK_AT(bpf_command, bpf, security_bpf, int command, union bpf_attr *attr)
{
	struct guard *g;
	u64 link, id = 0;
	u32 fd = 0;

	if (command != BPF_LINK_DETACH && command != BPF_LINK_UPDATE)
		return 0;
	g = guard_in_force();
	/* Of both commands the first field is the link. */
	if (!g || bpf_probe_read_kernel(&fd, sizeof(fd), attr))
		return 0;
	link = private_data(fd);
	if (!link)
		return 0;
	id = ABI_GUARDED_LINK + BPF_CORE_READ((struct bpf_link *)link, id);
	if (!bpf_map_lookup_elem(&guarded, &id) || is_trusted(g))
		return 0;
	return deny_if(tampering(ABI_OP_TAMPER_LINK, g->mode, 0, 0,
				 (u64)BPF_CORE_READ((struct bpf_link *)link, prog, aux) +
				     bpf_core_field_offset(struct bpf_prog_aux, name)));
}

/* === what is pinned === */

/* Whether something of their file system is the directory of the pins, or at most three levels
 * below it. */
inline_always int is_pin(struct guard *g, u64 dir)
{
	u64 inode = 0, ino = 0;

	for (u32 level = 0; level < 4; level++) {
		read_at(&inode, dir, struct dentry, d_inode);
		read_at(&ino, inode, struct inode, i_ino);
		if (ino == g->pins_ino)
			return 1;
		read_at(&dir, dir, struct dentry, d_parent);
	}
	return 0;
}

/* An entry of a directory is removed or gets another name. */
inline_always int guard_entry(const struct path *dir, struct dentry *entry)
{
	struct guard *g = guard_in_force();
	u64 vfsmount = 0;

	if (!g || dir->dentry->d_sb->s_dev != g->pins_dev || !is_pin(g, address(entry)) ||
	    is_trusted(g))
		return 0;
	read_at(&vfsmount, dir, struct path, mnt);
	return deny_if(tampering(ABI_OP_TAMPER_PIN, g->mode, vfsmount, address(entry), 0));
}

/* The file system of the pins ends with its last mount; those in other namespaces do not matter. */
inline_always int guard_mount(struct vfsmount *vfsmount)
{
	u64 mount = address(vfsmount) - bpf_core_field_offset(struct mount, mnt);
	struct guard *g = guard_in_force();
	u32 host = unknown_zero, dev = 0;
	struct workload_root *root;
	u64 root_dentry = 0, sb = 0, ns = 0;

	if (!g)
		return 0;
	read_at(&root_dentry, address(vfsmount), struct vfsmount, mnt_root);
	read_at(&sb, root_dentry, struct dentry, d_sb);
	read_at(&dev, sb, struct super_block, s_dev);
	read_at(&ns, mount, struct mount, mnt_ns);
	root = bpf_map_lookup_elem(&roots, &host);
	if (dev != g->pins_dev || !root || ns != root->mnt_ns || is_trusted(g))
		return 0;
	return deny_if(tampering(ABI_OP_TAMPER_PIN, g->mode, address(vfsmount), root_dentry, 0));
}

#endif
