// SPDX-License-Identifier: Apache-2.0
//! Stays connected to one runtime: a lost connection is told once and tried again, with growing
//! delays, until nobody listens.
//!
//! Where there is no socket nothing is tried: something appears in its directory first.

use crate::Backoff;
use crate::out::{Out, Unheard};
use std::path::Path;
use tokio::sync::watch;

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nobody listens: nothing is left to do.
    Unheard,
    /// It was lost, or never made.
    Lost {
        /// Why, with its causes.
        reason: String,
        reached: Reached,
    },
}

impl From<Unheard> for Ended {
    fn from(Unheard: Unheard) -> Self {
        Self::Unheard
    }
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// Nothing was told.
    Nothing,
    /// It was told that it is there.
    Connected,
    /// Everything that runs was told.
    Synced,
}

/// A runtime's client, with what outlives its connections.
pub(crate) trait Client: Send {
    /// One connection from its beginning to its end.
    fn connection(&mut self, out: &Out) -> impl Future<Output = Ended> + Send;
}

/// Keeps a client connected. `appeared` says that something appeared in the socket's directory; when
/// its sender is gone nobody notices that, and time alone has to do.
pub(crate) async fn keep(
    mut client: impl Client,
    socket: &Path,
    backoff: Backoff,
    mut appeared: watch::Receiver<()>,
    out: &Out,
) {
    let mut delays = backoff.delays();
    let mut told = false;
    loop {
        appeared.mark_unchanged();
        let (reason, reached) = match client.connection(out).await {
            Ended::Unheard => return,
            Ended::Lost { reason, reached } => (reason, reached),
        };
        tracing::debug!(socket = %socket.display(), error = %reason, "no connection");
        if reached == Reached::Synced {
            delays = backoff.delays();
        }
        told &= reached == Reached::Nothing;
        if !told {
            if out.disconnected(reason).await.is_err() {
                return;
            }
            told = true;
        }
        let mut noticed = true;
        while noticed && !socket.exists() {
            noticed = appeared.changed().await.is_ok();
        }
        if let Some(delay) = delays.next() {
            tokio::time::sleep(delay).await;
        }
    }
}
