// SPDX-License-Identifier: Apache-2.0
//! `gorget probe --cluster`: what the agents of a cluster say, node by node.
//!
//! Nodes are those of the API, so that one without an agent is seen; who may not list nodes sees those with
//! agents. Every agent is asked through the API server.
//!
//! Exit status: 0 when every node enforces everything, 1 otherwise.

use super::{Arguments, EXIT_DEGRADED, Output, refused, status};
use crate::agents::unreachable;
use crate::cluster::api::Api;
use crate::cluster::runtime;
use crate::cluster::tunnels::{self, FeedPod, Reached};
use crate::render::{self, Painter, Style, harmless};
use anyhow::{Context as _, Result, anyhow};
use gorget_telemetry::Client;
use gorget_telemetry::proto::v1::AgentStatus;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

/// Characters of what is said of a node.
const MOST: usize = 500;
/// Agents that are asked at once.
const AT_ONCE: usize = 32;
/// How long one may take: a node that is gone is noticed by nobody else.
const LIMIT: Duration = Duration::from_secs(30);

/// A node, and what its agent says.
#[derive(Debug, Serialize)]
struct Asked {
    node: String,
    /// Everything is as it should be.
    full: bool,
    /// Why the agent was not asked or did not answer; empty when it did.
    #[serde(skip_serializing_if = "String::is_empty")]
    problem: String,
    /// What `gorget probe` says on the node.
    status: Option<Box<AgentStatus>>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let nodes = runtime()?.block_on(ask(arguments))?;
    let full = nodes.iter().all(|node| node.full);
    let shown = match arguments.output {
        Output::Text => text(&nodes, Painter::stdout(arguments.color)),
        Output::Json => {
            let whole = serde_json::json!({"full": full, "nodes": nodes});
            serde_json::to_string_pretty(&whole)? + "\n"
        }
    };
    render::print(&shown).context("cannot write the result")?;
    Ok(match full {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_DEGRADED),
    })
}

async fn ask(arguments: &Arguments) -> Result<Vec<Asked>> {
    let which = &arguments.in_cluster;
    let api = which.kubeconfig.connect().await?;
    let pods = tunnels::agents(&api, which).await?;
    let mut found: BTreeMap<String, Result<AgentStatus, String>> = BTreeMap::new();
    if which.node.is_none() {
        let without = || Err("no agent is there".to_owned());
        let nodes = nodes(&api).await?;
        found.extend(nodes.into_iter().map(|node| (node, without())));
    }
    let down = pods.iter().filter(|pod| !pod.down.is_empty());
    found.extend(down.map(|FeedPod { node, down, .. }| (node.clone(), Err(down.clone()))));
    let (reached, ways) = tunnels::ways(&api, pods).await?;
    let answers = async {
        for some in reached.chunks(AT_ONCE) {
            let mut asking = JoinSet::new();
            for one in some {
                found.insert(one.name.clone(), Err("the agent was not asked".to_owned()));
                asking.spawn(answer(one.clone()));
            }
            while let Some(answered) = asking.join_next().await {
                let (node, answer) = answered?;
                found.insert(node, answer.map_err(|error| format!("{error:#}")));
            }
        }
        Ok::<_, JoinError>(())
    };
    tokio::select! {
        answered = answers => answered?,
        // Without an agent that can be asked there is nothing to serve, and it ends at once.
        () = tunnels::serve(ways), if !reached.is_empty() => {}
    }
    let asked = found.into_iter().map(|(node, answer)| match answer {
        Ok(said) => Asked {
            node,
            full: status::is_full(&said),
            problem: String::new(),
            status: Some(Box::new(said)),
        },
        Err(problem) => Asked {
            node,
            full: false,
            problem,
            status: None,
        },
    });
    Ok(asked.collect())
}

/// Of which node, and what its agent says.
async fn answer(reached: Reached) -> (String, Result<AgentStatus>) {
    let Reached { name, address, tls } = reached;
    let asked = async {
        let client = Client::connect_to(&address, tls.as_deref()).await;
        let mut client = client.map_err(|error| anyhow!(unreachable(&address, &error)))?;
        client.status().await.map_err(|status| refused(&status))
    };
    let late = |_late| anyhow!("the agent did not answer in {} s", LIMIT.as_secs());
    let answer = timeout(LIMIT, asked).await.map_err(late);
    (name, answer.flatten())
}

/// The names of all nodes; none when they may not be listed.
async fn nodes(api: &Api) -> Result<Vec<String>> {
    match api.list(("v1", "Node"), "", "kubernetes.io/os=linux").await {
        Ok(nodes) => {
            let name = |node: &Value| {
                let name = node.pointer("/metadata/name").and_then(Value::as_str);
                name.map(str::to_owned)
            };
            Ok(nodes.iter().filter_map(name).collect())
        }
        Err(error) => {
            writeln!(
                io::stderr(),
                "gorget: nodes without an agent are not shown: {error}"
            )?;
            Ok(Vec::new())
        }
    }
}

fn text(nodes: &[Asked], painter: Painter) -> String {
    let mut text = String::new();
    for Asked {
        node,
        full: _,
        problem,
        status,
    } in nodes
    {
        if !text.is_empty() {
            text.push('\n');
        }
        let heading = painter.paint(Style::Strong, &format!("node {node}"));
        text.push_str(&format!("{heading}\n"));
        match status {
            Some(status) => text.push_str(&status::screen(status, painter)),
            None => text.push_str(&format!("  {}\n", harmless(problem, MOST))),
        }
    }
    let full = nodes.iter().filter(|node| node.full).count();
    text.push_str(&format!(
        "\n{full} of {} nodes enforce everything\n",
        nodes.len()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_node_without_an_agent_is_seen() {
        let asked = |node: &str, problem: &str| Asked {
            node: node.to_owned(),
            full: false,
            problem: problem.to_owned(),
            status: None,
        };
        let nodes = [
            asked("a", "no agent is there"),
            asked("b", "the pod `gorget-agent-x` does not run (Pending)"),
        ];
        expect![[r#"
            node a
              no agent is there

            node b
              the pod `gorget-agent-x` does not run (Pending)

            0 of 2 nodes enforce everything
        "#]]
        .assert_eq(&text(&nodes, Painter::stdout(render::Color::Never)));
    }
}
