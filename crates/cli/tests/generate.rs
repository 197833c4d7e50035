// SPDX-License-Identifier: Apache-2.0
//! What `gorget` writes about its own command line.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use std::fs;
use std::process::{Command, Output};

fn gorget(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = gorget(&["completion", shell]);
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["probe", "logs", "policy", "namespace"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let output = gorget(&["man", pages.to_str().unwrap()]);
    assert!(output.status.success());
    for page in [
        "gorget.1",
        "gorget-probe.1",
        "gorget-logs.1",
        "gorget-policy-explain.1",
    ] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH gorget"), "{page}: {text}");
    }
}

#[test]
fn called_as_karmor_its_words_are_understood() {
    use std::os::unix::process::CommandExt as _;
    let karmor = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_gorget"))
            .arg0("/usr/local/bin/karmor")
            .args(arguments)
            .env_remove("KUBEARMOR_SERVICE")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), stderr)
    };
    let (code, said) = karmor(&["logs", "--gRPC", "localhost:1", "--logFilter=all", "--json"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("`localhost:1`"), "{said}");
    let (code, said) = karmor(&["vm", "policy", "add", "--gRPC=:1", "Cargo.toml"]);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(karmor(&["version"]).0, Some(0));
    let (code, said) = karmor(&["logs", "--logFilter", "some"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("`all`, `policy`, `system`"), "{said}");
    let (code, said) = karmor(&["selfupdate"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("docs/compat.md"), "{said}");
}
