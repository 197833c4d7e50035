// SPDX-License-Identifier: Apache-2.0
//! All runtimes of the machine at once: those that are there, and those that come.

use crate::directories::Directories;
use crate::merge::Merge;
use crate::out::{Out, Source};
use crate::places::{self, Found, Kind, Place};
use crate::{Change, Config, Problem, ProblemKind, containerd, cri, podman, reconnect};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How many changes of all clients may wait to be merged: a few, they wait for the reader anyway.
const QUEUE: usize = 16;

/// Watches until the receiver is gone.
pub(crate) async fn run(config: Config, out: mpsc::Sender<Change>) {
    tokio::select! {
        () = out.closed() => {}
        _unheard = Several::new(config).follow(&out) => {}
    }
}

struct Several {
    config: Arc<Config>,
    merge: Merge,
    places: BTreeSet<Place>,
    clients: JoinSet<()>,
    sender: mpsc::Sender<(Source, Change)>,
    told: mpsc::Receiver<(Source, Change)>,
    /// Wakes clients that wait for their sockets. `None` when nobody notices what appears.
    appeared: Option<watch::Sender<()>>,
    /// What clients get when nobody notices.
    never: watch::Receiver<()>,
}

impl Several {
    fn new(config: Config) -> Self {
        let (sender, told) = mpsc::channel(QUEUE);
        Self {
            config: Arc::new(config),
            merge: Merge::default(),
            places: BTreeSet::new(),
            clients: JoinSet::new(),
            sender,
            told,
            appeared: Some(watch::Sender::new(())),
            never: watch::Sender::new(()).subscribe(),
        }
    }

    /// Ends when the reader is gone.
    async fn follow(
        mut self,
        out: &mpsc::Sender<Change>,
    ) -> Result<(), mpsc::error::SendError<Change>> {
        let mut directories = match Directories::new() {
            Ok(directories) => Some(directories),
            Err(error) => {
                out.send(self.blind(&error.to_string())).await?;
                None
            }
        };
        if let Some(problem) = self.look(directories.as_mut()) {
            out.send(problem).await?;
        }
        if let (true, Some(synced)) = (self.places.is_empty(), self.merge.whole()) {
            out.send(synced).await?;
        }
        loop {
            let problem = tokio::select! {
                Some((source, change)) = self.told.recv() => {
                    for change in self.merge.take(source, change) {
                        out.send(change).await?;
                    }
                    None
                }
                changed = changed(directories.as_ref()) => match changed {
                    Ok(()) => self.look(directories.as_mut()),
                    Err(error) => {
                        directories = None;
                        Some(self.blind(&error.to_string()))
                    }
                },
            };
            if let Some(problem) = problem {
                out.send(problem).await?;
            }
        }
    }

    /// Starts clients for what is new, and wakes those that wait for their sockets.
    fn look(&mut self, directories: Option<&mut Directories>) -> Option<Change> {
        let mut found = places::find(&self.config.runtimes, &self.config.root);
        let mut problem = None;
        if let Some(directories) = directories {
            // What appears between a look and the watch is not noticed, so: look, watch, look again.
            loop {
                if let Err((path, error)) = directories.set(&found.directories)
                    && self.appeared.is_some()
                {
                    problem = Some(self.blind(&format!("`{}`: {error}", path.display())));
                }
                let again = places::find(&self.config.runtimes, &self.config.root);
                if std::mem::replace(&mut found, again).directories == found.directories {
                    break;
                }
            }
        }
        let Found { places, .. } = found;
        for place in places {
            if self.places.insert(place.clone()) {
                self.start(place);
            }
        }
        if let Some(appeared) = &self.appeared {
            appeared.send_replace(());
        }
        problem
    }

    fn start(&mut self, place: Place) {
        let source = Source(self.places.len());
        let name = match place.user {
            Some(uid) => format!("{} of user {uid}", place.kind.name()),
            None => place.kind.name().to_owned(),
        };
        self.merge.add(source, name.clone());
        let out = Out::new(source, name, self.sender.clone());
        let appeared = match &self.appeared {
            Some(appeared) => appeared.subscribe(),
            None => self.never.clone(),
        };
        let config = Arc::clone(&self.config);
        self.clients.spawn(async move {
            let (socket, backoff) = (place.socket.clone(), config.backoff);
            match place.kind {
                Kind::Containerd => {
                    let client = containerd::Client::new(config, place.socket);
                    reconnect::keep(client, &socket, backoff, appeared, &out).await;
                }
                Kind::Cri => {
                    let client = cri::Client::new(config, place.socket);
                    reconnect::keep(client, &socket, backoff, appeared, &out).await;
                }
                Kind::Podman => {
                    let client = podman::Client::new(config, place);
                    reconnect::keep(client, &socket, backoff, appeared, &out).await;
                }
            }
        });
    }

    /// From now on clients try again by time.
    fn blind(&mut self, reason: &str) -> Change {
        self.appeared = None;
        Change::Problem(Problem {
            kind: ProblemKind::Watch,
            container: None,
            reason: format!("runtimes that come later are not noticed: cannot watch {reason}"),
        })
    }
}

/// Waits until something appeared; for ever when nobody notices.
async fn changed(directories: Option<&Directories>) -> std::io::Result<()> {
    match directories {
        Some(directories) => directories.changed().await,
        None => std::future::pending().await,
    }
}
