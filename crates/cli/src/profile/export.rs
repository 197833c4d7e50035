// SPDX-License-Identifier: Apache-2.0
//! The table as a file.
//!
//! A file that is there is never written to: whoever runs this as root in a directory of others must not be
//! led elsewhere by a link.

use super::model::{Format, Model, Row};
use crate::activity::{Kind, Tally};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Names that are tried.
const MOST_FILES: u32 = 1_000;

#[derive(Serialize)]
struct Written<'a> {
    kind: Kind,
    workload: &'a str,
    source: &'a str,
    resource: &'a str,
    #[serde(flatten)]
    tally: Tally,
}

/// Writes the rows that are shown to a new file, and says which.
pub(super) fn export(model: &Model, format: Format, directory: &Path) -> io::Result<PathBuf> {
    let (rows, kind) = (model.rows(), model.tab());
    let (text, extension) = match format {
        Format::Json => (json(&rows, kind)?, "json"),
        Format::Csv => (csv(&rows, kind), "csv"),
    };
    for number in 1..=MOST_FILES {
        let path = directory.join(format!("gorget-profile-{number}.{extension}"));
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!(
        "there are {MOST_FILES} such files already"
    )))
}

fn json(rows: &[Row], kind: Kind) -> io::Result<String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| Written {
            kind,
            workload: &row.workload,
            source: &row.source,
            resource: &row.resource,
            tally: row.tally,
        })
        .collect();
    Ok(serde_json::to_string_pretty(&rows)? + "\n")
}

/// As in RFC 4180, every text in quotes.
fn csv(rows: &[Row], kind: Kind) -> String {
    let mut text = "kind,workload,source,resource,count,failed,alerts,denied\r\n".to_owned();
    for row in rows {
        let quoted = [&row.workload, &row.source, &row.resource]
            .map(|text| format!("\"{}\"", text.replace('"', "\"\"")));
        let Tally {
            count,
            failed,
            alerts,
            denied,
        } = row.tally;
        let (kind, texts) = (kind.name(), quoted.join(","));
        text.push_str(&format!(
            "{kind},{texts},{count},{failed},{alerts},{denied}\r\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::model::tests::model;
    use std::fs;

    #[test]
    fn rows_are_written_to_a_new_file_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let one = export(&model(), Format::Csv, directory.path()).unwrap();
        let two = export(&model(), Format::Csv, directory.path()).unwrap();
        assert_ne!(one, two);
        let text = fs::read_to_string(one).unwrap();
        let mut lines = text.split("\r\n");
        assert_eq!(
            lines.next(),
            Some("kind,workload,source,resource,count,failed,alerts,denied")
        );
        assert_eq!(
            lines.next(),
            Some("file,\"shop/web\",\"/usr/bin/cat\",\"/etc/motd\",120,0,0,0")
        );
        let json = export(&model(), Format::Json, directory.path()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 4);
        assert_eq!(json[0]["count"], 120);
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let link = directory.path().join("gorget-profile-1.json");
        std::os::unix::fs::symlink(&target, link).unwrap();
        let written = export(&model(), Format::Json, directory.path()).unwrap();
        assert!(written.ends_with("gorget-profile-2.json"));
        assert!(!target.exists());
    }

    #[test]
    fn quotes_in_texts_are_doubled() {
        let row = Row {
            resource: "a\"b,c".to_owned(),
            ..Row::default()
        };
        assert!(csv(&[row], Kind::File).contains(",\"a\"\"b,c\",0"));
    }
}
