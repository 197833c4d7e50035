// SPDX-License-Identifier: Apache-2.0
//! Telling what workloads do: `bpf/logs.bpf.c`.
//!
//! The programs are loaded when something is to be visible for the first time, attached while
//! something is, and end with the agent: what nobody reads is not told. They use the pinned tables of
//! the programs that decide, and have others of their own.

use crate::abi;
use crate::attach::{self, LoadError, program_ids};
use crate::calls;
use crate::hashes::HashTable;
use crate::hooks::LeftOut;
use crate::kernel::WorkloadIndex;
use crate::lower::put;
use crate::pins::Place;
use crate::refusal::explained;
use crate::ring::LogReader;
use gorget_model::Visibility;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Func;
use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject};
use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::mem::offset_of;

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/logs.bpf.o"));
/// The iterator that tells how often something was repeated.
const FLUSH: &str = "log_flush";
/// Of the two programs at the end of a process, the one that knows more, where it can be, and the
/// other.
const END: (&str, &str) = ("log_end", "taskstats_exit");
const ENDED: &str = "log_ended";

// The programs of both objects share this table, which each describes for itself.
const _: () = {
    assert!(size_of::<abi::logs_bss>() == size_of::<abi::enforce_bss>());
    assert!(offset_of!(abi::logs_bss, unknown_zero) == offset_of!(abi::enforce_bss, unknown_zero));
    assert!(
        offset_of!(abi::logs_bss, bound_cgroups) == offset_of!(abi::enforce_bss, bound_cgroups)
    );
};

/// How many operations were to be told, and what became of them: the first is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Operations that were visible.
    pub attempted: u64,
    /// Told one by one.
    pub sent: u64,
    /// Counted as repeats, which are told by their number.
    pub counted: u64,
    /// Lost.
    pub lost: u64,
}

/// The programs that tell what workloads do.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    /// By workload, where something is visible.
    shown: HashMap<WorkloadIndex, Visibility>,
    loaded: Option<Loaded>,
    trouble: Option<LoadError>,
}

#[derive(Debug)]
struct Loaded {
    object: Object,
    visible: MapHandle,
    /// What the table says.
    marked: HashMap<WorkloadIndex, Visibility>,
    ends: MapHandle,
    /// How often the programs were attached.
    epoch: u32,
    epochs: MapHandle,
    counts: MapHandle,
    /// Until somebody takes it.
    channel: Option<MapHandle>,
    /// While something is visible.
    links: Vec<(String, Link)>,
    program_ids: BTreeSet<u32>,
}

impl Logs {
    /// From now on this of a workload is visible. What goes wrong is kept, and tried again the next
    /// time.
    pub(crate) fn show(&mut self, index: WorkloadIndex, wanted: Visibility, place: &Place) {
        let before = match wanted {
            Visibility::NONE => self.shown.remove(&index),
            _ => self.shown.insert(index, wanted),
        };
        let is_unchanged = before.unwrap_or_default() == wanted;
        if is_unchanged && self.trouble.is_none() {
            return;
        }
        self.trouble = self.bring_about(place).err();
    }

    /// Loads the programs, which takes the kernel a second, before anybody waits for it.
    pub(crate) fn prepare(&mut self, place: &Place) {
        if self.loaded.is_none() {
            match Loaded::load(place) {
                Ok(loaded) => self.loaded = Some(loaded),
                Err(error) => self.trouble = Some(error),
            }
        }
    }

    /// Why what is to be visible is not. `None`: it is.
    pub(crate) fn trouble(&self) -> Option<&LoadError> {
        self.trouble.as_ref()
    }

    /// Once; then it is the reader's. `hashes` are for it, too.
    pub(crate) fn take_reader(&mut self, hashes: Option<HashTable>) -> Option<LogReader> {
        let channel = self.loaded.as_mut()?.channel.take()?;
        Some(LogReader::new(channel, hashes))
    }

    pub(crate) fn has_program(&self, id: u32) -> bool {
        let loaded = self.loaded.as_ref();
        loaded.is_some_and(|loaded| loaded.program_ids.contains(&id))
    }

    /// Names of the attached programs.
    pub(crate) fn hooks(&self) -> impl Iterator<Item = &str> {
        self.links().map(|(name, _)| name.as_str())
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &(String, Link)> {
        self.loaded.iter().flat_map(|loaded| &loaded.links)
    }

    /// Has the numbers of repeats told that were counted for long enough.
    pub(crate) fn tell_repeats(&self) -> Result<(), LoadError> {
        let loaded = self.loaded.iter().filter(|it| !it.links.is_empty());
        loaded.into_iter().try_for_each(Loaded::flush)
    }

    pub(crate) fn counts(&self) -> libbpf_rs::Result<LogCounts> {
        let Some(loaded) = &self.loaded else {
            return Ok(LogCounts::default());
        };
        let count = |what: abi::log_count| -> libbpf_rs::Result<u64> {
            let key = what.0.to_ne_bytes();
            let each_cpu = loaded.counts.lookup_percpu(&key, MapFlags::ANY)?;
            let each_cpu = each_cpu.unwrap_or_default();
            let counts = each_cpu.iter().filter_map(|bytes| bytes.first_chunk());
            // One processor may take back what another has counted.
            Ok(counts.fold(0, |sum, bytes| {
                u64::wrapping_add(sum, u64::from_ne_bytes(*bytes))
            }))
        };
        Ok(LogCounts {
            attempted: count(abi::log_count::ABI_LOGS_ATTEMPTED)?,
            sent: count(abi::log_count::ABI_LOGS_SENT)?,
            counted: count(abi::log_count::ABI_LOGS_COUNTED)?,
            lost: count(abi::log_count::ABI_LOGS_LOST)?,
        })
    }

    /// Nothing is visible any more, and everything that was is in the ring buffer or counted.
    pub(crate) fn end(&mut self) -> Result<(), LoadError> {
        self.shown.clear();
        self.loaded.as_mut().map_or(Ok(()), Loaded::detach)
    }

    fn bring_about(&mut self, place: &Place) -> Result<(), LoadError> {
        if self.shown.is_empty() {
            return self.loaded.as_mut().map_or(Ok(()), |loaded| {
                loaded.mark(&self.shown)?;
                loaded.detach()
            });
        }
        let loaded = match &mut self.loaded {
            Some(loaded) => loaded,
            none => none.insert(Loaded::load(place)?),
        };
        // What is noted of a call by one program is taken by another.
        loaded.attach()?;
        loaded.mark(&self.shown)
    }
}

impl Loaded {
    fn load(place: &Place) -> Result<Self, LoadError> {
        let (mut open, _) = open().map_err(LoadError::Open)?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            let pinned = attach::pinned_as(&name).map(|name| place.path_of(name));
            if let Some(path) = pinned.filter(|path| path.exists()) {
                map.reuse_pinned_map(path).map_err(LoadError::Open)?;
            }
        }
        let object = explained(|| open.load()).map_err(LoadError::Load)?;
        let handle = |name: &str| {
            let map = object.maps().find(|map| map.name() == name);
            let map = map.ok_or_else(|| attach::missing(name))?;
            MapHandle::try_from(&map).map_err(|source| LoadError::Map {
                map: name.to_owned(),
                source,
            })
        };
        Ok(Self {
            visible: handle("visible")?,
            marked: HashMap::new(),
            ends: handle("log_ends")?,
            epochs: handle("log_epoch")?,
            epoch: 0,
            counts: handle("log_counts")?,
            channel: Some(handle("logs")?),
            links: Vec::new(),
            program_ids: BTreeSet::new(),
            object,
        })
    }

    /// Says in the table what is visible.
    fn mark(&mut self, shown: &HashMap<WorkloadIndex, Visibility>) -> Result<(), LoadError> {
        let rows: BTreeSet<_> = shown.keys().chain(self.marked.keys()).copied().collect();
        for index in rows {
            let wanted = shown.get(&index).copied().unwrap_or_default();
            if self.marked.get(&index).copied().unwrap_or_default() == wanted {
                continue;
            }
            let mask = mask(wanted).to_ne_bytes();
            let marked = self
                .visible
                .update(&index.0.to_ne_bytes(), &mask, MapFlags::ANY);
            marked.map_err(|source| LoadError::Map {
                map: "visible".to_owned(),
                source,
            })?;
            match wanted {
                Visibility::NONE => self.marked.remove(&index),
                _ => self.marked.insert(index, wanted),
            };
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<(), LoadError> {
        if self.links.is_empty() {
            set(&self.ends, "log_ends", 0)?;
            self.epoch = self.epoch.wrapping_add(1);
            set(&self.epochs, "log_epoch", self.epoch)?;
            let links = attach::attach(std::slice::from_ref(&self.object))?;
            self.program_ids = program_ids(&links)?;
            self.links = links;
        }
        Ok(())
    }

    /// Detaches the programs, and has everything told that they counted.
    fn detach(&mut self) -> Result<(), LoadError> {
        self.links.retain(|(name, _)| name == FLUSH);
        if !self.links.is_empty() {
            set(&self.ends, "log_ends", 1)?;
            self.flush()?;
            self.links.clear();
            self.program_ids.clear();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), LoadError> {
        let Some((_, link)) = self.links.iter().find(|(name, _)| name == FLUSH) else {
            return Err(attach::missing(FLUSH));
        };
        let mut visited = Iter::new(link).map_err(LoadError::Query)?;
        // It writes nothing: reading it to the end is what does it.
        let read = visited.read_to_end(&mut Vec::new());
        read.map(drop).map_err(LoadError::Flush)
    }
}

/// Opens the programs, fitted to the running kernel.
pub(crate) fn open() -> libbpf_rs::Result<(OpenObject, LeftOut)> {
    let mut open = ObjectBuilder::default().name("logs")?.open_memory(OBJECT)?;
    let btf = Btf::from_vmlinux()?;
    let (end, function) = END;
    let (unwanted, instead) = match btf.type_by_name::<Func<'_>>(function) {
        Some(_) => (ENDED, end),
        None => (end, ENDED),
    };
    for mut program in open.progs_mut() {
        if program.name() == unwanted {
            program.set_autoload(false);
        }
    }
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata")
            && let Some(bytes) = map.initial_value_mut()
        {
            let at = offset_of!(abi::logs_rodata, agent_pid);
            put(bytes, at, std::process::id());
            calls::put_known(bytes, offset_of!(abi::logs_rodata, calls_known));
        }
    }
    let left_out = LeftOut {
        name: unwanted,
        instead,
    };
    Ok((open, left_out))
}

/// Writes the only row of a table.
fn set(map: &MapHandle, name: &str, value: u32) -> Result<(), LoadError> {
    map.update(&0u32.to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY)
        .map_err(|source| LoadError::Map {
            map: name.to_owned(),
            source,
        })
}

fn mask(visible: Visibility) -> u32 {
    let Visibility {
        process,
        file,
        network,
        capabilities,
        dns,
    } = visible;
    [
        (process, abi::visible::ABI_VISIBLE_PROCESS),
        (file, abi::visible::ABI_VISIBLE_FILE),
        (network, abi::visible::ABI_VISIBLE_NETWORK),
        (capabilities, abi::visible::ABI_VISIBLE_CAPABILITIES),
        (dns, abi::visible::ABI_VISIBLE_DNS),
    ]
    .into_iter()
    .filter(|(is_visible, _)| *is_visible)
    .fold(0, |mask, (_, bit)| mask | bit.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_bit_of_its_own() {
        let masks = ["process", "file", "network", "capabilities", "dns"]
            .map(|name| mask(Visibility::parse(name).unwrap()));
        assert_eq!(masks, [1, 2, 4, 8, 16]);
        assert_eq!(mask(Visibility::NONE), 0);
    }
}
