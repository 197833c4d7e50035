// SPDX-License-Identifier: Apache-2.0
//! A container's root directory of busybox and a few files, and the archive that runtimes import.

use crate::agent::{create, fail, started};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORIES: [&str; 8] = ["bin", "data", "proc", "sys", "dev", "run", "tmp", "etc"];
const APPLETS: [&str; 3] = ["cat", "sleep", "sh"];

/// Makes the root directory anew: `/data/secret` says `the secret`, `/data/other` says `the other`, and
/// `/shortcut` leads to `/data`.
///
/// # Panics
///
/// When it cannot be made.
pub fn small_root(root: &Path) {
    drop(fs::remove_dir_all(root));
    for directory in DIRECTORIES {
        create(&root.join(directory));
    }
    let busybox = root.join("bin/busybox");
    let links = APPLETS.map(|applet| symlink("busybox", root.join("bin").join(applet)));
    let made = [
        fs::copy("/bin/busybox", &busybox).map(drop),
        fs::set_permissions(&busybox, Permissions::from_mode(0o755)),
        symlink("data", root.join("shortcut")),
        fs::write(root.join("data/secret"), "the secret"),
        fs::write(root.join("data/other"), "the other"),
    ];
    for done in made.into_iter().chain(links) {
        if let Err(error) = done {
            fail(&format!("making `{}`: {error}", root.display()));
        }
    }
}

/// Packs a directory, and gives the archive's path, which is beside it.
///
/// # Panics
///
/// When that fails.
pub fn packed(directory: &Path) -> PathBuf {
    let archive = directory.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(directory)
        .arg("-cf")
        .arg(&archive)
        .arg(".");
    if !started(&mut tar)
        .wait()
        .is_ok_and(|status| status.success())
    {
        fail(&format!("packing `{}`", directory.display()));
    }
    archive
}
