/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Mounts. Mounting over a directory, moving or removing a mount, changing the root, and showing a
 * tree at a second place are writes to the tree, at both ends.
 *
 * mount(2) names what it binds or moves by text that the kernel resolves only after its hook, so
 * the source cannot be judged there for certain. Its text is judged, which is right for whoever
 * does not try to deceive; and the mountpoint is remembered: what is reached through it is judged
 * under every name that it has (places.h). A move leaves no other name to judge, so it is judged as
 * if it moved everything.
 *
 * Runtimes and service managers of the host arrange mounts in a namespace of their own, the root
 * directory included, before they start what shall live there. For the host's own tasks in another
 * namespace than the host's, only what is mounted over is judged; names stay what they are in the
 * host's namespace.
 */
#ifndef GORGET_MOUNTS_H
#define GORGET_MOUNTS_H

#include "guard.h"

/* The host's own task arranges a namespace that is not the host's. */
inline_always int arranges_namespace(u32 workload)
{
	struct workload_root *root = bpf_map_lookup_elem(&roots, &workload);

	if (workload || !root || !root->mnt_ns)
		return 0;
	return (u64)BPF_CORE_READ(bpf_get_current_task_btf(), nsproxy, mnt_ns) != root->mnt_ns;
}

inline_always int is_root(u32 workload, u64 dentry)
{
	struct workload_root *root = bpf_map_lookup_elem(&roots, &workload);
	u64 inode = 0;

	read_at(&inode, dentry, struct dentry, d_inode);
	return root && root->inode && root->inode == inode;
}

/* In a workload with more, every path counts as below one: nothing more to remember. */
inline_always void mark_one(struct workload_root *root, u32 workload, u64 mountpoint)
{
	struct mark key = {.mountpoint = mountpoint, .workload = workload};
	u32 marked = 1;

	if (!workload)
		bpf_map_update_elem(&host_marks, &key, &marked, 0);
	else if (root->marks <= ABI_MARKS_EACH)
		bpf_map_update_elem(&marks, &key, &marked, 0);
	if (root->marks <= ABI_MARKS_EACH)
		root->marks++;
}

/* What is mounted at `path`, over or beneath what is there, may be a second view of something. */
inline_always void mark(u32 workload, const struct path *path)
{
	struct workload_root *root = bpf_map_lookup_elem(&roots, &workload);
	u64 vfsmount = 0, dentry = 0, beneath = 0;

	if (!root)
		return;
	read_at(&vfsmount, path, struct path, mnt);
	read_at(&dentry, path, struct path, dentry);
	mark_one(root, workload, dentry);
	read_at(&beneath, vfsmount - bpf_core_field_offset(struct mount, mnt), struct mount,
		mnt_mountpoint);
	mark_one(root, workload, beneath);
}

inline_always int check_target(u32 workload, const struct path *path)
{
	u64 dentry = 0;

	read_at(&dentry, path, struct path, dentry);
	if (arranges_namespace(workload) && is_root(workload, dentry))
		return 0;
	return check_path(path, ABI_OP_MOUNT, ACCESS_WRITE | ACCESS_TREE);
}

inline_always int check_text(u64 text, u32 operation)
{
	return deny_if(check(0, text, operation, ACCESS_WRITE | ACCESS_TREE, REQUEST_TEXT));
}

int HOOK(sb_mount, const char *device, const struct path *path, const char *type,
	 unsigned long flags, void *data)
{
	u32 workload = current_workload();
	int arranges, ret;
	u64 root;

	if (flags & MS_REMOUNT)
		return check_path(path, ABI_OP_MOUNT, ACCESS_WRITE);
	if ((flags & MS_PROPAGATION) && !(flags & MS_BIND))
		return 0;
	ret = check_target(workload, path);
	if (ret)
		return ret;
	arranges = arranges_namespace(workload);
	/* A file system mounted again shows what has other names: the disk, or sysfs. */
	if ((flags & (MS_BIND | MS_MOVE)) || !arranges)
		mark(workload, path);
	if (!(flags & (MS_BIND | MS_MOVE)) || arranges)
		return 0;
	root = (u64)BPF_CORE_READ(bpf_get_current_task_btf(), fs, root.dentry);
	if (is_root(workload, root)) {
		ret = check_text(address(device), ABI_OP_MOUNT);
		if (ret)
			return ret;
	}
	return flags & MS_MOVE ? check_text(0, ABI_OP_MOUNT) : 0;
}

/* What is mounted has a name already, or is a file system that nothing is known of. */
int HOOK(move_mount, const struct path *from, const struct path *to)
{
	u32 workload = current_workload();
	u64 vfsmount = 0, dentry = 0;
	int ret;

	if (!arranges_namespace(workload)) {
		read_at(&vfsmount, from, struct path, mnt);
		read_at(&dentry, from, struct path, dentry);
		ret = deny_if(check(vfsmount, dentry, ABI_OP_MOUNT, ACCESS_WRITE | ACCESS_TREE,
				    REQUEST_NAMED_ONLY));
		if (ret)
			return ret;
	}
	mark(workload, to);
	return check_target(workload, to);
}

int HOOK(sb_umount, struct vfsmount *mount, int flags)
{
	int ret = guard_mount(mount);
	u64 root = 0;

	if (ret)
		return ret;
	if (arranges_namespace(current_workload()))
		return 0;
	read_at(&root, address(mount), struct vfsmount, mnt_root);
	return deny_if(check(address(mount), root, ABI_OP_UMOUNT, ACCESS_WRITE | ACCESS_TREE, 0));
}

int HOOK(sb_pivotroot, const struct path *put_old, const struct path *new_root)
{
	int ret;

	if (!current_workload())
		note_new_root();
	if (arranges_namespace(current_workload()))
		return 0;
	ret = check_text(0, ABI_OP_PIVOT_ROOT);
	if (ret)
		return ret;
	ret = check_path(new_root, ABI_OP_PIVOT_ROOT, ACCESS_WRITE | ACCESS_TREE);
	if (ret)
		return ret;
	return check_path(put_old, ABI_OP_PIVOT_ROOT, ACCESS_WRITE | ACCESS_TREE);
}

#endif
