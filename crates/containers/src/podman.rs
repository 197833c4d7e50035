// SPDX-License-Identifier: Apache-2.0
//! Podman, of root or of another user: turns its events into [`Change`]s.
//!
//! `http` asks over a Unix socket, `wire` is what the answers look like, `user` decides what another
//! user's Podman may say. Events only say which container to look at; what is true is what Podman says
//! about that container afterwards. So events may come twice, late, or out of order.
//!
//! The events begin before the connection does, so nothing falls between them and the scan.
//!
//! Failure: an answer about one container that cannot be used is a [`Change::Problem`]. An event that
//! is none ends the connection, because nobody knows what it was about.

mod http;
mod user;
mod wire;

use crate::cgroup::Kernel;
use crate::identity::{NAMESPACE, first, names_an_image, with_digest};
use crate::out::{Out, Unheard};
use crate::places::Place;
use crate::reconnect::{Ended, Reached};
use crate::{Change, Config, Problem, ProblemKind, Started, reconnect};
use gorget_model::Container;
use gorget_model::with_causes;
use http::{Api, HttpError, Lines};
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use wire::{Event, ImageInspection, Inspection, Listed, PodInspection, Version};

/// How long before the connection the events begin. Podman takes whole seconds.
const OVERLAP_SECONDS: i64 = 1;
/// After so many problems, only every one whose number is a power of two is told: a user's Podman can
/// make any number of them.
const PROBLEMS: u64 = 64;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("Podman is not there")]
    Open(#[source] HttpError),
    #[error("Podman does not say what runs")]
    Scan(#[source] HttpError),
    #[error("connection to Podman lost")]
    Look(#[source] HttpError),
    #[error("Podman's events broke off")]
    Events(#[source] HttpError),
    #[error("Podman ended its events")]
    EventsEnded,
    #[error(transparent)]
    Unheard(#[from] Unheard),
}

/// One Podman, and what of its containers was told.
#[derive(Debug)]
pub(crate) struct Client {
    config: Arc<Config>,
    place: Place,
    api: Api,
    /// Container and first process.
    known: BTreeMap<String, u32>,
    problems: u64,
}

impl Client {
    pub(crate) fn new(config: Arc<Config>, place: Place) -> Self {
        Self {
            config,
            api: Api::new(place.socket.clone()),
            place,
            known: BTreeMap::new(),
            problems: 0,
        }
    }

    async fn session(
        &mut self,
        out: &Out,
        reached: &mut Reached,
    ) -> Result<Infallible, SessionError> {
        let version: Version = self.api.ask("version").await.map_err(SessionError::Open)?;
        let mut events = self.events().await?;
        let runtime = match self.place.user {
            Some(uid) => format!("Podman {} of user {uid}", version.version),
            None => format!("Podman {}", version.version),
        };
        out.connected(runtime).await?;
        *reached = Reached::Connected;
        self.scan(out).await?;
        *reached = Reached::Synced;
        loop {
            let line = events.next().await.map_err(SessionError::Events)?;
            let line = line.ok_or(SessionError::EventsEnded)?;
            let event = Event::parse(&line).map_err(SessionError::Events)?;
            if let Some(id) = event.container_to_look_at() {
                self.look(id, out).await?;
            }
        }
    }

    async fn events(&self) -> Result<Lines, SessionError> {
        let now = clock_gettime(ClockId::Realtime).tv_sec;
        let since = now.saturating_sub(OVERLAP_SECONDS);
        // {"type":["container"]}
        let containers = "%7B%22type%22%3A%5B%22container%22%5D%7D";
        let question = format!("events?stream=true&since={since}&filters={containers}");
        let lines = self.api.follow(&question).await;
        lines.map_err(SessionError::Open)
    }

    /// Tells what runs already.
    async fn scan(&mut self, out: &Out) -> Result<(), SessionError> {
        let listed: Vec<Listed> = self
            .api
            .ask("containers/json?all=true")
            .await
            .map_err(SessionError::Scan)?;
        let running: BTreeSet<_> = listed
            .into_iter()
            .filter(|container| container.pid != 0)
            .map(|container| container.id)
            .collect();
        for id in &running {
            self.look(id, out).await?;
        }
        self.known.retain(|id, _| running.contains(id));
        let running = self.known.keys().cloned().collect();
        Ok(out.tell(Change::Synced { running }).await?)
    }

    /// Tells what became of a container.
    async fn look(&mut self, id: &str, out: &Out) -> Result<(), SessionError> {
        let inspection = match self.inspect(id).await {
            Ok(inspection) => inspection,
            Err(error) if error.is_lost() => return Err(SessionError::Look(error)),
            Err(error) => {
                return self.problem(ProblemKind::Answer, id, &error, out).await;
            }
        };
        let known = self.known.get(id).copied();
        let running = inspection.filter(|inspection| inspection.state.pid != 0);
        let pid = running.as_ref().map(|running| running.state.pid);
        if known == pid {
            return Ok(());
        }
        let started = match running {
            Some(running) => self.identify(running, out).await?,
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

    /// `None` when there is no such container.
    async fn inspect(&self, id: &str) -> Result<Option<Inspection>, HttpError> {
        let answer = self.api.ask(&format!("containers/{id}/json")).await;
        let inspection: Inspection = match answer {
            Ok(inspection) => inspection,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        match inspection.id == id {
            true => Ok(Some(inspection)),
            false => Err(HttpError::Other { id: inspection.id }),
        }
    }

    /// Everything about a container that runs; `None` when it ended or a problem was told instead.
    async fn identify(
        &mut self,
        running: Inspection,
        out: &Out,
    ) -> Result<Option<Started>, SessionError> {
        let (id, pid) = (running.id.clone(), running.state.pid);
        let kernel = Kernel {
            proc: &self.config.proc,
            root: &self.config.cgroup_root,
        };
        let found = kernel.cgroup_of(pid, &id);
        let allowed = match self.place.user {
            Some(uid) => user::may_speak_for(&self.config.proc, uid, pid),
            None => Ok(()),
        };
        let cgroup = match (found, allowed) {
            (Ok(Some(cgroup)), Ok(())) => cgroup,
            (Ok(None), _) => return Ok(None),
            (Err(error), _) => {
                self.problem(ProblemKind::Cgroup, &id, &error, out).await?;
                return Ok(None);
            }
            (Ok(Some(_)), Err(error)) => {
                self.problem(ProblemKind::Answer, &id, &error, out).await?;
                return Ok(None);
            }
        };
        let digest = self.digest(&running).await?;
        let pod = self.pod(&running.pod).await?;
        let is_created_only = running.is_created_only();
        let Inspection {
            name,
            image_name,
            config,
            ..
        } = running;
        let labels = config.labels.unwrap_or_default();
        Ok(Some(Started {
            container: Container {
                name: if name.is_empty() { id.clone() } else { name },
                image: with_digest(image_name, digest.as_deref()),
                namespace: first(&labels, [NAMESPACE]),
                pod,
                id,
                labels,
                owner: None,
            },
            pid,
            cgroup,
            already_running: !is_created_only,
        }))
    }

    /// The digest is for people: an image that was removed has none. Older Podmans do not tell it
    /// with the container.
    async fn digest(&self, running: &Inspection) -> Result<Option<String>, SessionError> {
        if !running.image_digest.is_empty() || !names_an_image(&running.image_name) {
            return Ok(Some(running.image_digest.clone()));
        }
        let question = format!("images/{}/json", running.image);
        let image: Option<ImageInspection> = self.for_people(&question).await?;
        Ok(image.map(|image| image.digest))
    }

    async fn pod(&self, id: &str) -> Result<Option<String>, SessionError> {
        if id.is_empty() {
            return Ok(None);
        }
        let pod: Option<PodInspection> = self.for_people(&format!("pods/{id}/json")).await?;
        Ok(pod.map(|pod| pod.name).filter(|name| !name.is_empty()))
    }

    /// What no policy depends on may be missing.
    async fn for_people<T: serde::de::DeserializeOwned>(
        &self,
        question: &str,
    ) -> Result<Option<T>, SessionError> {
        match self.api.ask(question).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_lost() => Err(SessionError::Look(error)),
            Err(error) => {
                tracing::debug!(question, error = %with_causes(&error), "not known");
                Ok(None)
            }
        }
    }

    async fn problem(
        &mut self,
        kind: ProblemKind,
        id: &str,
        error: &(dyn Error + Send + Sync + 'static),
        out: &Out,
    ) -> Result<(), SessionError> {
        self.problems = self.problems.saturating_add(1);
        if self.problems > PROBLEMS && !self.problems.is_power_of_two() {
            return Ok(());
        }
        let mut reason = format!("container `{id}`: {}", with_causes(error));
        if self.problems > PROBLEMS {
            reason.push_str(&format!("; this is problem number {}", self.problems));
        }
        let container = Some(id.to_owned());
        let problem = Problem {
            kind,
            container,
            reason,
        };
        Ok(out.tell(Change::Problem(problem)).await?)
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
