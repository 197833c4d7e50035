// SPDX-License-Identifier: Apache-2.0
//! Observing system calls: `bpf/calls.h`, attached only while some workload has rules about them.

use crate::abi;
use crate::attach::{LoadError, attach_calls};
use crate::guard;
use crate::lower::put;
use crate::pins::Place;
use crate::programs::Programs;
use gorget_engine::object_bytes;
use gorget_model::{Object, Syscall};
use libbpf_rs::{Link, MapHandle};
use std::collections::BTreeSet;
use std::mem::offset_of;

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

    pub(crate) fn has_program(&self, id: u32) -> bool {
        self.program_ids.contains(&id)
    }

    /// Attaches the programs where they are not. What goes wrong is kept: the rules about everything
    /// else are put in force all the same.
    pub(crate) fn observe(&mut self, place: &Place) {
        if self.are_observed() {
            return;
        }
        let attached = attach_calls(self.programs, place, &self.guarded);
        if let Err(error) = attached.and_then(|links| self.have(links)) {
            self.trouble = Some(error);
        }
    }

    /// Detaches the programs where they are.
    pub(crate) fn ignore(&mut self, place: &Place) {
        if !self.are_observed() {
            return;
        }
        let links = std::mem::take(&mut self.links);
        self.program_ids.clear();
        let unguarded = guard::remove_links(&self.guarded, &links).map_err(LoadError::Guard);
        let removed = place.remove_calls().map_err(LoadError::Pin);
        self.trouble = unguarded.and(removed).err();
    }

    pub(crate) fn take_trouble(&mut self) -> Option<LoadError> {
        self.trouble.take()
    }

    fn have(&mut self, links: Vec<(String, Link)>) -> Result<(), LoadError> {
        let ids = links.iter().map(|(_, link)| Ok(link.info()?.prog_id));
        let ids: libbpf_rs::Result<_> = ids.collect();
        self.links = links;
        self.program_ids = ids.map_err(LoadError::Query)?;
        Ok(())
    }
}

/// Fills in `calls_known` of `bpf/calls.h`.
pub(crate) fn put_known(constants: &mut [u8]) {
    let native = |call: Syscall| match std::env::consts::ARCH {
        "aarch64" => call.aarch64(),
        _ => call.x86_64(),
    };
    let rows = Syscall::all().filter_map(|call| Some((native(call)?, row(call))));
    put_rows(constants, abi::call::ABI_CALLS_NATIVE, rows);
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let named = |(number, call)| (number, row(call));
    put_rows(
        constants,
        abi::call::ABI_CALLS_NATIVE,
        Syscall::x32().map(named),
    );
    put_rows(
        constants,
        abi::call::ABI_CALLS_COMPAT,
        Syscall::i386().map(named),
    );
    let many = [
        (Syscall::I386_SOCKETCALL, abi::call::ABI_CALL_IS_SOCKETCALL),
        (Syscall::I386_IPC, abi::call::ABI_CALL_IS_IPC),
    ];
    let many = many.into_iter().map(|(number, flag)| (number, flag.0));
    put_rows(constants, abi::call::ABI_CALLS_COMPAT, many);
    put_rows(
        constants,
        abi::call::ABI_CALLS_SOCKET,
        Syscall::of_socketcall().map(named),
    );
    put_rows(
        constants,
        abi::call::ABI_CALLS_IPC,
        Syscall::of_ipc().map(named),
    );
}

fn put_rows(constants: &mut [u8], table: abi::call, rows: impl IntoIterator<Item = (u16, u32)>) {
    let first = offset_of!(abi::enforce_rodata, calls_known);
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
    u32::from(high) | u32::from(low) << 8 | flag
}
