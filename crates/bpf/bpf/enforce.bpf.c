// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The programs that enforce. One program for each hook, for all policies and all workloads: adding
 * a policy adds table entries, never programs. A denied operation returns -EACCES.
 *
 * Every hook comes down to check(), check_program() or check_bytes() in decide.h. The agent shares
 * with these programs what abi.h describes: it writes `workloads`, `cgroups` and the ruleset tables
 * and reads `alerts` and `losses`.
 */
#include "processes.h"
#include "presets.h"
#include "files.h"
#include "metadata.h"
#include "mounts.h"
#include "objects.h"
#include "local.h"
#include "dns.h"
#include "calls.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Types that no map mentions, so that the Rust side gets them too. */
const volatile struct {
	struct ev_decision event;
	struct ev_starting starting;
	struct ev_log_head log_head;
	struct ev_log log;
	struct ev_repeats repeats;
	struct rs_header header;
	struct rs_row row;
	struct rs_branch branch;
	enum abi_limit limit;
	enum abi_class class;
	enum abi_class_bytes class_bytes;
	enum abi_automaton automaton;
	enum abi_outcome outcome;
	enum abi_cause cause;
	enum abi_verdict verdict;
	enum abi_variant variant;
	enum abi_active active;
	enum abi_loss loss;
	enum abi_operation operation;
	enum abi_event_flag event_flag;
	enum abi_guard guard;
	enum abi_call call;
	enum abi_visible visible;
	enum abi_log log_kind;
	enum abi_log_flag log_flag;
	enum abi_log_count log_count;
} anchors SEC(".rodata.abi") = {};
