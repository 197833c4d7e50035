/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a system call is about, noted on the way, as the kernel found it, in memory of the task: the
 * first path or address of the call. What io_uring does for a program belongs to no call, and is
 * told at once.
 */
#ifndef GORGET_LOG_NOTES_H
#define GORGET_LOG_NOTES_H

#include "logs.h"
#include "places.h"
#include "call_numbers.h"
#include "questions.h"

#define LOG(name) SEC("fexit/security_" #name) int

/* What the call in progress is about. */
struct log_note {
	/* The call; 0: nothing was noted. */
	u32 call;
	/* How often the programs had been attached: a call that ended while they were not has left
	 * its note. */
	u32 epoch;
	u32 number;
	u32 object_len;
	/* Of an execve, the image that calls it, behind the object. */
	u32 exe_len;
	u64 tag;
	struct event_data data;
};

_Static_assert(sizeof(struct log_note) <= 8192 - 256, "a note fits into a slab");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct log_note);
} log_notes SEC(".maps");

/* How often the programs were attached. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} log_epoch SEC(".maps");

inline_always u32 current_epoch(void)
{
	u32 zero = 0, *epoch = bpf_map_lookup_elem(&log_epoch, &zero);

	return epoch ? *epoch : 0;
}

inline_always u32 call_in_progress(void)
{
	return call_in((u64)bpf_task_pt_regs(bpf_get_current_task_btf()));
}

/* Memory for a note about the call in progress; NULL when nothing is to be noted, or was before. */
inline_always struct log_note *note_for(u32 call)
{
	struct log_note *n = bpf_task_storage_get(&log_notes, bpf_get_current_task_btf(), NULL,
						  BPF_LOCAL_STORAGE_GET_F_CREATE);
	u32 epoch = current_epoch();

	if (!n || (n->call && n->epoch == epoch))
		return NULL;
	n->call = call;
	n->epoch = epoch;
	n->number = 0;
	n->object_len = 0;
	n->exe_len = 0;
	n->tag = 0;
	return n;
}

inline_always u32 kind_visible(u32 call)
{
	if (call & ABI_CALL_STARTS)
		return ABI_VISIBLE_PROCESS;
	if (call & ABI_CALL_ON_FILES)
		return ABI_VISIBLE_FILE;
	return call & ABI_CALL_ON_SOCKETS ? ABI_VISIBLE_NETWORK : 0;
}

/* === paths === */

/* A log of something that has no object yet. */
inline_always struct log_buffer *new_log(u32 workload, u32 kind)
{
	struct log_buffer *b = log_buffer();
	struct ev_log *h;

	if (!b)
		return NULL;
	h = &b->head;
	h->workload = workload;
	h->head.kind = kind;
	h->flags = 0;
	h->call = 0;
	h->result = 0;
	h->number = 0;
	h->object_len = 0;
	h->actor.exe_len = 0;
	b->tag = 0;
	return b;
}

/*
 * What a security module was asked, and what all of them said: an operation and a result in one
 * word. Known of what io_uring does for a program, which is told at once: no call ends.
 */
inline_always u64 asked(u32 operation, s32 result)
{
	return (u64)operation << 32 | (u32)result;
}

/* In a thread of io_uring's, or in the call that has requests done. */
inline_always int is_by_ring(u32 call)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return (task->flags & PF_IO_WORKER) || (call & ABI_CALL_IS_RING);
}

inline_always struct log_buffer *new_log_by_ring(u32 workload, u32 kind, u64 asked)
{
	struct log_buffer *b = new_log(workload, kind);

	if (!b)
		return NULL;
	b->head.flags = ABI_LOG_BY_RING;
	b->head.call = asked >> 32;
	b->head.result = (s32)asked;
	return b;
}

/* The object's path, and what tells it from others. */
inline_always u32 add_object(struct event_data *data, u64 *tag, struct scratch *s, u64 vfsmount,
			     u64 dentry)
{
	u64 name = 0, parent = 0;

	locate(s, vfsmount, dentry);
	read_at(&name, dentry, struct dentry, d_name.hash_len);
	read_at(&parent, dentry, struct dentry, d_parent);
	*tag = mix(mix(mix(mix(0, vfsmount), parent), name), sequence(&rename_lock));
	*tag = mix(*tag, sequence(&mount_lock));
	return add_walk(data, unknown_zero, s, ABI_PATH_MAX);
}

verified_once int tell_path(u32 workload, u64 vfsmount, u64 dentry, u64 asked)
{
	struct log_buffer *b = new_log_by_ring(workload, ABI_LOG_FILE, asked);
	struct scratch *s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!b)
		return 0;
	if (s) {
		s->walk.workload = workload;
		b->head.object_len = add_object(&b->data, &b->tag, s, vfsmount, dentry);
	}
	return tell(b);
}

/* The call in progress is about this object. */
verified_once int note_path(u64 vfsmount, u64 dentry, u64 asked)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 workload = 0, mask = look(&workload), call;
	struct log_note *n;
	struct scratch *s;

	if (!(mask & (ABI_VISIBLE_PROCESS | ABI_VISIBLE_FILE)))
		return 0;
	call = call_in_progress();
	if (is_by_ring(call))
		return mask & ABI_VISIBLE_FILE ? tell_path(workload, vfsmount, dentry, asked) : 0;
	if (!(call & (ABI_CALL_STARTS | ABI_CALL_ON_FILES)) || !(mask & kind_visible(call)))
		return 0;
	n = note_for(call);
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!n || !s)
		return 0;
	s->walk.workload = workload;
	n->object_len = add_object(&n->data, &n->tag, s, vfsmount, dentry);
	if (call & ABI_CALL_STARTS)
		n->exe_len = add_exe(&n->data, n->object_len, s, task);
	return 0;
}

inline_always int note_found(const struct path *path, u64 asked)
{
	u64 vfsmount = 0, dentry = 0;

	read_at(&vfsmount, path, struct path, mnt);
	read_at(&dentry, path, struct path, dentry);
	return note_path(vfsmount, dentry, asked);
}

inline_always int note_entry(const struct path *dir, struct dentry *dentry, u64 asked)
{
	u64 vfsmount = 0;

	read_at(&vfsmount, dir, struct path, mnt);
	return note_path(vfsmount, address(dentry), asked);
}

LOG(path_unlink)
BPF_PROG(log_path_unlink, const struct path *dir, struct dentry *dentry, int result)
{
	return note_entry(dir, dentry, asked(ABI_OP_UNLINK, result));
}

LOG(path_rmdir)
BPF_PROG(log_path_rmdir, const struct path *dir, struct dentry *dentry, int result)
{
	return note_entry(dir, dentry, asked(ABI_OP_RMDIR, result));
}

LOG(path_mkdir)
BPF_PROG(log_path_mkdir, const struct path *dir, struct dentry *dentry, u16 mode, int result)
{
	return note_entry(dir, dentry, asked(ABI_OP_MKDIR, result));
}

LOG(path_mknod)
BPF_PROG(log_path_mknod, const struct path *dir, struct dentry *dentry, u16 mode, unsigned int dev,
	 int result)
{
	return note_entry(dir, dentry, asked(ABI_OP_CREATE, result));
}

LOG(path_symlink)
BPF_PROG(log_path_symlink, const struct path *dir, struct dentry *dentry, const char *to,
	 int result)
{
	return note_entry(dir, dentry, asked(ABI_OP_SYMLINK, result));
}

LOG(path_link)
BPF_PROG(log_path_link, struct dentry *old, const struct path *dir, struct dentry *dentry,
	 int result)
{
	return note_entry(dir, old, asked(ABI_OP_LINK, result));
}

LOG(path_rename)
BPF_PROG(log_path_rename, const struct path *dir, struct dentry *old, const struct path *new_dir,
	 struct dentry *dentry, unsigned int flags, int result)
{
	return note_entry(dir, old, asked(ABI_OP_RENAME, result));
}

/* io_uring has no requests for these two. */
LOG(path_chmod) BPF_PROG(log_path_chmod, const struct path *path)
{
	return note_found(path, asked(ABI_OP_CHMOD, 0));
}

LOG(path_chown) BPF_PROG(log_path_chown, const struct path *path)
{
	return note_found(path, asked(ABI_OP_CHOWN, 0));
}

LOG(path_truncate) BPF_PROG(log_path_truncate, const struct path *path, int result)
{
	return note_found(path, asked(ABI_OP_TRUNCATE, result));
}

LOG(file_open) BPF_PROG(log_file_open, struct file *file, int result)
{
	return note_found(&file->f_path, asked(ABI_OP_OPEN, result));
}

LOG(bprm_creds_for_exec) BPF_PROG(log_bprm_creds, struct linux_binprm *bprm, int result)
{
	return note_found(&bprm->file->f_path, asked(ABI_OP_EXEC, result));
}

/* === sockets === */

inline_always u32 socket_number(u32 family, u32 type, u32 protocol)
{
	return (family & 0xff) | (type & 0xff) << 8 | protocol << 16;
}

inline_always u32 number_of(struct sock *sk, u32 type)
{
	return socket_number(BPF_CORE_READ(sk, __sk_common.skc_family), type,
			     BPF_CORE_READ(sk, sk_protocol));
}

inline_always u32 number_of_socket(u64 socket)
{
	u64 sk = 0;
	u16 type = 0;

	read_at(&sk, socket, struct socket, sk);
	read_at(&type, socket, struct socket, type);
	return number_of((struct sock *)sk, type);
}

inline_always u32 add_address(struct event_data *data, u64 *tag, u64 address, u32 len)
{
	if (len > ABI_ADDRESS_MAX)
		len = ABI_ADDRESS_MAX;
	clear_words(data->bytes);
	len = add_bytes(data, unknown_zero, (const void *)address, len, ABI_ADDRESS_MAX);
	*tag = mix_words(*tag, data->bytes);
	return len;
}

verified_once int tell_address(u32 workload, u64 socket, u64 address, u32 len, u64 asked)
{
	struct log_buffer *b = new_log_by_ring(workload, ABI_LOG_NETWORK, asked);

	if (!b)
		return 0;
	b->head.number = number_of_socket(socket);
	b->head.object_len = add_address(&b->data, &b->tag, address, len);
	return tell(b);
}

/* The call in progress is about this address, which is the kernel's copy. */
verified_once int note_address(u64 socket, u64 address, u32 len, u64 asked)
{
	u32 workload = 0, mask = look(&workload), call;
	struct log_note *n;

	if (!(mask & ABI_VISIBLE_NETWORK))
		return 0;
	call = call_in_progress();
	if (is_by_ring(call))
		return tell_address(workload, socket, address, len, asked);
	if (!(call & ABI_CALL_ON_SOCKETS))
		return 0;
	n = note_for(call);
	if (!n)
		return 0;
	n->number = number_of_socket(socket);
	n->object_len = add_address(&n->data, &n->tag, address, len);
	return 0;
}

struct inet_address {
	u16 family;
	__be16 port;
	union {
		__be32 v4;
		struct {
			u32 flow;
			struct in6_addr v6;
		};
	};
	u32 scope;
};

enum {
	AF_INET = 2,
	AF_INET6 = 10,
};

/* Where a socket is bound, or whom it is connected to. Gives its length. */
inline_always u32 address_of(struct sock *sk, int of_peer, struct inet_address *a)
{
	u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);

	a->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	a->port = port >> 8 | port << 8;
	if (of_peer)
		a->port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	if (a->family == AF_INET) {
		a->v4 = of_peer ? BPF_CORE_READ(sk, __sk_common.skc_daddr)
				: BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		return 16;
	}
	if (a->family == AF_INET6) {
		if (of_peer)
			a->v6 = BPF_CORE_READ(sk, __sk_common.skc_v6_daddr);
		else
			a->v6 = BPF_CORE_READ(sk, __sk_common.skc_v6_rcv_saddr);
		return sizeof(*a);
	}
	return sizeof(a->family);
}

LOG(socket_create)
BPF_PROG(log_socket_create, int family, int type, int protocol, int kern, int result)
{
	u32 workload = 0, call, number = socket_number(family, type & 0xf, protocol);
	struct log_buffer *b;
	struct log_note *n;

	if (kern || !(look(&workload) & ABI_VISIBLE_NETWORK))
		return 0;
	call = call_in_progress();
	if (is_by_ring(call)) {
		b = new_log_by_ring(workload, ABI_LOG_NETWORK, asked(ABI_OP_SOCKET_CREATE, result));
		if (b)
			b->head.number = number;
		return tell(b);
	}
	if (!(call & ABI_CALL_ON_SOCKETS))
		return 0;
	n = note_for(call);
	if (n)
		n->number = number;
	return 0;
}

LOG(socket_bind)
BPF_PROG(log_socket_bind, struct socket *socket, struct sockaddr *at, int len, int result)
{
	return note_address(address(socket), address(at), len, asked(ABI_OP_SOCKET_BIND, result));
}

LOG(socket_connect)
BPF_PROG(log_socket_connect, struct socket *socket, struct sockaddr *at, int len, int result)
{
	return note_address(address(socket), address(at), len,
			    asked(ABI_OP_SOCKET_CONNECT, result));
}

LOG(socket_listen) BPF_PROG(log_socket_listen, struct socket *socket, int backlog, int result)
{
	struct inet_address a = {};
	u32 len = address_of(socket->sk, 0, &a);

	return note_address(address(socket), address(&a), len, asked(ABI_OP_SOCKET_LISTEN, result));
}

#endif
