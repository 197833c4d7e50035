// SPDX-License-Identifier: Apache-2.0
//! What the agent says of itself: Gorget's own `Agent`, and KubeArmor's `ProbeService` and `StateAgent`.
//!
//! Nothing is known here. Questions go to whoever knows, as those about policies do; what is there is
//! watched, as one value that is replaced when it changes, and changes are what two of them differ in.
//! So a client that is slow misses states between two, and never how it is.
//!
//! COMPAT: KubeArmor's `StateAgent` tells of pods and namespaces, too, which are Kubernetes'; here there
//! are `container` and `node`.

use crate::log_service::{Sent, stream};
use crate::proto::policy::ProbeResponse;
use crate::proto::policy::probe_service_server::ProbeService;
use crate::proto::state::state_agent_server::StateAgent;
use crate::proto::state::{StateEvent, StateEvents};
use crate::proto::v1::agent_server::Agent;
use crate::proto::v1::{AgentStatus, Costs, GetCostsRequest, GetStatusRequest, Node, Workload};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::sync::{oneshot, watch};
use tonic::{Request, Response};

/// A question, and where its answer goes.
#[derive(Debug)]
pub enum Asked {
    /// Everything.
    Status(oneshot::Sender<AgentStatus>),
    /// What it costs.
    Costs(GetCostsRequest, oneshot::Sender<Costs>),
    /// What `karmor probe` wants to know.
    Probe(oneshot::Sender<ProbeResponse>),
}

/// Where to ask.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who answers questions.
    pub asking: Sender<Asked>,
    /// What is there: of it only the node and containers are looked at.
    pub state: watch::Receiver<Arc<AgentStatus>>,
}

/// The services.
#[derive(Clone, Debug)]
pub(crate) struct Answering {
    status: Status,
    /// Closed when the server is to end.
    stopping: watch::Receiver<()>,
}

impl Answering {
    pub(crate) fn new(status: Status, stopping: watch::Receiver<()>) -> Self {
        Self { status, stopping }
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Asked,
    ) -> Result<T, tonic::Status> {
        let ending = || tonic::Status::unavailable("the agent is stopping");
        let (answer, answered) = oneshot::channel();
        let asked = self.status.asking.send(question(answer)).await;
        asked.map_err(|_stopping| ending())?;
        answered.await.map_err(|_stopping| ending())
    }
}

#[tonic::async_trait]
impl Agent for Answering {
    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<AgentStatus>, tonic::Status> {
        Ok(Response::new(self.ask(Asked::Status).await?))
    }

    async fn get_costs(
        &self,
        request: Request<GetCostsRequest>,
    ) -> Result<Response<Costs>, tonic::Status> {
        let request = request.into_inner();
        let costs = self.ask(|answer| Asked::Costs(request, answer)).await?;
        Ok(Response::new(costs))
    }
}

#[tonic::async_trait]
impl ProbeService for Answering {
    async fn get_probe_data(
        &self,
        _request: Request<()>,
    ) -> Result<Response<ProbeResponse>, tonic::Status> {
        Ok(Response::new(self.ask(Asked::Probe).await?))
    }
}

#[tonic::async_trait]
impl StateAgent for Answering {
    type WatchStateStream = Sent<StateEvent>;
    type GetStateStream = Sent<StateEvents>;

    async fn watch_state(
        &self,
        _request: Request<()>,
    ) -> Result<Response<Self::WatchStateStream>, tonic::Status> {
        let (state, stopping) = (self.status.state.clone(), self.stopping.clone());
        Ok(Response::new(stream(|out| follow(state, stopping, out))))
    }

    async fn get_state(
        &self,
        _request: Request<()>,
    ) -> Result<Response<Self::GetStateStream>, tonic::Status> {
        let state = Arc::clone(&self.status.state.borrow());
        let state_events = changes(None, &state);
        Ok(Response::new(stream(|out| async move {
            // Who asked may be gone.
            drop(out.send(Ok(StateEvents { state_events })).await);
        })))
    }
}

/// Sends what is there, and then what changes.
async fn follow(
    mut state: watch::Receiver<Arc<AgentStatus>>,
    mut stopping: watch::Receiver<()>,
    out: Sender<Result<StateEvent, tonic::Status>>,
) {
    let mut before = None;
    loop {
        let now = Arc::clone(&state.borrow_and_update());
        for event in changes(before.as_deref(), &now) {
            if out.send(Ok(event)).await.is_err() {
                return;
            }
        }
        before = Some(now);
        let goes_on = tokio::select! {
            changed = state.changed() => changed.is_ok(),
            _closed = stopping.changed() => false,
        };
        if !goes_on {
            return;
        }
    }
}

/// What became of one state in another, in the order: what is gone, what is there.
fn changes(before: Option<&AgentStatus>, now: &AgentStatus) -> Vec<StateEvent> {
    let by_id = |state: &AgentStatus| -> BTreeMap<String, Workload> {
        let all = state.workloads.iter();
        all.map(|it| (it.id.clone(), it.clone())).collect()
    };
    let mut known = before.map(by_id).unwrap_or_default();
    let mut events = Vec::new();
    if before.is_none_or(|before| before.node != now.node) {
        let how = before.map_or("added", |_| "updated");
        events.extend(now.node.as_ref().map(|node| node_event(how, node)));
    }
    for workload in &now.workloads {
        match known.remove(&workload.id) {
            Some(before) if before == *workload => {}
            Some(_) => events.push(container_event("updated", workload)),
            None => events.push(container_event("added", workload)),
        }
    }
    let gone = known.values().map(|it| container_event("deleted", it));
    let mut all: Vec<_> = gone.collect();
    all.append(&mut events);
    all
}

/// COMPAT: `Object` has the keys of KubeArmor's, as far as there is something to say.
fn container_event(how: &str, workload: &Workload) -> StateEvent {
    let Workload {
        id,
        name,
        namespace,
        pod,
        image,
        labels,
        backend: _,
        remark: _,
        policies,
        not_in_force: _,
        pid: _,
        mode,
        owner: _,
        wanted: _,
    } = workload;
    let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let object = json!({
        "containerID": id,
        "containerName": name,
        "containerImage": image,
        "namespaceName": match namespace.as_str() {
            "" => "container_namespace",
            namespace => namespace,
        },
        "endPointName": pod,
        "labels": labels.join(","),
        "policyEnabled": match mode.as_str() {
            "disabled" => 0,
            "audited" => 2,
            _ => 1,
        },
        "policies": policies.iter().map(|policy| &policy.name).collect::<Vec<_>>(),
    });
    StateEvent {
        kind: "container".to_owned(),
        r#type: how.to_owned(),
        name: name.clone(),
        object: object.to_string().into_bytes(),
    }
}

fn node_event(how: &str, node: &Node) -> StateEvent {
    let Node {
        cluster,
        host,
        id: _,
        kernel,
        labels,
    } = node;
    let object = json!({
        "clusterName": cluster,
        "nodeName": host,
        "labels": labels,
        "kernelVersion": kernel,
        "architecture": std::env::consts::ARCH,
        "operatingSystem": "linux",
        "policyEnabled": 1,
    });
    StateEvent {
        kind: "node".to_owned(),
        r#type: how.to_owned(),
        name: host.clone(),
        object: object.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(workloads: &[(&str, &str)]) -> AgentStatus {
        let workload = |(id, image): &(&str, &str)| Workload {
            id: (*id).to_owned(),
            name: format!("name-{id}"),
            image: (*image).to_owned(),
            ..Workload::default()
        };
        AgentStatus {
            node: Some(Node::default()),
            workloads: workloads.iter().map(workload).collect(),
            ..AgentStatus::default()
        }
    }

    fn told(before: Option<&AgentStatus>, now: &AgentStatus) -> Vec<String> {
        let events = changes(before, now);
        let told = events.iter().map(|it| {
            let (how, kind, name) = (&it.r#type, &it.kind, &it.name);
            format!("{how} {kind} {name}")
        });
        told.collect()
    }

    #[test]
    fn what_two_states_differ_in_is_told_and_nothing_else() {
        let first = state(&[("a", "1"), ("b", "1")]);
        assert_eq!(
            told(None, &first),
            [
                "added node ",
                "added container name-a",
                "added container name-b"
            ]
        );
        assert_eq!(told(Some(&first), &first), [""; 0]);
        let second = state(&[("b", "2"), ("c", "1")]);
        assert_eq!(
            told(Some(&first), &second),
            [
                "deleted container name-a",
                "updated container name-b",
                "added container name-c"
            ]
        );
    }

    #[test]
    fn a_container_is_described_with_kubearmors_keys() {
        let mut container = Workload {
            id: "c0ffee".to_owned(),
            name: "web".to_owned(),
            ..Workload::default()
        };
        container.labels.insert("app".to_owned(), "web".to_owned());
        let object = container_event("added", &container).object;
        let object: serde_json::Value = serde_json::from_slice(&object).unwrap();
        assert_eq!(object["containerID"], "c0ffee");
        assert_eq!(object["namespaceName"], "container_namespace");
        assert_eq!(object["labels"], "app=web");
    }
}
