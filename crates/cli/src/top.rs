// SPDX-License-Identifier: Apache-2.0
//! `gorget top`: what the hooks cost, how full tables are, and which workloads are busiest.
//!
//! The agent is asked again and again, and the kernel measures only for as long as it is. Two answers are
//! compared; [`compared`] and [`text`] are pure. On a terminal the screen is replaced each time until
//! somebody interrupts it, otherwise there is one comparison. What is not measured is said.

use crate::agents::{Agents, unreachable};
use crate::cluster::tunnels::Reached;
use crate::render::{self, Color, Painter, Style, harmless};
use crate::summary::span;
use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use gorget_telemetry::Client;
use gorget_telemetry::proto::v1::{Costs, MapFill, ProgramCost, WorkloadEvents};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;
use tonic::{Code, Status};

/// Characters of a name that are shown.
const NAME: usize = 40;
const LONGEST: Duration = Duration::from_secs(30);
const NANOS: f64 = 1e9;
/// Clears the screen, as every terminal understands it.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agents: Agents,
    /// How long to measure each time: at most 30s
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// End after N measurements [default: 1, and on a terminal none]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Programs and workloads that are shown
    #[arg(long, value_name = "N", default_value_t = 12)]
    rows: usize,
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
    /// One JSON object a line for each measurement
    Json,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = span(text)?;
    match interval <= LONGEST {
        true => Ok(interval),
        false => Err("the longest is 30s".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        tokio::select! {
            shown = show(arguments) => shown,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for an interrupt"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn show(arguments: &Arguments) -> anyhow::Result<()> {
    let Reached { address, tls, .. } = arguments.agents.reach_one()?;
    let connected = Client::connect_to(&address, tls.as_deref()).await;
    let mut client = connected.map_err(|error| anyhow!(unreachable(&address, &error)))?;
    let is_screen = arguments.output == Output::Text && io::stdout().is_terminal();
    let count = arguments.count.or_else(|| (!is_screen).then_some(1));
    let painter = Painter::stdout(arguments.color);
    // As long again for the agent to answer.
    let seconds = arguments.interval.as_secs().saturating_mul(2);
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    let mut before = client.costs(seconds).await.map_err(|it| refused(&it))?;
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        tokio::time::sleep(arguments.interval).await;
        let now = client.costs(seconds).await.map_err(|it| refused(&it))?;
        let measurement = compared(&before, &now);
        let text = match arguments.output {
            Output::Text => text(&measurement, arguments.rows, painter),
            Output::Json => serde_json::to_string(&measurement)? + "\n",
        };
        let text = if is_screen {
            format!("{CLEAR}{text}")
        } else {
            text
        };
        render::print(&text).context("cannot write the result")?;
        before = now;
        shown += 1;
    }
    Ok(())
}

fn refused(status: &Status) -> anyhow::Error {
    match status.code() {
        Code::Unimplemented => anyhow!(
            "the agent is of a version that does not say what it costs; `gorget probe` shows what it does"
        ),
        _ => anyhow!("the agent refused: {}", status.message()),
    }
}

/// What happened between two answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measurement {
    seconds: f64,
    processors: u32,
    /// Why programs are not measured; empty when they are.
    not_measured: String,
    /// The costliest first.
    programs: Vec<Program>,
    tables: Vec<Table>,
    /// The busiest first.
    workloads: Vec<Workload>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Program {
    name: String,
    runs_per_second: f64,
    /// Nothing when it did not run.
    nanos_per_run: Option<f64>,
    /// Of one processor.
    cpu_percent: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Table {
    name: String,
    entries: u64,
    capacity: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Workload {
    name: String,
    events_per_second: f64,
    /// Since the agent started.
    alerts: u64,
    logs: u64,
}

fn compared(before: &Costs, now: &Costs) -> Measurement {
    let nanos = now.at_nanos.saturating_sub(before.at_nanos).max(1);
    let seconds = float(nanos) / NANOS;
    let known: HashMap<u32, &ProgramCost> = before.programs.iter().map(|it| (it.id, it)).collect();
    let program = |after: &ProgramCost| {
        // One that was attached meanwhile began with nothing.
        let (runs, time) = known
            .get(&after.id)
            .map_or((0, 0), |it| (it.runs, it.nanos));
        let runs = after.runs.saturating_sub(runs);
        let time = after.nanos.saturating_sub(time);
        Program {
            name: after.name.clone(),
            runs_per_second: float(runs) / seconds,
            nanos_per_run: (runs > 0).then(|| float(time) / float(runs)),
            cpu_percent: float(time) * 100.0 / float(nanos),
        }
    };
    let mut programs: Vec<_> = now.programs.iter().map(program).collect();
    programs.sort_by(|a, b| {
        let costs = b.cpu_percent.total_cmp(&a.cpu_percent);
        costs.then_with(|| a.name.cmp(&b.name))
    });
    let events = |it: &WorkloadEvents| it.alerts.saturating_add(it.logs);
    let known: HashMap<String, u64> = before
        .workloads
        .iter()
        .map(|it| (called(it), events(it)))
        .collect();
    let workload = |after: &WorkloadEvents| {
        let name = called(after);
        let new = events(after).saturating_sub(known.get(&name).copied().unwrap_or(0));
        let rate = Workload {
            events_per_second: float(new) / seconds,
            name,
            alerts: after.alerts,
            logs: after.logs,
        };
        (new, rate)
    };
    let mut workloads: Vec<_> = now.workloads.iter().map(workload).collect();
    workloads.sort_by_key(|(new, it)| Reverse((*new, it.alerts.saturating_add(it.logs))));
    let not_measured = [&before.not_measured, &now.not_measured];
    let not_measured = not_measured.into_iter().find(|why| !why.is_empty());
    Measurement {
        seconds,
        processors: now.processors,
        not_measured: not_measured.cloned().unwrap_or_default(),
        programs,
        tables: now.maps.iter().map(table).collect(),
        workloads: workloads.into_iter().map(|(_, it)| it).collect(),
    }
}

fn table(map: &MapFill) -> Table {
    let MapFill {
        name,
        entries,
        capacity,
    } = map.clone();
    Table {
        name,
        entries,
        capacity,
    }
}

fn called(workload: &WorkloadEvents) -> String {
    let WorkloadEvents {
        namespace,
        pod,
        name,
        alerts: _,
        logs: _,
    } = workload;
    let parts = [namespace.as_str(), pod, name].into_iter();
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

fn float(number: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "what is divided is shown with four digits"
    )]
    let float = number as f64;
    float
}

fn text(measurement: &Measurement, rows: usize, painter: Painter) -> String {
    let Measurement {
        seconds,
        processors,
        not_measured,
        programs,
        tables,
        workloads,
    } = measurement;
    let heading = |text: &str| painter.paint(Style::Strong, text) + "\n";
    let percent: f64 = programs.iter().map(|it| it.cpu_percent).sum();
    let runs: f64 = programs.iter().map(|it| it.runs_per_second).sum();
    let mut text = match (programs.is_empty(), not_measured.as_str()) {
        (true, "") => "no program is attached\n".to_owned(),
        (true, _) => String::new(),
        (false, _) => format!(
            "hooks: {percent:.2} % of one of {processors} processors, {runs:.0} runs/s, in {seconds:.1} s\n"
        ),
    };
    if !not_measured.is_empty() {
        text.push_str(&painter.paint(Style::Caution, &harmless(not_measured, 200)));
        text.push('\n');
    }
    if !programs.is_empty() {
        text.push('\n');
        text.push_str(&heading(&format!(
            "{:NAME$} {:>10} {:>8} {:>8}",
            "HOOK", "RUNS/S", "NS/RUN", "% CPU"
        )));
    }
    for program in programs.iter().take(rows) {
        let nanos = program
            .nanos_per_run
            .map_or_else(|| "-".to_owned(), |it| format!("{it:.0}"));
        text.push_str(&format!(
            "{} {:>10.0} {nanos:>8} {:>8.3}\n",
            cell(&program.name),
            program.runs_per_second,
            program.cpu_percent
        ));
    }
    if programs.len() > rows {
        text.push_str(&format!("{} more hooks\n", programs.len() - rows));
    }
    text.push('\n');
    text.push_str(&heading(&format!(
        "{:NAME$} {:>10} {:>8}",
        "TABLE", "ENTRIES", "MOST"
    )));
    for table in tables {
        let (name, entries, most) = (cell(&table.name), table.entries, table.capacity);
        text.push_str(&format!("{name} {entries:>10} {most:>8}\n"));
    }
    text.push('\n');
    text.push_str(&heading(&format!(
        "{:NAME$} {:>10} {:>8} {:>8}",
        "WORKLOAD", "EVENTS/S", "ALERTS", "LOGS"
    )));
    if workloads.is_empty() {
        text.push_str("nothing was reported of any workload yet\n");
    }
    for workload in workloads.iter().take(rows) {
        let (alerts, logs) = (workload.alerts, workload.logs);
        text.push_str(&format!(
            "{} {:>10.1} {alerts:>8} {logs:>8}\n",
            cell(&workload.name),
            workload.events_per_second
        ));
    }
    if workloads.len() > rows {
        text.push_str(&format!("{} more workloads\n", workloads.len() - rows));
    }
    text
}

fn cell(name: &str) -> String {
    let name = harmless(name, NAME - 1);
    format!("{name:NAME$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn program(id: u32, name: &str, runs: u64, nanos: u64) -> ProgramCost {
        ProgramCost {
            id,
            name: name.to_owned(),
            runs,
            nanos,
        }
    }

    fn workload(name: &str, alerts: u64, logs: u64) -> WorkloadEvents {
        WorkloadEvents {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            alerts,
            logs,
            ..WorkloadEvents::default()
        }
    }

    fn costs(at_nanos: u64, programs: Vec<ProgramCost>) -> Costs {
        Costs {
            at_nanos,
            processors: 4,
            programs,
            maps: vec![MapFill {
                name: "workloads".to_owned(),
                entries: 3,
                capacity: 1024,
            }],
            ..Costs::default()
        }
    }

    fn two() -> (Costs, Costs) {
        let old = vec![
            program(1, "file_open", 1_000, 500_000),
            program(2, "socket_bind", 7, 9),
        ];
        let new = vec![
            program(1, "file_open", 3_000, 1_500_000),
            program(2, "socket_bind", 7, 9),
            program(9, "call_enter", 2, 600),
        ];
        let before = Costs {
            workloads: vec![workload("db", 5, 0)],
            ..costs(10_000_000_000, old)
        };
        let now = Costs {
            workloads: vec![workload("db", 5, 1), workload("web\u{1b}", 30, 10)],
            ..costs(12_000_000_000, new)
        };
        (before, now)
    }

    #[test]
    fn what_happened_between_two_answers_is_shown_with_the_costliest_first() {
        let (before, now) = two();
        expect![[r"
            hooks: 0.05 % of one of 4 processors, 1001 runs/s, in 2.0 s

            HOOK                                         RUNS/S   NS/RUN    % CPU
            file_open                                      1000      500    0.050
            call_enter                                        1      300    0.000
            1 more hooks

            TABLE                                       ENTRIES     MOST
            workloads                                         3     1024

            WORKLOAD                                   EVENTS/S   ALERTS     LOGS
            shop/web\u{1b}                                 20.0       30       10
            shop/db                                         0.5        5        1
        "]]
        .assert_eq(&text(
            &compared(&before, &now),
            2,
            Painter::stdout(Color::Never),
        ));
    }

    #[test]
    fn a_hook_that_did_not_run_has_no_cost_of_a_run() {
        let (before, now) = two();
        let measurement = compared(&before, &now);
        let idle = measurement
            .programs
            .iter()
            .find(|it| it.name == "socket_bind");
        assert_eq!(idle.unwrap().nanos_per_run, None);
    }

    #[test]
    fn what_is_not_measured_is_said() {
        let refused = |at| Costs {
            not_measured: "the kernel does not measure programs: no".to_owned(),
            ..costs(at, Vec::new())
        };
        let text = text(
            &compared(&refused(1), &refused(2)),
            5,
            Painter::stdout(Color::Never),
        );
        assert!(
            text.starts_with("the kernel does not measure programs: no\n"),
            "{text}"
        );
        assert!(!text.contains("% CPU"), "{text}");
    }

    #[test]
    fn answers_in_the_wrong_order_do_not_panic() {
        let (before, now) = two();
        let measurement = compared(&now, &before);
        assert!(
            measurement
                .programs
                .iter()
                .all(|it| it.runs_per_second == 0.0)
        );
        text(&measurement, 0, Painter::stdout(Color::Never));
    }

    #[test]
    fn an_interval_has_a_limit() {
        assert!(interval("30s").is_ok());
        assert!(interval("31s").is_err());
        assert!(interval("0s").is_err());
    }
}
