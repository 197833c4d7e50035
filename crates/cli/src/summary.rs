// SPDX-License-Identifier: Apache-2.0
//! `gorget summary`: what workloads did, counted, as text or JSON.
//!
//! Asks agents for the logs and alerts that they keep, which ends by itself; with `--for`, also for what
//! happens then, until the time is over or somebody interrupts it. What was lost is said.

use crate::activity::{Activity, Deed, Kind, Tally, Told};
use crate::agents::{Agents, unreachable};
use crate::cluster::tunnels::{Reached, Whom};
use crate::logs::{self, Fields, Heard, Sorts};
use crate::render::{self, Color, Painter, Style, harmless};
use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use gorget_telemetry::{Client, Received};
use serde::Serialize;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tonic::Status;

/// Characters of a source or resource that are shown as text.
const MOST_SHOWN: usize = 200;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agents: Agents,
    #[command(flatten)]
    fields: Fields,
    /// What happened since then, as far as the agent keeps it: 30s, 5m, 2h, 1d, or a UNIX time
    #[arg(long, value_name = "TIME", default_value = "1h")]
    since: String,
    /// Also what happens from now on, for so long: 30s, 5m, 2h, 1d
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    follow: Option<Duration>,
    /// With `--for`: end after N events
    #[arg(long, value_name = "N", requires = "follow")]
    limit: Option<u64>,
    /// Rows of each kind of operation and workload; the others are counted together
    #[arg(long, value_name = "N", default_value_t = 10)]
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
    /// JSON, with every row
    Json,
}

pub(crate) const BOTH: Sorts = Sorts {
    alerts: true,
    logs: true,
    messages: false,
};

/// A time span: `30s`, `5m`, `2h`, `1d`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let parsed = units.into_iter().find_map(|(unit, seconds)| {
        let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(u64::from(count) * seconds))
    });
    let wrong = || format!("`{text}` is no time span such as `30s`, `5m`, `2h`, `1d`");
    parsed.filter(|span| !span.is_zero()).ok_or_else(wrong)
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let mut activity = Activity::default();
    runtime.block_on(async {
        match arguments.follow {
            None => kept(arguments, &mut activity).await,
            Some(span) => followed(arguments, span, &mut activity).await,
        }
    })?;
    let shown = match arguments.output {
        Output::Text => text(&activity, arguments.rows, Painter::stdout(arguments.color)),
        Output::Json => serde_json::to_string_pretty(&whole(&activity))? + "\n",
    };
    render::print(&shown).context("cannot write the result")?;
    Ok(ExitCode::SUCCESS)
}

/// Counts what agents keep.
async fn kept(arguments: &Arguments, activity: &mut Activity) -> anyhow::Result<()> {
    // Before anybody is asked.
    let filter = logs::checked(&arguments.fields, Some(&arguments.since))?;
    let filter = format!("{filter},since={},kept", arguments.since);
    for Reached { address, tls, .. } in arguments.agents.reach(Whom::Agents)? {
        let connected = Client::connect_to(&address, tls.as_deref()).await;
        let mut client = connected.map_err(|error| anyhow!(unreachable(&address, &error)))?;
        let refused = |status: Status| anyhow!("the agent refused: {}", status.message());
        let mut alerts = client.alerts_of(&filter).await.map_err(refused)?;
        while let Some(alert) = alerts.message().await.map_err(refused)? {
            activity.add(&Received::Alert(Box::new(alert)));
        }
        let mut logs = client.logs_of(&filter).await.map_err(refused)?;
        while let Some(log) = logs.message().await.map_err(refused)? {
            activity.add(&Received::Log(Box::new(log)));
        }
    }
    Ok(())
}

/// Counts what agents keep and what happens, until the time is over.
async fn followed(
    arguments: &Arguments,
    span: Duration,
    activity: &mut Activity,
) -> anyhow::Result<()> {
    let since = Some(arguments.since.as_str());
    let following = logs::following(&arguments.agents, &arguments.fields, BOTH, since)?;
    let (mut agents, mut heard) = logs::start(following);
    let over = tokio::time::sleep(span);
    let counted = tokio::select! {
        counted = count(&mut heard, arguments.limit, activity) => counted,
        () = over => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for an interrupt"),
    };
    agents.shutdown().await;
    counted
}

/// Until there were so many events, or no agent can be followed any more.
async fn count(
    heard: &mut Receiver<Heard>,
    limit: Option<u64>,
    activity: &mut Activity,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    let mut events = 0;
    while limit.is_none_or(|limit| events < limit) {
        let Some(heard) = heard.recv().await else {
            bail!(failures.join("\n"));
        };
        match heard {
            Heard::Event(event) => {
                activity.add(&event);
                events += 1;
            }
            Heard::Connected(said) | Heard::Said(said) => writeln!(io::stderr(), "gorget: {said}")?,
            Heard::Failed(why) => failures.push(why),
        }
    }
    Ok(())
}

/// Everything, as JSON.
#[derive(Serialize)]
struct Whole<'a> {
    workloads: Vec<OfWorkload<'a>>,
    /// Operations that are counted under `(others)`.
    merged: u64,
    lost: u64,
    throttled: u64,
}

#[derive(Serialize)]
struct OfWorkload<'a> {
    workload: &'a str,
    #[serde(flatten)]
    all: Tally,
    operations: Vec<OfDeed<'a>>,
    policies: Vec<OfPolicy<'a>>,
}

#[derive(Serialize)]
struct OfDeed<'a> {
    #[serde(flatten)]
    deed: &'a Deed,
    #[serde(flatten)]
    tally: Tally,
}

#[derive(Serialize)]
struct OfPolicy<'a> {
    #[serde(flatten)]
    told: &'a Told,
    #[serde(flatten)]
    tally: Tally,
}

fn whole(activity: &Activity) -> Whole<'_> {
    let workloads = activity.workloads.iter().map(|(workload, did)| OfWorkload {
        workload,
        all: did.all(),
        operations: most_first(&did.deeds)
            .into_iter()
            .map(|(deed, tally)| OfDeed { deed, tally })
            .collect(),
        policies: most_first(&did.policies)
            .into_iter()
            .map(|(told, tally)| OfPolicy { told, tally })
            .collect(),
    });
    Whole {
        workloads: workloads.collect(),
        merged: activity.merged,
        lost: activity.lost,
        throttled: activity.throttled,
    }
}

/// Rows by number, and as they are where that is the same.
fn most_first<K: Ord>(rows: &std::collections::BTreeMap<K, Tally>) -> Vec<(&K, Tally)> {
    let mut rows: Vec<_> = rows.iter().map(|(key, tally)| (key, *tally)).collect();
    rows.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.count));
    rows
}

fn text(activity: &Activity, rows: usize, painter: Painter) -> String {
    let mut text = String::new();
    if activity.workloads.is_empty() {
        text.push_str("nothing was reported\n");
    }
    for (name, did) in &activity.workloads {
        let name = painter.paint(Style::Strong, &harmless(name, MOST_SHOWN));
        text.push_str(&format!("{name}: {}\n", said(did.all())));
        for kind in Kind::ALL {
            let all = did.of_kind(kind);
            if all.count == 0 {
                continue;
            }
            text.push_str(&format!("  {}: {}\n", kind.name(), said(all)));
            let these = most_first(&did.deeds).into_iter();
            let mut these: Vec<_> = these.filter(|(deed, _)| deed.kind == kind).collect();
            let others = these.split_off(rows.min(these.len()));
            for (deed, tally) in these {
                text.push_str(&row(tally, &between(deed), painter));
            }
            if !others.is_empty() {
                let count = others.iter().map(|(_, tally)| tally.count).sum::<u64>();
                let said = format!("in {} other rows", others.len());
                text.push_str(&format!("{count:>10}  {said}\n"));
            }
        }
        if !did.policies.is_empty() {
            text.push_str("  alerts by policy\n");
        }
        for (told, tally) in most_first(&did.policies) {
            let Told { policy, action } = told;
            text.push_str(&row(tally, &format!("{policy} ({action})"), painter));
        }
        text.push('\n');
    }
    text.push_str(&remarks(activity));
    text
}

fn between(deed: &Deed) -> String {
    let shown = |text: &str| match text {
        "" => "?".to_owned(),
        text => text.to_owned(),
    };
    format!("{} → {}", shown(&deed.source), shown(&deed.resource))
}

fn row(tally: Tally, what: &str, painter: Painter) -> String {
    let style = match (tally.denied, tally.alerts) {
        (0, 0) => None,
        (0, _) => Some(Style::Caution),
        (_, _) => Some(Style::Alarm),
    };
    let mut marks = String::new();
    for (number, word) in [
        (tally.denied, "denied"),
        (tally.alerts - tally.denied.min(tally.alerts), "audited"),
        (tally.failed - tally.denied.min(tally.failed), "failed"),
    ] {
        if number > 0 {
            marks.push_str(&format!("  {number} {word}"));
        }
    }
    if let Some(style) = style {
        marks = painter.paint(style, &marks);
    }
    let what = harmless(what, MOST_SHOWN);
    format!("{:>10}  {what}{marks}\n", tally.count)
}

fn said(tally: Tally) -> String {
    let Tally {
        count,
        failed: _,
        alerts,
        denied,
    } = tally;
    let plural = |number: u64, word: &str| match number {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    };
    let mut said = plural(count, "operation");
    if alerts > 0 {
        said.push_str(&format!(", {}, {denied} denied", plural(alerts, "alert")));
    }
    said
}

/// What the numbers lack.
pub(crate) fn remarks(activity: &Activity) -> String {
    let remarks = [
        (
            activity.lost,
            "events did not get here, because this was too slow",
        ),
        (
            activity.throttled,
            "alerts were only counted by the agent, because there were too many",
        ),
        (
            activity.merged,
            "operations are counted under `(others)`, because there were too many different ones",
        ),
    ];
    let remarks = remarks.iter().filter(|(number, _)| *number > 0);
    remarks
        .map(|(number, why)| format!("{number} {why}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::tests::{alert, log};
    use expect_test::expect;

    fn activity() -> Activity {
        let mut activity = Activity::default();
        for (count, resource) in [(3, "/etc/motd"), (1, "/etc/\u{1b}[2J"), (2, "/etc/hosts")] {
            for _ in 0..count {
                activity.add(&log("web", "File", "/bin/cat", resource));
            }
        }
        activity.add(&log("web", "Process", "/bin/sh", "/bin/cat /etc/motd"));
        activity.add(&alert("db", "no-secrets", "/bin/cat", "/run/token"));
        activity.lost = 4;
        activity
    }

    #[test]
    fn the_text_has_most_first_and_says_what_it_lacks() {
        expect![[r"
            shop/db: 1 operation, 1 alert, 1 denied
              file: 1 operation, 1 alert, 1 denied
                     1  /bin/cat → /run/token  1 denied
              alerts by policy
                     1  no-secrets (Block)  1 denied

            shop/web: 7 operations
              process: 1 operation
                     1  /bin/sh → /bin/cat /etc/motd
              file: 6 operations
                     3  /bin/cat → /etc/motd
                     2  /bin/cat → /etc/hosts
                     1  in 1 other rows

            4 events did not get here, because this was too slow
        "]]
        .assert_eq(&text(&activity(), 2, Painter::stdout(Color::Never)));
        assert_eq!(
            text(&Activity::default(), 2, Painter::stdout(Color::Never)),
            "nothing was reported\n"
        );
    }

    #[test]
    fn text_of_others_is_harmless() {
        let text = text(&activity(), 10, Painter::stdout(Color::Never));
        assert!(text.contains("/etc/\\u{1b}[2J"), "{text}");
    }

    #[test]
    fn json_has_every_row() {
        let json = serde_json::to_value(whole(&activity())).unwrap();
        assert_eq!(json["workloads"][1]["workload"], "shop/web");
        assert_eq!(json["workloads"][1]["count"], 7);
        let operations = json["workloads"][1]["operations"].as_array().unwrap();
        assert_eq!(operations.len(), 4);
        assert_eq!(operations[0]["kind"], "file");
        assert_eq!(operations[0]["count"], 3);
        assert_eq!(json["workloads"][0]["policies"][0]["policy"], "no-secrets");
        assert_eq!(json["lost"], 4);
    }

    #[test]
    fn a_time_span_is_a_number_and_a_unit() {
        assert_eq!(span("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["", "5", "m", "0s", "-1s", "99999999999d", "1w"] {
            assert!(span(wrong).unwrap_err().contains("30s"), "{wrong}");
        }
    }
}
