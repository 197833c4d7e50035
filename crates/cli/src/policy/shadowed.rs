// SPDX-License-Identifier: Apache-2.0
//! `gorget policy shadowed`: rules that never decide anything, and what hides each.
//!
//! Which policies meet in one workload is not known from files alone. With `--workload` all policies
//! that select it are taken together. Without it, every policy is taken together with those that are
//! certain to be there as well, because their selectors ask for nothing that its own does not ask
//! for; so a rule that is reported is shadowed in every workload, and only in single ones can there
//! be more.

use super::asked::Circumstances;
use super::input::{Loaded, load};
use super::words::{self, JsonAccess, JsonPlace};
use super::{EXIT_FOUND, Form, count, counted};
use crate::render::{Painter, Style, harmless};
use anyhow::Context;
use clap::Args;
use gorget_engine::{Decider, PolicySet, RuleInfo, Shadowed, Why, shadowed};
use gorget_policy::{Location, Policy};
use serde::Serialize;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Characters of a string that a rule matches.
const MOST: usize = 80;
/// Rules that hide one.
const MOST_HIDING: usize = 5;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Policy files, or directories of such
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    circumstances: Circumstances,
    #[command(flatten)]
    form: Form,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let loaded = load(&arguments.paths)?;
    let Circumstances { workload, posture } = &arguments.circumstances;
    let groups = match workload {
        Some(_) => vec![Group::all(arguments.circumstances.of(&loaded.policies))],
        None => groups(&loaded.policies),
    };
    let mut found = Vec::new();
    for Group { policies, asked } in groups {
        let names = || {
            let names: Vec<_> = policies
                .iter()
                .map(|policy| policy.qualified_name())
                .collect();
            format!("nothing can be said of {}", names.join(", "))
        };
        let set = PolicySet::new(policies.clone(), *posture);
        let idle = shadowed(&set).with_context(names)?;
        found.extend(
            idle.into_iter()
                .filter(|idle| asked.contains(&idle.rule.at)),
        );
    }
    let at = |shadowed: &Shadowed| shadowed.rule.at.clone();
    found.sort_by_key(at);
    let rules = loaded
        .policies
        .iter()
        .map(|policy| policy.rules.len())
        .sum();
    let answer = Answer {
        loaded: &loaded,
        found: &found,
        rules,
    };
    arguments
        .form
        .print(|painter| answer.text(painter), || answer.json())?;
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FOUND)
    })
}

/// Policies that meet, and the rules that are asked about.
struct Group {
    policies: Vec<Arc<Policy>>,
    asked: HashSet<Location>,
}

impl Group {
    fn all(policies: Vec<Arc<Policy>>) -> Self {
        let rules = policies.iter().flat_map(|policy| &policy.rules);
        Self {
            asked: rules.map(|rule| rule.at.clone()).collect(),
            policies,
        }
    }
}

/// For each selector, the policies that are there whenever it selects.
fn groups(policies: &[Arc<Policy>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (number, policy) in policies.iter().enumerate() {
        let alike = |other: &Arc<Policy>| always_with(policy, other) && always_with(other, policy);
        if policies.iter().take(number).any(alike) {
            continue;
        }
        let asked = policies.iter().filter(|other| alike(other)).cloned();
        let asked = Group::all(asked.collect()).asked;
        let there = policies.iter().filter(|other| always_with(policy, other));
        groups.push(Group {
            policies: there.cloned().collect(),
            asked,
        });
    }
    groups
}

/// Whether `other` is for every workload that `policy` is for, as far as their words show it.
fn always_with(policy: &Policy, other: &Policy) -> bool {
    let (one, two) = (&policy.selector, &other.selector);
    let containers = two.container_names.is_empty() && two.container_expression.is_none()
        || (&one.container_names, &one.container_expression)
            == (&two.container_names, &two.container_expression);
    (policy.kind, &policy.namespace) == (other.kind, &other.namespace)
        && containers
        && (two.images.is_empty() || one.images == two.images)
        && two.labels.iter().all(|label| one.labels.contains(label))
        && two.expressions.iter().all(|e| one.expressions.contains(e))
        && (two.host_expressions.is_empty() || one.host_expressions == two.host_expressions)
}

struct Answer<'a> {
    loaded: &'a Loaded,
    found: &'a [Shadowed],
    rules: usize,
}

impl Answer<'_> {
    fn text(&self, painter: Painter) -> String {
        let mut text = String::new();
        for shadowed in self.found {
            text.push_str(&self.one(shadowed, painter));
            text.push('\n');
        }
        let never = match self.found.len() {
            0 => painter.paint(Style::Good, "each can decide something"),
            found => painter.paint(Style::Caution, &format!("{found} never decide anything")),
        };
        let rules = count(counted(self.rules), "rule", "rules");
        text.push_str(&format!("{rules}, {never}\n"));
        text
    }

    fn one(&self, shadowed: &Shadowed, painter: Painter) -> String {
        let Shadowed {
            rule,
            category,
            why,
            allow_list,
        } = shadowed;
        let place = painter.paint(Style::Strong, &words::place(&rule.at));
        let mut text = format!(
            "{place}: this {category} rule never decides anything ({:?}, policy `{}`)\n",
            rule.action,
            words::policy(rule)
        );
        let last = last_line(&self.loaded.policies, &rule.at);
        let texts = &self.loaded.texts;
        text.push_str(&words::excerpt(texts, &rule.at, last, painter));
        for reason in reasons(why) {
            text.push_str(&format!("  {reason}\n"));
        }
        if let Some(access) = allow_list {
            text.push_str(&format!(
                "  without it there is no allow list: {} would pass\n",
                words::access(access)
            ));
        }
        text
    }

    fn json(&self) -> Vec<JsonShadowed<'_>> {
        let found = self.found.iter();
        found
            .map(|shadowed| JsonShadowed {
                place: JsonPlace::of(&shadowed.rule.at),
                policy: words::policy(&shadowed.rule),
                category: shadowed.category.to_string(),
                action: format!("{:?}", shadowed.rule.action),
                reasons: reasons(&shadowed.why),
                hidden_by: match &shadowed.why {
                    Why::Hidden(by) => by
                        .iter()
                        .map(|by| JsonHiding::of(&by.rule, &by.witness))
                        .collect(),
                    Why::NamesNothing { .. } | Why::NoSubject | Why::SaysNothing => Vec::new(),
                },
                allow_list: shadowed.allow_list.as_ref().map(words::json_access),
            })
            .collect()
    }
}

fn last_line(policies: &[Arc<Policy>], at: &Location) -> u32 {
    let mut rules = policies.iter().flat_map(|policy| &policy.rules);
    let found = rules.find(|rule| rule.at == *at);
    found.map_or(at.line, |rule| rule.last_line)
}

fn reasons(why: &Why) -> Vec<String> {
    match why {
        Why::NamesNothing { matches: None } => vec!["there is nothing that it names".to_owned()],
        Why::NamesNothing {
            matches: Some(matched),
        } => vec![format!(
            "it names no path; the shortest text that it matches is `{}`",
            harmless(&String::from_utf8_lossy(matched), MOST)
        )],
        Why::NoSubject => vec!["no program can be what its `fromSource` names".to_owned()],
        Why::SaysNothing => {
            vec!["with its modifiers and its action it says nothing about any access".to_owned()]
        }
        Why::Hidden(by) => {
            let shown = by.iter().take(MOST_HIDING).map(|hiding| {
                let decider = words::decider(&Decider::Rule(hiding.rule.clone()));
                format!(
                    "hidden by {decider}, as in {}",
                    words::access(&hiding.witness)
                )
            });
            let more = by.len().saturating_sub(MOST_HIDING);
            let more = (more > 0).then(|| format!("and by {more} more"));
            shown.chain(more).collect()
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonShadowed<'a> {
    #[serde(flatten)]
    place: JsonPlace<'a>,
    policy: String,
    category: String,
    action: String,
    reasons: Vec<String>,
    hidden_by: Vec<JsonHiding<'a>>,
    /// What would pass without the rule, when it is what makes an allow list.
    allow_list: Option<JsonAccess>,
}

#[derive(Serialize)]
struct JsonHiding<'a> {
    #[serde(flatten)]
    place: JsonPlace<'a>,
    policy: String,
    witness: JsonAccess,
}

impl<'a> JsonHiding<'a> {
    fn of(rule: &'a RuleInfo, witness: &gorget_model::Access) -> Self {
        Self {
            place: JsonPlace::of(&rule.at),
            policy: words::policy(rule),
            witness: words::json_access(witness),
        }
    }
}
