// SPDX-License-Identifier: Apache-2.0
//! Protecting what enforces: `bpf/guard.h` decides, this says what there is to protect.

use crate::abi;
use crate::lower::put;
use crate::pins::Identity;
use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle};
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

/// Protects tables.
pub(crate) fn add_tables<'a>(
    guarded: &MapHandle,
    tables: impl Iterator<Item = &'a MapHandle>,
) -> libbpf_rs::Result<()> {
    for table in tables {
        add(guarded, u64::from(table.info()?.info.id))?;
    }
    Ok(())
}

/// Protects links.
pub(crate) fn add_links(guarded: &MapHandle, links: &[(String, Link)]) -> libbpf_rs::Result<()> {
    for (_, link) in links {
        add(guarded, id_of(link)?)?;
    }
    Ok(())
}

/// Links that are about to go.
pub(crate) fn remove_links(guarded: &MapHandle, links: &[(String, Link)]) -> libbpf_rs::Result<()> {
    for (_, link) in links {
        guarded.delete(&id_of(link)?.to_ne_bytes())?;
    }
    Ok(())
}

fn id_of(link: &Link) -> libbpf_rs::Result<u64> {
    let first = u64::from(abi::limit::ABI_GUARDED_LINK.0);
    Ok(first + u64::from(link.info()?.id))
}

fn add(guarded: &MapHandle, id: u64) -> libbpf_rs::Result<()> {
    guarded.update(&id.to_ne_bytes(), &1u32.to_ne_bytes(), MapFlags::ANY)
}
