// SPDX-License-Identifier: Apache-2.0
//! What becomes of policies that people have written: a line for each file of a corpus.
//!
//! `testdata/corpus.expected` is about 485 published policies, which are in
//! `../shared/corpus/policy-templates` beside the repository, or where `GORGET_CORPUS` says; where
//! they are not, only the table's totals are checked. `testdata/corpus/` are files of the same sorts
//! that are always there. A line says what the file gives and, when something in it is refused, the
//! first error; every error must be about something that really is in the file.
//! After a wanted change: `UPDATE_EXPECT=1 cargo test -p gorget-policy --test corpus`, then read the
//! difference.
#![cfg(test)]

use expect_test::expect_file;
use gorget_policy::{Parsed, ProblemSeverity, parse};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// What became of the files of a corpus.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    files: usize,
    loaded: usize,
    refused: usize,
    policies: usize,
    warnings: usize,
}

impl Totals {
    fn line(&self) -> String {
        let Self {
            files,
            loaded,
            refused,
            policies,
            warnings,
        } = self;
        format!(
            "{files} files: {loaded} loaded, {refused} refused; {policies} policies, {warnings} warnings\n"
        )
    }
}

/// One line for each file, and the totals.
fn table(directory: &Path) -> String {
    let mut files = Vec::new();
    collect(directory, &mut files);
    files.sort();
    let mut totals = Totals::default();
    let mut table = String::new();
    for file in files {
        let name = file.strip_prefix(directory).unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let Parsed {
            policies,
            network_policies,
            problems,
        } = parse(name, &text);
        let (errors, warnings): (Vec<_>, Vec<_>) = problems
            .iter()
            .partition(|problem| problem.severity == ProblemSeverity::Error);
        let count = policies.len() + network_policies.len();
        totals.files += 1;
        totals.policies += count;
        totals.warnings += warnings.len();
        write!(table, "{name}: {count}").unwrap();
        if !warnings.is_empty() {
            write!(table, ", {} warnings", warnings.len()).unwrap();
        }
        match errors.first() {
            None => totals.loaded += 1,
            Some(error) => {
                totals.refused += 1;
                let place = format!("{name}:{}:{}: error: ", error.at.line, error.at.column);
                let shown = error.to_string();
                let reason = shown.strip_prefix(&place).unwrap();
                write!(
                    table,
                    "; {} errors, {}:{}: {reason}",
                    errors.len(),
                    error.at.line,
                    error.at.column
                )
                .unwrap();
            }
        }
        table.push('\n');
    }
    format!("{}{table}", totals.line())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path);
        }
    }
}

#[test]
fn every_published_policy_loads_or_is_refused_for_a_reason_in_the_file() {
    let expected = format!("{MANIFEST}/testdata/corpus.expected");
    let corpus = std::env::var_os("GORGET_CORPUS").map_or_else(
        || Path::new(MANIFEST).join("../../../shared/corpus/policy-templates"),
        PathBuf::from,
    );
    if corpus.is_dir() {
        expect_file![&expected].assert_eq(&table(&corpus));
    }
    // Whatever is there: the table's own totals must be those of its lines.
    let text = std::fs::read_to_string(&expected).unwrap();
    let (first, lines) = text.split_once('\n').unwrap();
    let refused = lines.lines().filter(|line| line.contains(" errors, "));
    let (files, refused) = (lines.lines().count(), refused.count());
    let counts = format!(
        "{files} files: {} loaded, {refused} refused; ",
        files - refused
    );
    assert!(first.starts_with(&counts), "{first}");
}

#[test]
fn every_sort_of_file_that_people_write_is_judged() {
    let table = table(Path::new(&format!("{MANIFEST}/testdata/corpus")));
    expect_file![format!("{MANIFEST}/testdata/corpus-own.expected")].assert_eq(&table);
}
