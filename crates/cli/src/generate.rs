// SPDX-License-Identifier: Apache-2.0
//! `gorget completion` and `gorget man`: what is made from the command line's own description, so that
//! it is never behind it.

use crate::Cli;
use crate::render;
use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Completion {
    /// For which shell
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct Man {
    /// Directory that the pages are written to; it is made
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// A script on standard output.
pub(crate) fn completion(arguments: &Completion) -> Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(arguments.shell, &mut command, "gorget", &mut script);
    render::print(&String::from_utf8_lossy(&script)).context("cannot write the script")?;
    Ok(ExitCode::SUCCESS)
}

/// A page for the program and one for each command.
pub(crate) fn man(arguments: &Man) -> Result<ExitCode> {
    let directory = &arguments.directory;
    let writing = || format!("cannot write manual pages to `{}`", directory.display());
    fs::create_dir_all(directory).with_context(writing)?;
    clap_mangen::generate_to(Cli::command(), directory).with_context(writing)?;
    Ok(ExitCode::SUCCESS)
}
