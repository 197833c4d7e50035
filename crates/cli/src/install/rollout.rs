// SPDX-License-Identifier: Apache-2.0
//! Waiting until what is to run runs everywhere, and what is lacking where it does not.
//!
//! Asks again and again, because one list a second costs the API server less than it takes to get a watch
//! right. Ends with the time that is given, and says of each pod why it is not ready.

use crate::cluster::api::{Api, Place};
use crate::render::harmless;
use anyhow::{Result, bail};
use serde_json::Value;
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);
/// Characters of what is said of a pod.
const MOST: usize = 600;
/// Pods, and events, that are told of one workload.
const MOST_PODS: usize = 10;

/// How far a workload is.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    is_done: bool,
    said: String,
}

/// Waits until all pods of all these are of the newest version and ready. Tells how far they are.
pub(super) async fn wait(
    api: &Api,
    workloads: &[Place],
    limit: Duration,
    out: &mut impl Write,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut lacking = Vec::new();
    for place in workloads {
        let mut told = String::new();
        loop {
            let object = api.get(place).await?.unwrap_or_default();
            let Progress { is_done, said } = progress(&object);
            if told != said {
                writeln!(out, "{place}: {said}")?;
                told = said;
            }
            if is_done {
                break;
            }
            if Instant::now() >= deadline {
                lacking.push(format!("{place}: {told}"));
                lacking.extend(what_lacks(api, place, &object).await?);
                break;
            }
            sleep(PACE).await;
        }
    }
    if !lacking.is_empty() {
        bail!(
            "not everything is ready after {} s:\n  {}",
            limit.as_secs(),
            lacking.join("\n  ")
        );
    }
    Ok(())
}

/// Waits until an object is gone.
pub(super) async fn wait_until_gone(api: &Api, place: &Place, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while let Some(object) = api.get(place).await? {
        if Instant::now() >= deadline {
            let mut why = vec![format!(
                "{place} is deleted and still there after {} s",
                limit.as_secs()
            )];
            // Of a namespace: what is left in it.
            why.extend(conditions(&object, "True"));
            bail!(why.join("\n  "));
        }
        sleep(PACE).await;
    }
    Ok(())
}

fn number(object: &Value, path: &str) -> u64 {
    let number = object.pointer(path).and_then(Value::as_u64);
    number.unwrap_or(0)
}

fn progress(object: &Value) -> Progress {
    let of = |path| number(object, path);
    let is_seen = of("/status/observedGeneration") >= of("/metadata/generation");
    let is_daemon = object.get("kind").is_some_and(|kind| kind == "DaemonSet");
    let (wanted, updated, ready, others) = if is_daemon {
        (
            of("/status/desiredNumberScheduled"),
            of("/status/updatedNumberScheduled"),
            of("/status/numberAvailable"),
            0,
        )
    } else {
        let wanted = object.pointer("/spec/replicas").and_then(Value::as_u64);
        let wanted = wanted.unwrap_or(1);
        let others = of("/status/replicas").saturating_sub(of("/status/updatedReplicas"));
        (
            wanted,
            of("/status/updatedReplicas"),
            of("/status/availableReplicas"),
            others,
        )
    };
    if !is_seen || object.get("status").is_none() {
        return Progress {
            is_done: false,
            said: "waiting until the cluster takes notice".to_owned(),
        };
    }
    let said = match (wanted, updated < wanted || others > 0) {
        (0, _) => "no pod is wanted (no node is one that it runs on)".to_owned(),
        (_, true) => format!("{updated} of {wanted} updated, {ready} ready"),
        (_, false) => format!("{ready} of {wanted} ready"),
    };
    let is_done = updated >= wanted && ready >= wanted && others == 0;
    Progress { is_done, said }
}

/// What keeps the pods of a workload from being ready.
async fn what_lacks(api: &Api, place: &Place, object: &Value) -> Result<Vec<String>> {
    let labels = object.pointer("/spec/selector/matchLabels");
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let labels: Vec<_> = labels.collect();
    let pods = api
        .list(("v1", "Pod"), &place.namespace, &labels.join(","))
        .await?;
    let mut lacking: Vec<String> = pods.iter().flat_map(of_pod).collect();
    lacking.extend(conditions(object, "False"));
    if pods.is_empty() {
        // Pods that are refused are nowhere but in events.
        let events = api.list(("v1", "Event"), &place.namespace, "").await?;
        let is_about = |event: &&Value| {
            let name = event
                .pointer("/involvedObject/name")
                .and_then(Value::as_str);
            // Of a Deployment the ReplicaSet's, whose name begins like this.
            name.is_some_and(|name| name.starts_with(&place.name))
                && event.get("type").is_some_and(|kind| kind == "Warning")
        };
        let said = events.iter().filter(is_about).map(reason);
        lacking.extend(said);
    }
    lacking.dedup();
    let left_out = lacking.len().saturating_sub(MOST_PODS);
    lacking.truncate(MOST_PODS);
    if left_out > 0 {
        lacking.push(format!("and {left_out} more"));
    }
    Ok(lacking.iter().map(|it| harmless(it, MOST)).collect())
}

/// Conditions of a status that say something by being so.
fn conditions(object: &Value, status: &str) -> Vec<String> {
    let conditions = object.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    let such = conditions.filter(|it| it.get("status").is_some_and(|it| it == status));
    such.map(reason).collect()
}

/// `Reason: message`, as far as there are any.
fn reason(of: &Value) -> String {
    let text = |key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("reason"), text("message")) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// What keeps a pod from being ready; nothing when it is.
fn of_pod(pod: &Value) -> Vec<String> {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
    let place = match text("/spec/nodeName") {
        Some(node) => format!("pod `{name}` on node `{node}`"),
        None => format!("pod `{name}`"),
    };
    let list = |path: &str| {
        let list = pod.pointer(path).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let containers = list("/status/containerStatuses");
    let mut lacking = Vec::new();
    for container in list("/status/initContainerStatuses")
        .iter()
        .chain(&containers)
    {
        let called = container.get("name").and_then(Value::as_str);
        let called = called.unwrap_or_default();
        if let Some(waiting) = container.pointer("/state/waiting") {
            let mut said = format!("{place}: container `{called}` waits: {}", reason(waiting));
            if let Some(ended) = container.pointer("/lastState/terminated") {
                said.push_str(&format!("; {}", ended_with(ended)));
            }
            lacking.push(said);
        } else if let Some(ended) = container.pointer("/state/terminated")
            && number(ended, "/exitCode") != 0
        {
            let ended = ended_with(ended);
            lacking.push(format!("{place}: container `{called}` {ended}"));
        } else if container.get("ready") == Some(&Value::Bool(false))
            && container.pointer("/state/running").is_some()
        {
            lacking.push(format!(
                "{place}: container `{called}` runs and does not say that it is ready; `kubectl -n \
                 {namespace} logs {name}` shows what it says"
            ));
        }
    }
    if lacking.is_empty() && containers.is_empty() {
        // Not placed on a node, or the node has not begun.
        let said = conditions(pod, "False");
        let said: Vec<_> = said.into_iter().filter(|it| !it.is_empty()).collect();
        lacking.push(match said.is_empty() {
            true => format!(
                "{place}: {}",
                text("/status/phase").unwrap_or("not started")
            ),
            false => format!("{place}: {}", said.join("; ")),
        });
    }
    lacking
}

fn ended_with(ended: &Value) -> String {
    let code = number(ended, "/exitCode");
    let said = reason(ended);
    match said.is_empty() {
        true => format!("ended with {code}"),
        false => format!("ended with {code} ({})", said.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(object: &Value) -> (bool, String) {
        let Progress { is_done, said } = progress(object);
        (is_done, said)
    }

    #[test]
    fn a_daemon_set_is_there_when_every_node_has_its_newest_version() {
        let mut set = json!({
            "kind": "DaemonSet", "metadata": {"generation": 2},
            "status": {"observedGeneration": 1, "desiredNumberScheduled": 3,
                "updatedNumberScheduled": 3, "numberAvailable": 3},
        });
        assert!(!said(&set).0);
        set["status"]["observedGeneration"] = json!(2);
        assert_eq!(said(&set), (true, "3 of 3 ready".to_owned()));
        set["status"]["updatedNumberScheduled"] = json!(1);
        assert_eq!(said(&set), (false, "1 of 3 updated, 3 ready".to_owned()));
        set["status"] = json!({"observedGeneration": 2});
        assert!(said(&set).1.contains("no node"));
    }

    #[test]
    fn a_deployment_is_there_when_no_old_pod_is_left() {
        let mut it = json!({
            "kind": "Deployment", "metadata": {"generation": 1}, "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2,
                "availableReplicas": 2},
        });
        assert!(!said(&it).0);
        it["status"]["replicas"] = json!(2);
        assert_eq!(said(&it), (true, "2 of 2 ready".to_owned()));
        it["status"]["availableReplicas"] = json!(1);
        assert_eq!(said(&it), (false, "1 of 2 ready".to_owned()));
    }

    #[test]
    fn of_a_pod_is_said_what_it_waits_for() {
        let pod = |status: Value| {
            of_pod(&json!({
                "metadata": {"name": "a", "namespace": "gorget"}, "spec": {"nodeName": "n"},
                "status": status,
            }))
        };
        let container = |state: Value| {
            pod(json!({"containerStatuses": [{"name": "agent", "ready": false, "state": state}]}))
        };
        for (lacking, wanted) in [
            (
                container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no"}})),
                "pod `a` on node `n`: container `agent` waits: ImagePullBackOff: no",
            ),
            (
                container(json!({"terminated": {"exitCode": 2, "reason": "Error"}})),
                "pod `a` on node `n`: container `agent` ended with 2 (Error)",
            ),
            (
                container(json!({"running": {}})),
                "pod `a` on node `n`: container `agent` runs and does not say that it is ready; \
                 `kubectl -n gorget logs a` shows what it says",
            ),
            (
                pod(
                    json!({"conditions": [{"status": "False", "reason": "Unschedulable",
                    "message": "0/1 nodes"}]}),
                ),
                "pod `a` on node `n`: Unschedulable: 0/1 nodes",
            ),
        ] {
            assert_eq!(lacking, [wanted]);
        }
        let ready = json!({"containerStatuses": [
            {"name": "agent", "ready": true, "state": {"running": {}}}]});
        assert_eq!(pod(ready), [""; 0]);
    }
}
