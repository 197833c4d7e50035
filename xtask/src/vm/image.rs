// SPDX-License-Identifier: Apache-2.0
//! Building what the virtual machine boots: kernel, initial RAM disk, root disk.
//!
//! Everything comes from Debian packages through `mmdebstrap`, without loop
//! devices, so it works in containers. The kernel package is only unpacked (its
//! scripts would build an initial RAM disk we do not want); the root disk is an
//! ext4 file made from a directory. Nobody writes to the result: the virtual
//! machine gets a copy-on-write view of it.
//!
//! The result is cached; its key covers this recipe, the guest's scripts and the
//! suites, not the versions of packages: remove the cache to get newer ones.

use super::{Suite, cache, container_image, cpio};
use crate::command;
use crate::packages::{self, Tool};
use anyhow::{Context as _, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const INIT: &str = include_str!("../../../vmtest/guest/init");
const INITRD_INIT: &str = include_str!("../../../vmtest/guest/initrd-init");
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
const PACKAGES: &str = "apparmor,busybox-static,containerd,iproute2,kmod,mawk,procps,runc,strace";

/// Left out of the image: nobody reads them there.
const EXCLUDED: &[&str] = &["doc", "man", "locale", "info", "lintian", "bug", "zoneinfo"];

/// What the disk's driver needs, in the order of loading. Those that are built
/// into the kernel have no file and are left out.
const DISK_MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
];

/// Room for what a job unpacks and writes; the file is sparse.
const DISK_SIZE: &str = "3G";

/// What to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) disk: PathBuf,
}

/// The image with the kernel of one suite and the user space of another, built if need be.
pub(crate) fn find(kernel: Suite, user_space: Suite) -> Result<Image> {
    let (kernel, user_space) = (kernel.name(), user_space.name());
    let place = cache::entry(
        &format!("image-{user_space}-kernel-{kernel}"),
        &format!("installing packages for the virtual machine ({user_space}, about 1 min)"),
        &[
            RECIPE,
            container_image::RECIPE,
            INIT,
            INITRD_INIT,
            kernel,
            user_space,
        ],
        |place| build(place, kernel, user_space),
    )?;
    Ok(Image {
        kernel: place.join("vmlinuz"),
        initrd: place.join("initrd"),
        disk: place.join("disk"),
    })
}

/// Unpacks packages and what they depend on into a directory, or installs them there.
pub(crate) fn debian(variant: &str, packages: &str, suite: &str, directory: &Path) -> Result<()> {
    packages::ensure(TOOLS)?;
    let mut mmdebstrap = command::as_root("mmdebstrap")?;
    mmdebstrap
        .arg(format!("--variant={variant}"))
        .args(["--format=directory", "--aptopt=APT::Install-Recommends \"false\""])
        .args(EXCLUDED.iter().map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
        .arg(format!("--include={packages}"))
        .arg(suite)
        .arg(directory)
        // Without a mirror, mmdebstrap uses Debian's own for the suite.
        .args(env::var_os("GORGET_MIRROR"));
    command::run(&mut mmdebstrap)
}

fn build(place: &Path, kernel: &str, user_space: &str) -> Result<()> {
    let (root, unpacked) = (place.join("root"), place.join("kernel"));
    debian("extract", "linux-image-cloud-amd64", kernel, &unpacked)?;
    debian("minbase", PACKAGES, user_space, &root)?;

    let version = install_kernel(&unpacked, &root, place)?;
    let modules = root.join("usr/lib/modules").join(version);
    fs::write(place.join("initrd"), initrd(&root, &modules)?)?;

    // Written here and copied as root, whom the directory belongs to.
    let files = place.join("files");
    write(&files.join("gorget/init"), INIT)?;
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
    let scaffolding = [&root, &unpacked, &files, &place.join("layer")];
    command::run(command::as_root("rm")?.arg("-rf").args(scaffolding))
}

/// Copies the kernel to `place` and its modules to `root`; returns its version.
fn install_kernel(unpacked: &Path, root: &Path, place: &Path) -> Result<String> {
    let boot = unpacked.join("boot");
    let version = names(&boot)?
        .iter()
        .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .with_context(|| format!("no kernel in `{}`", boot.display()))?;
    let image = boot.join(format!("vmlinuz-{version}"));
    command::run(
        command::as_root("install")?
            .args(["-m", "644"])
            .arg(image)
            .arg(place.join("vmlinuz")),
    )?;

    let source = ["usr/lib/modules", "lib/modules"]
        .map(|directory| unpacked.join(directory).join(&version))
        .into_iter()
        .find(|directory| directory.is_dir())
        .with_context(|| format!("no modules of kernel {version}"))?;
    let target = root.join("usr/lib/modules");
    command::run(command::as_root("mkdir")?.arg("-p").arg(&target))?;
    command::run(command::as_root("cp")?.arg("-a").args([&source, &target]))?;
    command::run(
        command::as_root(&tool("depmod")?)?
            .arg("-b")
            .arg(root)
            .arg(&version),
    )?;
    Ok(version)
}

fn initrd(root: &Path, modules: &Path) -> Result<Vec<u8>> {
    let mut archive = cpio::Archive::default();
    for name in ["bin", "dev", "modules", "new", "proc", "sys"] {
        archive.directory(name)?;
    }
    archive.character_device("dev/console", (5, 1))?;
    archive.program("init", INITRD_INIT.as_bytes())?;
    archive.program("bin/busybox", &read(&root.join("usr/bin/busybox"))?)?;
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

/// Tools in the `sbin` directories, which are not in everybody's `PATH`.
fn tool(name: &str) -> Result<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = packages::find(name, &path).with_context(|| format!("`{name}` is missing"))?;
    Ok(found.to_string_lossy().into_owned())
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot read `{}`", directory.display()))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn read(file: &Path) -> Result<Vec<u8>> {
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
    fn a_module_is_found_by_its_whole_name() {
        assert!(is_module(Path::new("/m/virtio.ko"), "virtio"));
        assert!(is_module(Path::new("/m/virtio.ko.xz"), "virtio"));
        assert!(!is_module(Path::new("/m/virtio_ring.ko"), "virtio"));
        assert!(!is_module(Path::new("/m/virtio.ko.gz"), "virtio"));
    }
}
