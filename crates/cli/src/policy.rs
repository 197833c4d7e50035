// SPDX-License-Identifier: Apache-2.0
//! `gorget policy`: everything about policies. Only `apply`, `delete`, `list` and `get` ask an agent.
//!
//! One module a command; they share reading files (`input`), what can be asked on a command line
//! (`asked`) and how answers are worded (`words`). The answers themselves come from
//! `gorget-engine`, which is also what the kernel is tested against.
//!
//! Exit status, the same for all: 0 nothing to complain about, 1 there is (errors, a difference, a
//! failed expectation), 2 there is no answer: wrong usage, a file that cannot be read, policies with
//! errors where valid ones are needed. A pipeline must be able to tell "it differs" from "I do not
//! know", so every error that gets out of a command here is a 2.

mod applied;
mod asked;
mod check;
mod diff;
mod explain;
mod get;
mod input;
mod schema;
mod shadowed;
mod simulate;
mod test;
mod words;

use crate::render::{Color, Painter};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::process::ExitCode;

/// There is something to complain about.
const EXIT_FOUND: u8 = 1;
/// There is no answer.
pub(crate) const EXIT_NO_ANSWER: u8 = 2;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check policy files without an agent
    ///
    /// Exit status: 0 without errors, 1 when a policy has an error, 2 when a file cannot be read.
    Check(check::Arguments),
    /// Say what happens to one operation and which line of which policy decides
    ///
    /// Exit status: 0 with an answer, 2 without: wrong usage, unreadable or invalid policies.
    Explain(Box<explain::Arguments>),
    /// Say whether a change of policies changes what is denied, and show an example of each change
    ///
    /// Decided for every operation that there can be, not by trying some.
    ///
    /// Exit status: 0 without a difference, 1 with one, 2 without an answer.
    Diff(diff::Arguments),
    /// Find rules that never decide anything, and what hides each
    ///
    /// Exit status: 0 when there is none, 1 when there is one, 2 without an answer.
    Shadowed(shadowed::Arguments),
    /// Replay recorded events: what would have been denied, audited and allowed, and by which rule
    ///
    /// Exit status: 0 when nothing would be denied or allowed that was not, 1 otherwise, 2 without an
    /// answer.
    Simulate(simulate::Arguments),
    /// Run test files: operations and what must come of them
    ///
    /// Exit status: 0 when all is as expected, 1 when not, 2 when a test file cannot be used.
    Test(test::Arguments),
    /// Print the policy kinds as custom resource definitions
    Schema(schema::Arguments),
    /// Have the agent put policies in force and keep them
    ///
    /// Of each file all policies are applied, or none. When the command ends they are in force.
    ///
    /// Exit status: 0 when everything is applied, 1 when a policy has an error, 2 without an agent.
    Apply(applied::Files),
    /// Have the agent end policies that were applied
    ///
    /// Exit status: 0 when all are deleted, 1 when one was not applied, 2 without an agent.
    Delete(applied::Files),
    /// List the policies that the agent has in force, and where each comes from
    ///
    /// Exit status: 0, 2 without an agent.
    List(applied::ListArguments),
    /// Print a policy that the agent has in force as it was given, and what has become of it
    ///
    /// Exit status: 0, 1 when there is none of that name, 2 without an agent.
    Get(get::Arguments),
}

/// `gorget vm policy`: COMPAT with `karmor vm policy`.
#[derive(Subcommand)]
pub(crate) enum Vm {
    /// The same as `gorget policy apply` and `gorget policy delete`
    #[command(subcommand)]
    Policy(VmPolicy),
}

#[derive(Subcommand)]
pub(crate) enum VmPolicy {
    /// The same as `gorget policy apply`
    Add(applied::Files),
    /// The same as `gorget policy delete`
    Delete(applied::Files),
}

pub(crate) fn run_vm(Vm::Policy(command): &Vm) -> anyhow::Result<ExitCode> {
    match command {
        VmPolicy::Add(arguments) => applied::apply(arguments),
        VmPolicy::Delete(arguments) => applied::delete(arguments),
    }
}

/// How the answer is wanted.
#[derive(Args)]
pub(crate) struct Form {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// JSON
    Json,
}

impl Form {
    /// Prints an answer in the form that is wanted.
    pub(crate) fn print<J: Serialize>(
        &self,
        text: impl FnOnce(Painter) -> String,
        json: impl FnOnce() -> J,
    ) -> anyhow::Result<()> {
        use anyhow::Context;
        let answer = match self.output {
            Output::Text => text(Painter::stdout(self.color)),
            Output::Json => serde_json::to_string_pretty(&json())? + "\n",
        };
        crate::render::print(&answer).context("cannot write the result")
    }
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(arguments) => check::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Shadowed(arguments) => shadowed::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Apply(arguments) => applied::apply(arguments),
        Command::Delete(arguments) => applied::delete(arguments),
        Command::List(arguments) => applied::list(arguments),
        Command::Get(arguments) => get::run(arguments),
    }
}

/// `1 rule`, `2 rules`.
fn count(number: impl Into<u64>, one: &str, more: &str) -> String {
    match number.into() {
        1 => format!("1 {one}"),
        number => format!("{number} {more}"),
    }
}

/// A length as it is counted.
fn counted(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
