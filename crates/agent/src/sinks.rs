// SPDX-License-Identifier: Apache-2.0
//! JSON lines to standard output or a file.
//!
//! A file is written before an alert leaves the kernel's buffer: what a killed agent had not written,
//! the next one gets again. Standard output is a subscriber of the feed like any other, because
//! whoever reads it may be slow: it loses its own and is told how many, and nothing else waits for it.

use crate::config::LogPath;
use crate::enforcer::lock;
use crate::report::{Reporter, with_causes};
use gorget_model::Event;
use gorget_telemetry::{Feeder, JsonSink};
use std::sync::{Arc, Mutex};

/// Where the configuration wants events written. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    writer: Arc<Mutex<Writer>>,
    is_file: bool,
}

#[derive(Debug)]
struct Writer {
    sink: JsonSink,
    /// Events since writing began to fail.
    unwritten: u64,
    reporter: Reporter,
}

impl Log {
    /// The sink that the configuration asks for.
    pub(crate) fn open(log: &LogPath, reporter: Reporter) -> Option<Self> {
        let (sink, is_file) = match log {
            LogPath::None => return None,
            LogPath::Stdout => (JsonSink::stdout(), false),
            LogPath::File(path) => (JsonSink::file(path.clone()), true),
        };
        let writer = Writer {
            sink,
            unwritten: 0,
            reporter,
        };
        Some(Self {
            writer: Arc::new(Mutex::new(writer)),
            is_file,
        })
    }

    /// Has an alert written before it is told to anybody, where that is possible.
    pub(crate) fn keep(&self, alert: &Event) {
        if self.is_file {
            lock(&self.writer).write(alert);
        }
    }

    /// Writes everything else until the feed ends.
    pub(crate) async fn run(self, feeder: Feeder) {
        let mut events = feeder.subscribe();
        while let Some(event) = events.next().await {
            if !(self.is_file && matches!(*event, Event::Alert(_))) {
                lock(&self.writer).write(&event);
            }
        }
    }
}

impl Writer {
    /// A failure is reported when it begins and, with how much is missing, when it ends.
    fn write(&mut self, event: &Event) {
        match self.sink.write(event) {
            Ok(()) if self.unwritten > 0 => {
                let missing = std::mem::take(&mut self.unwritten);
                self.reporter
                    .warn(format!("alerts are written again, {missing} are missing"));
            }
            Ok(()) => {}
            Err(error) => {
                if self.unwritten == 0 {
                    let why = with_causes(&error);
                    self.reporter
                        .error(format!("alerts are not written: {why}"));
                }
                self.unwritten += 1;
            }
        }
    }
}
