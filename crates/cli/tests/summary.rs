// SPDX-License-Identifier: Apache-2.0
//! `gorget summary` against a feed that is served here.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

mod feed;

use expect_test::expect;
use feed::Agent;
use gorget_model::{
    Alert, AlertAction, AlertKind, Category, Container, Event, Log, Node, PolicyRef, Process,
    Workload,
};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

fn command(agent: &Agent, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gorget"));
    command
        .args(["summary", "--socket", agent.socket.to_str().unwrap()])
        .args(arguments);
    command
}

fn container() -> Arc<Workload> {
    Arc::new(Workload::Container(Container {
        id: "c0ffee".to_owned(),
        name: "web".to_owned(),
        ..Container::default()
    }))
}

fn process() -> Process {
    Process {
        exe: "/usr/bin/head".to_owned(),
        ..Process::default()
    }
}

fn log(category: Category, resource: &str, data: &str) -> Event {
    Event::Log(Log {
        unix_micros: 1_767_323_045_000_006,
        node: Arc::new(Node::default()),
        workload: container(),
        process: process(),
        category,
        source: "/usr/bin/head -c1".to_owned(),
        resource: resource.to_owned(),
        data: data.to_owned(),
        result: "Passed",
    })
}

fn alert() -> Event {
    Event::Alert(Alert {
        unix_micros: 1_767_323_045_000_006,
        node: Arc::new(Node::default()),
        workload: container(),
        process: process(),
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

fn said(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_the_agent_keeps_is_counted_and_that_ends() {
    let agent = Agent::start();
    agent.feeder.publish(log(Category::File, "/etc/motd", ""));
    agent
        .feeder
        .publish(log(Category::File, "/etc/motd", "repeats=41"));
    agent
        .feeder
        .publish(log(Category::Network, "remoteip=10.0.0.1 port=80", ""));
    agent.feeder.publish(alert());
    let output = command(&agent, &["--since", "0"]).output().unwrap();
    expect![[r"
        web: 44 operations, 1 alert, 1 denied
          file: 43 operations, 1 alert, 1 denied
                42  /usr/bin/head → /etc/motd
                 1  /usr/bin/head → /run/secrets/token  1 denied
          network: 1 operation
                 1  /usr/bin/head → remoteip=10.0.0.1 port=80
          alerts by policy
                 1  ksp-token (Block)  1 denied

    "]]
    .assert_eq(&said(output));
    let arguments = ["--since", "0", "--operation", "network", "-o", "json"];
    let output = command(&agent, &arguments).output().unwrap();
    let json: serde_json::Value = serde_json::from_str(&said(output)).unwrap();
    assert_eq!(json["workloads"][0]["count"], 1);
}

/// Runs the program until it has said that it follows.
fn following(agent: &Agent, arguments: &[&str]) -> Child {
    let mut child = command(agent, &["--since", "0", "--for", "1h"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    stderr.read_line(&mut first).unwrap();
    assert!(first.contains("following alerts and logs"), "{first}");
    child
}

#[test]
fn what_happens_while_it_follows_is_counted_too() {
    let agent = Agent::start();
    agent.feeder.publish(alert());
    let child = following(&agent, &["--limit", "2"]);
    agent.feeder.publish(log(Category::File, "/etc/motd", ""));
    let text = said(child.wait_with_output().unwrap());
    assert!(text.starts_with("web: 2 operations, 1 alert"), "{text}");
}

#[test]
fn who_interrupts_it_gets_what_was_counted() {
    let agent = Agent::start();
    let child = following(&agent, &[]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let text = said(child.wait_with_output().unwrap());
    assert_eq!(text, "nothing was reported\n");
}

#[test]
fn what_cannot_be_asked_for_is_said_before_anybody_is_asked() {
    let agent = Agent::start();
    for (arguments, why) in [
        (&["--since", "soon"][..], "since=soon"),
        (&["--for", "long"], "`long` is no time span"),
    ] {
        let output = command(&agent, arguments).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(why), "{said}");
    }
}
