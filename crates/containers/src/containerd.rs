// SPDX-License-Identifier: Apache-2.0
//! containerd: turns its events into [`crate::Change`]s.
//!
//! `client` asks, `event` decodes what arrives, `record` says who a container is, `session` is one
//! connection from scan to loss, `known` is what outlives a connection.

mod asked;
mod client;
mod docker;
mod event;
mod known;
mod record;
mod session;

use crate::out::Out;
use crate::reconnect::{Ended, Reached};
use crate::{Config, reconnect};
use gorget_model::Container;
use gorget_model::with_causes;
use known::Known;
use session::{Session, SessionError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which container, in containerd's terms. An id is unique within its namespace only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    /// containerd's namespace (`k8s.io`, `moby`, `default`), not a Kubernetes one.
    namespace: String,
    id: String,
}

/// Who a container of `namespace` is, or why containerd or Docker do not say.
pub(crate) async fn identify(
    socket: &Path,
    namespace: &str,
    id: &str,
) -> Result<Container, String> {
    let asked = asked::identify(socket, namespace, id).await;
    asked.map_err(|error| with_causes(&error))
}

/// One containerd, and what of its containers was told.
#[derive(Debug)]
pub(crate) struct Client {
    config: Arc<Config>,
    socket: PathBuf,
    known: Known,
}

impl Client {
    pub(crate) fn new(config: Arc<Config>, socket: PathBuf) -> Self {
        Self {
            config,
            socket,
            known: Known::default(),
        }
    }
}

impl reconnect::Client for Client {
    async fn connection(&mut self, out: &Out) -> Ended {
        let mut reached = Reached::Nothing;
        let opened = Session::open(&self.config, &self.socket, out, &mut self.known).await;
        let error = match opened {
            Ok(mut session) => {
                reached = Reached::Connected;
                match session.scan().await {
                    Ok(()) => {
                        reached = Reached::Synced;
                        session.follow().await
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        match error {
            SessionError::Unheard(unheard) => unheard.into(),
            error => Ended::Lost {
                reason: with_causes(&error),
                reached,
            },
        }
    }
}
