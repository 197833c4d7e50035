// SPDX-License-Identifier: Apache-2.0
//! `gorget hook`: has container runtimes wait for the agent before a container's first program.
//!
//! Podman and CRI-O read a directory of hooks (`directory`). Docker and containerd have none: they get
//! a `runc` that adds the hook, first in their services' `PATH` (`service`). No file of theirs is
//! edited: what is written is files of our own, which `uninstall` removes.

mod directory;
mod service;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The program that runtimes run, beside this one.
pub(crate) const PROGRAM: &str = "gorget-hook";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Have a runtime wait for the agent before a container's first program
    Install(Arguments),
    /// Undo that
    Uninstall(Arguments),
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// What starts the containers
    runtime: Runtime,
    /// The program that the runtime runs [default: `gorget-hook` beside this program]
    #[arg(long, value_name = "PATH")]
    hook: Option<PathBuf>,
    /// Directory of the system that is changed
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Runtime {
    Podman,
    Crio,
    Docker,
    Containerd,
}

impl Runtime {
    /// As on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Crio => "crio",
            Self::Docker => "docker",
            Self::Containerd => "containerd",
        }
    }
}

/// Whether a runtime runs our `runc`.
pub(crate) enum Wrapped {
    Yes,
    Possible,
    /// It would not be found, because of this.
    Not(String),
}

/// Whether the directory of hooks, which Podman and CRI-O read, has ours.
pub(crate) fn is_in_directory(root: &Path) -> bool {
    directory::is_installed(root)
}

/// Of Docker and containerd, by the names that `install` takes, whether they run our `runc`.
pub(crate) fn wrapped(root: &Path) -> [(&'static str, Wrapped); 2] {
    [
        ("docker", service::wrapped(root, service::DOCKER)),
        ("containerd", service::wrapped(root, service::CONTAINERD)),
    ]
}

pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    let said = match command {
        Command::Install(arguments) => {
            let hook = program(arguments.hook.as_deref())?;
            match arguments.runtime {
                Runtime::Podman | Runtime::Crio => directory::install(&arguments.root, &hook)?,
                Runtime::Docker => service::install(&arguments.root, &hook, service::DOCKER)?,
                Runtime::Containerd => {
                    service::install(&arguments.root, &hook, service::CONTAINERD)?
                }
            }
        }
        Command::Uninstall(arguments) => match arguments.runtime {
            Runtime::Podman | Runtime::Crio => directory::uninstall(&arguments.root)?,
            Runtime::Docker => service::uninstall(&arguments.root, service::DOCKER)?,
            Runtime::Containerd => service::uninstall(&arguments.root, service::CONTAINERD)?,
        },
    };
    let name = match command {
        Command::Install(arguments) | Command::Uninstall(arguments) => arguments.runtime.name(),
    };
    writeln!(io::stdout(), "{name}: {said}").context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// The absolute path of the program that runtimes run.
fn program(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .context("cannot find out where this program is")?
            .with_file_name(PROGRAM),
    };
    let path = fs::canonicalize(&path)
        .with_context(|| format!("`{}` is needed and cannot be found", path.display()))?;
    if !path.is_file() {
        bail!("`{}` is no program", path.display());
    }
    Ok(path)
}

/// Below another root directory.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Writes a file whole, and says whether that changed anything.
fn write(file: &Path, text: &str) -> Result<bool> {
    if fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    let doing = || format!("cannot write `{}`", file.display());
    let dir = file.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(dir).with_context(doing)?;
    // Readers of these directories take only files that end as they should.
    let beside = file.with_extension("being-written");
    fs::write(&beside, text).with_context(doing)?;
    fs::rename(&beside, file).with_context(doing)?;
    Ok(true)
}

/// Removes a file, and the directories above it that are empty then, up to `top`.
fn remove(file: &Path, top: &Path) -> Result<()> {
    fs::remove_file(file).with_context(|| format!("cannot remove `{}`", file.display()))?;
    for dir in file.ancestors().skip(1).take_while(|dir| *dir != top) {
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
    Ok(())
}
