/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A hook's program, written once and compiled twice.
 *
 * For enforce.bpf.c it is at the hook of security modules, and what it returns is what the kernel
 * does. For audit.bpf.c, where no program may be at those hooks, it is at the end of the kernel's
 * function that asks all security modules: it decides nothing any more, but sees the operation
 * with the same arguments, in the same task, before it is carried out, and knows whether a module
 * denied it.
 */
#ifndef GORGET_HOOK_H
#define GORGET_HOOK_H

#include "state.h"

#ifdef AUDIT_ONLY

/* KERNEL: functions without a result leave whatever was in the register; nobody asks then. */
inline_always void note_result(unsigned long long *ctx)
{
	u64 result = 0;
	struct task_ctx *t;
	u32 denied;

	bpf_get_func_ret(ctx, &result);
	denied = (int)result < 0;
	t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL,
				 denied ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (t)
		t->denied = denied;
	else if (denied)
		count_loss(ABI_LOSS_NO_MEMORY);
}

/* Whether a security module denied the operation that is being judged. */
inline_always int was_denied(const struct task_ctx *t)
{
	return t && t->denied;
}

/* KERNEL: security_mmap_file() works out itself which protection it will be. */
#define MMAP_ARGUMENTS struct file *file, unsigned long prot, unsigned long flags

/* clang-format off */
#define HOOK_AT(program, hook, function, args...)                                                  \
	program(unsigned long long *ctx);                                                          \
	static __always_inline int on_##program(unsigned long long *ctx, ##args);                  \
	SEC("fexit/" #function) int program(unsigned long long *ctx)                               \
	{                                                                                          \
		note_result(ctx);                                                                  \
		_Pragma("GCC diagnostic push")                                                     \
		_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")                             \
		on_##program(___bpf_ctx_cast(args));                                               \
		_Pragma("GCC diagnostic pop")                                                      \
		return 0;                                                                          \
	}                                                                                          \
	static __always_inline int on_##program(unsigned long long *ctx, ##args)
/* clang-format on */

#else

#define MMAP_ARGUMENTS                                                                             \
	struct file *file, unsigned long asked, unsigned long prot, unsigned long flags

inline_always int was_denied(const struct task_ctx *t)
{
	return 0;
}

/* clang-format off */
#define HOOK_AT(program, hook, function, args...)                                                  \
	program(unsigned long long *ctx);                                                          \
	SEC("lsm/" #hook) int BPF_PROG(program, ##args)
/* clang-format on */

#endif

/* A program that is named like its hook, which is asked by the function of that name. */
#define HOOK(program, args...) HOOK_AT(program, program, security_##program, ##args)

#endif
