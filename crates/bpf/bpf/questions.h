/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Reading the name that a packet asks for.
 */
#ifndef GORGET_QUESTIONS_H
#define GORGET_QUESTIONS_H

#include "state.h"

enum {
	NAME_MAX = 255,
	DNS_PORT = 53,
	DNS_HEADER = 12,
	DNS_RESPONSE = 0x80,
	LABEL_MAX = 63,
	IPV6_HEADER = 40,
	/* Extension headers that are skipped. */
	IPV6_EXTENSIONS = 6,
	/* Packets whose names are read at the same time. */
	DNS_READERS = 64,
};

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

#endif
