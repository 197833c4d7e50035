// SPDX-License-Identifier: Apache-2.0
//! An agent that serves a feed on a socket, and nothing else.

use gorget_telemetry::{Feeder, Limits, Services, bind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A feed that keeps events, until it is dropped.
pub(crate) struct Agent {
    pub(crate) feeder: Feeder,
    pub(crate) socket: PathBuf,
    /// Where the socket is, if nobody else keeps it.
    directory: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut agent = Self::start_at(directory.path().join("gorget.sock"));
        agent.directory = Some(directory);
        agent
    }

    pub(crate) fn start_at(socket: PathBuf) -> Self {
        let feeder = Feeder::new().with_history(Limits {
            events: 1_000,
            bytes: 1 << 20,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let (path, services) = (socket.clone(), Services::new(feeder.clone()));
        let server = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = bind(&path).unwrap();
                ready.send(()).unwrap();
                let stopped = async { drop(stopped.await) };
                services.serve(listener, stopped).await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self {
            feeder,
            socket,
            directory: None,
            stop: Some(stop),
            server: Some(server),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}
