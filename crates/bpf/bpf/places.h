/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The names of an object that cannot be told from how it was reached: some hooks get no mount, a
 * mount may be detached, moved below another root or a second view of the same tree. All mounts of
 * the object's file system are gone through that are in the workload's own mount namespace or in
 * the task's; those that lead to the workload's root directory give names.
 */
#ifndef GORGET_PLACES_H
#define GORGET_PLACES_H

#include "identity.h"

struct places_ctx {
	struct scratch *s;
};

/* The mount of a link in the file system's list, and the link after it. */
inline_always u64 take_mount(struct places *p)
{
	u64 link = p->next;

	p->next = 0;
	if (bpf_core_field_exists(struct mount___linked, mnt_next_for_sb)) {
		read_at(&p->next, link, struct mount___linked, mnt_next_for_sb);
		return link;
	}
	read_at(&p->next, link, struct list_head, next);
	return link - bpf_core_field_offset(struct mount, mnt_instance);
}

static long place_step(u64 i, void *ctx)
{
	struct scratch *s = ((struct places_ctx *)ctx)->s;
	struct places *p;
	u64 mount, ns = 0;

	if (!s)
		return 1;
	p = &s->places;
	if (!p->next || p->next == p->end)
		return 1;
	mount = take_mount(p);
	read_at(&ns, mount, struct mount, mnt_ns);
	if (!ns || (ns != p->task_ns && ns != p->workload_ns))
		return 0;
	p->vfsmount = mount + bpf_core_field_offset(struct mount, mnt);
	return 1;
}

/* Begins to search the mounts by which `dentry` may be reached in the workload of `s->walk`. */
verified_once int first_place(struct scratch *s, u64 dentry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct workload_root *root;
	struct places *p;
	u64 sb = 0;
	u32 workload;

	if (!s)
		return 0;
	workload = s->walk.workload;
	root = bpf_map_lookup_elem(&roots, &workload);
	p = &s->places;
	p->dentry = dentry;
	p->workload_ns = root ? root->mnt_ns : 0;
	p->task_ns = (u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
	p->next = 0;
	p->end = 0;
	read_at(&sb, dentry, struct dentry, d_sb);
	if (bpf_core_field_exists(struct mount___linked, mnt_next_for_sb)) {
		read_at(&p->next, sb, struct super_block___linked, s_mounts);
	} else {
		read_at(&p->next, sb, struct super_block, s_mounts.next);
		p->end = sb + bpf_core_field_offset(struct super_block, s_mounts);
	}
	return 0;
}

/* The next mount to try, 0 when there are no more. */
verified_once u64 next_place(struct scratch *s)
{
	struct places_ctx ctx = {.s = s};

	if (!s)
		return 0;
	s->places.vfsmount = 0;
	bpf_loop(ABI_MOUNTS_SEEN, place_step, &ctx, 0);
	return s->places.vfsmount;
}

/* Builds a path of the object that starts at the workload's root directory; 0 if there is none. */
verified_once int locate(struct scratch *s, u64 vfsmount, u64 dentry)
{
	if (!s)
		return 0;
	walk_path(s, vfsmount, dentry);
	if (s->walk.rooted)
		return 1;
	first_place(s, dentry);
	for (int i = 0; i < ABI_NAMES; i++) {
		vfsmount = next_place(s);
		if (!vfsmount)
			return 0;
		walk_path(s, vfsmount, dentry);
		if (s->walk.rooted)
			return 1;
	}
	return 0;
}

#endif
