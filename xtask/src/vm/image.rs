// SPDX-License-Identifier: Apache-2.0
//! Building the root disk of the virtual machine.
//!
//! Everything comes from Debian packages through `mmdebstrap`, without loop
//! devices, so it works in containers. The disk is an ext4 file made from a
//! directory. Nobody writes to the result: the virtual machine gets a
//! copy-on-write view of it.
//!
//! The result is cached; its key covers this recipe, the guest's script and the
//! suite, not the versions of packages: remove the cache to get newer ones.

use super::{Suite, cache, container_image};
use crate::command;
use crate::packages::{self, Tool};
use anyhow::{Context as _, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const INIT: &str = include_str!("../../../vmtest/guest/init");
/// This file; changing how the image is made makes another image.
const RECIPE: &str = include_str!("image.rs");

const TOOLS: &[Tool] = &[
    Tool {
        probe: "mmdebstrap",
        package: "mmdebstrap",
    },
    Tool {
        probe: "mke2fs",
        package: "e2fsprogs",
    },
    Tool {
        probe: "depmod",
        package: "kmod",
    },
    Tool {
        probe: "xz",
        package: "xz-utils",
    },
    Tool {
        probe: "/usr/share/keyrings/debian-archive-keyring.gpg",
        package: "debian-archive-keyring",
    },
];

/// On top of Debian's essential packages.
const PACKAGES: &str = "apparmor,busybox-static,containerd,docker.io,iproute2,kmod,mawk,podman,procps,runc,strace,uidmap";

/// Left out of the image: nobody reads them there.
const EXCLUDED: &[&str] = &["doc", "man", "locale", "info", "lintian", "bug", "zoneinfo"];

/// Room for what a job unpacks and writes; the file is sparse.
const DISK_SIZE: &str = "3G";

/// The root disk with the user space of a suite, built if need be.
pub(crate) fn find(suite: Suite) -> Result<PathBuf> {
    let suite = suite.name();
    let place = cache::entry(
        &format!("image-{suite}"),
        &format!("installing packages for the virtual machine ({suite}, about 1 min)"),
        &[RECIPE, container_image::RECIPE, INIT, suite],
        |place| build(place, suite),
    )?;
    Ok(place.join("disk"))
}

/// Unpacks packages and what they depend on into a directory, or installs them there. Backports
/// are unpacked on top of the suite that they are for.
pub(crate) fn debian(variant: &str, packages: &str, suite: &str, directory: &Path) -> Result<()> {
    packages::ensure(TOOLS)?;
    let release = suite.strip_suffix("-backports").unwrap_or(suite);
    let mut mmdebstrap = command::as_root("mmdebstrap")?;
    mmdebstrap
        .arg(format!("--variant={variant}"))
        .args([
            "--format=directory",
            "--aptopt=APT::Install-Recommends \"false\"",
        ])
        .args(
            EXCLUDED
                .iter()
                .map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")),
        )
        .arg(format!("--include={packages}"));
    if release != suite {
        mmdebstrap.arg(format!("--setup-hook={}", add_suite(release, suite)));
    }
    mmdebstrap
        .arg(release)
        .arg(directory)
        // Without a mirror, mmdebstrap uses Debian's own for the suite.
        .args(env::var_os("GORGET_MIRROR"));
    command::run(&mut mmdebstrap)
}

/// A command for mmdebstrap that gets `suite` from wherever `release` comes from.
fn add_suite(release: &str, suite: &str) -> String {
    format!(
        "find \"$1/etc/apt/\" -name '*.list' -o -name '*.sources' | \
         xargs sed -i -e 's/^\\(deb .* \\){release}\\( main.*\\)$/&\\n\\1{suite}\\2/' \
         -e 's/^Suites: {release}\\b/& {suite}/'"
    )
}

fn build(place: &Path, suite: &str) -> Result<()> {
    let root = place.join("root");
    debian("minbase", PACKAGES, suite, &root)?;

    // Written here and copied as root, whom the directory belongs to.
    let files = place.join("files");
    write(&files.join("gorget/init"), INIT)?;
    fs::create_dir_all(files.join("usr/lib/modules"))?;
    write(&files.join("etc/hostname"), "gorget-vm\n")?;
    write(&files.join("etc/hosts"), "127.0.0.1 localhost gorget-vm\n")?;
    write(
        &files.join("etc/machine-id"),
        "6f6e6c7920666f7220746573747321a1\n",
    )?;
    container_image::write(&root, &place.join("layer"), &files.join("opt/gorget"))?;
    let init = files.join("gorget/init");
    command::run(command::new("chmod").arg("755").arg(init))?;
    let copied = files.join(".");
    command::run(command::as_root("cp")?.arg("-r").args([&copied, &root]))?;

    let disk = place.join("disk");
    command::run(
        command::as_root(&tool("mke2fs")?)?
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
            .args([&root, &disk])
            .arg(DISK_SIZE),
    )?;
    let scaffolding = [&root, &files, &place.join("layer")];
    command::run(command::as_root("rm")?.arg("-rf").args(scaffolding))
}

/// Tools in the `sbin` directories, which are not in everybody's `PATH`.
pub(super) fn tool(name: &str) -> Result<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = packages::find(name, &path).with_context(|| format!("`{name}` is missing"))?;
    Ok(found.to_string_lossy().into_owned())
}

pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot read `{}`", directory.display()))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_come_from_where_the_release_does() {
        let root = tempfile::tempdir().unwrap();
        let apt = root.path().join("etc/apt");
        let one_line = "deb [signed-by=/k] http://m.test/debian trixie main\n";
        let updates = "deb http://m.test/debian trixie-updates main\n";
        write(&apt.join("sources.list"), &format!("{one_line}{updates}")).unwrap();
        let stanza = apt.join("sources.list.d/x.sources");
        write(&stanza, "Types: deb\nSuites: trixie trixie-updates\n").unwrap();
        command::run(
            command::new("sh")
                .args(["-euc", &add_suite("trixie", "trixie-backports"), "sh"])
                .arg(root.path()),
        )
        .unwrap();
        assert_eq!(
            fs::read_to_string(apt.join("sources.list")).unwrap(),
            format!(
                "{one_line}deb [signed-by=/k] http://m.test/debian trixie-backports main\n{updates}"
            )
        );
        assert_eq!(
            fs::read_to_string(stanza).unwrap(),
            "Types: deb\nSuites: trixie trixie-backports trixie-updates\n"
        );
    }
}
