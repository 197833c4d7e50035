/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How far the automata get by the paths of directories, for all tasks together: a file in a known
 * directory needs no walk up the tree, only its last name is matched. Builds and servers open many
 * files in few directories, and most processes live too short to remember anything themselves.
 *
 * An entry holds the state that a ruleset's automaton is in after the directory's path and a `/`.
 * It is used only while nothing was renamed or mounted since before that path was built, and only
 * for the very directory: its number and generation and the number of the directory above it are
 * compared besides the addresses, which the kernel uses again. Only where the one name by which an
 * object was reached is all that counts (a path from the workload's root, below no marked
 * mountpoint) is anything entered.
 *
 * Processors write here at the same time. An entry is written by one at a time, and has a stamp
 * that is odd meanwhile and never the same again; who reads it compares the stamp before and after.
 * Who finds it busy, or something else in its place, goes the long way.
 */
#ifndef GORGET_DIRECTORIES_H
#define GORGET_DIRECTORIES_H

#include "decide.h"

struct directory {
	/* Number of the writing in the upper half, odd while it goes on; the state in the lower. */
	u64 stamp;
	u64 dentry;
	u64 mount;
	u64 parent;
	u64 inode;
	u64 ino;
	/* The number of the directory above. */
	u64 above;
	u32 hash;
	u32 generation;
	u32 workload;
	u32 ruleset;
	u32 automaton;
	u32 rename_seq;
	u32 mount_seq;
	/* When, see is_fresh(). */
	u32 since;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_DIRECTORIES);
	__type(key, u32);
	__type(value, struct directory);
} directories SEC(".maps");

/* KERNEL: two kernel pointers may be subtracted, which gives a number, and nothing else. */
inline_always u32 directory_slot(u64 distance, u32 workload, u32 automaton)
{
	u64 hash = (distance >> 3) + workload * 8 + automaton;

	return hash * 0x9e3779b97f4a7c15ull >> 52;
}
_Static_assert(ABI_DIRECTORIES == 1 << 12, "a slot's number has twelve bits");

/* What others wrote is read in this order; on x86 the processor keeps it by itself. */
inline_always u64 stamp_of(struct directory *d)
{
	u64 stamp;

#ifdef __TARGET_ARCH_x86
	asm volatile("" ::: "memory");
	stamp = *(volatile u64 *)&d->stamp;
	asm volatile("" ::: "memory");
#else
	stamp = __sync_fetch_and_add(&d->stamp, 0);
#endif
	return stamp;
}

enum found {
	/* There can be no entry. */
	FOUND_NOTHING,
	/* There may be one, and there is none. */
	FOUND_UNKNOWN,
	/* `struct name` has the name and the state before it. */
	FOUND_STATE,
};

/*
 * Reads the last name of `dentry` and finds the state that its directory's path leads to. Not
 * verified once, because it follows kernel pointers by plain loads. The kernel's counters are read
 * last: what was read before was then as it was when the entry was made.
 */
static __noinline u32 find_state(struct name *n, struct vfsmount *mount, struct dentry *dentry,
				 u32 workload, u32 ruleset)
{
	struct dentry *directory = dentry->d_parent, *above = directory->d_parent;
	struct inode *inode = directory->d_inode;
	u32 len = dentry->d_name.len, slot, renames, mounts;
	struct directory *d;
	u64 stamp;

	if (directory == dentry || mount->mnt_root == dentry || !inode)
		return FOUND_NOTHING;
	if (!len || len >= SHORT_NAME)
		return FOUND_NOTHING;
	slot = directory_slot((u64)directory - (u64)mount, workload, n->automaton);
	d = bpf_map_lookup_elem(&directories, &slot);
	if (!d)
		return FOUND_NOTHING;
	stamp = stamp_of(d);
	if (d->dentry != (u64)directory || d->mount != (u64)mount || d->inode != (u64)inode ||
	    d->parent != (u64)above)
		return FOUND_UNKNOWN;
	if (!is_fresh(d->since) || d->ruleset != ruleset || d->workload != workload ||
	    d->automaton != n->automaton)
		return FOUND_UNKNOWN;
	if (d->ino != inode->i_ino || d->generation != inode->i_generation ||
	    d->hash != directory->d_name.hash || d->above != above->d_inode->i_ino)
		return FOUND_UNKNOWN;
	keep(len);
	len &= SHORT_NAME - 1;
	__builtin_memset(n->bytes, 0, sizeof(n->bytes));
	if (bpf_probe_read_kernel(n->bytes, len, dentry->d_name.name))
		return FOUND_NOTHING;
	n->since = d->since;
	renames = sequence(&rename_lock);
	mounts = sequence(&mount_lock);
	if (d->rename_seq != renames || d->mount_seq != mounts)
		return FOUND_UNKNOWN;
	if (stamp != stamp_of(d) || !(u32)stamp || (stamp >> 32 & 1))
		return FOUND_UNKNOWN;
	n->len = len;
	n->state = (u32)stamp;
	n->rename_seq = renames;
	n->mount_seq = mounts;
	return FOUND_STATE;
}

/* Describes a directory as find_state() will see it. */
inline_always void describe_directory(struct directory *d, u64 mount, u64 dentry)
{
	u64 above_inode = 0;

	d->dentry = dentry;
	d->mount = mount;
	read_at(&d->parent, dentry, struct dentry, d_parent);
	read_at(&d->inode, dentry, struct dentry, d_inode);
	read_at(&d->hash, dentry, struct dentry, d_name.hash);
	read_at(&d->ino, d->inode, struct inode, i_ino);
	read_at(&d->generation, d->inode, struct inode, i_generation);
	read_at(&above_inode, d->parent, struct dentry, d_inode);
	read_at(&d->above, above_inode, struct inode, i_ino);
}

/*
 * Finds out how far an automaton gets by the path of the directory that `t->asked` names. 1 when
 * there is an entry for it then.
 */
verified_once int learn_directory(struct task_ctx *t, u64 active, u32 automaton)
{
	struct directory *d;
	struct scratch *s;
	struct lookup *l;
	u32 workload, began, renames, mounts, slot;
	u64 mount, dentry, stamp;
	int undisturbed;

	if (!t)
		return 0;
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s)
		return 0;
	workload = t->workload;
	mount = t->asked_mount;
	dentry = t->asked_directory;
	began = ticks();
	renames = sequence(&rename_lock);
	mounts = sequence(&mount_lock);
	if ((renames | mounts) & 1)
		return 0;
	s->walk.workload = workload;
	s->walk.status = WALK_FAULT;
	walk_path(s, mount, dentry);
	if (s->walk.status != WALK_DONE || !s->walk.rooted || s->walk.aliased ||
	    !s->walk.root_inode)
		return 0;
	l = &s->lookup;
	l->automaton = automaton;
	l->flags = LOOKUP_DIRECTORY;
	/* The path of the root directory is the `/` that follows others. */
	l->off = s->walk.off < ABI_PATH_MAX - 1 ? s->walk.off : ABI_PATH_MAX;
	if (lookup(active, &s->path, l))
		return 0;
	slot = directory_slot(dentry - mount, workload, automaton);
	d = bpf_map_lookup_elem(&directories, &slot);
	if (!d)
		return 0;
	stamp = stamp_of(d);
	if (stamp >> 32 & 1)
		return 0;
	if (__sync_val_compare_and_swap(&d->stamp, stamp, ((stamp >> 32) + 1) << 32) != stamp)
		return 0;
	describe_directory(d, mount, dentry);
	d->workload = workload;
	d->ruleset = (u32)active;
	d->automaton = automaton;
	d->rename_seq = renames;
	d->mount_seq = mounts;
	d->since = began;
	undisturbed = renames == sequence(&rename_lock) && mounts == sequence(&mount_lock);
	/* An exchange, so that all processors see the rest before it. */
	__sync_lock_test_and_set(&d->stamp,
				 ((stamp >> 32) + 2) << 32 | (undisturbed ? l->answer : 0));
	return undisturbed;
}

#endif
