// SPDX-License-Identifier: Apache-2.0
//! Running a job in a throw-away virtual machine.
//!
//! A job is a set of files and a command. The files go in as a tar archive on the
//! third disk and are in `/job`; what the command leaves in `/out` comes back on
//! the fourth. The second disk has the kernel's modules. The guest's side of this is `vmtest/guest/init`.
//!
//! A job has an exit code only if the guest said so exactly once and its kernel
//! reported no trouble. The emulator never outlives this process, and nothing the
//! guest writes changes the image.

pub(crate) mod cache;
mod compiler;
mod console;
mod container_image;
mod cpio;
mod image;
mod kernel;
mod qemu;

pub(crate) use cache::now;
pub(crate) use compiler::compiler;
pub(crate) use kernel::Kernel;

use crate::command;
use anyhow::{Context as _, Result, bail};
use console::{Console, plain};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// A Debian release for the user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    Bookworm,
    Trixie,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// What the guest can reach, and who can reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    /// No card at all.
    None,
    /// This machine's loopback is 10.0.2.2.
    User,
    /// As well, and ports of this machine's loopback are addresses of the guest.
    Forwarding(Vec<(u16, &'static str)>),
}

#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) kernel: Kernel,
    pub(crate) user_space: Suite,
    /// In QEMU's notation.
    pub(crate) memory: String,
    /// Count instructions instead of time: slow, and the same on every machine.
    pub(crate) icount: bool,
    /// More arguments for the kernel.
    pub(crate) append: String,
    /// How long the guest may run; ignored when interactive.
    pub(crate) timeout: Duration,
    /// The job has the terminal.
    pub(crate) interactive: bool,
    pub(crate) network: Network,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            kernel: Kernel::V6_1,
            user_space: Suite::Bookworm,
            memory: "1G".to_owned(),
            icount: false,
            append: String::new(),
            timeout: Duration::from_mins(10),
            interactive: false,
            network: Network::None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Job {
    /// Files and directories and their names in `/job`.
    pub(crate) files: Vec<(String, PathBuf)>,
    /// Run by a shell, as root, in `/job`.
    pub(crate) command: String,
    /// Where to put what the job left in `/out`.
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    /// The job's exit code, or a sentence that says why there is none to be trusted.
    pub(crate) ending: Result<u8, String>,
    /// What the job printed.
    pub(crate) output: String,
    /// From switching on to the job's first line.
    pub(crate) booted_in: Duration,
}

/// A line that the guest said just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Output(&'a str),
    /// A warning or worse of the kernel, or a message of the emulator.
    Kernel(&'a str),
}

/// How long the guest may take to switch off after the job has ended.
const SWITCHING_OFF: Duration = Duration::from_secs(30);
/// How long a kernel in trouble may go on talking about it.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The most that `/out` may hold.
const OUTPUT_SIZE: u64 = 256 << 20;

/// Boots, runs the job and switches off. `heard` gets each line at once.
pub(crate) fn run(vm: &Vm, job: &Job, heard: &mut dyn FnMut(Line<'_>)) -> Result<Outcome> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the virtual machine needs programs built for x86_64");
    }
    let boot = qemu::Boot {
        kernel: kernel::find(vm.kernel)?,
        disk: image::find(vm.user_space)?,
    };
    let directory = tempfile::tempdir()?;
    let job_disk = directory.path().join("job.tar");
    pack(vm, job, directory.path(), &job_disk)?;
    let output_disk = match job.output {
        Some(_) => Some(sparse(&directory.path().join("out.tar"))?),
        None => None,
    };
    let disk_paths = output_disk.as_ref().map(|(path, _)| path.as_path());
    let mut qemu = qemu::command(vm, &boot, &job_disk, disk_paths)?;
    qemu.stdin(if vm.interactive {
        Stdio::inherit()
    } else {
        Stdio::null()
    })
    .stdout(Stdio::piped())
    .stderr(Stdio::piped());
    let began = now();
    let mut child = qemu.spawn().context("cannot run QEMU")?;
    let listened = listen(&mut child, vm, directory, heard);
    // Only after a failure of our own is it still running.
    drop(child.kill());
    child.wait().context("cannot wait for QEMU")?;
    let (console, booted_at, late) = listened?;

    if let (Some(target), Some((_, disk))) = (&job.output, output_disk) {
        unpack(disk, target).context("cannot unpack what the job left in /out")?;
    }
    let ending = match console.verdict() {
        Err(why) if console.troubled() => Err(why),
        _ if late => Err(format!(
            "the guest did not end within {} s",
            vm.timeout.as_secs()
        )),
        verdict => verdict,
    };
    Ok(Outcome {
        ending,
        output: console.output().to_owned(),
        booted_in: booted_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(began)),
    })
}

enum Heard {
    Console(Vec<u8>),
    Kernel(String),
}

/// What was heard, when the job began, and whether the guest took too long.
type Listened = (Console, Option<std::time::Instant>, bool);

/// Listens until the guest has gone, or should have. `files` are removed once QEMU has them open,
/// so that an interrupted run leaves nothing.
fn listen(
    child: &mut Child,
    vm: &Vm,
    files: tempfile::TempDir,
    heard: &mut dyn FnMut(Line<'_>),
) -> Result<Listened> {
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take().context("QEMU has no output")?;
    let stderr = child.stderr.take().context("QEMU has no messages")?;
    let kernel_sender = sender.clone();
    thread::spawn(move || forward_chunks(stdout, &sender));
    thread::spawn(move || forward_lines(stderr, &kernel_sender));

    let mut files = Some(files);
    let mut console = Console::default();
    let mut unfinished = Vec::new();
    let mut booted_at = None;
    let mut deadline = (!vm.interactive).then(|| now() + vm.timeout);
    let mut ending = false;
    loop {
        let next = match deadline {
            Some(deadline) => receiver.recv_timeout(deadline.saturating_duration_since(now())),
            None => receiver.recv().map_err(RecvTimeoutError::from),
        };
        let next = match next {
            Ok(next) => next,
            Err(RecvTimeoutError::Disconnected) => return Ok((console, booted_at, false)),
            Err(RecvTimeoutError::Timeout) => return Ok((console, booted_at, !ending)),
        };
        drop(files.take());
        match next {
            Heard::Console(bytes) => {
                for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                    if vm.interactive && console.began() {
                        show(part)?;
                    }
                    unfinished.extend_from_slice(part);
                    if !part.ends_with(b"\n") {
                        continue;
                    }
                    let line = console.take(&plain(&unfinished));
                    unfinished.clear();
                    match line {
                        Some(line) if !vm.interactive => heard(Line::Output(&line)),
                        _ => {}
                    }
                }
            }
            Heard::Kernel(line) => {
                console.take_kernel(&line);
                // What it says while booting and switching off is of interest only in trouble.
                if console.began() && !console.ended() {
                    heard(Line::Kernel(&line));
                }
            }
        }
        if console.began() && booted_at.is_none() {
            booted_at = Some(now());
        }
        if !ending && (console.ended() || console.troubled()) {
            ending = true;
            let grace = if console.troubled() {
                LAST_WORDS
            } else {
                SWITCHING_OFF
            };
            deadline = Some(now() + grace);
        }
    }
}

fn forward_chunks(mut from: impl Read, to: &Sender<Heard>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let chunk = buffer.get(..count).unwrap_or_default().to_vec();
        if to.send(Heard::Console(chunk)).is_err() {
            return;
        }
    }
}

fn forward_lines(from: impl Read, to: &Sender<Heard>) {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Some(Ok(line)) = lines.next() {
        if to.send(Heard::Kernel(plain(&line))).is_err() {
            return;
        }
    }
}

fn show(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Packs the job's files; `scratch` is a directory for it to use.
fn pack(vm: &Vm, job: &Job, scratch: &Path, archive: &Path) -> Result<()> {
    let files = scratch.join("job");
    fs::create_dir(&files)?;
    fs::write(files.join(".command"), &job.command)?;
    if vm.interactive {
        fs::write(files.join(".interactive"), "")?;
    }
    for (name, path) in &job.files {
        let path = path
            .canonicalize()
            .with_context(|| format!("`{}` cannot be put into the job", path.display()))?;
        let link = files.join(name);
        if let Some(directory) = link.parent() {
            fs::create_dir_all(directory)?;
        }
        symlink(path, link).with_context(|| format!("two files of the job are named `{name}`"))?;
    }
    command::run(
        command::new("tar")
            .args(["--dereference", "--owner=0", "--group=0", "-cf"])
            .arg(archive)
            .arg("-C")
            .arg(&files)
            .arg("."),
    )
}

fn sparse(path: &Path) -> Result<(PathBuf, File)> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    file.set_len(OUTPUT_SIZE)?;
    Ok((path.to_owned(), file))
}

fn unpack(mut archive: File, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    archive.rewind()?;
    let mut tar = command::new("tar");
    tar.args(["--no-same-owner", "-xf", "-", "-C"])
        .arg(target)
        .stdin(archive);
    let status = tar.status().context("cannot run `tar`")?;
    if !status.success() {
        bail!("`tar` failed ({status})");
    }
    Ok(())
}
