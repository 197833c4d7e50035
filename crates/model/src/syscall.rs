// SPDX-License-Identifier: Apache-2.0
//! System calls by name.
//!
//! Numbers are those of the kernel's own headers (`asm/unistd_64.h`, `asm-generic/unistd.h` as of
//! Linux 6.1): x86-64, and arm64, which uses the generic table. KubeArmor's schema lists the x86-64
//! calls up to number 334; newer ones are accepted as well.
//!
//! INVARIANT: [`TABLE`] is sorted by name, so a [`Syscall`] sorts by name too.

mod foreign;

use std::fmt;

/// A system call that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(u16);

impl Syscall {
    /// By name, lower case. `None` when there is no such call.
    pub fn from_name(name: &str) -> Option<Self> {
        let at = TABLE
            .binary_search_by(|(known, ..)| known.cmp(&name))
            .ok()?;
        u16::try_from(at).ok().map(Self)
    }

    /// By the place that [`Syscall::index`] gave.
    pub fn from_index(index: u16) -> Option<Self> {
        (usize::from(index) < TABLE.len()).then_some(Self(index))
    }

    /// Its place among all names, from 0.
    pub fn index(self) -> u16 {
        self.0
    }

    /// As in the kernel's headers, without a prefix.
    pub fn name(self) -> &'static str {
        TABLE.get(usize::from(self.0)).map_or("", |(name, ..)| name)
    }

    /// Number on x86-64; `None` when it has no such call.
    pub fn x86_64(self) -> Option<u16> {
        TABLE.get(usize::from(self.0))?.1
    }

    /// Number on arm64; `None` when it has no such call.
    pub fn aarch64(self) -> Option<u16> {
        TABLE.get(usize::from(self.0))?.2
    }

    /// What its manual page calls its two paths, in their order; `None` for a call that finds at most
    /// one. Rules are about each of the two.
    pub fn paths(self) -> Option<[&'static str; 2]> {
        Some(match self.name() {
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => ["oldpath", "newpath"],
            "mount" => ["source", "target"],
            "move_mount" => ["from", "to"],
            "pivot_root" => ["new_root", "put_old"],
            _ => return None,
        })
    }

    /// Every call, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(Self::from_index)
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Name, number on x86-64, number on arm64.
#[rustfmt::skip]
const TABLE: &[(&str, Option<u16>, Option<u16>)] = &[
    ("_sysctl", Some(156), None),
    ("accept", Some(43), Some(202)),
    ("accept4", Some(288), Some(242)),
    ("access", Some(21), None),
    ("acct", Some(163), Some(89)),
    ("add_key", Some(248), Some(217)),
    ("adjtimex", Some(159), Some(171)),
    ("afs_syscall", Some(183), None),
    ("alarm", Some(37), None),
    ("arch_prctl", Some(158), None),
    ("bind", Some(49), Some(200)),
    ("bpf", Some(321), Some(280)),
    ("brk", Some(12), Some(214)),
    ("capget", Some(125), Some(90)),
    ("capset", Some(126), Some(91)),
    ("chdir", Some(80), Some(49)),
    ("chmod", Some(90), None),
    ("chown", Some(92), None),
    ("chroot", Some(161), Some(51)),
    ("clock_adjtime", Some(305), Some(266)),
    ("clock_getres", Some(229), Some(114)),
    ("clock_gettime", Some(228), Some(113)),
    ("clock_nanosleep", Some(230), Some(115)),
    ("clock_settime", Some(227), Some(112)),
    ("clone", Some(56), Some(220)),
    ("clone3", Some(435), Some(435)),
    ("close", Some(3), Some(57)),
    ("close_range", Some(436), Some(436)),
    ("connect", Some(42), Some(203)),
    ("copy_file_range", Some(326), Some(285)),
    ("creat", Some(85), None),
    ("create_module", Some(174), None),
    ("delete_module", Some(176), Some(106)),
    ("dup", Some(32), Some(23)),
    ("dup2", Some(33), None),
    ("dup3", Some(292), Some(24)),
    ("epoll_create", Some(213), None),
    ("epoll_create1", Some(291), Some(20)),
    ("epoll_ctl", Some(233), Some(21)),
    ("epoll_ctl_old", Some(214), None),
    ("epoll_pwait", Some(281), Some(22)),
    ("epoll_pwait2", Some(441), Some(441)),
    ("epoll_wait", Some(232), None),
    ("epoll_wait_old", Some(215), None),
    ("eventfd", Some(284), None),
    ("eventfd2", Some(290), Some(19)),
    ("execve", Some(59), Some(221)),
    ("execveat", Some(322), Some(281)),
    ("exit", Some(60), Some(93)),
    ("exit_group", Some(231), Some(94)),
    ("faccessat", Some(269), Some(48)),
    ("faccessat2", Some(439), Some(439)),
    ("fadvise64", Some(221), Some(223)),
    ("fallocate", Some(285), Some(47)),
    ("fanotify_init", Some(300), Some(262)),
    ("fanotify_mark", Some(301), Some(263)),
    ("fchdir", Some(81), Some(50)),
    ("fchmod", Some(91), Some(52)),
    ("fchmodat", Some(268), Some(53)),
    ("fchown", Some(93), Some(55)),
    ("fchownat", Some(260), Some(54)),
    ("fcntl", Some(72), Some(25)),
    ("fdatasync", Some(75), Some(83)),
    ("fgetxattr", Some(193), Some(10)),
    ("finit_module", Some(313), Some(273)),
    ("flistxattr", Some(196), Some(13)),
    ("flock", Some(73), Some(32)),
    ("fork", Some(57), None),
    ("fremovexattr", Some(199), Some(16)),
    ("fsconfig", Some(431), Some(431)),
    ("fsetxattr", Some(190), Some(7)),
    ("fsmount", Some(432), Some(432)),
    ("fsopen", Some(430), Some(430)),
    ("fspick", Some(433), Some(433)),
    ("fstat", Some(5), Some(80)),
    ("fstatfs", Some(138), Some(44)),
    ("fsync", Some(74), Some(82)),
    ("ftruncate", Some(77), Some(46)),
    ("futex", Some(202), Some(98)),
    ("futex_waitv", Some(449), Some(449)),
    ("futimesat", Some(261), None),
    ("get_kernel_syms", Some(177), None),
    ("get_mempolicy", Some(239), Some(236)),
    ("get_robust_list", Some(274), Some(100)),
    ("get_thread_area", Some(211), None),
    ("getcpu", Some(309), Some(168)),
    ("getcwd", Some(79), Some(17)),
    ("getdents", Some(78), None),
    ("getdents64", Some(217), Some(61)),
    ("getegid", Some(108), Some(177)),
    ("geteuid", Some(107), Some(175)),
    ("getgid", Some(104), Some(176)),
    ("getgroups", Some(115), Some(158)),
    ("getitimer", Some(36), Some(102)),
    ("getpeername", Some(52), Some(205)),
    ("getpgid", Some(121), Some(155)),
    ("getpgrp", Some(111), None),
    ("getpid", Some(39), Some(172)),
    ("getpmsg", Some(181), None),
    ("getppid", Some(110), Some(173)),
    ("getpriority", Some(140), Some(141)),
    ("getrandom", Some(318), Some(278)),
    ("getresgid", Some(120), Some(150)),
    ("getresuid", Some(118), Some(148)),
    ("getrlimit", Some(97), Some(163)),
    ("getrusage", Some(98), Some(165)),
    ("getsid", Some(124), Some(156)),
    ("getsockname", Some(51), Some(204)),
    ("getsockopt", Some(55), Some(209)),
    ("gettid", Some(186), Some(178)),
    ("gettimeofday", Some(96), Some(169)),
    ("getuid", Some(102), Some(174)),
    ("getxattr", Some(191), Some(8)),
    ("init_module", Some(175), Some(105)),
    ("inotify_add_watch", Some(254), Some(27)),
    ("inotify_init", Some(253), None),
    ("inotify_init1", Some(294), Some(26)),
    ("inotify_rm_watch", Some(255), Some(28)),
    ("io_cancel", Some(210), Some(3)),
    ("io_destroy", Some(207), Some(1)),
    ("io_getevents", Some(208), Some(4)),
    ("io_pgetevents", Some(333), Some(292)),
    ("io_setup", Some(206), Some(0)),
    ("io_submit", Some(209), Some(2)),
    ("io_uring_enter", Some(426), Some(426)),
    ("io_uring_register", Some(427), Some(427)),
    ("io_uring_setup", Some(425), Some(425)),
    ("ioctl", Some(16), Some(29)),
    ("ioperm", Some(173), None),
    ("iopl", Some(172), None),
    ("ioprio_get", Some(252), Some(31)),
    ("ioprio_set", Some(251), Some(30)),
    ("kcmp", Some(312), Some(272)),
    ("kexec_file_load", Some(320), Some(294)),
    ("kexec_load", Some(246), Some(104)),
    ("keyctl", Some(250), Some(219)),
    ("kill", Some(62), Some(129)),
    ("landlock_add_rule", Some(445), Some(445)),
    ("landlock_create_ruleset", Some(444), Some(444)),
    ("landlock_restrict_self", Some(446), Some(446)),
    ("lchown", Some(94), None),
    ("lgetxattr", Some(192), Some(9)),
    ("link", Some(86), None),
    ("linkat", Some(265), Some(37)),
    ("listen", Some(50), Some(201)),
    ("listxattr", Some(194), Some(11)),
    ("llistxattr", Some(195), Some(12)),
    ("lookup_dcookie", Some(212), Some(18)),
    ("lremovexattr", Some(198), Some(15)),
    ("lseek", Some(8), Some(62)),
    ("lsetxattr", Some(189), Some(6)),
    ("lstat", Some(6), None),
    ("madvise", Some(28), Some(233)),
    ("mbind", Some(237), Some(235)),
    ("membarrier", Some(324), Some(283)),
    ("memfd_create", Some(319), Some(279)),
    ("memfd_secret", Some(447), Some(447)),
    ("migrate_pages", Some(256), Some(238)),
    ("mincore", Some(27), Some(232)),
    ("mkdir", Some(83), None),
    ("mkdirat", Some(258), Some(34)),
    ("mknod", Some(133), None),
    ("mknodat", Some(259), Some(33)),
    ("mlock", Some(149), Some(228)),
    ("mlock2", Some(325), Some(284)),
    ("mlockall", Some(151), Some(230)),
    ("mmap", Some(9), Some(222)),
    ("modify_ldt", Some(154), None),
    ("mount", Some(165), Some(40)),
    ("mount_setattr", Some(442), Some(442)),
    ("move_mount", Some(429), Some(429)),
    ("move_pages", Some(279), Some(239)),
    ("mprotect", Some(10), Some(226)),
    ("mq_getsetattr", Some(245), Some(185)),
    ("mq_notify", Some(244), Some(184)),
    ("mq_open", Some(240), Some(180)),
    ("mq_timedreceive", Some(243), Some(183)),
    ("mq_timedsend", Some(242), Some(182)),
    ("mq_unlink", Some(241), Some(181)),
    ("mremap", Some(25), Some(216)),
    ("msgctl", Some(71), Some(187)),
    ("msgget", Some(68), Some(186)),
    ("msgrcv", Some(70), Some(188)),
    ("msgsnd", Some(69), Some(189)),
    ("msync", Some(26), Some(227)),
    ("munlock", Some(150), Some(229)),
    ("munlockall", Some(152), Some(231)),
    ("munmap", Some(11), Some(215)),
    ("name_to_handle_at", Some(303), None),
    ("nanosleep", Some(35), Some(101)),
    ("newfstatat", Some(262), Some(79)),
    ("nfsservctl", Some(180), Some(42)),
    ("open", Some(2), None),
    ("open_by_handle_at", Some(304), None),
    ("open_tree", Some(428), Some(428)),
    ("openat", Some(257), Some(56)),
    ("openat2", Some(437), Some(437)),
    ("pause", Some(34), None),
    ("perf_event_open", Some(298), Some(241)),
    ("personality", Some(135), Some(92)),
    ("pidfd_getfd", Some(438), Some(438)),
    ("pidfd_open", Some(434), Some(434)),
    ("pidfd_send_signal", Some(424), Some(424)),
    ("pipe", Some(22), None),
    ("pipe2", Some(293), Some(59)),
    ("pivot_root", Some(155), Some(41)),
    ("pkey_alloc", Some(330), Some(289)),
    ("pkey_free", Some(331), Some(290)),
    ("pkey_mprotect", Some(329), Some(288)),
    ("poll", Some(7), None),
    ("ppoll", Some(271), Some(73)),
    ("prctl", Some(157), Some(167)),
    ("pread64", Some(17), Some(67)),
    ("preadv", Some(295), Some(69)),
    ("preadv2", Some(327), Some(286)),
    ("prlimit64", Some(302), Some(261)),
    ("process_madvise", Some(440), Some(440)),
    ("process_mrelease", Some(448), Some(448)),
    ("process_vm_readv", Some(310), Some(270)),
    ("process_vm_writev", Some(311), Some(271)),
    ("pselect6", Some(270), Some(72)),
    ("ptrace", Some(101), Some(117)),
    ("putpmsg", Some(182), None),
    ("pwrite64", Some(18), Some(68)),
    ("pwritev", Some(296), Some(70)),
    ("pwritev2", Some(328), Some(287)),
    ("query_module", Some(178), None),
    ("quotactl", Some(179), Some(60)),
    ("quotactl_fd", Some(443), Some(443)),
    ("read", Some(0), Some(63)),
    ("readahead", Some(187), Some(213)),
    ("readlink", Some(89), None),
    ("readlinkat", Some(267), Some(78)),
    ("readv", Some(19), Some(65)),
    ("reboot", Some(169), Some(142)),
    ("recvfrom", Some(45), Some(207)),
    ("recvmmsg", Some(299), Some(243)),
    ("recvmsg", Some(47), Some(212)),
    ("remap_file_pages", Some(216), Some(234)),
    ("removexattr", Some(197), Some(14)),
    ("rename", Some(82), None),
    ("renameat", Some(264), Some(38)),
    ("renameat2", Some(316), Some(276)),
    ("request_key", Some(249), Some(218)),
    ("restart_syscall", Some(219), Some(128)),
    ("rmdir", Some(84), None),
    ("rseq", Some(334), Some(293)),
    ("rt_sigaction", Some(13), Some(134)),
    ("rt_sigpending", Some(127), Some(136)),
    ("rt_sigprocmask", Some(14), Some(135)),
    ("rt_sigqueueinfo", Some(129), Some(138)),
    ("rt_sigreturn", Some(15), Some(139)),
    ("rt_sigsuspend", Some(130), Some(133)),
    ("rt_sigtimedwait", Some(128), Some(137)),
    ("rt_tgsigqueueinfo", Some(297), Some(240)),
    ("sched_get_priority_max", Some(146), Some(125)),
    ("sched_get_priority_min", Some(147), Some(126)),
    ("sched_getaffinity", Some(204), Some(123)),
    ("sched_getattr", Some(315), Some(275)),
    ("sched_getparam", Some(143), Some(121)),
    ("sched_getscheduler", Some(145), Some(120)),
    ("sched_rr_get_interval", Some(148), Some(127)),
    ("sched_setaffinity", Some(203), Some(122)),
    ("sched_setattr", Some(314), Some(274)),
    ("sched_setparam", Some(142), Some(118)),
    ("sched_setscheduler", Some(144), Some(119)),
    ("sched_yield", Some(24), Some(124)),
    ("seccomp", Some(317), Some(277)),
    ("security", Some(185), None),
    ("select", Some(23), None),
    ("semctl", Some(66), Some(191)),
    ("semget", Some(64), Some(190)),
    ("semop", Some(65), Some(193)),
    ("semtimedop", Some(220), Some(192)),
    ("sendfile", Some(40), Some(71)),
    ("sendmmsg", Some(307), Some(269)),
    ("sendmsg", Some(46), Some(211)),
    ("sendto", Some(44), Some(206)),
    ("set_mempolicy", Some(238), Some(237)),
    ("set_mempolicy_home_node", Some(450), Some(450)),
    ("set_robust_list", Some(273), Some(99)),
    ("set_thread_area", Some(205), None),
    ("set_tid_address", Some(218), Some(96)),
    ("setdomainname", Some(171), Some(162)),
    ("setfsgid", Some(123), Some(152)),
    ("setfsuid", Some(122), Some(151)),
    ("setgid", Some(106), Some(144)),
    ("setgroups", Some(116), Some(159)),
    ("sethostname", Some(170), Some(161)),
    ("setitimer", Some(38), Some(103)),
    ("setns", Some(308), Some(268)),
    ("setpgid", Some(109), Some(154)),
    ("setpriority", Some(141), Some(140)),
    ("setregid", Some(114), Some(143)),
    ("setresgid", Some(119), Some(149)),
    ("setresuid", Some(117), Some(147)),
    ("setreuid", Some(113), Some(145)),
    ("setrlimit", Some(160), Some(164)),
    ("setsid", Some(112), Some(157)),
    ("setsockopt", Some(54), Some(208)),
    ("settimeofday", Some(164), Some(170)),
    ("setuid", Some(105), Some(146)),
    ("setxattr", Some(188), Some(5)),
    ("shmat", Some(30), Some(196)),
    ("shmctl", Some(31), Some(195)),
    ("shmdt", Some(67), Some(197)),
    ("shmget", Some(29), Some(194)),
    ("shutdown", Some(48), Some(210)),
    ("sigaltstack", Some(131), Some(132)),
    ("signalfd", Some(282), None),
    ("signalfd4", Some(289), Some(74)),
    ("socket", Some(41), Some(198)),
    ("socketpair", Some(53), Some(199)),
    ("splice", Some(275), Some(76)),
    ("stat", Some(4), None),
    ("statfs", Some(137), Some(43)),
    ("statx", Some(332), Some(291)),
    ("swapoff", Some(168), Some(225)),
    ("swapon", Some(167), Some(224)),
    ("symlink", Some(88), None),
    ("symlinkat", Some(266), Some(36)),
    ("sync", Some(162), Some(81)),
    ("sync_file_range", Some(277), Some(84)),
    ("syncfs", Some(306), Some(267)),
    ("sysfs", Some(139), None),
    ("sysinfo", Some(99), Some(179)),
    ("syslog", Some(103), Some(116)),
    ("tee", Some(276), Some(77)),
    ("tgkill", Some(234), Some(131)),
    ("time", Some(201), None),
    ("timer_create", Some(222), Some(107)),
    ("timer_delete", Some(226), Some(111)),
    ("timer_getoverrun", Some(225), Some(109)),
    ("timer_gettime", Some(224), Some(108)),
    ("timer_settime", Some(223), Some(110)),
    ("timerfd_create", Some(283), Some(85)),
    ("timerfd_gettime", Some(287), Some(87)),
    ("timerfd_settime", Some(286), Some(86)),
    ("times", Some(100), Some(153)),
    ("tkill", Some(200), Some(130)),
    ("truncate", Some(76), Some(45)),
    ("tuxcall", Some(184), None),
    ("umask", Some(95), Some(166)),
    ("umount2", Some(166), Some(39)),
    ("uname", Some(63), Some(160)),
    ("unlink", Some(87), None),
    ("unlinkat", Some(263), Some(35)),
    ("unshare", Some(272), Some(97)),
    ("uselib", Some(134), None),
    ("userfaultfd", Some(323), Some(282)),
    ("ustat", Some(136), None),
    ("utime", Some(132), None),
    ("utimensat", Some(280), Some(88)),
    ("utimes", Some(235), None),
    ("vfork", Some(58), None),
    ("vhangup", Some(153), Some(58)),
    ("vmsplice", Some(278), Some(75)),
    ("vserver", Some(236), None),
    ("wait4", Some(61), Some(260)),
    ("waitid", Some(247), Some(95)),
    ("write", Some(1), Some(64)),
    ("writev", Some(20), Some(66)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_name_finds_itself() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        assert!(Syscall::all().all(|call| Syscall::from_name(call.name()) == Some(call)));
    }

    #[test]
    fn numbers_are_those_of_the_architectures() {
        let unlink = Syscall::from_name("unlink").unwrap();
        assert_eq!((unlink.x86_64(), unlink.aarch64()), (Some(87), None));
        let rmdir = Syscall::from_name("unlinkat").unwrap();
        assert_eq!((rmdir.x86_64(), rmdir.aarch64()), (Some(263), Some(35)));
    }

    #[test]
    fn every_number_of_the_schema_has_a_name() {
        let known = Syscall::all()
            .filter_map(Syscall::x86_64)
            .filter(|number| *number <= 334);
        assert_eq!(known.count(), 335);
    }
}
