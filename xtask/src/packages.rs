// SPDX-License-Identifier: Apache-2.0
//! The programs of the host that tasks call, and installing those that are missing.
//!
//! Every task names what it needs with `ensure` before it starts, so a fresh
//! Debian or Ubuntu machine needs nothing but Rust. Installing goes through
//! `apt-get`, as root or with `sudo`, and is announced before it happens. On a
//! system without `apt-get` the error names the missing packages instead.

use crate::command;
use anyhow::{Result, bail};
use std::env;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Two at once would only find each other's lock on the package database.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Something a task needs from the host system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    /// A command looked up in `PATH` and the `sbin` directories, or the absolute path of a file.
    pub(crate) probe: &'static str,
    /// The Debian package that has it.
    pub(crate) package: &'static str,
}

/// Installs the packages of those tools that are missing.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let _guard = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = env::var_os("PATH").unwrap_or_default();
    let missing = missing(tools, &path);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if find("apt-get", &path).is_none() {
        bail!("install what these Debian packages contain, then try again: {names}");
    }
    writeln!(std::io::stderr(), "installing {names} ...")?;
    command::run(command::as_root("apt-get")?.args(["-q", "update"]))?;
    command::run(
        command::as_root("env")?
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy"])
            .args(["install", "--no-install-recommends"])
            .args(missing),
    )
}

/// Where a command is, in the given `PATH` or the `sbin` directories.
pub(crate) fn find(command: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(command))
        .find(|file| file.is_file())
}

fn missing(tools: &[Tool], path: &OsStr) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools
        .iter()
        .filter(|tool| match tool.probe {
            file if file.starts_with('/') => !Path::new(file).exists(),
            command => find(command, path).is_none(),
        })
        .map(|tool| tool.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const fn tool(probe: &'static str, package: &'static str) -> Tool {
        Tool { probe, package }
    }

    #[test]
    fn a_command_in_the_path_is_not_missing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("gorget-probe"), "").unwrap();
        let tools = [tool("gorget-probe", "one"), tool("gorget-absent", "two")];
        assert_eq!(missing(&tools, directory.path().as_os_str()), ["two"]);
    }

    #[test]
    fn a_package_of_two_missing_files_is_named_once() {
        let tools = [tool("/nonexistent/b", "p"), tool("/nonexistent/a", "p")];
        assert_eq!(missing(&tools, OsStr::new("")), ["p"]);
    }

    #[test]
    fn a_file_that_exists_is_not_missing() {
        assert!(missing(&[tool("/proc/self", "p")], OsStr::new("")).is_empty());
    }
}
