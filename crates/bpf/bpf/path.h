/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The path of a dentry on a mount, as the workload sees it: walked up to the top of the mount tree
 * and not to the task's root, which the task may have changed (chroot, pivot_root). It starts at
 * the workload's root directory, the uppermost one of them that is met.
 *
 * What cannot be built has a status; it never comes out as a shorter path.
 */
#ifndef GORGET_PATH_H
#define GORGET_PATH_H

#include "state.h"

extern const void rename_lock __ksym __weak;
extern const void mount_lock __ksym __weak;

#define read_at(dst, base, type, field)                                                            \
	bpf_probe_read_kernel(dst, sizeof(*(dst)),                                                 \
			      (void *)(base) + bpf_core_field_offset(type, field))

/* Adds `/` and the name at `name` in front of the path. */
inline_always u32 prepend(struct scratch *s, u64 name, u32 len)
{
	u32 off = s->walk.off;
	u8 *path = s->path.bytes;

	if (len > 255 || len + 1 > off)
		return WALK_TOO_LONG;
	off -= len;
	keep(off);
	off &= ABI_PATH_MAX - 1;
	len &= 255;
	if (bpf_probe_read_kernel(path + off, len, (void *)name))
		return WALK_FAULT;
	off--;
	keep(off);
	off &= ABI_PATH_MAX - 1;
	path[off] = '/';
	s->walk.off = off;
	return WALK_RUNNING;
}

/*
 * At the root of a mount: is it the workload's root directory? It is recognised by what it is,
 * wherever it was mounted or moved to. A mount that something is mounted over is not seen.
 */
inline_always void look_for_root(struct walk *w)
{
	u64 inode = 0, ino = 0;

	if (w->crossed)
		return;
	w->crossed = 1;
	read_at(&inode, w->mount_root, struct dentry, d_inode);
	if (!w->root_inode || inode != w->root_inode)
		return;
	read_at(&ino, inode, struct inode, i_ino);
	if (ino != w->root_ino)
		return;
	w->rooted = 1;
	w->root_off = w->off;
}

inline_always void look_for_mark(struct walk *w, u64 mountpoint)
{
	struct mark key = {.mountpoint = mountpoint, .workload = w->workload};

	if (!w->marks)
		return;
	if (w->workload ? bpf_map_lookup_elem(&marks, &key)
			: bpf_map_lookup_elem(&host_marks, &key))
		w->aliased = 1;
}

/* Goes from the root of a mount to where it is mounted. */
inline_always u32 cross_mount(struct walk *w)
{
	u64 parent = 0, point = 0;

	look_for_root(w);
	if (read_at(&parent, w->mount, struct mount, mnt_parent) ||
	    read_at(&point, w->mount, struct mount, mnt_mountpoint))
		return WALK_FAULT;
	if (parent == w->mount)
		return WALK_DONE;
	look_for_mark(w, point);
	w->mount = parent;
	w->dentry = point;
	if (read_at(&w->mount_root, parent, struct mount, mnt.mnt_root))
		return WALK_FAULT;
	return WALK_RUNNING;
}

inline_always u32 up_one_name(struct scratch *s)
{
	struct walk *w = &s->walk;
	struct {
		u64 parent;
		u64 hash_len;
		u64 name;
	} d = {};
	u32 status;

	/* One read instead of three where the kernel has the fields side by side. */
	if (bpf_core_field_offset(struct dentry, d_name) ==
	    bpf_core_field_offset(struct dentry, d_parent) + 8) {
		if (read_at(&d, w->dentry, struct dentry, d_parent))
			return WALK_FAULT;
	} else if (read_at(&d.parent, w->dentry, struct dentry, d_parent) ||
		   read_at(&d.hash_len, w->dentry, struct dentry, d_name.hash_len) ||
		   read_at(&d.name, w->dentry, struct dentry, d_name.name)) {
		return WALK_FAULT;
	}
	if (d.parent == w->dentry)
		return WALK_NAMELESS;
	status = prepend(s, d.name, d.hash_len >> 32);
	w->crossed = 0;
	w->dentry = d.parent;
	return status;
}

struct walk_ctx {
	struct scratch *s;
};

static long walk_step(u64 i, void *ctx)
{
	struct scratch *s = ((struct walk_ctx *)ctx)->s;
	u32 status;

	if (!s)
		return 1;
	if (s->walk.dentry == s->walk.mount_root)
		status = cross_mount(&s->walk);
	else
		status = up_one_name(s);
	s->walk.status = status;
	return status != WALK_RUNNING;
}

inline_always u32 sequence(const void *lock)
{
	u32 n = 0;

	if (lock)
		bpf_probe_read_kernel(&n, sizeof(n), lock);
	return n;
}

/*
 * The counters have 31 bits: who renames without pause has them where they were after an hour. So
 * what is known by them is forgotten long before. The timer ticks 100 to 1,000 times a second.
 */
#define FRESH_TICKS 8192

inline_always u32 ticks(void)
{
	return (u32)bpf_jiffies64();
}

inline_always int is_fresh(u32 since)
{
	return ticks() - since < FRESH_TICKS;
}

/* Sets where the path starts: at the workload's root directory, or at the top. */
inline_always void settle(struct scratch *s)
{
	struct walk *w = &s->walk;

	if (w->status == WALK_RUNNING)
		w->status = WALK_TOO_LONG;
	if (w->rooted) {
		/* However far it is from there to the top. */
		w->status = WALK_DONE;
		w->off = w->root_off;
	} else if (w->status == WALK_DONE && !w->root_inode) {
		w->rooted = 1;
	}
	if (w->status == WALK_DONE && w->off == ABI_PATH_MAX) {
		/* The root directory itself. */
		s->path.bytes[ABI_PATH_MAX - 1] = '/';
		w->off = ABI_PATH_MAX - 1;
	}
}

inline_always void walk_once(struct scratch *s, u64 vfsmount, u64 dentry)
{
	struct walk_ctx ctx = {.s = s};
	struct walk *w = &s->walk;

	w->dentry = dentry;
	w->mount = vfsmount - bpf_core_field_offset(struct mount, mnt);
	w->off = ABI_PATH_MAX;
	w->crossed = 0;
	w->rooted = 0;
	w->aliased = w->marks > ABI_MARKS_EACH && w->workload;
	w->status = WALK_RUNNING;
	w->mount_root = 0;
	if (read_at(&w->mount_root, vfsmount, struct vfsmount, mnt_root)) {
		w->status = WALK_FAULT;
		return;
	}
	/* A name takes two bytes at least; the rest is for crossing mounts. */
	bpf_loop(ABI_PATH_MAX, walk_step, &ctx, 0);
	settle(s);
}

/* 1 when nothing was renamed or mounted meanwhile. */
inline_always int walk_undisturbed(struct scratch *s, u64 vfsmount, u64 dentry)
{
	u32 renames = sequence(&rename_lock), mounts = sequence(&mount_lock);

	walk_once(s, vfsmount, dentry);
	return !((renames | mounts) & 1) && renames == sequence(&rename_lock) &&
	       mounts == sequence(&mount_lock);
}

/*
 * Builds the path in `s`, with its start and how it ended in `s->walk`. A rename or a mount at the
 * same time can tear a walk apart, so the kernel's own sequence counters are compared and the walk
 * is repeated. They count every rename of the machine, so whoever renames without pause could keep
 * it from ever agreeing: then the last walk counts. What a rule guards cannot be renamed, nor the
 * directories above it, so its path is right all the same.
 */
verified_once int walk_path(struct scratch *s, u64 vfsmount, u64 dentry)
{
	struct workload_root *root;
	u32 workload;

	if (!s)
		return 0;
	workload = s->walk.workload;
	root = bpf_map_lookup_elem(&roots, &workload);
	if (!root)
		return 0;
	s->walk.root_inode = root->inode;
	s->walk.root_ino = root->ino;
	s->walk.marks = root->marks;
	/* KERNEL: no loop; 6.1 refuses one that ends with a call. */
	if (!walk_undisturbed(s, vfsmount, dentry) && !walk_undisturbed(s, vfsmount, dentry))
		walk_undisturbed(s, vfsmount, dentry);
	return 0;
}

/*
 * The path that a file of a proc has where proc is usually mounted. A rename cannot tear it apart:
 * there is none in proc.
 */
verified_once int walk_proc(struct scratch *s, u64 dentry, u64 proc_root)
{
	struct walk_ctx ctx = {.s = s};
	u32 off;

	if (!s)
		return 0;
	s->walk.dentry = dentry;
	s->walk.mount = 0;
	s->walk.mount_root = proc_root;
	s->walk.off = ABI_PATH_MAX;
	s->walk.crossed = 0;
	s->walk.rooted = 0;
	s->walk.status = WALK_RUNNING;
	bpf_loop(ABI_PATH_MAX, walk_step, &ctx, 0);
	off = s->walk.off;
	/* There it ends, because there is no mount to cross to. */
	if (s->walk.dentry != proc_root || off < 5)
		return 0;
	off -= 5;
	keep(off);
	off &= ABI_PATH_MAX - 1;
	__builtin_memcpy(s->path.bytes + off, "/proc", 5);
	s->walk.off = off;
	s->walk.status = WALK_DONE;
	s->walk.rooted = 1;
	return 0;
}

#endif
