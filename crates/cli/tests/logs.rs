// SPDX-License-Identifier: Apache-2.0
//! `gorget logs` against a feed that is served here.
//!
//! The program says on standard error what it follows once its subscriptions are in place; what is
//! published after that must appear.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

mod feed;

use feed::Agent;
use gorget_model::{
    Alert, AlertAction, AlertKind, Category, Container, Event, Level, Message, Node, PolicyRef,
    Process, Workload,
};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Runs the program until it has said what it follows.
fn follow(socket: &Path, arguments: &[&str]) -> (Child, BufReader<ChildStderr>, String) {
    let mut all = vec!["--socket", socket.to_str().unwrap()];
    all.extend(arguments);
    follow_with(&all)
}

fn follow_with(arguments: &[&str]) -> (Child, BufReader<ChildStderr>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gorget"))
        .arg("logs")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    stderr.read_line(&mut first).unwrap();
    (child, stderr, first)
}

fn alert() -> Event {
    Event::Alert(Alert {
        unix_micros: 1_767_323_045_000_006,
        node: Arc::new(Node::default()),
        workload: Arc::new(Workload::Container(Container {
            id: "c0ffee".to_owned(),
            name: "web".to_owned(),
            ..Container::default()
        })),
        process: Process {
            host_pid: 4242,
            exe: "/usr/bin/head".to_owned(),
            ..Process::default()
        },
        policy: PolicyRef {
            name: "ksp-token".to_owned(),
            ..PolicyRef::default()
        },
        kind: AlertKind::Policy,
        category: Category::File,
        source: "/usr/bin/head -c1 /run/secrets/token".to_owned(),
        resource: "/run/secrets/token".to_owned(),
        data: "lsm=FILE_OPEN".to_owned(),
        action: AlertAction::Block,
        result: "Permission denied",
        enforcer: "BPFLSM",
    })
}

fn message(text: &str) -> Event {
    Event::Message(Message {
        unix_micros: 1_767_323_045_000_006,
        node: Arc::new(Node::default()),
        level: Level::Warn,
        text: text.to_owned(),
    })
}

/// What the program prints about `events`, when it ends with success.
fn printed(arguments: &[&str], events: impl IntoIterator<Item = Event>) -> String {
    let agent = Agent::start();
    let (child, _stderr, _first) = follow(&agent.socket, arguments);
    for event in events {
        agent.feeder.publish(event);
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_alert_is_one_line_for_people() {
    assert_eq!(
        printed(&["--limit", "1"], [alert()]),
        "03:04:05 BLOCK ksp-token  web  /usr/bin/head -c1 /run/secrets/token → \
         /run/secrets/token  file, Permission denied, pid 4242\n"
    );
}

#[test]
fn an_alert_is_one_line_of_json_with_the_names_of_kubearmor() {
    let text = printed(&["--limit", "1", "--json"], [alert()]);
    assert_eq!(text.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["PolicyName"], "ksp-token");
    assert_eq!(json["HostPID"], 4242);
    assert_eq!(json["Action"], "Block");
}

#[test]
fn messages_are_followed_as_well() {
    assert_eq!(
        printed(&["--limit", "1"], [message("reloading failed")]),
        "03:04:05 WARN  reloading failed\n"
    );
}

#[test]
fn only_what_is_named_is_followed() {
    let events = || [message("one"), alert(), message("two")];
    let text = printed(&["--type", "alerts", "--limit", "1"], events());
    assert!(text.contains("ksp-token"), "{text}");
    let text = printed(&["--type", "messages", "--limit", "2"], events());
    assert!(text.contains("one") && text.contains("two"), "{text}");
}

fn alert_on(resource: &str) -> Event {
    let Event::Alert(alert) = alert() else {
        panic!("an alert");
    };
    Event::Alert(Alert {
        resource: resource.to_owned(),
        ..alert
    })
}

#[test]
fn only_what_fits_every_field_is_printed_and_counted() {
    let events = || ["/etc/passwd", "/run/a", "/etc/shadow", "/run/b"].map(alert_on);
    let asked = [
        "--limit",
        "2",
        "--resource",
        "~^/etc/",
        "--container",
        "web",
    ];
    let text = printed(&asked, events());
    assert!(
        text.contains("/etc/passwd") && text.contains("/etc/shadow"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2, "{text}");
    let exact = [
        "--limit",
        "1",
        "--resource",
        "/run/b",
        "--resource",
        "/run/x",
    ];
    assert!(printed(&exact, events()).contains("→ /run/b"));
}

#[test]
fn what_cannot_be_asked_for_is_said_before_anybody_is_asked() {
    for (wrong, said) in [
        (["--resource", "~["], "no regular expression"),
        (["--operation", "fiel"], "`File`"),
        (["--since", "soon"], "`since=soon`"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gorget"))
            .args(["logs", "--socket", "/nowhere"])
            .args(wrong)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn yaml_has_the_same_fields_in_documents() {
    let text = printed(&["--limit", "1", "-o", "yaml"], [alert()]);
    assert!(text.starts_with("---\n"), "{text}");
    let document: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(document["PolicyName"], "ksp-token");
    assert_eq!(document["HostPID"], 4242);
}

#[test]
fn colour_is_used_when_it_is_demanded() {
    let text = printed(&["--limit", "1", "--color", "always"], [alert()]);
    assert!(text.contains("\u{1b}[1;31mBLOCK\u{1b}[0m"), "{text:?}");
}

#[test]
fn what_is_followed_is_said_on_standard_error() {
    let agent = Agent::start();
    let (mut child, _stderr, first) = follow(&agent.socket, &[]);
    let expected = format!(
        "gorget: following alerts and messages of `{}`\n",
        agent.socket.display()
    );
    assert_eq!(first, expected);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_agent_that_goes_away_is_followed_again_when_it_is_back() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("gorget.sock");
    let agent = Agent::start_at(socket.clone());
    let arguments = ["--type", "alerts", "--limit", "1"];
    let (child, mut stderr, _first) = follow(&agent.socket, &arguments);
    drop(agent);
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(
        said,
        "gorget: the agent ended the feed; trying again in 0.5 s\n"
    );
    let agent = Agent::start_at(socket);
    while !said.contains("again; what it told meanwhile") {
        said.clear();
        stderr.read_line(&mut said).unwrap();
        assert!(!said.is_empty());
    }
    agent.feeder.publish(alert());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("ksp-token"));
}

#[test]
fn several_agents_are_followed_at_once() {
    let (one, two) = (Agent::start(), Agent::start());
    let (child, mut stderr, _first) = follow_with(&[
        "--agent",
        one.socket.to_str().unwrap(),
        "--agent",
        two.socket.to_str().unwrap(),
        "--limit",
        "2",
    ]);
    let mut second = String::new();
    stderr.read_line(&mut second).unwrap();
    assert!(second.contains("following"), "{second}");
    one.feeder.publish(message("of one"));
    two.feeder.publish(message("of two"));
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("of one") && text.contains("of two"), "{text}");
}

#[test]
fn a_reader_that_closed_the_pipe_is_no_failure() {
    let agent = Agent::start();
    let (mut child, mut stderr, _first) = follow(&agent.socket, &[]);
    drop(child.stdout.take());
    agent.feeder.publish(alert());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn without_an_agent_the_socket_is_named_with_advice() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("gorget.sock");
    let (mut child, _stderr, first) = follow(&socket, &[]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let beginning = format!("gorget: cannot reach the agent at `{}`: ", socket.display());
    assert!(first.starts_with(&beginning), "{first}");
    assert!(first.contains("is `gorgetd` running?"), "{first}");
}
