/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Containers that begin without anybody having said so.
 *
 * A runtime gives a container its root directory by pivot_root, in the container's cgroup, some
 * time before it executes the container's first program there. The agent is told at that moment,
 * and learns afterwards whether that program began before its rules were in force, and when.
 * Nothing is decided here.
 */
#ifndef GORGET_STARTING_H
#define GORGET_STARTING_H

#include "decide.h"

/* cgroup id -> when what. The least recently used are forgotten: somebody who may use pivot_root
 * can push others out, and then no window is known of these. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ABI_STARTS);
	__type(key, u64);
	__type(value, struct start);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ABI_STARTING_RING);
} starting SEC(".maps");

/* A task of the host takes another root directory. */
inline_always void note_new_root(void)
{
	u64 cgroup = bpf_get_current_cgroup_id();
	struct start start = {.new_root_ns = bpf_ktime_get_boot_ns()};
	struct ev_starting *e;

	bpf_map_update_elem(&starts, &cgroup, &start, 0);
	e = bpf_ringbuf_reserve(&starting, sizeof(*e), 0);
	if (!e) {
		count_loss(ABI_LOSS_RING_FULL);
		return;
	}
	e->cgroup = cgroup;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

/* A task executes something that is decided without rules. */
inline_always void note_execve(void)
{
	u64 cgroup = bpf_get_current_cgroup_id();
	struct start *start = bpf_map_lookup_elem(&starts, &cgroup);

	if (start && !start->execve_ns)
		start->execve_ns = bpf_ktime_get_boot_ns();
}

#endif
