// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * A program that lets everything pass, to find out whether one can be at a hook of security
 * modules.
 *
 * It is at the hook that is asked least: by syslog(2), for the kernel's own log.
 */
#include "ktypes.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* VERIFIER: no argument is looked at, so none has a type. */
SEC("lsm/syslog") int syslog(void *ctx)
{
	return 0;
}
