/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel types that the programs read, with only the fields they read. Offsets come from the
 * running kernel's BTF when the programs are loaded, so the order here means nothing.
 */
#ifndef GORGET_KTYPES_H
#define GORGET_KTYPES_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#define NULL ((void *)0)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

/* include/linux/fs.h */
enum {
	FMODE_READ = 0x1,
	FMODE_WRITE = 0x2,
	/* __FMODE_EXEC: opened by execve, not by the program. */
	FMODE_EXEC_FLAG = 0x20,
	/* FMODE_BACKING, the file that a stacked file system opens below itself: bit 25 from 6.5 to
	 * 6.11, where bit 24 is free, and bit 24 later, where bit 25 is FMODE_NONOTIFY. Such files
	 * are not accounted. */
	FMODE_BACKING_ANY = 0x3000000,
	FMODE_NOACCOUNT = 0x20000000,
	MAY_WRITE = 0x2,
	MAY_READ = 0x4,
	MAY_APPEND = 0x8,
};

enum {
	S_IFMT = 00170000,
	S_IFDIR = 0040000,
	S_IXUGO = 00111,
	ATTR_MODE = 0x1,
	ATTR_UID = 0x2,
	ATTR_GID = 0x4,
	ATTR_SIZE = 0x8,
	ATTR_ATIME = 0x10,
	ATTR_MTIME = 0x20,
	RENAME_EXCHANGE = 0x2,
	/* SB_NOUSER: cannot be mounted by anybody. */
	SB_NOUSER_BIT = 0x80000000,
	HUGETLBFS_MAGIC = 0x958458f6,
	PROC_SUPER_MAGIC = 0x9fa0,
};

/* include/uapi/linux/mount.h, mman.h */
enum {
	MS_REMOUNT = 0x20,
	MS_BIND = 0x1000,
	MS_MOVE = 0x2000,
	/* MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED. */
	MS_PROPAGATION = 0x1e0000,
	PROT_WRITE = 0x2,
	PROT_EXEC = 0x4,
	MAP_TYPE = 0xf,
	MAP_PRIVATE = 0x2,
};

/* include/linux/sched.h, ptrace.h */
enum {
	PF_KTHREAD = 0x00200000,
	PF_IO_WORKER = 0x00000010,
	PF_USER_WORKER = 0x00004000,
	PTRACE_MODE_ATTACH = 0x2,
	PTRACE_MODE_FSCREDS = 0x8,
};

/* enum bpf_cmd */
enum {
	BPF_LINK_UPDATE = 29,
	BPF_LINK_DETACH = 34,
};

/* arch/x86/include/asm/thread_info.h, asm/unistd.h; arch/arm64/include/asm/thread_info.h */
enum {
	TS_COMPAT = 0x2,
	X32_SYSCALL_BIT = 0x40000000,
	TIF_32BIT = 22,
};

enum {
	SIGKILL = 9,
	EACCES = 13,
	ENOMEM = 12,
	CLONE_THREAD = 0x00010000,
};

/* include/uapi/linux/in.h */
enum {
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
};

/* include/linux/security.h, include/linux/mm.h */
enum {
	CAP_OPT_NOAUDIT = 2,
	VM_EXEC = 4,
};

#define KTYPE __attribute__((preserve_access_index))

struct qstr {
	union {
		struct {
			u32 hash;
			u32 len;
		};
		u64 hash_len;
	};
	const unsigned char *name;
} KTYPE;

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

struct list_head {
	struct list_head *next;
} KTYPE;

struct hlist_node {
	struct hlist_node *next;
} KTYPE;

struct hlist_head {
	struct hlist_node *first;
} KTYPE;

struct super_block {
	u32 s_dev;
	unsigned long s_flags;
	unsigned long s_magic;
	struct dentry *s_root;
	struct list_head s_mounts;
} KTYPE;

struct inode {
	u16 i_mode;
	kuid_t i_uid;
	u32 i_nlink;
	u64 i_ino;
	u32 i_generation;
	struct super_block *i_sb;
	struct hlist_head i_dentry;
} KTYPE;

struct iattr {
	u32 ia_valid;
} KTYPE;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
	union {
		struct hlist_node d_alias;
	} d_u;
} KTYPE;

struct vfsmount {
	struct dentry *mnt_root;
} KTYPE;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct list_head mnt_instance;
	struct mnt_namespace *mnt_ns;
} KTYPE;

/* Since 6.18 the mounts of a file system are linked by themselves. */
struct mount___linked {
	struct mount___linked *mnt_next_for_sb;
} KTYPE;

struct super_block___linked {
	struct mount___linked *s_mounts;
} KTYPE;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} KTYPE;

struct file {
	struct path f_path;
	struct inode *f_inode;
	u32 f_mode;
	u32 f_flags;
	void *private_data;
} KTYPE;

struct fdtable {
	u32 max_fds;
	struct file **fd;
} KTYPE;

struct files_struct {
	struct fdtable *fdt;
} KTYPE;

/* What descriptors of BPF objects stand for. */
struct bpf_map {
	u32 id;
	char name[16];
} KTYPE;

struct bpf_prog_aux {
	char name[16];
} KTYPE;

struct bpf_prog {
	struct bpf_prog_aux *aux;
} KTYPE;

struct bpf_link {
	u32 id;
	struct bpf_prog *prog;
} KTYPE;

union bpf_attr;

/* Since 6.5. */
struct backing_file {
	struct file file;
	struct path user_path;
} KTYPE;

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
} KTYPE;

struct mm_struct {
	struct file *exe_file;
	u64 arg_start;
	u64 arg_end;
} KTYPE;

struct cred {
	kuid_t fsuid;
} KTYPE;

struct fs_struct {
	struct path root;
	struct path pwd;
} KTYPE;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
} KTYPE;

struct tty_struct {
	char name[64];
} KTYPE;

struct signal_struct {
	struct tty_struct *tty;
} KTYPE;

struct pid_namespace;

struct upid {
	int nr;
	struct pid_namespace *ns;
} KTYPE;

struct pid {
	u32 level;
	/* By enum pid_type; the first is PIDTYPE_PID. */
	struct hlist_head tasks[4];
	struct upid numbers[1];
} KTYPE;

/* fs/proc/internal.h */
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
} KTYPE;

struct kernfs_node {
	u64 id;
} KTYPE;

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
} KTYPE;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
} KTYPE;

struct css_set {
	struct cgroup *dfl_cgrp;
} KTYPE;

struct thread_info {
	unsigned long flags;
	u32 status;
} KTYPE;

/* What the two architectures have of it. */
struct pt_regs {
	unsigned long orig_ax;
	unsigned long bx;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	u64 regs[31];
	u64 orig_x0;
	s32 syscallno;
} KTYPE;

struct task_struct {
	struct thread_info thread_info;
	u32 flags;
	int pid;
	int tgid;
	int exit_code;
	struct mm_struct *mm;
	const struct cred *cred;
	const struct cred *real_cred;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct hlist_node pid_links[4];
	struct css_set *cgroups;
} KTYPE;

struct linux_binprm {
	struct file *file;
	int argc;
	/* Where the arguments begin, argv[0] first, each with a NUL after it. */
	u64 p;
	const char *filename;
	/* What runs it; the same as `filename` until a `#!` line names something else. */
	const char *interp;
} KTYPE;

struct in6_addr {
	u8 bytes[16];
};

struct sock_common {
	u16 skc_family;
	/* In the network's order, and in the machine's. */
	__be16 skc_dport;
	u16 skc_num;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} KTYPE;

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
} KTYPE;

struct socket {
	short type;
	struct sock *sk;
} KTYPE;

/* Begins with its `struct sock`. */
struct unix_sock {
	struct path path;
} KTYPE;

/* Contexts of packet programs, as the kernel's UAPI has them. */
struct bpf_sock;

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan[3];
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	struct bpf_sock *sk;
};

struct sockaddr;

struct msghdr {
	void *msg_name;
	int msg_namelen;
} KTYPE;

struct user_namespace;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
} KTYPE;

struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
} KTYPE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} KTYPE;

#endif
