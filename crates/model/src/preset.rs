// SPDX-License-Identifier: Apache-2.0
//! Presets: attacks with a name, which a policy switches on without describing them.

use std::fmt;

/// An attack that `presets[].name` names (KubeArmor 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preset {
    /// `anonymousMapExec`: anonymous memory becomes executable.
    AnonymousMapExec,
    /// `filelessExec`: an image without a name in the tree, or in shared memory, runs.
    FilelessExec,
    /// `protectEnv`: the environment of another process is read.
    ProtectEnv,
    /// `protectProc`: the directory of another process in `/proc` is read.
    ProtectProc,
    /// `exec`: somebody starts a program interactively in a running container.
    Exec,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 5] = [
        Self::AnonymousMapExec,
        Self::FilelessExec,
        Self::ProtectEnv,
        Self::ProtectProc,
        Self::Exec,
    ];

    /// As policies write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnonymousMapExec => "anonymousMapExec",
            Self::FilelessExec => "filelessExec",
            Self::ProtectEnv => "protectEnv",
            Self::ProtectProc => "protectProc",
            Self::Exec => "exec",
        }
    }

    /// By [`Preset::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
