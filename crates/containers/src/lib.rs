// SPDX-License-Identifier: Apache-2.0
//! Learns which containers run, and tells it as one stream of [`Change`]s.
//!
//! [`watch`] is the front door, whichever runtimes are behind it: containerd (and with it Docker,
//! nerdctl and every Kubernetes node that uses it), Podman, with and without root, and whatever else
//! speaks Kubernetes' runtime interface, which is CRI-O. Events, never polling. All runtimes of a
//! machine are watched at once, each on a connection of its own; those that come later are found when
//! they come. Containers that run already are part of the stream.
//!
//! Invariants: a container is `Started` before it is `Stopped`; it is `Started` a second time only
//! with another pid, and then the second replaces the first. A container that two runtimes know is one
//! as long as either knows it. `Synced` comes when every runtime that is there has told everything, at
//! each later connection again; what was known before and is not in its list is gone.
//! The stream is bounded: a reader that is slow slows the watch down and loses nothing.
//!
//! Failure: the stream ends only when the reader drops it. While a runtime is away nothing is
//! said about its containers, so what the reader knew stays in force. What one container or one event
//! did wrong is a [`Change::Problem`] and costs only that container or event.
//!
//! Left out: the future is spawned by the caller; a container that is renamed keeps its name here
//! until it is started again; and cgroup v1, which is reported container by container.
#![forbid(unsafe_code)]

mod announced;
mod backoff;
mod bundle;
mod cgroup;
mod containerd;
mod cri;
mod directories;
mod identity;
mod merge;
mod out;
mod places;
mod podman;
mod reconnect;
mod several;

pub mod hook;
pub mod nri;

/// Generated from `proto/`.
mod proto {
    #![expect(
        unreachable_pub,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        clippy::doc_markdown,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/client/containerd.rs"));
}

use gorget_model::Container;
use std::path::PathBuf;
use tokio::sync::mpsc;

pub use announced::{Announced, IdentifyError, NoCgroup, identify, of_id, of_process};
pub use backoff::Backoff;
pub use bundle::BundleError;
pub use places::{Choice, Kind};

/// How many changes may wait for the reader. More than containers start on a node within the time of
/// one ruleset installation; a full queue makes the runtime's own unbounded one hold the rest.
const QUEUE: usize = 256;

/// What to watch and where the kernel's answers are found.
#[derive(Clone, Debug)]
pub struct Config {
    /// The runtimes. Without any, `Synced` is told at once.
    pub runtimes: Vec<Choice>,
    /// Where the well-known places of sockets are: the root directory of the machine.
    pub root: PathBuf,
    /// procfs of the initial pid namespace.
    pub proc: PathBuf,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroup_root: PathBuf,
    /// How long to wait before connecting again.
    pub backoff: Backoff,
}

impl Default for Config {
    /// Every runtime, wherever it usually listens.
    fn default() -> Self {
        Self {
            runtimes: Kind::ALL.map(Choice::anywhere).to_vec(),
            root: PathBuf::from("/"),
            proc: PathBuf::from("/proc"),
            cgroup_root: PathBuf::from("/sys/fs/cgroup"),
            backoff: Backoff::default(),
        }
    }
}

/// Something became known about the containers of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A container exists from now on, or was found running.
    Started(Started),
    /// Its first process ended.
    Stopped {
        /// [`Container::id`] as it was reported.
        id: String,
    },
    /// Everything that runs has been reported, by all runtimes that are there. What was known before
    /// and is not listed is gone, and need not have been reported as stopped.
    Synced {
        /// Ids that run, sorted.
        running: Vec<String>,
    },
    /// A runtime cannot be reached. Told once until it is `Connected` again.
    Disconnected {
        /// Which: the same until it is connected again, whatever the reason.
        name: String,
        /// Which, and why, with its causes.
        reason: String,
    },
    /// A runtime answers and its events arrive; the scan follows.
    Connected {
        /// As in [`Change::Disconnected`].
        name: String,
        /// Name and version, such as `containerd v1.7.24`.
        runtime: String,
    },
    /// Something about one container or event could not be learned. Everything else goes on.
    Problem(Problem),
}

/// A container, and where its tasks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its identity.
    pub container: Container,
    /// Its first process, in the initial pid namespace.
    pub pid: u32,
    /// Where its tasks are.
    pub cgroup: Cgroup,
    /// Its own programs may have run before this was reported: the scan found it running, or the
    /// report of its creation was missed.
    pub already_running: bool,
}

/// A cgroup of the v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// From the root of the hierarchy, beginning with `/`.
    pub path: String,
    /// Inode of its directory, which is the kernel's cgroup id.
    pub id: u64,
}

/// Something that could not be learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it happened.
    pub kind: ProblemKind,
    /// Id of the container, where it is known. Unless it is only said to be known by its id, it is not
    /// reported as started.
    pub container: Option<String>,
    /// What went wrong, with its causes.
    pub reason: String,
}

/// Where a [`Problem`] happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// An event of the runtime cannot be understood.
    Event,
    /// The runtime refused to answer, or the answer cannot be used.
    Answer,
    /// The container's cgroup cannot be found or must not be used.
    Cgroup,
    /// What happens on the machine cannot be noticed.
    Watch,
}

impl ProblemKind {
    /// Name for metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Answer => "answer",
            Self::Cgroup => "cgroup",
            Self::Watch => "watch",
        }
    }
}

/// Watches the runtimes that `config` names.
///
/// Nothing happens until the future is polled; the caller spawns it. It ends when the receiver is
/// dropped, and may be dropped at any time.
pub fn watch(
    config: Config,
) -> (
    mpsc::Receiver<Change>,
    impl Future<Output = ()> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (receiver, several::run(config, sender))
}
