// SPDX-License-Identifier: Apache-2.0
//! What outlives the agent: the attached programs and their tables, pinned in the kernel's file
//! system for that (bpffs).
//!
//! There is a directory for each build of the programs, named after what they are:
//! `ROOT/PROGRAMS/{links,maps}`, and `calls` while system calls are observed (`calls.rs`). An agent
//! that finds its own adopts it and loads nothing. An agent
//! of another build pins its own beside it; both decide then, and the stricter wins, until the older
//! one is removed.
//!
//! INVARIANT: a directory with its final name is complete: it is filled under another name, and
//! renamed. What was not finished is removed at the next start.

use crate::programs::Programs;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::{Link, MapHandle};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where bpffs is mounted (Documentation/bpf in the kernel's tree; systemd mounts it there).
const FILE_SYSTEM: &str = "/sys/fs/bpf";
const ROOT: &str = "/sys/fs/bpf/gorget";
/// include/uapi/linux/magic.h
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// `MINORBITS` in `include/linux/kdev_t.h`.
const MINOR_BITS: u32 = 20;
/// Behind the name of a directory that is not complete. bpffs allows no dots.
const UNFINISHED: &str = "-unfinished";
const CALLS: &str = "calls";
/// The kernel takes some milliseconds to detach; in all this is 10 s.
const DETACH_LOOKS: u32 = 2_000;
const DETACH_PAUSE: Duration = Duration::from_millis(5);
/// Only root looks.
const PRIVATE: u32 = 0o700;

/// Something cannot be pinned, found again or removed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} `{}`", .path.display())]
pub struct PinError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

fn failed<E>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> PinError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| PinError {
        doing,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A directory, as the kernel names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) inode: u64,
    /// `MKDEV` in `include/linux/kdev_t.h`.
    pub(crate) device: u32,
}

/// The directory of this build's programs.
#[derive(Debug)]
pub(crate) struct Place {
    root: Identity,
    dir: PathBuf,
    /// Held while it lives: nobody else changes what is pinned.
    _lock: OwnedFd,
}

impl Place {
    /// Mounts bpffs where it is not, and removes what was not finished.
    pub(crate) fn prepare(programs: Programs) -> Result<Self, PinError> {
        let file_system = Path::new(FILE_SYSTEM);
        let is_mounted = rustix::fs::statfs(file_system)
            .is_ok_and(|found| u64::try_from(found.f_type) == Ok(BPF_FS_MAGIC));
        if !is_mounted {
            mount("bpf", file_system, "bpf", MountFlags::empty(), None)
                .map_err(failed("mounting bpffs at", file_system))?;
        }
        let root = Path::new(ROOT);
        make(root)?;
        let lock = lock(root)?;
        for dir in directories()? {
            if dir.to_string_lossy().ends_with(UNFINISHED) {
                remove(&dir)?;
            }
        }
        Ok(Self {
            root: identity(root)?,
            dir: root.join(programs.digest()),
            _lock: lock,
        })
    }

    /// Whether programs of this build are attached.
    pub(crate) fn is_taken(&self) -> bool {
        self.dir.exists()
    }

    /// Pins all, or nothing.
    pub(crate) fn keep(
        &self,
        links: &mut [(String, Link)],
        maps: &mut [(String, MapHandle)],
    ) -> Result<(), PinError> {
        let mut name = self.dir.clone().into_os_string();
        name.push(UNFINISHED);
        let beside = PathBuf::from(name);
        make(&beside)?;
        make(&beside.join("links"))?;
        make(&beside.join("maps"))?;
        for (name, link) in links {
            let path = beside.join("links").join(name);
            link.pin(&path).map_err(failed("pinning", &path))?;
        }
        for (name, map) in maps {
            let path = beside.join("maps").join(name);
            map.pin(&path).map_err(failed("pinning", &path))?;
        }
        fs::rename(&beside, &self.dir).map_err(failed("finishing", &self.dir))
    }

    pub(crate) fn links(&self) -> Result<Vec<(String, Link)>, PinError> {
        links(&self.dir.join("links"))
    }

    /// The links of programs that observe system calls; none when they are not attached.
    pub(crate) fn call_links(&self) -> Result<Vec<(String, Link)>, PinError> {
        let unfinished = self.unfinished_calls();
        if unfinished.exists() {
            remove_all_in(&unfinished)?;
        }
        let dir = self.dir.join(CALLS);
        if dir.exists() {
            links(&dir)
        } else {
            Ok(Vec::new())
        }
    }

    /// Pins links of programs that observe system calls, or none.
    pub(crate) fn keep_calls(&self, links: &mut [(String, Link)]) -> Result<(), PinError> {
        let beside = self.unfinished_calls();
        if beside.exists() {
            remove_all_in(&beside)?;
        }
        make(&beside)?;
        for (name, link) in links {
            let path = beside.join(name);
            link.pin(&path).map_err(failed("pinning", &path))?;
        }
        let dir = self.dir.join(CALLS);
        fs::rename(&beside, &dir).map_err(failed("finishing", &dir))
    }

    /// Removes them.
    pub(crate) fn remove_calls(&self) -> Result<(), PinError> {
        remove_all_in(&self.dir.join(CALLS))
    }

    fn unfinished_calls(&self) -> PathBuf {
        self.dir.join(format!("{CALLS}{UNFINISHED}"))
    }

    /// Where tables are pinned.
    pub(crate) fn maps(&self) -> PathBuf {
        self.dir.join("maps")
    }

    /// Where a table is pinned.
    pub(crate) fn path_of(&self, map: &str) -> PathBuf {
        self.maps().join(map)
    }

    pub(crate) fn map(&self, name: &str) -> Result<MapHandle, PinError> {
        let path = self.path_of(name);
        MapHandle::from_pinned_path(&path).map_err(failed("opening", &path))
    }

    /// Where all pins are.
    pub(crate) fn identity(&self) -> Identity {
        self.root
    }

    /// The tables of this name of other builds.
    pub(crate) fn others(&self, name: &str) -> Result<Vec<MapHandle>, PinError> {
        let mut maps = Vec::new();
        for dir in directories()? {
            let path = dir.join("maps").join(name);
            if dir != self.dir && path.exists() {
                maps.push(MapHandle::from_pinned_path(&path).map_err(failed("opening", &path))?);
            }
        }
        Ok(maps)
    }

    /// Removes the programs of other builds. Gives their names.
    pub(crate) fn remove_others(&self) -> Result<Vec<String>, PinError> {
        let mut removed = Vec::new();
        for dir in directories()? {
            if dir != self.dir {
                remove(&dir)?;
                removed.push(dir.display().to_string());
            }
        }
        Ok(removed)
    }
}

/// Detaches everything that is pinned, whichever build it is of, and removes its tables. Gives the
/// directories that were removed.
///
/// # Errors
///
/// When something cannot be removed; what was removed before stays removed.
pub fn uninstall() -> Result<Vec<String>, PinError> {
    let root = Path::new(ROOT);
    if !root.exists() {
        return Ok(Vec::new());
    }
    let _lock = lock(root)?;
    let mut removed = Vec::new();
    for dir in directories()? {
        remove(&dir)?;
        removed.push(dir.display().to_string());
    }
    fs::remove_dir(root).map_err(failed("removing", root))?;
    Ok(removed)
}

/// Whether an agent of this build attached these programs already, and left them.
pub fn is_in_force(programs: Programs) -> bool {
    Path::new(ROOT).join(programs.digest()).exists()
}

/// The process that holds what is pinned: the agent that runs.
///
/// # Errors
///
/// When the kernel does not say.
pub fn running_agent() -> Result<Option<u32>, PinError> {
    let root = Path::new(ROOT);
    if !root.exists() {
        return Ok(None);
    }
    let Identity { inode, device } = identity(root)?;
    let (major, minor) = (device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let list = Path::new("/proc/locks");
    let locks = fs::read_to_string(list).map_err(failed("reading", list))?;
    Ok(holder(&locks, &file))
}

/// From `proc_locks(5)`: `1: FLOCK  ADVISORY  WRITE 408 00:1a:7 0 EOF`. Who waits for a lock has `->`
/// behind the number.
fn holder(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = fields.next() == Some("FLOCK");
        let pid = fields.nth(2)?.parse().ok()?;
        (is_it && fields.next() == Some(file)).then_some(pid)
    })
}

/// Refuses to wait: another agent holds it as long as it runs, and not a moment longer.
fn lock(root: &Path) -> Result<OwnedFd, PinError> {
    let open = || -> io::Result<OwnedFd> {
        let fd = rustix::fs::open(root, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
        Ok(fd)
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            failed("locking", root)("another `gorgetd` runs; `gorgetd --stop` ends it")
        }
        _ => failed("locking", root)(error),
    })
}

fn identity(dir: &Path) -> Result<Identity, PinError> {
    let found = fs::metadata(dir).map_err(failed("looking at", dir))?;
    let device = rustix::fs::major(found.dev()) << MINOR_BITS | rustix::fs::minor(found.dev());
    Ok(Identity {
        inode: found.ino(),
        device,
    })
}

fn make(dir: &Path) -> Result<(), PinError> {
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(PRIVATE)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed("making", dir)(io::Error::from(error))),
    }
}

fn directories() -> Result<Vec<PathBuf>, PinError> {
    entries(Path::new(ROOT))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, PinError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir)? {
            paths.push(entry?.path());
        }
        paths.sort();
        Ok(paths)
    };
    read().map_err(failed("reading", dir))
}

/// Programs first: the tables must outlast what reads them. Ends when nothing of it decides any more.
fn remove(dir: &Path) -> Result<(), PinError> {
    let mut programs = programs(&dir.join("links"))?;
    programs.extend(self::programs(&dir.join(CALLS))?);
    let calls = format!("{CALLS}{UNFINISHED}");
    for part in [&calls, CALLS, "links", "maps"] {
        let part = dir.join(part);
        if part.exists() {
            remove_all_in(&part)?;
        }
    }
    fs::remove_dir(dir).map_err(failed("removing", dir))?;
    are_gone(&programs).map_err(failed("waiting for the end of", dir))
}

/// A directory and the pins in it.
fn remove_all_in(dir: &Path) -> Result<(), PinError> {
    for pin in entries(dir)? {
        fs::remove_file(&pin).map_err(failed("removing", &pin))?;
    }
    fs::remove_dir(dir).map_err(failed("removing", dir))
}

/// The pinned links in a directory, by their names.
fn links(dir: &Path) -> Result<Vec<(String, Link)>, PinError> {
    let mut links = Vec::new();
    for path in entries(dir)? {
        let link = Link::open(&path).map_err(failed("opening", &path))?;
        let name = path.file_name().unwrap_or_default();
        links.push((name.to_string_lossy().into_owned(), link));
    }
    Ok(links)
}

/// Ids of the programs that pinned links hold.
fn programs(links: &Path) -> Result<BTreeSet<u32>, PinError> {
    let mut programs = BTreeSet::new();
    if links.exists() {
        for pin in entries(links)? {
            let info = Link::open(&pin).and_then(|link| link.info());
            programs.insert(info.map_err(failed("opening", &pin))?.prog_id);
        }
    }
    Ok(programs)
}

/// KERNEL: removing the last reference to a link detaches its program a little later.
fn are_gone(programs: &BTreeSet<u32>) -> Result<(), String> {
    for _ in 0..DETACH_LOOKS {
        if !ProgInfoIter::default().any(|program| programs.contains(&program.id)) {
            return Ok(());
        }
        std::thread::sleep(DETACH_PAUSE);
    }
    Err("something else holds its programs, and they still decide".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_among_others_and_those_who_wait() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 00:1a:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 13 00:1a:71 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 408 00:1a:7 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 409 00:1a:7 0 EOF\n";
        assert_eq!(holder(locks, "00:1a:7"), Some(408));
        assert_eq!(holder(locks, "00:1b:7"), None);
        assert_eq!(holder("nonsense\n", "00:1a:7"), None);
    }
}
