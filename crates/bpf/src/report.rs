// SPDX-License-Identifier: Apache-2.0
//! What this kernel can do for Gorget, found out by trying.
//!
//! Every feature is used once and every program is loaded, without being attached. When the programs
//! do not load together, each is tried alone, so that the report says which of them the kernel
//! refuses, and why. Needs root, changes nothing, and takes as long as loading does.

use crate::attach::LoadError;
use crate::hashes;
use crate::hooks::{self, LeftOut, Part};
use crate::logs;
use crate::probe::{Feature, features};
use crate::programs::Programs;
use crate::refusal::{Refusal, explained};
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::{OpenObject, Program};
use std::collections::HashMap;
use std::os::fd::AsFd as _;

/// What a kernel can do.
#[derive(Debug)]
pub struct Report {
    /// As `uname -r` says it.
    pub release: String,
    /// What compiled the programs; the verifier's figures depend on it.
    pub compiler: &'static str,
    /// What the programs are made of.
    pub features: Vec<Feature>,
    /// The programs that enforce, in their order in the object.
    pub programs: Vec<Tried>,
    /// Those that only audit.
    pub audit_only: Vec<Tried>,
    /// Those that tell what workloads do, and those that have hashes made of what they run.
    pub logs: Vec<Tried>,
}

/// A program that was tried.
#[derive(Debug)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// Where it is attached, as in `lsm/file_open`.
    pub hook: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of loading a program.
#[derive(Debug)]
pub enum Outcome {
    /// It loads; the verifier went through so many instructions.
    Works {
        /// As the kernel counts them; 0 before Linux 5.16, which does not say.
        instructions: u32,
    },
    /// The kernel has no such hook.
    LeftOut {
        /// The hook that decides there instead.
        instead: &'static str,
    },
    /// The kernel does not take it.
    Refused(Refusal),
}

/// Tries everything.
///
/// # Errors
///
/// When the programs cannot even be opened, or the kernel says nothing about what it has loaded.
pub fn report() -> Result<Report, LoadError> {
    let [programs, audit_only] = Programs::ALL.map(|programs| {
        try_all(&|| {
            let mut open = programs.open()?;
            let left_out = hooks::fit(programs, Part::Both, &mut open)?;
            Ok((open, left_out))
        })
    });
    let mut logs = try_all(&open_logs)?;
    logs.extend(try_all(&|| Ok((hashes::open()?, Vec::new())))?);
    Ok(Report {
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        compiler: env!("GORGET_CLANG"),
        features: features(),
        programs: programs?,
        audit_only: audit_only?,
        logs,
    })
}

/// Programs that were opened, fitted to this kernel, and which of them are left out.
type Opened = libbpf_rs::Result<(OpenObject, Vec<LeftOut>)>;

fn open_logs() -> Opened {
    let (open, left_out) = logs::open()?;
    Ok((open, vec![left_out]))
}

fn try_all(open: &dyn Fn() -> Opened) -> Result<Vec<Tried>, LoadError> {
    let mut all = names(open)?;
    match load(open, None) {
        Ok(outcomes) => settle(&mut all, outcomes),
        Err(LoadError::Load(_)) => {
            for tried in &mut all {
                match load(open, Some(&tried.name)) {
                    Ok(outcomes) => settle(std::slice::from_mut(tried), outcomes),
                    Err(LoadError::Load(refusal)) => tried.outcome = Outcome::Refused(refusal),
                    Err(other) => return Err(other),
                }
            }
        }
        Err(other) => return Err(other),
    }
    Ok(all)
}

fn settle(programs: &mut [Tried], mut outcomes: HashMap<String, Outcome>) {
    for tried in programs {
        if let Some(outcome) = outcomes.remove(&tried.name) {
            tried.outcome = outcome;
        }
    }
}

fn names(open: &dyn Fn() -> Opened) -> Result<Vec<Tried>, LoadError> {
    let (open, _) = open().map_err(LoadError::Open)?;
    let programs = open.progs().map(|program| Tried {
        name: program.name().to_string_lossy().into_owned(),
        hook: program.section().to_string_lossy().into_owned(),
        outcome: Outcome::Works { instructions: 0 },
    });
    Ok(programs.collect())
}

/// Loads all programs, or one, and says what came of them.
fn load(
    open: &dyn Fn() -> Opened,
    only: Option<&str>,
) -> Result<HashMap<String, Outcome>, LoadError> {
    let (mut open, left_out) = open().map_err(LoadError::Open)?;
    for mut program in open.progs_mut() {
        let wanted = only.is_none_or(|name| program.name() == name);
        if !wanted {
            program.set_autoload(false);
        }
    }
    let object = explained(|| open.load()).map_err(LoadError::Load)?;
    let verified: HashMap<u32, u32> = ProgInfoIter::default()
        .map(|info| (info.id, info.verified_insns))
        .collect();
    let mut outcomes: HashMap<_, _> = left_out
        .into_iter()
        .map(|hook| {
            let instead = hook.instead;
            (hook.name.to_owned(), Outcome::LeftOut { instead })
        })
        .collect();
    for program in object.progs().filter(|program| program.autoload()) {
        let id = Program::id_from_fd(program.as_fd()).map_err(LoadError::Query)?;
        let instructions = verified.get(&id).copied().unwrap_or(0);
        let name = program.name().to_string_lossy().into_owned();
        outcomes.insert(name, Outcome::Works { instructions });
    }
    Ok(outcomes)
}
