// SPDX-License-Identifier: Apache-2.0
//! `gorget policy check` and `gorget version` as a user or a pipeline sees them: output and exit
//! status of the program itself, run in `tests/testdata`.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use expect_test::{Expect, expect};
use std::path::Path;
use std::process::{Command, Output};

fn gorget(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata"))
        .output()
        .unwrap()
}

fn checked(arguments: &[&str], status: i32, expected: &Expect) -> String {
    let output = gorget(&[&["policy", "check"], arguments].concat());
    expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(output.status.code(), Some(status));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn good_policies_are_counted() {
    let stderr = checked(
        &["good.yaml"],
        0,
        &expect![[r#"
        1 file, 2 policies, 0 errors, 0 warnings
    "#]],
    );
    assert_eq!(stderr, "");
}

#[test]
fn every_problem_is_shown_with_its_line() {
    checked(
        &["broken.yaml"],
        1,
        &expect![[r#"
        broken.yaml:11:33: error: spec.file.matchPaths[0].action: `Bock` is not an action
          11 |     - {path: "/srv/日本", action: Bock}
             |                                   ^
             help: did you mean `Block`?

        broken.yaml:12:13: error: spec.file.matchPaths[1].path: `relative/path` does not begin with `/`
          12 |     - path: relative/path
             |             ^
             help: write the absolute path

        1 file, 0 policies, 2 errors, 0 warnings
    "#]],
    );
}

#[test]
fn a_warning_does_not_fail() {
    checked(
        &["warning.yaml"],
        0,
        &expect![[r#"
            warning.yaml:11:13: warning: spec.file.matchPaths[0].path: in `/run/secrets/*` the `*` stands for itself
              11 |     - path: /run/secrets/*
                 |             ^
                 help: wildcards go into `matchPatterns`

            1 file, 1 policy, 0 errors, 1 warning
        "#]],
    );
}

#[test]
fn policies_that_are_too_much_together_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("many.yaml");
    std::fs::write(&file, expensive()).unwrap();
    let output = gorget(&["policy", "check", file.to_str().unwrap()]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("error: file rules need more than"),
        "{stdout}"
    );
    assert!(
        stdout.contains("none of these policies would be in force"),
        "{stdout}"
    );
    assert!(
        stdout.ends_with("1 file, 1 policy, 1 error, 0 warnings\n"),
        "{stdout}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Patterns whose automata multiply each other.
fn expensive() -> String {
    let mut text = "apiVersion: security.kubearmor.com/v1\n\
                    kind: KubeArmorPolicy\n\
                    metadata:\n  name: many\n\
                    spec:\n  selector:\n    matchLabels:\n      app: web\n\
                    \x20 action: Block\n  file:\n    matchPatterns:\n"
        .to_owned();
    for number in 0..40 {
        text.push_str(&format!(
            "    - pattern: /**/a{number}*/**/b{number}*/**/c{number}*\n"
        ));
    }
    text
}

#[test]
fn a_directory_is_read_to_its_end_but_for_what_is_hidden() {
    checked(
        &["fleet"],
        1,
        &expect![[r#"
            fleet/c.json:8:3: error: spec.actoin: unknown field `actoin`
              8 |         "actoin": "Block"
                |         ^
                help: did you mean `action`? allowed here: `selector`, `process`, `file`, `network`, `capabilities`, `syscalls`, `presets`, `apparmor`, `severity`, `tags`, `message`, `action`

            fleet/nested/a.yml:11:33: error: spec.file.matchPaths[0].action: `Bock` is not an action
              11 |     - {path: "/srv/日本", action: Bock}
                 |                                   ^
                 help: did you mean `Block`?

            fleet/nested/a.yml:12:13: error: spec.file.matchPaths[1].path: `relative/path` does not begin with `/`
              12 |     - path: relative/path
                 |             ^
                 help: write the absolute path

            3 files, 2 policies, 3 errors, 0 warnings
        "#]],
    );
}

#[test]
fn problems_can_be_had_as_json() {
    checked(
        &["-o", "json", "broken.yaml"],
        1,
        &expect![[r#"
        [
          {
            "file": "broken.yaml",
            "line": 11,
            "column": 33,
            "severity": "error",
            "field": "spec.file.matchPaths[0].action",
            "reason": "`Bock` is not an action",
            "help": "did you mean `Block`?"
          },
          {
            "file": "broken.yaml",
            "line": 12,
            "column": 13,
            "severity": "error",
            "field": "spec.file.matchPaths[1].path",
            "reason": "`relative/path` does not begin with `/`",
            "help": "write the absolute path"
          }
        ]
    "#]],
    );
}

#[test]
fn without_problems_the_json_is_an_empty_array() {
    checked(
        &["-o", "json", "good.yaml"],
        0,
        &expect![[r#"
        []
    "#]],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_are_checked() {
    let stderr = checked(
        &["missing.yaml", "good.yaml"],
        2,
        &expect![[r#"
        1 file, 2 policies, 0 errors, 0 warnings
    "#]],
    );
    assert!(
        stderr.starts_with("gorget: cannot read `missing.yaml`: "),
        "{stderr}"
    );
}

#[test]
fn a_directory_without_policies_is_no_success() {
    let directory = tempfile::tempdir().unwrap();
    let output = gorget(&["policy", "check", directory.path().to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("no policy files in this directory"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn no_file_at_all_is_wrong_usage() {
    assert_eq!(gorget(&["policy", "check"]).status.code(), Some(2));
}

#[test]
fn colour_is_used_when_it_is_demanded() {
    let coloured = gorget(&["policy", "check", "--color", "always", "broken.yaml"]);
    let plain = gorget(&["policy", "check", "broken.yaml"]);
    let coloured = String::from_utf8(coloured.stdout).unwrap();
    assert!(
        coloured.contains("\u{1b}[1;31merror:\u{1b}[0m"),
        "{coloured:?}"
    );
    assert!(!plain.stdout.contains(&0x1b));
}

#[test]
fn the_version_names_the_commit() {
    let output = gorget(&["version"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let revision = text
        .strip_prefix(&format!("gorget {version} ("))
        .and_then(|rest| rest.strip_suffix(")\n"))
        .unwrap();
    assert!(
        revision == "unknown" || revision.chars().all(|digit| digit.is_ascii_hexdigit()),
        "{revision}"
    );

    let output = gorget(&["version", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["version"], version);
    assert_eq!(json["revision"], revision);
}
