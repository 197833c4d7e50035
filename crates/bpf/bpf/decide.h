/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a hook's arguments to a decision that is carried out: who is it (identity.h), may an earlier
 * answer be given again, what are the object's names (path.h, places.h), what does the workload's
 * ruleset say of them (match.h), must somebody be told (event.h).
 */
#ifndef GORGET_DECIDE_H
#define GORGET_DECIDE_H

#include "hook.h"
#include "places.h"
#include "match.h"
#include "event.h"

enum access {
	ACCESS_READ = 1,
	ACCESS_WRITE = 2,
	ACCESS_TREE = 4,
	/* For the short way: running it, by the rules for processes. */
	ACCESS_PROCESS = 8,
	/* For the short way: it will be accessed again. */
	ACCESS_AGAIN = 16,
};

enum request_flag {
	/* Judged by the rules for processes, too: a file they block gets another name. Only a rule
	   that blocks counts. */
	REQUEST_CARRIED = 1,
	/* An object that has no name in the workload is not the workload's business. */
	REQUEST_NAMED_ONLY = 2,
	/* The kernel does not know where on its file system the object is: it may be any of what is
	   below a mount. */
	REQUEST_LOST = 4,
	/* `dentry` is a path as text, 0 for the root directory. */
	REQUEST_TEXT = 8,
};

/* Longest path that is judged as text; its length may seem to reach this far past the buffer. */
#define TEXT_MAX 512

/* What a decision is about. Kernel addresses are numbers here: they are only probe-read. */
struct request {
	/* 0: it is not known by which mount the object was reached. */
	u64 vfsmount;
	u64 dentry;
	u64 inode;
	/* VERIFIER: 16 bits, because the stack of all nested calls is short. */
	u16 operation;
	u16 access;
	u16 flags;
	/* For objects that are no paths: enum abi_automaton, and the object. */
	u16 automaton;
	u32 bytes;
	/* Filled in on the way. */
	u32 workload;
	u32 source;
	u32 variant;
	u64 active;
};

inline_always int is_process(u32 operation)
{
	return operation == ABI_OP_EXEC || operation == ABI_OP_LOAD;
}

inline_always u32 automaton_of(struct request *q)
{
	if (q->bytes)
		return q->automaton;
	if (is_process(q->operation) || (q->flags & REQUEST_CARRIED))
		return ABI_AUTOMATON_PROCESS;
	return ABI_AUTOMATON_FILE;
}

inline_always u32 is_owner(u64 inode)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 uid = 0;

	/* What does not exist yet will belong to who creates it. */
	if (!inode)
		return ABI_VARIANT_OWNER;
	read_at(&uid, inode, struct inode, i_uid.val);
	return uid == BPF_CORE_READ(task, cred, fsuid.val) ? ABI_VARIANT_OWNER : 0;
}

/* LOOKUP_TERMINAL when the task has a controlling terminal and some rule asks for that. */
inline_always u32 terminal_flag(u64 active)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!has_flag(active, ABI_ACTIVE_TERMINAL) || !BPF_CORE_READ(task, signal, tty))
		return 0;
	return LOOKUP_TERMINAL;
}

/* === remembered answers === */

inline_always void describe(struct remembered *r, struct request *q, u32 renames, u32 mounts)
{
	r->dentry = q->dentry;
	r->mount = q->vfsmount;
	r->ruleset = (u32)q->active;
	r->source = q->source | terminal_flag(q->active) << 24;
	r->rename_seq = renames;
	r->mount_seq = mounts;
	r->since = ticks();
	read_at(&r->parent, q->dentry, struct dentry, d_parent);
	read_at(&r->name_hash, q->dentry, struct dentry, d_name.hash_len);
	identify(q->inode, &r->ino, &r->dev);
}

/* dentry, mount, parent, name and inode are the same, and nothing was renamed or mounted since:
 * so the path is the same. */
inline_always int same_object(const struct remembered *a, const struct remembered *b)
{
	return is_fresh(a->since) && a->dentry == b->dentry && a->mount == b->mount &&
	       a->parent == b->parent && a->name_hash == b->name_hash && a->ino == b->ino &&
	       a->dev == b->dev && a->ruleset == b->ruleset && a->source == b->source &&
	       a->rename_seq == b->rename_seq && a->mount_seq == b->mount_seq;
}

inline_always struct remembered *remembered_at(struct task_ctx *t, const struct remembered *r)
{
	u32 i = r->ino;

	keep(i);
	i &= ABI_REMEMBERED - 1;
	return &t->remembered[i];
}

/*
 * Whether the request may go on without being decided again. Every opening of an audited file is
 * reported, but not every reading and writing of it while it is open.
 */
inline_always int is_remembered(const struct remembered *r, const struct remembered *now,
				struct request *q, u32 wanted)
{
	u32 known = r->passes;

	if (q->operation == ABI_OP_PERMISSION)
		known |= r->audited;
	return (known & wanted) == wanted && same_object(r, now);
}

inline_always u32 variant_bits(struct request *q)
{
	u32 bits = 1u << (q->variant & 7);

	if (q->access == (ACCESS_READ | ACCESS_WRITE))
		bits |= 1u << (q->variant & ABI_VARIANT_OWNER);
	return bits;
}

inline_always int may_be_remembered(struct request *q)
{
	return q->vfsmount && q->inode && !is_process(q->operation) && !(q->access & ACCESS_TREE) &&
	       !q->flags;
}

/* === asking the ruleset === */

/* What the task runs: a file's dentry on a mount, 0 when it is not what the kernel started. */
inline_always void subject_of(struct task_ctx *t, u64 *vfsmount, u64 *dentry)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 exe, inode = 0, ino = 0;
	u32 dev = 0;

	*dentry = 0;
	if (t->loaded_ino) {
		*vfsmount = t->loaded_vfsmount;
		read_at(&inode, t->loaded_dentry, struct dentry, d_inode);
		identify(inode, &ino, &dev);
		if (ino == t->loaded_ino && dev == t->loaded_dev)
			*dentry = t->loaded_dentry;
		return;
	}
	exe = (u64)BPF_CORE_READ(task, mm, exe_file);
	if (!exe)
		return;
	read_at(vfsmount, exe, struct file, f_path.mnt);
	read_at(dentry, exe, struct file, f_path.dentry);
	if (!t->exe_ino)
		return;
	read_at(&inode, *dentry, struct dentry, d_inode);
	identify(inode, &ino, &dev);
	if (ino != t->exe_ino || dev != t->exe_dev)
		*dentry = 0;
}

/*
 * Which sources of the ruleset the task's image is one of. Worked out once for each image and
 * ruleset, from the image that the kernel started and not from what the task says it is.
 */
verified_once int update_source(struct task_ctx *t, struct scratch *s, struct request *q)
{
	u64 vfsmount = 0, dentry = 0;
	struct lookup *l;

	if (!t || !s || !q)
		return 0;
	l = &s->lookup;
	l->automaton = ABI_AUTOMATON_SOURCE;
	l->flags = LOOKUP_NOTHING;
	s->walk.workload = q->workload;
	subject_of(t, &vfsmount, &dentry);
	if (dentry) {
		if (locate(s, vfsmount, dentry)) {
			l->flags = 0;
			l->off = s->walk.off;
		} else if (s->walk.status != WALK_NAMELESS) {
			count_loss(ABI_LOSS_PATH_UNKNOWN);
		}
	}
	if (lookup(q->active, &s->path, l))
		return 1;
	t->source = l->answer;
	t->source_ruleset = (u32)q->active;
	return 0;
}

inline_always int is_branch(u32 answer)
{
	return ((answer >> ABI_CAUSE_SHIFT) & ABI_CAUSE_MASK) == ABI_CAUSE_BRANCH;
}

/* Which of two names' answers counts. What is not decided yet may become a denial. */
inline_always u32 strictness(u32 answer)
{
	return is_branch(answer) ? ABI_OUTCOME_BLOCK : answer & ABI_OUTCOME_MASK;
}

/* Counts what the rules say of the name that was built: the strictest answer is kept. */
inline_always int take_answer(struct scratch *s, struct request *q, u64 vfsmount, u64 dentry)
{
	struct finding *f = &s->finding;

	s->lookup.off = s->walk.off;
	if (lookup(q->active, &s->path, &s->lookup))
		return 1;
	if (!f->names || strictness(s->lookup.answer) > strictness(f->answer)) {
		f->answer = s->lookup.answer;
		f->vfsmount = vfsmount;
		f->dentry = dentry;
	}
	f->names++;
	return 0;
}

/*
 * KERNEL: since 5.8 each mount of proc is a file system of its own, with the same files. Whatever
 * is in one is judged under its name in the first, too.
 */
verified_once int judge_in_proc(struct scratch *s, struct request *q)
{
	u64 sb = 0, magic = 0, root = 0;

	if (!s || !q)
		return 0;
	read_at(&sb, q->dentry, struct dentry, d_sb);
	read_at(&magic, sb, struct super_block, s_magic);
	if (magic != PROC_SUPER_MAGIC)
		return 0;
	read_at(&root, sb, struct super_block, s_root);
	s->finding.walked = 0;
	walk_proc(s, q->dentry, root);
	if (!s->walk.rooted)
		return 0;
	return take_answer(s, q, q->vfsmount, q->dentry);
}

/* Judges one name of the object: the one on this mount, if it leads to the workload's root. */
verified_once int judge(struct scratch *s, struct request *q, u64 vfsmount)
{
	u64 dentry;

	if (!s || !q)
		return 0;
	dentry = q->dentry;
	/* KERNEL: a file opened by its handle need not be connected to the tree. */
	if (q->flags & REQUEST_LOST)
		read_at(&dentry, vfsmount, struct vfsmount, mnt_root);
	s->finding.walked = vfsmount;
	walk_path(s, vfsmount, dentry);
	if (!s->walk.rooted)
		return 0;
	return take_answer(s, q, vfsmount, dentry);
}

/* Puts a path that a hook was given as text into the buffer, if it is not too long for that. */
inline_always void take_text(struct scratch *s, u64 text)
{
	struct walk *w = &s->walk;
	u32 off = ABI_PATH_MAX - 1, len;
	long read;

	w->status = WALK_TOO_LONG;
	w->off = off;
	if (!text) {
		s->path.bytes[ABI_PATH_MAX - 1] = '/';
		w->status = WALK_DONE;
		return;
	}
	read = bpf_probe_read_kernel_str(s->path.bytes, TEXT_MAX, (void *)text);
	if (read < 2 || read >= TEXT_MAX)
		return;
	len = (read - 1) & (TEXT_MAX - 1);
	off = ABI_PATH_MAX - len;
	keep(off);
	off &= ABI_PATH_MAX - 1;
	if (bpf_probe_read_kernel(s->path.bytes + off, len, (void *)text))
		return;
	w->off = off;
	w->status = WALK_DONE;
}

/*
 * Judges the object under all its names: usually there is one, by the mount it was reached by. A
 * mount that a task of the workload made, or one that does not lead to the workload's root, may
 * show what has another name elsewhere; the strictest answer counts.
 */
verified_once int judge_names(struct scratch *s, struct request *q)
{
	struct finding *f;
	u32 aliased = 0;
	u64 vfsmount;

	if (!s || !q)
		return 1;
	f = &s->finding;
	f->names = 0;
	f->answer = 0;
	if (q->flags & REQUEST_TEXT) {
		take_text(s, q->dentry);
		s->lookup.off = s->walk.off;
		if (s->walk.status != WALK_DONE)
			return 0;
		f->names = 1;
		if (lookup(q->active, &s->path, &s->lookup))
			return 1;
		f->answer = s->lookup.answer;
		return 0;
	}
	if (q->vfsmount && !(q->flags & REQUEST_LOST)) {
		if (judge(s, q, q->vfsmount))
			return 1;
		aliased = s->walk.aliased;
	}
	if (f->names && !aliased)
		return 0;
	if (judge_in_proc(s, q))
		return 1;
	first_place(s, q->dentry);
	for (int i = 0; i < ABI_NAMES; i++) {
		vfsmount = next_place(s);
		if (!vfsmount)
			return 0;
		if (vfsmount != q->vfsmount && judge(s, q, vfsmount))
			return 1;
	}
	count_loss(ABI_LOSS_PATH_UNKNOWN);
	return 0;
}

/* What the ruleset says of an object that has no name in the workload. */
inline_always int judge_nameless(struct scratch *s, struct request *q)
{
	s->lookup.flags |= LOOKUP_NOTHING;
	if (q->flags & (REQUEST_NAMED_ONLY | REQUEST_TEXT)) {
		s->finding.answer = 0;
		return 0;
	}
	if (s->walk.status != WALK_NAMELESS)
		count_loss(ABI_LOSS_PATH_UNKNOWN);
	if (lookup(q->active, &s->path, &s->lookup))
		return 1;
	s->finding.answer = s->lookup.answer;
	return 0;
}

/* Asks the ruleset in force. 1 when it was switched between two steps. */
inline_always int ask(struct task_ctx *t, struct scratch *s, struct request *q)
{
	struct lookup *l = &s->lookup;
	u32 links = 1;

	if (q->operation == ABI_OP_EXEC && t && t->entering == q->workload &&
	    t->workload != q->workload) {
		q->source = 0;
	} else if (t) {
		if (t->source_ruleset != (u32)q->active && update_source(t, s, q))
			return 1;
		q->source = t->source;
	}
	l->source = q->source;
	l->variant = q->variant;
	l->bytes = q->bytes;
	l->flags = terminal_flag(q->active);
	l->automaton = automaton_of(q);
	s->finding.names = 0;
	if (q->bytes) {
		l->flags |= LOOKUP_BYTES;
		if (lookup(q->active, &s->path, l))
			return 1;
		s->finding.answer = l->answer;
		return 0;
	}
	if (q->access == (ACCESS_READ | ACCESS_WRITE))
		l->flags |= LOOKUP_READ_TOO;
	s->walk.status = WALK_NAMELESS;
	if (is_process(q->operation))
		read_at(&links, q->inode, struct inode, i_nlink);
	/* An image that was unlinked has no name any more. */
	if (links && judge_names(s, q))
		return 1;
	return s->finding.names ? 0 : judge_nameless(s, q);
}

/* No memory to build a path in: what the ruleset says of an object that nothing is known of. */
verified_once u32 ask_blind(struct request *q)
{
	struct lookup l = {.flags = LOOKUP_NOTHING};

	if (!q)
		return 0;
	count_loss(ABI_LOSS_NO_MEMORY);
	l.variant = q->variant;
	l.automaton = automaton_of(q);
	if (q->bytes) {
		l.bytes = q->bytes;
		l.flags = LOOKUP_BYTES;
	}
	if (lookup(q->active, NULL, &l))
		return 0;
	return l.answer;
}

/* === carrying it out === */

inline_always int carry_out(u64 active, u32 verdict)
{
	if ((verdict & ABI_OUTCOME_MASK) != ABI_OUTCOME_BLOCK)
		return 0;
	return has_flag(active, ABI_ACTIVE_AUDITED) ? 0 : 1;
}

/* What is to be done about a decision. */
enum todo {
	DENY = 1,
	/* Send the event that `struct scratch` describes. */
	TELL = 2,
};

/*
 * A decision about an execve that depends on arguments which cannot be read yet is kept for
 * bprm_committed_creds. Everywhere else, and for the second of two at once (a script and its
 * interpreter, whose arguments begin with the script), they count as in no list.
 */
inline_always int wait_for_arguments(struct task_ctx *t, struct scratch *s, struct request *q)
{
	struct lookup *l = &s->lookup;

	if (t && !was_denied(t) && !t->pending_active && q->operation == ABI_OP_EXEC && !q->flags) {
		t->pending = s->finding.answer;
		t->pending_active = q->active;
		return 1;
	}
	__builtin_memset(l->lists, 0, sizeof(l->lists));
	l->flags |= LOOKUP_ARGUMENTS;
	l->answer = s->finding.answer;
	if (resume(q->active, l))
		count_loss(ABI_LOSS_RULESET_MISSING);
	s->finding.answer = l->answer;
	return 0;
}

/* What an event will say, with the path that was decided by in the buffer. */
inline_always void prepare_event(struct task_ctx *t, struct scratch *s, struct request *q)
{
	struct decision *d = &s->decision;
	struct finding *f = &s->finding;

	d->workload = q->workload;
	d->ruleset = (u32)q->active;
	d->verdict = f->answer;
	d->operation = q->operation;
	/* What a preset is about is the path that was built for it, if any. */
	d->bytes = q->automaton == ABI_AUTOMATON_PRESET ? 0 : q->bytes;
	d->flags = 0;
	if (has_flag(q->active, ABI_ACTIVE_AUDITED) && !was_denied(t))
		d->flags = ABI_EVENT_AUDITED;
	d->object_name = 0;
	if (q->flags & REQUEST_TEXT)
		return;
	read_at(&d->object_name, q->dentry, struct dentry, d_name.name);
	if (f->names && f->walked != f->vfsmount)
		walk_path(s, f->vfsmount, f->dentry);
}

inline_always void remember(struct remembered *slot, struct remembered *now, struct request *q,
			    u32 answer)
{
	/* Only where the path was the same before and after: the counters were read before. */
	if ((now->rename_seq | now->mount_seq) & 1)
		return;
	if (same_object(slot, now)) {
		now->passes = slot->passes;
		now->audited = slot->audited;
	} else {
		now->passes = 0;
		now->audited = 0;
	}
	if ((answer & ABI_OUTCOME_MASK) == ABI_OUTCOME_PASS)
		now->passes |= variant_bits(q);
	else
		now->audited |= variant_bits(q);
	*slot = *now;
}

/* What somebody else denied is no news, unless the rules deny it, too. */
inline_always int is_to_be_told(struct task_ctx *t, u32 answer)
{
	u32 outcome = answer & ABI_OUTCOME_MASK;

	return was_denied(t) ? outcome == ABI_OUTCOME_BLOCK : outcome != ABI_OUTCOME_PASS;
}

verified_once int decide(struct task_ctx *t, struct request *q)
{
	struct remembered *now = NULL, *slot = NULL;
	struct scratch *s;
	int missing, todo = 0;
	u32 answer;

	if (!q)
		return 0;
	/* Without the kernel's counters nothing can be remembered. */
	if (&rename_lock && &mount_lock && t && may_be_remembered(q) &&
	    t->source_ruleset == (u32)q->active) {
		q->source = t->source;
		now = &t->candidate;
		describe(now, q, sequence(&rename_lock), sequence(&mount_lock));
		slot = remembered_at(t, now);
		if (is_remembered(slot, now, q, variant_bits(q)))
			return 0;
	}
	s = own_scratch(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s)
		return carry_out(q->active, ask_blind(q)) ? DENY : 0;
	s->walk.workload = q->workload;
	missing = ask(t, s, q);
	if (missing) {
		/* The table was switched under us, and its slot used again: ask the new one. */
		q->active = active_of(q->workload);
		if (!q->active)
			return 0;
		missing = ask(t, s, q);
		slot = NULL;
	}
	if (missing) {
		count_loss(ABI_LOSS_RULESET_MISSING);
		return 0;
	}
	if (is_branch(s->finding.answer) && wait_for_arguments(t, s, q)) {
		prepare_event(t, s, q);
		s->decision.flags |= ABI_EVENT_PENDING;
		return TELL;
	}
	answer = s->finding.answer;
	if ((q->flags & REQUEST_CARRIED) &&
	    ((answer & ABI_OUTCOME_MASK) != ABI_OUTCOME_BLOCK ||
	     ((answer >> ABI_CAUSE_SHIFT) & ABI_CAUSE_MASK) != ABI_CAUSE_RULE))
		return 0;
	if (is_to_be_told(t, answer)) {
		prepare_event(t, s, q);
		todo |= TELL;
	}
	if (carry_out(q->active, answer))
		return todo | DENY;
	if (slot && now && s->walk.status == WALK_DONE)
		remember(slot, now, q, answer);
	return todo;
}

/*
 * KERNEL: from 6.12 on a hook has to return 0 or an error number, and the verifier has to see it:
 * it sees branches, but not the arithmetic that clang makes of them unless there is something to
 * do.
 */
inline_always int deny_if(int denied)
{
	if (!denied)
		return 0;
	asm volatile("");
	return -EACCES;
}

/* Not nested in decide(): the stack is short. */
inline_always int finish(int todo)
{
	if (todo & TELL)
		emit();
	return deny_if(todo & DENY);
}

/* === entries for hooks === */

enum connection {
	CONNECTED,
	NAMELESS,
	LOST,
};

/*
 * Pipes, sockets and memfds are no files of the tree: no rule can name them, and an allow list is
 * about the tree. Running a memfd is another matter, and judged as a process. A file that was
 * opened by its handle may not be connected to the tree either, but it is in one.
 */
inline_always int connection_of(u64 dentry)
{
	u64 parent = 0, sb = 0, root = 0, flags = 0, magic = 0;

	read_at(&parent, dentry, struct dentry, d_parent);
	if (parent != dentry)
		return CONNECTED;
	read_at(&sb, dentry, struct dentry, d_sb);
	read_at(&root, sb, struct super_block, s_root);
	if (root == dentry)
		return CONNECTED;
	read_at(&flags, sb, struct super_block, s_flags);
	read_at(&magic, sb, struct super_block, s_magic);
	return (flags & SB_NOUSER_BIT) || magic == HUGETLBFS_MAGIC ? NAMELESS : LOST;
}

/* Whose request it is. The task's memory, NULL when it has none. */
inline_always struct task_ctx *identify_subject(struct request *q)
{
	struct task_ctx *t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);

	if (!t && (bound_cgroups || active_of(0)))
		t = current_ctx();
	if (t)
		q->workload = t->workload;
	else if (bound_cgroups)
		q->workload = current_cgroup_workload();
	q->active = active_of(q->workload);
	return t;
}

/* The current task's workload. Whoever is in one has memory that says so. */
inline_always u32 current_workload(void)
{
	struct task_ctx *t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);

	return t ? t->workload : 0;
}

inline_always int is_kernel_thread(void)
{
	return bpf_get_current_task_btf()->flags & PF_KTHREAD;
}

/* What a ruleset must have something to say about to be asked. */
inline_always u32 wanted_flags(u32 access, u32 flags)
{
	if (flags & REQUEST_CARRIED)
		return ABI_ACTIVE_PROCESS;
	return access & ACCESS_TREE ? ABI_ACTIVE_FILE | ABI_ACTIVE_TREE : ABI_ACTIVE_FILE;
}

/* Every file hook; `flags` is of enum request_flag. */
verified_once int check(u64 vfsmount, u64 dentry, u32 operation, u32 access, u32 flags)
{
	struct request q = {};
	struct task_ctx *t;
	u32 connection;

	if (!(flags_anywhere & wanted_flags(access, flags)) || is_kernel_thread())
		return 0;
	t = identify_subject(&q);
	if (!has_flag(q.active, wanted_flags(access, flags)))
		return 0;
	q.vfsmount = vfsmount;
	q.dentry = dentry;
	q.operation = operation;
	q.access = access;
	q.flags = flags;
	if (!(flags & REQUEST_TEXT)) {
		read_at(&q.inode, dentry, struct dentry, d_inode);
		connection = connection_of(dentry);
		if (connection == NAMELESS)
			return 0;
		if (connection == LOST)
			q.flags |= REQUEST_LOST;
		q.variant = is_owner(q.inode);
	}
	if (flags & REQUEST_CARRIED)
		return finish(decide(t, &q));
	if (q.flags & REQUEST_LOST)
		q.access |= ACCESS_TREE;
	if (q.access & (ACCESS_WRITE | ACCESS_TREE))
		q.variant |= ABI_VARIANT_WRITE;
	if (q.access & ACCESS_TREE)
		q.variant |= ABI_VARIANT_TREE;
	return finish(decide(t, &q));
}

/* A program is about to run from `dentry`; NULL `t`: nothing is known of the task. */
verified_once int check_program(u64 vfsmount, u64 dentry, u32 operation, u32 flags)
{
	struct request q = {};
	struct task_ctx *t;

	if (!(flags_anywhere & ABI_ACTIVE_PROCESS))
		return 0;
	t = identify_subject(&q);
	if (operation == ABI_OP_EXEC && t && t->entering)
		q.workload = t->entering;
	q.active = active_of(q.workload);
	if (!has_flag(q.active, ABI_ACTIVE_PROCESS))
		return 0;
	q.vfsmount = vfsmount;
	q.dentry = dentry;
	q.operation = operation;
	q.flags = flags;
	read_at(&q.inode, dentry, struct dentry, d_inode);
	q.variant = is_owner(q.inode);
	return finish(decide(t, &q));
}

/* Every hook whose object is a few bytes. */
verified_once int check_bytes(u32 automaton, u32 operation, u32 bytes)
{
	struct request q = {};
	struct task_ctx *t;
	u32 wanted =
	    automaton == ABI_AUTOMATON_NETWORK ? ABI_ACTIVE_NETWORK : ABI_ACTIVE_CAPABILITY;

	if (!(flags_anywhere & wanted) || is_kernel_thread())
		return 0;
	t = identify_subject(&q);
	if (!has_flag(q.active, wanted))
		return 0;
	q.automaton = automaton;
	q.operation = operation;
	q.bytes = bytes;
	return finish(decide(t, &q));
}

/* For hooks that get a directory and a name in it. */
inline_always int check_entry(const struct path *dir, struct dentry *dentry, u32 operation,
			      u32 access)
{
	u64 vfsmount = 0;

	read_at(&vfsmount, dir, struct path, mnt);
	return deny_if(check(vfsmount, address(dentry), operation, access, 0));
}

/* For hooks that get what is acted upon. */
inline_always int check_path(const struct path *path, u32 operation, u32 access)
{
	u64 vfsmount = 0, dentry = 0;

	read_at(&vfsmount, path, struct path, mnt);
	read_at(&dentry, path, struct path, dentry);
	return deny_if(check(vfsmount, dentry, operation, access, 0));
}

/* A file gets another name: what a rule for processes blocks must not. */
inline_always int check_carried(const struct path *dir, struct dentry *dentry, u32 operation)
{
	u64 vfsmount = 0;

	read_at(&vfsmount, dir, struct path, mnt);
	return deny_if(check(vfsmount, address(dentry), operation, 0, REQUEST_CARRIED));
}

#endif
