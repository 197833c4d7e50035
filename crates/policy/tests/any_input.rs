// SPDX-License-Identifier: Apache-2.0
//! Whatever the text is, reading it ends, and what comes out keeps its promises.
//!
//! Texts are policies with pieces replaced, pieces of YAML in any order, and bytes. Checked is what
//! can be said without knowing the text: the same answer twice, positions inside the file and in
//! order, one line for each problem, and every rule in the form that the engine relies on.
#![cfg(test)]

use gorget_policy::{ObjectMatcher, Parsed, ProblemSeverity, Source, parse};
use proptest::prelude::*;

const SAMPLES: [&str; 3] = [
    include_str!("../testdata/lenient-allow-list.yaml"),
    include_str!("../testdata/several-documents.yaml"),
    include_str!("../testdata/broken.yaml"),
];

/// What is put in place of a piece of a sample.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            " ",
            "\n",
            "\n---\n",
            "\n...\n",
            "- ",
            ": ",
            "? ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "\"",
            "'",
            "|\n",
            ">-\n",
            "&a ",
            "*a",
            "!!str ",
            "!x ",
            "%YAML 1.2\n",
            "<<: ",
            "~",
            "\t",
            "\r",
            "\0",
            "\u{feff}",
            "\u{85}",
            "ä",
            "/",
            "//",
            "/../",
            "*",
            "**",
            "\\",
            "[^a-z]",
            "{a,b}",
            "# ",
            "10",
            "-1",
            "yes",
            "path: /a\n",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
        ".{0,20}",
    ]
}

/// A sample with some pieces replaced.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..30usize, piece());
    (0..SAMPLES.len(), prop::collection::vec(edit, 1..8)).prop_map(|(sample, edits)| {
        let mut text: Vec<char> = SAMPLES[sample].chars().collect();
        for (at, length, piece) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let parsed = parse("p.yaml", text);
    prop_assert_eq!(&parsed, &parse("p.yaml", text));
    let Parsed {
        policies,
        network_policies,
        problems,
    } = parsed;

    // YAML knows three line breaks; counting each of them is an upper bound.
    let lines = 1 + text.matches(['\n', '\r']).count();
    let mut before = (1, 1);
    for problem in &problems {
        let at = (problem.at.line, problem.at.column);
        prop_assert!(before <= at, "problems are in the order of the file");
        prop_assert!(problem.at.line as usize <= lines, "{}", problem);
        prop_assert!(
            !problem.to_string().contains(['\n', '\r', '\u{1b}']),
            "{:?}",
            problem
        );
        before = at;
    }
    for policy in &policies {
        prop_assert!(!policy.name.is_empty());
        for rule in &policy.rules {
            let is_path = |path: &str| path.starts_with('/') && !path.ends_with('/');
            let is_directory = |dir: &str| dir.starts_with('/') && dir.ends_with('/');
            let good = match &rule.object {
                ObjectMatcher::Path(path) => is_path(path),
                ObjectMatcher::ExecName(name) => !name.is_empty() && !name.contains('/'),
                ObjectMatcher::Directory { dir, .. } => is_directory(dir),
                ObjectMatcher::Pattern(glob) => !glob.tokens.is_empty(),
                ObjectMatcher::Domain(domain) => !domain.is_empty() && !domain.ends_with('.'),
                ObjectMatcher::SyscallPath(_, path) => is_path(path),
                ObjectMatcher::SyscallDirectory { dir, .. } => is_directory(dir),
                ObjectMatcher::Device(device) => device.level != Some(0),
                ObjectMatcher::Protocol(_)
                | ObjectMatcher::Capability(_)
                | ObjectMatcher::Syscall(_)
                | ObjectMatcher::Preset(_) => true,
            };
            prop_assert!(good, "{:?}", rule.object);
            for source in &rule.sources {
                let good = match source {
                    Source::Path(path) => is_path(path),
                    Source::Directory { dir, .. } => is_directory(dir),
                };
                prop_assert!(good, "{:?}", source);
            }
            prop_assert!(
                rule.severity
                    .is_none_or(|severity| (1..=10).contains(&severity))
            );
        }
    }
    let errors = problems
        .iter()
        .filter(|p| p.severity == ProblemSeverity::Error)
        .count();
    let documents = 1 + text.matches("---").count() + text.matches("...").count();
    prop_assert!(
        policies.len() + network_policies.len() + usize::from(errors > 0) <= documents,
        "{} policies",
        policies.len()
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_policies_never_panic(text in mutated()) {
        check(&text)?;
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn random_pieces_never_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        check(&pieces.concat())?;
    }
}
