// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs for kernels without BPF LSM: the same decisions, about the same operations, told the
 * same way, and carried out by nobody. See hook.h.
 */
#define AUDIT_ONLY
#include "enforce.bpf.c"
