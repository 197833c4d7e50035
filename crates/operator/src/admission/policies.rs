// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a policy, and what is doubtful about it: [`judge`].
//!
//! It is read as the agent reads it, from the same fields of the object, and compiled by itself: one that
//! cannot be compiled alone is in force nowhere. Warnings are what reading finds doubtful, what the
//! backends of the cluster's nodes do not enforce, and rules that never decide anything.
//!
//! Not found here: what several policies are together, and whom a selector selects.

use super::rendered::Rendered;
use super::{Depth, Known};
use gorget_engine::{
    Backend, HiddenBy, Limit, PolicySet, Shadowed, Why, compile, limits, network_limits, shadowed,
};
use gorget_k8s::{PolicyObject, PolicyResource};
use gorget_model::Postures;
use gorget_model::with_causes;
use gorget_policy::{NetworkPolicy, Policy, Problem, ProblemSeverity, parse};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A policy whose every line is wrong is understood from these.
pub(super) const MOST_CAUSES: usize = 50;
/// In one message.
const MOST_LISTED: usize = 10;
/// A message is a line of a terminal or of a status, not a file.
const MOST_MESSAGE: usize = 4_096;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Empty when it is about the whole.
    pub(crate) field: String,
    pub(crate) reason: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// The policy is refused for these.
    pub(crate) errors: Vec<Wrong>,
    /// Whoever applies it is told these.
    pub(crate) warnings: Vec<String>,
    /// Containers that it names.
    pub(crate) containers: BTreeSet<String>,
    /// Why no backend enforces anything of it.
    pub(crate) idle: Option<&'static str>,
}

/// How much is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    backends: Vec<Backend>,
    /// Rules that never decide: takes the longest.
    is_searched: bool,
}

impl Verdict {
    /// Everything; of limits those that the cluster's nodes have.
    pub(super) fn of(known: &Known, depth: Depth) -> Self {
        let backends = match known.backends.is_empty() {
            true => Backend::ALL.to_vec(),
            false => known.backends.iter().copied().collect(),
        };
        Self {
            backends,
            is_searched: depth == Depth::Search,
        }
    }

    /// Only what is wrong.
    pub(crate) fn errors_only() -> Self {
        Self {
            backends: Vec::new(),
            is_searched: false,
        }
    }
}

impl Judged {
    pub(super) fn error(field: &str, reason: &str) -> Self {
        Self {
            errors: vec![Wrong {
                field: field.to_owned(),
                reason: reason.to_owned(),
            }],
            ..Self::default()
        }
    }

    pub(super) fn warning(warning: String) -> Self {
        Self {
            warnings: vec![warning],
            ..Self::default()
        }
    }

    /// All errors on one line, as many as fit.
    pub(crate) fn message(&self) -> String {
        let listed = self.errors.iter().take(MOST_LISTED);
        let listed: Vec<_> = listed
            .map(|wrong| with_field(&wrong.field, &wrong.reason))
            .collect();
        let mut message = listed.join("; ");
        if message.len() > MOST_MESSAGE {
            message = message.chars().take(MOST_MESSAGE / 4).collect();
            message.push('…');
        }
        let more = self.errors.len().saturating_sub(MOST_LISTED);
        if more > 0 {
            message.push_str(&format!("; and {more} more"));
        }
        message
    }
}

/// Judges an object of the API.
pub(crate) fn judge(resource: PolicyResource, object: &Value, verdict: &Verdict) -> Judged {
    let read = match PolicyObject::read(resource, object) {
        Ok(read) => read,
        Err(error) => return Judged::error("metadata", &with_causes(&error)),
    };
    judge_text(&read.text, verdict)
}

/// Judges a document as the agent gets it.
pub(crate) fn judge_text(text: &str, verdict: &Verdict) -> Judged {
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return Judged::error("", &format!("it is not JSON: {error}")),
    };
    let rendered = Rendered::of(&document);
    let parsed = parse("policy", &rendered.text);
    let mut judged = Judged::default();
    for problem in parsed.problems {
        judged.take(problem);
    }
    if !judged.errors.is_empty() {
        return judged;
    }
    for backend in &verdict.backends {
        let found = parsed.policies.iter().flat_map(|it| limits(*backend, it));
        let network = parsed.network_policies.iter();
        let found = found.chain(network.flat_map(|it| network_limits(*backend, it)));
        let told = found.map(|limit| limit_warning(&limit, &rendered));
        judged.warnings.extend(told);
    }
    let named = parsed.policies.iter();
    judged.containers = named
        .flat_map(|policy| policy.selector.container_names.iter().cloned())
        .collect();
    judged.idle = parsed.network_policies.iter().find_map(idle);
    let policies: Vec<_> = parsed.policies.into_iter().map(Arc::new).collect();
    judged.compile(policies, &rendered, verdict.is_searched);
    judged
}

impl Judged {
    fn take(&mut self, problem: Problem) {
        let Problem {
            at: _,
            severity,
            field,
            reason,
            help,
        } = problem;
        let reason = match help {
            Some(help) => format!("{reason} ({help})"),
            None => reason,
        };
        match severity {
            ProblemSeverity::Error => self.errors.push(Wrong { field, reason }),
            ProblemSeverity::Warning => self.warnings.push(with_field(&field, &reason)),
        }
    }

    fn compile(&mut self, policies: Vec<Arc<Policy>>, rendered: &Rendered, is_searched: bool) {
        let set = PolicySet::new(policies, Postures::default());
        if let Err(error) = compile(&set) {
            let reason = format!("{error}, so that it could be in force nowhere");
            self.errors.push(Wrong {
                field: "spec".to_owned(),
                reason,
            });
            return;
        }
        if !is_searched {
            return;
        }
        match shadowed(&set) {
            Ok(found) => {
                let told = found.iter().map(|it| shadowed_warning(it, rendered));
                self.warnings.extend(told);
            }
            // What it says is in force; only which of its rules decide is not known.
            Err(error) => self.warnings.push(format!(
                "spec: not searched for rules that never decide anything: {error}"
            )),
        }
    }
}

/// Why no backend enforces a network policy, which has no rules that one could enforce alone.
fn idle(policy: &NetworkPolicy) -> Option<&'static str> {
    let limits = Backend::ALL.map(|backend| network_limits(backend, policy).pop());
    let mut reasons = limits
        .iter()
        .map(|limit| limit.as_ref().map(|it| it.reason));
    let first = reasons.next().flatten()?;
    reasons.all(|reason| reason.is_some()).then_some(first)
}

fn limit_warning(limit: &Limit, rendered: &Rendered) -> String {
    let Limit {
        backend,
        policy: _,
        at,
        what,
        count,
        reason,
    } = limit;
    let field = at.as_ref().map_or("spec", |at| rendered.field(at));
    let first = if *count > 1 { "the first " } else { "" };
    format!("{backend} does not enforce {what} ({count}, {first}at {field}): {reason}")
}

fn shadowed_warning(shadowed: &Shadowed, rendered: &Rendered) -> String {
    let Shadowed {
        rule,
        category,
        why,
        allow_list,
    } = shadowed;
    let why = match why {
        Why::NamesNothing { .. } => "there is nothing that it names".to_owned(),
        Why::NoSubject => "no program can be what its `fromSource` names".to_owned(),
        Why::SaysNothing => {
            "with its modifiers and its action it says nothing about any access".to_owned()
        }
        Why::Hidden(by) => hidden(by, rendered),
    };
    let beside = match allow_list {
        Some(_) => ", but without it there is no allow list",
        None => "",
    };
    let field = rendered.field(&rule.at);
    format!("{field}: this {category} rule never decides anything: {why}{beside}")
}

fn hidden(by: &[HiddenBy], rendered: &Rendered) -> String {
    let mut by = by.iter().map(|it| rendered.field(&it.rule.at));
    match (by.next(), by.count()) {
        (Some(first), 0) => format!("hidden by {first}"),
        (Some(first), more) => format!("hidden by {first} and {more} more"),
        (None, _) => "hidden by others".to_owned(),
    }
}

fn with_field(field: &str, reason: &str) -> String {
    match field {
        "" => reason.to_owned(),
        field => format!("{field}: {reason}"),
    }
}
