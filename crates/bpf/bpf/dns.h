/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Looking up names. Decided on the packet that leaves, which nobody can change any more, whatever
 * system call sent it.
 *
 * When a packet leaves, the sender may not be the current task. So socket_sendmsg notes on the
 * socket who sends, the packet is decided by that note, and the alert waits on the socket until the
 * sender's call ends, where the sender can be described. Attached only while some workload has DNS
 * rules.
 */
#ifndef GORGET_DNS_H
#define GORGET_DNS_H

#include "objects.h"
#include "questions.h"

struct sender {
	u32 workload;
	/* Source class of the image, by which ruleset. */
	u32 source;
	u32 ruleset;
	/* An alert that waits: its verdict, and the name, last byte first. */
	u32 waits;
	u32 verdict;
	u32 alert_ruleset;
	u32 len;
	u32 pad;
	u8 name[NAME_MAX + 1];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sender);
} senders SEC(".maps");

/* Notes who sends, when the sender's workload has rules about names. */
inline_always void note_sender(struct socket *socket)
{
	struct request q = {};
	struct task_ctx *t = identify_subject(&q);
	/* Read once: from 6.12 on the verifier knows that a second read might find nothing. */
	struct sock *sk = socket->sk;
	struct sender *sender;
	struct scratch *s;

	keep(sk);
	if (!has_flag(q.active, ABI_ACTIVE_DNS) || !sk)
		return;
	sender = bpf_sk_storage_get(&senders, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!sender || !s) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return;
	}
	if (t && t->source_ruleset != (u32)q.active)
		update_source(t, s, &q);
	sender->workload = q.workload;
	sender->source = t ? t->source : 0;
	sender->ruleset = (u32)q.active;
}

inline_always void leave_alert(struct sender *sender, struct dns_reader *r, u32 ruleset,
			       u32 verdict)
{
	u32 len = r->len, from = ABI_PATH_MAX - len;

	sender->waits = 1;
	sender->verdict = verdict;
	sender->alert_ruleset = ruleset;
	sender->len = 0;
	if (len > NAME_MAX)
		return;
	keep(len);
	len &= NAME_MAX;
	keep(from);
	from &= ABI_PATH_MAX - 1;
	if (!bpf_probe_read_kernel(sender->name, len, r->path.bytes + from))
		sender->len = len;
}

/* 1: the packet may leave. */
inline_always int decide_packet(struct __sk_buff *skb, u32 at, struct sender *sender,
				struct dns_reader *r)
{
	u64 active = active_of(sender->workload);
	struct lookup *l = &r->lookup;

	if (!has_flag(active, ABI_ACTIVE_DNS))
		return 1;
	l->automaton = ABI_AUTOMATON_DNS;
	l->variant = 0;
	l->flags = 0;
	l->source = sender->ruleset == (u32)active ? sender->source : 0;
	if (!read_question(skb, at, r)) {
		count_loss(ABI_LOSS_PATH_UNKNOWN);
		l->flags = LOOKUP_NOTHING;
		r->len = 0;
	}
	l->off = ABI_PATH_MAX - r->len;
	if (lookup(active, &r->path, l)) {
		count_loss(ABI_LOSS_RULESET_MISSING);
		return 1;
	}
	if ((l->answer & ABI_OUTCOME_MASK) == ABI_OUTCOME_PASS)
		return 1;
	leave_alert(sender, r, (u32)active, l->answer);
	return !carry_out(active, l->answer);
}

SEC("cgroup_skb/egress")
int dns_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct dns_reader *r;
	struct sender *sender;
	u32 at;
	int leaves;

	if (!sk)
		return 1;
	sender = bpf_sk_storage_get(&senders, sk, NULL, 0);
	if (!sender)
		return 1;
	at = find_message(skb);
	if (!at || (load_byte(skb, at + 2) & DNS_RESPONSE))
		return 1;
	r = claim_reader();
	if (!r) {
		count_loss(ABI_LOSS_NO_MEMORY);
		return 1;
	}
	leaves = decide_packet(skb, at, sender, r);
	r->busy = 0;
	return leaves;
}

/* The sender's call ends: tell what was decided about its packets. */
inline_always int tell_lookup(struct socket *socket)
{
	struct sock *sk = socket->sk;
	struct sender *sender;
	struct decision *d;
	struct scratch *s;
	u32 len, off;
	u64 active;

	keep(sk);
	if (!sk)
		return 0;
	sender = bpf_sk_storage_get(&senders, sk, NULL, 0);
	if (!sender || !sender->waits)
		return 0;
	sender->waits = 0;
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		count_loss(ABI_LOSS_RING_FULL);
		return 0;
	}
	active = active_of(sender->workload);
	s->walk.workload = sender->workload;
	d = &s->decision;
	d->workload = sender->workload;
	d->ruleset = sender->alert_ruleset;
	d->verdict = sender->verdict;
	d->operation = ABI_OP_LOOKUP;
	d->flags = has_flag(active, ABI_ACTIVE_AUDITED) ? ABI_EVENT_AUDITED : 0;
	d->bytes = 0;
	d->object_name = 0;
	s->walk.status = WALK_FAULT;
	len = sender->len;
	if (len && len <= NAME_MAX) {
		off = ABI_PATH_MAX - len;
		keep(len);
		len &= NAME_MAX;
		keep(off);
		off &= ABI_PATH_MAX - 1;
		if (!bpf_probe_read_kernel(s->path.bytes + off, len, sender->name)) {
			s->walk.off = off;
			s->walk.status = WALK_DONE;
		}
	}
	emit();
	return 0;
}

SEC("fexit/inet_sendmsg")
int BPF_PROG(tell_ipv4, struct socket *socket)
{
	return tell_lookup(socket);
}

SEC("fexit/inet6_sendmsg")
int BPF_PROG(tell_ipv6, struct socket *socket)
{
	return tell_lookup(socket);
}

int HOOK(socket_sendmsg, struct socket *socket, struct msghdr *message, int size)
{
	int ret = check_sock(socket, ABI_OP_SOCKET_SEND);

	if (!ret && (flags_anywhere & ABI_ACTIVE_DNS))
		note_sender(socket);
	return ret;
}

#endif
