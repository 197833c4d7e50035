// SPDX-License-Identifier: Apache-2.0
//! Every task and thread of the agent is started here, has a name, and its end is handled.

use std::future::Future;
use std::io;
use std::thread::{Builder, JoinHandle};
use tokio::task::JoinSet;

/// The tasks of the tokio runtime.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: JoinSet<&'static str>,
}

impl Tasks {
    /// Starts a task that should run until the agent stops.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.running.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until one ends, which none should, and says which and how.
    pub(crate) async fn ended(&mut self) -> String {
        match self.running.join_next().await {
            Some(Ok(name)) => format!("`{name}` ended"),
            Some(Err(error)) => format!("a task failed: {error}"),
            None => "there are no tasks".to_owned(),
        }
    }

    /// Ends all.
    pub(crate) async fn stop(mut self) {
        self.running.shutdown().await;
    }
}

/// Tasks that end by themselves. They end with this at the latest.
#[derive(Debug, Default)]
pub(crate) struct Brief {
    running: JoinSet<()>,
}

impl Brief {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.running.try_join_next() {
            if let Err(error) = ended {
                tracing::error!("a task failed: {error}");
            }
        }
        self.running.spawn(task);
    }
}

/// Starts a thread.
pub(crate) fn thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(body)
}
