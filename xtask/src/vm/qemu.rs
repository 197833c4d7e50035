// SPDX-License-Identifier: Apache-2.0
//! The emulator: which QEMU to use, and its command line.
//!
//! QEMU before 8.2 corrupts guests with kernel 6.12 under emulation, so an older
//! one is passed over and Debian trixie's is unpacked into the cache. It runs
//! with its own C library. Hardware acceleration is never used: a `/dev/kvm` may
//! exist and not work, and results should not depend on it.

use super::{Network, Vm, cache, image, kernel};
use crate::command;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

const OLDEST: (u32, u32) = (8, 2);
const SUITE: &str = "trixie";
const PACKAGES: &str = "qemu-system-x86,seabios";

/// The guest's kernel messages, warnings and worse, go to the second serial port. `bpf` has to be
/// in the list of security modules; a warning is no reason to stop, an oops is.
const KERNEL_ARGUMENTS: &str = "console=ttyS1 loglevel=5 panic=-1 oops=panic \
                                lsm=landlock,lockdown,yama,apparmor,bpf";

/// One processor until the root file system is there (`vmtest/guest/initrd-init`): QEMU 10.0 sometimes
/// ends in `iotlb_to_section` when one processor gives a PCI device its address while another runs.
const FIRST_PROCESSOR_ALONE: &str = "maxcpus=1";

/// Without the firmware for booting from it, which is another package.
const CARD: &str = "virtio-net-pci,netdev=host,romfile=";

/// What to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boot {
    pub(crate) kernel: kernel::Files,
    /// With the root file system.
    pub(crate) disk: PathBuf,
}

/// The command that boots; after root and modules, `job` is the third disk and `output` the fourth.
///
/// The first serial port is its standard input and output, the second its standard error, where its
/// own messages go as well. It is killed if this process dies.
pub(crate) fn command(vm: &Vm, boot: &Boot, job: &Path, output: Option<&Path>) -> Result<Command> {
    // Dies with us, however we die, without needing unsafe code here.
    let mut qemu = command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL"]);
    program(&mut qemu)?;
    qemu.args([
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-cpu",
        "max",
        "-m",
        &vm.memory,
    ]);
    if vm.icount {
        qemu.args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-smp", "1"]);
        // Random numbers and the date decide about hash chains and when timers run out.
        qemu.args(["-seed", "1", "-rtc", "base=2024-01-01,clock=vm"]);
    } else {
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2"]);
    }
    qemu.args([
        "-serial",
        if vm.interactive { "mon:stdio" } else { "stdio" },
    ])
    .args([
        "-chardev",
        "file,id=kernel,path=/dev/stderr",
        "-serial",
        "chardev:kernel",
    ])
    .arg("-kernel")
    .arg(&boot.kernel.kernel)
    .arg("-initrd")
    .arg(&boot.kernel.initrd)
    .args([
        "-append",
        &format!("{KERNEL_ARGUMENTS} {FIRST_PROCESSOR_ALONE} {}", vm.append),
    ])
    .args(["-drive", &drive(&boot.disk, "cache=unsafe,snapshot=on")])
    .args(["-drive", &drive(&boot.kernel.modules, "readonly=on")])
    .args(["-drive", &drive(job, "readonly=on")]);
    if let Some(network) = network(&vm.network) {
        qemu.args(["-netdev", &network, "-device", CARD]);
    }
    if let Some(output) = output {
        qemu.args(["-drive", &drive(output, "cache=unsafe")]);
    }
    Ok(qemu)
}

/// The emulator's side of the card.
fn network(network: &Network) -> Option<String> {
    let user = "user,id=host,ipv6=off";
    match network {
        Network::None => None,
        Network::User => Some(user.to_owned()),
        Network::Forwarding(ports) => {
            let ports = ports.iter();
            let forwarded = ports.map(|(from, to)| format!(",hostfwd=tcp:127.0.0.1:{from}-{to}"));
            Some(forwarded.fold(user.to_owned(), |all, one| all + &one))
        }
    }
}

fn drive(file: &Path, options: &str) -> String {
    // A comma in a file name is doubled.
    let file = file.display().to_string().replace(',', ",,");
    format!("file={file},if=virtio,format=raw,{options}")
}

/// Adds the emulator's program and the options that belong to where it is.
fn program(qemu: &mut Command) -> Result<()> {
    let said = command::output(command::new("qemu-system-x86_64").arg("--version"));
    if said
        .ok()
        .and_then(|text| version(&text))
        .is_some_and(|version| version >= OLDEST)
    {
        qemu.arg("qemu-system-x86_64");
        return Ok(());
    }
    let place = cache::entry(
        "qemu",
        "unpacking QEMU (about 15 s)",
        &[PACKAGES, SUITE],
        |place| image::debian("extract", PACKAGES, SUITE, &place.join("root")),
    )?;
    let usr = place.join("root/usr");
    let libraries = usr.join("lib/x86_64-linux-gnu");
    qemu.env("QEMU_MODULE_DIR", libraries.join("qemu"))
        .arg(usr.join("lib64/ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(&libraries)
        .arg(usr.join("bin/qemu-system-x86_64"));
    for firmware in ["share/qemu", "share/seabios"] {
        qemu.arg("-L").arg(usr.join(firmware));
    }
    Ok(())
}

/// Major and minor number in what `--version` prints.
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, numbers) = text.split_once("version ")?;
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_qemu_prints() {
        let debian = "QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)\nCopyright";
        assert_eq!(version(debian), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.13\n"), Some((10, 0)));
        assert!(version("QEMU emulator version 10.0.13\n") >= Some(OLDEST));
        assert_eq!(version("no such file"), None);
    }

    #[test]
    fn a_comma_in_a_file_name_does_not_end_it() {
        assert_eq!(
            drive(Path::new("/a,b"), "x=y"),
            "file=/a,,b,if=virtio,format=raw,x=y"
        );
    }
}
