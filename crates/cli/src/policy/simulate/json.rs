// SPDX-License-Identifier: Apache-2.0
//! The report of a simulation in JSON.
//!
//! Field by field what the text shows, and also the rules that decided nothing. Samples of lines that
//! were not used are left out: they can be anything.

use crate::policy::words::{self, JsonPlace};
use gorget_engine::{Replayed, RuleUse, Tally, Use};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JsonReport<'a> {
    total: JsonTally,
    workloads: usize,
    rules: Vec<JsonRule<'a>>,
    default_posture: Vec<JsonPosture>,
    no_rule: JsonTally,
    unused: Vec<JsonUnused<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonTally {
    allowed: u64,
    audited: u64,
    denied: u64,
    newly_denied: u64,
    newly_allowed: u64,
    unsure: u64,
}

#[derive(Serialize)]
struct JsonRule<'a> {
    #[serde(flatten)]
    place: JsonPlace<'a>,
    policy: &'a str,
    action: String,
    #[serde(flatten)]
    used: JsonUse,
}

#[derive(Serialize)]
struct JsonPosture {
    category: String,
    #[serde(flatten)]
    used: JsonUse,
}

#[derive(Serialize)]
struct JsonUse {
    #[serde(flatten)]
    tally: JsonTally,
    samples: Vec<JsonSample>,
}

#[derive(Serialize)]
struct JsonSample {
    line: u64,
    operation: String,
    source: String,
    workload: String,
    happened: Option<&'static str>,
    would: &'static str,
}

#[derive(Serialize)]
struct JsonUnused<'a> {
    reason: &'a str,
    lines: u64,
    first: u64,
}

pub(super) fn report(report: &Replayed) -> JsonReport<'_> {
    let rules = report.by_rule.iter();
    let postures = report.by_posture.iter();
    let unused = report.unreadable.iter();
    JsonReport {
        total: JsonTally::of(&report.total),
        workloads: report.workloads,
        rules: rules
            .map(|RuleUse { rule, used }| JsonRule {
                place: JsonPlace::of(&rule.at),
                policy: &rule.policy,
                action: format!("{:?}", rule.action),
                used: JsonUse::of(used),
            })
            .collect(),
        default_posture: postures
            .map(|(category, used)| JsonPosture {
                category: category.to_string(),
                used: JsonUse::of(used),
            })
            .collect(),
        no_rule: JsonTally::of(&report.no_rule),
        unused: unused
            .map(|(reason, unread)| JsonUnused {
                reason,
                lines: unread.count,
                first: unread.sample.0,
            })
            .collect(),
    }
}

impl JsonTally {
    fn of(tally: &Tally) -> Self {
        let Tally {
            allowed,
            audited,
            denied,
            newly_denied,
            newly_allowed,
            unsure,
        } = *tally;
        Self {
            allowed,
            audited,
            denied,
            newly_denied,
            newly_allowed,
            unsure,
        }
    }
}

impl JsonUse {
    fn of(used: &Use) -> Self {
        let samples = used.samples.iter();
        Self {
            tally: JsonTally::of(&used.tally),
            samples: samples
                .map(|sample| JsonSample {
                    line: sample.line,
                    operation: sample.operation.clone(),
                    source: sample.subject.clone(),
                    workload: sample.workload.clone(),
                    happened: sample.happened.map(words::outcome),
                    would: words::outcome(sample.would),
                })
                .collect(),
        }
    }
}
