// SPDX-License-Identifier: Apache-2.0
//! `gorget policy simulate`: what policies would have made of events that were recorded.
//!
//! Events are JSON lines of Gorget (`gorget logs --json`) or KubeArmor. They are read one at a time,
//! whatever their number; a line that is too long or cannot be used is counted with its reason. An
//! event that says less than a decision needs is decided by what is likely, and counted as unsure
//! when something else would have been possible and decided otherwise.
//!
//! Exit status: nothing would change, something would. When not one line could be used there is no
//! answer.

mod json;

use super::asked;
use super::input::load;
use super::words;
use super::{EXIT_FOUND, Form, count};
use crate::render::{Painter, Style, harmless};
use anyhow::{Context, bail};
use clap::Args;
use gorget_engine::{RecordedAccess, Replay, Replayed, RuleUse, Sample, Tally, Unread, Use};
use gorget_model::Postures;
use gorget_telemetry::recorded;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a line that are read. An event with the longest path and arguments has some 100 KiB.
const MOST_LINE: u64 = 1 << 20;
/// Characters of a sample that are shown.
const MOST: usize = 200;
/// Idle rules that are named.
const MOST_IDLE: usize = 20;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Policy files, or directories of such
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    /// JSON lines of `gorget logs --json` or of KubeArmor; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    events: PathBuf,
    /// Default posture: `allow`, `audit`, `block`, or `file=block,network=audit`
    #[arg(short, long, value_parser = asked::postures, default_value = "audit")]
    posture: Postures,
    /// A domain that resolvers append, such as `shop.svc.cluster.local`; may be given several times
    #[arg(long, value_name = "DOMAIN")]
    search_domain: Vec<String>,
    #[command(flatten)]
    form: Form,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let loaded = load(&arguments.paths)?;
    let mut replay = Replay::new(
        loaded.policies,
        arguments.posture,
        arguments.search_domain.clone(),
    );
    read_events(&arguments.events, &mut replay)?;
    let report = replay.finish();
    if report.total.accesses() == 0 {
        bail!("there is no event to decide{}", unused(&report));
    }
    arguments
        .form
        .print(|painter| text(&report, painter), || json::report(&report))?;
    Ok(match report.total {
        Tally {
            newly_denied: 0,
            newly_allowed: 0,
            ..
        } => ExitCode::SUCCESS,
        Tally { .. } => ExitCode::from(EXIT_FOUND),
    })
}

fn read_events(path: &Path, replay: &mut Replay) -> anyhow::Result<()> {
    let cannot = || format!("cannot read `{}`", path.display());
    let mut source: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).with_context(cannot)?))
    };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if source
            .by_ref()
            .take(MOST_LINE)
            .read_until(b'\n', &mut line)
            .with_context(cannot)?
            == 0
        {
            break;
        }
        if line.last() != Some(&b'\n') && skip_line(source.as_mut())? {
            replay.unreadable(number, &line, "is longer than 1 MiB");
            continue;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match recorded::read(text) {
            Ok(event) => replay
                .access(RecordedAccess {
                    line: number,
                    workload: &event.workload,
                    access: &event.access,
                    or: &event.or,
                    happened: event.happened,
                })
                .map(drop)
                .with_context(|| format!("cannot decide the event of line {number}"))?,
            Err(reason) => replay.unreadable(number, text, &reason.to_string()),
        }
    }
    Ok(())
}

/// To the end of a line of which a part was read; whether there was more of it.
fn skip_line(source: &mut dyn BufRead) -> io::Result<bool> {
    let mut more = false;
    loop {
        let buffer = source.fill_buf()?;
        if buffer.is_empty() {
            return Ok(more);
        }
        more = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        source.consume(length);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn text(report: &Replayed, painter: Painter) -> String {
    let Replayed {
        total,
        no_rule,
        by_posture,
        by_rule,
        unreadable: _,
        workloads,
    } = report;
    let mut text = String::new();
    let used = |rule: &&RuleUse| rule.used.tally.accesses() > 0;
    for RuleUse { rule, used } in by_rule.iter().filter(used) {
        let place = painter.paint(Style::Strong, &words::place(&rule.at));
        let title = format!("{place} ({:?}, policy `{}`)", rule.action, rule.policy);
        text.push_str(&of_use(&title, used));
    }
    for (category, used) in by_posture {
        let title = format!("the default posture, of what no {category} rule lists");
        text.push_str(&of_use(&title, used));
    }
    if no_rule.accesses() > 0 {
        text.push_str(&format!("no rule\n  {}\n", tally(no_rule)));
    }
    let idle: Vec<_> = by_rule
        .iter()
        .filter(|rule| !used(rule))
        .map(|rule| words::place(&rule.rule.at))
        .collect();
    if !idle.is_empty() {
        let shown: Vec<_> = idle.iter().take(MOST_IDLE).map(String::as_str).collect();
        let more = match idle.len().saturating_sub(MOST_IDLE) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        text.push_str(&format!("decided nothing: {}{more}\n", shown.join(", ")));
    }
    let unused = unused(report);
    if !unused.is_empty() {
        text.push_str(&format!("not used{unused}\n"));
    }
    let style = match (total.newly_denied, total.newly_allowed) {
        (0, 0) => Style::Good,
        (0, _) => Style::Caution,
        (_, _) => Style::Alarm,
    };
    let of = count(
        u64::try_from(*workloads).unwrap_or(u64::MAX),
        "workload",
        "workloads",
    );
    let events = count(total.accesses(), "event", "events");
    let totals = format!("{events} of {of}: {}", tally(total));
    text.push_str(&painter.paint(style, &totals));
    text.push('\n');
    text
}

fn of_use(title: &str, used: &Use) -> String {
    let mut text = format!("{title}\n  {}\n", tally(&used.tally));
    for sample in &used.samples {
        let Sample {
            line,
            operation,
            subject,
            workload,
            happened,
            would,
        } = sample;
        let shown = |text: &str| harmless(text, MOST);
        let was = happened.map_or("failed", words::outcome);
        let change = match words::outcome(*would) {
            would if would == was => was.to_owned(),
            would => format!("{was} -> {would}"),
        };
        text.push_str(&format!(
            "    line {line}: {} by {} in {}: {change}\n",
            shown(operation),
            shown(subject),
            shown(workload),
        ));
    }
    text
}

/// What came of it, without what is zero.
fn tally(tally: &Tally) -> String {
    let Tally {
        allowed,
        audited,
        denied,
        newly_denied,
        newly_allowed,
        unsure,
    } = *tally;
    let parts = [
        (allowed, "pass"),
        (audited, "pass with an alert"),
        (denied, "denied"),
        (newly_denied, "newly denied"),
        (newly_allowed, "newly allowed"),
        (unsure, "unsure"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<_> = parts
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    parts.join(", ")
}

/// Why lines were not used, to come after a word; empty when all were.
fn unused(report: &Replayed) -> String {
    let mut text = String::new();
    for (
        reason,
        Unread {
            count: lines,
            sample,
        },
    ) in &report.unreadable
    {
        let (line, beginning) = sample;
        let lines = count(*lines, "line", "lines");
        text.push_str(&format!(
            "\n  {lines}: {reason} (line {line}: {})",
            harmless(beginning, MOST)
        ));
    }
    text
}
