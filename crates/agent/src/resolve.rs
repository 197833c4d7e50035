// SPDX-License-Identifier: Apache-2.0
//! What the kernel calls a path that a rule names.
//!
//! The kernel reports paths after all links are resolved, so a rule for `/bin/cat` must also cover
//! `/usr/bin/cat` where `/bin` is a link. Each literal path of the rules is looked up inside the
//! workload's own root; a part that does not exist yet is kept as written below what does.

use gorget_engine::Aliases;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Where a container's root directory is: `own`, that of its first process, but `early` as long as
/// that process still has the machine's root.
pub(crate) fn current_root<'a>(own: &'a Path, early: Option<&'a Path>) -> &'a Path {
    let identity = |path: &Path| fs::metadata(path).ok().map(|root| (root.dev(), root.ino()));
    let of_the_machine = || identity(Path::new("/"));
    match early {
        Some(early) if identity(own).is_none_or(|own| Some(own) == of_the_machine()) => early,
        Some(_) | None => own,
    }
}

/// Resolves every path of `literals` below `root`. A path that means itself has no alias.
///
/// # Errors
///
/// When `root` cannot be opened: then nothing is known about links.
pub(crate) fn aliases(root: &Path, literals: &BTreeSet<Vec<u8>>) -> rustix::io::Result<Aliases> {
    let root = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // What paths below it begin with here: nothing, unless it is only a directory of the machine.
    let own = name_of(root.as_fd()).unwrap_or_default();
    let prefix = own.strip_suffix(b"/").unwrap_or(&own);
    let mut aliases = Aliases::default();
    for literal in literals {
        if let Some(real) = resolve(root.as_fd(), prefix, literal)
            && real != *literal
        {
            aliases.0.insert(literal.clone(), real);
        }
    }
    Ok(aliases)
}

/// The path with its longest existing part resolved; `None` when nothing of it exists.
fn resolve(root: BorrowedFd<'_>, prefix: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut existing = path;
    while !existing.is_empty() {
        if let Some(mut real) = real_path(root, prefix, existing) {
            let rest = path.get(existing.len()..)?;
            if real == b"/" && !rest.is_empty() {
                real.clear();
            }
            real.extend_from_slice(rest);
            return Some(real);
        }
        let slash = existing.iter().rposition(|byte| *byte == b'/')?;
        existing = existing.get(..slash)?;
    }
    None
}

/// What the kernel calls an existing path in the workload whose root directory it calls `prefix` here.
fn real_path(root: BorrowedFd<'_>, prefix: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let file = openat2(
        root,
        OsStr::from_bytes(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()?;
    let real = name_of(file.as_fd())?;
    let below = real.strip_prefix(prefix)?;
    match below.first() {
        None => Some(b"/".to_vec()),
        Some(b'/') => Some(below.to_vec()),
        // Another directory, whose name begins like the root's.
        Some(_) => None,
    }
}

/// The path of what is open, as the machine sees it.
fn name_of(file: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = readlinkat(CWD, link, Vec::new()).ok()?.into_bytes();
    // Not in the tree any more, or never was.
    if !real.starts_with(b"/") || real.ends_with(b" (deleted)") {
        return None;
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn resolved(root: &Path, path: &str) -> Option<String> {
        let literals = BTreeSet::from([path.as_bytes().to_vec()]);
        let aliases = aliases(root, &literals).unwrap();
        let real = aliases.0.get(path.as_bytes())?;
        Some(String::from_utf8(real.clone()).unwrap())
    }

    #[test]
    fn links_are_resolved_inside_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::write(root.path().join("usr/bin/cat"), "").unwrap();
        // Absolute: it must lead into this root and not into the machine's.
        symlink("/usr/bin", root.path().join("bin")).unwrap();
        assert_eq!(
            resolved(root.path(), "/bin/cat").as_deref(),
            Some("/usr/bin/cat")
        );
    }

    #[test]
    fn what_does_not_exist_yet_is_kept_below_what_does() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        symlink("usr/bin", root.path().join("bin")).unwrap();
        assert_eq!(
            resolved(root.path(), "/bin/later/on").as_deref(),
            Some("/usr/bin/later/on")
        );
    }

    #[test]
    fn a_path_that_is_no_link_means_itself_in_a_root_that_is_a_directory_of_the_machine() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        symlink("/", root.path().join("top")).unwrap();
        assert_eq!(resolved(root.path(), "/data/secret"), None);
        assert_eq!(resolved(root.path(), "/top").as_deref(), Some("/"));
        let there = root.path();
        assert_eq!(current_root(Path::new("/"), Some(there)), there);
        assert_eq!(current_root(there, Some(Path::new("/x"))), there);
        assert_eq!(current_root(Path::new("/"), None), Path::new("/"));
    }

    #[test]
    fn a_link_that_leads_out_of_the_root_does_not() {
        let root = tempfile::tempdir().unwrap();
        symlink("../../../../etc", root.path().join("out")).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        assert_eq!(resolved(root.path(), "/out/x").as_deref(), Some("/etc/x"));
    }
}
