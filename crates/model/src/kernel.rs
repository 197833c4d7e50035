// SPDX-License-Identifier: Apache-2.0
//! What the kernel reports, decoded. The byte layout is `crates/bpf/bpf/abi.h` and never leaves
//! that crate.

use crate::{Category, Object, Preset, Verdict};
use std::fmt;

/// The operation a hook saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `bprm_check_security`: an image is about to run.
    Exec,
    /// `file_open`.
    Open,
    /// `file_permission`: an already open file is read or written.
    Permission,
    /// `path_mknod`: a file, device, fifo or socket is created.
    Create,
    /// `path_mkdir`.
    Mkdir,
    /// `path_unlink`.
    Unlink,
    /// `path_rmdir`.
    Rmdir,
    /// `path_symlink`.
    Symlink,
    /// `path_link`, for either name.
    Link,
    /// `path_rename`, for either name.
    Rename,
    /// `path_chmod`.
    Chmod,
    /// `path_chown`.
    Chown,
    /// `path_truncate`, `file_truncate`.
    Truncate,
    /// `inode_setattr`: times are set. Mode, owner and length have operations of their own.
    Setattr,
    /// `inode_setxattr`, `inode_removexattr` and the hooks for access lists.
    Setxattr,
    /// `file_ioctl` with a command that changes content or flags.
    Ioctl,
    /// `unix_stream_connect`, `unix_may_send`: a local socket is connected, or a datagram is sent to
    /// it, by the name that it has in the tree.
    LocalConnect,
    /// `sb_mount`, `move_mount`: something is mounted there, or moved or shown from there.
    Mount,
    /// `sb_umount`.
    Umount,
    /// `sb_pivotroot`, for the root and both directories.
    PivotRoot,
    /// `mmap_file`, `file_mprotect`: a dynamic loader that was started as a program maps the program
    /// that it is to run.
    Load,
    /// `socket_create`.
    SocketCreate,
    /// `socket_bind`.
    SocketBind,
    /// `socket_connect`.
    SocketConnect,
    /// `socket_listen`.
    SocketListen,
    /// `socket_accept`.
    SocketAccept,
    /// `socket_sendmsg`.
    SocketSend,
    /// A name is looked up: `socket_sendmsg`, and the packet.
    Lookup,
    /// `capable`.
    Capable,
    /// What a preset describes, at the hook where it can be seen.
    Preset(Preset),
    /// `ptrace_access_check`: another process is traced, its memory is read or written, or one of its
    /// descriptors is taken. The preset `protectProc` is about it.
    Trace,
    /// Against Gorget itself.
    Tamper(Tamper),
    /// `sys_exit`, or `sys_enter` of what does not return: a system call that rules are about.
    Syscall,
}

/// An attempt to end or change what enforces, by anything but the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tamper {
    /// `task_kill`: a signal to the agent.
    Signal,
    /// `ptrace_access_check`: tracing the agent, or reading or writing its memory.
    Trace,
    /// `bpf_map`: one of the kernel's tables is opened for writing.
    Table,
    /// `bpf`: a program is to be detached or replaced.
    Link,
    /// `path_unlink`, `path_rmdir`, `path_rename`, `sb_umount` of what is pinned.
    Pin,
}

impl Operation {
    /// Which rules speak about it.
    pub fn category(self) -> Category {
        match self {
            Self::Exec | Self::Load => Category::Process,
            Self::Open
            | Self::Permission
            | Self::Create
            | Self::Mkdir
            | Self::Unlink
            | Self::Rmdir
            | Self::Symlink
            | Self::Link
            | Self::Rename
            | Self::Chmod
            | Self::Chown
            | Self::Truncate
            | Self::Setattr
            | Self::Setxattr
            | Self::Ioctl
            | Self::LocalConnect
            | Self::Mount
            | Self::Umount
            | Self::PivotRoot => Category::File,
            Self::SocketCreate
            | Self::SocketBind
            | Self::SocketConnect
            | Self::SocketListen
            | Self::SocketAccept
            | Self::SocketSend => Category::Network,
            Self::Lookup => Category::Dns,
            Self::Capable => Category::Capability,
            Self::Preset(_) | Self::Trace | Self::Tamper(_) => Category::Preset,
            Self::Syscall => Category::Syscall,
        }
    }

    /// The value of `lsm=` in an alert's data, as KubeArmor names it.
    pub fn lsm_name(self) -> &'static str {
        match self {
            Self::Exec => "SECURITY_BPRM_CHECK",
            Self::Open => "FILE_OPEN",
            Self::Permission => "FILE_PERMISSION",
            Self::Create => "FILE_MKNOD",
            Self::Mkdir => "FILE_MKDIR",
            Self::Unlink => "FILE_UNLINK",
            Self::Rmdir => "FILE_RMDIR",
            Self::Symlink => "FILE_SYMLINK",
            Self::Link => "FILE_LINK",
            Self::Rename => "FILE_RENAME",
            Self::Chmod => "FILE_CHMOD",
            Self::Chown => "FILE_CHOWN",
            Self::Truncate => "FILE_TRUNCATE",
            Self::Setattr => "FILE_SETATTR",
            Self::Setxattr => "FILE_SETXATTR",
            Self::Ioctl => "FILE_IOCTL",
            Self::LocalConnect => "UNIX_STREAM_CONNECT",
            Self::Mount => "SB_MOUNT",
            Self::Umount => "SB_UMOUNT",
            Self::PivotRoot => "SB_PIVOTROOT",
            Self::Load => "MMAP_FILE",
            Self::SocketCreate => "SOCKET_CREATE",
            Self::SocketBind => "SOCKET_BIND",
            Self::SocketConnect => "SOCKET_CONNECT",
            Self::SocketListen => "SOCKET_LISTEN",
            Self::SocketAccept => "SOCKET_ACCEPT",
            Self::SocketSend | Self::Lookup => "SOCKET_SENDMSG",
            Self::Capable => "CAPABLE",
            Self::Preset(Preset::AnonymousMapExec) => "MMAP_FILE",
            Self::Preset(Preset::FilelessExec | Preset::Exec) => "SECURITY_BPRM_CHECK",
            Self::Preset(Preset::ProtectEnv | Preset::ProtectProc) => "FILE_OPEN",
            Self::Tamper(Tamper::Signal) => "TASK_KILL",
            Self::Trace | Self::Tamper(Tamper::Trace) => "PTRACE_ACCESS_CHECK",
            Self::Tamper(Tamper::Table) => "BPF_MAP",
            Self::Tamper(Tamper::Link) => "BPF",
            Self::Tamper(Tamper::Pin) => "FILE_UNLINK",
            // No hook: the call itself is named.
            Self::Syscall => "",
        }
    }
}

/// Somebody was brought into a container that ran already (`kubectl exec`, `docker exec`, a health
/// check), with everything that comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    /// When, in nanoseconds since boot; no two sessions of a machine share it.
    pub since_boot_ns: u64,
    /// Name of the file that was executed, cut after 31 bytes.
    pub program: Vec<u8>,
}

/// A hash of a file, made when the file was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHash {
    /// As the kernel calls it, such as `sha256`.
    pub algorithm: &'static str,
    /// As many bytes as the algorithm gives.
    pub digest: Vec<u8>,
}

impl fmt::Display for FileHash {
    /// The digest in hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hashes of the images that an event names; `None` where one is not known. Most events have none, and
/// many are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Of what people are told is the process: of a program that is to be run, its image.
    pub process: Option<Box<FileHash>>,
    /// Of what they are told is its parent.
    pub parent: Option<Box<FileHash>>,
}

/// The acting task at the moment of the operation. Paths are as the workload sees them; a path that
/// could not be built is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskInfo {
    /// Process id in the initial pid namespace.
    pub host_pid: u32,
    /// Parent's process id in the initial pid namespace.
    pub host_ppid: u32,
    /// Process id in the task's own pid namespace.
    pub pid: u32,
    /// Parent's process id in the task's own pid namespace, 0 when the parent is outside it.
    pub ppid: u32,
    /// Real uid in the initial user namespace.
    pub uid: u32,
    /// The exec session that the task belongs to; `None` when the container's own first program
    /// started it.
    pub session: Option<Session>,
    /// Path of the running image.
    pub exe: Vec<u8>,
    /// Path of the parent's running image.
    pub parent_exe: Vec<u8>,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// Controlling terminal without `/dev/`, such as `pts0`; empty when there is none.
    pub tty: Vec<u8>,
    /// The task's own arguments, NUL separated, possibly cut. Written by the task itself: for
    /// people, never for decisions.
    pub args: Vec<u8>,
    /// What its image and its parent's were.
    pub hashes: Hashes,
}

/// A decision that the kernel made and that somebody must be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEvent {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub boot_ns: u64,
    /// Index of the workload in the kernel's table; 0 is the host.
    pub workload: u32,
    /// Number of the ruleset that decided; it gives the verdict's rule id its meaning.
    pub ruleset: u32,
    /// What was attempted.
    pub operation: Operation,
    /// What was decided.
    pub verdict: Verdict,
    /// True when the workload is audited: a `Block` verdict was not carried out.
    pub audited: bool,
    /// True when a `Block` verdict came after the point of no return of an `execve`: the program was
    /// killed before its first instruction.
    pub killed: bool,
    /// How a system call ended: 0, or the error as a negative number. 0 for everything else, which is
    /// told before it ends.
    pub result: i32,
    /// What was acted upon. An image without a name is [`Object::Nameless`], or a path that is none:
    /// `memfd:NAME`.
    pub object: Object,
    /// Of a system call with two paths, the one that is not the object; `None` when it is not known.
    pub other_path: Option<OtherPath>,
    /// Who did it.
    pub task: TaskInfo,
}

/// A path of a system call that the call has besides the one that is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherPath {
    /// At most 1,024 bytes of it.
    pub path: Vec<u8>,
    /// It is the first of the two.
    pub is_first: bool,
}

/// Where something was lost or could not be decided by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossStage {
    /// The ring buffer was full: an event was not delivered; its decision was carried out.
    RingFull,
    /// A path could not be built: decided by the posture or as "no rule".
    PathUnknown,
    /// Per-task memory could not be had: decided by the posture or as "no rule".
    NoMemory,
    /// The workload's ruleset could not be found in the kernel's table.
    RulesetMissing,
    /// The kernel left out a program at one of its functions, because a preempted task was in the same
    /// program on that processor: the operation was not judged (audit only), or an alert about a name
    /// that was looked up waits for the next one.
    Skipped,
    /// The ring buffer for logs was full, or a log could not be put together: so many operations that
    /// were to be visible are not told. Alerts have a buffer of their own.
    Logs,
    /// A record in the ring buffer could not be decoded.
    Undecodable,
    /// The reader's queue was full.
    QueueFull,
}

impl LossStage {
    /// Every stage, in the order of the kernel's counters.
    pub const ALL: [Self; 8] = [
        Self::RingFull,
        Self::PathUnknown,
        Self::NoMemory,
        Self::RulesetMissing,
        Self::Skipped,
        Self::Logs,
        Self::Undecodable,
        Self::QueueFull,
    ];

    /// Name for metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::PathUnknown => "path_unknown",
            Self::NoMemory => "no_memory",
            Self::RulesetMissing => "ruleset_missing",
            Self::Skipped => "skipped",
            Self::Logs => "logs",
            Self::Undecodable => "undecodable",
            Self::QueueFull => "queue_full",
        }
    }
}

/// A counted loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where.
    pub stage: LossStage,
    /// How many since the last report.
    pub count: u64,
}
