// SPDX-License-Identifier: Apache-2.0
//! Whatever the text is, reading it ends, and what comes out keeps its promises.
//!
//! Texts are policies of all kinds with pieces, lines or values replaced, pieces of YAML in any
//! order, patterns, and bytes. Checked is what can be said without knowing the text: the same answer
//! twice, positions inside the file and in order, one line for each problem, and every rule in the
//! form that the engine relies on.
//!
//! This is also the crate's fuzz target. Five hundred cases of each sort are run unless
//! `PROPTEST_CASES` says otherwise: for some ten minutes,
//! `PROPTEST_CASES=2000000 cargo test --release -p gorget-policy --test any_input`. A finding is
//! shrunk, shown, and kept in `proptest-regressions/` for the next run.
#![cfg(test)]

use gorget_model::{Category, Container, Host, Workload};
use gorget_policy::{
    Action, Location, NetworkPolicy, NetworkTarget, ObjectMatcher, Parsed, Policy, ProblemSeverity,
    Rule, Source, Token, parse,
};
use proptest::prelude::*;
use std::net::IpAddr;

const SAMPLES: [&str; 4] = [
    include_str!("../testdata/every-field.yaml"),
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

/// What may stand where a value stands.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "tcp,UDP , icmp",
            "tcp,,udp",
            "all",
            "cap_net_raw,BPF",
            "a.example.,*.b,xn--a",
            "a..b",
            "MASS-STORAGE",
            "0xff",
            "'0x100'",
            "\"8\"",
            "ALL",
            "[unlink, mount]",
            "unlink",
            "filelessExec",
            "Allow",
            "aUDIT",
            "block",
            "NotIn",
            "namespace",
            "label",
            "'[a,b]'",
            "'[a-z]+$'",
            "'(a*)*b{3,}'",
            "'*-[0-9]'",
            "'[web'",
            "'a=b'",
            "1h30m",
            "99999999999h",
            "10MB",
            "'99999999999999999999GB'",
            "10.0.0.0/8",
            "'::/0'",
            "1.2.3.4/33",
            "'65535'",
            "ssh",
            "0",
            "1",
            "255",
            "65536",
            "4294967296",
            "-1",
            "1.5",
            "true",
            "false",
            "null",
            "{}",
            "[]",
            "[{}]",
            "[{path: /a}, {dir: /b}]",
            "/a",
            "/a/",
            "a",
            "''",
            "|\n      x\n      y",
        ])
        .prop_map(str::to_owned),
        piece(),
    ]
}

/// A sample with some values replaced, and some lines left out, repeated or moved.
fn revised() -> impl Strategy<Value = String> {
    let edit = (
        0..6u8,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        value(),
    );
    (0..SAMPLES.len(), prop::collection::vec(edit, 1..10)).prop_map(|(sample, edits)| {
        let mut lines: Vec<String> = SAMPLES[sample].lines().map(str::to_owned).collect();
        for (how, at, to, value) in edits {
            let (at, other) = (at.index(lines.len()), to.index(lines.len()));
            match how {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                1 => lines.insert(other, lines[at].clone()),
                2 => lines.swap(at, other),
                _ => {
                    let values = lines[at].matches(": ").count();
                    if values > 0 {
                        lines[at] = with_value(&lines[at], to.index(values), &value);
                    }
                }
            }
        }
        lines.join("\n")
    })
}

/// The line with the value behind this colon replaced, up to where a flow sequence goes on.
fn with_value(line: &str, colon: usize, value: &str) -> String {
    let mut parts: Vec<_> = line.split(": ").map(str::to_owned).collect();
    let old = &mut parts[colon + 1];
    let kept: String = match old.find([',', '}', ']']) {
        Some(end) => old.split_off(end),
        None => String::new(),
    };
    *old = format!("{value}{kept}");
    parts.join(": ")
}

/// Every break that YAML 1.2 knows.
fn lines(text: &str) -> Vec<usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split('\n').map(|line| line.chars().count()).collect()
}

fn check_position(at: &Location, lines: &[usize]) -> Result<(), TestCaseError> {
    let line = (at.line as usize)
        .checked_sub(1)
        .and_then(|line| lines.get(line));
    prop_assert!(line.is_some(), "{} of {} lines", at, lines.len());
    prop_assert!(
        at.column >= 1 && at.column as usize <= line.unwrap() + 1,
        "{}",
        at
    );
    Ok(())
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let parsed = parse("p.yaml", text);
    prop_assert_eq!(&parsed, &parse("p.yaml", text));
    let Parsed {
        policies,
        network_policies,
        problems,
    } = parsed;

    let lines = lines(text);
    let mut before = (1, 1);
    for problem in &problems {
        let at = (problem.at.line, problem.at.column);
        prop_assert!(before <= at, "problems are in the order of the file");
        check_position(&problem.at, &lines)?;
        let shown = problem.to_string();
        prop_assert!(!shown.contains(['\n', '\r', '\u{1b}']), "{:?}", problem);
        before = at;
    }
    for policy in &policies {
        check_policy(policy)?;
        for rule in &policy.rules {
            check_position(&rule.at, &lines)?;
            prop_assert!(rule.at.line <= rule.last_line, "{}", rule.at);
            prop_assert!(rule.last_line as usize <= lines.len(), "{}", rule.at);
            check_rule(rule)?;
        }
    }
    for policy in &network_policies {
        check_network_policy(policy)?;
    }
    let errors = problems
        .iter()
        .filter(|p| p.severity == ProblemSeverity::Error)
        .count();
    let documents = 1 + text.matches("---").count() + text.matches("...").count();
    let policies = policies.len() + network_policies.len();
    prop_assert!(
        policies + usize::from(errors > 0) <= documents,
        "{} policies",
        policies
    );
    Ok(())
}

fn check_policy(policy: &Policy) -> Result<(), TestCaseError> {
    prop_assert!(!policy.name.is_empty());
    prop_assert!(policy.qualified_name().ends_with(&policy.name));
    // Whatever the answer is, there is one, and only to the right sort of workload.
    let host = policy.selects(&Workload::Host(Host::default()));
    let container = policy.selects(&Workload::Container(Container::default()));
    prop_assert!(!(host && container));
    Ok(())
}

fn check_rule(rule: &Rule) -> Result<(), TestCaseError> {
    let is_path = |path: &str| path.starts_with('/') && !path.ends_with('/');
    let is_directory = |dir: &str| dir.starts_with('/') && dir.ends_with('/');
    let files = [Category::Process, Category::File];
    let (good, categories): (bool, &[Category]) = match &rule.object {
        ObjectMatcher::Path(path) => (is_path(path), &files),
        ObjectMatcher::ExecName(name) => (
            !name.is_empty() && !name.contains('/'),
            &[Category::Process],
        ),
        ObjectMatcher::Directory { dir, .. } => (is_directory(dir), &files),
        ObjectMatcher::Pattern(glob) => (!glob.tokens.is_empty() && sound(&glob.tokens), &files),
        ObjectMatcher::Protocol(_) => (true, &[Category::Network]),
        ObjectMatcher::Domain(domain) => (is_domain(domain), &[Category::Dns]),
        ObjectMatcher::Capability(_) => (true, &[Category::Capability]),
        ObjectMatcher::Syscall(_) => (true, &[Category::Syscall]),
        ObjectMatcher::SyscallPath(_, path) => (is_path(path), &[Category::Syscall]),
        ObjectMatcher::SyscallDirectory { dir, .. } => (is_directory(dir), &[Category::Syscall]),
        ObjectMatcher::Device(device) => (device.level != Some(0), &[Category::Device]),
        ObjectMatcher::Preset(_) => (true, &[Category::Preset]),
    };
    prop_assert!(good && categories.contains(&rule.category), "{:?}", rule);
    for source in &rule.sources {
        let good = match source {
            Source::Path(path) => is_path(path),
            Source::Directory { dir, .. } => is_directory(dir),
        };
        prop_assert!(good, "{:?}", source);
    }
    let severity = rule.severity.unwrap_or(1);
    prop_assert!((1..=10).contains(&severity));
    prop_assert!(rule.allowed_arguments.len() <= 20);
    prop_assert!(rule.category != Category::Syscall || rule.action == Action::Audit);
    Ok(())
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| (1..=63).contains(&label.len());
    domain.len() <= 253
        && domain.split('.').all(is_label)
        && domain
            .chars()
            .all(|c| c.is_ascii_graphic() && !c.is_ascii_uppercase())
}

/// Classes are sorted and apart, alternatives are at least two.
fn sound(tokens: &[Token]) -> bool {
    tokens.iter().all(|token| match token {
        Token::Byte(byte) => *byte != 0,
        Token::Class(ranges) => {
            let mut pairs = ranges.iter().zip(ranges.iter().skip(1));
            ranges.iter().all(|(low, high)| low <= high)
                && pairs.all(|(left, right)| u16::from(left.1) + 1 < u16::from(right.0))
        }
        Token::Alternatives(alternatives) => {
            alternatives.len() >= 2 && alternatives.iter().all(|tokens| sound(tokens))
        }
        Token::One | Token::Run | Token::DeepRun => true,
    })
}

fn check_network_policy(policy: &NetworkPolicy) -> Result<(), TestCaseError> {
    prop_assert!(!policy.name.is_empty());
    for rule in &policy.rules {
        for peer in &rule.peers {
            let behind_prefix = match peer.first {
                IpAddr::V4(first) => {
                    prop_assert!(peer.prefix <= 32);
                    first.to_bits().checked_shl(peer.prefix.into()).unwrap_or(0) != 0
                }
                IpAddr::V6(first) => {
                    prop_assert!(peer.prefix <= 128);
                    first.to_bits().checked_shl(peer.prefix.into()).unwrap_or(0) != 0
                }
            };
            prop_assert!(!behind_prefix, "{:?}", peer);
        }
        for port in &rule.ports {
            prop_assert!(1 <= port.first && port.first <= port.last, "{:?}", port);
        }
        if let NetworkTarget::Pods(_) = policy.target {
            prop_assert!(rule.quota.is_some_and(|quota| quota.window.is_some()));
        }
    }
    Ok(())
}

/// Five hundred, or what the environment says.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES");
    ProptestConfig::with_cases(cases.map_or(500, |cases| cases.parse().unwrap()))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mutated_policies_never_panic(text in mutated()) {
        check(&text)?;
    }

    #[test]
    fn revised_policies_never_panic(text in revised()) {
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

    #[test]
    fn any_text_as_a_pattern_never_panics(pattern in r"[/a-c\*\?\[\]\{\},\\^\-!ä\PC]{0,60}") {
        let quoted = pattern.replace('\'', "''");
        check(&format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\n\
             spec: {{file: {{matchPatterns: [{{pattern: '{quoted}'}}]}}}}\n"
        ))?;
    }
}
