// SPDX-License-Identifier: Apache-2.0
//! Kubernetes' runtime interface, as CRI-O speaks it: turns its events into [`Change`]s.
//!
//! Events only say which container to look at; what is true is what the runtime says about that
//! container afterwards. A container has its own labels and those of its pod, which are what policies
//! select by; where both have one, its own counts. The sandbox that holds a pod's namespaces is no
//! container here.
//!
//! A runtime answers the request for events with its first event only, so nothing tells when they
//! begin. They are asked for before the first list, and a second list comes after everything in the
//! first was looked at.
//!
//! Failure: an answer about one container that cannot be used is a [`Change::Problem`]. A runtime
//! without events (CRI-O before 1.26) has its containers known as they were at the connection, and that
//! is told.

mod client;

use crate::cgroup::Kernel;
use crate::identity::{CONTAINER_NAME, NAMESPACE, POD_NAME, POD_NAMESPACE, first, with_digest};
use crate::out::{Out, Unheard};
use crate::proto::runtime::v1::{
    Container as Listed, ContainerEventResponse, ContainerState, PodSandboxStatus,
};
use crate::reconnect::{Ended, Reached};
use crate::{Change, Config, Problem, ProblemKind, Started, reconnect};
use client::{Api, CallError};
use gorget_model::Container;
use gorget_model::with_causes;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use tonic::Streaming;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the CRI runtime is not there")]
    Open(#[source] CallError),
    #[error("connection to the CRI runtime lost")]
    Lost(#[source] CallError),
    #[error("the CRI runtime ended its events")]
    EventsEnded,
    #[error(transparent)]
    Unheard(#[from] Unheard),
}

/// One runtime, and what of its containers was told.
#[derive(Debug)]
pub(crate) struct Client {
    config: Arc<Config>,
    socket: PathBuf,
    /// Container and first process.
    known: BTreeMap<String, u32>,
}

impl Client {
    pub(crate) fn new(config: Arc<Config>, socket: PathBuf) -> Self {
        Self {
            config,
            socket,
            known: BTreeMap::new(),
        }
    }

    async fn session(
        &mut self,
        out: &Out,
        reached: &mut Reached,
    ) -> Result<Infallible, SessionError> {
        let opening = Api::connect(&self.socket).await;
        let api = opening.map_err(SessionError::Open)?;
        let runtime = api.version().await.map_err(SessionError::Open)?;
        out.connected(runtime).await?;
        *reached = Reached::Connected;
        let events = self.scan_and_subscribe(&api, out).await?;
        let Some(mut events) = events else {
            // Nothing more is learned on this connection.
            return std::future::pending().await;
        };
        loop {
            let event = events.message().await;
            let event = event.map_err(|status| SessionError::Lost(CallError::events(status)))?;
            *reached = Reached::Synced;
            let ContainerEventResponse { container_id } = event.ok_or(SessionError::EventsEnded)?;
            self.look(&api, &container_id, out).await?;
        }
    }

    /// Tells what runs already. `None` when the runtime has no events, which is told.
    async fn scan_and_subscribe(
        &mut self,
        api: &Api,
        out: &Out,
    ) -> Result<Option<Streaming<ContainerEventResponse>>, SessionError> {
        let subscription = api.events();
        tokio::pin!(subscription);
        let mut answer = None;
        {
            let scan = self.scan(api, out);
            tokio::pin!(scan);
            loop {
                tokio::select! {
                    biased;
                    answered = &mut subscription, if answer.is_none() => answer = Some(answered),
                    scanned = &mut scan => break scanned?,
                }
            }
        }
        let answer = match answer {
            Some(answer) => answer,
            None => subscription.await,
        };
        match answer {
            Ok(events) => Ok(Some(events)),
            Err(error) if error.is_unimplemented() => {
                self.problem(ProblemKind::Watch, None, &error, out).await?;
                Ok(None)
            }
            Err(error) => Err(SessionError::Lost(error)),
        }
    }

    async fn scan(&mut self, api: &Api, out: &Out) -> Result<(), SessionError> {
        let mut seen = BTreeSet::new();
        let mut running = BTreeSet::new();
        for _first_and_second in 0..2 {
            let listed = api.containers().await.map_err(SessionError::Lost)?;
            running = listed
                .iter()
                .filter(|container| container.state() == ContainerState::Running)
                .map(|container| container.id.clone())
                .collect();
            for container in listed {
                if running.contains(&container.id) && seen.insert(container.id.clone()) {
                    let id = container.id.clone();
                    self.found(api, &id, Some(container), out).await?;
                }
            }
        }
        self.known.retain(|id, _| running.contains(id));
        let running = self.known.keys().cloned().collect();
        Ok(out.tell(Change::Synced { running }).await?)
    }

    /// Tells what became of a container that an event names.
    async fn look(&mut self, api: &Api, id: &str, out: &Out) -> Result<(), SessionError> {
        match api.container(id).await {
            Ok(container) => self.found(api, id, container, out).await,
            Err(error) if error.is_lost() => Err(SessionError::Lost(error)),
            Err(error) => {
                self.problem(ProblemKind::Answer, Some(id), &error, out)
                    .await
            }
        }
    }

    /// `container` is what the runtime says about it now; `None` when it is not there any more. An
    /// event may also name a sandbox, which is never there.
    async fn found(
        &mut self,
        api: &Api,
        id: &str,
        container: Option<Listed>,
        out: &Out,
    ) -> Result<(), SessionError> {
        let known = self.known.get(id).copied();
        let running = container.filter(|container| container.state() == ContainerState::Running);
        let started = match running {
            Some(running) => match api.pid(id).await {
                Ok(pid) if known == Some(pid) => return Ok(()),
                Ok(pid) => self.identify(api, running, pid, out).await?,
                Err(error) if error.is_lost() => return Err(SessionError::Lost(error)),
                // It ended meanwhile.
                Err(error) if error.is_not_found() => None,
                Err(error) => {
                    return self
                        .problem(ProblemKind::Answer, Some(id), &error, out)
                        .await;
                }
            },
            None => None,
        };
        match started {
            Some(started) => {
                self.known.insert(id.to_owned(), started.pid);
                out.tell(Change::Started(started)).await?;
            }
            None if known.is_some() => {
                self.known.remove(id);
                out.tell(Change::Stopped { id: id.to_owned() }).await?;
            }
            None => {}
        }
        Ok(())
    }

    /// Everything about a container that runs; `None` when it ended or a problem was told instead.
    async fn identify(
        &self,
        api: &Api,
        running: Listed,
        pid: u32,
        out: &Out,
    ) -> Result<Option<Started>, SessionError> {
        let kernel = Kernel {
            proc: &self.config.proc,
            root: &self.config.cgroup_root,
        };
        let cgroup = match kernel.cgroup_of(pid, &running.id) {
            Ok(Some(cgroup)) => cgroup,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.problem(ProblemKind::Cgroup, Some(&running.id), &error, out)
                    .await?;
                return Ok(None);
            }
        };
        let pod = match api.pod(&running.pod_sandbox_id).await {
            Ok(pod) => pod,
            Err(error) if error.is_lost() => return Err(SessionError::Lost(error)),
            Err(error) => {
                // Without its pod's labels, policies that select by them are not for it.
                self.problem(ProblemKind::Answer, Some(&running.id), &error, out)
                    .await?;
                PodSandboxStatus::default()
            }
        };
        Ok(Some(Started {
            container: identity(running, pod),
            pid,
            cgroup,
            already_running: true,
        }))
    }

    async fn problem(
        &self,
        kind: ProblemKind,
        id: Option<&str>,
        error: &(dyn Error + Send + Sync + 'static),
        out: &Out,
    ) -> Result<(), SessionError> {
        let problem = Problem {
            kind,
            container: id.map(str::to_owned),
            reason: with_causes(error),
        };
        Ok(out.tell(Change::Problem(problem)).await?)
    }
}

fn identity(container: Listed, pod: PodSandboxStatus) -> Container {
    let PodSandboxStatus {
        metadata,
        mut labels,
    } = pod;
    let Listed {
        id,
        pod_sandbox_id: _,
        metadata: own,
        image,
        image_ref,
        state: _,
        labels: own_labels,
    } = container;
    labels.extend(own_labels);
    let pod = metadata.unwrap_or_default();
    let given = |name: String| Some(name).filter(|name| !name.is_empty());
    let name = given(own.unwrap_or_default().name).or_else(|| first(&labels, [CONTAINER_NAME]));
    let digest = image_ref.rsplit_once('@').map(|(_, digest)| digest);
    let image = given(image.unwrap_or_default().image);
    Container {
        name: name.unwrap_or_else(|| id.clone()),
        image: with_digest(image.unwrap_or_else(|| image_ref.clone()), digest),
        namespace: first(&labels, [POD_NAMESPACE])
            .or_else(|| given(pod.namespace))
            .or_else(|| first(&labels, [NAMESPACE])),
        pod: first(&labels, [POD_NAME]).or_else(|| given(pod.name)),
        id,
        labels,
        owner: None,
    }
}

impl reconnect::Client for Client {
    async fn connection(&mut self, out: &Out) -> Ended {
        let mut reached = Reached::Nothing;
        match self.session(out, &mut reached).await {
            Ok(never) => match never {},
            Err(SessionError::Unheard(unheard)) => unheard.into(),
            Err(error) => Ended::Lost {
                reason: with_causes(&error),
                reached,
            },
        }
    }
}
