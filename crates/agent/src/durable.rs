// SPDX-License-Identifier: Apache-2.0
//! Files that must be whole after a power failure: written beside, flushed to the disk, renamed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes a directory for root only, and those above it.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Replaces a file. What is in it already is not written again.
pub(crate) fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(file).is_ok_and(|there| there == content) {
        return Ok(());
    }
    // Hidden, so that it is no policy until it is whole.
    let beside = directory(file).join(".being-written");
    let mut written = File::create(&beside)?;
    written.write_all(content)?;
    written.sync_all()?;
    fs::rename(&beside, file)?;
    flush(file)
}

/// Removes a file.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    fs::remove_file(file)?;
    flush(file)
}

fn flush(file: &Path) -> io::Result<()> {
    File::open(directory(file))?.sync_all()
}

fn directory(file: &Path) -> &Path {
    file.parent().unwrap_or_else(|| Path::new("/"))
}
