// SPDX-License-Identifier: Apache-2.0
//! The kernels that the virtual machine can boot, and getting them.
//!
//! Each is a Debian cloud kernel: its packages are unpacked through `mmdebstrap`,
//! which checks them against the archive's signature, and never installed. What is
//! kept is the kernel, an initial RAM disk that can reach the root disk, and a disk
//! with the modules; so every kernel boots every user space.
//!
//! The key of the cache covers this recipe and the suite, not the versions of
//! packages: remove the cache to get newer ones.

use super::image::{debian, names, read, tool};
use super::{cache, cpio};
use crate::command;
use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const INITRD_INIT: &str = include_str!("../../../vmtest/guest/initrd-init");
/// This file; changing how a kernel is got makes another entry.
const RECIPE: &str = include_str!("kernel.rs");

/// What the disk's driver and the file system need, in the order of loading. Those
/// that are built into the kernel have no file and are left out.
const DISK_MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
];

/// Room for the modules; the file is sparse.
const MODULES_SIZE: &str = "512M";

/// A kernel that Gorget is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kernel {
    #[value(name = "5.10")]
    V5_10,
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    /// Whatever Debian's backports have now
    #[value(name = "7.x")]
    V7,
}

impl Kernel {
    pub(crate) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7.x",
        }
    }

    /// The Debian suite that has it.
    pub(crate) fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::V7 => "trixie-backports",
        }
    }
}

/// What of a kernel is booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    /// A disk for `/usr/lib/modules`.
    pub(crate) modules: PathBuf,
}

/// The files of a kernel, fetched if need be.
pub(crate) fn find(kernel: Kernel) -> Result<Files> {
    let place = cache::entry(
        &format!("kernel-{}", kernel.name()),
        &format!("unpacking kernel {} (about 20 s)", kernel.name()),
        &[RECIPE, INITRD_INIT, kernel.suite()],
        |place| build(place, kernel),
    )?;
    Ok(Files {
        kernel: place.join("vmlinuz"),
        initrd: place.join("initrd"),
        modules: place.join("modules"),
    })
}

fn build(place: &Path, kernel: Kernel) -> Result<()> {
    let (unpacked, root) = (place.join("unpacked"), place.join("root"));
    // Named with its suite: that of its updates is often ahead of what mirrors have.
    let packages = format!("linux-image-cloud-amd64/{},busybox-static", kernel.suite());
    debian("extract", &packages, kernel.suite(), &unpacked)?;

    let source = modules(&unpacked)?;
    let version = source
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if !version.starts_with(kernel.name().trim_end_matches('x')) {
        bail!(
            "{} has kernel {version}, and not {}",
            kernel.suite(),
            kernel.name()
        );
    }
    let image = [
        unpacked.join("boot").join(format!("vmlinuz-{version}")),
        source.join("vmlinuz"),
    ]
    .into_iter()
    .find(|file| file.is_file())
    .with_context(|| format!("no kernel {version} in its package"))?;
    command::run(
        command::as_root("install")?
            .args(["-m", "644"])
            .arg(image)
            .arg(place.join("vmlinuz")),
    )?;
    let modules = indexed(&source, &root, &version)?;
    fs::write(
        place.join("initrd"),
        initrd(&unpacked, &modules.join(&version))?,
    )?;
    command::run(
        command::as_root(&tool("mke2fs")?)?
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
            .args([&modules, &place.join("modules")])
            .arg(MODULES_SIZE),
    )?;
    command::run(command::as_root("rm")?.arg("-rf").args([&root, &unpacked]))
}

/// The directory of the modules, which is named after the kernel's version.
fn modules(unpacked: &Path) -> Result<PathBuf> {
    ["usr/lib/modules", "lib/modules"]
        .into_iter()
        .filter_map(|directory| {
            let directory = unpacked.join(directory);
            Some(directory.join(names(&directory).ok()?.first()?))
        })
        .next()
        .with_context(|| format!("no modules in `{}`", unpacked.display()))
}

/// Copies the modules below `root`, with the indices that loading them by name needs; returns
/// where they are.
fn indexed(source: &Path, root: &Path, version: &str) -> Result<PathBuf> {
    let target = root.join("lib/modules");
    command::run(command::as_root("mkdir")?.arg("-p").arg(&target))?;
    command::run(command::as_root("cp")?.arg("-a").args([source, &target]))?;
    command::run(
        command::as_root(&tool("depmod")?)?
            .arg("-b")
            .arg(root)
            .arg(version),
    )?;
    Ok(target)
}

fn initrd(unpacked: &Path, modules: &Path) -> Result<Vec<u8>> {
    let mut archive = cpio::Archive::default();
    for name in ["bin", "dev", "modules", "new", "proc", "sys"] {
        archive.directory(name)?;
    }
    archive.character_device("dev/console", (5, 1))?;
    archive.program("init", INITRD_INIT.as_bytes())?;
    let busybox = ["usr/bin/busybox", "bin/busybox"]
        .map(|file| unpacked.join(file))
        .into_iter()
        .find(|file| file.is_file())
        .context("`busybox-static` has no `busybox`")?;
    archive.program("bin/busybox", &read(&busybox)?)?;
    let all = command::output(
        command::new("find")
            .arg(modules)
            .args(["-name", "virtio*.ko*"]),
    )?;
    let mut order = String::new();
    for module in DISK_MODULES {
        if let Some(file) = all.lines().find(|file| is_module(Path::new(file), module)) {
            let name = format!("{module}.ko");
            archive.program(&format!("modules/{name}"), &module_data(file)?)?;
            order.push_str(&name);
            order.push('\n');
        }
    }
    archive.program("modules/order", order.as_bytes())?;
    archive.finish()
}

/// True for `module.ko` and its compressed forms.
fn is_module(file: &Path, module: &str) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    matches!(name.strip_prefix(module), Some(".ko" | ".ko.xz"))
}

fn module_data(file: &str) -> Result<Vec<u8>> {
    if !file.ends_with(".xz") {
        return read(Path::new(file));
    }
    let unpacked = command::new("xz").args(["-dc", file]).output()?;
    if !unpacked.status.success() {
        bail!("cannot decompress `{file}`");
    }
    Ok(unpacked.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn a_module_is_found_by_its_whole_name() {
        assert!(is_module(Path::new("/m/virtio.ko"), "virtio"));
        assert!(is_module(Path::new("/m/virtio.ko.xz"), "virtio"));
        assert!(!is_module(Path::new("/m/virtio_ring.ko"), "virtio"));
        assert!(!is_module(Path::new("/m/virtio.ko.gz"), "virtio"));
    }

    #[test]
    fn every_kernel_is_named_on_the_command_line_as_in_messages() {
        assert_eq!(Kernel::ALL, Kernel::value_variants());
        for kernel in Kernel::ALL {
            assert_eq!(Kernel::from_str(kernel.name(), false), Ok(kernel));
        }
    }
}
