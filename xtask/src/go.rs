// SPDX-License-Identifier: Apache-2.0
//! Programs that are built from Go modules, and kept in the cache.
//!
//! A directory of `xtask` has the `go.mod` that names their versions, and the `go.sum` that says what these
//! must contain. A program is built when the cache has none of these versions; that takes minutes, once.

use crate::packages::{Tool, ensure, find};
use crate::vm::cache;
use crate::{command, top};
use anyhow::{Context as _, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Less is refused by what the modules require.
const OLDEST: (u32, u32) = (1, 24);

/// What is built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) name: &'a str,
    /// Its import path.
    pub(crate) package: &'a str,
    /// The directory with `go.mod`, from the top of the repository.
    pub(crate) module: &'a str,
    /// What `go.mod` and `go.sum` say.
    pub(crate) versions: &'a str,
    pub(crate) sums: &'a str,
    pub(crate) link_flags: &'a str,
    /// On two processors with nothing else to do.
    pub(crate) duration: &'a str,
}

/// Where the program is, built if need be.
pub(crate) fn program(it: &Program<'_>) -> Result<PathBuf> {
    let place = cache::entry(
        it.name,
        &format!("building {} ({})", it.name, it.duration),
        &[it.versions, it.sums, it.package],
        |place| build(it, &place.join(it.name)),
    )?;
    Ok(place.join(it.name))
}

fn build(it: &Program<'_>, target: &Path) -> Result<()> {
    let mut go = command::new(go()?);
    go.args(["build", "-buildvcs=false", "-trimpath"])
        .args(["-ldflags", it.link_flags, "-o"])
        .arg(target)
        .arg(it.package)
        .current_dir(top().join(it.module))
        .env("CGO_ENABLED", "0")
        .env("GOOS", "linux")
        .env("GOFLAGS", "-mod=readonly")
        .stdin(Stdio::null());
    let status = go
        .status()
        .with_context(|| format!("cannot run `go` for {}", it.name))?;
    if !status.success() {
        bail!("`go build` of {} failed ({status})", it.name);
    }
    Ok(())
}

/// The Go command, installed when there is none.
fn go() -> Result<PathBuf> {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/go/bin");
    if find("go", &path).is_none() {
        ensure(&[Tool {
            probe: "go",
            package: "golang-go",
        }])?;
    }
    let go = find("go", &path).context("there is no `go`")?;
    let said = command::output(command::new(&go).arg("version").env("GOTOOLCHAIN", "local"))?;
    if go_version(&said).is_none_or(|version| version < OLDEST) {
        let (major, minor) = OLDEST;
        bail!(
            "building this takes Go {major}.{minor} or newer; `{}` says: {}",
            go.display(),
            said.trim()
        );
    }
    Ok(go)
}

/// Of `go version go1.24.1 linux/amd64`.
fn go_version(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once("version go")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read_from_what_it_prints() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(go_version("go version go1.19 linux/amd64"), Some((1, 19)));
        assert_eq!(go_version("go: no such command"), None);
    }
}
