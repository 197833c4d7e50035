/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Local sockets with a name in the tree. Who connects to one, or sends a datagram to it, talks to
 * whoever listens there: a write to the file. The kernel asks for permission to write, too.
 *
 * The hooks are given the peer and not the name by which it was found, so all names of the file are
 * judged that the workload has for it (places.h). Sockets with no name there, the abstract ones
 * among them, are no files.
 */
#ifndef GORGET_LOCAL_H
#define GORGET_LOCAL_H

#include "decide.h"

inline_always int check_peer(struct sock *peer, u32 operation)
{
	u64 dentry = 0;

	if (!peer || !(flags_anywhere & ABI_ACTIVE_FILE))
		return 0;
	read_at(&dentry, peer, struct unix_sock, path.dentry);
	return dentry ? deny_if(check(0, dentry, operation, ACCESS_WRITE, 0)) : 0;
}

int HOOK(unix_stream_connect, struct sock *sock, struct sock *peer)
{
	return check_peer(peer, ABI_OP_LOCAL_CONNECT);
}

/* Asked for each datagram, whether the socket was connected before or not. */
int HOOK(unix_may_send, struct socket *socket, struct socket *peer)
{
	return check_peer(BPF_CORE_READ(peer, sk), ABI_OP_LOCAL_CONNECT);
}

#endif
