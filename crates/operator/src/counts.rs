// SPDX-License-Identifier: Apache-2.0
//! What Prometheus is told. No label has a value that somebody outside chooses.

use crate::certificates::keep::Shown;
use crate::lease::hold::Leading;
use crate::status::Nodes;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// How reviews ended.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    allowed: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    failed: AtomicU64,
    unsearched: AtomicU64,
    handshakes: AtomicU64,
    statuses: AtomicU64,
    statuses_failed: AtomicU64,
    nodes: AtomicU64,
    nodes_failed: AtomicU64,
}

impl Counts {
    pub(crate) fn answered(&self, is_allowed: bool) {
        let of = if is_allowed {
            &self.allowed
        } else {
            &self.refused
        };
        of.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unsearched(&self) {
        self.unsearched.fetch_add(1, Ordering::Relaxed);
    }

    /// A status of a policy was written, or the server would not.
    pub(crate) fn status(&self, is_written: bool) {
        let of = if is_written {
            &self.statuses
        } else {
            &self.statuses_failed
        };
        of.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were written, and how many not.
    #[cfg(test)]
    pub(crate) fn statuses(&self) -> (u64, u64) {
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (get(&self.statuses), get(&self.statuses_failed))
    }

    /// A node was labelled, or the server would not.
    pub(crate) fn node(&self, is_written: bool) {
        let of = if is_written {
            &self.nodes
        } else {
            &self.nodes_failed
        };
        of.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were labelled, and how many not.
    #[cfg(test)]
    pub(crate) fn nodes(&self) -> (u64, u64) {
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (get(&self.nodes), get(&self.nodes_failed))
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
    }
}

/// All metrics, as text.
pub(crate) fn text(counts: &Counts, shown: &Shown, leading: &Leading, nodes: &Nodes) -> String {
    let mut text = String::new();
    let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let answering = nodes.values().flatten().count();
    let name = "gorget_operator_reviews_total";
    let help = "Questions of the API server, by how they ended.";
    head(&mut text, name, "counter", help);
    for (result, of) in [
        ("allowed", &counts.allowed),
        ("refused", &counts.refused),
        ("malformed", &counts.malformed),
        ("failed", &counts.failed),
    ] {
        line(
            &mut text,
            format_args!("{name}{{result=\"{result}\"}} {}", get(of)),
        );
    }
    for (name, kind, help, value) in [
        (
            "gorget_operator_reviews_unsearched_total",
            "counter",
            "Questions that were answered without searching for rules that never decide.",
            get(&counts.unsearched),
        ),
        (
            "gorget_operator_handshakes_failed_total",
            "counter",
            "Connections that never got as far as a question.",
            get(&counts.handshakes),
        ),
        (
            "gorget_operator_statuses_total",
            "counter",
            "Statuses of policies that are as they should be, written or found so.",
            get(&counts.statuses),
        ),
        (
            "gorget_operator_statuses_failed_total",
            "counter",
            "Statuses of policies that could not be written.",
            get(&counts.statuses_failed),
        ),
        (
            "gorget_operator_node_labels_total",
            "counter",
            "Nodes whose labels were written.",
            get(&counts.nodes),
        ),
        (
            "gorget_operator_node_labels_failed_total",
            "counter",
            "Nodes whose labels could not be written.",
            get(&counts.nodes_failed),
        ),
        (
            "gorget_operator_certificate",
            "gauge",
            "1 when there is a certificate for the API server.",
            u64::from(shown.is_there()),
        ),
        (
            "gorget_operator_leading",
            "gauge",
            "1 when this replica writes.",
            u64::from(leading.now()),
        ),
        (
            "gorget_operator_agents",
            "gauge",
            "Agents that there are.",
            wide(nodes.len()),
        ),
        (
            "gorget_operator_agents_answering",
            "gauge",
            "Agents whose last answer still counts.",
            wide(answering),
        ),
    ] {
        head(&mut text, name, kind, help);
        line(&mut text, format_args!("{name} {value}"));
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let (Ok(()) | Err(_)) = writeln!(text, "{line}");
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
