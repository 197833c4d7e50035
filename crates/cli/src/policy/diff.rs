// SPDX-License-Identifier: Apache-2.0
//! `gorget policy diff`: what a change of policies changes.
//!
//! Every difference is shown with an operation that the old and the new policies decide differently.
//! "No difference" is an answer about all operations and all workloads that the selectors could
//! mean; where that cannot be said (limits, in `gorget_engine::diff_policies`), this says so and the
//! exit status is that of no answer.

use super::asked;
use super::input::load;
use super::words::{self, JsonAccess};
use super::{EXIT_FOUND, EXIT_NO_ANSWER, Form, count, counted};
use crate::render::{Painter, Style};
use anyhow::Context;
use clap::Args;
use gorget_engine::{
    Answer, Decider, Difference, PolicyDifference, Region, Variant, WorkloadDifference,
    diff_policies,
};
use gorget_model::Postures;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Policies before the change: a file, or a directory of such
    old: PathBuf,
    /// Policies after the change
    new: PathBuf,
    /// Default posture: `allow`, `audit`, `block`, or `file=block,network=audit`
    #[arg(short, long, value_parser = asked::postures, default_value = "audit")]
    posture: Postures,
    #[command(flatten)]
    form: Form,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let [old, new] = [&arguments.old, &arguments.new].map(|path| load(std::slice::from_ref(path)));
    let found = diff_policies(&old?.policies, &new?.policies, arguments.posture)
        .context("cannot compare the policies")?;
    arguments
        .form
        .print(|painter| text(&found, painter), || json(&found))?;
    Ok(if !found.workloads.is_empty() {
        ExitCode::from(EXIT_FOUND)
    } else if found.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_NO_ANSWER)
    })
}

fn text(found: &PolicyDifference, painter: Painter) -> String {
    let PolicyDifference {
        workloads,
        not_compared,
        complete,
        renamed,
    } = found;
    let mut text = String::new();
    for workload in workloads {
        text.push_str(&of_workload(workload, painter));
    }
    for policy in not_compared {
        text.push_str(&format!(
            "not compared: `{policy}`, because no workload was found that its selector means\n"
        ));
    }
    if !complete {
        text.push_str("not compared: some of the workloads that several selectors mean together\n");
    }
    if *renamed > 0 {
        let rules = count(counted(*renamed), "rule", "rules");
        text.push_str(&format!(
            "alerts of {rules} say something else (policy, severity, tags or message); that changes \
             no outcome\n"
        ));
    }
    let [denied, allowed, alerts] = totals(found);
    if found.is_none() {
        text.push_str(&painter.paint(Style::Good, "no difference"));
    } else if workloads.is_empty() {
        text.push_str(&painter.paint(Style::Caution, "no difference in what was compared"));
    } else {
        text.push_str(&format!(
            "{denied} newly denied, {allowed} newly allowed, {alerts} with other alerts"
        ));
    }
    text.push('\n');
    text
}

/// Newly denied, newly allowed, other alerts.
fn totals(found: &PolicyDifference) -> [usize; 3] {
    let sum = |of: fn(&Difference) -> &Vec<Region>| {
        let workloads = found.workloads.iter();
        workloads
            .map(|workload| of(&workload.difference).len())
            .sum()
    };
    [
        sum(|difference| &difference.newly_denied),
        sum(|difference| &difference.newly_allowed),
        sum(|difference| &difference.alerts),
    ]
}

fn of_workload(found: &WorkloadDifference, painter: Painter) -> String {
    let WorkloadDifference {
        workload,
        old,
        new,
        difference,
    } = found;
    let mut text = format!("for {}\n", words::workload(workload));
    if old == new {
        text.push_str(&format!("  policies {}\n", names(old)));
    } else {
        text.push_str(&format!(
            "  policies before {}, now {}\n",
            names(old),
            names(new)
        ));
    }
    let Difference {
        newly_denied,
        newly_allowed,
        alerts,
        renamed: _,
    } = difference;
    for (title, style, regions) in [
        ("newly denied:", Style::Alarm, newly_denied),
        ("newly allowed:", Style::Caution, newly_allowed),
        (
            "passes as before, with other alerts:",
            Style::Strong,
            alerts,
        ),
    ] {
        if !regions.is_empty() {
            text.push_str(&format!("  {}\n", painter.paint(style, title)));
        }
        for region in regions {
            text.push_str(&format!(
                "    {}\n      before: {}\n      now:    {}\n",
                witness(region),
                answer(&region.old),
                answer(&region.new),
            ));
        }
    }
    text.push('\n');
    text
}

fn names(policies: &[String]) -> String {
    if policies.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<_> = policies.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn witness(region: &Region) -> String {
    let Region {
        witness,
        variants,
        any_subject,
        ..
    } = region;
    let mut witness = witness.clone();
    // Whose the object is, is worth a word only where it makes the difference.
    let owner = |variant: &Variant| variant.bits() & Variant::OWNER != 0;
    if variants.iter().any(owner) {
        witness.modes.owner = true;
    }
    if *any_subject {
        let (operation, manner) = (words::operation(&witness), words::manner(&witness));
        format!("{operation} by any program{manner}")
    } else {
        words::access(&witness)
    }
}

fn answer(answer: &Answer) -> String {
    let Answer { outcome, decider } = answer;
    let fate = words::fate(*outcome);
    match decider {
        Decider::NoRule => format!("{fate}, no rule applies"),
        Decider::DefaultPosture | Decider::Rule(_) => {
            format!("{fate}, by {}", words::decider(decider))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonDifference<'a> {
    /// `false` when not everything was compared and nothing was found.
    same: bool,
    complete: bool,
    not_compared: &'a [String],
    other_alert_texts: usize,
    workloads: Vec<JsonWorkload<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonWorkload<'a> {
    workload: String,
    old_policies: &'a [String],
    new_policies: &'a [String],
    newly_denied: Vec<JsonRegion>,
    newly_allowed: Vec<JsonRegion>,
    other_alerts: Vec<JsonRegion>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonRegion {
    witness: JsonAccess,
    any_source: bool,
    sources: Vec<String>,
    old: JsonAnswer,
    new: JsonAnswer,
}

#[derive(Serialize)]
struct JsonAnswer {
    outcome: &'static str,
    by: String,
}

fn json(found: &PolicyDifference) -> JsonDifference<'_> {
    let regions = |regions: &[Region]| regions.iter().map(JsonRegion::of).collect();
    let workloads = found.workloads.iter();
    JsonDifference {
        same: found.is_none(),
        complete: found.complete,
        not_compared: &found.not_compared,
        other_alert_texts: found.renamed,
        workloads: workloads
            .map(|found| JsonWorkload {
                workload: words::workload(&found.workload),
                old_policies: &found.old,
                new_policies: &found.new,
                newly_denied: regions(&found.difference.newly_denied),
                newly_allowed: regions(&found.difference.newly_allowed),
                other_alerts: regions(&found.difference.alerts),
            })
            .collect(),
    }
}

impl JsonRegion {
    fn of(region: &Region) -> Self {
        let answer = |answer: &Answer| JsonAnswer {
            outcome: words::outcome(answer.outcome),
            by: words::decider(&answer.decider),
        };
        Self {
            witness: words::json_access(&region.witness),
            any_source: region.any_subject,
            sources: region.subjects.iter().map(words::source).collect(),
            old: answer(&region.old),
            new: answer(&region.new),
        }
    }
}
