// SPDX-License-Identifier: Apache-2.0
//! What people are told. Field names of the wire forms are in `gorget-telemetry`.

use crate::{Category, Hashes, Workload};
use std::sync::Arc;

/// Anything a feed delivers.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A policy decided something somebody wants to know.
    Alert(Alert),
    /// Something happened; no policy spoke.
    Log(Log),
    /// The agent speaks about itself.
    Message(Message),
    /// Alerts of one policy in one workload are told by their number only.
    Threshold(Threshold),
}

impl Event {
    /// When it happened: wall clock, microseconds since 1970-01-01 UTC.
    pub fn unix_micros(&self) -> i64 {
        match self {
            Self::Alert(alert) => alert.unix_micros,
            Self::Log(log) => log.unix_micros,
            Self::Message(message) => message.unix_micros,
            Self::Threshold(threshold) => threshold.unix_micros,
        }
    }

    /// Where it happened.
    pub fn node(&self) -> &Arc<Node> {
        match self {
            Self::Alert(alert) => &alert.node,
            Self::Log(log) => &log.node,
            Self::Message(message) => &message.node,
            Self::Threshold(threshold) => &threshold.node,
        }
    }
}

/// The machine an event comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Configured cluster name.
    pub cluster: String,
    /// Node name.
    pub host: String,
    /// Contents of `/etc/machine-id`.
    pub id: String,
}

/// The process that acted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub host_pid: u32,
    /// Parent's process id in the initial pid namespace.
    pub host_ppid: u32,
    /// Process id in its own pid namespace.
    pub pid: u32,
    /// Parent's process id in its own pid namespace.
    pub ppid: u32,
    /// Real uid.
    pub uid: u32,
    /// User name, for events of the host.
    pub user: String,
    /// Executable.
    pub exe: String,
    /// Parent's executable.
    pub parent_exe: String,
    /// Working directory.
    pub cwd: String,
    /// Controlling terminal, such as `pts0`.
    pub tty: String,
    /// The exec session that it belongs to. KubeArmor: `ExecEvent`.
    pub session: Option<ExecSession>,
    /// What its executable and its parent's were.
    pub hashes: Hashes,
}

/// A program that was brought into a running container, with everything that comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSession {
    /// The same for all events of the session, and for no other session of the machine.
    pub id: String,
    /// Name of the program that it began with.
    pub program: String,
}

/// What a policy says about itself in an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRef {
    /// Policy name, or `DefaultPosture`.
    pub name: String,
    /// 1 to 10; `None` when no policy set one.
    pub severity: Option<u8>,
    /// Tags in the order written.
    pub tags: Vec<String>,
    /// Message for people.
    pub message: String,
}

/// Which sort of policy raised an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// A rule for a container (`MatchedPolicy`).
    Policy,
    /// A rule for the host (`MatchedHostPolicy`).
    HostPolicy,
}

/// What was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertAction {
    /// Let pass and reported.
    Audit,
    /// Denied and reported.
    Block,
    /// The workload is audited: a rule would have denied it.
    AuditedBlock,
}

/// A policy decided something that somebody must be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Wall clock, microseconds since 1970-01-01 UTC.
    pub unix_micros: i64,
    /// Where.
    pub node: Arc<Node>,
    /// In which workload.
    pub workload: Arc<Workload>,
    /// Who.
    pub process: Process,
    /// By which policy.
    pub policy: PolicyRef,
    /// Sort of policy.
    pub kind: AlertKind,
    /// Category of the operation.
    pub category: Category,
    /// Command line of the actor; for a process event the executable that called `execve`.
    pub source: String,
    /// What was acted upon.
    pub resource: String,
    /// `key=value` pairs separated by spaces.
    pub data: String,
    /// What was done.
    pub action: AlertAction,
    /// `Passed`, `Permission denied`, or how a system call failed.
    pub result: &'static str,
    /// Which mechanism decided, such as `BPFLSM`.
    pub enforcer: &'static str,
}

/// Something that happened without a policy having a say.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Wall clock, microseconds since 1970-01-01 UTC.
    pub unix_micros: i64,
    /// Where.
    pub node: Arc<Node>,
    /// In which workload.
    pub workload: Arc<Workload>,
    /// Who.
    pub process: Process,
    /// Category of the operation.
    pub category: Category,
    /// Command line of the actor.
    pub source: String,
    /// What was acted upon.
    pub resource: String,
    /// `key=value` pairs separated by spaces.
    pub data: String,
    /// Errno text or `Passed`.
    pub result: &'static str,
}

/// How serious a message of the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// For developers.
    Debug,
    /// As expected.
    Info,
    /// Something is not as it should be; the last good state is in force.
    Warn,
    /// Something could not be done.
    Error,
}

/// The agent speaks about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Wall clock, microseconds since 1970-01-01 UTC.
    pub unix_micros: i64,
    /// Where.
    pub node: Arc<Node>,
    /// How serious.
    pub level: Level,
    /// One line.
    pub text: String,
}

/// So many alerts came at once that they are, or were, told by their number only.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Wall clock, microseconds since 1970-01-01 UTC.
    pub unix_micros: i64,
    /// Where.
    pub node: Arc<Node>,
    /// In which workload.
    pub workload: Arc<Workload>,
    /// Of which policy.
    pub policy: String,
    /// About which operations.
    pub category: Category,
    /// Which mechanism decided.
    pub enforcer: &'static str,
    /// Alerts that are told of one by one in a second.
    pub max_per_second: u32,
    /// How many seconds they are told by their number only.
    pub seconds: u32,
    /// How many were not told one by one; 0 when it begins.
    pub dropped: u64,
}
