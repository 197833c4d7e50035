// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that enforce. One program for each hook, for all policies and all workloads: adding
 * a policy adds table entries, never programs.
 *
 * Every hook comes down to check() or check_program() in decide.h; the hooks about mounts are in
 * mounts.h. The agent shares with these programs what abi.h describes: it writes `workloads`,
 * `cgroups` and the ruleset tables and reads `alerts` and `losses`.
 *
 * A denied operation returns -EACCES.
 */
#include "decide.h"
#include "mounts.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whether inode_setattr gets the mount's idmap before the dentry (since 6.9); set by the agent. */
const volatile u32 setattr_gets_idmap;

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

/* === processes === */

/*
 * A task of the host that executes something inside a bound cgroup enters that workload: it is the
 * runtime that starts the entrypoint, or an exec session.
 */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm, int ret)
{
	struct task_ctx *t;
	u64 vfsmount, dentry;

	if (ret)
		return ret;
	t = current_ctx();
	if (t) {
		t->entering = t->workload ? t->workload : current_cgroup_workload();
		t->opened_ino = 0;
	} else if (current_cgroup_workload()) {
		/* It could not be remembered that the task is in the workload now. */
		count_loss(ABI_LOSS_NO_MEMORY);
		return -ENOMEM;
	}
	vfsmount = (u64)BPF_CORE_READ(bprm, file, f_path.mnt);
	dentry = (u64)BPF_CORE_READ(bprm, file, f_path.dentry);
	return deny_if(check_program(vfsmount, dentry, ABI_OP_EXEC, 0));
}

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
	u64 inode = 0;

	if (!t)
		return;
	read_at(&inode, file->f_path.dentry, struct dentry, d_inode);
	identify(inode, &t->opened_ino, &t->opened_dev);
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

	if (!t || t->loading == LOADING_NOTHING)
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

SEC("lsm/bprm_committed_creds")
int BPF_PROG(bprm_committed_creds, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_ctx *t = bpf_task_storage_get(&tasks, task, NULL, 0);
	u64 dentry, inode = 0;

	if (!t)
		return 0;
	if (t->entering && !t->workload) {
		/* The runtime has made the container's root the task's own by now. */
		learn_root(t->entering, task);
		t->workload = t->entering;
	}
	t->entering = 0;
	t->source_ruleset = 0;
	t->loaded_ino = 0;
	dentry = (u64)BPF_CORE_READ(bprm, file, f_path.dentry);
	read_at(&inode, dentry, struct dentry, d_inode);
	identify(inode, &t->exe_ino, &t->exe_dev);
	t->loading = LOADING_NOTHING;
	if (t->opened_ino)
		learn_loader(t->workload, t->opened_ino, t->opened_dev);
	else if (is_loader(t->workload, t->exe_ino, t->exe_dev))
		t->loading = LOADING_ANYTHING;
	else
		t->loading = LOADING_PROGRAMS;
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
	if (BPF_CORE_READ(task, pid) == 1) {
		learn_root(0, task);
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
	vfsmount = (u64)BPF_CORE_READ(exe, f_path.mnt);
	dentry = (u64)BPF_CORE_READ(exe, f_path.dentry);
	/* The runtime's own image is seen below the host's root, or is a memfd. */
	s->walk.workload = 0;
	walk_path(s, vfsmount, dentry);
	if (s->walk.status != WALK_DONE || s->walk.rooted)
		return 0;
	learn_root(index, task);
	s->walk.workload = index;
	walk_path(s, vfsmount, dentry);
	if (s->walk.rooted)
		t->workload = index;
	return 0;
}

/* === files === */

/*
 * A stacked file system (overlay) opens files below itself, with a second call of the hook. The
 * layers of a container's own root are the runtime's; a second stack over what the workload has
 * must not show what is protected there. Gives the dentry below, 0 when there is nothing to judge.
 */
inline_always int is_stacked(struct file *file, u64 *below)
{
	struct task_ctx *t;
	struct workload_root *root;
	u64 outer = 0, sb = 0, node = 0;
	u32 workload = 0;

	*below = 0;
	if (bpf_core_type_exists(struct backing_file)) {
		if (!(file->f_mode & FMODE_BACKING))
			return 0;
		*below = address(file->f_path.dentry);
		read_at(&outer, address(file) - bpf_core_field_offset(struct backing_file, file),
			struct backing_file, user_path.dentry);
		read_at(&sb, outer, struct dentry, d_sb);
	} else {
		/* KERNEL: before 6.5 it has the path of the file above and the inode below. */
		sb = address(file->f_path.dentry->d_sb);
		if (sb == address(file->f_inode->i_sb))
			return 0;
		node = address(file->f_inode->i_dentry.first);
		if (node)
			*below = node - bpf_core_field_offset(struct dentry, d_u.d_alias);
	}
	t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
	if (t)
		workload = t->workload;
	root = bpf_map_lookup_elem(&roots, &workload);
	if (root && root->sb == sb)
		*below = 0;
	return 1;
}

SEC("lsm/file_open")
int BPF_PROG(file_open, struct file *file, int ret)
{
	u32 mode = file->f_mode, access = 0, program = file->f_flags & FMODE_EXEC_FLAG;
	u64 below;

	if (ret)
		return ret;
	if (mode & FMODE_READ)
		access |= ACCESS_READ;
	if (mode & FMODE_WRITE)
		access |= ACCESS_WRITE;
	if (is_stacked(file, &below)) {
		if (!below)
			return 0;
		if (program)
			ret = check_program(0, below, ABI_OP_EXEC, REQUEST_NAMED_ONLY);
		else
			ret = check(0, below, ABI_OP_OPEN, access, REQUEST_NAMED_ONLY);
		return deny_if(ret);
	}
	if (program) {
		/* Judged as a process. */
		note_opened(file);
		return 0;
	}
	return check_path(&file->f_path, ABI_OP_OPEN, access);
}

/* What is open already is judged again when the rules or the image have changed. */
SEC("lsm/file_permission")
int BPF_PROG(file_permission, struct file *file, int mask, int ret)
{
	u32 access = 0;

	if (ret)
		return ret;
	/* The file above a backing file was judged. */
	if ((file->f_flags & FMODE_EXEC_FLAG) || (file->f_mode & FMODE_BACKING))
		return 0;
	if (mask & MAY_READ)
		access |= ACCESS_READ;
	if (mask & (MAY_WRITE | MAY_APPEND))
		access |= ACCESS_WRITE;
	if (!access)
		return 0;
	return check_path(&file->f_path, ABI_OP_PERMISSION, access);
}

/* Mapping an open file reads it, whatever protection is asked for now; a shared one that is open
 * for writing may be written without another word. */
SEC("lsm/mmap_file")
int BPF_PROG(mmap_file, struct file *file, unsigned long asked, unsigned long prot,
	     unsigned long flags, int ret)
{
	u32 access = ACCESS_READ;

	if (ret)
		return ret;
	if (!file)
		return 0;
	if (prot & PROT_EXEC) {
		ret = check_loaded(file);
		if (ret)
			return ret;
	}
	if (file->f_flags & FMODE_EXEC_FLAG)
		return 0;
	if ((flags & MAP_TYPE) != MAP_PRIVATE && (file->f_mode & FMODE_WRITE))
		access |= ACCESS_WRITE;
	return check_path(&file->f_path, ABI_OP_PERMISSION, access);
}

SEC("lsm/file_mprotect")
int BPF_PROG(file_mprotect, struct vm_area_struct *vma, unsigned long asked, unsigned long prot,
	     int ret)
{
	struct file *file;

	if (ret)
		return ret;
	if (!(prot & PROT_EXEC))
		return 0;
	file = vma->vm_file;
	return file ? check_loaded(file) : 0;
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
	ret = check_carried(dir, old, ABI_OP_LINK);
	if (ret)
		return ret;
	return check_entry(dir, dentry, ABI_OP_LINK, ACCESS_WRITE);
}

/*
 * An exchange moves both; a plain rename removes what stands at the new name. Where a directory
 * moves, everything below both names is something else afterwards.
 */
SEC("lsm/path_rename")
int BPF_PROG(path_rename, const struct path *old_dir, struct dentry *old,
	     const struct path *new_dir, struct dentry *new, unsigned int flags)
{
	u32 access = ACCESS_WRITE;
	int ret;

	if (dentry_mode(old) == S_IFDIR || dentry_mode(new) == S_IFDIR)
		access |= ACCESS_TREE;
	ret = check_entry(old_dir, old, ABI_OP_RENAME, access);
	if (ret)
		return ret;
	ret = check_entry(new_dir, new, ABI_OP_RENAME, access);
	if (ret || (access & ACCESS_TREE))
		return ret;
	ret = check_carried(old_dir, old, ABI_OP_RENAME);
	if (ret || !(flags & RENAME_EXCHANGE))
		return ret;
	return check_carried(new_dir, new, ABI_OP_RENAME);
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

/* Since 6.2 for open files. */
SEC("lsm/file_truncate")
int BPF_PROG(file_truncate, struct file *file, int ret)
{
	return ret ? ret : check_path(&file->f_path, ABI_OP_TRUNCATE, ACCESS_WRITE);
}

/* === metadata: hooks that get no mount === */

/*
 * With borrowed credentials it is a stacked file system that acts, for a caller who was judged:
 * what has no name in the workload then is not the workload's business.
 */
inline_always int check_dentry(u64 dentry, u32 operation)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 flags = 0;

	if (BPF_CORE_READ(task, cred) != BPF_CORE_READ(task, real_cred))
		flags = REQUEST_NAMED_ONLY;
	return deny_if(check(0, dentry, operation, ACCESS_WRITE, flags));
}

/* Times. Mode, owner and length have hooks of their own, which came first. */
SEC("lsm/inode_setattr")
int inode_setattr(unsigned long long *ctx)
{
	u64 dentry, attributes;
	u32 what = 0;

	if (setattr_gets_idmap) {
		dentry = address((void *)ctx[1]);
		attributes = address((void *)ctx[2]);
	} else {
		dentry = address((void *)ctx[0]);
		attributes = address((void *)ctx[1]);
	}
	read_at(&what, attributes, struct iattr, ia_valid);
	if (what & (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_SIZE))
		return 0;
	if (!(what & (ATTR_ATIME | ATTR_MTIME)))
		return 0;
	return check_dentry(dentry, ABI_OP_SETATTR);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(inode_setxattr, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(inode_removexattr, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

/* Since 6.2; before, access lists were extended attributes like others. */
SEC("lsm/inode_set_acl")
int BPF_PROG(inode_set_acl, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(inode_remove_acl, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

/* Since 6.17: file_setattr(2). */
SEC("lsm/inode_file_setattr")
int BPF_PROG(inode_file_setattr, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETATTR);
}

/* Commands that change content or metadata and need no descriptor that is open for writing. */
enum {
	FS_IOC_SETFLAGS = 0x40086602,
	FS_IOC32_SETFLAGS = 0x40046602,
	FS_IOC_SETVERSION = 0x40087602,
	FS_IOC32_SETVERSION = 0x40047602,
	FS_IOC_FSSETXATTR = 0x401c5820,
	FS_IOC_SET_ENCRYPTION_POLICY = 0x800c6613,
	FS_IOC_ENABLE_VERITY = 0x40806685,
	FICLONE = 0x40049409,
	FICLONERANGE = 0x4020940d,
};

inline_always int check_ioctl(struct file *file, unsigned int command)
{
	switch (command) {
	case FS_IOC_SETFLAGS:
	case FS_IOC32_SETFLAGS:
	case FS_IOC_SETVERSION:
	case FS_IOC32_SETVERSION:
	case FS_IOC_FSSETXATTR:
	case FS_IOC_SET_ENCRYPTION_POLICY:
	case FS_IOC_ENABLE_VERITY:
	case FICLONE:
	case FICLONERANGE:
		return check_path(&file->f_path, ABI_OP_IOCTL, ACCESS_WRITE);
	}
	return 0;
}

SEC("lsm/file_ioctl")
int BPF_PROG(file_ioctl, struct file *file, unsigned int command)
{
	return check_ioctl(file, command);
}

/* The same by a 32-bit program, since 6.8. */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(file_ioctl_compat, struct file *file, unsigned int command)
{
	return check_ioctl(file, command);
}

/* Types that no map mentions, so that the Rust side gets them too. */
const volatile struct {
	struct ev_decision event;
	struct rs_header header;
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
