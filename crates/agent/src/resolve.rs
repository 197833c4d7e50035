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
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    let mut aliases = Aliases::default();
    for literal in literals {
        if let Some(real) = resolve(root.as_fd(), literal)
            && real != *literal
        {
            aliases.0.insert(literal.clone(), real);
        }
    }
    Ok(aliases)
}

/// The path with its longest existing part resolved; `None` when nothing of it exists.
fn resolve(root: BorrowedFd<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let mut existing = path;
    while !existing.is_empty() {
        if let Some(mut real) = real_path(root, existing) {
            let rest = path.get(existing.len()..)?;
            if real == b"/" {
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

/// What the kernel calls an existing path.
fn real_path(root: BorrowedFd<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let file = openat2(
        root,
        OsStr::from_bytes(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()?;
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
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    /// Paths come out as this process sees them, so what lies below the root is compared.
    fn resolved(root: &Path, path: &str) -> Option<String> {
        let literals = BTreeSet::from([path.as_bytes().to_vec()]);
        let aliases = aliases(root, &literals).unwrap();
        let real = aliases.0.get(path.as_bytes())?;
        let real = std::ffi::OsString::from_vec(real.clone());
        let below = Path::new(&real)
            .strip_prefix(root.canonicalize().unwrap())
            .ok()?;
        Some(format!("/{}", below.display()))
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
    fn a_link_that_leads_out_of_the_root_does_not() {
        let root = tempfile::tempdir().unwrap();
        symlink("../../../../etc", root.path().join("out")).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        assert_eq!(resolved(root.path(), "/out/x").as_deref(), Some("/etc/x"));
    }
}
