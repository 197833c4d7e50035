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

enum {
	NAME_MAX = 255,
	DNS_PORT = 53,
	DNS_HEADER = 12,
	DNS_RESPONSE = 0x80,
	LABEL_MAX = 63,
	IPPROTO_UDP = 17,
	IPV6_HEADER = 40,
	/* Extension headers that are skipped. */
	IPV6_EXTENSIONS = 6,
	/* Packets whose names are read at the same time. */
	DNS_READERS = 64,
};

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

/* Memory to read a name in. Not per CPU: reading can be preempted by another packet. */
struct dns_reader {
	u32 busy;
	/* Where the next byte is, how much of the label is left, how many bytes the name has. */
	u32 at;
	u32 left;
	u32 len;
	u32 ended;
	u32 raw_len;
	struct lookup lookup;
	u8 raw[NAME_MAX + 1];
	struct path_buffer path;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DNS_READERS);
	__type(key, u32);
	__type(value, struct dns_reader);
} dns_readers SEC(".maps");

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

inline_always struct dns_reader *claim_reader(void)
{
	u32 first = bpf_get_smp_processor_id();

	for (u32 n = 0; n < 8; n++) {
		u32 key = (first + n) & (DNS_READERS - 1);
		struct dns_reader *r = bpf_map_lookup_elem(&dns_readers, &key);

		if (r && !__sync_val_compare_and_swap(&r->busy, 0, 1))
			return r;
	}
	return NULL;
}

/* One byte of the question's name. */
static long read_name(u64 i, void *ctx)
{
	struct dns_reader *r = *(struct dns_reader **)ctx;
	u32 at, to;
	u8 byte;

	if (!r)
		return 1;
	at = r->at;
	if (at >= r->raw_len || at > NAME_MAX)
		return 1;
	keep(at);
	at &= NAME_MAX;
	byte = r->raw[at];
	r->at = at + 1;
	if (!r->left) {
		if (!byte) {
			r->ended = 1;
			return 1;
		}
		if (byte > LABEL_MAX)
			return 1;
		r->left = byte;
		if (!r->len)
			return 0;
		byte = '.';
	} else {
		r->left--;
		if (byte >= 'A' && byte <= 'Z')
			byte += 'a' - 'A';
		/* What would look like an end or a dot is part of no name that a rule has. */
		if (!byte || byte == '.')
			byte = 0xff;
	}
	to = ABI_PATH_MAX - 1 - r->len;
	keep(to);
	to &= ABI_PATH_MAX - 1;
	r->path.bytes[to] = byte;
	r->len++;
	return 0;
}

inline_always u32 load_byte(struct __sk_buff *skb, u32 at)
{
	u8 byte = 0;

	return bpf_skb_load_bytes(skb, at, &byte, 1) ? 0 : byte;
}

inline_always u32 load_port(struct __sk_buff *skb, u32 at)
{
	return load_byte(skb, at) << 8 | load_byte(skb, at + 1);
}

/* Where the DNS message begins; 0 when this is no packet with one. */
inline_always u32 find_message(struct __sk_buff *skb)
{
	u32 version = load_byte(skb, 0) >> 4, at, protocol;

	if (version == 4) {
		at = (load_byte(skb, 0) & 15) * 4;
		protocol = load_byte(skb, 9);
		/* Only the first fragment has ports. */
		if ((load_byte(skb, 6) & 0x1f) | load_byte(skb, 7))
			return 0;
	} else if (version == 6) {
		at = IPV6_HEADER;
		protocol = load_byte(skb, 6);
		for (int n = 0; n < IPV6_EXTENSIONS; n++) {
			/* Hop-by-hop, routing, destination options. */
			if (protocol != 0 && protocol != 43 && protocol != 60)
				break;
			protocol = load_byte(skb, at);
			at += (load_byte(skb, at + 1) + 1) * 8;
		}
	} else {
		return 0;
	}
	if (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP)
		return 0;
	if (load_port(skb, at + 2) != DNS_PORT)
		return 0;
	if (protocol == IPPROTO_UDP)
		return at + 8;
	/* Over TCP, two bytes of length come first. */
	at += (load_byte(skb, at + 12) >> 4) * 4;
	return at < skb->len ? at + 2 : 0;
}

/* Reads the name that is asked for into `r`. 0 when there is none that can be read. */
inline_always u32 read_question(struct __sk_buff *skb, u32 at, struct dns_reader *r)
{
	u32 len;

	r->at = 0;
	r->left = 0;
	r->len = 0;
	r->ended = 0;
	r->raw_len = 0;
	at += DNS_HEADER;
	if (at >= skb->len)
		return 0;
	len = skb->len - at;
	if (len > NAME_MAX + 1)
		len = NAME_MAX + 1;
	/* VERIFIER: from 1 to 256, for all to see. */
	len--;
	keep(len);
	len = (len & NAME_MAX) + 1;
	if (bpf_skb_load_bytes(skb, at, r->raw, len))
		return 0;
	r->raw_len = len;
	bpf_loop(NAME_MAX + 1, read_name, &r, 0);
	return r->ended && r->len <= NAME_MAX;
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
