// SPDX-License-Identifier: Apache-2.0
//! Notices that something appeared in a directory.
//!
//! inotify only says that it is worth looking again: whoever waits looks at what is there, so nothing
//! depends on single events, and a queue that ran over costs nothing.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, read};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tokio::io::unix::AsyncFd;

/// Room for some twenty events with names; what they say is not looked at.
const BUFFER: usize = 4096;

/// Directories that are watched.
#[derive(Debug)]
pub(crate) struct Directories {
    inotify: AsyncFd<OwnedFd>,
    watched: BTreeMap<PathBuf, i32>,
}

impl Directories {
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "unsound for types that change their descriptor, and an `OwnedFd` does not"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Self {
            inotify,
            watched: BTreeMap::new(),
        })
    }

    /// Watches these and no others. Gives the first that cannot be watched; one that is gone is none.
    pub(crate) fn set(&mut self, wanted: &BTreeSet<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut watched = BTreeMap::new();
        let mut failed = None;
        for path in wanted {
            // For a directory that is watched already the kernel answers with the same number.
            match inotify::add_watch(&self.inotify, path, flags) {
                Ok(number) => drop(watched.insert(path.clone(), number)),
                Err(Errno::NOENT) => {}
                Err(error) => {
                    failed.get_or_insert_with(|| (path.clone(), error.into()));
                }
            }
        }
        let kept: BTreeSet<i32> = watched.values().copied().collect();
        for number in std::mem::replace(&mut self.watched, watched).into_values() {
            if kept.contains(&number) {
                continue;
            }
            if let Err(error) = inotify::remove_watch(&self.inotify, number) {
                tracing::trace!("the kernel forgot a directory that is gone: {error}");
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Waits until something appeared in one of them, or one of them went away.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut guard = self.inotify.readable().await?;
        let mut buffer = [0; BUFFER];
        loop {
            match read(guard.get_inner(), &mut buffer) {
                Ok(0) | Err(Errno::WOULDBLOCK) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        guard.clear_ready();
        Ok(())
    }
}
