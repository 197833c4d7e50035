// SPDX-License-Identifier: Apache-2.0
//! `gorget policy get`: a policy in force as it was given, and what has become of it.
//!
//! What was given comes from the agent and not from the file, which may say something else by now. As
//! YAML, what has become of it is comments, so that the output can be applied again.

use super::applied::{kept, refused, with_agent};
use super::{EXIT_FOUND, count, counted};
use crate::agents::Agents;
use crate::cluster::InCluster;
use crate::render::{self, Color, Painter, Style, harmless};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use gorget_telemetry::proto::v1::{
    AgentStatus, GetRequest, Given, Limit, Policy, PolicyName, PolicyState, Refused, Workload,
};
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Characters of a line about a policy that are shown.
const MOST_SHOWN: usize = 1_000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the policy
    #[arg(value_name = "NAME")]
    name: String,
    /// Only of this kind, such as `KubeArmorPolicy`
    #[arg(
        long,
        value_name = "KIND",
        default_value = "",
        hide_default_value = true
    )]
    kind: String,
    /// Only of this namespace
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        default_value = "",
        hide_default_value = true
    )]
    namespace: String,
    #[command(flatten)]
    agents: Agents,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// What has become of it, and the policy
    #[default]
    Text,
    /// The policy, with what has become of it in comments
    Yaml,
    /// Both, as JSON
    Json,
}

/// A policy in force.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    origin: String,
    file: String,
    generation: u64,
    /// Where it is in force.
    workloads: Vec<String>,
    /// What of it is not enforced there.
    degraded: Vec<Limit>,
    /// Why a newer version of its file is not in force.
    refused: Vec<String>,
    /// Workloads where newer rules than these are not in force, and why.
    not_in_force: Vec<String>,
    /// As it was given.
    text: String,
    /// What that says; nothing when it is several documents.
    policy: Option<Value>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(cluster) = arguments.agents.in_cluster()? {
        return of_cluster(arguments, cluster);
    }
    let request = GetRequest {
        name: arguments.name.clone(),
        kind: arguments.kind.clone(),
        namespace: arguments.namespace.clone(),
    };
    let (given, status) = with_agent(&arguments.agents, async move |mut client| {
        let given = client.given_policies(request).await;
        let given = given.map_err(|status| refused(&status))?;
        let status = client.status().await.map_err(|status| refused(&status))?;
        Ok((given, status))
    })?;
    if given.is_empty() {
        return nothing(&arguments.name, "in force");
    }
    let found: Vec<_> = given.into_iter().map(|one| found(one, &status)).collect();
    let painter = Painter::stdout(arguments.color);
    let shown = match arguments.output {
        Output::Text => joined(&found, "\n", |one| text(&state(one), &one.text, painter)),
        Output::Yaml => joined(&found, "---\n", |one| yaml(&state(one), &one.text)),
        Output::Json => serde_json::to_string_pretty(&found)? + "\n",
    };
    render::print(&shown).context("cannot write the result")?;
    Ok(ExitCode::SUCCESS)
}

fn nothing(name: &str, place: &str) -> anyhow::Result<ExitCode> {
    let name = harmless(name, MOST_SHOWN);
    writeln!(
        io::stderr(),
        "gorget: no policy `{name}` is {place} as asked for; `gorget policy list` shows what is"
    )?;
    Ok(ExitCode::from(EXIT_FOUND))
}

/// As the API server has it, with what the operator has written of it.
fn of_cluster(arguments: &Arguments, cluster: &InCluster) -> anyhow::Result<ExitCode> {
    let Arguments {
        name,
        kind,
        namespace,
        ..
    } = arguments;
    let is_asked = |asked: &str, it: &str| asked.is_empty() || asked == it;
    let mut found = kept(cluster)?;
    found.retain(|it| {
        it.name == *name && is_asked(kind, &it.kind) && is_asked(namespace, &it.namespace)
    });
    if found.is_empty() {
        return nothing(name, "in the cluster");
    }
    let painter = Painter::stdout(arguments.color);
    let mut texts = Vec::new();
    for it in &found {
        texts.push((it.state(), it.yaml()?));
    }
    let shown = match arguments.output {
        Output::Text => joined(&texts, "\n", |(state, given)| text(state, given, painter)),
        Output::Yaml => joined(&texts, "---\n", |(state, given)| yaml(state, given)),
        Output::Json => serde_json::to_string_pretty(&found)? + "\n",
    };
    render::print(&shown).context("cannot write the result")?;
    Ok(ExitCode::SUCCESS)
}

fn joined<T>(found: &[T], between: &str, form: impl Fn(&T) -> String) -> String {
    let all: Vec<_> = found.iter().map(form).collect();
    all.join(between)
}

/// A policy, with what the agent says of it.
fn found(given: Given, status: &AgentStatus) -> Found {
    let Given {
        policy,
        origin,
        generation,
        text,
    } = given;
    let Policy {
        kind,
        namespace,
        name,
        file,
        replaced: _,
    } = policy.unwrap_or_default();
    let named = PolicyName {
        kind,
        namespace,
        name,
    };
    let workloads = status.host.iter().chain(&status.workloads);
    let has: Vec<_> = workloads
        .filter(|workload| workload.policies.contains(&named))
        .collect();
    let failed = has
        .iter()
        .filter(|workload| !workload.not_in_force.is_empty());
    let is_it = |state: &&PolicyState| state.policy.as_ref() == Some(&named) && state.file == file;
    let degraded = status.policies.iter().find(is_it);
    let problems = |refused: &Refused| refused.problems.clone();
    let refused = status.refused.iter().filter(|refused| refused.file == file);
    Found {
        workloads: has.iter().map(|workload| called(workload)).collect(),
        not_in_force: failed
            .map(|workload| format!("{}: {}", called(workload), workload.not_in_force))
            .collect(),
        degraded: degraded
            .map(|state| state.limits.clone())
            .unwrap_or_default(),
        refused: refused.flat_map(problems).collect(),
        policy: serde_saphyr::from_str(&text).ok(),
        kind: named.kind,
        namespace: named.namespace,
        name: named.name,
        origin,
        file,
        generation,
        text,
    }
}

/// A workload, as people tell it from others.
fn called(workload: &Workload) -> String {
    let Workload {
        id,
        name,
        namespace,
        pod,
        ..
    } = workload;
    let places = [namespace.as_str(), pod, name];
    let places: Vec<_> = places.into_iter().filter(|it| !it.is_empty()).collect();
    match id.is_empty() {
        true => format!("{} (host)", places.join("/")),
        false => places.join("/"),
    }
}

/// What has become of it: a word, and what is said.
fn state(found: &Found) -> Vec<(String, String)> {
    let Found {
        kind,
        namespace,
        name,
        origin,
        file,
        generation,
        workloads,
        degraded,
        refused,
        not_in_force,
        text: _,
        policy: _,
    } = found;
    let name = match namespace.as_str() {
        "" => name.clone(),
        namespace => format!("{namespace}/{name}"),
    };
    let origin = match origin.as_str() {
        "directory" => format!("the file `{file}`"),
        "applied" => format!("applied by a client, kept in `{file}`"),
        "cluster" => "the cluster's API".to_owned(),
        other => format!("{other}, `{file}`"),
    };
    let in_force = match workloads.as_slice() {
        [] => "for no workload that runs".to_owned(),
        these => {
            let number = count(counted(these.len()), "workload", "workloads");
            format!("for {number}: {}", these.join(", "))
        }
    };
    let mut state = vec![
        ("policy", format!("{kind} `{name}`")),
        ("origin", origin),
        ("generation", generation.to_string()),
        ("in force", in_force),
    ];
    let limit = |limit: &Limit| {
        let place = match limit.line {
            0 => String::new(),
            line => format!(", first at line {line}"),
        };
        format!(
            "{} ({}{place}): {}",
            limit.what,
            count(limit.count, "rule", "rules"),
            limit.reason
        )
    };
    state.extend(degraded.iter().map(|it| ("degraded", limit(it))));
    state.extend(not_in_force.iter().map(|it| ("older", it.clone())));
    state.extend(refused.iter().map(|it| ("refused", it.clone())));
    let state = state.into_iter();
    state.map(|(word, said)| (word.to_owned(), said)).collect()
}

fn text(state: &[(String, String)], text_given: &str, painter: Painter) -> String {
    let mut text = String::new();
    for (word, said) in state {
        let style = match word.as_str() {
            "degraded" | "older" | "refused" => Style::Caution,
            _ => Style::Strong,
        };
        let word = painter.paint(style, &format!("{word:<12}"));
        text.push_str(&format!("{word}{}\n", harmless(said, MOST_SHOWN)));
    }
    text + "\n" + &given(text_given)
}

fn yaml(state: &[(String, String)], text: &str) -> String {
    let lines = state
        .iter()
        .map(|(word, said)| format!("# {word}: {}\n", harmless(said, MOST_SHOWN)));
    lines.collect::<String>() + &given(text)
}

/// As it was given, with nothing that speaks to a terminal. What is YAML has no control characters
/// but these.
fn given(text: &str) -> String {
    let mut shown: String = text
        .trim_start_matches('\u{feff}')
        .chars()
        .filter(|it| matches!(it, '\n' | '\t') || !it.is_control())
        .collect();
    if !shown.ends_with('\n') {
        shown.push('\n');
    }
    shown
}
