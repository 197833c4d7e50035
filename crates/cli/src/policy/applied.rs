// SPDX-License-Identifier: Apache-2.0
//! `gorget policy apply|delete|list`: the policies of a running agent.
//!
//! What is applied is in force when the command ends, and again after a restart of the agent. The agent
//! also has the policies of its directory: those are listed with their file, and changed there.

use super::input::texts;
use super::{EXIT_FOUND, Form};
use crate::agents::{Agents, unreachable};
use crate::cluster::policies::{self, Kept};
use crate::cluster::tunnels::Reached;
use crate::cluster::{InCluster, runtime};
use crate::render::harmless;
use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use gorget_policy::{ProblemSeverity, parse};
use gorget_telemetry::Client;
use gorget_telemetry::proto::v1::{DeleteRequest, Policy};
use serde::Serialize;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tonic::{Code, Status};

/// Characters of a line that are shown.
const MOST_SHOWN: usize = 1_000;

#[derive(Args)]
pub(crate) struct Files {
    /// Files, or directories in which all `*.yaml`, `*.yml` and `*.json` count
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    agents: Agents,
}

#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    agents: Agents,
    #[command(flatten)]
    form: Form,
}

/// A policy in force, as JSON.
#[derive(Serialize)]
struct Listed<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    name: &'a str,
    file: &'a str,
}

/// All policies of each file, or none of it.
pub(crate) fn apply(arguments: &Files) -> anyhow::Result<ExitCode> {
    let agents = &arguments.agents;
    agents.not_in_cluster("`kubectl apply` puts policies into a cluster")?;
    let texts = texts(&arguments.paths)?;
    with_agent(&arguments.agents, async move |mut client| {
        let mut exit = ExitCode::SUCCESS;
        for (name, text) in texts {
            match client.apply_policies(name.clone(), text).await {
                Ok(reply) => {
                    for warning in reply.warnings {
                        say(&warning)?;
                    }
                    for policy in reply.policies {
                        let what = if policy.replaced {
                            "replaced"
                        } else {
                            "applied"
                        };
                        say(&format!("{} `{}` {what}", policy.kind, policy.name))?;
                    }
                }
                Err(status) if status.code() == Code::InvalidArgument => {
                    say(status.message())?;
                    say(&format!("nothing of `{name}` is applied"))?;
                    exit = ExitCode::from(EXIT_FOUND);
                }
                Err(status) => return Err(refused(&status)),
            }
        }
        Ok(exit)
    })
}

/// All policies that the files name, whatever else they say.
pub(crate) fn delete(arguments: &Files) -> anyhow::Result<ExitCode> {
    let agents = &arguments.agents;
    agents.not_in_cluster("`kubectl delete` takes policies out of a cluster")?;
    let mut named = Vec::new();
    for (name, text) in texts(&arguments.paths)? {
        let parsed = parse(&name, &text);
        let errors = parsed.problems.iter();
        let mut errors = errors.filter(|problem| problem.severity == ProblemSeverity::Error);
        if let Some(error) = errors.next() {
            bail!("{error}\nnothing is deleted");
        }
        named.extend(parsed.policies.into_iter().map(|policy| DeleteRequest {
            kind: policy.kind.name().to_owned(),
            namespace: policy.namespace.unwrap_or_default(),
            name: policy.name,
        }));
    }
    with_agent(&arguments.agents, async move |mut client| {
        let mut exit = ExitCode::SUCCESS;
        for policy in named {
            let what = format!("{} `{}`", policy.kind, policy.name);
            match client.delete_policy(policy).await {
                Ok(()) => say(&format!("{what} deleted"))?,
                Err(status) if status.code() == Code::NotFound => {
                    say(status.message())?;
                    exit = ExitCode::from(EXIT_FOUND);
                }
                Err(status) => return Err(refused(&status)),
            }
        }
        Ok(exit)
    })
}

/// Everything that is in force, and from which file.
pub(crate) fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    if let Some(cluster) = arguments.agents.in_cluster()? {
        let kept = kept(cluster)?;
        arguments
            .form
            .print(|_| table_of_cluster(&kept), || &kept)?;
        return Ok(ExitCode::SUCCESS);
    }
    let policies = with_agent(&arguments.agents, async move |mut client| {
        client.policies().await.map_err(|status| refused(&status))
    })?;
    arguments
        .form
        .print(|_| table(&policies), || json(&policies))?;
    Ok(ExitCode::SUCCESS)
}

/// What the API server has of a cluster's policies.
pub(super) fn kept(cluster: &InCluster) -> anyhow::Result<Vec<Kept>> {
    ensure!(
        cluster.node.is_none(),
        "a cluster's policies are those of all nodes: leave out `--node`"
    );
    runtime()?.block_on(async {
        let api = cluster.kubeconfig.connect().await?;
        policies::list(&api).await
    })
}

fn table_of_cluster(kept: &[Kept]) -> String {
    if kept.is_empty() {
        return "no policy is in the cluster\n".to_owned();
    }
    let row = |one: &Kept| {
        let (kind, word) = (one.kind.clone(), one.word().to_owned());
        [kind, one.called(), word, one.sentence()]
    };
    let rows: Vec<_> = kept.iter().map(row).collect();
    let widest = |of: &dyn Fn(&[String; 4]) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let kinds = widest(&|[kind, ..]| kind.len());
    let names = widest(&|[_, name, ..]| name.len());
    let words = widest(&|[_, _, word, _]| word.len());
    let lines = rows.iter().map(|[kind, name, word, sentence]| {
        let line = format!("{kind:kinds$}  {name:names$}  {word:words$}  {sentence}");
        harmless(&line, MOST_SHOWN) + "\n"
    });
    lines.collect()
}

fn json(policies: &[Policy]) -> Vec<Listed<'_>> {
    let listed = policies.iter().map(|policy| Listed {
        kind: &policy.kind,
        namespace: &policy.namespace,
        name: &policy.name,
        file: &policy.file,
    });
    listed.collect()
}

fn table(policies: &[Policy]) -> String {
    if policies.is_empty() {
        return "no policy is in force\n".to_owned();
    }
    let name = |policy: &Policy| match policy.namespace.as_str() {
        "" => policy.name.clone(),
        namespace => format!("{namespace}/{}", policy.name),
    };
    let widest = |of: &dyn Fn(&Policy) -> usize| policies.iter().map(of).max().unwrap_or(0);
    let kinds = widest(&|policy| policy.kind.len());
    let names = widest(&|policy| name(policy).len());
    let lines = policies.iter().map(|policy| {
        let line = format!(
            "{:kinds$}  {:names$}  {}",
            policy.kind,
            name(policy),
            policy.file
        );
        harmless(&line, MOST_SHOWN) + "\n"
    });
    lines.collect()
}

pub(super) fn with_agent<T>(
    agents: &Agents,
    ask: impl AsyncFnOnce(Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Reached { address, tls, .. } = agents.reach_one()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        match Client::connect_to(&address, tls.as_deref()).await {
            Ok(client) => ask(client).await,
            Err(error) => bail!(unreachable(&address, &error)),
        }
    })
}

pub(super) fn refused(status: &Status) -> anyhow::Error {
    anyhow!("the agent refused: {}", status.message())
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in text.lines() {
        writeln!(out, "{}", harmless(line, MOST_SHOWN))?;
    }
    Ok(())
}
