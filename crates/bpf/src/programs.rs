// SPDX-License-Identifier: Apache-2.0
//! The two sets of kernel programs, compiled from the same source (`bpf/hook.h`).
//!
//! They have the same names and tables, decide alike, and tell alike. Only what the kernel makes of a
//! decision differs.

use libbpf_rs::{ObjectBuilder, OpenObject};

/// Which programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// At the hooks of security modules: a denied operation fails. Needs `bpf` among the active
    /// modules.
    Enforcing,
    /// At the kernel's functions that ask all security modules: nothing is denied by them, everything
    /// is told, and what another module has denied is told as denied.
    AuditOnly,
}

impl Programs {
    pub(crate) const ALL: [Self; 2] = [Self::Enforcing, Self::AuditOnly];

    /// Names the programs of this build.
    pub(crate) fn digest(self) -> &'static str {
        match self {
            Self::Enforcing => env!("GORGET_ENFORCE"),
            Self::AuditOnly => env!("GORGET_AUDIT"),
        }
    }

    pub(crate) fn open(self) -> libbpf_rs::Result<OpenObject> {
        let (name, object): (_, &[u8]) = match self {
            Self::Enforcing => (
                "enforce",
                include_bytes!(concat!(env!("OUT_DIR"), "/enforce.bpf.o")),
            ),
            Self::AuditOnly => (
                "audit",
                include_bytes!(concat!(env!("OUT_DIR"), "/audit.bpf.o")),
            ),
        };
        ObjectBuilder::default().name(name)?.open_memory(object)
    }

    /// The kernel's function that a hook's program is at.
    pub(crate) fn function(self, hook: &str) -> String {
        match self {
            Self::Enforcing => format!("bpf_lsm_{hook}"),
            Self::AuditOnly => format!("security_{hook}"),
        }
    }
}
