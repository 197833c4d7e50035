// SPDX-License-Identifier: Apache-2.0
//! Observing system calls: `bpf/calls.h`, attached only while some workload has rules about them.

use crate::abi;
use crate::attach::{LoadError, attach_calls, program_ids};
use crate::guard;
use crate::lower::put;
use crate::pins::Place;
use crate::programs::Programs;
use gorget_engine::object_bytes;
use gorget_model::{Object, Syscall};
use libbpf_rs::{Link, MapHandle};
use std::collections::BTreeSet;

/// Calls that do not return: what they do cannot be told when they have done it.
const LAST: [&str; 3] = ["exit", "exit_group", "rt_sigreturn"];
/// Calls that two tasks return from.
const FORKS: [&str; 4] = ["fork", "vfork", "clone", "clone3"];

/// The programs that observe system calls, if they are attached.
#[derive(Debug)]
pub(crate) struct Calls {
    programs: Programs,
    guarded: MapHandle,
    links: Vec<(String, Link)>,
    program_ids: BTreeSet<u32>,
    trouble: Option<LoadError>,
}

impl Calls {
    /// As an earlier agent left them.
    pub(crate) fn found(
        programs: Programs,
        guarded: MapHandle,
        place: &Place,
    ) -> Result<Self, LoadError> {
        let mut calls = Self {
            programs,
            guarded,
            links: Vec::new(),
            program_ids: BTreeSet::new(),
            trouble: None,
        };
        calls.have(place.call_links()?)?;
        Ok(calls)
    }

    pub(crate) fn are_observed(&self) -> bool {
        !self.links.is_empty()
    }

    /// Names of the attached programs.
    pub(crate) fn hooks(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn links(&self) -> &[(String, Link)] {
        &self.links
    }

    pub(crate) fn has_program(&self, id: u32) -> bool {
        self.program_ids.contains(&id)
    }

    /// Why they are not attached, or still are.
    pub(crate) fn trouble(&self) -> Option<&LoadError> {
        self.trouble.as_ref()
    }

    /// Attaches the programs where they are not. What goes wrong is kept, and tried again the next time:
    /// the rules about everything else are put in force all the same.
    pub(crate) fn observe(&mut self, place: &Place) {
        if !self.are_observed() {
            let attached = attach_calls(self.programs, place, &self.guarded);
            self.trouble = attached.and_then(|links| self.have(links)).err();
        }
    }

    /// Detaches the programs where they are.
    pub(crate) fn ignore(&mut self, place: &Place) {
        self.trouble = self.remove(place).err();
    }

    fn remove(&mut self, place: &Place) -> Result<(), LoadError> {
        if self.are_observed() {
            place.remove_calls()?;
            self.program_ids.clear();
            let links = std::mem::take(&mut self.links);
            guard::remove_links(&self.guarded, &links).map_err(LoadError::Guard)?;
        }
        Ok(())
    }

    fn have(&mut self, links: Vec<(String, Link)>) -> Result<(), LoadError> {
        self.program_ids = program_ids(&links)?;
        self.links = links;
        Ok(())
    }
}

/// Fills in `calls_known` of `bpf/call_numbers.h`, which begins there.
pub(crate) fn put_known(constants: &mut [u8], first: usize) {
    let native = |call: Syscall| match std::env::consts::ARCH {
        "aarch64" => call.aarch64(),
        _ => call.x86_64(),
    };
    let rows = Syscall::all().filter_map(|call| Some((native(call)?, row(call))));
    put_rows(constants, first, abi::call::ABI_CALLS_NATIVE, rows);
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let named = |(number, call)| (number, row(call));
    put_rows(
        constants,
        first,
        abi::call::ABI_CALLS_NATIVE,
        Syscall::x32().map(named),
    );
    put_rows(
        constants,
        first,
        abi::call::ABI_CALLS_COMPAT,
        Syscall::i386().map(named),
    );
    let many = [
        (Syscall::I386_SOCKETCALL, abi::call::ABI_CALL_IS_SOCKETCALL),
        (Syscall::I386_IPC, abi::call::ABI_CALL_IS_IPC),
    ];
    let many = many.into_iter().map(|(number, flag)| (number, flag.0));
    put_rows(constants, first, abi::call::ABI_CALLS_COMPAT, many);
    put_rows(
        constants,
        first,
        abi::call::ABI_CALLS_SOCKET,
        Syscall::of_socketcall().map(named),
    );
    put_rows(
        constants,
        first,
        abi::call::ABI_CALLS_IPC,
        Syscall::of_ipc().map(named),
    );
}

fn put_rows(
    constants: &mut [u8],
    first: usize,
    table: abi::call,
    rows: impl IntoIterator<Item = (u16, u32)>,
) {
    let numbers = abi::limit::ABI_CALL_NUMBERS.0;
    for (number, row) in rows.into_iter().filter(|(n, _)| u32::from(*n) < numbers) {
        let at = (table.0 * numbers + u32::from(number)) as usize;
        put(constants, first + at * size_of::<u32>(), row);
    }
}

/// The two bytes that a call is in rules, and what is special about it.
fn row(call: Syscall) -> u32 {
    let object = Object::Syscall { call, path: None };
    let bytes = object_bytes(&object).unwrap_or_default();
    let [high, low] = bytes.first_chunk().copied().unwrap_or_default();
    let flag = if LAST.contains(&call.name()) {
        abi::call::ABI_CALL_IS_LAST.0
    } else if FORKS.contains(&call.name()) {
        abi::call::ABI_CALL_FORKS.0
    } else {
        0
    };
    u32::from(high) | u32::from(low) << 8 | flag | logged(call.name())
}

/// Where the call is logged, and which of its arguments is a path.
fn logged(name: &str) -> u32 {
    let starts = abi::call::ABI_CALL_STARTS.0;
    let on_files = abi::call::ABI_CALL_ON_FILES.0;
    let on_sockets = abi::call::ABI_CALL_ON_SOCKETS.0;
    let (flags, path) = match name {
        "execve" => (starts, 1),
        "execveat" => (starts, 2),
        "open" | "creat" | "unlink" | "rmdir" | "mkdir" | "mknod" | "rename" | "link" | "chmod"
        | "chown" | "chown32" | "lchown" | "lchown32" | "truncate" | "truncate64" => (on_files, 1),
        "openat" | "openat2" | "unlinkat" | "mkdirat" | "mknodat" | "renameat" | "renameat2"
        | "linkat" | "fchmodat" | "fchmodat2" | "fchownat" | "symlink" => (on_files, 2),
        "symlinkat" => (on_files, 3),
        "socket" | "bind" | "listen" | "connect" => (on_sockets, 0),
        "accept" | "accept4" => (on_sockets | abi::call::ABI_CALL_ACCEPTS.0, 0),
        "io_uring_enter" => (abi::call::ABI_CALL_IS_RING.0, 0),
        "sendto" | "sendmsg" | "sendmmsg" => (on_sockets | abi::call::ABI_CALL_WITH_ADDRESS.0, 0),
        _ => (0, 0),
    };
    flags | path << abi::call::ABI_CALL_PATH_SHIFT.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn a_call_is_found_by_its_number_with_the_bytes_that_rules_have() {
        let mut constants = vec![0; size_of::<abi::enforce_rodata>()];
        let first = offset_of!(abi::enforce_rodata, calls_known);
        put_known(&mut constants, first);
        let known = |table: abi::call, number: u16| {
            let row = table.0 * abi::limit::ABI_CALL_NUMBERS.0 + u32::from(number);
            let at = first + row as usize * 4;
            u32::from_ne_bytes(constants[at..at + 4].try_into().unwrap())
        };
        let call = |name| Syscall::from_name(name).unwrap();
        let native = |name| match std::env::consts::ARCH {
            "aarch64" => call(name).aarch64().unwrap(),
            _ => call(name).x86_64().unwrap(),
        };
        let table = abi::call::ABI_CALLS_NATIVE;
        let [high, low] = [
            known(table, native("unlinkat")) & 255,
            known(table, native("unlinkat")) >> 8 & 255,
        ];
        let object = Object::Syscall {
            call: call("unlinkat"),
            path: None,
        };
        assert_eq!(
            *object_bytes(&object).unwrap(),
            [high, low].map(|byte| u8::try_from(byte).unwrap())
        );
        let is_last = known(table, native("exit_group")) & abi::call::ABI_CALL_IS_LAST.0;
        assert_ne!(is_last, 0);
        assert_ne!(
            known(table, native("clone")) & abi::call::ABI_CALL_FORKS.0,
            0
        );
        // Where it is logged, and that its second argument is a path.
        let unlinkat = known(table, native("unlinkat"));
        assert_ne!(unlinkat & abi::call::ABI_CALL_ON_FILES.0, 0);
        let path = unlinkat >> abi::call::ABI_CALL_PATH_SHIFT.0;
        assert_eq!(path & abi::call::ABI_CALL_PATH_MASK.0, 2);
        assert_eq!(known(table, 1023), 0);
        if std::env::consts::ARCH == "x86_64" {
            // rmdir of i386, and socketcall's first.
            assert_eq!(known(abi::call::ABI_CALLS_COMPAT, 40), row(call("rmdir")));
            assert_eq!(known(abi::call::ABI_CALLS_SOCKET, 1), row(call("socket")));
        }
    }
}
