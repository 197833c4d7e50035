// SPDX-License-Identifier: Apache-2.0
//! The loaded programs and what is in force.
//!
//! INVARIANT: index 0 of the workload table is the host. An index is not given to another workload
//! before all others were used, because tasks that left their cgroup keep theirs.

mod shown;

use crate::abi;
use crate::attach::{Attached, LoadError, program_ids};
use crate::calls::Calls;
use crate::costs::Measured;
use crate::guard::Protection;
use crate::hashes::HashPrograms;
use crate::hooks::LeftOut;
use crate::logs::Logs;
use crate::lower::put;
use crate::pins::{PinError, Place};
use crate::programs::Programs;
use crate::ring::Reader;
use crate::starting::{self, Beginnings, Start};
use crate::tables::{RulesetNumber, Tables};
use gorget_engine::{ContentId, Ruleset, Test};
use gorget_model::{Category, Loss, LossStage, Mode, Visibility};
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::mem::offset_of;

/// A row of the kernel's workload table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadIndex(pub u32);

impl WorkloadIndex {
    /// Everything that is in no container.
    pub const HOST: Self = Self(0);
}

/// Something could not be put in force; what was in force before still is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The ruleset does not fit the kernel's form.
    #[error(transparent)]
    Lower(crate::lower::LowerError),
    /// A table is full.
    #[error("there are {limit} {what} already")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: u32,
    },
    /// The workload is not bound.
    #[error("workload {} is not bound", .0.0)]
    NotBound(WorkloadIndex),
    /// The kernel refused an operation on a map.
    #[error("{doing}")]
    Map {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A decision's word means nothing.
    #[error("reading a decision")]
    Decision(#[source] crate::decode::DecodeError),
    /// A workload's entry names no table.
    #[error("the entry {0:#x} of a workload names no ruleset")]
    Entry(u64),
    /// Reading the enrolment iterator failed.
    #[error("enrolling running tasks")]
    Enrol(#[source] std::io::Error),
}

/// What an earlier agent left cannot be ended.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// A workload that is gone.
    #[error("ending a workload that is gone")]
    Unbind(#[from] ApplyError),
    /// Programs of another build.
    #[error("removing the programs of another version")]
    Remove(#[from] PinError),
}

/// What is in force for a workload now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// This ruleset.
    Ruleset(RulesetNumber),
    /// No rules.
    Nothing,
}

#[derive(Debug, Default)]
struct InForce {
    cgroup: Option<u64>,
    content: Option<ContentId>,
    /// What the ruleset has to say something about (`enum abi_active`).
    flags: u32,
}

/// What the agent tells the programs, and itself after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Globals {
    bound_cgroups: u32,
    flags_anywhere: u32,
    next_workload: u32,
    next_ruleset: u32,
    next_slots: [u32; 4],
    losses_told: [u64; KERNEL_STAGES],
    boot_unix_micros: u64,
    skipped_before: u64,
}

/// The attached programs, and what is in force. They outlive it, and the agent: see
/// [`crate::uninstall`].
#[derive(Debug)]
pub struct Kernel {
    /// Attached programs by name.
    links: Vec<(String, Link)>,
    /// The kernel's numbers of them.
    program_ids: BTreeSet<u32>,
    /// How often the kernel has left out one of them, as of the last time that somebody looked.
    skipped: u64,
    /// Looks again when it is 0.
    until_skipped: u32,
    left_out: Vec<LeftOut>,
    enrol: Link,
    workloads: MapHandle,
    roots: MapHandle,
    cgroups: MapHandle,
    losses: MapHandle,
    bss: MapHandle,
    alerts: MapHandle,
    guard: MapHandle,
    starts: MapHandle,
    starting: MapHandle,
    calls: Calls,
    logs: Logs,
    /// Where they are wanted.
    hashes: Option<HashPrograms>,
    /// Channels of alerts of other builds' programs that are still attached.
    others: Vec<MapHandle>,
    tables: Tables,
    in_force: HashMap<WorkloadIndex, InForce>,
    next_index: u32,
    told: Globals,
    place: Place,
    /// Workloads that an earlier agent bound and this one has not met yet; `None` when this agent has
    /// attached the programs.
    unclaimed: Option<BTreeSet<WorkloadIndex>>,
}

impl Kernel {
    /// Attaches all programs, or takes over those that an earlier agent of the same build attached,
    /// with everything that is in force. Of itself it changes nothing that is in force.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a program, with the verifier's reason, or what is there cannot be used.
    pub fn load(programs: Programs) -> Result<Self, LoadError> {
        let Attached {
            links,
            enrol,
            left_out,
            place,
            is_adopted,
            maps,
            others,
        } = Attached::get(programs)?;
        let [
            workloads,
            roots,
            cgroups,
            losses,
            bss,
            alerts,
            guard,
            starts,
            starting,
            guarded,
            rules @ ..,
        ] = maps;
        let calls = Calls::found(programs, guarded, &place)?;
        let mut kernel = Self {
            program_ids: program_ids(&links)?,
            links,
            skipped: 0,
            until_skipped: 0,
            left_out,
            enrol,
            workloads,
            roots,
            cgroups,
            losses,
            bss,
            alerts,
            guard,
            starts,
            starting,
            calls,
            logs: Logs::default(),
            hashes: None,
            others,
            tables: Tables::new(rules, abi::limit::ABI_TABLE_SLACK.0, Some(&place.maps())),
            in_force: HashMap::from([(WorkloadIndex::HOST, InForce::default())]),
            next_index: 1,
            told: Globals::default(),
            place,
            unclaimed: None,
        };
        if is_adopted {
            kernel.adopt().map_err(LoadError::Adopt)?;
        }
        Ok(kernel)
    }

    /// Learns what is in force.
    fn adopt(&mut self) -> Result<(), ApplyError> {
        let told = self.read_globals()?;
        let failed = |source| ApplyError::Map {
            doing: "reading what is in force",
            source,
        };
        let mut unclaimed = BTreeSet::new();
        for cgroup in self.cgroups.keys() {
            let index = self
                .cgroups
                .lookup(&cgroup, MapFlags::ANY)
                .map_err(failed)?;
            let index = index.and_then(|index| index.first_chunk().copied());
            if let (Some(index), Some(cgroup)) = (index, cgroup.first_chunk().copied()) {
                let index = WorkloadIndex(u32::from_ne_bytes(index));
                unclaimed.insert(index);
                self.in_force.entry(index).or_default().cgroup = Some(u64::from_ne_bytes(cgroup));
            }
        }
        for (index, there) in &mut self.in_force {
            let key = index.0.to_ne_bytes();
            let entry = self.workloads.lookup(&key, MapFlags::ANY).map_err(failed)?;
            let active = entry.and_then(|entry| entry.first_chunk().copied());
            let active = active.map_or(0, u64::from_ne_bytes);
            if active != 0 {
                there.content = Some(self.tables.adopt(active)?);
                let flags = active >> abi::active::ABI_ACTIVE_FLAGS_SHIFT.0;
                there.flags = u32::try_from(flags).unwrap_or(0);
            }
        }
        self.tables.adopted(told.next_ruleset, told.next_slots)?;
        self.next_index = told.next_workload.max(1);
        self.told = told;
        self.unclaimed = Some(unclaimed);
        Ok(())
    }

    /// Whether the programs were attached by an earlier agent.
    pub fn is_adopted(&self) -> bool {
        self.unclaimed.is_some()
    }

    /// All workloads are known now: ends those that an earlier agent bound and nobody claimed, and
    /// removes programs of other builds, whose part these have taken over. Gives the number of
    /// workloads and the programs.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; then some are left, and the next call tries again.
    pub fn all_known(&mut self) -> Result<(usize, Vec<String>), SettleError> {
        let unclaimed = self.unclaimed.clone().unwrap_or_default();
        for index in &unclaimed {
            self.unbind(*index)?;
            if let Some(left) = &mut self.unclaimed {
                left.remove(index);
            }
        }
        Ok((unclaimed.len(), self.place.remove_others()?))
    }

    /// Names of the attached programs, which are those of their hooks.
    pub fn hooks(&self) -> impl Iterator<Item = &str> {
        let names = self.links.iter().map(|(name, _)| name.as_str());
        names.chain(self.calls.hooks()).chain(self.logs.hooks())
    }

    /// What can be measured of what is attached and in force now.
    pub fn measured(&self) -> Measured {
        let attached = self.links.iter().chain(self.calls.links());
        let hashes = self.hashes.iter().flat_map(HashPrograms::links);
        let links = attached.chain(self.logs.links()).chain(hashes);
        Measured::new(links, self.in_force.len(), self.tables.counts())
    }

    /// Programs that were left out because this kernel is older than their hooks.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Opens the channel of alerts, once.
    ///
    /// # Errors
    ///
    /// When its memory cannot be mapped.
    pub fn reader(&mut self) -> Result<Reader, LoadError> {
        let hashes = self.hashes.as_ref().map(HashPrograms::table).transpose()?;
        let others = std::mem::take(&mut self.others);
        MapHandle::try_from(&self.alerts)
            .map(|alerts| Reader::new(alerts, others, hashes))
            .map_err(|source| LoadError::Map {
                map: "alerts".to_owned(),
                source,
            })
    }

    /// Opens the channel that tells of containers that begin.
    ///
    /// # Errors
    ///
    /// When it cannot be opened a second time.
    pub fn beginnings(&self) -> Result<Beginnings, LoadError> {
        MapHandle::try_from(&self.starting)
            .map(Beginnings::new)
            .map_err(|source| LoadError::Map {
                map: "starting".to_owned(),
                source,
            })
    }

    /// What was seen in a cgroup when a container began there, once; `None` when none did since the
    /// programs were attached, or too many others have since.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn take_start(&self, cgroup: u64) -> Result<Option<Start>, ApplyError> {
        starting::take(&self.starts, cgroup).map_err(|source| ApplyError::Map {
            doing: "reading when a container began",
            source,
        })
    }

    /// From now on nobody but the caller's program, the one beside it, and the first process of the
    /// host may signal or trace the caller, or change what the programs consist of.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn protect(&self, protection: Protection) -> Result<(), ApplyError> {
        let pins = self.place.identity();
        let guard = protection.in_words(std::process::id(), pins);
        self.store(&self.guard, "protecting what enforces", 0, &guard)?;
        // The kernel fills in where the caller's program is.
        self.enrol()
    }

    /// Lets the next agent be any program of the host.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn take_leave(&self, protection: Protection) -> Result<(), ApplyError> {
        let guard = protection.in_words(0, self.place.identity());
        self.store(&self.guard, "taking leave", 0, &guard)
    }

    /// Makes a cgroup, given by its id, a workload. From now on every `execve` below it by a task of
    /// the host enters the workload; tasks that run in it already need [`Kernel::enrol`].
    ///
    /// # Errors
    ///
    /// When there are too many workloads, or the kernel refuses.
    pub fn bind(&mut self, cgroup: u64) -> Result<WorkloadIndex, ApplyError> {
        if let Some(index) = self.claim(cgroup) {
            return Ok(index);
        }
        let index = self.free_index()?;
        // Order matters: the row is clean before a task can enter it.
        self.store(&self.workloads, "clearing a workload", index.0, &[0; 8])?;
        let no_root = [0; size_of::<abi::workload_root>()];
        self.store(&self.roots, "clearing a workload's root", index.0, &no_root)?;
        self.cgroups
            .update(&cgroup.to_ne_bytes(), &index.0.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| ApplyError::Map {
                doing: "binding a cgroup",
                source,
            })?;
        self.in_force.insert(
            index,
            InForce {
                cgroup: Some(cgroup),
                content: None,
                flags: 0,
            },
        );
        self.tell(0)?;
        Ok(index)
    }

    /// The row that an earlier agent gave to a cgroup.
    fn claim(&mut self, cgroup: u64) -> Option<WorkloadIndex> {
        let unclaimed = self.unclaimed.as_mut()?;
        let is_its = |index: &WorkloadIndex| {
            let there = self.in_force.get(index);
            there.is_some_and(|there| there.cgroup == Some(cgroup))
        };
        let index = unclaimed.iter().copied().find(is_its)?;
        unclaimed.remove(&index);
        Some(index)
    }

    /// Ends a workload: its cgroup is no longer bound and its row holds no rules.
    ///
    /// # Errors
    ///
    /// When it is not bound, or the kernel refuses.
    pub fn unbind(&mut self, index: WorkloadIndex) -> Result<(), ApplyError> {
        self.apply(index, None, Mode::Disabled)?;
        self.show(index, Visibility::NONE);
        let Some(InForce {
            cgroup: Some(cgroup),
            content: _,
            flags: _,
        }) = self.in_force.remove(&index)
        else {
            return Err(ApplyError::NotBound(index));
        };
        self.cgroups
            .delete(&cgroup.to_ne_bytes())
            .map_err(|source| ApplyError::Map {
                doing: "releasing a cgroup",
                source,
            })?;
        self.tell(0)
    }

    /// Makes the tasks that already run in bound cgroups members of their workloads, and learns the
    /// root directories of workloads and host.
    ///
    /// # Errors
    ///
    /// When the iterator over all tasks cannot be read.
    pub fn enrol(&self) -> Result<(), ApplyError> {
        let mut tasks = Iter::new(&self.enrol).map_err(|source| ApplyError::Map {
            doing: "opening the iterator over tasks",
            source,
        })?;
        // It writes nothing: reading it to the end is what visits every task.
        let mut nothing = Vec::new();
        tasks
            .read_to_end(&mut nothing)
            .map(drop)
            .map_err(ApplyError::Enrol)
    }

    /// Puts a ruleset in force for a workload, by one store: every operation is decided by all of
    /// the old rules or all of the new.
    ///
    /// # Errors
    ///
    /// When the ruleset is too large or the kernel refuses; then the old rules stay.
    pub fn apply(
        &mut self,
        index: WorkloadIndex,
        rules: Option<&Ruleset>,
        mode: Mode,
    ) -> Result<Applied, ApplyError> {
        let old = match self.in_force.get(&index) {
            Some(there) => there.content,
            None => return Err(ApplyError::NotBound(index)),
        };
        let wanted = rules
            .filter(|_| mode != Mode::Disabled)
            .and_then(|rules| flags(rules, mode).map(|flags| (rules, flags)));
        let new_flags = wanted.map_or(0, |(_, flags)| flags);
        let (active, applied) = match wanted {
            Some((rules, flags)) => {
                let place = self.tables.acquire(rules)?;
                (place.active(flags), Applied::Ruleset(place.number))
            }
            None => (0, Applied::Nothing),
        };
        // The programs look where nobody has rules only after they were told that somebody has.
        let of_calls = new_flags & abi::active::ABI_ACTIVE_SYSCALL.0;
        if of_calls != 0 {
            self.calls.observe(&self.place);
        }
        let switched = self.tell(new_flags).and_then(|()| {
            self.store(
                &self.workloads,
                "switching a workload's rules",
                index.0,
                &active.to_ne_bytes(),
            )
        });
        let new = wanted.map(|(rules, _)| rules.content_id());
        let unused = if switched.is_ok() {
            let there = self.in_force.entry(index).or_default();
            there.content = new;
            there.flags = new_flags;
            old
        } else {
            new
        };
        if let Some(content) = unused {
            self.tables.release(&content)?;
        }
        switched.and_then(|()| self.tell(0))?;
        if self.told.flags_anywhere & abi::active::ABI_ACTIVE_SYSCALL.0 == 0 {
            self.ignore_calls()?;
        }
        Ok(applied)
    }

    /// Detaches the programs that observe system calls; what the kernel counts of them goes with them.
    fn ignore_calls(&mut self) -> Result<(), ApplyError> {
        if !self.calls.are_observed() {
            return Ok(());
        }
        let skipped = skipped_by(|id| self.calls.has_program(id));
        self.calls.ignore(&self.place);
        if self.calls.are_observed() {
            return Ok(());
        }
        self.tell_globals(Globals {
            skipped_before: self.told.skipped_before.saturating_add(skipped),
            ..self.told.clone()
        })
    }

    /// Why rules about system calls tell nothing, or why programs are still attached for nobody. `None`:
    /// what should be attached is, and nothing else. Attaching is tried again by the next
    /// [`Kernel::apply`] of such rules.
    pub fn trouble_with_calls(&self) -> Option<&LoadError> {
        self.calls.trouble()
    }

    /// What was lost or undecidable in the kernel and was not told yet.
    ///
    /// # Errors
    ///
    /// When the counters cannot be read.
    pub fn losses(&mut self) -> Result<Vec<Loss>, ApplyError> {
        let mut new = Vec::new();
        if self.until_skipped == 0 {
            self.skipped = self.count_skipped();
        }
        self.until_skipped = (self.until_skipped + 1) % SKIPPED_EVERY;
        let stages = (0u32..).zip(LossStage::ALL);
        for ((key, stage), told) in stages.zip(self.told.losses_told) {
            let total = match stage {
                LossStage::Skipped => self.skipped,
                _ => self.counted(key)?,
            };
            if total > told {
                new.push(Loss {
                    stage,
                    count: total - told,
                });
            }
        }
        Ok(new)
    }

    /// What was told of losses, by this agent and those before it, since the programs were attached.
    pub fn all_losses(&self) -> impl Iterator<Item = Loss> {
        let counts = self.told.losses_told.into_iter();
        let stages = LossStage::ALL.into_iter().zip(counts);
        stages.map(|(stage, count)| Loss { stage, count })
    }

    /// What the programs have counted at a stage.
    fn counted(&self, stage: u32) -> Result<u64, ApplyError> {
        let each_cpu = self
            .losses
            .lookup_percpu(&stage.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| ApplyError::Map {
                doing: "reading the loss counters",
                source,
            })?
            .unwrap_or_default();
        let counts = each_cpu
            .iter()
            .filter_map(|bytes| bytes.first_chunk().copied().map(u64::from_ne_bytes));
        Ok(counts.sum())
    }

    /// Whether the kernel tells of the programs that are loaded, which takes `CAP_SYS_ADMIN`
    /// (`BPF_PROG_GET_NEXT_ID`). Otherwise nobody knows how often it left one out, nor what they cost.
    pub fn lists_programs(&self) -> bool {
        ProgInfoIter::default().any(|program| self.program_ids.contains(&program.id))
    }

    /// How often the kernel has left out one of the programs.
    fn count_skipped(&self) -> u64 {
        let now = skipped_by(|id| {
            self.program_ids.contains(&id)
                || self.calls.has_program(id)
                || self.logs.has_program(id)
                || self.hashes.as_ref().is_some_and(|it| it.has_program(id))
        });
        self.told.skipped_before.saturating_add(now)
    }

    /// These losses were told, and are not told again, by no other agent either.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to keep that.
    pub fn losses_told(&mut self, losses: &[Loss]) -> Result<(), ApplyError> {
        let mut globals = self.told.clone();
        for (stage, told) in LossStage::ALL.into_iter().zip(&mut globals.losses_told) {
            *told += losses
                .iter()
                .filter(|loss| loss.stage == stage)
                .map(|loss| loss.count)
                .sum::<u64>();
        }
        self.tell_globals(globals)
    }

    /// When the machine was started, in microseconds since 1970, as the first agent measured it: so an
    /// event that is told twice has the same time. `measured` counts when the clock was set since then.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to keep it.
    pub fn boot_unix_micros(&mut self, measured: i64) -> Result<i64, ApplyError> {
        let kept = self.told.boot_unix_micros.cast_signed();
        if kept.abs_diff(measured) < CLOCK_SET_MICROS {
            return Ok(kept);
        }
        self.tell_globals(Globals {
            boot_unix_micros: measured.cast_unsigned(),
            ..self.told.clone()
        })?;
        Ok(measured)
    }

    fn free_index(&mut self) -> Result<WorkloadIndex, ApplyError> {
        let limit = abi::limit::ABI_WORKLOADS.0;
        for _ in 1..limit {
            let index = WorkloadIndex(self.next_index);
            self.next_index = if index.0 + 1 < limit { index.0 + 1 } else { 1 };
            if !self.in_force.contains_key(&index) {
                return Ok(index);
            }
        }
        Err(ApplyError::Full {
            what: "workloads",
            limit: limit - 1,
        })
    }

    /// Tells the programs whether looking for bound cgroups is worth while, and what some workload has
    /// rules about or will have in a moment (`soon`).
    fn tell(&mut self, soon: u32) -> Result<(), ApplyError> {
        self.tell_globals(Globals {
            bound_cgroups: u32::try_from(self.in_force.len() - 1).unwrap_or(u32::MAX),
            flags_anywhere: self.in_force.values().fold(soon, |all, w| all | w.flags),
            next_workload: self.next_index,
            next_ruleset: self.tables.next_number(),
            next_slots: self.tables.next_slots(),
            ..self.told.clone()
        })
    }

    fn tell_globals(&mut self, globals: Globals) -> Result<(), ApplyError> {
        if self.told == globals {
            return Ok(());
        }
        let mut bytes = [0; size_of::<abi::enforce_bss>()];
        for (at, value) in [
            (BOUND_CGROUPS, globals.bound_cgroups),
            (FLAGS_ANYWHERE, globals.flags_anywhere),
            (NEXT_WORKLOAD, globals.next_workload),
            (NEXT_RULESET, globals.next_ruleset),
        ] {
            put(&mut bytes, at, value);
        }
        for (class, next) in globals.next_slots.into_iter().enumerate() {
            put(&mut bytes, NEXT_SLOTS + class * size_of::<u32>(), next);
        }
        put_u64(&mut bytes, BOOT_UNIX_MICROS, &[globals.boot_unix_micros]);
        put_u64(&mut bytes, LOSSES_TOLD, &globals.losses_told);
        put_u64(&mut bytes, SKIPPED_BEFORE, &[globals.skipped_before]);
        self.store(&self.bss, "saying what is in force", 0, &bytes)?;
        self.told = globals;
        Ok(())
    }

    fn read_globals(&self) -> Result<Globals, ApplyError> {
        let bytes = self
            .bss
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| ApplyError::Map {
                doing: "reading what was in force",
                source,
            })?
            .unwrap_or_default();
        let word = |at: usize| {
            let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk().copied());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let mut losses_told = [0; KERNEL_STAGES];
        let (counts, _) = bytes.get(LOSSES_TOLD..).unwrap_or_default().as_chunks();
        for (told, count) in losses_told.iter_mut().zip(counts) {
            *told = u64::from_ne_bytes(*count);
        }
        let long = |at: usize| {
            let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk().copied());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        Ok(Globals {
            bound_cgroups: word(BOUND_CGROUPS),
            flags_anywhere: word(FLAGS_ANYWHERE),
            next_workload: word(NEXT_WORKLOAD),
            next_ruleset: word(NEXT_RULESET),
            next_slots: [0, 1, 2, 3].map(|class| word(NEXT_SLOTS + class * size_of::<u32>())),
            losses_told,
            boot_unix_micros: long(BOOT_UNIX_MICROS),
            skipped_before: long(SKIPPED_BEFORE),
        })
    }

    fn store(
        &self,
        map: &MapHandle,
        doing: &'static str,
        key: u32,
        value: &[u8],
    ) -> Result<(), ApplyError> {
        map.update(&key.to_ne_bytes(), value, MapFlags::ANY)
            .map_err(|source| ApplyError::Map { doing, source })
    }
}

/// How often the kernel has left out these programs.
fn skipped_by(is_one: impl Fn(u32) -> bool) -> u64 {
    ProgInfoIter::default()
        .filter(|program| is_one(program.id))
        .map(|program| program.recursion_misses)
        .sum()
}

fn put_u64(bytes: &mut [u8], at: usize, values: &[u64]) {
    let values = values.iter().flat_map(|value| value.to_ne_bytes());
    let room = bytes.iter_mut().skip(at);
    room.zip(values).for_each(|(to, from)| *to = from);
}

/// Asking the kernel about all of its programs takes it a millisecond: done once in so many times.
const SKIPPED_EVERY: u32 = 16;
/// A clock that is further off was set; measuring is far more exact.
const CLOCK_SET_MICROS: u64 = 100_000;
/// Where losses are counted in the kernel; the other stages are the agent's.
const KERNEL_STAGES: usize = abi::loss::ABI_LOSS_COUNT.0 as usize;
const BOUND_CGROUPS: usize = offset_of!(abi::enforce_bss, bound_cgroups);
const FLAGS_ANYWHERE: usize = offset_of!(abi::enforce_bss, flags_anywhere);
const NEXT_WORKLOAD: usize = offset_of!(abi::enforce_bss, next_workload);
const NEXT_RULESET: usize = offset_of!(abi::enforce_bss, next_ruleset);
const NEXT_SLOTS: usize = offset_of!(abi::enforce_bss, next_slots);
const BOOT_UNIX_MICROS: usize = offset_of!(abi::enforce_bss, boot_unix_micros);
const LOSSES_TOLD: usize = offset_of!(abi::enforce_bss, losses_told);
const SKIPPED_BEFORE: usize = offset_of!(abi::enforce_bss, skipped_before);

/// The flags of a workload's entry; `None` when the ruleset says nothing at all.
fn flags(rules: &Ruleset, mode: Mode) -> Option<u32> {
    let covered = |category, flag: abi::active| if rules.covers(category) { flag.0 } else { 0 };
    let mut flags = covered(Category::Process, abi::active::ABI_ACTIVE_PROCESS)
        | covered(Category::File, abi::active::ABI_ACTIVE_TREE)
        | covered(Category::Network, abi::active::ABI_ACTIVE_NETWORK)
        | covered(Category::Dns, abi::active::ABI_ACTIVE_DNS)
        | covered(Category::Capability, abi::active::ABI_ACTIVE_CAPABILITY)
        | covered(Category::Preset, abi::active::ABI_ACTIVE_PRESET)
        | covered(Category::Syscall, abi::active::ABI_ACTIVE_SYSCALL);
    if rules.covers(Category::File) && !rules.covers_only_trees(Category::File) {
        flags |= abi::active::ABI_ACTIVE_FILE.0;
    }
    if flags == 0 {
        return None;
    }
    let mut branches = Category::ALL
        .into_iter()
        .flat_map(|category| rules.decisions(category).branches());
    if branches.any(|branch| branch.test == Test::NoTerminal) {
        flags |= abi::active::ABI_ACTIVE_TERMINAL.0;
    }
    if mode == Mode::Audited {
        flags |= abi::active::ABI_ACTIVE_AUDITED.0;
    }
    Some(flags)
}
