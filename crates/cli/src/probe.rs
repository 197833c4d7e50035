// SPDX-License-Identifier: Apache-2.0
//! `gorget probe`: what this machine can have of Gorget, before anything is installed; and what the
//! agent that runs does.
//!
//! [`status`] shows what an agent says, [`cluster`] what those of a cluster say. Without one, [`gather`] looks at the machine, [`judge`] says what that means, [`text`] how it is shown: only the
//! first does I/O, so the others are tested with machines that are written down.
//!
//! Exit status: 0 when everything can be enforced, or is, 1 when something is lost or could not be found
//! out, 2 when the agent cannot run.

mod checks;
mod cluster;
mod facts;
mod gather;
mod judge;
mod runtimes;
mod status;
#[cfg(test)]
mod tests;
mod text;

use crate::agents::unreachable;
use crate::cluster::InCluster;
use crate::render::{self, Color, Painter};
use anyhow::{Context as _, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use facts::Facts;
use gorget_telemetry::proto::v1::AgentStatus;
use gorget_telemetry::{Address, Client, DEFAULT_SOCKET};
use judge::{Report, Verdict};
use serde::Serialize;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tonic::{Code, Status};

/// Something is lost.
const EXIT_DEGRADED: u8 = 1;
/// The agent cannot run.
pub(crate) const EXIT_IMPOSSIBLE: u8 = 2;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Socket of the agent [default: /run/gorget/gorget.sock where one answers]
    #[arg(long, value_name = "PATH", conflicts_with = "machine")]
    socket: Option<PathBuf>,
    /// Look at the machine, also when an agent runs
    #[arg(long)]
    machine: bool,
    #[command(flatten)]
    in_cluster: InCluster,
    /// Have nothing tried in the kernel, also as root
    #[arg(long)]
    only_read: bool,
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

/// What an agent says.
#[derive(Serialize)]
struct Running<'a> {
    running: bool,
    /// Everything is as it should be.
    full: bool,
    status: &'a AgentStatus,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.in_cluster.is_meant() {
        ensure!(
            !arguments.machine && arguments.socket.is_none(),
            "either a cluster or this machine: leave out `--machine` and `--socket`"
        );
        return cluster::run(arguments);
    }
    if !arguments.machine
        && let Some(status) = agent(arguments.socket.as_deref())?
    {
        return of_agent(arguments, &status);
    }
    of_machine(arguments)
}

fn of_machine(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let facts = gather::gather(Path::new("/"), !arguments.only_read);
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

/// What this machine can have, as text and as JSON.
pub(crate) fn machine(root: &Path, trying: bool) -> anyhow::Result<(String, String)> {
    let facts = gather::gather(root, trying);
    let report = judge::judge(&facts);
    let text = text::screen(&facts, &report, Painter::stdout(Color::Never));
    Ok((text, json(&facts, &report)?))
}

fn json(facts: &Facts, report: &Report) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(&Whole { report, facts })? + "\n")
}

fn of_agent(arguments: &Arguments, status: &AgentStatus) -> anyhow::Result<ExitCode> {
    let full = status::is_full(status);
    let shown = match arguments.output {
        Output::Text => status::screen(status, Painter::stdout(arguments.color)),
        Output::Json => {
            let running = Running {
                running: true,
                full,
                status,
            };
            serde_json::to_string_pretty(&running)? + "\n"
        }
    };
    render::print(&shown).context("cannot write the result")?;
    Ok(match full {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_DEGRADED),
    })
}

/// What the agent says; nothing where none answers and none was named.
fn agent(named: Option<&Path>) -> anyhow::Result<Option<AgentStatus>> {
    let socket = named.unwrap_or_else(|| Path::new(DEFAULT_SOCKET));
    if named.is_none() && !socket.exists() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        let mut client = match Client::connect(socket).await {
            Ok(client) => client,
            Err(error) => {
                let why = unreachable(&Address::Socket(socket.to_owned()), &error);
                if named.is_some() {
                    bail!(why);
                }
                writeln!(
                    io::stderr(),
                    "gorget: {why}; looking at the machine instead"
                )?;
                return Ok(None);
            }
        };
        let status = client.status().await;
        status.map(Some).map_err(|status| refused(&status))
    })
}

fn refused(status: &Status) -> anyhow::Error {
    match status.code() {
        Code::Unimplemented => anyhow!(
            "the agent is of a version that does not say what it does; `gorget policy list` shows its \
             policies, and `gorget probe --machine` looks at the machine"
        ),
        _ => anyhow!("the agent refused: {}", status.message()),
    }
}
