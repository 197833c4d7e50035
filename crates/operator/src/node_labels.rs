// SPDX-License-Identifier: Apache-2.0
//! Labels on nodes that say what enforces policies there, so that pods can ask for it (`nodeSelector`) and
//! people can list it (`kubectl get nodes -L gorget.io/enforcer`).
//!
//! The replica that writes compares what agents said with what nodes have. An agent that does not answer
//! changes nothing; of a node without an agent the labels are taken away. A node that refuses is counted,
//! said once, and tried again.

use crate::api::{AskError, Objects, Written};
use crate::counts::Counts;
use crate::lease::hold::Leading;
use crate::status::{Digest, Nodes};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// `bpf`, `apparmor`, or `none` where nothing is denied.
const ENFORCER: &str = "gorget.io/enforcer";
/// Of the agent, such as `0.1.0`.
const VERSION: &str = "gorget.io/version";

/// How often it is looked, when agents say nothing new.
const AGAIN: Duration = Duration::from_secs(30);

/// What a node is labelled with; empty: not at all.
type Labels = BTreeMap<&'static str, String>;

/// Labels nodes.
pub(crate) struct Labeller {
    nodes: Objects,
    heard: watch::Receiver<Arc<Nodes>>,
    leading: Leading,
    counts: Arc<Counts>,
    /// As far as it is known; none: nobody looked since this replica writes.
    there: Option<BTreeMap<String, Labels>>,
    failing: BTreeSet<String>,
}

impl Labeller {
    pub(crate) fn new(
        client: &kube::Client,
        heard: watch::Receiver<Arc<Nodes>>,
        leading: Leading,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            nodes: Objects::new(client, "v1", "", "nodes"),
            heard,
            leading,
            counts,
            there: None,
            failing: BTreeSet::new(),
        }
    }

    /// For as long as agents are heard.
    pub(crate) async fn run(mut self) {
        loop {
            let heard = Arc::clone(&self.heard.borrow_and_update());
            if self.leading.now() {
                self.round(&heard).await;
            } else {
                self.there = None;
            }
            tokio::select! {
                changed = self.heard.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    async fn round(&mut self, heard: &Nodes) {
        let mut there = match self.there.take() {
            Some(there) => there,
            None => match self.nodes.list().await {
                Ok(nodes) => nodes.iter().filter_map(labelled).collect(),
                Err(error) => {
                    self.failed("", &error);
                    return;
                }
            },
        };
        for (node, labels) in changes(heard, &there) {
            match self.nodes.merge(&node, &patch(&labels)).await {
                Ok(Written::Done(_)) => {
                    self.failing.remove(&node);
                    self.counts.node(true);
                    there.insert(node, labels);
                }
                // The node is gone.
                Ok(Written::Conflict) => drop(there.remove(&node)),
                Err(error) => self.failed(&node, &error),
            }
        }
        self.there = Some(there);
    }

    fn failed(&mut self, node: &str, error: &AskError) {
        self.counts.node(false);
        if self.failing.insert(node.to_owned()) {
            tracing::warn!("labels of nodes: {error}; it is tried again");
        }
    }
}

/// What nodes are to have that have something else.
fn changes(heard: &Nodes, there: &BTreeMap<String, Labels>) -> Vec<(String, Labels)> {
    let answering = heard.iter().filter_map(|(node, digest)| {
        let labels = wanted(digest.as_deref()?);
        (there.get(node) != Some(&labels)).then(|| (node.clone(), labels))
    });
    let left = there
        .iter()
        .filter(|(node, labels)| !labels.is_empty() && !heard.contains_key(*node));
    let left = left.map(|(node, _)| (node.clone(), Labels::new()));
    answering.chain(left).collect()
}

fn wanted(digest: &Digest) -> Labels {
    let enforcer = match digest.backend() {
        "audit-only" => "none",
        backend => backend,
    };
    Labels::from([
        (ENFORCER, enforcer.to_owned()),
        (VERSION, digest.agent_version().to_owned()),
    ])
}

/// A node's name, and what of ours it has.
fn labelled(node: &Value) -> Option<(String, Labels)> {
    let name = node.pointer("/metadata/name")?.as_str()?.to_owned();
    let all = node.pointer("/metadata/labels");
    let ours = [ENFORCER, VERSION].into_iter().filter_map(|key| {
        let value = all?.get(key)?.as_str()?;
        Some((key, value.to_owned()))
    });
    Some((name, ours.collect()))
}

fn patch(labels: &Labels) -> Value {
    let value = |key| labels.get(key);
    json!({"metadata": {"labels": {ENFORCER: value(ENFORCER), VERSION: value(VERSION)}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::Store;
    use crate::lease::hold::Candidate;
    use gorget_telemetry::proto::v1;

    fn digest(backend: &str) -> Option<Arc<Digest>> {
        Some(Arc::new(Digest::of(v1::AgentStatus {
            backend: backend.to_owned(),
            version: "0.1.0".to_owned(),
            ..v1::AgentStatus::default()
        })))
    }

    fn node(store: &Store, name: &str, labels: &Value) {
        let object = json!({"metadata": {"name": name, "labels": labels}});
        store.put(&format!("/api/v1/nodes/{name}"), object);
    }

    fn labels(store: &Store, name: &str) -> Value {
        let node = store.get(&format!("/api/v1/nodes/{name}")).unwrap();
        node["metadata"]["labels"].clone()
    }

    #[test]
    fn nodes_say_what_enforces_there_and_those_without_an_agent_say_nothing() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            let store = Store::default();
            node(&store, "a", &json!({"own": "x"}));
            node(&store, "b", &json!({}));
            node(
                &store,
                "left",
                &json!({ENFORCER: "bpf", VERSION: "0.0.9", "own": "y"}),
            );
            node(&store, "silent", &json!({ENFORCER: "bpf"}));
            store.refuse("/api/v1/nodes/b");
            let (_telling, heard) = watch::channel(Arc::default());
            let counts = Arc::new(Counts::default());
            let client = store.client();
            let leases = Objects::new(&client, "coordination.k8s.io/v1", "gorget", "leases");
            let (_candidate, leading) = Candidate::new(leases, "gorget", "l", "me".to_owned());
            let mut labeller = Labeller::new(&client, heard, leading, Arc::clone(&counts));
            let heard = Nodes::from([
                ("a".to_owned(), digest("bpf")),
                ("b".to_owned(), digest("audit-only")),
                ("gone".to_owned(), digest("bpf")),
                ("silent".to_owned(), None),
            ]);
            labeller.round(&heard).await;
            assert_eq!(
                labels(&store, "a"),
                json!({ENFORCER: "bpf", VERSION: "0.1.0", "own": "x"})
            );
            assert_eq!(labels(&store, "left"), json!({"own": "y"}));
            assert_eq!(labels(&store, "silent"), json!({ENFORCER: "bpf"}));
            assert_eq!(labels(&store, "b"), json!({}));
            assert_eq!(counts.nodes(), (2, 1));
            let written = store.writes();
            labeller.round(&heard).await;
            assert_eq!(
                store.writes(),
                written,
                "what is as it should be is left alone"
            );
            assert_eq!(counts.nodes(), (2, 2), "what was refused is tried again");
        });
    }

    #[test]
    fn a_node_on_which_nothing_is_denied_says_none() {
        let digest = digest("audit-only").unwrap();
        assert_eq!(wanted(&digest)[ENFORCER], "none");
        let nothing = patch(&Labels::new());
        assert_eq!(nothing["metadata"]["labels"][ENFORCER], Value::Null);
    }
}
