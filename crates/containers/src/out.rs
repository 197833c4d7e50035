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
    sender: Sender<(Source, Change)>,
}

impl Out {
    pub(crate) fn new(source: Source, sender: Sender<(Source, Change)>) -> Self {
        Self { source, sender }
    }

    /// Waits until there is room.
    pub(crate) async fn tell(&self, change: Change) -> Result<(), Unheard> {
        let told = self.sender.send((self.source, change)).await;
        told.map_err(|_closed| Unheard)
    }
}
