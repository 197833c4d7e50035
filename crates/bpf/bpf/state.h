/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Maps and per-task memory.
 *
 * `workloads` and the ruleset tables are written by the agent and read here. `tasks` is written
 * here only. Memory to build paths in is per task and not per CPU: LSM programs can be preempted,
 * and per-CPU buffers were measured to be overwritten under `preempt=full`.
 */
#ifndef GORGET_STATE_H
#define GORGET_STATE_H

#include "ktypes.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "abi.h"

#define inline_always static inline __attribute__((always_inline))
/*
 * VERIFIER: a function that is not static is verified once in a program, whoever calls it, and
 * takes numbers and pointers to memory of known size only. With static ones the programs took
 * 90,000 steps each to verify instead of a tenth of that.
 */
#define verified_once __attribute__((noinline))
/* KERNEL: keeps clang from proving a mask redundant and dropping it; the verifier needs to see it.
 */
#define keep(x) asm volatile("" : "+r"(x))

enum walk_status {
	WALK_RUNNING,
	WALK_DONE,
	/* Not below the mount: memfd, pipe, socket, or moved out of what is mounted. */
	WALK_NAMELESS,
	WALK_TOO_LONG,
	WALK_FAULT,
};

/* The building of a path, see path.h. Kernel addresses are numbers: they are only probe-read. */
struct walk {
	u64 dentry;
	u64 mount;
	/* Root of the mount the walk is in. */
	u64 mount_root;
	/* The workload's root directory, 0 while it is not known. */
	u64 root_inode;
	u64 root_ino;
	/* In: whose path it is. */
	u32 workload;
	/* Where the path starts; it ends at ABI_PATH_MAX. */
	u32 off;
	u32 status;
	/* A mount's root was looked at since the last name: the mounts above it are hidden below
	 * it. */
	u32 crossed;
	/* Where the path was when the workload's root directory was met. */
	u32 root_off;
	/* The path starts at the workload's root directory. */
	u32 rooted;
	/* There are mountpoints to look for on the way. */
	u32 marks;
	/* One was met: the object may have other names. */
	u32 aliased;
};

/* The search for the mounts that an object of a file system can be reached by, see places.h. */
struct places {
	u64 dentry;
	u64 task_ns;
	u64 workload_ns;
	/* The next mount's link, and the end of the list. */
	u64 next;
	u64 end;
	/* What was found. */
	u64 vfsmount;
};

enum lookup_flag {
	/* The object has no name, or none that could be found out: no rule matches. */
	LOOKUP_NOTHING = 1,
	/* Reading and writing: the stricter of both answers. */
	LOOKUP_READ_TOO = 2,
	/* The task has a controlling terminal. */
	LOOKUP_TERMINAL = 4,
	/* `lists` is known. Without it, a decision that depends on it is answered by its branch. */
	LOOKUP_ARGUMENTS = 8,
	/* The object is in `bytes`. */
	LOOKUP_BYTES = 16,
	/* The path is a directory's: the answer is the state after it and a `/`. */
	LOOKUP_DIRECTORY = 32,
	/* With LOOKUP_BYTES: more will follow. The answer is LOOKUP_NO_MORE when nothing that could
	   makes a difference, and nothing is accepted. */
	LOOKUP_AGAIN = 64,
};

/* No decision: those have bits of a rule or none at all. */
#define LOOKUP_NO_MORE 0xffffffffu

struct lookup {
	/* In. */
	u32 automaton;
	u32 flags;
	/* Start of the path in the buffer; it ends at ABI_PATH_MAX. */
	u32 off;
	u32 source;
	u32 variant;
	/* In: an object of at most four bytes, the first in the lowest; ends with a 0. */
	u32 bytes;
	/* Out: the verdict; the source class for the source automaton. */
	u32 answer;
	/* In: which lists of allowed arguments hold, a bit each. */
	u32 lists[ABI_ARGUMENT_LISTS / 32];
};

#define SHORT_NAME 64

/* The last name of a path, if it is short, to be looked up from where its directory's path led. */
struct name {
	/* Zeros behind it. */
	u8 bytes[SHORT_NAME];
	u32 len;
	/* In: state before the name; 0: before any path. */
	u32 state;
	/* In, as in `struct lookup`. */
	u32 automaton;
	u32 flags;
	u32 source;
	u32 variant;
	/* Out: the source class for the source automaton. */
	u32 answer;
	/* Out: the kernel's counters when its path was as it was looked up. */
	u32 rename_seq;
	u32 mount_seq;
	u32 since;
};

/* What the caller knows of a decision. */
struct decision {
	/* The object's last name, for what has no path. */
	u64 object_name;
	u32 workload;
	u32 ruleset;
	u32 verdict;
	u32 operation;
	u32 flags;
	/* The object, when it is no path. */
	u32 bytes;
};

/* What was found out about an object under all its names. */
struct finding {
	/* Strictest answer. */
	u32 answer;
	/* How many names were judged. */
	u32 names;
	/* Where the strictest answer's name is found: a mount, and what was walked from. */
	u64 vfsmount;
	u64 dentry;
	/* The mount of the last walk. */
	u64 walked;
};

/* What one decision needs besides the stack, of which all nested calls together have 512 bytes. */
struct scratch {
	struct path_buffer path;
	struct walk walk;
	struct places places;
	struct lookup lookup;
	struct finding finding;
	struct decision decision;
};

/* An answer that may be given again without walking the path, while nothing it depends on changed.
 */
struct remembered {
	u64 dentry;
	u64 mount;
	u64 parent;
	u64 name_hash;
	u64 ino;
	u32 dev;
	u32 ruleset;
	u32 source;
	u32 rename_seq;
	u32 mount_seq;
	/* Bit n: variant n was decided and passes silently. */
	u32 passes;
	/* Bit n: variant n was decided, passes, and was reported. */
	u32 audited;
	/* When, see is_fresh(). */
	u32 since;
};

/* Whether the first file that a task maps to execute is the program that it runs. */
enum loading {
	LOADING_NOTHING,
	/* It is, if it may be executed: the image was started without a loader and may be one. */
	LOADING_PROGRAMS,
	/* It is: the image is known as a loader. */
	LOADING_ANYTHING,
};

struct task_ctx {
	/* 0 is the host. Set when the task enters a workload, inherited by its children, never
	 * undone. */
	u32 workload;
	/* The workload that the execve in progress enters. */
	u32 entering;
	/* As in `struct ev_actor`. */
	u64 session;
	u8 session_name[ABI_SESSION_NAME];
	/* Ruleset for which `source` was worked out; 0: none. */
	u32 source_ruleset;
	u32 source;
	/* A decision about the execve in progress that waits for the arguments: its branch, the
	 * ruleset, and how many arguments were given. */
	u64 pending_active;
	u32 pending;
	u32 pending_argc;
	/* The image that the last execve started: what prctl(PR_SET_MM_EXE_FILE) cannot change. */
	u64 exe_ino;
	u32 exe_dev;
	/* enum loading */
	u32 loading;
	/* What the execve in progress opened after the image: its loader. */
	u64 opened_ino;
	u32 opened_dev;
	u32 loaded_dev;
	/* The program that the image, a loader, was told to run: the subject of what the task does.
	 */
	u64 loaded_ino;
	u64 loaded_vfsmount;
	u64 loaded_dentry;
	/* A security module denied the operation in progress; known to audit.bpf.c only. */
	u32 denied;
	/* The system call in progress, when an event of it waits for its end. */
	u32 call_waits;
	/* Where it mounts something. */
	u64 mounts_on_vfsmount;
	u64 mounts_on;
	struct remembered remembered[ABI_REMEMBERED];
	/* What is being decided now, as it would be remembered. */
	struct remembered candidate;
	/* The directory that something is to be found out about. */
	u64 asked_mount;
	u64 asked_directory;
	/* The name that is looked up; the stack is short. */
	struct name name;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_ctx);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_WORKLOADS);
	__type(key, u32);
	__type(value, struct workload);
} workloads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ABI_WORKLOADS);
	__type(key, u32);
	__type(value, struct workload_root);
} roots SEC(".maps");

struct mark {
	u64 mountpoint;
	u64 workload;
};

/*
 * Mountpoints where tasks of a workload mounted a tree that may have other names. Those of the
 * host, whose runtimes mount all the time, are apart, so that they push out no others.
 */
struct marked {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ABI_MARKS);
	__type(key, struct mark);
	__type(value, u32);
};

struct marked marks SEC(".maps");
struct marked host_marks SEC(".maps");

/* cgroup id -> workload index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, ABI_CGROUPS);
	__type(key, u64);
	__type(value, u32);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ABI_LOSS_COUNT);
	__type(key, u32);
	__type(value, u64);
} losses SEC(".maps");

/* How many cgroups are bound; written by the agent. */
volatile u32 bound_cgroups;
/* What some workload has rules about (ABI_ACTIVE_PROCESS and so on); written by the agent, before a
 * workload gets such rules and after the last one lost them. */
volatile u32 flags_anywhere;
/* What the agent needs to know after a restart, and nobody here reads: the next row of `workloads`,
 * the next number of a ruleset, the next slot of each size class, and the losses that were
 * reported.
 */
volatile u32 next_workload;
volatile u32 next_ruleset;
volatile u32 next_slots[ABI_CLASS_COUNT];
volatile u64 losses_told[ABI_LOSS_COUNT];
/* How often the kernel left out programs that are gone, which it forgets with them. */
volatile u64 skipped_before;
/* When the machine was started, in microseconds since 1970: an event that is told twice has one
 * time. */
volatile u64 boot_unix_micros;
/*
 * Always 0, which the verifier must not know: on 6.1 it takes a callback context's constants as
 * never changing and removes the branches that depend on them.
 */
volatile u32 unknown_zero;

/* A kernel pointer as a number, which is all that a function verified once takes. */
inline_always u64 address(const void *pointer)
{
	u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}

inline_always void count_loss(u32 stage)
{
	u64 *n = bpf_map_lookup_elem(&losses, &stage);

	if (n)
		(*n)++;
}

#endif
