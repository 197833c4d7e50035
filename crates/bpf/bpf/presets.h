/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Presets: attacks with a name. Each is recognised at the hook where it can be seen, and then
 * decided like any other object: by the ruleset.
 *
 * At hooks that other rules use too they have programs of their own: together these need more stack
 * than there is.
 */
#ifndef GORGET_PRESETS_H
#define GORGET_PRESETS_H

#include "decide.h"

/* The bytes of presets, as objects.rs in the engine numbers them. */
enum preset {
	PRESET_ANONYMOUS_MAP_EXEC = 1,
	PRESET_FILELESS_EXEC,
	PRESET_PROTECT_ENV,
	PRESET_PROTECT_PROC,
	PRESET_EXEC,
};

inline_always u32 preset_of(u32 operation)
{
	if (operation == ABI_OP_TRACE)
		return PRESET_PROTECT_PROC;
	return PRESET_ANONYMOUS_MAP_EXEC + operation - ABI_OP_PRESET_ANONYMOUS_MAP_EXEC;
}

/*
 * What the ruleset of a workload says about an operation that a preset is about. `vfsmount` and
 * `dentry` are what the alert names; 0 when there is nothing to name.
 */
verified_once int check_preset(u32 operation, u32 workload, u64 vfsmount, u64 dentry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct request q = {.workload = workload, .active = active_of(workload)};
	struct task_ctx *t = bpf_task_storage_get(&tasks, task, NULL, 0);
	struct scratch *s;

	if (!has_flag(q.active, ABI_ACTIVE_PRESET))
		return 0;
	q.automaton = ABI_AUTOMATON_PRESET;
	q.operation = operation;
	q.bytes = preset_of(operation);
	q.dentry = dentry;
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (s) {
		/* So that deciding does not build another path over this one. */
		if (t && t->source_ruleset != (u32)q.active)
			update_source(t, s, &q);
		s->walk.workload = workload;
		s->walk.status = WALK_FAULT;
		if (dentry)
			walk_path(s, vfsmount, dentry);
	}
	return finish(decide(t, &q));
}

/* === running what has no name === */

inline_always int starts_with(const u8 *path, const char *prefix, u32 len)
{
	for (u32 n = 0; n < len; n++)
		if (path[n] != (u8)prefix[n])
			return 0;
	return 1;
}

/* A memfd, a file that was removed, or one in shared memory. */
verified_once int is_fileless(u32 workload, u64 vfsmount, u64 dentry)
{
	struct scratch *s;
	u64 inode = 0;
	u32 links = 1, off;

	read_at(&inode, dentry, struct dentry, d_inode);
	read_at(&links, inode, struct inode, i_nlink);
	if (!links)
		return 1;
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s)
		return 0;
	s->walk.workload = workload;
	walk_path(s, vfsmount, dentry);
	if (s->walk.status == WALK_NAMELESS)
		return 1;
	off = s->walk.off;
	if (s->walk.status != WALK_DONE)
		return 0;
	keep(off);
	off &= ABI_PATH_MAX - 1;
	return starts_with(s->path.bytes + off, "/dev/shm/", 9) ||
	       starts_with(s->path.bytes + off, "/run/shm/", 9);
}

/* An exec session with a terminal. */
inline_always int is_interactive(u32 from, u32 workload)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return from != workload && is_running(workload) && BPF_CORE_READ(task, signal, tty);
}

int HOOK_AT(exec_presets, bprm_check_security, security_bprm_check, struct linux_binprm *bprm)
{
	struct task_ctx *t;
	u32 from, workload;
	u64 vfsmount, dentry;

	if (!(flags_anywhere & ABI_ACTIVE_PRESET))
		return 0;
	t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
	from = t ? t->workload : 0;
	/* The execve that enters a workload is the workload's. */
	workload = from ? from : current_cgroup_workload();
	if (!has_flag(active_of(workload), ABI_ACTIVE_PRESET))
		return 0;
	vfsmount = (u64)BPF_CORE_READ(bprm, file, f_path.mnt);
	dentry = (u64)BPF_CORE_READ(bprm, file, f_path.dentry);
	if (is_interactive(from, workload) &&
	    check_preset(ABI_OP_PRESET_EXEC, workload, vfsmount, dentry))
		return -EACCES;
	if (is_fileless(workload, vfsmount, dentry) &&
	    check_preset(ABI_OP_PRESET_FILELESS_EXEC, workload, vfsmount, dentry))
		return -EACCES;
	return 0;
}

/* === memory that becomes executable === */

inline_always int check_executable(struct file *file)
{
	u64 vfsmount = 0, dentry = 0;
	u32 workload = current_workload();

	if (!has_flag(active_of(workload), ABI_ACTIVE_PRESET))
		return 0;
	if (file) {
		vfsmount = (u64)BPF_CORE_READ(file, f_path.mnt);
		dentry = (u64)BPF_CORE_READ(file, f_path.dentry);
		if (connection_of(dentry) != NAMELESS)
			return 0;
	}
	return deny_if(check_preset(ABI_OP_PRESET_ANONYMOUS_MAP_EXEC, workload, vfsmount, dentry));
}

int HOOK_AT(mmap_presets, mmap_file, security_mmap_file, MMAP_ARGUMENTS)
{
	if (!(prot & PROT_EXEC) || !(flags_anywhere & ABI_ACTIVE_PRESET))
		return 0;
	return check_executable(file);
}

int HOOK_AT(mprotect_presets, file_mprotect, security_file_mprotect, struct vm_area_struct *vma,
	    unsigned long reqprot, unsigned long prot)
{
	if (!(prot & PROT_EXEC) || (vma->vm_flags & VM_EXEC) ||
	    !(flags_anywhere & ABI_ACTIVE_PRESET))
		return 0;
	return check_executable(vma->vm_file);
}

/* === other processes: tracing them, and what /proc shows of them === */

/* Attaching, reading or writing memory, taking a descriptor. `/proc/PID/mem`, for which the kernel
 * asks with the credentials for files, was judged when it was opened. */
int HOOK_AT(trace_presets, ptrace_access_check, security_ptrace_access_check,
	    struct task_struct *task, unsigned int mode)
{
	u32 workload;

	if (!(mode & PTRACE_MODE_ATTACH) || (mode & PTRACE_MODE_FSCREDS) ||
	    !(flags_anywhere & ABI_ACTIVE_PRESET))
		return 0;
	workload = current_workload();
	if (!has_flag(active_of(workload), ABI_ACTIVE_PRESET) ||
	    BPF_CORE_READ(task, tgid) == bpf_get_current_task_btf()->tgid)
		return 0;
	return deny_if(check_preset(ABI_OP_TRACE, workload,
				    (u64)BPF_CORE_READ(task, mm, exe_file, f_path.mnt),
				    (u64)BPF_CORE_READ(task, mm, exe_file, f_path.dentry)));
}

/* Whether an inode of procfs belongs to a process, and not to the one that asks. Files like
 * `/proc/meminfo` belong to none. */
inline_always int is_of_another_process(u64 inode)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 pid = 0, node = 0;
	u32 tgid = 0;

	inode -= bpf_core_field_offset(struct proc_inode, vfs_inode);
	read_at(&pid, inode, struct proc_inode, pid);
	if (!pid)
		return 0;
	read_at(&node, pid, struct pid, tasks[0].first);
	if (!node)
		return 1;
	node -= bpf_core_field_offset(struct task_struct, pid_links[0]);
	read_at(&tgid, node, struct task_struct, tgid);
	return tgid != (u32)BPF_CORE_READ(task, tgid);
}

inline_always int is_environment(u64 dentry)
{
	char name[8] = {};
	u64 at = 0;

	read_at(&at, dentry, struct dentry, d_name.name);
	bpf_probe_read_kernel_str(name, sizeof(name), (const void *)at);
	return *(u64 *)name == *(const u64 *)"environ";
}

inline_always int check_proc(struct file *file)
{
	u64 vfsmount = 0, dentry = 0, inode = 0;
	u32 workload = current_workload();

	if (!has_flag(active_of(workload), ABI_ACTIVE_PRESET))
		return 0;
	read_at(&dentry, &file->f_path, struct path, dentry);
	read_at(&inode, dentry, struct dentry, d_inode);
	if (!is_of_another_process(inode))
		return 0;
	read_at(&vfsmount, &file->f_path, struct path, mnt);
	if (is_environment(dentry) &&
	    check_preset(ABI_OP_PRESET_PROTECT_ENV, workload, vfsmount, dentry))
		return 1;
	return check_preset(ABI_OP_PRESET_PROTECT_PROC, workload, vfsmount, dentry);
}

#endif
