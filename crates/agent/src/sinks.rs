// SPDX-License-Identifier: Apache-2.0
//! JSON lines to standard output or a file.
//!
//! A sink is a subscriber of the feed like any other: when it cannot write as fast as events come, it
//! loses its own and is told how many, and nothing else waits for it.

use crate::config::LogPath;
use crate::report::{Reporter, with_causes};
use gorget_telemetry::{Feeder, JsonSink};

/// The sink that the configuration asks for.
pub(crate) fn open(log: &LogPath) -> Option<JsonSink> {
    match log {
        LogPath::None => None,
        LogPath::Stdout => Some(JsonSink::stdout()),
        LogPath::File(path) => Some(JsonSink::file(path.clone())),
    }
}

/// Writes every event until the feed ends. A failure to write is reported when it begins and when
/// it ends.
pub(crate) async fn run(mut sink: JsonSink, feeder: Feeder, reporter: Reporter) {
    let mut events = feeder.subscribe();
    let mut failing = false;
    while let Some(event) = events.next().await {
        match sink.write(&event) {
            Ok(()) if failing => {
                failing = false;
                reporter.info("alerts are written again");
            }
            Ok(()) => {}
            Err(error) if !failing => {
                failing = true;
                reporter.error(format!("alerts are not written: {}", with_causes(&error)));
            }
            Err(_) => {}
        }
    }
}
