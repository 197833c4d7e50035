// SPDX-License-Identifier: Apache-2.0
//! Getting hold of attached programs and their tables: new ones, or those that an earlier agent left.
//!
//! INVARIANT: when this fails, what was attached before is still attached, and nothing else is.

use crate::guard;
use crate::hooks::{self, LeftOut};
use crate::kernel::ApplyError;
use crate::pins::{PinError, Place};
use crate::programs::Programs;
use crate::refusal::{Refusal, explained};
use libbpf_rs::{Link, Map, MapCore as _, MapHandle, Object, ProgramType};
use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Where cgroup v2 is mounted (systemd's file system hierarchy; cgroups(7)).
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The program that visits all tasks.
const ENROL: &str = "enrol_tasks";
/// The tables that the agent uses.
const MAPS: [&str; 13] = [
    "workloads",
    "roots",
    "cgroups",
    "losses",
    "bss",
    "alerts",
    "guards",
    "starts",
    "starting",
    "rules_64k",
    "rules_512k",
    "rules_4m",
    "rules_32m",
];

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
    /// What outlives the agent cannot be kept or found again.
    #[error("keeping the kernel programs beyond the agent's end")]
    Pin(#[from] PinError),
    /// Programs and tables cannot be protected.
    #[error("protecting the kernel programs")]
    Guard(#[source] libbpf_rs::Error),
    /// What is in force already cannot be taken over.
    #[error("taking over what is in force; `gorgetd --uninstall` removes it")]
    Adopt(#[source] ApplyError),
}

/// Attached programs and their tables.
#[derive(Debug)]
pub(crate) struct Attached {
    /// By the program's name, which is that of its hook.
    pub(crate) links: Vec<(String, Link)>,
    /// The iterator over all tasks.
    pub(crate) enrol: Link,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) place: Place,
    /// An earlier agent attached them.
    pub(crate) is_adopted: bool,
    /// In the order of [`MAPS`].
    pub(crate) maps: [MapHandle; MAPS.len()],
    /// Channels of alerts of other builds' programs.
    pub(crate) others: Vec<MapHandle>,
}

impl Attached {
    pub(crate) fn get(programs: Programs) -> Result<Self, LoadError> {
        let place = Place::prepare(programs)?;
        let mut open = programs.open().map_err(LoadError::Open)?;
        let left_out = hooks::fit(programs, &mut open).map_err(LoadError::Open)?;
        let is_adopted = place.is_taken();
        let (mut links, maps) = if is_adopted {
            let mut maps = Vec::new();
            for name in MAPS {
                maps.push((name, place.map(name)?));
            }
            (place.links()?, maps)
        } else {
            let object = explained(|| open.load()).map_err(LoadError::Load)?;
            let mut links = attach(&object)?;
            let mut maps = handles(&object)?;
            let guarded = map(&object, "guarded")?;
            guard::add(&object, &guarded, &links).map_err(LoadError::Guard)?;
            place.keep(&mut links, &mut maps)?;
            (links, maps)
        };
        let maps: Vec<_> = maps.into_iter().map(|(_, map)| map).collect();
        let maps = maps.try_into().map_err(|_unfit| missing("a map"))?;
        let at = links.iter().position(|(name, _)| name == ENROL);
        let (_, enrol) = links.swap_remove(at.ok_or_else(|| missing(ENROL))?);
        Ok(Self {
            links,
            enrol,
            left_out,
            others: place.others("alerts")?,
            place,
            is_adopted,
            maps,
        })
    }
}

fn missing(what: &str) -> LoadError {
    LoadError::Attach {
        hook: what.to_owned(),
        source: libbpf_rs::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error()),
    }
}

/// Attaches every program to its hook.
fn attach(object: &Object) -> Result<Vec<(String, Link)>, LoadError> {
    let cgroups = File::open(CGROUP_ROOT).map_err(LoadError::Cgroups)?;
    let mut links = Vec::new();
    for program in object.progs_mut() {
        if !program.autoload() {
            continue;
        }
        let hook = program.name().to_string_lossy().into_owned();
        let attached = match program.prog_type() {
            // For the packets of every socket: the root of the hierarchy.
            ProgramType::CgroupSkb => program.attach_cgroup(cgroups.as_raw_fd()),
            _ => program.attach(),
        };
        match attached {
            Ok(link) => links.push((hook, link)),
            Err(source) => return Err(LoadError::Attach { hook, source }),
        }
    }
    Ok(links)
}

/// The tables, under their names without what libbpf puts before those of sections.
fn handles(object: &Object) -> Result<Vec<(&'static str, MapHandle)>, LoadError> {
    let mut handles = Vec::new();
    for name in MAPS {
        let handle = MapHandle::try_from(&map(object, name)?);
        handles.push((
            name,
            handle.map_err(|source| LoadError::Map { map: name, source })?,
        ));
    }
    Ok(handles)
}

fn map<'obj>(object: &'obj Object, name: &'static str) -> Result<Map<'obj>, LoadError> {
    let is_it = |map: &Map<'_>| {
        let found = map.name().to_string_lossy();
        found == name || found.ends_with(&format!(".{name}"))
    };
    object.maps().find(is_it).ok_or_else(|| missing(name))
}
