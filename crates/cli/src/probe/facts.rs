// SPDX-License-Identifier: Apache-2.0
//! What was found on the machine, before anybody judges it.
//!
//! Everything that the judgement depends on is here, so that a machine can be written down: the tests
//! do, and `-o json` prints it.

use gorget_telemetry::tried::Tried;
use serde::Serialize;
use std::collections::BTreeMap;

/// Something that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Found<T> {
    Is(T),
    Absent,
    /// It may be there: why that cannot be told.
    Refused(String),
}

impl<T> Found<T> {
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Refused(_) => None,
        }
    }

    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Is(value) => Found::Is(with(value)),
            Self::Absent => Found::Absent,
            Self::Refused(why) => Found::Refused(why),
        }
    }
}

/// What only trying finds out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Trying {
    Done(Tried),
    /// And why not.
    Not(String),
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Facts {
    pub(crate) host: String,
    /// Who asked.
    pub(crate) uid: u32,
    pub(crate) kernel: Kernel,
    /// Active security modules.
    pub(crate) modules: Found<Vec<String>>,
    /// `none`, `integrity`, `confidentiality`.
    pub(crate) lockdown: Found<String>,
    pub(crate) btf: Found<()>,
    pub(crate) tried: Trying,
    pub(crate) mounts: Mounts,
    /// `cgroup.controllers`, which the root of control groups of version 2 has.
    pub(crate) unified: Found<()>,
    /// What seccomp can do with a call.
    pub(crate) seccomp: Found<Vec<String>>,
    pub(crate) apparmor: AppArmor,
    /// IMA, which makes hashes of programs.
    pub(crate) ima: Found<()>,
    /// Whether SELinux denies, or only logs.
    pub(crate) selinux: Found<bool>,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) hooks: Hooks,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kernel {
    pub(crate) release: String,
    /// As `uname -m` has it.
    pub(crate) machine: String,
    pub(crate) config: Found<Config>,
    /// What `lsm=` says on the kernel's command line.
    pub(crate) lsm_parameter: Option<String>,
}

/// The options that matter, of those that the kernel was built with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) file: String,
    /// `y`, `m`, or `n`.
    pub(crate) options: BTreeMap<String, String>,
}

/// Where file systems are mounted, if they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mounts {
    pub(crate) cgroup2: Option<String>,
    /// Controllers of version 1.
    pub(crate) cgroup1: bool,
    pub(crate) bpffs: Option<String>,
    pub(crate) tracefs: Option<String>,
    pub(crate) securityfs: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppArmor {
    pub(crate) enabled: Found<bool>,
    pub(crate) parser: Option<String>,
}

/// A container runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Runtime {
    pub(crate) kind: RuntimeKind,
    pub(crate) socket: String,
    pub(crate) version: Found<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RuntimeKind {
    Containerd,
    Docker,
    Podman,
    Crio,
}

impl RuntimeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::Crio => "CRI-O",
        }
    }

    /// As `gorget hook install` wants it.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Crio => "crio",
        }
    }
}

/// What can make a container wait for its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hooks {
    /// The program that runtimes run.
    pub(crate) program: Option<String>,
    /// Our file is in the directory of hooks that Podman and CRI-O read.
    pub(crate) directory: bool,
    /// Where NRI answers.
    pub(crate) nri: Option<String>,
    /// Runtimes whose services find our `runc` first.
    pub(crate) wrapped: Vec<RuntimeKind>,
    /// Why `runc` cannot be put before a runtime's own.
    pub(crate) obstacles: BTreeMap<RuntimeKind, String>,
}
