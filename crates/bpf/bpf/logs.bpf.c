// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that tell what workloads do. They decide nothing, and are loaded and attached only
 * while something of some workload is to be visible; see log_hooks.h for what they see, and logs.h
 * for what becomes of it. They use the tables of the programs that decide to know whose task it is,
 * and what its paths are.
 */
#include "log_hooks.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
