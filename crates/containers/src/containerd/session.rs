// SPDX-License-Identifier: Apache-2.0
//! One connection to containerd: subscribe, scan, follow the events until it is lost.
//!
//! The subscription is in place before the scan asks its first question, so nothing falls between
//! them; what happens during the scan is told twice, by the list and by events. Hence every step is
//! idempotent, and an event about another pid than the one known is not believed as it is: it may be
//! older than the list.
//!
//! A failure that concerns one container, event or namespace is told as a [`Change::Problem`]. A
//! namespace that cannot be listed keeps what was known of it: the reader must never conclude that a
//! container is gone because we could not ask.

use super::client::{CallError, Client, ConnectError};
use super::docker::{self, Description};
use super::event::{self, Happening};
use super::known::Known;
use super::{Key, record};
use crate::cgroup::Kernel;
use crate::identity::names_an_image;
use crate::out::{Out, Unheard};
use crate::proto::containerd::services::containers::v1::Container;
use crate::proto::containerd::types::Envelope;
use crate::proto::containerd::v1::types::{Process, Status as TaskStatus};
use crate::{Change, Config, Problem, ProblemKind, Started};
use gorget_model::with_causes;
use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use tonic::Streaming;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("containerd is not there")]
    Connect(#[source] ConnectError),
    #[error("connection to containerd lost")]
    Call(#[source] CallError),
    #[error("containerd's events broke off")]
    Events(#[source] tonic::Status),
    #[error("containerd ended its events")]
    EventsEnded,
    #[error(transparent)]
    Unheard(#[from] Unheard),
}

/// A connection whose subscription is in place.
#[derive(Debug)]
pub(super) struct Session<'a> {
    config: &'a Config,
    out: &'a Out,
    known: &'a mut Known,
    client: Client,
    events: Streaming<Envelope>,
}

impl<'a> Session<'a> {
    /// Connects, subscribes, and tells that it did.
    pub(super) async fn open(
        config: &'a Config,
        socket: &Path,
        out: &'a Out,
        known: &'a mut Known,
    ) -> Result<Self, SessionError> {
        let client = Client::connect(socket)
            .await
            .map_err(SessionError::Connect)?;
        let version = client.version().await.map_err(SessionError::Call)?;
        let events = client.subscribe().await.map_err(SessionError::Call)?;
        let session = Self {
            config,
            out,
            known,
            client,
            events,
        };
        let runtime = format!("containerd {version}");
        session.out.connected(runtime).await?;
        Ok(session)
    }

    /// Tells what runs already.
    pub(super) async fn scan(&mut self) -> Result<(), SessionError> {
        let namespaces = self.client.namespaces().await.map_err(SessionError::Call)?;
        let mut running = HashSet::new();
        for namespace in namespaces {
            match self.client.tasks(&namespace).await {
                Ok(tasks) => {
                    for task in tasks {
                        self.scan_task(&namespace, task, &mut running).await?;
                    }
                }
                Err(error) if error.is_lost() => return Err(SessionError::Call(error)),
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    running.extend(self.known.of_namespace(&namespace));
                    self.problem(ProblemKind::Answer, None, &error).await?;
                }
            }
        }
        let running = self.known.keep(&running);
        self.tell(Change::Synced { running }).await
    }

    /// Tells what changes, until the connection is lost.
    pub(super) async fn follow(mut self) -> SessionError {
        loop {
            let step = match self.events.message().await {
                Ok(Some(envelope)) => self.apply(envelope).await,
                Ok(None) => Err(SessionError::EventsEnded),
                Err(status) => Err(SessionError::Events(status)),
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    async fn scan_task(
        &mut self,
        namespace: &str,
        task: Process,
        running: &mut HashSet<Key>,
    ) -> Result<(), SessionError> {
        let status = task.status();
        let Process {
            container_id,
            id,
            pid,
            status: _,
        } = task;
        let key = Key {
            namespace: namespace.to_owned(),
            id: if container_id.is_empty() {
                id
            } else {
                container_id
            },
        };
        let already_running = match status {
            TaskStatus::Created => false,
            TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing => true,
            TaskStatus::Stopped => return Ok(()),
            // Its shim does not answer, which does not mean that it is gone.
            TaskStatus::Unknown => {
                running.insert(key);
                return Ok(());
            }
        };
        self.started(&key, pid, already_running).await?;
        running.insert(key);
        Ok(())
    }

    async fn apply(&mut self, envelope: Envelope) -> Result<(), SessionError> {
        let (key, happening) = match event::decode(envelope) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Ok(()),
            Err(error) => return self.problem(ProblemKind::Event, None, &error).await,
        };
        match happening {
            Happening::Created { pid } => {
                let pid = self.current_pid(&key, pid).await?;
                self.started(&key, pid, false).await
            }
            Happening::Started { pid } => {
                let pid = self.current_pid(&key, pid).await?;
                self.started(&key, pid, true).await
            }
            Happening::Ended { pid } => match self.known.pid(&key) {
                Some(known) if pid == known || pid == 0 => self.stopped(&key).await,
                // The end of an earlier task of the same container, or of one never reported.
                Some(_) | None => Ok(()),
            },
        }
    }

    /// The pid to believe when an event gives `pid`: when another one is known, what containerd says
    /// now. It may not know the task yet when the event tells of it; then the event is the newer.
    async fn current_pid(&self, key: &Key, pid: u32) -> Result<u32, SessionError> {
        if self.known.pid(key).is_none_or(|known| known == pid) {
            return Ok(pid);
        }
        match self.client.task(key).await {
            Ok(task) if task.pid != 0 => Ok(task.pid),
            Ok(_) => Ok(pid),
            Err(error) if error.is_lost() => Err(SessionError::Call(error)),
            Err(error) => {
                tracing::debug!(container_id = key.id, error = %with_causes(&error), "pid not confirmed");
                Ok(pid)
            }
        }
    }

    async fn started(
        &mut self,
        key: &Key,
        pid: u32,
        already_running: bool,
    ) -> Result<(), SessionError> {
        let known = self.known.pid(key);
        if known == Some(pid) {
            return Ok(());
        }
        match self.identify(key, pid, already_running).await? {
            Some(started) => {
                let id = started.container.id.clone();
                self.tell(Change::Started(started)).await?;
                self.known.insert(key.clone(), pid, id);
                Ok(())
            }
            // Whatever became of the new process, the one that was reported is no longer it.
            None if known.is_some() => self.stopped(key).await,
            None => Ok(()),
        }
    }

    async fn stopped(&mut self, key: &Key) -> Result<(), SessionError> {
        match self.known.remove(key) {
            Some(id) => self.tell(Change::Stopped { id }).await,
            None => Ok(()),
        }
    }

    /// Everything about a container; `None` when it is gone or a problem was told instead.
    async fn identify(
        &self,
        key: &Key,
        pid: u32,
        already_running: bool,
    ) -> Result<Option<Started>, SessionError> {
        let id = self.known.reported_id(key);
        let kernel = Kernel {
            proc: &self.config.proc,
            root: &self.config.cgroup_root,
        };
        let cgroup = match kernel.cgroup_of(pid, &key.id) {
            Ok(Some(cgroup)) => cgroup,
            Ok(None) => {
                tracing::debug!(
                    container_id = id,
                    pid,
                    "container ended before it was reported"
                );
                return Ok(None);
            }
            Err(error) => {
                self.problem(ProblemKind::Cgroup, Some(id), &error).await?;
                return Ok(None);
            }
        };
        let stored = match self.client.container(key).await {
            Ok(stored) => stored,
            Err(error) if error.is_lost() => return Err(SessionError::Call(error)),
            Err(error) => {
                self.problem(ProblemKind::Answer, Some(id), &error).await?;
                return Ok(None);
            }
        };
        let digest = if names_an_image(&stored.image) {
            self.digest(key, &stored.image).await?
        } else {
            None
        };
        let docker = self.docker(key, &stored).await?;
        Ok(Some(Started {
            container: record::identity(id, stored, digest.as_deref(), docker),
            pid,
            cgroup,
            already_running,
        }))
    }

    /// What Docker knows of a container of its own. Without it the container is known by its id.
    async fn docker(
        &self,
        key: &Key,
        record: &Container,
    ) -> Result<Option<Description>, SessionError> {
        if key.namespace != docker::NAMESPACE {
            return Ok(None);
        }
        match docker::describe(&key.id, record.spec.as_ref()) {
            Ok(description) => Ok(Some(description)),
            Err(error) => {
                let id = Some(self.known.reported_id(key));
                self.problem(ProblemKind::Answer, id, &error).await?;
                Ok(None)
            }
        }
    }

    /// The digest is for people: an image that was removed or is kept elsewhere has none.
    async fn digest(&self, key: &Key, image: &str) -> Result<Option<String>, SessionError> {
        match self.client.image_digest(&key.namespace, image).await {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.is_lost() => Err(SessionError::Call(error)),
            Err(error) => {
                tracing::debug!(container_id = key.id, image, error = %with_causes(&error), "no digest");
                Ok(None)
            }
        }
    }

    async fn problem(
        &self,
        kind: ProblemKind,
        container: Option<String>,
        error: &(dyn Error + Send + Sync + 'static),
    ) -> Result<(), SessionError> {
        let reason = with_causes(error);
        self.tell(Change::Problem(Problem {
            kind,
            container,
            reason,
        }))
        .await
    }

    async fn tell(&self, change: Change) -> Result<(), SessionError> {
        Ok(self.out.tell(change).await?)
    }
}
