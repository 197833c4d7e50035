// SPDX-License-Identifier: Apache-2.0
//! When a file of JSON lines is put aside for a new one, and what becomes of those that were.
//!
//! INVARIANT: no line is lost at a rotation. A file is put aside by its name alone, between two lines;
//! when that fails, writing goes on in it. What was put aside is compressed elsewhere ([`Archive::run`]),
//! and removed only when the compressed file is whole and on the disk: whoever is killed in between leaves
//! both or the first, and the next agent goes on from there.
//!
//! Time is the events' own, so that a file in which nothing is written is not put aside.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::UNIX_EPOCH;

const MICROS: i64 = 1_000_000;
/// Digits of a time in the name of a file that was put aside: until the year 2286 they sort by time.
const DIGITS: usize = 16;
const COMPRESSED: &str = "gz";
/// What is being compressed.
const PART: &str = "part";

/// When a file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// At the line that would make it longer; one line can be longer.
    pub max_bytes: Option<u64>,
    /// At the line that comes so many seconds after the first.
    pub max_age: Option<i64>,
    /// Files put aside that are kept; the oldest go first.
    pub keep: usize,
    /// They are compressed with gzip.
    pub compress: bool,
}

/// Decides when, and puts aside.
#[derive(Debug)]
pub(crate) struct Rotator {
    rotation: Rotation,
    aside: Sender<()>,
    /// When the first line of the file was written.
    began: Option<i64>,
    bytes: u64,
    last_name: i64,
    /// Bytes after which it is tried again, when putting aside failed.
    again_at: u64,
}

/// What was put aside: compresses it and removes what is too much.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    rotation: Rotation,
    put_aside: Receiver<()>,
}

impl Rotator {
    pub(crate) fn new(path: PathBuf, rotation: Rotation) -> (Self, Archive) {
        let (aside, put_aside) = channel();
        let rotator = Self {
            rotation,
            aside,
            began: None,
            bytes: 0,
            last_name: 0,
            again_at: 0,
        };
        let archive = Archive {
            path,
            rotation,
            put_aside,
        };
        (rotator, archive)
    }

    /// A file was opened, new or with lines of before.
    pub(crate) fn opened(&mut self, file: &Metadata) {
        self.bytes = file.len();
        self.again_at = 0;
        let began = file.created().or_else(|_unknown| file.modified());
        let since = began.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        self.began = since
            .filter(|_| self.bytes > 0)
            .and_then(|since| i64::try_from(since.as_micros()).ok());
    }

    pub(crate) fn wrote(&mut self, bytes: usize, unix_micros: i64) {
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.began.get_or_insert(unix_micros);
    }

    /// Whether the file is to be put aside before a line is written.
    pub(crate) fn is_due(&self, line: usize, unix_micros: i64) -> bool {
        let line = u64::try_from(line).unwrap_or(u64::MAX);
        let full = self
            .rotation
            .max_bytes
            .is_some_and(|max| self.bytes > 0 && self.bytes.saturating_add(line) > max);
        let old = self
            .rotation
            .max_age
            .zip(self.began)
            .is_some_and(|(max, began)| {
                unix_micros.saturating_sub(began) >= max.saturating_mul(MICROS)
            });
        (full || old) && self.bytes >= self.again_at
    }

    /// Gives the file a name of its own.
    pub(crate) fn put_aside(&mut self, path: &Path, unix_micros: i64) -> io::Result<()> {
        let mut name = unix_micros.max(self.last_name + 1).max(0);
        while aside(path, name).exists() || compressed(&aside(path, name)).exists() {
            name += 1;
        }
        self.last_name = name;
        match fs::rename(path, aside(path, name)) {
            Ok(()) => {
                // Without anybody who compresses, files are kept as they are.
                let (Ok(()) | Err(_)) = self.aside.send(());
                Ok(())
            }
            Err(error) => {
                let some = self.rotation.max_bytes.unwrap_or(1 << 20) / 16;
                self.again_at = self.bytes.saturating_add(some.max(1));
                Err(error)
            }
        }
    }
}

fn aside(path: &Path, unix_micros: i64) -> PathBuf {
    with_suffix(path, &format!("{unix_micros:0DIGITS$}"))
}

fn compressed(path: &Path) -> PathBuf {
    with_suffix(path, COMPRESSED)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

impl Archive {
    /// Compresses and removes, now and whenever a file was put aside, until nobody writes any more.
    /// What goes wrong is said by `report`, and tried again the next time.
    pub fn run(self, report: impl Fn(String)) {
        loop {
            if let Err(error) = self.tidy() {
                let path = self.path.display();
                report(format!("what was put aside of `{path}`: {error}"));
            }
            if self.put_aside.recv().is_err() {
                return;
            }
            while self.put_aside.try_recv().is_ok() {}
        }
    }

    fn tidy(&self) -> io::Result<()> {
        let files = self.files()?;
        let too_many = files.len().saturating_sub(self.rotation.keep);
        for file in files.iter().take(too_many) {
            fs::remove_file(file)?;
        }
        if self.rotation.compress {
            let plain = files.iter().skip(too_many);
            for file in plain.filter(|file| file.extension().is_none_or(|it| it != COMPRESSED)) {
                compress(file)?;
            }
        }
        Ok(())
    }

    /// What was put aside, the oldest first; of what is there in both forms only the first, which is
    /// whole.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let directory = match self.path.parent() {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        };
        let own = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let rest = name.strip_prefix(own.as_ref());
            let time = rest.and_then(|rest| rest.strip_prefix('.')).unwrap_or("");
            let time = time.strip_suffix(".gz").unwrap_or(time);
            if time.len() == DIGITS && time.bytes().all(|byte| byte.is_ascii_digit()) {
                files.push(path);
            }
        }
        files.sort();
        let doubles: Vec<_> = files.iter().map(|file| compressed(file)).collect();
        files.retain(|file| !doubles.contains(file));
        Ok(files)
    }
}

/// Makes a compressed file of a file.
fn compress(file: &Path) -> io::Result<()> {
    let whole = compressed(file);
    let part = with_suffix(&whole, PART);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o640);
    let mut encoder = GzEncoder::new(options.open(&part)?, Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&part, &whole)?;
    if let Some(directory) = whole.parent() {
        File::open(directory)?.sync_all()?;
    }
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    const ROTATION: Rotation = Rotation {
        max_bytes: Some(100),
        max_age: Some(60),
        keep: 2,
        compress: true,
    };

    #[test]
    fn a_file_is_due_by_size_and_by_the_age_of_its_first_line() {
        let (mut rotator, _archive) = Rotator::new(PathBuf::from("/x"), ROTATION);
        assert!(!rotator.is_due(1_000, 0));
        rotator.wrote(60, 0);
        assert!(!rotator.is_due(40, 59_999_999));
        assert!(rotator.is_due(41, 0));
        assert!(rotator.is_due(1, 60_000_000));
    }

    #[test]
    fn what_was_put_aside_is_compressed_and_the_oldest_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.json");
        let (mut rotator, archive) = Rotator::new(path.clone(), ROTATION);
        for text in ["one\n", "two\n", "three\n"] {
            fs::write(&path, text).unwrap();
            // All at the same time.
            rotator.put_aside(&path, 7).unwrap();
        }
        // Of the last one a killed agent had made a part.
        fs::write(dir.path().join("alerts.json.0000000000000009.gz.part"), "x").unwrap();
        fs::write(dir.path().join("alerts.json.bak"), "somebody else's").unwrap();
        drop(rotator);
        archive.run(|problem| panic!("{problem}"));
        let read = |name: &str| {
            let mut text = String::new();
            let file = File::open(dir.path().join(name)).unwrap();
            GzDecoder::new(file).read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read("alerts.json.0000000000000008.gz"), "two\n");
        assert_eq!(read("alerts.json.0000000000000009.gz"), "three\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_compressed_file_beside_its_whole_original_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.json");
        let (rotator, archive) = Rotator::new(path, ROTATION);
        let plain = dir.path().join("alerts.json.0000000000000001");
        fs::write(&plain, "one\n").unwrap();
        fs::write(compressed(&plain), "not whole").unwrap();
        drop(rotator);
        archive.run(|problem| panic!("{problem}"));
        assert!(!plain.exists());
        let mut text = String::new();
        let file = File::open(compressed(&plain)).unwrap();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
    }
}
