// SPDX-License-Identifier: Apache-2.0
//! What was attempted, and what was decided about it.

use crate::{Capability, Device, Preset, Socket, Syscall};
use std::fmt;

/// The kind of operation a rule speaks about. Categories are independent of each other: an Allow
/// rule for processes does not put files into allow-list mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// An image is about to run (`execve`, `execveat`, an interpreter of a `#!` script).
    Process,
    /// A file is read, or anything about it or its directory entry is changed.
    File,
    /// A socket is created, connected, bound, listened on, accepted from or sent with.
    Network,
    /// A name is looked up.
    Dns,
    /// A capability is used.
    Capability,
    /// A system call is made. Only ever audited.
    Syscall,
    /// A USB device is plugged in. Hosts only.
    Device,
    /// Something happens that a [`Preset`] describes.
    Preset,
}

impl Category {
    /// Every category, in the order in which tables are laid out.
    pub const ALL: [Self; 8] = [
        Self::Process,
        Self::File,
        Self::Network,
        Self::Dns,
        Self::Capability,
        Self::Syscall,
        Self::Device,
        Self::Preset,
    ];
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::File => "file",
            Self::Network => "network",
            Self::Dns => "dns",
            Self::Capability => "capability",
            Self::Syscall => "syscall",
            Self::Device => "device",
            Self::Preset => "preset",
        })
    }
}

/// Who acts: the executable image of the task that performs the operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The container runtime, before the first `execve` inside the workload. No `fromSource`
    /// matches it.
    Runtime,
    /// The absolute path of the running image, as the workload sees it.
    Image(Vec<u8>),
}

/// What is acted upon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// An absolute path as the workload sees it, after the kernel resolved links and `..`.
    Path(Vec<u8>),
    /// An image without a name in the tree (memfd, unlinked). No path rule matches it.
    Nameless,
    /// Of [`Category::Network`].
    Socket(Socket),
    /// Of [`Category::Dns`]: the name that is looked up, as sent.
    Domain(Vec<u8>),
    /// Of [`Category::Capability`].
    Capability(Capability),
    /// Of [`Category::Syscall`].
    Syscall {
        /// Which.
        call: Syscall,
        /// The path it is given, resolved as the kernel did; `None` when it takes none.
        path: Option<Vec<u8>>,
    },
    /// Of [`Category::Device`].
    Device(Device),
    /// Of [`Category::Preset`].
    Preset(Preset),
}

/// How an object is accessed. `read`, `write` and `tree` are only ever true for [`Category::File`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Modes {
    /// Content is read.
    pub read: bool,
    /// Content, metadata or the directory tree is changed.
    pub write: bool,
    /// The object's owner is the task's file system uid. For an object that is being created, the
    /// creator is its owner.
    pub owner: bool,
    /// A directory is moved or removed, and with it everything below it.
    pub tree: bool,
    /// The task has a controlling terminal.
    pub terminal: bool,
}

/// One attempted operation, with everything a decision may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// Which rules can speak about it.
    pub category: Category,
    /// Who acts.
    pub subject: Subject,
    /// What is acted upon.
    pub object: Object,
    /// How.
    pub modes: Modes,
    /// Of [`Category::Process`]: the new program's arguments after `argv[0]`.
    pub arguments: Vec<Vec<u8>>,
}

/// Index of a rule in the ruleset that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// What happens to the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It goes on and nobody is told.
    Pass,
    /// It goes on and an alert is raised.
    Audit,
    /// It fails with `EACCES` and an alert is raised.
    Block,
}

/// Why that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No rule applies and the category is not in allow-list mode.
    NoRule,
    /// This rule won.
    Rule(RuleId),
    /// The default posture decided: nothing applied in allow-list mode, or the winning rule lists
    /// the object but not this access.
    DefaultPosture,
}

/// The answer to an [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verdict {
    /// What happens.
    pub outcome: Outcome,
    /// Why.
    pub cause: Cause,
}
