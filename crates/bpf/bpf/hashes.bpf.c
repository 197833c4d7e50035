// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What programs are that are executed: hashes of their files, by IMA.
 *
 * They are kept by process, for the agent to look up who acted when it is told of something: the
 * programs that decide know nothing of them. Reading a whole file takes its time, so they are
 * loaded and attached only where that is configured.
 *
 * KERNEL: bpf_ima_file_hash() since 5.18, for programs that may sleep, which are at hooks of
 * security modules only. Of two programs at one hook, the one that was attached later runs first:
 * what is about to be executed is hashed before it is decided on, and told with the decision.
 */
#include "ktypes.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "abi.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* By process (the kernel's tgid). Read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ABI_HASHES);
	__type(key, u32);
	__type(value, struct process_hashes);
} hashes SEC(".maps");

static __always_inline u32 process(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline void keep_hashes(u32 process, const struct process_hashes *h)
{
	/* Rather none than an old one. */
	if (bpf_map_update_elem(&hashes, &process, h, BPF_ANY))
		bpf_map_delete_elem(&hashes, &process);
}

/* Once for a script, and once for its interpreter. */
SEC("lsm.s/bprm_check_security") int BPF_PROG(hash_file, struct linux_binprm *bprm)
{
	u32 key = process();
	struct process_hashes *known = bpf_map_lookup_elem(&hashes, &key);
	struct process_hashes h = {.running.algorithm = -1, .before.algorithm = -1};

	if (known)
		h = *known;
	h.executing.algorithm =
	    bpf_ima_file_hash(bprm->file, h.executing.digest, sizeof(h.executing.digest));
	h.executing.since_ns = bpf_ktime_get_boot_ns();
	keep_hashes(key, &h);
	return 0;
}

/* What was about to be executed is the image now. */
SEC("lsm/bprm_committed_creds") int BPF_PROG(hash_image, struct linux_binprm *bprm)
{
	u32 key = process();
	struct process_hashes *known = bpf_map_lookup_elem(&hashes, &key);
	struct process_hashes h;

	if (!known)
		return 0;
	h = *known;
	h.before = h.running;
	h.running = h.executing;
	h.running.since_ns = bpf_ktime_get_boot_ns();
	keep_hashes(key, &h);
	return 0;
}

/* A child has its parent's image, which nobody need know; then nothing is left of the process that
 * had its number before. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(hash_inherited, struct task_struct *parent, struct task_struct *child)
{
	u32 from = parent->tgid, to = child->tgid;
	struct process_hashes *known, h;

	if (from == to)
		return 0;
	known = bpf_map_lookup_elem(&hashes, &from);
	if (!known) {
		bpf_map_delete_elem(&hashes, &to);
		return 0;
	}
	h = *known;
	keep_hashes(to, &h);
	return 0;
}
