// SPDX-License-Identifier: Apache-2.0
//! The operations, and how one is measured.
//!
//! An operation is done in batches. The first ones warm caches up and are not counted; of the others
//! the mean counts, over many ticks of the timer: it is then that the kernel does what an operation
//! left to be done (a closed file is freed by an interrupt), so a tick more or less is a visible error.
//! The dearest and the cheapest batches are left out: what happens once, as freeing what loading
//! programs took, would be a visible error, too.
//! Setting up what an operation needs (files to remove, a listening socket) is done between batches
//! and not measured.

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::CString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};

const WARM_UP: usize = 3;
const BATCHES: usize = 40;
/// At either end, of the batches.
const OUTLIERS: usize = 4;
/// Of a whole task: it is long enough. The one in the middle counts.
const RUNS: usize = 5;

/// Files in a directory that are opened in turn: more than a task's memory for answers holds.
pub(crate) const FILES: usize = 64;

/// Measures one operation and prints its cost: instructions for each, rounded.
pub(crate) fn measure(operation: &str, arguments: &[&str]) -> Result<()> {
    let cost = match (operation, arguments) {
        ("open-again", [directory]) => open_again(directory),
        ("open-in-turn", [directory]) => open_in_turn(directory),
        ("exec", [program]) => exec(program),
        ("connect", []) => connect(),
        ("walk", [top]) => walk(Path::new(top)),
        ("unlink", [directory]) => unlink(directory),
        ("capable", []) => capable(),
        ("run", [script]) => run(script),
        ("storm", [file, count]) => storm(file, count.parse().context("how often?")?),
        _ => bail!("unknown operation `{operation}` {arguments:?}"),
    }?;
    println!("{cost}");
    Ok(())
}

/// Instructions since the machine was switched on.
fn now() -> u64 {
    let time = clock_gettime(ClockId::MonotonicRaw);
    let part = |n: i64| u64::try_from(n).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// The mean cost of one of the `count` operations in a batch.
fn batches(
    count: u64,
    prepare: impl FnMut() -> Result<()>,
    batch: impl FnMut() -> Result<()>,
) -> Result<u64> {
    let mut costs = costs(BATCHES, prepare, batch)?;
    costs.sort_unstable();
    let kept = costs.get(OUTLIERS..costs.len() - OUTLIERS);
    let kept = kept.context("there are too few batches")?;
    let all = count * u64::try_from(kept.len())?;
    Ok((kept.iter().sum::<u64>() + all / 2) / all)
}

/// What each round costs, once caches are warm.
fn costs(
    rounds: usize,
    mut prepare: impl FnMut() -> Result<()>,
    mut batch: impl FnMut() -> Result<()>,
) -> Result<Vec<u64>> {
    let mut costs = Vec::new();
    for round in 0..WARM_UP + rounds {
        prepare()?;
        let began = now();
        batch()?;
        let took = now() - began;
        if round >= WARM_UP {
            costs.push(took);
        }
    }
    Ok(costs)
}

fn nothing() -> Result<()> {
    Ok(())
}

fn open_and_close(path: &CString) -> Result<()> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY, Mode::empty())?;
    drop(file);
    Ok(())
}

pub(crate) fn file_name(directory: &str, number: usize) -> String {
    format!("{directory}/file-{number:02}")
}

fn open_again(directory: &str) -> Result<u64> {
    let file = CString::new(file_name(directory, 0))?;
    batches(256, nothing, || {
        for _ in 0..256 {
            open_and_close(&file)?;
        }
        Ok(())
    })
}

fn open_in_turn(directory: &str) -> Result<u64> {
    let files: Vec<CString> = (0..FILES)
        .map(|number| CString::new(file_name(directory, number)))
        .collect::<Result<_, _>>()?;
    batches(256, nothing, || {
        for file in files.iter().cycle().take(256) {
            open_and_close(file)?;
        }
        Ok(())
    })
}

/// A child, a program in it that does nothing, and its end.
fn exec(program: &str) -> Result<u64> {
    batches(20, nothing, || {
        for _ in 0..20 {
            if !Command::new(program).status()?.success() {
                bail!("`{program}` failed");
            }
        }
        Ok(())
    })
}

/// Two sockets, their connection over the loopback interface, and their end.
fn connect() -> Result<u64> {
    let tcp = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let listener = tcp()?;
    rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, 16)?;
    let address = rustix::net::getsockname(&listener)?;
    let linger = Some(std::time::Duration::ZERO);
    batches(40, nothing, || {
        for _ in 0..40 {
            let client = tcp()?;
            // Ends with a reset, so that no port stays in use.
            rustix::net::sockopt::set_socket_linger(&client, linger)?;
            rustix::net::connect(&client, &address)?;
            let server = rustix::net::accept(&listener)?;
            drop(client);
            drop(server);
        }
        Ok(())
    })
}

/// Looks at everything below a directory.
fn look(directory: &Path) -> Result<usize> {
    let mut seen = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        seen += 1;
        if fs::symlink_metadata(&path)?.is_dir() {
            seen += look(&path)?;
        }
    }
    Ok(seen)
}

fn walk(top: &Path) -> Result<u64> {
    let all = u64::try_from(look(top)?)?;
    // For each entry, so that the figure does not depend on the size of the tree.
    batches(all, nothing, || look(top).map(drop))
}

fn unlink(directory: &str) -> Result<u64> {
    let name = |number: usize| CString::new(format!("{directory}/gone-{number:03}"));
    let names: Vec<CString> = (0..256).map(name).collect::<Result<_, _>>()?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let prepare = || {
        for name in &names {
            drop(rustix::fs::openat(CWD, name, create, Mode::RUSR)?);
        }
        Ok(())
    };
    batches(256, prepare, || {
        for name in &names {
            rustix::fs::unlinkat(CWD, name, rustix::fs::AtFlags::empty())?;
        }
        Ok(())
    })
}

/// Sets the host name that is set: needs `CAP_SYS_ADMIN` and does little else.
fn capable() -> Result<u64> {
    let name = fs::read("/proc/sys/kernel/hostname")?;
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    batches(2000, nothing, || {
        for _ in 0..2000 {
            rustix::system::sethostname(name)?;
        }
        Ok(())
    })
}

/// A whole script, from the shell's start to its end.
fn run(script: &str) -> Result<u64> {
    let mut costs = costs(RUNS, nothing, || {
        let mut command = Command::new("/bin/sh");
        let status = command.arg(script).stdin(Stdio::null()).status()?;
        if !status.success() {
            bail!("`{script}` failed");
        }
        Ok(())
    })?;
    costs.sort_unstable();
    costs.get(RUNS / 2).copied().context("it was never run")
}

/// Opens a file as often and as fast as possible, once.
fn storm(file: &str, count: u64) -> Result<u64> {
    let file = CString::new(file)?;
    let began = now();
    for _ in 0..count {
        open_and_close(&file)?;
    }
    Ok(now() - began)
}
