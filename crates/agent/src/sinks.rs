// SPDX-License-Identifier: Apache-2.0
//! JSON lines to standard output or a file.
//!
//! A file keeps everything: an event is in it before it leaves the kernel's buffer, so that the next
//! agent gets what a killed one had not written. Standard output is a subscriber of the feed like any
//! other, because whoever reads it may be slow: it loses its own and is told how many, and nothing else
//! waits for it.

use crate::clock;
use crate::enforcer::lock;
use crate::outputs::{Output, Outputs};
use crate::tasks::thread;
use gorget_model::with_causes;
use gorget_model::{Event, Level, Message, Node};
use gorget_telemetry::{Delivery, Feeder, JsonSink, Rotation};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Writes to a sink, and knows what it could not write.
#[derive(Debug)]
struct Writer {
    sink: JsonSink,
    /// Events since writing began to fail.
    unwritten: u64,
    node: Arc<Node>,
    output: Output,
}

/// A feeder whose events are all in a file.
pub(crate) fn feeder_with_file(
    path: &Path,
    rotation: Option<Rotation>,
    node: Arc<Node>,
    outputs: &Outputs,
) -> io::Result<Feeder> {
    let output = outputs.add("file", &path.display().to_string());
    let sink = match rotation {
        None => JsonSink::file(path.to_owned()),
        Some(rotation) => {
            let (sink, archive) = JsonSink::rotating_file(path.to_owned(), rotation);
            // Ends with the sink. What it is at then, the next agent goes on with.
            thread("archive", move || {
                archive.run(|problem| tracing::error!("{problem}"));
            })?;
            sink
        }
    };
    let writer = Mutex::new(Writer::new(sink, node, output));
    Ok(Feeder::kept_by(move |event| lock(&writer).write(event)))
}

/// Writes every event to standard output until the feed ends.
pub(crate) async fn to_stdout(feeder: Feeder, node: Arc<Node>, output: Output) {
    let mut events = feeder.subscribe("stdout");
    let mut writer = Writer::new(JsonSink::stdout(), node, output);
    while let Some(delivery) = events.next().await {
        let event = match delivery {
            Delivery::Event(event) => event,
            Delivery::Lost(lost) => Arc::new(Event::Message(lost.message())),
        };
        // What cannot be written to standard output is said on standard error, and to the others.
        if let Some(remark) = writer.write(&event) {
            feeder.publish(remark);
        }
    }
}

impl Writer {
    fn new(sink: JsonSink, node: Arc<Node>, output: Output) -> Self {
        Self {
            sink,
            unwritten: 0,
            node,
            output,
        }
    }

    /// A failure is reported when it begins and, with how much is missing, when it ends.
    fn write(&mut self, event: &Event) -> Option<Event> {
        let (level, text) = match self.sink.write(event) {
            Ok(()) if self.unwritten == 0 => match self.sink.take_problem() {
                None => return None,
                Some(problem) => {
                    let text = format!("the log grows on: {}", with_causes(&problem));
                    tracing::error!("{text}");
                    (Level::Error, text)
                }
            },
            Ok(()) => {
                let missing = std::mem::take(&mut self.unwritten);
                self.output.works();
                let text = format!("events are written again, {missing} are missing");
                tracing::warn!("{text}");
                (Level::Warn, text)
            }
            Err(error) => {
                self.output.fails(&with_causes(&error), 1);
                self.unwritten += 1;
                if self.unwritten > 1 {
                    return None;
                }
                let text = format!("events are not written: {}", with_causes(&error));
                tracing::error!("{text}");
                (Level::Error, text)
            }
        };
        Some(Event::Message(Message {
            unix_micros: clock::unix_micros(),
            node: Arc::clone(&self.node),
            level,
            text,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_is_counted_and_said_when_it_can_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/alerts.json");
        let outputs = Outputs::default();
        let output = outputs.add("file", "alerts.json");
        let mut writer = Writer::new(JsonSink::file(path.clone()), Arc::default(), output);
        let event = Event::Message(Message {
            unix_micros: 0,
            node: Arc::default(),
            level: Level::Info,
            text: "something".to_owned(),
        });
        let said = |remark: Option<Event>| match remark {
            Some(Event::Message(message)) => message.text,
            Some(Event::Alert(_) | Event::Log(_) | Event::Threshold(_)) | None => String::new(),
        };
        assert!(said(writer.write(&event)).contains("events are not written"));
        assert_eq!(writer.write(&event), None);
        assert!(outputs.told()[0].error.contains("alerts.json"));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        assert!(said(writer.write(&event)).contains("2 are missing"));
        assert_eq!(writer.write(&event), None);
        let told = &outputs.told()[0];
        assert_eq!((told.error.as_str(), told.lost), ("", 2));
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
    }
}
