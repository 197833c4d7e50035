// SPDX-License-Identifier: Apache-2.0
//! JSON lines to standard output or a file.
//!
//! A file that was moved away or removed is made anew at the next write, so that log rotation needs
//! no signal.

use crate::json;
use gorget_model::Event;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where lines are written.
#[derive(Debug)]
pub struct JsonSink {
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout,
    File { path: PathBuf, open: Option<File> },
}

/// A line was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to `{target}`")]
pub struct WriteError {
    target: String,
    #[source]
    source: io::Error,
}

impl JsonSink {
    /// Standard output.
    pub fn stdout() -> Self {
        Self {
            target: Target::Stdout,
        }
    }

    /// A file, mode 0640, which is appended to.
    pub fn file(path: PathBuf) -> Self {
        Self {
            target: Target::File { path, open: None },
        }
    }

    /// Writes one event as one line.
    ///
    /// # Errors
    ///
    /// When it cannot be written whole; the next one is tried again.
    pub fn write(&mut self, event: &Event) -> Result<(), WriteError> {
        let mut line = json::line(event);
        line.push('\n');
        match &mut self.target {
            Target::Stdout => write_stdout(&line).map_err(|source| WriteError {
                target: "standard output".to_owned(),
                source,
            }),
            Target::File { path, open } => {
                write_file(path, open, &line).map_err(|source| WriteError {
                    target: path.display().to_string(),
                    source,
                })
            }
        }
    }
}

fn write_stdout(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

fn write_file(path: &Path, open: &mut Option<File>, line: &str) -> io::Result<()> {
    let still_there = match (open.as_ref(), fs::metadata(path)) {
        (Some(file), Ok(there)) => {
            let ours = file.metadata()?;
            (ours.dev(), ours.ino()) == (there.dev(), there.ino())
        }
        _ => false,
    };
    if !still_there {
        *open = None;
    }
    let file = match open {
        Some(file) => file,
        None => open.insert(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path)?,
        ),
    };
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::{Level, Message, Node};
    use std::sync::Arc;

    fn event(text: &str) -> Event {
        Event::Message(Message {
            unix_micros: 0,
            node: Arc::new(Node::default()),
            level: Level::Info,
            text: text.to_owned(),
        })
    }

    #[test]
    fn a_file_that_was_rotated_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.json");
        let mut sink = JsonSink::file(path.clone());
        sink.write(&event("one")).unwrap();
        fs::rename(&path, dir.path().join("alerts.json.1")).unwrap();
        sink.write(&event("two")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("two"));
        assert!(!fs::read_to_string(&path).unwrap().contains("one"));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/alerts.json");
        let error = JsonSink::file(path.clone()).write(&event("x")).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
}
