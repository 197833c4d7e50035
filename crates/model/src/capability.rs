// SPDX-License-Identifier: Apache-2.0
//! Capabilities by name (capabilities(7)).

use std::fmt;

/// A capability of the kernel, `CAP_CHOWN` (0) to `CAP_CHECKPOINT_RESTORE` (40, since Linux 5.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// By name, lower case, without `cap_`. `None` when there is no such capability.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|capability| capability.name() == name)
    }

    /// By the kernel's number. `None` above 40.
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// The kernel's number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Lower case, without `cap_`.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Every capability, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(Self::from_number)
    }
}

/// As the kernel's documentation writes it: `CAP_NET_RAW`.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.name().to_ascii_uppercase())
    }
}

const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(Capability::from_name("net_raw").unwrap().number(), 13);
        assert_eq!(
            Capability::from_name("checkpoint_restore")
                .unwrap()
                .number(),
            40
        );
        assert_eq!(Capability::from_name("cap_chown"), None);
        assert_eq!(
            Capability::from_number(13).unwrap().to_string(),
            "CAP_NET_RAW"
        );
        assert_eq!(Capability::all().count(), 41);
    }
}
