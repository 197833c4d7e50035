// SPDX-License-Identifier: Apache-2.0
//! `gorget probe`: what this machine can have of Gorget, before anything is installed.
//!
//! [`gather`] looks at the machine, [`judge`] says what that means, [`text`] how it is shown: only the
//! first does I/O, so the others are tested with machines that are written down.
//!
//! Exit status: 0 when everything can be enforced, 1 when something is lost or could not be found out,
//! 2 when the agent cannot run.

mod checks;
mod facts;
mod gather;
mod judge;
mod runtimes;
#[cfg(test)]
mod tests;
mod text;

use crate::render::{self, Color, Painter};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use facts::Facts;
use judge::{Report, Verdict};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// Something is lost.
const EXIT_DEGRADED: u8 = 1;
/// The agent cannot run.
pub(crate) const EXIT_IMPOSSIBLE: u8 = 2;

#[derive(Args)]
pub(crate) struct Arguments {
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

/// The judgement and what it is based on.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    facts: &'a Facts,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let facts = gather::gather(Path::new("/"));
    let report = judge::judge(&facts);
    let shown = match arguments.output {
        Output::Text => text::screen(&facts, &report, Painter::stdout(arguments.color)),
        Output::Json => json(&facts, &report)?,
    };
    render::print(&shown).context("cannot write the result")?;
    Ok(match report.verdict {
        Verdict::Full => ExitCode::SUCCESS,
        Verdict::Degraded => ExitCode::from(EXIT_DEGRADED),
        Verdict::Impossible => ExitCode::from(EXIT_IMPOSSIBLE),
    })
}

fn json(facts: &Facts, report: &Report) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(&Whole { report, facts })? + "\n")
}
