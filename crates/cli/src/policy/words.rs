// SPDX-License-Identifier: Apache-2.0
//! How answers about policies are worded, for people and in JSON.
//!
//! Outcomes are `allow`, `audit` and `block` in JSON, as in test files. Paths in an answer can come
//! from recorded events or odd policies, so in text they go through [`harmless`].

use super::input::Texts;
use crate::render::{self, Painter, Style, harmless};
use gorget_engine::{Decider, OperationSpec, RuleInfo};
use gorget_model::{Access, Category, Outcome, Subject, Workload};
use gorget_policy::{Kind, Location};
use serde::Serialize;

/// Characters of an operation or a path that are shown.
const MOST: usize = 300;

/// An access in JSON.
#[derive(Serialize)]
pub(super) struct JsonAccess {
    operation: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<bool>,
    terminal: bool,
    arguments: Vec<String>,
}

/// Where something is written, in JSON.
#[derive(Serialize)]
pub(super) struct JsonPlace<'a> {
    file: &'a str,
    line: u32,
    column: u32,
}

impl<'a> JsonPlace<'a> {
    pub(super) fn of(at: &'a Location) -> Self {
        Self {
            file: &at.file,
            line: at.line,
            column: at.column,
        }
    }
}

pub(super) fn json_access(access: &Access) -> JsonAccess {
    let arguments = access.arguments.iter();
    JsonAccess {
        operation: OperationSpec::of_access(access).to_string(),
        source: source(&access.subject),
        owner: has_owner(access).then_some(access.modes.owner),
        terminal: access.modes.terminal,
        arguments: arguments
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect(),
    }
}

/// `allow`, `audit`, `block`.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "allow",
        Outcome::Audit => "audit",
        Outcome::Block => "block",
    }
}

/// What becomes of it.
pub(super) fn fate(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "passes",
        Outcome::Audit => "passes with an alert",
        Outcome::Block => "is denied",
    }
}

pub(super) fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Pass => Style::Good,
        Outcome::Audit => Style::Caution,
        Outcome::Block => Style::Alarm,
    }
}

/// Path of the image, or `runtime`.
pub(super) fn source(subject: &Subject) -> String {
    match subject {
        Subject::Runtime => "runtime".to_owned(),
        Subject::Image(path) => String::from_utf8_lossy(path).into_owned(),
    }
}

/// The operation and who does it.
pub(super) fn access(access: &Access) -> String {
    let mut text = operation(access);
    text.push_str(" by ");
    match &access.subject {
        Subject::Runtime => text.push_str("the container runtime"),
        Subject::Image(_) => text.push_str(&harmless(&source(&access.subject), MOST)),
    }
    text.push_str(&manner(access));
    text
}

/// What is done, without by whom.
pub(super) fn operation(access: &Access) -> String {
    harmless(&OperationSpec::of_access(access).to_string(), MOST)
}

/// Arguments, ownership and terminal, as far as they are not the ordinary ones.
pub(super) fn manner(access: &Access) -> String {
    let mut text = String::new();
    if !access.arguments.is_empty() {
        let arguments = access.arguments.iter();
        let arguments: Vec<_> = arguments
            .map(|argument| format!("`{}`", harmless(&String::from_utf8_lossy(argument), MOST)))
            .collect();
        text.push_str(&format!(" with the arguments {}", arguments.join(" ")));
    }
    if has_owner(access) && !access.modes.owner {
        text.push_str(", not the owner");
    }
    if access.modes.terminal {
        text.push_str(", on a terminal");
    }
    text
}

fn has_owner(access: &Access) -> bool {
    match access.category {
        Category::Process | Category::File => true,
        Category::Network
        | Category::Dns
        | Category::Capability
        | Category::Syscall
        | Category::Device
        | Category::Preset => false,
    }
}

/// `file:line`.
pub(super) fn place(at: &Location) -> String {
    format!("{}:{}", at.file, at.line)
}

/// Why something happens.
pub(super) fn decider(decider: &Decider) -> String {
    match decider {
        Decider::NoRule => "no rule".to_owned(),
        Decider::DefaultPosture => "the default posture".to_owned(),
        Decider::Rule(rule) => {
            let (place, policy) = (place(&rule.at), policy(rule));
            format!("{place} ({:?}, policy `{policy}`)", rule.action)
        }
    }
}

/// `namespace/name`, as `Policy::qualified_name` has it.
pub(super) fn policy(rule: &RuleInfo) -> String {
    match (rule.kind, &rule.namespace) {
        (Kind::Container, Some(namespace)) => format!("{namespace}/{}", rule.policy),
        (Kind::Container, None) => format!("default/{}", rule.policy),
        (Kind::Host | Kind::Cluster, _) => rule.policy.clone(),
    }
}

/// A workload for which an answer holds.
pub(super) fn workload(workload: &Workload) -> String {
    let (mut text, labels) = match workload {
        Workload::Host(host) if host.name.is_empty() => ("the host".to_owned(), &host.labels),
        Workload::Host(host) => (format!("the host `{}`", host.name), &host.labels),
        Workload::Container(container) => {
            let mut text = match container.name.as_str() {
                "" => "a container".to_owned(),
                name => format!("the container `{name}`"),
            };
            if let Some(namespace) = &container.namespace {
                text.push_str(&format!(" in `{namespace}`"));
            }
            (text, &container.labels)
        }
    };
    if !labels.is_empty() {
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        text.push_str(&format!(" with {}", labels.join(", ")));
    }
    harmless(&text, MOST)
}

/// The lines of a rule.
pub(super) fn excerpt(texts: &Texts, at: &Location, last: u32, painter: Painter) -> String {
    let lines = texts.lines(at, last);
    let width = lines
        .last()
        .map_or(1, |(number, _)| number.to_string().len());
    let mut text = String::new();
    for (number, line) in lines {
        let margin = painter.paint(Style::Faint, &format!("{number:>width$} |"));
        let (line, _) = render::excerpt(line, 1);
        text.push_str(&format!("    {margin} {line}\n"));
    }
    text
}
