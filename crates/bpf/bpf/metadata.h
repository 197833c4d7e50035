/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Metadata of files: times, extended attributes, access lists, flags. Hooks that get a dentry and
 * no mount judge all names of the object (places.h).
 */
#ifndef GORGET_METADATA_H
#define GORGET_METADATA_H

#include "decide.h"

/* Whether inode_setattr gets the mount's idmap before the dentry (since 6.9); set by the agent. */
const volatile u32 setattr_gets_idmap;

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
int HOOK(inode_setattr)
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

int HOOK(inode_setxattr, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

int HOOK(inode_removexattr, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

/* Since 6.2; before, access lists were extended attributes like others. */
int HOOK(inode_set_acl, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

int HOOK(inode_remove_acl, void *idmap, struct dentry *dentry)
{
	return check_dentry(address(dentry), ABI_OP_SETXATTR);
}

/* Since 6.17: file_setattr(2). */
int HOOK(inode_file_setattr, struct dentry *dentry)
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

int HOOK(file_ioctl, struct file *file, unsigned int command)
{
	return check_ioctl(file, command);
}

/* The same by a 32-bit program, since 6.8. */
int HOOK(file_ioctl_compat, struct file *file, unsigned int command)
{
	return check_ioctl(file, command);
}

#endif
