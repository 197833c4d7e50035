/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Files: opening, reading, writing, mapping, and names that come and go.
 */
#ifndef GORGET_FILES_H
#define GORGET_FILES_H

#include "guard.h"
#include "presets.h"
#include "processes.h"
#include "shortcut.h"

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

inline_always int is_backing(struct file *file)
{
	return (file->f_mode & FMODE_NOACCOUNT) && (file->f_mode & FMODE_BACKING_ANY);
}

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
		if (!is_backing(file))
			return 0;
		*below = address(file->f_path.dentry);
		read_at(&outer, address(file) - bpf_core_field_offset(struct backing_file, file),
			struct backing_file, user_path.dentry);
		read_at(&sb, outer, struct dentry, d_sb);
	} else {
		/* KERNEL: before 6.5 it has the path of the file above and the inode below. */
		if (file->f_path.dentry->d_sb == file->f_inode->i_sb)
			return 0;
		sb = address(file->f_path.dentry->d_sb);
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

int HOOK(file_open, struct file *file)
{
	u32 mode, access = 0, program = file->f_flags & FMODE_EXEC_FLAG;
	struct subject subject;
	u64 below;
	int ret;

	if (!program && !(flags_anywhere & (ABI_ACTIVE_FILE | ABI_ACTIVE_PRESET)))
		return 0;
	subject = current_subject();
	if (!program && !has_flag(subject.active, ABI_ACTIVE_FILE | ABI_ACTIVE_PRESET))
		return 0;
	mode = file->f_mode;
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
	if (has_flag(subject.active, ABI_ACTIVE_PRESET) &&
	    file->f_inode->i_sb->s_magic == PROC_SUPER_MAGIC && check_proc(file))
		return -EACCES;
	if (!has_flag(subject.active, ABI_ACTIVE_FILE))
		return 0;
	return judge_file(&subject, file, ABI_OP_OPEN, access);
}

/* What is open already is judged again when the rules or the image have changed. */
int HOOK(file_permission, struct file *file, int mask)
{
	struct subject subject;
	u32 access = 0;

	if (!(flags_anywhere & ABI_ACTIVE_FILE))
		return 0;
	subject = current_subject();
	if (!has_flag(subject.active, ABI_ACTIVE_FILE))
		return 0;
	/* The file above a backing file was judged. */
	if ((file->f_flags & FMODE_EXEC_FLAG) || is_backing(file))
		return 0;
	if (mask & MAY_READ)
		access |= ACCESS_READ;
	if (mask & (MAY_WRITE | MAY_APPEND))
		access |= ACCESS_WRITE;
	return access ? judge_file(&subject, file, ABI_OP_PERMISSION, access) : 0;
}

/* Mapping an open file reads it, whatever protection is asked for now; a shared one that is open
 * for writing may be written without another word. */
int HOOK(mmap_file, MMAP_ARGUMENTS)
{
	u32 access = ACCESS_READ;
	struct subject subject;
	int ret;

	if (!file || !flags_anywhere)
		return 0;
	if (prot & PROT_EXEC) {
		ret = check_loaded(file);
		if (ret)
			return ret;
	}
	if ((file->f_flags & FMODE_EXEC_FLAG) || !(flags_anywhere & ABI_ACTIVE_FILE))
		return 0;
	subject = current_subject();
	if (!has_flag(subject.active, ABI_ACTIVE_FILE))
		return 0;
	if ((flags & MAP_TYPE) != MAP_PRIVATE && (file->f_mode & FMODE_WRITE))
		access |= ACCESS_WRITE;
	return judge_file(&subject, file, ABI_OP_PERMISSION, access);
}

int HOOK(file_mprotect, struct vm_area_struct *vma, unsigned long asked, unsigned long prot)
{
	struct file *file;

	if (!(prot & PROT_EXEC))
		return 0;
	file = vma->vm_file;
	return file ? check_loaded(file) : 0;
}

int HOOK(path_mknod, const struct path *dir, struct dentry *dentry, u32 mode, u32 dev)
{
	return judge_entry(dir, dentry, ABI_OP_CREATE, ACCESS_WRITE);
}

int HOOK(path_mkdir, const struct path *dir, struct dentry *dentry, u32 mode)
{
	return judge_entry(dir, dentry, ABI_OP_MKDIR, ACCESS_WRITE);
}

int HOOK(path_unlink, const struct path *dir, struct dentry *dentry)
{
	int ret = guard_entry(dir, dentry);

	return ret ? ret : judge_entry(dir, dentry, ABI_OP_UNLINK, ACCESS_WRITE);
}

int HOOK(path_rmdir, const struct path *dir, struct dentry *dentry)
{
	int ret = guard_entry(dir, dentry);

	return ret ? ret : judge_entry(dir, dentry, ABI_OP_RMDIR, ACCESS_WRITE | ACCESS_TREE);
}

int HOOK(path_symlink, const struct path *dir, struct dentry *dentry, const char *target)
{
	return judge_entry(dir, dentry, ABI_OP_SYMLINK, ACCESS_WRITE);
}

/* Both names are on one mount: the kernel refuses a link across two. */
int HOOK(path_link, struct dentry *old, const struct path *dir, struct dentry *dentry)
{
	int ret = judge_entry(dir, old, ABI_OP_LINK, ACCESS_WRITE);

	if (ret)
		return ret;
	ret = check_carried(dir, old, ABI_OP_LINK);
	if (ret)
		return ret;
	return judge_entry(dir, dentry, ABI_OP_LINK, ACCESS_WRITE);
}

/*
 * An exchange moves both; a plain rename removes what stands at the new name. Where a directory
 * moves, everything below both names is something else afterwards.
 */
int HOOK(path_rename, const struct path *old_dir, struct dentry *old, const struct path *new_dir,
	 struct dentry *new, unsigned int flags)
{
	u32 access = ACCESS_WRITE;
	int ret = guard_entry(old_dir, old);

	if (ret)
		return ret;
	if (dentry_mode(old) == S_IFDIR || dentry_mode(new) == S_IFDIR)
		access |= ACCESS_TREE;
	ret = judge_entry(old_dir, old, ABI_OP_RENAME, access);
	if (ret)
		return ret;
	ret = judge_entry(new_dir, new, ABI_OP_RENAME, access);
	if (ret || (access & ACCESS_TREE))
		return ret;
	ret = check_carried(old_dir, old, ABI_OP_RENAME);
	if (ret || !(flags & RENAME_EXCHANGE))
		return ret;
	return check_carried(new_dir, new, ABI_OP_RENAME);
}

int HOOK(path_chmod, const struct path *path, u32 mode)
{
	return judge_path(path, ABI_OP_CHMOD, ACCESS_WRITE);
}

int HOOK(path_chown, const struct path *path)
{
	return judge_path(path, ABI_OP_CHOWN, ACCESS_WRITE);
}

int HOOK(path_truncate, const struct path *path)
{
	return judge_path(path, ABI_OP_TRUNCATE, ACCESS_WRITE);
}

/* Since 6.2 for open files. */
int HOOK(file_truncate, struct file *file)
{
	return judge_path(&file->f_path, ABI_OP_TRUNCATE, ACCESS_WRITE);
}

#endif
