/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is seen of what workloads do.
 *
 * A system call is told where it ends, with what it returned and what was noted of it. A path that
 * leads nowhere was found by nobody; then the event has what the program wrote, and says so.
 */
#ifndef GORGET_LOG_HOOKS_H
#define GORGET_LOG_HOOKS_H

#include "log_notes.h"

/* === where calls end === */

/* What a program gave to a call as its first, second or third argument. */
inline_always u64 argument(u64 regs, u32 which)
{
	u64 value = 0;

#if defined(__TARGET_ARCH_x86)
	struct task_struct *task = bpf_get_current_task_btf();
	u32 compat = BPF_CORE_READ(task, thread_info.status) & TS_COMPAT;

	if (which == 3)
		read_at(&value, regs, struct pt_regs, dx);
	else if (which == 2 && compat)
		read_at(&value, regs, struct pt_regs, cx);
	else if (which == 2)
		read_at(&value, regs, struct pt_regs, si);
	else if (compat)
		read_at(&value, regs, struct pt_regs, bx);
	else
		read_at(&value, regs, struct pt_regs, di);
	if (compat)
		value = (u32)value;
#elif defined(__TARGET_ARCH_arm64)
	if (which == 3)
		read_at(&value, regs, struct pt_regs, regs[2]);
	else if (which == 2)
		read_at(&value, regs, struct pt_regs, regs[1]);
	else
		read_at(&value, regs, struct pt_regs, orig_x0);
#endif
	return value;
}

/* Longest path that is told as a program wrote it. */
#define WRITTEN_MAX 1024

/* The path that a program wrote, for want of one that the kernel found. */
inline_always void add_written(struct log_buffer *b, u64 regs, u32 call)
{
	u32 which = call >> ABI_CALL_PATH_SHIFT & ABI_CALL_PATH_MASK;
	long len;

	if (!which)
		return;
	clear_words(b->data.bytes);
	len = bpf_probe_read_user_str(b->data.bytes, WRITTEN_MAX, (void *)argument(regs, which));
	if (len < 2 || len > WRITTEN_MAX)
		return;
	b->head.flags = ABI_LOG_AS_WRITTEN;
	b->head.object_len = len - 1;
	b->tag = mix_words(b->tag, b->data.bytes);
}

/* A connection: who is at its other end. */
inline_always void add_peer_of(struct log_buffer *b, u64 sk, u64 socket)
{
	struct inet_address a = {};
	u16 type = 0;
	u32 len;

	read_at(&type, socket, struct socket, type);
	b->head.number = number_of((struct sock *)sk, type);
	len = address_of((struct sock *)sk, 1, &a);
	keep(len);
	b->head.object_len = add_bytes(&b->data, unknown_zero, &a, len, sizeof(a));
	/* The port is another one each time. */
	b->tag = mix(b->tag, a.v4);
}

/* A descriptor that was made of a connection. */
inline_always void add_peer(struct log_buffer *b, u32 fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	u64 files = (u64)BPF_CORE_READ(table, fd), file = 0, socket = 0, sk = 0;

	if (fd >= BPF_CORE_READ(table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), (void *)(files + fd * sizeof(file))) ||
	    read_at(&socket, file, struct file, private_data) ||
	    read_at(&sk, socket, struct socket, sk))
		return;
	add_peer_of(b, sk, socket);
}

inline_always void take_note(struct log_buffer *b, struct log_note *n)
{
	struct ev_log *h = &b->head;
	u32 len = n->object_len + n->exe_len;

	h->number = n->number;
	b->tag = n->tag;
	if (len > ABI_PATH_MAX + ABI_SHOWN_MAX)
		return;
	keep(len);
	if (!add_bytes(&b->data, unknown_zero, n->data.bytes, len, ABI_PATH_MAX + ABI_SHOWN_MAX))
		return;
	h->object_len = n->object_len;
	h->actor.exe_len = n->exe_len;
}

/* A program runs now, and nobody saw who started it: the runtime did, before it was the workload's.
 */
inline_always void add_started(struct log_buffer *b)
{
	struct scratch *s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!s)
		return;
	s->walk.workload = b->head.workload;
	b->head.object_len = add_exe(&b->data, unknown_zero, s, bpf_get_current_task_btf());
}

/* Programs with other arguments are no repeats. */
inline_always void mix_arguments(struct log_buffer *b)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 start = BPF_CORE_READ(task, mm, arg_start), end = BPF_CORE_READ(task, mm, arg_end);
	u64 len = end - start;
	/* Nothing else is there yet. */
	u8 *room = b->data.bytes + ABI_EVENT_DATA - ABI_ARGS_MAX;

	if (len > TAG_WORDS * 8)
		len = TAG_WORDS * 8;
	clear_words(room);
	keep(len);
	if (len <= TAG_WORDS * 8 && !bpf_probe_read_user(room, (u32)len, (void *)start))
		b->tag = mix_words(mix(b->tag, end - start), room);
}

inline_always u32 kind_of(u32 call)
{
	if (call & ABI_CALL_STARTS)
		return ABI_LOG_EXEC;
	return call & ABI_CALL_ON_FILES ? ABI_LOG_FILE : ABI_LOG_NETWORK;
}

/* VERIFIER: a function of its own, because the stack is short. */
verified_once int fill_call(struct log_buffer *b, struct log_note *n, u64 regs, u32 call,
			    s64 result)
{
	struct ev_log *h;

	if (!b)
		return 0;
	h = &b->head;
	h->head.kind = kind_of(call);
	h->flags = 0;
	h->call = call & 0xffff;
	/* KERNEL: MAX_ERRNO. Everything else is a success, be it an address. */
	h->result = result < 0 && result >= -4095 ? (s32)result : 0;
	h->number = 0;
	h->object_len = 0;
	h->actor.exe_len = 0;
	b->tag = 0;
	if (n)
		take_note(b, n);
	else if (call & ABI_CALL_STARTS && !h->result)
		add_started(b);
	else if (call & ABI_CALL_ACCEPTS && !h->result)
		add_peer(b, result);
	else
		add_written(b, regs, call);
	return 0;
}

verified_once int log_call(u32 call, u64 regs, s64 result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct log_note *n = bpf_task_storage_get(&log_notes, task, NULL, 0);
	u32 workload = 0, mask = look(&workload), noted = 0;
	struct log_buffer *b;

	if (n) {
		noted = n->epoch == current_epoch() ? n->call : 0;
		n->call = 0;
	}
	if (!(mask & kind_visible(call)))
		return 0;
	/* Another call's, which ended while nobody looked. */
	if (noted != call)
		n = NULL;
	if ((call & ABI_CALL_WITH_ADDRESS) && (!n || !n->object_len))
		return 0;
	b = log_buffer();
	if (!b)
		return 0;
	b->head.workload = workload;
	fill_call(b, n, regs, call, result);
	if ((call & ABI_CALL_STARTS) && !b->head.result)
		mix_arguments(b);
	return tell(b);
}

SEC("tp_btf/sys_exit") int BPF_PROG(log_sys_exit, struct pt_regs *regs, long result)
{
	u32 call = call_in(address(regs));

	if (!(call & (ABI_CALL_STARTS | ABI_CALL_ON_FILES | ABI_CALL_ON_SOCKETS)))
		return 0;
	return log_call(call, address(regs), result);
}

/* === what is no call === */

/* An event that is told at once. */
verified_once int tell_at_once(u32 workload, u32 kind, u32 number, s32 result)
{
	struct log_buffer *b = new_log(workload, kind);

	if (!b)
		return 0;
	b->head.result = result;
	b->head.number = number;
	return tell(b);
}

/*
 * The last thread of a process ends. KERNEL: do_exit() calls this when the status is known and the
 * memory is still there, which at sched_process_exit it is not.
 */
SEC("fentry/taskstats_exit") int BPF_PROG(log_end, struct task_struct *task, int is_last)
{
	u32 workload = 0;

	if (!is_last || !(look(&workload) & ABI_VISIBLE_PROCESS))
		return 0;
	return tell_at_once(workload, ABI_LOG_EXIT, task->exit_code, 0);
}

/* Where the kernel is built without that: what ends is known by its number only. */
SEC("tp_btf/sched_process_exit") int BPF_PROG(log_ended, struct task_struct *task)
{
	u32 workload = 0;

	if (task->pid != task->tgid || !(look(&workload) & ABI_VISIBLE_PROCESS))
		return 0;
	return tell_at_once(workload, ABI_LOG_EXIT, task->exit_code, 0);
}

/*
 * A connection was accepted. By a system call, that tells it where it ends; what io_uring does for
 * a program may be done in any call of the program's.
 */
verified_once int tell_accepted(u64 sk, u64 socket)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 workload = 0;
	struct log_buffer *b;

	if (!(look(&workload) & ABI_VISIBLE_NETWORK) ||
	    (!(task->flags & PF_IO_WORKER) && (call_in_progress() & ABI_CALL_ACCEPTS)))
		return 0;
	b = new_log_by_ring(workload, ABI_LOG_NETWORK, asked(ABI_OP_SOCKET_ACCEPT, 0));
	if (!b)
		return 0;
	add_peer_of(b, sk, socket);
	return tell(b);
}

LOG(sock_graft) BPF_PROG(log_sock_graft, struct sock *sk, struct socket *socket)
{
	return tell_accepted(address(sk), address(socket));
}

/* What the kernel asks only to know, and does not log, is no use of a capability. */
LOG(capable)
BPF_PROG(log_capable, const struct cred *cred, struct user_namespace *ns, int cap,
	 unsigned int opts, int result)
{
	u32 workload = 0;

	if ((opts & CAP_OPT_NOAUDIT) || !(look(&workload) & ABI_VISIBLE_CAPABILITIES))
		return 0;
	return tell_at_once(workload, ABI_LOG_CAPABILITY, cap, result);
}

/* === names that are looked up === */

/* A socket of somebody whose questions are visible, and a question that was asked by it. */
struct log_question {
	u32 workload;
	u32 waits;
	u32 len;
	u8 name[NAME_MAX + 1];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct log_question);
} log_questions SEC(".maps");

LOG(socket_sendmsg)
BPF_PROG(log_socket_sendmsg, struct socket *socket, struct msghdr *message, int size, int result)
{
	/* Read once: from 6.12 on the verifier knows that a second read might find nothing. */
	struct sock *sk = socket->sk;
	u32 workload = 0, mask = look(&workload);
	struct log_question *q;
	u64 name;

	keep(sk);
	if (!(mask & (ABI_VISIBLE_NETWORK | ABI_VISIBLE_DNS)) || !sk)
		return 0;
	if (mask & ABI_VISIBLE_DNS) {
		q = bpf_sk_storage_get(&log_questions, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (q)
			q->workload = workload;
		else
			lose_log();
	}
	name = address(message->msg_name);
	return name ? note_address(address(socket), name, message->msg_namelen,
				   asked(ABI_OP_SOCKET_SEND, result))
		    : 0;
}

SEC("cgroup_skb/egress")
int log_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct log_question *q;
	struct dns_reader *r;
	u32 at, len, from;

	if (!sk)
		return 1;
	q = bpf_sk_storage_get(&log_questions, sk, NULL, 0);
	if (!q || !(visible_of(q->workload) & ABI_VISIBLE_DNS))
		return 1;
	at = find_message(skb);
	if (!at || (load_byte(skb, at + 2) & DNS_RESPONSE))
		return 1;
	r = claim_reader();
	if (!r) {
		lose_log();
		return 1;
	}
	if (!read_question(skb, at, r)) {
		lose_log();
	} else {
		len = r->len;
		from = ABI_PATH_MAX - len;
		keep(len);
		len &= NAME_MAX;
		keep(from);
		from &= ABI_PATH_MAX - 1;
		if (!bpf_probe_read_kernel(q->name, len, r->path.bytes + from)) {
			q->len = len;
			q->waits = 1;
		} else {
			lose_log();
		}
	}
	r->busy = 0;
	return 1;
}

verified_once int tell_question(u64 question, s32 result)
{
	u32 workload = 0, mask = look(&workload), len = 0;
	struct log_buffer *b;
	struct ev_log *h;

	if (!(mask & ABI_VISIBLE_DNS))
		return 0;
	b = log_buffer();
	if (!b)
		return 0;
	h = &b->head;
	h->workload = workload;
	h->head.kind = ABI_LOG_LOOKUP;
	h->flags = 0;
	h->call = 0;
	/* KERNEL: what was sent is a success. */
	h->result = result < 0 ? result : 0;
	h->number = 0;
	h->actor.exe_len = 0;
	h->object_len = 0;
	b->tag = 0;
	bpf_probe_read_kernel(&len, sizeof(len),
			      (void *)question + __builtin_offsetof(struct log_question, len));
	len &= NAME_MAX;
	clear_words(b->data.bytes);
	h->object_len = add_bytes(&b->data, unknown_zero,
				  (void *)question + __builtin_offsetof(struct log_question, name),
				  len, NAME_MAX + 1);
	b->tag = mix_words(b->tag, b->data.bytes);
	return tell(b);
}

/* The sender's call ends. */
inline_always int end_of_sending(struct socket *socket, int result)
{
	struct sock *sk = socket->sk;
	struct log_question *q;

	keep(sk);
	if (!sk)
		return 0;
	q = bpf_sk_storage_get(&log_questions, sk, NULL, 0);
	if (!q || !q->waits)
		return 0;
	q->waits = 0;
	return tell_question(address(q), result);
}

SEC("fexit/inet_sendmsg")
int BPF_PROG(log_sent_ipv4, struct socket *socket, struct msghdr *message, u64 size, int result)
{
	return end_of_sending(socket, result);
}

SEC("fexit/inet6_sendmsg")
int BPF_PROG(log_sent_ipv6, struct socket *socket, struct msghdr *message, u64 size, int result)
{
	return end_of_sending(socket, result);
}

#endif
