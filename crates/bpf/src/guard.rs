// SPDX-License-Identifier: Apache-2.0
//! Protecting what enforces: `bpf/guard.h` decides, this says what there is to protect.

use crate::abi;
use crate::lower::put;
use crate::pins::Identity;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object};
use std::mem::offset_of;

/// What becomes of attempts to end or change what enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nobody looks.
    Off,
    /// They are reported.
    Report,
    /// They are denied and reported.
    Deny,
}

impl Protection {
    /// The kernel's `struct guard`.
    pub(crate) fn in_words(self, agent: u32, pins: Identity) -> Vec<u8> {
        let mode = match self {
            Self::Off => abi::guard_mode::ABI_GUARD_OFF,
            Self::Report => abi::guard_mode::ABI_GUARD_REPORT,
            Self::Deny => abi::guard_mode::ABI_GUARD_DENY,
        };
        let mut bytes = vec![0; size_of::<abi::guard>()];
        put(&mut bytes, offset_of!(abi::guard, mode), mode.0);
        put(&mut bytes, offset_of!(abi::guard, pid), agent);
        put(&mut bytes, offset_of!(abi::guard, pins_dev), pins.device);
        let at = offset_of!(abi::guard, pins_ino);
        let inode = pins.inode.to_ne_bytes();
        let room = bytes.iter_mut().skip(at);
        room.zip(inode).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// Protects all tables and links of loaded programs.
pub(crate) fn add(
    object: &Object,
    guarded: &impl MapCore,
    links: &[(String, Link)],
) -> libbpf_rs::Result<()> {
    let add = |id: u64| guarded.update(&id.to_ne_bytes(), &1u32.to_ne_bytes(), MapFlags::ANY);
    for map in object.maps() {
        add(u64::from(MapHandle::try_from(&map)?.info()?.info.id))?;
    }
    for (_, link) in links {
        let first = u64::from(abi::limit::ABI_GUARDED_LINK.0);
        add(first + u64::from(link.info()?.id))?;
    }
    Ok(())
}
