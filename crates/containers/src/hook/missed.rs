// SPDX-License-Identifier: Apache-2.0
//! Counting the containers whose rules were not known to be in force, across the agent's death.
//!
//! The hook adds a line for each to a file; the agent takes the file's content when it starts, and
//! later. Both hold a lock on it meanwhile, so none is lost or counted twice.

use super::WhenDown;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The longest id that is written down; runtimes' own have 64 characters.
const ID_LIMIT: usize = 128;
/// From this size on, containers are counted without their ids, in two bytes each.
const IDS_LIMIT: u64 = 1 << 20;
/// How many ids are told.
const TOLD: usize = 8;
const OPEN: char = 'o';
const CLOSED: char = 'c';

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Containers that were started all the same.
    pub started: usize,
    /// Containers that were not.
    pub refused: usize,
    /// Ids of the first few.
    pub ids: Vec<String>,
}

fn options() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).append(true).mode(0o600);
    options
}

/// Counts a container.
///
/// # Errors
///
/// When the file cannot be written.
pub fn count(file: &Path, id: &str, became: WhenDown) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = options().create(true).open(file)?;
    file.lock()?;
    let mark = match became {
        WhenDown::Open => OPEN,
        WhenDown::Closed => CLOSED,
    };
    let id: String = match file.metadata()?.len() {
        0..IDS_LIMIT => id
            .chars()
            .filter(|c| !c.is_control())
            .take(ID_LIMIT)
            .collect(),
        _ => String::new(),
    };
    file.write_all(format!("{mark}{id}\n").as_bytes())
}

/// Takes what was counted; the next counting begins at nothing.
///
/// # Errors
///
/// When the file cannot be read or emptied; then nothing is taken.
pub fn take(file: &Path) -> io::Result<Missed> {
    let mut file = match options().open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Missed::default()),
        Err(error) => return Err(error),
    };
    file.lock()?;
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    if !text.is_empty() {
        file.set_len(0)?;
    }
    let mut missed = Missed::default();
    for line in String::from_utf8_lossy(&text).lines() {
        let id = match (line.strip_prefix(OPEN), line.strip_prefix(CLOSED)) {
            (Some(id), _) => {
                missed.started += 1;
                id
            }
            (None, Some(id)) => {
                missed.refused += 1;
                id
            }
            (None, None) => continue,
        };
        if missed.ids.len() < TOLD && !id.is_empty() {
            missed.ids.push(id.to_owned());
        }
    }
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made/missed");
        assert_eq!(take(&file).unwrap(), Missed::default());
        count(&file, "web", WhenDown::Open).unwrap();
        count(&file, "db\nc", WhenDown::Closed).unwrap();
        let expected = Missed {
            started: 1,
            refused: 1,
            ids: vec!["web".to_owned(), "dbc".to_owned()],
        };
        assert_eq!(take(&file).unwrap(), expected);
        assert_eq!(take(&file).unwrap(), Missed::default());
    }

    #[test]
    fn counting_goes_on_in_a_file_that_is_full_of_ids() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("missed");
        fs::write(&file, "o1234567\n".repeat(120_000)).unwrap();
        count(&file, "web", WhenDown::Closed).unwrap();
        let missed = take(&file).unwrap();
        assert_eq!((missed.started, missed.refused), (120_000, 1));
        assert_eq!(missed.ids.len(), TOLD);
    }

    #[test]
    fn concurrent_counting_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("missed");
        let mut taken = 0;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        count(&file, "x", WhenDown::Open).unwrap();
                    }
                });
            }
            while taken < 150 {
                taken += take(&file).unwrap().started;
            }
        });
        taken += take(&file).unwrap().started;
        assert_eq!(taken, 200);
    }
}
