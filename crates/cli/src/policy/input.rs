// SPDX-License-Identifier: Apache-2.0
//! Policy files, for the commands that need valid policies.
//!
//! [`load`] gives all policies of all files or an error that names everything that keeps it from
//! that: an answer about the policies that happen to be valid would be an answer to another
//! question. The texts are kept ([`Texts`]), so that answers can show the lines that they are about.
//!
//! `KubeArmorNetworkPolicy` has no part in these answers; that is said on standard error.

use anyhow::{Context, bail};
use gorget_policy::{Location, Policy, ProblemSeverity, parse};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Lines of one rule that are shown.
const MOST_LINES: usize = 20;

/// Valid policies and where they come from.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) policies: Vec<Arc<Policy>>,
    pub(super) texts: Texts,
}

/// Texts of files, by the name that places have.
#[derive(Debug, Default)]
pub(super) struct Texts(BTreeMap<String, String>);

impl Texts {
    /// The lines from a place to a line, with their numbers.
    pub(super) fn lines(&self, at: &Location, last: u32) -> Vec<(u32, &str)> {
        let Some(text) = self.0.get(&*at.file) else {
            return Vec::new();
        };
        (1..)
            .zip(text.trim_start_matches('\u{feff}').lines())
            .skip_while(|(number, _)| *number < at.line)
            .take_while(|(number, _)| *number <= last)
            .take(MOST_LINES)
            .collect()
    }
}

/// Reads files, and directories to their end.
pub(super) fn load(paths: &[PathBuf]) -> anyhow::Result<Loaded> {
    loaded(texts(paths)?)
}

/// Reads texts with names.
pub(super) fn loaded(texts: Vec<(String, String)>) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut errors = Vec::new();
    let mut network_policies = 0;
    for (name, text) in texts {
        let parsed = parse(&name, &text);
        let problems = parsed.problems.iter();
        let wrong = problems.filter(|problem| problem.severity == ProblemSeverity::Error);
        errors.extend(wrong.map(ToString::to_string));
        network_policies += parsed.network_policies.len();
        loaded
            .policies
            .extend(parsed.policies.into_iter().map(Arc::new));
        loaded.texts.0.insert(name, text);
    }
    if !errors.is_empty() {
        bail!("the policies have errors:\n  {}", errors.join("\n  "));
    }
    if network_policies > 0 {
        writeln!(
            io::stderr(),
            "gorget: {network_policies} `KubeArmorNetworkPolicy` left aside: this is about what \
             programs do, not about packets"
        )?;
    }
    Ok(loaded)
}

/// Names and texts of files, and of all in directories.
pub(super) fn texts(paths: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for path in paths {
        let cannot = || format!("cannot read `{}`", path.display());
        for file in files(path).with_context(cannot)? {
            let name = file.display().to_string();
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read `{name}`"))?;
            texts.push((name, text));
        }
    }
    Ok(texts)
}

/// The path itself, or all policy files below it, sorted.
pub(super) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // A link to a directory could lead back here; one to a file is how Kubernetes mounts a
            // ConfigMap.
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if is_policy_file(&path) && !path.is_dir() {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        return Err(io::Error::other("no policy files in this directory"));
    }
    files.sort();
    Ok(files)
}

fn is_policy_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension == *known)
    })
}
