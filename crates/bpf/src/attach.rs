// SPDX-License-Identifier: Apache-2.0
//! Getting hold of attached programs and their tables: new ones, or those that an earlier agent left.
//!
//! INVARIANT: when this fails, what was attached before is still attached, and nothing else is.

use crate::guard;
use crate::hooks::{self, LeftOut, Part};
use crate::kernel::ApplyError;
use crate::pins::{PinError, Place};
use crate::programs::Programs;
use crate::refusal::{Refusal, explained};
use libbpf_rs::{Link, MapCore as _, MapHandle, Object, OpenObject, ProgramType};
use std::collections::BTreeSet;
use std::fs::File;
use std::num::NonZero;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;

/// Where cgroup v2 is mounted (systemd's file system hierarchy; cgroups(7)).
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// The program that visits all tasks.
const ENROL: &str = "enrol_tasks";
/// Begins the names of sections with constants, which every loading has of its own.
const CONSTANTS: &str = ".rodata";
/// The tables that the agent uses.
const MAPS: [&str; 14] = [
    "workloads",
    "roots",
    "cgroups",
    "losses",
    "bss",
    "alerts",
    "guards",
    "starts",
    "starting",
    "guarded",
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
        map: String,
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
    /// Repeats of what is logged cannot be told.
    #[error("reading the numbers of repeats")]
    Flush(#[source] std::io::Error),
    /// Nobody could make hashes of programs.
    #[error("this kernel has no IMA (`/sys/kernel/security/ima`), which makes hashes of programs")]
    NoIma,
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
        let left_out = hooks::fit(programs, Part::Decisions, &mut open).map_err(LoadError::Open)?;
        let is_adopted = place.is_taken();
        let mut links = if is_adopted {
            place.links()?
        } else {
            let loaded = loaded_at_once(programs, open)?;
            let mut links = attach(&loaded.programs)?;
            let mut maps = handles(&loaded.tables)?;
            let tables = maps.iter().map(|(_, map)| map);
            let guarded = maps.iter().find(|(name, _)| name == "guarded");
            let (_, guarded) = guarded.ok_or_else(|| missing("guarded"))?;
            guard::add_tables(guarded, tables).map_err(LoadError::Guard)?;
            guard::add_links(guarded, &links).map_err(LoadError::Guard)?;
            place.keep(&mut links, &mut maps)?;
            links
        };
        let mut maps = Vec::new();
        for name in MAPS {
            maps.push(place.map(name)?);
        }
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

/// Loads and attaches the programs that observe system calls, with the tables of the others.
pub(crate) fn attach_calls(
    programs: Programs,
    place: &Place,
    guarded: &MapHandle,
) -> Result<Vec<(String, Link)>, LoadError> {
    let mut open = programs.open().map_err(LoadError::Open)?;
    hooks::fit(programs, Part::Calls, &mut open).map_err(LoadError::Open)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some(name) = pinned_as(&name) {
            map.reuse_pinned_map(place.path_of(name))
                .map_err(LoadError::Open)?;
        }
    }
    let object = explained(|| open.load()).map_err(LoadError::Load)?;
    let mut links = attach(&[object])?;
    place.keep_calls(&mut links)?;
    if let Err(error) = guard::add_links(guarded, &links) {
        place.remove_calls()?;
        return Err(LoadError::Guard(error));
    }
    Ok(links)
}

/// The kernel's numbers of the programs that are attached.
pub(crate) fn program_ids(links: &[(String, Link)]) -> Result<BTreeSet<u32>, LoadError> {
    let ids = links.iter().map(|(_, link)| Ok(link.info()?.prog_id));
    ids.collect::<libbpf_rs::Result<_>>()
        .map_err(LoadError::Query)
}

pub(crate) fn missing(what: &str) -> LoadError {
    LoadError::Attach {
        hook: what.to_owned(),
        source: libbpf_rs::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error()),
    }
}

/// Tables, and programs that share them.
struct Loaded {
    tables: Object,
    programs: Vec<Object>,
}

/// Loads the programs on all processors: the kernel takes its time to verify each, but does several at
/// once.
fn loaded_at_once(programs: Programs, mut open: OpenObject) -> Result<Loaded, LoadError> {
    for mut program in open.progs_mut() {
        program.set_autoload(false);
    }
    let tables = explained(|| open.load()).map_err(LoadError::Load)?;
    let shared = handles(&tables)?;
    let parts = thread::available_parallelism().map_or(1, NonZero::get);
    let open: Vec<_> = (0..parts)
        .map(|part| open_part(programs, (part, parts), &shared))
        .collect::<Result<_, _>>()
        .map_err(LoadError::Open)?;
    let load_all = || {
        thread::scope(|scope| {
            let loading: Vec<_> = open
                .into_iter()
                .map(|part| scope.spawn(|| part.load()))
                .collect();
            let loaded = loading.into_iter().map(|part| match part.join() {
                Ok(loaded) => loaded,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            // Every one is waited for, whatever becomes of the others.
            loaded
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<libbpf_rs::Result<Vec<_>>>()
        })
    };
    let programs = explained(load_all).map_err(LoadError::Load)?;
    Ok(Loaded { tables, programs })
}

/// Each of `parts` gets every so many-th of the programs, with the tables that there are.
fn open_part(
    programs: Programs,
    (part, parts): (usize, usize),
    tables: &[(String, MapHandle)],
) -> libbpf_rs::Result<OpenObject> {
    let mut open = programs.open()?;
    hooks::fit(programs, Part::Decisions, &mut open)?;
    let wanted = open.progs_mut().filter(|program| program.autoload());
    for (n, mut program) in wanted.enumerate() {
        program.set_autoload(n % parts == part);
    }
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let name = pinned_as(&name);
        if let Some((_, table)) = tables
            .iter()
            .find(|(table, _)| Some(table.as_str()) == name)
        {
            map.reuse_fd(table.as_fd())?;
        }
    }
    Ok(open)
}

/// Attaches every program to its hook.
pub(crate) fn attach(objects: &[Object]) -> Result<Vec<(String, Link)>, LoadError> {
    let cgroups = File::open(CGROUP_ROOT).map_err(LoadError::Cgroups)?;
    let mut links = Vec::new();
    for program in objects.iter().flat_map(Object::progs_mut) {
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

/// What a table is pinned as: its name without what libbpf puts before those of sections; `None` for
/// constants.
pub(crate) fn pinned_as(map: &str) -> Option<&str> {
    if map.contains(CONSTANTS) {
        return None;
    }
    map.rsplit_once('.')
        .map_or(Some(map), |(_, name)| Some(name))
}

/// The tables, under the names that they are pinned as.
fn handles(object: &Object) -> Result<Vec<(String, MapHandle)>, LoadError> {
    let mut handles = Vec::new();
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        let Some(name) = pinned_as(&name) else {
            continue;
        };
        match MapHandle::try_from(&map) {
            Ok(handle) => handles.push((name.to_owned(), handle)),
            Err(source) => {
                let map = name.to_owned();
                return Err(LoadError::Map { map, source });
            }
        }
    }
    Ok(handles)
}
