/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The contract between the kernel programs and the agent: map keys and values, the layout of a
 * lowered ruleset, and events. This is the only place where these layouts are written; the Rust
 * side reads them from the BTF of the compiled object.
 *
 * Numbers that both sides need are enums, because #defines do not survive into BTF. Padding is
 * explicit. No pointers, bitfields or bool.
 */
#ifndef GORGET_ABI_H
#define GORGET_ABI_H

enum abi_limit {
	/* Raised whenever the meaning of anything in this file changes. */
	ABI_VERSION = 7,
	/* Longest path that is looked at, in bytes, without a final NUL (PATH_MAX of Linux). */
	ABI_PATH_MAX = 4096,
	/* Longest actor, parent and working directory paths in an event; they are shown, not
	   decided on. */
	ABI_SHOWN_MAX = 1024,
	/* Bytes of the actor's own arguments in an event. */
	ABI_ARGS_MAX = 512,
	/* Bytes of the name of what an exec session began with, with a zero. */
	ABI_SESSION_NAME = 32,
	/* Bytes of a terminal's name. */
	ABI_TTY_MAX = 64,
	/* All strings of an event: the object, three paths, terminal, arguments. */
	ABI_EVENT_DATA = 4096 + 3 * 1024 + 64 + 512,
	/* Workloads on a node. Index 0 is the host. */
	ABI_WORKLOADS = 16384,
	/* Bound cgroups on a node: one for each workload. */
	ABI_CGROUPS = 16384,
	/* Rulesets of one size class that are in force at the same time. */
	ABI_SLOTS = 4096,
	/* Room behind a table's bytes, so that masking where a short array starts bounds all of it.
	 */
	ABI_TABLE_SLACK = 1024,
	/* Depth of the cgroup tree that is searched for a bound cgroup. */
	ABI_CGROUP_DEPTH = 32,
	/* Dynamic loaders that are told apart in a workload; in one with more, every image that
	   needs no loader counts as one. */
	ABI_LOADERS = 4,
	/* Mountpoints that are remembered because tasks of workloads mounted known trees there. */
	ABI_MARKS = 8192,
	/* Such mountpoints of one container; in one with more, every path counts as below one. */
	ABI_MARKS_EACH = 1024,
	/* Mounts of one file system that are looked at to find an object's names. */
	ABI_MOUNTS_SEEN = 8192,
	/* Names of an object that are judged. */
	ABI_NAMES = 64,
	/* Remembered answers of a task. */
	ABI_REMEMBERED = 8,
	/* Directories that it is known of how far the automata get by their paths; a power of two.
	 */
	ABI_DIRECTORIES = 4096,
	/* Different lists of `allowedArgs` in one ruleset. */
	ABI_ARGUMENT_LISTS = 256,
	/* Bytes of one argument, with its NUL, and how many arguments of a program can be in a
	   list. */
	ABI_ARGUMENT_MAX = 512,
	ABI_ARGUMENTS = 1024,
	/* Branches from a decision to its verdict. */
	ABI_MOST_TESTS = 64,
	/* Cgroups in which a container may be beginning that nobody has announced. */
	ABI_STARTS = 1024,
	/* Bytes of the ring buffer that tells of them. */
	ABI_STARTING_RING = 65536,
	/* Cases that the harness decides in one run. */
	ABI_HARNESS_CASES = 1024,
	/* Bytes of the ring buffer for alerts. */
	ABI_ALERT_RING = 4194304,
	/* Tasks that the kernel has no memory for and that are decided about all the same. */
	ABI_RESERVES = 128,
	/* Numbers of system calls that are looked up, of each way to make one. */
	ABI_CALL_NUMBERS = 1024,
	/* Bytes of the ring buffer for logs, which has nothing to do with that for alerts. */
	ABI_LOG_RING = 2097152,
	/* Operations whose repeats are counted at the same time; a power of two. */
	ABI_LOG_SLOTS = 2048,
	/* How long repeats are counted before their number is told. */
	ABI_LOG_WINDOW_MS = 5000,
	/* Bytes of an address that a socket call is about: a struct sockaddr_un has 110. */
	ABI_ADDRESS_MAX = 128,
	/* Bytes of the longest hash of a file: IMA's algorithms give 64 at most. */
	ABI_HASH_MAX = 64,
	/* Processes whose images' hashes are known. */
	ABI_HASHES = 10240,
	/* Tables and links that are protected. Ids of links begin here. */
	ABI_GUARDED = 256,
	ABI_GUARDED_LINK = 0x40000000,
};

/*
 * A lowered ruleset is one array of bytes: the header below, then the automata, then the decision
 * rows. All offsets count bytes from its start. It lives in the smallest size class that holds it.
 */
enum abi_class {
	ABI_CLASS_64K,
	ABI_CLASS_512K,
	ABI_CLASS_4M,
	ABI_CLASS_32M,
	ABI_CLASS_COUNT,
};

enum abi_class_bytes {
	ABI_BYTES_64K = 65536,
	ABI_BYTES_512K = 524288,
	ABI_BYTES_4M = 4194304,
	ABI_BYTES_32M = 33554432,
};

/* One for the objects of each category; USB devices are not decided in the kernel. */
enum abi_automaton {
	ABI_AUTOMATON_PROCESS,
	ABI_AUTOMATON_FILE,
	ABI_AUTOMATON_NETWORK,
	ABI_AUTOMATON_DNS,
	ABI_AUTOMATON_CAPABILITY,
	ABI_AUTOMATON_SYSCALL,
	ABI_AUTOMATON_PRESET,
	ABI_AUTOMATON_SOURCE,
	/* Over one argument of a program. */
	ABI_AUTOMATON_ARGUMENT,
	ABI_AUTOMATON_COUNT,
};

/*
 * A state is the byte offset of its row. A row is one u32 for each byte class: the next state.
 * Class 0 is special: it holds what the state accepts, which is the offset of a decision row; the
 * source class for the source automaton; for the argument automaton the offset of a set of bits,
 * one for each list of allowed arguments that contains the argument. Class 1 is the NUL byte, which
 * leads back to the same state, so that a path may be read in whole chunks.
 */
struct rs_automaton {
	/* State before the first byte. */
	__u32 start;
	/* 256 u16: for each byte the offset of its class within a row. */
	__u32 classes;
	/* States below this one are absorbing. */
	__u32 sink_end;
	/* What is accepted when nothing matches. */
	__u32 nothing;
};

struct rs_header {
	__u32 abi;
	/* Number of the ruleset, unique while the agent's state lives. */
	__u32 id;
	/* Bytes in use. */
	__u32 size;
	/* Where the branches are. */
	__u32 branches;
	/* 32-bit words of a set of argument lists. */
	__u32 list_words;
	/* What the ruleset is: an agent that finds this table knows its own again. */
	__u8 content[32];
	struct rs_automaton automata[ABI_AUTOMATON_COUNT];
};

/*
 * A decision row. Most rows treat most subjects alike: the map, which rows share, has a u32 for
 * each source class, the offset of its decisions from `decisions`. There, one u32 a variant.
 */
struct rs_row {
	__u32 map;
	__u32 decisions;
};

/* Where to go on with a decision that depends on the task's terminal or its arguments. */
struct rs_branch {
	/* 0: the task has no controlling terminal; above: every argument is in list `test - 1`. */
	__u32 test;
	/* Decisions, when it holds and otherwise. */
	__u32 holds;
	__u32 otherwise;
	__u32 pad;
};

/* A decision: outcome in bits 0-1, cause in bits 2-3, rule or branch from bit 4. */
enum abi_outcome {
	ABI_OUTCOME_PASS,
	ABI_OUTCOME_AUDIT,
	ABI_OUTCOME_BLOCK,
};

enum abi_cause {
	ABI_CAUSE_NO_RULE,
	ABI_CAUSE_RULE,
	ABI_CAUSE_POSTURE,
	/* No verdict yet. */
	ABI_CAUSE_BRANCH,
};

enum abi_verdict {
	ABI_OUTCOME_MASK = 3,
	ABI_CAUSE_SHIFT = 2,
	ABI_CAUSE_MASK = 3,
	ABI_RULE_SHIFT = 4,
};

/* Index of a decision within a row's source class. */
enum abi_variant {
	ABI_VARIANT_WRITE = 1,
	ABI_VARIANT_OWNER = 2,
	ABI_VARIANT_TREE = 4,
	ABI_VARIANT_COUNT = 8,
};

/*
 * A workload's entry. `active` is read and written as one word, so that a change of policies is one
 * store: ruleset number in bits 0-31, slot in 32-47, size class in 48-51, flags from 52. Zero: no
 * rules.
 */
enum abi_active {
	ABI_ACTIVE_SLOT_SHIFT = 32,
	ABI_ACTIVE_SLOT_MASK = 0xffff,
	ABI_ACTIVE_CLASS_SHIFT = 48,
	ABI_ACTIVE_CLASS_MASK = 0xf,
	ABI_ACTIVE_FLAGS_SHIFT = 52,
	/* The ruleset has something to say about processes, files. */
	ABI_ACTIVE_PROCESS = 1,
	ABI_ACTIVE_FILE = 2,
	/* It has something to say about moving and removing directories. */
	ABI_ACTIVE_TREE = 8,
	/* Nothing is denied, what would have been is reported. */
	ABI_ACTIVE_AUDITED = 4,
	/* It has something to say about sockets, names that are looked up, capabilities, presets.
	 */
	ABI_ACTIVE_NETWORK = 16,
	ABI_ACTIVE_DNS = 32,
	ABI_ACTIVE_CAPABILITY = 64,
	ABI_ACTIVE_PRESET = 128,
	/* Some decision depends on whether the task has a terminal. */
	ABI_ACTIVE_TERMINAL = 256,
	/* It has something to say about system calls. */
	ABI_ACTIVE_SYSCALL = 512,
};

struct workload {
	__u64 active;
};

/* A dynamic loader: an image that the kernel opened to start another. */
struct loader {
	__u64 ino;
	__u32 dev;
	__u32 pad;
};

/* What a workload's root directory is, and what was learnt of what is below it. Written by the
 * kernel programs only. */
struct workload_root {
	/* Address of the root directory's inode, pinned by the mount while the workload lives. */
	__u64 inode;
	/* Its number, so that a reused address is noticed. */
	__u64 ino;
	/* Addresses of its file system and of the workload's own mount namespace. */
	__u64 sb;
	__u64 mnt_ns;
	/* 1: something of it runs, or did. */
	__u32 began;
	__u32 pad;
	/* Mountpoints where tasks of the workload mounted trees that may have other names. */
	__u32 marks;
	/* How many of `loaders` are known; ABI_LOADERS + 1 when there are more. */
	__u32 loaders_known;
	struct loader loaders[ABI_LOADERS];
};

enum abi_guard {
	ABI_GUARD_OFF,
	/* What would be denied is reported. */
	ABI_GUARD_REPORT,
	ABI_GUARD_DENY,
};

/* What is protected from everybody else. Written by the agent when it starts and when it ends. */
struct guard {
	/* enum abi_guard */
	__u32 mode;
	/* The agent, 0 when none runs. */
	__u32 pid;
	/* The directory of the pins. */
	__u64 pins_ino;
	__u32 pins_dev;
	/* The directory of the agent's and its command line's programs. Filled in by the enrolment,
	 * because stat() does not say all devices as the kernel does; 0: any program of the host's.
	 */
	__u32 exe_dev;
	__u64 exe_ino;
};

/* Why an event is sent or counted; the order is that of `LossStage` in gorget-model. */
enum abi_loss {
	ABI_LOSS_RING_FULL,
	ABI_LOSS_PATH_UNKNOWN,
	ABI_LOSS_NO_MEMORY,
	ABI_LOSS_RULESET_MISSING,
	/* The kernel itself counts these, by program. */
	ABI_LOSS_SKIPPED,
	/* Logs, and repeats of logs, that were not sent. */
	ABI_LOSS_LOGS,
	ABI_LOSS_COUNT,
};

enum abi_operation {
	ABI_OP_EXEC,
	ABI_OP_OPEN,
	ABI_OP_PERMISSION,
	ABI_OP_CREATE,
	ABI_OP_MKDIR,
	ABI_OP_UNLINK,
	ABI_OP_RMDIR,
	ABI_OP_SYMLINK,
	ABI_OP_LINK,
	ABI_OP_RENAME,
	ABI_OP_CHMOD,
	ABI_OP_CHOWN,
	ABI_OP_TRUNCATE,
	ABI_OP_SETATTR,
	ABI_OP_SETXATTR,
	ABI_OP_IOCTL,
	/* A local socket is connected, or a datagram is sent to it. */
	ABI_OP_LOCAL_CONNECT,
	ABI_OP_MOUNT,
	ABI_OP_UMOUNT,
	ABI_OP_PIVOT_ROOT,
	/* A loader that was run as a program maps the program that it is to run. */
	ABI_OP_LOAD,
	ABI_OP_SOCKET_CREATE,
	ABI_OP_SOCKET_BIND,
	ABI_OP_SOCKET_CONNECT,
	ABI_OP_SOCKET_LISTEN,
	ABI_OP_SOCKET_ACCEPT,
	ABI_OP_SOCKET_SEND,
	ABI_OP_LOOKUP,
	ABI_OP_CAPABLE,
	ABI_OP_PRESET_ANONYMOUS_MAP_EXEC,
	ABI_OP_PRESET_FILELESS_EXEC,
	ABI_OP_PRESET_PROTECT_ENV,
	ABI_OP_PRESET_PROTECT_PROC,
	ABI_OP_PRESET_EXEC,
	/* Another process is traced, or its memory is reached: protectProc, too. */
	ABI_OP_TRACE,
	/* Against what enforces: a signal to the agent, tracing it, writing to a table, changing a
	 * link, removing what is pinned. */
	ABI_OP_TAMPER_SIGNAL,
	ABI_OP_TAMPER_TRACE,
	ABI_OP_TAMPER_TABLE,
	ABI_OP_TAMPER_LINK,
	ABI_OP_TAMPER_PIN,
	/* A system call that rules are about, and how it ended. */
	ABI_OP_SYSCALL,
	ABI_OP_COUNT,
};

/* What a cgroup has seen in which a container may be beginning. Times are CLOCK_BOOTTIME. */
struct start {
	/* The last time that a task of the host took another root directory. */
	__u64 new_root_ns;
	/* The first execve after that without rules in force; 0: none. */
	__u64 execve_ns;
};

/* A task of the host takes another root directory. */
struct ev_starting {
	__u64 cgroup;
	__u32 pid;
	__u32 pad;
};

enum abi_event_flag {
	/* The workload is audited: a block was not carried out. */
	ABI_EVENT_AUDITED = 1,
	/* Denied after the point of no return: the program was killed before its first instruction.
	 */
	ABI_EVENT_KILLED = 2,
	/* Never sent: the event waits until it is known what the arguments are. */
	ABI_EVENT_PENDING = 4,
	/* The object is the second path of a system call that has two. */
	ABI_EVENT_SECOND = 8,
};

/* Fixed part of a decision event. The strings follow in the order of their lengths. */
/* Who acts. The strings follow the event's object in the order of their lengths. */
struct ev_actor {
	/* Since when somebody from outside is in the container, by the execve that brought them
	 * there (CLOCK_BOOTTIME), and the file that was executed, cut and ended by a zero. 0: it is
	 * the container's own doing. */
	__u64 session;
	__u8 session_name[ABI_SESSION_NAME];
	__u32 host_pid;
	__u32 host_ppid;
	__u32 pid;
	__u32 ppid;
	__u32 uid;
	__u32 exe_len;
	__u32 parent_len;
	__u32 cwd_len;
	__u32 tty_len;
	__u32 args_len;
};

struct ev_decision {
	/* CLOCK_BOOTTIME. */
	__u64 boot_ns;
	__u32 abi;
	__u32 workload;
	__u32 ruleset;
	__u32 verdict;
	__u32 operation;
	__u32 flags;
	/* Of a system call: what it returned, and the two bytes that it is in rules, the first in
	 * the lowest. */
	__s32 result;
	__u32 call;
	__u32 object_len;
	/* The other path of a system call that has two, cut; behind all other strings. */
	__u32 other_len;
	struct ev_actor actor;
};

/* What of a workload's operations is logged, whatever policies say of them: bits of a mask. */
enum abi_visible {
	ABI_VISIBLE_PROCESS = 1,
	ABI_VISIBLE_FILE = 2,
	ABI_VISIBLE_NETWORK = 4,
	ABI_VISIBLE_CAPABILITIES = 8,
	ABI_VISIBLE_DNS = 16,
};

enum abi_log {
	/* So many operations like one that was told, see `struct ev_repeats`. */
	ABI_LOG_REPEATS,
	/* An execve; the object is the image. */
	ABI_LOG_EXEC,
	/* The end of a process; `number` is its status as wait(2) gives it. */
	ABI_LOG_EXIT,
	/* A call about a path. */
	ABI_LOG_FILE,
	/* A call about a socket; the object is a struct sockaddr, and `number` has the socket's
	   family in the lowest byte, its type in the next, and its protocol. */
	ABI_LOG_NETWORK,
	/* `number` is the capability. */
	ABI_LOG_CAPABILITY,
	/* The object is a domain name, last byte first. */
	ABI_LOG_LOOKUP,
	ABI_LOG_COUNT,
};

enum abi_log_flag {
	/* The kernel found nothing there: the path is what the program wrote. */
	ABI_LOG_AS_WRITTEN = 1,
	/* io_uring does it for the program: `call` is an enum abi_operation, and `result` what the
	   security modules said. */
	ABI_LOG_BY_RING = 2,
};

/* How the records of the ring buffer for logs begin. */
struct ev_log_head {
	/* CLOCK_BOOTTIME. */
	__u64 boot_ns;
	__u32 abi;
	/* enum abi_log */
	__u32 kind;
	/* Where repeats are counted, ABI_LOG_SLOTS: nowhere; and the number of what is counted
	   there. */
	__u64 serial;
	__u32 slot;
	__u32 pad;
};

/* Fixed part of a log. The strings follow in the order of their lengths. */
struct ev_log {
	struct ev_log_head head;
	__u32 workload;
	__u32 flags;
	/* As in `struct ev_decision`. */
	__u32 call;
	__s32 result;
	__u32 number;
	__u32 object_len;
	struct ev_actor actor;
};

struct ev_repeats {
	struct ev_log_head head;
	__u64 count;
};

/* What becomes of operations that are to be logged. */
enum abi_log_count {
	ABI_LOGS_ATTEMPTED,
	ABI_LOGS_SENT,
	/* As a repeat. */
	ABI_LOGS_COUNTED,
	ABI_LOGS_LOST,
	ABI_LOGS_COUNTS,
};

/* What IMA says that a program's file was when it was executed. */
struct image_hash {
	/* Since when this is the image, CLOCK_BOOTTIME. */
	__u64 since_ns;
	/* enum hash_algo of the kernel; below 0: it is not known what the file was. */
	__s32 algorithm;
	__u32 pad;
	__u8 digest[ABI_HASH_MAX];
};

/* The files of a process. */
struct process_hashes {
	/* What it has been about to run, whatever became of that. */
	struct image_hash executing;
	/* Its image. */
	struct image_hash running;
	/* Its image before the last execve that succeeded. */
	struct image_hash before;
};

/*
 * Room for a path, which ends where `bytes` ends. `zeros` stays zero, so that whole chunks can be
 * read past the end; it is as long as a name may seem to the verifier.
 */
struct path_buffer {
	__u8 bytes[ABI_PATH_MAX];
	__u8 zeros[512];
};

/* A row of the table of system calls: the two bytes that a call is in rules, 0 for none, and: */
enum abi_call {
	/* It does not return. */
	ABI_CALL_IS_LAST = 0x10000,
	/* What it does is in its first argument: socketcall(2), ipc(2) of i386. */
	ABI_CALL_IS_SOCKETCALL = 0x20000,
	ABI_CALL_IS_IPC = 0x40000,
	/* Its child comes out of it, too. */
	ABI_CALL_FORKS = 0x80000,
	/* It is logged where operations of this kind are visible. */
	ABI_CALL_STARTS = 0x100000,
	ABI_CALL_ON_FILES = 0x200000,
	ABI_CALL_ON_SOCKETS = 0x400000,
	/* Only when it names an address. */
	ABI_CALL_WITH_ADDRESS = 0x800000,
	/* It makes a descriptor of a connection. */
	ABI_CALL_ACCEPTS = 0x1000000,
	/* What other calls do is done in it, as it was written into an io_uring. */
	ABI_CALL_IS_RING = 0x2000000,
	/* Which of its arguments is a path, from 1; 0: none. */
	ABI_CALL_PATH_SHIFT = 28,
	ABI_CALL_PATH_MASK = 3,
	/* Rows: the machine's own calls, those of 32-bit programs, the two that are many. */
	ABI_CALLS_NATIVE = 0,
	ABI_CALLS_COMPAT = 1,
	ABI_CALLS_SOCKET = 2,
	ABI_CALLS_IPC = 3,
	ABI_CALLS_TABLES = 4,
};

/* One case for the test harness: the same decision code without hooks. */
struct harness_case {
	/* In: index into the workload table. */
	__u32 workload;
	/* In: enum abi_automaton, one of the categories. */
	__u32 category;
	/* In: enum abi_variant bits; read and write asks for both variants. */
	__u32 variant;
	__u32 read_and_write;
	__u32 subject_len;
	__u32 object_len;
	/* In: the task has a controlling terminal. */
	__u32 terminal;
	/* In: bytes of the arguments, with a NUL after each. */
	__u32 arguments_len;
	/* Out: the verdict, and 0 or a negative error. */
	__u32 verdict;
	__s32 error;
	/* In. */
	struct path_buffer subject;
	struct path_buffer object;
	struct path_buffer arguments;
};

#endif
