// SPDX-License-Identifier: Apache-2.0
//! The kernel's decision code without hooks.
//!
//! [`Harness`] puts a ruleset into the same tables and asks the same C functions as the hooks do,
//! through `BPF_PROG_TEST_RUN`. It attaches to nothing. The tests compare it with
//! [`gorget_engine::decide`] on random rulesets; [`crate::self_test`] does so on a fixed one before
//! the agent enforces anything.

use crate::abi::{self, harness_case};
use crate::attach::LoadError;
use crate::costs::Measured;
use crate::decode::verdict;
use crate::kernel::ApplyError;
use crate::lower::{CATEGORIES, put};
use crate::refusal::explained;
use crate::tables::Tables;
use gorget_engine::{Ruleset, Variant, object_bytes};
use gorget_model::{Access, Subject, Verdict};
use libbpf_rs::{
    MapCore, MapFlags, MapHandle, Object as Loaded, ObjectBuilder, Program, ProgramInput,
};
use std::mem::offset_of;
use std::os::fd::AsFd as _;

/// What is returned where something that must exist does not.
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

/// Row of the workload table that the harness uses.
const ROW: u32 = 1;

/// The decision code, loaded without hooks.
#[derive(Debug)]
pub struct Harness {
    object: Loaded,
    cases: MapHandle,
    workloads: MapHandle,
    bss: MapHandle,
    tables: Tables,
    passed_shortly: u64,
}

impl Harness {
    /// Loads the decision code.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn load() -> Result<Self, LoadError> {
        let object = ObjectBuilder::default()
            .open_memory(abi::HARNESS)
            .map_err(LoadError::Open)?;
        let object = explained(|| object.load()).map_err(LoadError::Load)?;
        let handle = |name: &'static str| {
            object
                .maps()
                .find(|map| map.name().to_string_lossy().ends_with(name))
                .ok_or_else(|| libbpf_rs::Error::from_raw_os_error(ENOENT))
                .and_then(|map| MapHandle::try_from(&map))
                .map_err(|source| LoadError::Map {
                    map: name.to_owned(),
                    source,
                })
        };
        let shelves = [
            handle("rules_64k")?,
            handle("rules_512k")?,
            handle("rules_4m")?,
            handle("rules_32m")?,
        ];
        Ok(Self {
            cases: handle("cases")?,
            workloads: handle("workloads")?,
            bss: handle(".bss")?,
            tables: Tables::new(shelves, abi::limit::ABI_TABLE_SLACK.0, None),
            passed_shortly: 0,
            object,
        })
    }

    /// Decides every access by `rules`, in the kernel.
    ///
    /// # Errors
    ///
    /// When the ruleset does not fit, or the kernel refuses.
    pub fn decide(
        &mut self,
        rules: &Ruleset,
        accesses: &[Access],
    ) -> Result<Vec<Verdict>, ApplyError> {
        let active = self.tables.acquire(rules)?.active(0);
        let verdicts = self.decide_active(active, accesses);
        self.tables.release(&rules.content_id())?;
        verdicts
    }

    /// What can be measured of its programs.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell their numbers.
    pub fn measured(&self) -> Result<Measured, LoadError> {
        let programs = self.object.progs().map(|program| {
            let name = program.name().to_string_lossy().into_owned();
            Ok((Program::id_from_fd(program.as_fd())?, name))
        });
        let programs = programs.collect::<libbpf_rs::Result<Vec<_>>>();
        let programs = programs.map_err(LoadError::Query)?;
        Ok(Measured::of_programs(programs.into_iter()))
    }

    /// How many accesses so far the kernel let pass by the short way, too, which looks up a path's last
    /// name from where its directory led. It may let nothing else pass: that would have been an error.
    #[must_use]
    pub fn passed_shortly(&self) -> u64 {
        self.passed_shortly
    }

    fn decide_active(
        &mut self,
        active: u64,
        accesses: &[Access],
    ) -> Result<Vec<Verdict>, ApplyError> {
        store(&self.workloads, ROW, &active.to_ne_bytes())?;
        let most = usize::try_from(abi::limit::ABI_HARNESS_CASES.0).unwrap_or(1);
        let mut verdicts = Vec::with_capacity(accesses.len());
        for some in accesses.chunks(most) {
            for (key, access) in (0u32..).zip(some) {
                store(&self.cases, key, &encode(access))?;
            }
            self.run(some.len())?;
            self.passed_shortly += self.shortly_in_run()?;
            for (key, _) in (0u32..).zip(some) {
                verdicts.push(self.answer(key)?);
            }
        }
        Ok(verdicts)
    }

    fn run(&self, count: usize) -> Result<(), ApplyError> {
        let mut globals = vec![0; size_of::<abi::harness_bss>()];
        let count = u32::try_from(count).unwrap_or(0);
        put(
            &mut globals,
            offset_of!(abi::harness_bss, case_count),
            count,
        );
        store(&self.bss, 0, &globals)?;
        let doing = "running the decision code";
        let program = self
            .object
            .progs_mut()
            .find(|program| program.name() == "decide_cases")
            .ok_or_else(|| ApplyError::Map {
                doing,
                source: libbpf_rs::Error::from_raw_os_error(ENOENT),
            })?;
        program
            .test_run(ProgramInput::default())
            .map(drop)
            .map_err(|source| ApplyError::Map { doing, source })
    }

    fn shortly_in_run(&self) -> Result<u64, ApplyError> {
        let read = self.bss.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
        let globals = read.map_err(|source| ApplyError::Map {
            doing: "reading how many accesses passed shortly",
            source,
        })?;
        let at = offset_of!(abi::harness_bss, passed_shortly);
        let counted = globals.as_deref().and_then(|globals| globals.get(at..));
        let counted = counted.and_then(|rest| rest.first_chunk().copied());
        Ok(counted.map_or(0, u64::from_ne_bytes))
    }

    fn answer(&self, key: u32) -> Result<Verdict, ApplyError> {
        let doing = "reading a decision";
        let case = self
            .cases
            .lookup(&key.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| ApplyError::Map { doing, source })?
            .unwrap_or_default();
        let word = |at: usize| {
            case.get(at..)
                .and_then(|rest| rest.first_chunk().copied())
                .map_or(u32::MAX, u32::from_ne_bytes)
        };
        if word(offset_of!(harness_case, error)) != 0 {
            return Err(ApplyError::Map {
                doing,
                source: libbpf_rs::Error::from_raw_os_error(ENOENT),
            });
        }
        verdict(word(offset_of!(harness_case, verdict))).map_err(ApplyError::Decision)
    }
}

fn store(map: &MapHandle, key: u32, value: &[u8]) -> Result<(), ApplyError> {
    map.update(&key.to_ne_bytes(), value, MapFlags::ANY)
        .map_err(|source| ApplyError::Map {
            doing: "writing a case",
            source,
        })
}

/// The bytes of a `struct harness_case`. Paths longer than the kernel's are cut at their start,
/// which makes them differ from every rule.
fn encode(access: &Access) -> Vec<u8> {
    let mut case = vec![0; size_of::<harness_case>()];
    let (first, second) = Variant::of(access.category, access.modes);
    put(&mut case, offset_of!(harness_case, workload), ROW);
    let category = CATEGORIES.iter().find(|(_, c)| *c == access.category);
    let category = category.map_or(abi::automaton::ABI_AUTOMATON_COUNT, |(slot, _)| *slot);
    put(&mut case, offset_of!(harness_case, category), category.0);
    put(
        &mut case,
        offset_of!(harness_case, variant),
        first.bits().into(),
    );
    let both = u32::from(second.is_some());
    put(&mut case, offset_of!(harness_case, read_and_write), both);
    let subject = match &access.subject {
        Subject::Runtime => &[][..],
        Subject::Image(path) => path,
    };
    let object = object_bytes(&access.object).unwrap_or_default();
    let terminal = u32::from(access.modes.terminal);
    put(&mut case, offset_of!(harness_case, terminal), terminal);
    put_arguments(&mut case, &access.arguments);
    put_path(
        &mut case,
        offset_of!(harness_case, subject),
        offset_of!(harness_case, subject_len),
        subject,
    );
    put_path(
        &mut case,
        offset_of!(harness_case, object),
        offset_of!(harness_case, object_len),
        &object,
    );
    case
}

/// Puts a path so that it ends where its buffer of `ABI_PATH_MAX` bytes does.
fn put_path(case: &mut [u8], buffer: usize, len_at: usize, path: &[u8]) {
    let most = usize::try_from(abi::limit::ABI_PATH_MAX.0).unwrap_or(0);
    let shown = path.get(path.len().saturating_sub(most)..).unwrap_or(path);
    put(case, len_at, u32::try_from(shown.len()).unwrap_or(0));
    if let Some(place) = case.get_mut(buffer + most - shown.len()..buffer + most) {
        place.copy_from_slice(shown);
    }
}

/// Puts arguments one after the other with a NUL after each, as far as there is room.
fn put_arguments(case: &mut [u8], arguments: &[Vec<u8>]) {
    let most = usize::try_from(abi::limit::ABI_PATH_MAX.0).unwrap_or(0);
    let mut bytes: Vec<u8> = Vec::new();
    for argument in arguments {
        bytes.extend(argument);
        bytes.push(0);
    }
    bytes.truncate(most);
    let len = u32::try_from(bytes.len()).unwrap_or(0);
    put(case, offset_of!(harness_case, arguments_len), len);
    let at = offset_of!(harness_case, arguments);
    if let Some(place) = case.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(&bytes);
    }
}
