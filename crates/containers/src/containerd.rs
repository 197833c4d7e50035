// SPDX-License-Identifier: Apache-2.0
//! containerd: connects, stays connected, and turns its events into [`Change`]s.
//!
//! `client` asks, `event` decodes what arrives, `identity` says who a container is, `session` is one
//! connection from scan to loss, `known` is what outlives a connection. This module is the loop around
//! them: a lost connection is told once and tried again with growing delays until the reader is gone.

mod asked;
mod client;
mod docker;
mod event;
mod identity;
mod known;
mod session;

/// Generated from `proto/`.
mod proto {
    #![expect(
        unreachable_pub,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        clippy::doc_markdown,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/client/containerd.rs"));
}

use crate::{Change, Config, with_causes};
use gorget_model::Container;
use known::Known;
use session::{Session, SessionError};
use std::path::Path;
use tokio::sync::mpsc::Sender;

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

/// Watches until the receiver is gone.
pub(crate) async fn run(config: Config, out: Sender<Change>) {
    tokio::select! {
        () = out.closed() => {}
        () = stay_connected(&config, &out) => {}
    }
}

async fn stay_connected(config: &Config, out: &Sender<Change>) {
    let mut known = Known::default();
    let mut delays = config.backoff.delays();
    let mut told = false;
    loop {
        let ended = match Session::open(config, out, &mut known).await {
            Ok(mut session) => {
                told = false;
                match session.scan().await {
                    Ok(()) => {
                        delays = config.backoff.delays();
                        session.follow().await
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if matches!(ended, SessionError::Unheard) {
            return;
        }
        let reason = with_causes(&ended);
        tracing::debug!(socket = %config.socket.display(), error = %reason, "no connection to containerd");
        if !told {
            if out.send(Change::Disconnected { reason }).await.is_err() {
                return;
            }
            told = true;
        }
        if let Some(delay) = delays.next() {
            tokio::time::sleep(delay).await;
        }
    }
}
