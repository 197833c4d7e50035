// SPDX-License-Identifier: Apache-2.0
//! The form of files.

use crate::changelog::kind_of;
use crate::command;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// Longer files are split by concept; tests are apart.
const LINES_WARN: usize = 800;
const LINES_FAIL: usize = 1200;
/// Where `unsafe` may stand: the kernel's interface, and what tests do that no safe function does. Other
/// places need an ADR that names them here.
const UNSAFE: [&str; 4] = [
    // docs/adr/0007-one-arena.md
    "crates/agent/src/memory.rs",
    "crates/bpf/",
    "vmtest/src/objects.rs",
    "vmtest/src/raw_calls.rs",
];

pub(super) fn check() -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in tracked()? {
        // Removed, but not yet in git.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        problems.extend(check_text(&path, &text));
    }
    problems.extend(adr_problems(&names_in("docs/adr")?));
    for name in names_in("changelog.d")? {
        if kind_of(&name).is_none() {
            problems.push(format!("`changelog.d/{name}` is not `<slug>.<kind>.md`"));
        }
    }
    Ok(problems)
}

/// Files of the repository, those that git does not know yet included.
fn tracked() -> Result<Vec<String>> {
    let list = command::output(command::new("git").args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn names_in(dir: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading `{dir}`"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn check_text(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for host in registry_hosts() {
        if text.contains(&host) && path != "Cargo.lock" {
            problems.push(format!("{path}: names the host `{host}`"));
        }
    }
    let extension = Path::new(path).extension().and_then(|e| e.to_str());
    let is_rust = extension == Some("rs");
    if !is_rust && !matches!(extension, Some("c" | "h")) {
        return problems;
    }
    if !text
        .lines()
        .next()
        .is_some_and(|line| line.contains("SPDX-License-Identifier: "))
    {
        problems.push(format!("{path}:1: the first line must be the SPDX line"));
    }
    if is_rust && !text.lines().take(4).any(|line| line.starts_with("//!")) {
        problems.push(format!("{path}:2: there is no module doc"));
    }
    let lines = text.lines().count();
    if lines > LINES_FAIL && !is_test(path) {
        problems.push(format!("{path}: {lines} lines, the limit is {LINES_FAIL}"));
    } else if lines > LINES_WARN && !is_test(path) {
        println!("warning: {path}: {lines} lines, think of splitting it");
    }
    for (number, line) in (1..).zip(text.lines()) {
        let at = format!("{path}:{number}");
        if has_bare_todo(line) {
            problems.push(format!("{at}: write TO{}(#issue)", "DO"));
        }
        let may_be_unsafe = UNSAFE.iter().any(|dir| path.starts_with(dir));
        if is_rust && !may_be_unsafe && has_unsafe(line) {
            problems.push(format!("{at}: unsafe code outside {}", UNSAFE.join(", ")));
        }
    }
    problems
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Hosts of package registries and mirrors: nothing here may depend on one by name. Put together
/// here, so that this file does not name them.
fn registry_hosts() -> Vec<String> {
    [
        ["deb.debian", "org"],
        ["security.debian", "org"],
        ["snapshot.debian", "org"],
        ["archive.ubuntu", "com"],
        ["static.crates", "io"],
        ["index.crates", "io"],
        ["files.pythonhosted", "org"],
        ["registry.npmjs", "org"],
        ["proxy.golang", "org"],
    ]
    .iter()
    .map(|parts| parts.join("."))
    .collect()
}

/// A to-do without the number of an issue.
fn has_bare_todo(line: &str) -> bool {
    let mark = concat!("TO", "DO");
    line.match_indices(mark).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.strip_prefix(mark).unwrap_or_default();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        !before.ends_with(is_word) && !after.starts_with(is_word) && !after.starts_with("(#")
    })
}

/// The keyword as code: a block, a function, an implementation or a trait.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let keyword = concat!("un", "safe ");
    code.match_indices(keyword).any(|(at, _)| {
        let rest = code
            .split_at(at)
            .1
            .strip_prefix(keyword)
            .unwrap_or_default();
        ["{", "fn ", "impl ", "trait ", "extern "]
            .iter()
            .any(|next| rest.starts_with(next))
    })
}

/// Numbers of decisions follow each other.
fn adr_problems(names: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, name) in (1..).zip(names) {
        if !name.starts_with(&format!("{number:04}-")) || !name.ends_with(".md") {
            problems.push(format!(
                "`docs/adr/{name}`: expected a name like `{number:04}-slug.md`"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "// SPDX-License-Identifier: Apache-2.0\n//! Doc.\n";

    #[test]
    fn a_good_file_has_no_problems() {
        assert!(check_text("crates/a/src/b.rs", GOOD).is_empty());
        assert!(check_text("a.md", "anything").is_empty());
    }

    #[test]
    fn each_fault_is_found() {
        let long = format!("{GOOD}{}", "//\n".repeat(LINES_FAIL));
        let todo = format!("{GOOD}// {}: later\n", concat!("TO", "DO"));
        let code = format!("{GOOD}{}{{ }}\n", concat!("un", "safe "));
        let host = format!("{GOOD}// http://{}/\n", registry_hosts()[0]);
        for text in [
            "//! Doc.\n",
            "// SPDX-License-Identifier: Apache-2.0\nfn f() {}\n",
            &long,
            &todo,
            &code,
            &host,
        ] {
            assert_eq!(check_text("crates/a/src/b.rs", text).len(), 1, "{text:.80}");
        }
        assert!(check_text("crates/bpf/src/b.rs", &code).is_empty());
        assert!(check_text("crates/a/tests/b.rs", &long).is_empty());
    }

    #[test]
    fn a_todo_with_an_issue_and_other_words_pass() {
        assert!(!has_bare_todo(concat!("// TO", "DO(#12): later")));
        assert!(!has_bare_todo(concat!("let x = TO", "DOS;")));
        assert!(has_bare_todo(concat!("// TO", "DO: later")));
    }

    #[test]
    fn a_gap_in_the_decisions_is_found() {
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert!(adr_problems(&names(&["0001-a.md", "0002-b.md"])).is_empty());
        assert_eq!(adr_problems(&names(&["0001-a.md", "0003-b.md"])).len(), 1);
    }
}
