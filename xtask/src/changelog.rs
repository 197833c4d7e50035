// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask changelog VERSION`: fragments to a section of CHANGELOG.md.
//!
//! A change that users notice leaves one file in `changelog.d/`, named `<slug>.<kind>.md`: parallel
//! work would conflict in one file. The fragments are removed once they are in the changelog.

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Kinds of change, in the order of the changelog.
const KINDS: [(&str, &str); 6] = [
    ("added", "Added"),
    ("changed", "Changed"),
    ("fixed", "Fixed"),
    ("removed", "Removed"),
    ("security", "Security"),
    ("compat", "Compatibility"),
];

const HEAD: &str = "# Changelog\n";

pub(crate) fn run(version: &str) -> Result<u8> {
    let mut fragments: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let paths = fragments_in(Path::new("changelog.d"))?;
    if paths.is_empty() {
        bail!("there are no fragments in `changelog.d`");
    }
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = kind_of(&name).with_context(|| format!("`{name}` is not a fragment's name"))?;
        let text = fs::read_to_string(path).with_context(|| format!("reading `{name}`"))?;
        fragments.entry(kind).or_default().push(text);
    }
    let file = Path::new("CHANGELOG.md");
    let old = fs::read_to_string(file).unwrap_or_else(|_| HEAD.to_owned());
    fs::write(file, insert(&old, &section(version, &fragments)))?;
    for path in paths {
        fs::remove_file(path)?;
    }
    Ok(0)
}

/// The kind in a fragment's name.
pub(crate) fn kind_of(name: &str) -> Option<&'static str> {
    let (slug, kind) = name.strip_suffix(".md")?.rsplit_once('.')?;
    let slug_is_good = !slug.is_empty()
        && slug
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    KINDS
        .iter()
        .find(|(known, _)| *known == kind && slug_is_good)
        .map(|(known, _)| *known)
}

/// The fragments, sorted.
pub(crate) fn fragments_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading `{}`", dir.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn section(version: &str, fragments: &BTreeMap<&str, Vec<String>>) -> String {
    let mut text = format!("## {version}\n");
    for (kind, heading) in KINDS {
        let Some(of_kind) = fragments.get(kind) else {
            continue;
        };
        text.push_str(&format!("\n### {heading}\n\n"));
        for fragment in of_kind {
            let lines: Vec<&str> = fragment.trim().lines().map(str::trim).collect();
            text.push_str(&format!("- {}\n", lines.join("\n  ")));
        }
    }
    text
}

/// Puts a section before the others.
fn insert(changelog: &str, section: &str) -> String {
    match changelog.find("\n## ") {
        Some(at) => {
            let (head, rest) = changelog.split_at(at + 1);
            format!("{head}{section}\n{rest}")
        }
        None => format!("{}\n\n{section}", changelog.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_kind() {
        assert_eq!(kind_of("first-run.added.md"), Some("added"));
        for wrong in [
            "first-run.md",
            "First.added.md",
            "x.new.md",
            ".added.md",
            "x.added.txt",
        ] {
            assert_eq!(kind_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sections_are_grouped_by_kind_and_newest_first() {
        let fragments = BTreeMap::from([
            ("fixed", vec!["A bug.\n".to_owned()]),
            (
                "added",
                vec![
                    "One thing\nin two lines.\n".to_owned(),
                    "Another.".to_owned(),
                ],
            ),
        ]);
        let first = insert(HEAD, &section("0.1.0", &fragments));
        assert_eq!(
            first,
            "# Changelog\n\n## 0.1.0\n\n### Added\n\n- One thing\n  in two lines.\n- Another.\n\n\
             ### Fixed\n\n- A bug.\n"
        );
        let second = insert(&first, "## 0.2.0\n");
        assert!(
            second.starts_with("# Changelog\n\n## 0.2.0\n\n## 0.1.0\n"),
            "{second}"
        );
    }
}
