// SPDX-License-Identifier: Apache-2.0
//! JSON lines to standard output or a file.
//!
//! A file is put aside for a new one when it is long or old enough, if that is asked for ([`Rotation`]).
//! One that was moved away or removed is made anew at the next write, so that log rotation needs no
//! signal.
//!
//! INVARIANT: a line is written whole or not at all. What a killed agent or a full disk left of one is cut
//! off before the next is written: whoever wrote it has not said that it was, so that it comes again or is
//! counted as lost.

use crate::json;
use crate::rotation::{Archive, Rotation, Rotator};
use gorget_model::Event;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longer lines than any that is written.
const LONGEST: u64 = 1 << 20;

/// Where lines are written.
#[derive(Debug)]
pub struct JsonSink {
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout,
    File(Box<Lines>),
}

/// A file of lines.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    open: Option<File>,
    rotator: Option<Rotator>,
    problem: Option<WriteError>,
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
            target: Target::File(Box::new(Lines::new(path, None))),
        }
    }

    /// The same, which is put aside for a new one from time to time; and who deals with those that were.
    pub fn rotating_file(path: PathBuf, rotation: Rotation) -> (Self, Archive) {
        let (rotator, archive) = Rotator::new(path.clone(), rotation);
        let target = Target::File(Box::new(Lines::new(path, Some(rotator))));
        (Self { target }, archive)
    }

    /// Why the file could not be put aside, if it should have been: once for each time.
    pub fn take_problem(&mut self) -> Option<WriteError> {
        match &mut self.target {
            Target::Stdout => None,
            Target::File(lines) => lines.problem.take(),
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
            Target::File(lines) => {
                lines
                    .write(&line, event.unix_micros())
                    .map_err(|source| WriteError {
                        target: lines.path.display().to_string(),
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

impl Lines {
    fn new(path: PathBuf, rotator: Option<Rotator>) -> Self {
        Self {
            path,
            open: None,
            rotator,
            problem: None,
        }
    }

    fn write(&mut self, line: &str, unix_micros: i64) -> io::Result<()> {
        self.find()?;
        if let Some(rotator) = &mut self.rotator
            && rotator.is_due(line.len(), unix_micros)
        {
            match rotator.put_aside(&self.path, unix_micros) {
                Ok(()) => {
                    self.open = None;
                    self.find()?;
                }
                Err(source) => {
                    self.problem = Some(WriteError {
                        target: format!("{} (putting it aside)", self.path.display()),
                        source,
                    });
                }
            }
        }
        let Some(file) = &mut self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(line.as_bytes()) {
            // Opening it again cuts off what was written.
            self.open = None;
            return Err(error);
        }
        if let Some(rotator) = &mut self.rotator {
            rotator.wrote(line.len(), unix_micros);
        }
        Ok(())
    }

    /// Has the file open that is there under its name.
    fn find(&mut self) -> io::Result<()> {
        if let (Some(file), Ok(there)) = (&self.open, fs::metadata(&self.path)) {
            let ours = file.metadata()?;
            if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
                return Ok(());
            }
        }
        self.open = None;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        let file = options.open(&self.path)?;
        cut_torn_line(&file, &self.path)?;
        if let Some(rotator) = &mut self.rotator {
            rotator.opened(&file.metadata()?);
        }
        self.open = Some(file);
        Ok(())
    }
}

/// Has a file of lines end with a whole one. What is no file of lines is left as it is.
fn cut_torn_line(file: &File, path: &Path) -> io::Result<()> {
    let metadata = file.metadata()?;
    let length = metadata.len();
    if !metadata.is_file() || length == 0 {
        return Ok(());
    }
    let from = length.saturating_sub(LONGEST);
    let mut end = vec![0; usize::try_from(length - from).unwrap_or(usize::MAX)];
    File::open(path)?.read_exact_at(&mut end, from)?;
    let torn = end.iter().rev().take_while(|byte| **byte != b'\n').count();
    let whole = length.saturating_sub(u64::try_from(torn).unwrap_or(u64::MAX));
    if torn == 0 || (whole == from && from > 0) {
        return Ok(());
    }
    file.set_len(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use gorget_model::{Level, Message, Node};
    use std::io::Read as _;
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
    fn what_a_killed_agent_wrote_of_a_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        for (before, whole) in [
            ("{\"a\":1}\n{\"b\":", "{\"a\":1}\n"),
            ("{\"a\":1}\n", "{\"a\":1}\n"),
            ("{\"b\":", ""),
            ("", ""),
        ] {
            let path = dir.path().join("alerts.json");
            fs::write(&path, before).unwrap();
            JsonSink::file(path.clone()).write(&event("next")).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let rest = text.strip_prefix(whole).unwrap();
            assert!(rest.starts_with('{') && rest.ends_with("}\n"), "{text}");
            assert_eq!(rest.lines().count(), 1, "{text}");
        }
        // Nothing of this is a line of ours.
        let path = dir.path().join("large");
        let large = "x".repeat(usize::try_from(LONGEST).unwrap() + 1);
        fs::write(&path, &large).unwrap();
        JsonSink::file(path.clone()).write(&event("next")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with(&large));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/alerts.json");
        let error = JsonSink::file(path.clone()).write(&event("x")).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }

    #[test]
    fn no_line_is_lost_at_rotations_and_each_file_is_at_most_as_long_as_it_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.json");
        let rotation = Rotation {
            max_bytes: Some(1_000),
            max_age: None,
            keep: 1_000,
            compress: true,
        };
        let (mut sink, archive) = JsonSink::rotating_file(path, rotation);
        let compressing = std::thread::spawn(|| archive.run(|problem| panic!("{problem}")));
        for number in 0..500 {
            sink.write(&event(&format!("line {number:03}"))).unwrap();
            assert!(sink.take_problem().is_none());
        }
        drop(sink);
        compressing.join().unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        // The file itself has the shortest name and the last lines.
        names.rotate_left(1);
        let mut all = String::new();
        for name in &names {
            let mut text = String::new();
            let file = File::open(name).unwrap();
            match name.extension().unwrap() == "gz" {
                true => GzDecoder::new(file).read_to_string(&mut text).unwrap(),
                false => io::BufReader::new(file).read_to_string(&mut text).unwrap(),
            };
            assert!(text.len() <= 1_000);
            all += &text;
        }
        assert!(names.len() > 10);
        for (number, line) in all.lines().enumerate() {
            assert!(line.contains(&format!("line {number:03}")), "{line}");
        }
        assert_eq!(all.lines().count(), 500);
    }

    #[test]
    fn lines_of_an_earlier_agent_count_and_what_cannot_be_put_aside_is_written_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.json");
        fs::write(&path, "x".repeat(989) + "\n").unwrap();
        let rotation = Rotation {
            max_bytes: Some(1_000),
            max_age: None,
            keep: 1,
            compress: false,
        };
        let (mut sink, _archive) = JsonSink::rotating_file(path.clone(), rotation);
        sink.write(&event("one")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with('{'));

        // A name that is too long for what is put aside, but not for the file.
        let path = dir.path().join("y".repeat(250));
        let (mut sink, _archive) = JsonSink::rotating_file(path.clone(), rotation);
        (0..20).for_each(|_| sink.write(&event("two")).unwrap());
        assert!(sink.take_problem().is_some());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 20);
    }
}
