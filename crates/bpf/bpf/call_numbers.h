/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which system call a task makes, however its kind of program numbers them.
 */
#ifndef GORGET_CALL_NUMBERS_H
#define GORGET_CALL_NUMBERS_H

#include "path.h"

/* What is known of the calls by their numbers, written by the agent before loading. */
const volatile u32 calls_known[ABI_CALLS_TABLES * ABI_CALL_NUMBERS];

inline_always u32 call_row(u32 table, u64 number)
{
	u32 at = table * ABI_CALL_NUMBERS + (u32)number;

	if (number >= ABI_CALL_NUMBERS)
		return 0;
	keep(at);
	at &= ABI_CALLS_TABLES * ABI_CALL_NUMBERS - 1;
	return calls_known[at];
}

#if defined(__TARGET_ARCH_x86)

/* The call that a task's registers say; 0 for none that has a name. */
inline_always u32 call_in(u64 regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 number = 0, first = 0;
	u32 row;

	read_at(&number, regs, struct pt_regs, orig_ax);
	if (!(BPF_CORE_READ(task, thread_info.status) & TS_COMPAT))
		return call_row(ABI_CALLS_NATIVE, number & ~(u64)X32_SYSCALL_BIT);
	row = call_row(ABI_CALLS_COMPAT, (u32)number);
	if (!(row & (ABI_CALL_IS_SOCKETCALL | ABI_CALL_IS_IPC)))
		return row;
	read_at(&first, regs, struct pt_regs, bx);
	return call_row(row & ABI_CALL_IS_IPC ? ABI_CALLS_IPC : ABI_CALLS_SOCKET, first & 0xffff);
}

#elif defined(__TARGET_ARCH_arm64)

/* The call that a task's registers say; 0 for none that has a name. Those of 32-bit programs have
 * other numbers, and no names here. */
inline_always u32 call_in(u64 regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	s32 number = 0;

	if (BPF_CORE_READ(task, thread_info.flags) >> TIF_32BIT & 1)
		return 0;
	read_at(&number, regs, struct pt_regs, syscallno);
	return call_row(ABI_CALLS_NATIVE, (u32)number);
}

#endif

#endif
