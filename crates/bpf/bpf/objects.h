/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Hooks whose objects are a few bytes and no path: sockets and capabilities.
 *
 * The bytes are those of `objects.rs` in the engine: never 0, so that a word of them ends with its
 * first 0.
 */
#ifndef GORGET_OBJECTS_H
#define GORGET_OBJECTS_H

#include "decide.h"

/* === capabilities === */

/* What the kernel asks only to know, and does not log, is no use of a capability. */
int HOOK(capable, const struct cred *cred, struct user_namespace *ns, int cap, unsigned int opts)
{
	if ((opts & CAP_OPT_NOAUDIT) || !(flags_anywhere & ABI_ACTIVE_CAPABILITY))
		return 0;
	return deny_if(check_bytes(ABI_AUTOMATON_CAPABILITY, ABI_OP_CAPABLE, cap + 1));
}

/* === sockets === */

enum {
	AF_PACKET = 17,
	IPPROTO_MPTCP = 262,
	LAST_PROTOCOL = 254,
};

inline_always int check_socket(u32 family, u32 type, u32 protocol, u32 operation)
{
	if (family == AF_PACKET)
		protocol = 0;
	else if (protocol == IPPROTO_MPTCP)
		protocol = IPPROTO_TCP;
	else if (protocol > LAST_PROTOCOL)
		protocol = LAST_PROTOCOL;
	family &= 0x7f;
	type &= 0xf;
	return deny_if(check_bytes(ABI_AUTOMATON_NETWORK, operation,
				   (family + 1) | (type + 1) << 8 | (protocol + 1) << 16));
}

inline_always int check_sock(struct socket *socket, u32 operation)
{
	struct sock *sk = socket->sk;

	if (!sk || !(flags_anywhere & ABI_ACTIVE_NETWORK))
		return 0;
	return check_socket(BPF_CORE_READ(sk, __sk_common.skc_family), (u16)socket->type,
			    BPF_CORE_READ(sk, sk_protocol), operation);
}

int HOOK(socket_create, int family, int type, int protocol, int kern)
{
	if (kern || !(flags_anywhere & ABI_ACTIVE_NETWORK))
		return 0;
	return check_socket(family, type, protocol, ABI_OP_SOCKET_CREATE);
}

int HOOK(socket_bind, struct socket *socket, struct sockaddr *address, int len)
{
	return check_sock(socket, ABI_OP_SOCKET_BIND);
}

int HOOK(socket_connect, struct socket *socket, struct sockaddr *address, int len)
{
	return check_sock(socket, ABI_OP_SOCKET_CONNECT);
}

int HOOK(socket_listen, struct socket *socket, int backlog)
{
	return check_sock(socket, ABI_OP_SOCKET_LISTEN);
}

int HOOK(socket_accept, struct socket *socket, struct socket *new)
{
	return check_sock(socket, ABI_OP_SOCKET_ACCEPT);
}

#endif
