// SPDX-License-Identifier: Apache-2.0
//! What of a cluster is found before it is asked: kubeconfigs, contexts, and what does not go together.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use expect_test::{Expect, expect};
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};
use tempfile::TempDir;

/// In a home without anything, but for a kubeconfig of two contexts, whose server nobody is.
fn gorget(arguments: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: east\n\
        clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
        users: [{name: u, user: {token: t}}]\n\
        contexts:\n- {name: east, context: {cluster: c, user: u}}\n\
        - {name: west, context: {cluster: c, user: u}}\n";
    fs::write(home.path().join("two"), text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(arguments)
        .current_dir(home.path())
        .env("HOME", "/nowhere")
        .env_remove("KUBECONFIG")
        .output()
        .unwrap()
}

fn fails(arguments: &[&str], expected: &Expect) {
    let output = gorget(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    expected.assert_eq(&String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_context_that_is_not_there_is_named_with_those_that_are() {
    let of = ["--kubeconfig", "two", "--context", "north"];
    for command in [
        &["install"][..],
        &["uninstall"],
        &["policy", "list"],
        &["probe"],
        &["logs"],
    ] {
        let output = gorget(&[command, &of[..]].concat());
        assert!(!output.status.success());
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "gorget: no context `north` is in the kubeconfig; there are `east`, `west`\n"
        );
    }
}

#[test]
fn without_a_kubeconfig_it_is_said_where_it_was_looked_for() {
    fails(
        &["install"],
        &expect![[r#"
            gorget: no kubeconfig can be used, neither of `KUBECONFIG` nor `~/.kube/config`: failed to read kubeconfig from '"/nowhere/.kube/config"': No such file or directory (os error 2)
        "#]],
    );
    fails(
        &["probe", "--cluster"],
        &expect![[r#"
            gorget: no kubeconfig can be used, neither of `KUBECONFIG` nor `~/.kube/config`: failed to read kubeconfig from '"/nowhere/.kube/config"': No such file or directory (os error 2)
        "#]],
    );
    fails(
        &["install", "--kubeconfig", "none"],
        &expect![[r#"
            gorget: kubeconfig `none`: failed to read kubeconfig from '"none"': No such file or directory (os error 2)
        "#]],
    );
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    fails(
        &["uninstall", "--kubeconfig", "two"],
        &expect![[r#"
        gorget: cannot read DaemonSet `gorget/gorget-agent`: `http://127.0.0.1:1/` does not answer: Connection refused (os error 111)
    "#]],
    );
}

#[test]
fn a_cluster_and_a_machine_are_not_asked_at_once() {
    fails(
        &["logs", "--cluster", "--agent", "node:1"],
        &expect![[r#"
            gorget: a cluster's agents are found by `--cluster`, `--kubeconfig`, `--context` and `--node` alone, without `--agent`, `--socket` and `--tls-ca`
        "#]],
    );
    fails(
        &["probe", "--cluster", "--machine"],
        &expect![[r#"
        gorget: either a cluster or this machine: leave out `--machine` and `--socket`
    "#]],
    );
    fails(
        &["policy", "apply", "two", "--cluster"],
        &expect![[r#"
        gorget: this command is about the agent of a machine: `kubectl apply` puts policies into a cluster
    "#]],
    );
    fails(
        &["sysdump", "--cluster"],
        &expect![[r#"
        gorget: this command is about the agent of a machine: run it on the node, or in the agent's pod
    "#]],
    );
}

#[test]
fn what_is_printed_needs_no_cluster_and_has_certificates() {
    let output = gorget(&["install", "--print", "--without-operator"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let kinds: Vec<_> = objects
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[0], "Namespace");
    let secrets = objects.iter().filter(|it| it["kind"] == "Secret");
    let keys: Vec<_> = secrets.map(|it| it["data"]["tls.key"].as_str()).collect();
    assert!(matches!(keys[..], [Some(_)]), "{keys:?}");
}
