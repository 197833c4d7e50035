// SPDX-License-Identifier: Apache-2.0
//! `gorget policy explain`: what happens to one operation, and which line of which policy says so.
//!
//! The rule that decides is shown as it is written; every other rule that has to do with the
//! operation is named with the reason why it does not decide. The answer is that of the policies
//! alone: symbolic links inside a workload are unknown here, so paths are what the kernel would
//! report.

use super::applied::kept;
use super::asked::Circumstances;
use super::input::{Loaded, load, loaded};
use super::words::{self, JsonAccess, JsonPlace};
use super::{Form, count, counted};
use crate::cluster::InCluster;
use crate::render::{Painter, Style, harmless};
use clap::Args;
use gorget_engine::{
    Actor, Considered, Effect, Explanation, Fate, OperationSpec, PolicySet, Side, explain,
};
use gorget_model::{Access, Cause, Subject};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Characters of a sentence about a rule that are shown.
const MOST: usize = 500;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Policy files, or directories of such; none: the cluster's
    #[arg(value_name = "FILE", required_unless_present_any = ["cluster", "kubeconfig", "context"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    in_cluster: InCluster,
    #[command(flatten)]
    circumstances: Circumstances,
    /// What is done: `file:write:/etc/passwd`, `exec:/usr/bin/nc`, `network:tcp`, `dns:example.com`, …
    ///
    /// Also `file:read:`, `file:readwrite:` and `file:tree:` (a directory is moved or removed),
    /// `network:inet6/dgram/58`, `capability:net_raw`, `syscall:NAME[:PATH]`,
    /// `device:CLASS:SUBCLASS:PROTOCOL:LEVEL`, `preset:NAME`.
    #[arg(long, value_name = "OPERATION", value_parser = OperationSpec::parse)]
    op: OperationSpec,
    /// Path of the program that does it, or `runtime` for the container runtime
    #[arg(long, value_name = "PATH", value_parser = source)]
    source: Subject,
    /// An argument of the program that is run; may be given several times
    #[arg(long = "arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// The program runs as another user than the owner of the file
    #[arg(long)]
    not_owner: bool,
    /// The program has a controlling terminal
    #[arg(long)]
    terminal: bool,
    #[command(flatten)]
    form: Form,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if !arguments.arguments.is_empty() && !arguments.op.has_arguments() {
        anyhow::bail!("only a program that is run has arguments; `--op` does not run one");
    }
    let loaded = match (arguments.in_cluster.is_meant(), arguments.paths.as_slice()) {
        (false, paths) => load(paths)?,
        (true, []) => {
            let mut texts = Vec::new();
            for policy in kept(&arguments.in_cluster)? {
                let name = format!("{} {}", policy.kind, policy.called());
                texts.push((name, policy.yaml()?));
            }
            loaded(texts)?
        }
        (true, _) => anyhow::bail!("either files or the cluster's policies: leave out one of them"),
    };
    let policies = arguments.circumstances.of(&loaded.policies);
    let given = arguments.arguments.iter();
    let access = arguments.op.clone().by(Actor {
        subject: arguments.source.clone(),
        owner: !arguments.not_owner,
        terminal: arguments.terminal,
        arguments: given.map(|argument| argument.clone().into()).collect(),
    });
    let set = PolicySet::new(policies, arguments.circumstances.posture);
    let answer = Answer {
        explanation: explain(&set, &access),
        access,
        selected: set.policies.len(),
        loaded: &loaded,
    };
    arguments
        .form
        .print(|painter| answer.text(painter), || answer.json())?;
    Ok(ExitCode::SUCCESS)
}

/// A program, or the container runtime.
fn source(text: &str) -> Result<Subject, String> {
    if text == "runtime" {
        return Ok(Subject::Runtime);
    }
    // The form of a path is the same wherever it stands.
    match OperationSpec::parse(&format!("file:read:{text}")) {
        Ok(_) => Ok(Subject::Image(text.into())),
        Err(error) => Err(error.to_string()),
    }
}

struct Answer<'a> {
    access: Access,
    explanation: Explanation,
    /// How many policies count.
    selected: usize,
    loaded: &'a Loaded,
}

impl Answer<'_> {
    fn text(&self, painter: Painter) -> String {
        let Explanation {
            verdict,
            side,
            unlisted,
            rules,
        } = &self.explanation;
        let mut text = words::access(&self.access);
        let fate = words::fate(verdict.outcome);
        text.push(' ');
        text.push_str(&painter.paint(words::style(verdict.outcome), fate));
        let modes = self.access.modes;
        let said = match side {
            Side::Moving => true,
            Side::Reading | Side::Writing => modes.read && modes.write,
            Side::Whole => false,
        };
        if said {
            text.push_str(&format!(", because of what is said about {side}"));
        }
        text.push('\n');
        let winner = self.explanation.winner();
        match winner {
            Some(winner) => text.push_str(&self.rule(winner, painter)),
            None => {
                let policies = count(counted(self.selected), "policy", "policies");
                text.push_str(&format!("  no rule of {policies} applies\n"));
            }
        }
        if winner.is_none() || verdict.cause == Cause::DefaultPosture {
            text.push_str(&format!("  {unlisted}\n"));
        }
        let others = rules.get(usize::from(winner.is_some())..).unwrap_or(&[]);
        if !others.is_empty() {
            text.push_str("\nrules that do not decide:\n");
            for other in others {
                text.push_str(&self.rule(other, painter));
            }
        }
        if self.selected < self.loaded.policies.len() {
            let left = self.loaded.policies.len() - self.selected;
            let left = count(counted(left), "policy selects", "policies select");
            text.push_str(&format!("\n{left} another workload\n"));
        }
        text
    }

    fn rule(&self, considered: &Considered, painter: Painter) -> String {
        let Considered {
            rule,
            names,
            asks,
            fate,
        } = considered;
        let place = painter.paint(Style::Strong, &words::place(&rule.at));
        let mut text = format!("  {place}: {:?}, policy `{}`", rule.action, rule.policy);
        if let Some(naming) = names {
            text.push_str(&harmless(&format!(", by {naming}"), MOST));
        }
        text.push_str(&format!("\n    {}", harmless(&fate.to_string(), MOST)));
        let other = |asks: &Effect| asks.to_string() != format!("{:?}", rule.action);
        if let Some(asks) = asks.filter(|asks| other(asks) && *fate != Fate::LeavesToPosture) {
            text.push_str(&format!(" (asks for {asks} here)"));
        }
        text.push('\n');
        let texts = &self.loaded.texts;
        text.push_str(&words::excerpt(texts, &rule.at, rule.last_line, painter));
        text
    }

    fn json(&self) -> JsonExplanation<'_> {
        let Explanation {
            verdict,
            side,
            unlisted,
            rules,
        } = &self.explanation;
        JsonExplanation {
            access: words::json_access(&self.access),
            outcome: words::outcome(verdict.outcome),
            cause: match verdict.cause {
                Cause::Rule(_) => "rule",
                Cause::DefaultPosture => "defaultPosture",
                Cause::NoRule => "noRule",
            },
            about: side.to_string(),
            unlisted: unlisted.to_string(),
            policies: self.selected,
            policies_for_others: self.loaded.policies.len() - self.selected,
            rules: rules.iter().map(|rule| self.json_rule(rule)).collect(),
        }
    }

    fn json_rule<'a>(&'a self, considered: &'a Considered) -> JsonRule<'a> {
        let Considered {
            rule,
            names,
            asks,
            fate,
        } = considered;
        let lines = self.loaded.texts.lines(&rule.at, rule.last_line);
        JsonRule {
            place: JsonPlace::of(&rule.at),
            policy: &rule.policy,
            action: format!("{:?}", rule.action),
            decides: fate.wins(),
            names: names.as_ref().map(ToString::to_string),
            asks: asks.map(|asks| asks.to_string()),
            reason: fate.to_string(),
            text: lines.into_iter().map(|(_, line)| line).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonExplanation<'a> {
    access: JsonAccess,
    outcome: &'static str,
    cause: &'static str,
    about: String,
    unlisted: String,
    policies: usize,
    policies_for_others: usize,
    /// The one that decides first.
    rules: Vec<JsonRule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonRule<'a> {
    #[serde(flatten)]
    place: JsonPlace<'a>,
    policy: &'a str,
    action: String,
    decides: bool,
    names: Option<String>,
    asks: Option<String>,
    reason: String,
    text: Vec<&'a str>,
}
