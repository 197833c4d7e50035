// SPDX-License-Identifier: Apache-2.0
//! What the programs cost, as the kernel measures it, and how full the tables are.
//!
//! The kernel measures how often and how long programs run only while somebody wants that
//! ([`Statistics`]) or an administrator has switched it on for good ([`are_always_on`]): it costs every run
//! of every program on the machine two looks at the clock. What was measured before is kept and grows from
//! there. Reading changes nothing and needs nobody who owns the programs.

use crate::abi;
use libbpf_rs::Link;
use libbpf_rs::libbpf_sys::{BPF_STATS_RUN_TIME, bpf_enable_stats};
use libbpf_rs::query::ProgInfoIter;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// While it is there, the kernel measures.
#[derive(Debug)]
pub struct Statistics {
    _held: OwnedFd,
}

impl Statistics {
    /// Has the kernel measure.
    ///
    /// # Errors
    ///
    /// When it refuses, or is older than 5.8 and cannot.
    pub fn on() -> io::Result<Self> {
        // SAFETY: a number is passed and a number comes back.
        let fd = unsafe { bpf_enable_stats(BPF_STATS_RUN_TIME) };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(fd.saturating_neg()));
        }
        // SAFETY: it is open, and nobody else knows it.
        let held = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { _held: held })
    }
}

/// Whether the kernel measures whoever asks, because `kernel.bpf_stats_enabled` is set.
#[must_use]
pub fn are_always_on() -> bool {
    fs::read_to_string(SWITCH).is_ok_and(|value| value.trim() == "1")
}

/// What one program has cost while it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// The kernel's number of it: another one after it was attached again.
    pub id: u32,
    /// Its name, which is that of its hook.
    pub name: String,
    /// How often it ran.
    pub runs: u64,
    /// How long, all runs together.
    pub nanos: u64,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The table.
    pub name: &'static str,
    /// Entries in it.
    pub entries: u64,
    /// As many as there may be.
    pub capacity: u64,
}

/// What can be measured: which programs are attached, and how full tables were at that time. Tables
/// whose entries would have to be counted one by one are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    programs: BTreeMap<u32, String>,
    fills: Vec<Fill>,
}

impl Measured {
    /// `rules` counts the tables of rules in the kernel's order of sizes. A program whose number the kernel
    /// does not tell is missing, and so is its cost.
    pub(crate) fn new<'a>(
        links: impl Iterator<Item = &'a (String, Link)>,
        workloads: usize,
        rules: [usize; 4],
    ) -> Self {
        let names = ["rules_64k", "rules_512k", "rules_4m", "rules_32m"];
        let rules = names.into_iter().zip(rules).map(|(name, entries)| Fill {
            name,
            entries: wide(entries),
            capacity: abi::limit::ABI_SLOTS.0.into(),
        });
        let workloads = Fill {
            name: "workloads",
            entries: wide(workloads),
            capacity: abi::limit::ABI_WORKLOADS.0.into(),
        };
        Self::of_programs(
            links.filter_map(|(name, link)| Some((link.info().ok()?.prog_id, name.clone()))),
        )
        .with(std::iter::once(workloads).chain(rules))
    }

    pub(crate) fn of_programs(programs: impl Iterator<Item = (u32, String)>) -> Self {
        Self {
            programs: programs.collect(),
            fills: Vec::new(),
        }
    }

    fn with(mut self, fills: impl Iterator<Item = Fill>) -> Self {
        self.fills.extend(fills);
        self
    }

    /// How full tables are.
    #[must_use]
    pub fn fills(&self) -> &[Fill] {
        &self.fills
    }

    /// How many programs there are.
    #[must_use]
    pub fn programs(&self) -> usize {
        self.programs.len()
    }

    /// What the programs have cost while it was measured. One that the kernel does not tell about, because it
    /// was detached meanwhile or the kernel refuses, is not among them. Takes the kernel a millisecond.
    #[must_use]
    pub fn costs(&self) -> Vec<ProgramCost> {
        let ours = ProgInfoIter::default().filter_map(|program| {
            Some(ProgramCost {
                id: program.id,
                name: self.programs.get(&program.id)?.clone(),
                runs: program.run_cnt,
                nanos: program.run_time_ns,
            })
        });
        ours.collect()
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
