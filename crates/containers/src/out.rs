// SPDX-License-Identifier: Apache-2.0
//! Where the client of one runtime tells what it learned.

use crate::Change;
use tokio::sync::mpsc::Sender;

/// Number of a runtime on this machine, in the order in which they were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source(pub(crate) usize);

/// Nobody listens any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody listens")]
pub(crate) struct Unheard;

/// The sending end of one runtime's client.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    source: Source,
    /// What people call the runtime.
    name: String,
    sender: Sender<(Source, Change)>,
}

impl Out {
    pub(crate) fn new(source: Source, name: String, sender: Sender<(Source, Change)>) -> Self {
        Self {
            source,
            name,
            sender,
        }
    }

    pub(crate) async fn connected(&self, runtime: String) -> Result<(), Unheard> {
        let name = self.name.clone();
        self.tell(Change::Connected { name, runtime }).await
    }

    pub(crate) async fn disconnected(&self, reason: String) -> Result<(), Unheard> {
        let name = self.name.clone();
        self.tell(Change::Disconnected { name, reason }).await
    }

    /// Waits until there is room.
    pub(crate) async fn tell(&self, change: Change) -> Result<(), Unheard> {
        let told = self.sender.send((self.source, change)).await;
        told.map_err(|_closed| Unheard)
    }
}
