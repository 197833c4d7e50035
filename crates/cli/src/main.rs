// SPDX-License-Identifier: Apache-2.0
//! `gorget`, the command line: follow what the agent reports, check policies before they are used.
//!
//! One module a command. Each returns its exit status, or an error, which is printed here with its
//! causes and exits with 1. Wrong usage exits with 2 (clap). Results go to standard output,
//! everything about the program itself to standard error.
#![forbid(unsafe_code)]

mod logs;
mod policy_check;
mod render;
mod version;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Runtime security enforcement for Linux.
#[derive(Parser)]
#[command(name = "gorget", version = version::LONG)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Follow what the agent reports
    Logs(logs::Arguments),
    /// Work with policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Say which version this is
    Version(version::Arguments),
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Check policy files without an agent
    ///
    /// Exit status: 0 without errors, 1 when a policy has an error, 2 when a file cannot be read.
    Check(policy_check::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Policy(PolicyCommand::Check(arguments)) => policy_check::run(&arguments),
        Command::Version(arguments) => version::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        // Nobody is left to be told when this fails.
        drop(writeln!(std::io::stderr(), "gorget: {error:#}"));
        ExitCode::FAILURE
    })
}
