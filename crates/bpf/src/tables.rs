// SPDX-License-Identifier: Apache-2.0
//! Rulesets in the kernel: each is installed once, whatever the number of workloads that share it.
//!
//! INVARIANT: a slot is written before any workload names it, and emptied only after no workload
//! names it any more. A program that read the old name in between finds the slot empty, or with
//! another number in its header, and reads the workload's entry again.
//!
//! Tables are pinned, each under a name of its own, while they are in a slot: the next agent has to read
//! what is in them, and only who has `CAP_SYS_ADMIN` gets a map by its number.

use crate::abi;
use crate::kernel::ApplyError;
use crate::lower::{SizeClass, lower};
use gorget_engine::{ContentId, Ruleset};
use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Names a ruleset in the kernel and in events; never used twice while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulesetNumber(pub u32);

#[derive(Debug)]
struct Installed {
    number: RulesetNumber,
    size_class: SizeClass,
    slot: u32,
    users: u32,
}

/// The outer map of one size class.
#[derive(Debug)]
struct Shelf {
    map: MapHandle,
    free: Vec<u32>,
    next: u32,
    /// Bytes of a value, slack included.
    value_size: u32,
    /// Where tables are pinned, up to the number of the slot; none: nobody comes after this agent.
    pins: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Tables {
    shelves: [Shelf; 4],
    installed: HashMap<ContentId, Installed>,
    next_number: u32,
}

/// An installed table, as a workload's entry names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) number: RulesetNumber,
    size_class: SizeClass,
    slot: u32,
}

impl Place {
    /// The reverse of [`Place::active`].
    fn named_by(active: u64) -> Result<Self, ApplyError> {
        let part = |shift: abi::active, mask: u64| active >> shift.0 & mask;
        let slots = u64::from(abi::active::ABI_ACTIVE_SLOT_MASK.0);
        let classes = u64::from(abi::active::ABI_ACTIVE_CLASS_MASK.0);
        let class = part(abi::active::ABI_ACTIVE_CLASS_SHIFT, classes);
        let size_class = SizeClass::ALL
            .into_iter()
            .find(|c| u64::from(c.number()) == class)
            .ok_or(ApplyError::Entry(active))?;
        let slot = part(abi::active::ABI_ACTIVE_SLOT_SHIFT, slots);
        Ok(Self {
            number: RulesetNumber(u32::try_from(active & u64::from(u32::MAX)).unwrap_or(0)),
            size_class,
            slot: u32::try_from(slot).unwrap_or(0),
        })
    }

    /// The word that puts it in force.
    pub(crate) fn active(self, flags: u32) -> u64 {
        u64::from(self.number.0)
            | u64::from(self.slot) << abi::active::ABI_ACTIVE_SLOT_SHIFT.0
            | u64::from(self.size_class.number()) << abi::active::ABI_ACTIVE_CLASS_SHIFT.0
            | u64::from(flags) << abi::active::ABI_ACTIVE_FLAGS_SHIFT.0
    }
}

impl Tables {
    /// `maps` in the order of [`SizeClass::ALL`]. `pins`: the directory in which tables are pinned.
    pub(crate) fn new(maps: [MapHandle; 4], slack: u32, pins: Option<&Path>) -> Self {
        let mut classes = SizeClass::ALL.into_iter();
        Self {
            shelves: maps.map(|map| {
                let class = classes.next().unwrap_or(SizeClass::M32);
                Shelf {
                    map,
                    free: Vec::new(),
                    next: 0,
                    value_size: class.bytes() + slack,
                    pins: pins.map(|dir| dir.join(format!("table-{}-", class.number()))),
                }
            }),
            installed: HashMap::new(),
            next_number: 1,
        }
    }

    /// The number of the next ruleset that is installed.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_number
    }

    /// How many tables there are of each size class.
    pub(crate) fn counts(&self) -> [usize; 4] {
        SizeClass::ALL.map(|size_class| {
            let tables = self.installed.values();
            tables
                .filter(|there| there.size_class == size_class)
                .count()
        })
    }

    /// Takes over the table that a workload's entry names, and says what is in it.
    pub(crate) fn adopt(&mut self, active: u64) -> Result<ContentId, ApplyError> {
        let place = Place::named_by(active)?;
        let shelf = self.shelf(place.size_class);
        let content = shelf.content(place.slot)?;
        shelf.next = shelf.next.max(place.slot + 1);
        self.installed
            .entry(content)
            .or_insert(Installed {
                number: place.number,
                size_class: place.size_class,
                slot: place.slot,
                users: 0,
            })
            .users += 1;
        Ok(content)
    }

    /// The next slot of each size class.
    pub(crate) fn next_slots(&self) -> [u32; 4] {
        self.shelves.each_ref().map(|shelf| shelf.next)
    }

    /// Every table in use was adopted: removes the others, and goes on with these numbers. What an
    /// agent that was killed put in the very next slot is overwritten when that is used.
    pub(crate) fn adopted(
        &mut self,
        next_number: u32,
        next_slots: [u32; 4],
    ) -> Result<(), ApplyError> {
        self.next_number = next_number.max(1);
        for (size_class, next) in SizeClass::ALL.into_iter().zip(next_slots) {
            let used: HashSet<u32> = self
                .installed
                .values()
                .filter(|there| there.size_class == size_class)
                .map(|there| there.slot)
                .collect();
            let shelf = self.shelf(size_class);
            shelf.next = shelf.next.max(next);
            for slot in (0..shelf.next).filter(|slot| !used.contains(slot)) {
                shelf.clear(slot)?;
                shelf.free.push(slot);
            }
        }
        Ok(())
    }

    /// Installs a ruleset, or shares the one that is there.
    pub(crate) fn acquire(&mut self, rules: &Ruleset) -> Result<Place, ApplyError> {
        if let Some(there) = self.installed.get_mut(&rules.content_id()) {
            there.users += 1;
            return Ok(Place {
                number: there.number,
                size_class: there.size_class,
                slot: there.slot,
            });
        }
        let table = lower(rules).map_err(ApplyError::Lower)?;
        let size_class = table.size_class();
        let number = RulesetNumber(self.next_number);
        let slot = self.shelf(size_class).install(&table.numbered(number.0))?;
        self.next_number = self.next_number.wrapping_add(1).max(1);
        self.installed.insert(
            rules.content_id(),
            Installed {
                number,
                size_class,
                slot,
                users: 1,
            },
        );
        Ok(Place {
            number,
            size_class,
            slot,
        })
    }

    /// One workload fewer uses it; the last one frees it.
    pub(crate) fn release(&mut self, content: &ContentId) -> Result<(), ApplyError> {
        let Some(there) = self.installed.get_mut(content) else {
            return Ok(());
        };
        there.users -= 1;
        if there.users > 0 {
            return Ok(());
        }
        let (size_class, slot) = (there.size_class, there.slot);
        self.installed.remove(content);
        self.shelf(size_class).remove(slot)
    }

    fn shelf(&mut self, size_class: SizeClass) -> &mut Shelf {
        let [k64, k512, m4, m32] = &mut self.shelves;
        match size_class {
            SizeClass::K64 => k64,
            SizeClass::K512 => k512,
            SizeClass::M4 => m4,
            SizeClass::M32 => m32,
        }
    }
}

impl Shelf {
    /// What is in a slot.
    fn content(&self, slot: u32) -> Result<ContentId, ApplyError> {
        let doing = "reading a ruleset's table";
        let failed = |source| ApplyError::Map { doing, source };
        let missing = || failed(libbpf_rs::Error::from(io::Error::from(ErrorKind::NotFound)));
        let id = self
            .map
            .lookup(&slot.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed)?
            .and_then(|id| id.first_chunk().copied().map(u32::from_ne_bytes))
            .ok_or_else(missing)?;
        let inner = match self.pin_of(slot) {
            Some(pin) if pin.exists() => MapHandle::from_pinned_path(pin),
            Some(_) | None => MapHandle::from_map_id(id),
        };
        let table = inner
            .and_then(|inner| inner.lookup(&0u32.to_ne_bytes(), MapFlags::ANY))
            .map_err(failed)?
            .ok_or_else(missing)?;
        table
            .get(offset_of!(abi::rs_header, content)..)
            .and_then(|rest| rest.first_chunk().copied())
            .map(ContentId::from_bytes)
            .ok_or_else(missing)
    }

    /// Removing waits for every program that runs, looking does not.
    fn clear(&self, slot: u32) -> Result<(), ApplyError> {
        let doing = "removing a ruleset's table that nobody uses";
        let failed = |source| ApplyError::Map { doing, source };
        let key = slot.to_ne_bytes();
        if self
            .map
            .lookup(&key, MapFlags::ANY)
            .map_err(failed)?
            .is_some()
        {
            self.map.delete(&key).map_err(failed)?;
        }
        self.unpin(slot)
    }

    fn pin_of(&self, slot: u32) -> Option<PathBuf> {
        let mut name = self.pins.clone()?.into_os_string();
        name.push(slot.to_string());
        Some(name.into())
    }

    /// Also of what a killed agent has left.
    fn unpin(&self, slot: u32) -> Result<(), ApplyError> {
        let Some(pin) = self.pin_of(slot) else {
            return Ok(());
        };
        match std::fs::remove_file(pin) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(ApplyError::Map {
                doing: "unpinning a ruleset's table",
                source: error.into(),
            }),
            _ => Ok(()),
        }
    }

    fn install(&mut self, table: &[u8]) -> Result<u32, ApplyError> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.next < abi::limit::ABI_SLOTS.0 => {
                self.next += 1;
                self.next - 1
            }
            None => {
                return Err(ApplyError::Full {
                    what: "rulesets of one size",
                    limit: abi::limit::ABI_SLOTS.0,
                });
            }
        };
        let done = self.fill(slot, table);
        if done.is_err() {
            self.free.push(slot);
        }
        done.map(|()| slot)
    }

    fn fill(&self, slot: u32, table: &[u8]) -> Result<(), ApplyError> {
        let failed = |doing| move |source| ApplyError::Map { doing, source };
        let options = bpf_map_create_opts {
            sz: size_of::<bpf_map_create_opts>() as libbpf_rs::libbpf_sys::size_t,
            ..Default::default()
        };
        let mut inner = MapHandle::create(
            MapType::Array,
            Some("ruleset"),
            4,
            self.value_size,
            1,
            &options,
        )
        .map_err(failed("creating a ruleset's table"))?;
        let mut value = table.to_vec();
        value.resize(usize::try_from(self.value_size).unwrap_or(0), 0);
        inner
            .update(&0u32.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(failed("filling a ruleset's table"))?;
        // Nobody changes it any more, this agent included.
        inner
            .freeze()
            .map_err(failed("freezing a ruleset's table"))?;
        if let Some(pin) = self.pin_of(slot) {
            self.unpin(slot)?;
            inner
                .pin(pin)
                .map_err(failed("pinning a ruleset's table"))?;
        }
        self.map
            .update(
                &slot.to_ne_bytes(),
                &inner.as_fd().as_raw_fd().to_ne_bytes(),
                MapFlags::ANY,
            )
            .map_err(failed("installing a ruleset's table"))
    }

    fn remove(&mut self, slot: u32) -> Result<(), ApplyError> {
        self.map
            .delete(&slot.to_ne_bytes())
            .map_err(|source| ApplyError::Map {
                doing: "removing a ruleset's table",
                source,
            })?;
        self.unpin(slot)?;
        self.free.push(slot);
        Ok(())
    }
}
