// SPDX-License-Identifier: Apache-2.0
//! The loaded programs and what is in force.
//!
//! INVARIANT: index 0 of the workload table is the host. An index is not given to another workload
//! before all others were used, because tasks that left their cgroup keep theirs.

use crate::abi;
use crate::hooks::{self, LeftOut};
use crate::lower::put;
use crate::refusal::{Refusal, explained};
use crate::ring::Reader;
use crate::tables::{RulesetNumber, Tables};
use gorget_engine::{ContentId, Ruleset, Test};
use gorget_model::{Category, Loss, LossStage, Mode};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle, ProgramType};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::AsRawFd as _;

/// Where cgroup v2 is mounted (systemd's file system hierarchy; cgroups(7)).
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// A row of the kernel's workload table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadIndex(pub u32);

impl WorkloadIndex {
    /// Everything that is in no container.
    pub const HOST: Self = Self(0);
}

/// The programs cannot be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object is not what this kernel's BTF allows.
    #[error("opening the kernel programs")]
    Open(#[source] libbpf_rs::Error),
    /// The kernel refused a program or a map.
    #[error("loading the kernel programs")]
    Load(#[source] Refusal),
    /// The kernel does not say what it has loaded.
    #[error("asking the kernel about its programs")]
    Query(#[source] libbpf_rs::Error),
    /// A program was refused at its hook.
    #[error("attaching `{hook}`")]
    Attach {
        /// Program, named like its hook.
        hook: String,
        /// Why.
        #[source]
        source: libbpf_rs::Error,
    },
    /// There is no hierarchy of control groups.
    #[error("opening `{CGROUP_ROOT}`")]
    Cgroups(#[source] std::io::Error),
    /// A map cannot be used.
    #[error("opening map `{map}`")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: libbpf_rs::Error,
    },
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
    /// Reading the enrolment iterator failed.
    #[error("enrolling running tasks")]
    Enrol(#[source] std::io::Error),
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

/// The loaded and attached programs. Dropping it detaches them.
#[derive(Debug)]
pub struct Kernel {
    /// Attached programs by name.
    links: Vec<(String, Link)>,
    left_out: Vec<LeftOut>,
    enrol: Link,
    workloads: MapHandle,
    roots: MapHandle,
    cgroups: MapHandle,
    losses: MapHandle,
    bss: MapHandle,
    alerts: MapHandle,
    tables: Tables,
    in_force: HashMap<WorkloadIndex, InForce>,
    next_index: u32,
    reported: [u64; LossStage::ALL.len()],
    /// What the programs were told last: bound cgroups, flags of all workloads together.
    told: (u32, u32),
}

impl Kernel {
    /// Loads and attaches all programs. Nothing is enforced until [`Kernel::apply`].
    ///
    /// # Errors
    ///
    /// When the kernel refuses a program, with the verifier's reason.
    pub fn load() -> Result<Self, LoadError> {
        let mut storage = MaybeUninit::uninit();
        let mut open = abi::EnforceSkelBuilder::default()
            .open(&mut storage)
            .map_err(LoadError::Open)?;
        let left_out = hooks::fit(&mut open).map_err(LoadError::Open)?;
        let skeleton = explained(|| open.load()).map_err(LoadError::Load)?;

        let cgroups = File::open(CGROUP_ROOT).map_err(LoadError::Cgroups)?;
        let mut links = Vec::new();
        let mut enrol = None;
        for program in libbpf_rs::skel::Skel::object(&skeleton).progs_mut() {
            if !program.autoload() {
                continue;
            }
            let hook = program.name().to_string_lossy().into_owned();
            let attached = match program.prog_type() {
                // For the packets of every socket: the root of the hierarchy.
                ProgramType::CgroupSkb => program.attach_cgroup(cgroups.as_raw_fd()),
                _ => program.attach(),
            };
            let link = attached.map_err(|source| LoadError::Attach {
                hook: hook.clone(),
                source,
            })?;
            if hook == "enrol_tasks" {
                enrol = Some(link);
            } else {
                links.push((hook, link));
            }
        }
        let enrol = enrol.ok_or_else(|| LoadError::Attach {
            hook: "enrol_tasks".to_owned(),
            source: libbpf_rs::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error()),
        })?;

        let maps = &skeleton.maps;
        let handle = |name, map: &libbpf_rs::Map<'_>| {
            MapHandle::try_from(map).map_err(|source| LoadError::Map { map: name, source })
        };
        let shelves = [
            handle("rules_64k", &maps.rules_64k)?,
            handle("rules_512k", &maps.rules_512k)?,
            handle("rules_4m", &maps.rules_4m)?,
            handle("rules_32m", &maps.rules_32m)?,
        ];
        let mut kernel = Self {
            links,
            left_out,
            enrol,
            workloads: handle("workloads", &maps.workloads)?,
            roots: handle("roots", &maps.roots)?,
            cgroups: handle("cgroups", &maps.cgroups)?,
            losses: handle("losses", &maps.losses)?,
            bss: handle(".bss", &maps.bss)?,
            alerts: handle("alerts", &maps.alerts)?,
            tables: Tables::new(shelves, abi::limit::ABI_TABLE_SLACK.0),
            in_force: HashMap::new(),
            next_index: 1,
            reported: [0; LossStage::ALL.len()],
            told: (0, 0),
        };
        kernel
            .in_force
            .insert(WorkloadIndex::HOST, InForce::default());
        Ok(kernel)
    }

    /// Names of the attached programs, which are those of their hooks.
    pub fn hooks(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|(name, _)| name.as_str())
    }

    /// Programs that were left out because this kernel is older than their hooks.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Opens the channel of alerts.
    ///
    /// # Errors
    ///
    /// When its memory cannot be mapped.
    pub fn reader(&self) -> Result<Reader, LoadError> {
        MapHandle::try_from(&self.alerts)
            .map(Reader::new)
            .map_err(|source| LoadError::Map {
                map: "alerts",
                source,
            })
    }

    /// Makes a cgroup, given by its id, a workload. From now on every `execve` below it by a task of
    /// the host enters the workload; tasks that run in it already need [`Kernel::enrol`].
    ///
    /// # Errors
    ///
    /// When there are too many workloads, or the kernel refuses.
    pub fn bind(&mut self, cgroup: u64) -> Result<WorkloadIndex, ApplyError> {
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

    /// Ends a workload: its cgroup is no longer bound and its row holds no rules.
    ///
    /// # Errors
    ///
    /// When it is not bound, or the kernel refuses.
    pub fn unbind(&mut self, index: WorkloadIndex) -> Result<(), ApplyError> {
        self.apply(index, None, Mode::Disabled)?;
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
        switched.and_then(|()| self.tell(0)).map(|()| applied)
    }

    /// What was lost or undecidable in the kernel since the last call.
    ///
    /// # Errors
    ///
    /// When the counters cannot be read.
    pub fn losses(&mut self) -> Result<Vec<Loss>, ApplyError> {
        let mut new = Vec::new();
        let counted = 0..abi::loss::ABI_LOSS_COUNT.0;
        for ((key, stage), reported) in counted.zip(LossStage::ALL).zip(&mut self.reported) {
            let each_cpu = self
                .losses
                .lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)
                .map_err(|source| ApplyError::Map {
                    doing: "reading the loss counters",
                    source,
                })?
                .unwrap_or_default();
            let total: u64 = each_cpu
                .iter()
                .filter_map(|bytes| bytes.first_chunk().copied().map(u64::from_ne_bytes))
                .sum();
            if total > *reported {
                new.push(Loss {
                    stage,
                    count: total - *reported,
                });
                *reported = total;
            }
        }
        Ok(new)
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
        let bound = u32::try_from(self.in_force.len() - 1).unwrap_or(u32::MAX);
        let flags = self.in_force.values().fold(soon, |all, w| all | w.flags);
        if self.told == (bound, flags) {
            return Ok(());
        }
        let mut globals = [0; size_of::<abi::enforce_bss>()];
        let at = offset_of!(abi::enforce_bss, bound_cgroups);
        put(&mut globals, at, bound);
        let at = offset_of!(abi::enforce_bss, flags_anywhere);
        put(&mut globals, at, flags);
        self.store(&self.bss, "saying what is in force", 0, &globals)?;
        self.told = (bound, flags);
        Ok(())
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

/// The flags of a workload's entry; `None` when the ruleset says nothing at all.
fn flags(rules: &Ruleset, mode: Mode) -> Option<u32> {
    let covered = |category, flag: abi::active| if rules.covers(category) { flag.0 } else { 0 };
    let mut flags = covered(Category::Process, abi::active::ABI_ACTIVE_PROCESS)
        | covered(Category::File, abi::active::ABI_ACTIVE_TREE)
        | covered(Category::Network, abi::active::ABI_ACTIVE_NETWORK)
        | covered(Category::Dns, abi::active::ABI_ACTIVE_DNS)
        | covered(Category::Capability, abi::active::ABI_ACTIVE_CAPABILITY)
        | covered(Category::Preset, abi::active::ABI_ACTIVE_PRESET);
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
