// SPDX-License-Identifier: Apache-2.0
//! `gorget recommend` as people and scripts use it.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use expect_test::{Expect, expect, expect_file};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn recommend(arguments: &[&str]) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_gorget"))
        .arg("recommend")
        .args(arguments)
        .output()
        .unwrap();
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn shipped(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/recommended");
    fs::read_to_string(directory.join(format!("{name}.yaml"))).unwrap()
}

#[test]
fn without_names_all_are_listed_with_severity_action_and_what_for() {
    let listed = recommend(&[]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    expect_file!["testdata/recommend/list.txt"].assert_eq(&listed.stdout);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recommended.md");
    let docs = fs::read_to_string(docs).unwrap();
    let rows: Vec<_> = docs
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let json = recommend(&["-o", "json"]);
    let listed: Value = serde_json::from_str(&json.stdout).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(rows.len(), listed.len());
    for (row, policy) in rows.iter().zip(listed) {
        let of = |field: &str| policy[field].as_str().unwrap();
        let (name, action, summary) = (of("name"), of("action"), of("summary"));
        let severity = &policy["severity"];
        let beginning = format!("| `{name}` | {action} | {severity} | {summary} | ");
        assert!(row.starts_with(&beginning), "{row}");
    }
}

#[test]
fn a_tag_lists_those_that_have_it() {
    let listed = recommend(&["--tag", "mining,kernel"]);
    let names = listed
        .stdout
        .lines()
        .filter_map(|line| line.split(' ').next());
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [
            "crypto-miners",
            "kernel-interfaces",
            "host-kernel-interfaces"
        ]
    );
}

#[test]
fn names_print_what_is_shipped() {
    let printed = recommend(&["exec-sessions", "host-programs", "exec-sessions"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let both = [shipped("exec-sessions"), shipped("host-programs")];
    assert_eq!(printed.stdout, both.join("---\n"));
    let json = recommend(&["exec-sessions", "-o", "json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[0]["name"], "exec-sessions");
    assert_eq!(json[0]["text"], shipped("exec-sessions"));
}

/// The text after the comments, up to the rules.
fn head(answer: &Answer) -> String {
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    let lines = answer.stdout.lines();
    let lines = lines.skip_while(|line| line.starts_with('#'));
    let lines = lines.take_while(|line| !line.starts_with("  action"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn namespace_and_labels_are_filled_in() {
    let filled = |arguments: &[&str], expected: Expect| {
        expected.assert_eq(&head(&recommend(arguments)));
    };
    filled(
        &["exec-sessions", "-n", "shop", "-l", "app=web,tier=1"],
        expect![[r#"
            apiVersion: security.kubearmor.com/v1
            kind: KubeArmorPolicy
            metadata:
              name: exec-sessions
              namespace: shop
            spec:
              severity: 4
              tags: [execution, audit]
              message: somebody has a session in a container
              selector:
                matchLabels:
                  app: web
                  tier: "1"
        "#]],
    );
    filled(
        &["crypto-miners", "-n", "shop", "-l", "app=web"],
        expect![[r#"
            apiVersion: security.kubearmor.com/v1
            kind: KubeArmorClusterPolicy
            metadata:
              name: crypto-miners
            spec:
              severity: 10
              tags: [mining]
              message: a miner was to run
              selector:
                matchExpressions:
                - { key: namespace, operator: In, values: [shop] }
                - { key: label, operator: In, values: ["app=web"] }
        "#]],
    );
    filled(
        &["host-login-keys", "--labels", "role=gateway"],
        expect![[r#"
            apiVersion: security.kubearmor.com/v1
            kind: KubeArmorHostPolicy
            metadata:
              name: host-login-keys
            spec:
              severity: 7
              tags: [accounts, audit]
              message: who may log in was changed
              nodeSelector:
                matchLabels:
                  role: gateway
        "#]],
    );
}

#[test]
fn a_directory_gets_a_file_for_each_and_keeps_what_somebody_changed() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("deep/policies");
    let to = to.to_str().unwrap();
    let all = recommend(&["--write-to", to]);
    assert_eq!(all.code, Some(0), "{}", all.stderr);
    let count = || fs::read_dir(to).unwrap().count();
    assert_eq!((count(), all.stdout.lines().count()), (24, 24));
    let file = format!("{to}/exec-sessions.yaml");
    assert_eq!(fs::read_to_string(&file).unwrap(), shipped("exec-sessions"));
    let again = recommend(&["exec-sessions", "--write-to", to]);
    assert_eq!(again.stdout, format!("`{file}` is there already\n"));

    let other = recommend(&["exec-sessions", "--write-to", to, "-n", "shop"]);
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("move it away"), "{}", other.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), shipped("exec-sessions"));

    let of_shop = directory.path().join("shop");
    let of_shop = of_shop.to_str().unwrap();
    let containers = recommend(&["--write-to", of_shop, "-n", "shop"]);
    assert_eq!(containers.code, Some(0), "{}", containers.stderr);
    assert_eq!(fs::read_dir(of_shop).unwrap().count(), 21);
    assert!(containers.stderr.contains("`host-programs`"));
}

#[test]
fn errors_say_what_to_do() {
    let refused = |arguments: &[&str], code: i32, said: &str| {
        let answer = recommend(arguments);
        assert_eq!(answer.code, Some(code), "{arguments:?}");
        assert_eq!(answer.stdout, "", "{arguments:?}");
        assert!(answer.stderr.contains(said), "{}", answer.stderr);
    };
    let unknown = "there is no recommended policy `miners`; `gorget recommend` lists all";
    refused(&["miners"], 1, unknown);
    refused(
        &["--tag", "mine"],
        1,
        "no recommended policy has the tag `mine`; there are `accounts`",
    );
    refused(&["-n", "shop"], 1, "--write-to DIR");
    refused(&["-l", "web", "exec-sessions"], 1, "write KEY=VALUE");
    refused(&["-n", "Shop", "exec-sessions"], 1, "cannot be a namespace");
    refused(&["-n", "shop", "host-programs"], 1, "without `--namespace`");
    refused(
        &["--tag", "mining", "exec-sessions"],
        2,
        "cannot be used with",
    );
}
