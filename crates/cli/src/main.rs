// SPDX-License-Identifier: Apache-2.0
//! `gorget`, the command line: follow what the agent reports, check policies before they are used.
//!
//! One module a command. Each returns its exit status, or an error, which is printed here with its
//! causes and exits with 1, or with 2 where 1 is an answer (`gorget policy`). Wrong usage exits with
//! 2 (clap). Results go to standard output,
//! everything about the program itself to standard error.
#![forbid(unsafe_code)]

mod activity;
mod agents;
mod cluster;
mod generate;
mod hook;
mod install;
mod karmor;
mod logs;
mod policy;
mod probe;
mod profile;
mod recommend;
mod render;
mod summary;
mod sysdump;
mod top;
mod version;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
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
    /// Write a script that completes commands in a shell
    Completion(generate::Completion),
    /// Have container runtimes wait for the agent
    #[command(subcommand)]
    Hook(hook::Command),
    /// Install Gorget in a cluster, or bring it to this version
    ///
    /// Exit status: 0 when everything is there and ready, 1 otherwise.
    Install(Box<install::Arguments>),
    /// Follow what the agent reports
    Logs(Box<logs::Arguments>),
    /// Write manual pages
    Man(generate::Man),
    /// Work with policies
    #[command(subcommand)]
    Policy(Box<policy::Command>),
    /// Say what the agent does, or what this machine can have of Gorget and how to get the rest
    ///
    /// Exit status: 0 when everything can be enforced, or is, 1 when something is lost or could not be
    /// found out, 2 when the agent cannot run.
    Probe(probe::Arguments),
    /// Show what workloads do, on a terminal
    Profile(Box<profile::Arguments>),
    /// List policies that harden containers and machines, or print them with a selector filled in
    Recommend(Box<recommend::Arguments>),
    /// Count what workloads did: operations by source and resource, alerts by policy
    Summary(Box<summary::Arguments>),
    /// Write an archive of what somebody who is to help needs to see, without secrets
    Sysdump(sysdump::Arguments),
    /// Show what the hooks cost, how full tables are, and which workloads are busiest
    Top(top::Arguments),
    /// Take Gorget out of a cluster, and end what is in force
    ///
    /// Exit status: 0 when everything is gone, 1 otherwise.
    Uninstall(install::Removing),
    /// Work with the agent of a machine, with KubeArmor's words
    #[command(subcommand)]
    Vm(policy::Vm),
    /// Say which version this is
    Version(version::Arguments),
}

fn main() -> ExitCode {
    let cli = match words() {
        Ok(words) => Cli::parse_from(words),
        Err(error) => {
            drop(writeln!(std::io::stderr(), "gorget: {error}"));
            return ExitCode::from(policy::EXIT_NO_ANSWER);
        }
    };
    let (result, failure) = match cli.command {
        Command::Completion(arguments) => (generate::completion(&arguments), ExitCode::FAILURE),
        Command::Man(arguments) => (generate::man(&arguments), ExitCode::FAILURE),
        Command::Hook(command) => (hook::run(&command), ExitCode::FAILURE),
        Command::Install(arguments) => (install::run(&arguments), ExitCode::FAILURE),
        Command::Uninstall(arguments) => (install::uninstall(&arguments), ExitCode::FAILURE),
        Command::Logs(arguments) => (logs::run(&arguments), ExitCode::FAILURE),
        Command::Policy(command) => {
            let failure = ExitCode::from(policy::EXIT_NO_ANSWER);
            (policy::run(&command), failure)
        }
        Command::Probe(arguments) => {
            let failure = ExitCode::from(probe::EXIT_IMPOSSIBLE);
            (probe::run(&arguments), failure)
        }
        Command::Profile(arguments) => (profile::run(&arguments), ExitCode::FAILURE),
        Command::Recommend(arguments) => (recommend::run(&arguments), ExitCode::FAILURE),
        Command::Summary(arguments) => (summary::run(&arguments), ExitCode::FAILURE),
        Command::Sysdump(arguments) => (sysdump::run(&arguments), ExitCode::FAILURE),
        Command::Top(arguments) => (top::run(&arguments), ExitCode::FAILURE),
        Command::Vm(command) => {
            let failure = ExitCode::from(policy::EXIT_NO_ANSWER);
            (policy::run_vm(&command), failure)
        }
        Command::Version(arguments) => (version::run(&arguments), ExitCode::FAILURE),
    };
    result.unwrap_or_else(|error| {
        // Nobody is left to be told when this fails.
        drop(writeln!(std::io::stderr(), "gorget: {error:#}"));
        failure
    })
}

/// What was asked for, in our words.
fn words() -> Result<Vec<OsString>, String> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let Some((name, rest)) = words.split_first() else {
        return Ok(words);
    };
    if !karmor::is_called(name) {
        return Ok(words);
    }
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let rest: Vec<_> = rest.iter().map(text).collect();
    let service = std::env::var(karmor::SERVICE).ok();
    let service = service.as_deref().filter(|service| !service.is_empty());
    let ours = karmor::translated(&rest, service)?;
    let ours = ours.into_iter().map(OsString::from);
    Ok([name.clone()].into_iter().chain(ours).collect())
}
