// SPDX-License-Identifier: Apache-2.0
//! `gorget policy get` against an agent that is played here.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use expect_test::expect;
use gorget_telemetry::policies::Asked;
use gorget_telemetry::proto::v1::{
    AgentStatus, Given, Limit, Policy, PolicyName, PolicyState, Refused, Workload,
};
use gorget_telemetry::status::{self, Status};
use gorget_telemetry::{Feeder, Services, bind};
use std::process::{Command, Output};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};

const TEXT: &str = "# Nobody reads tokens.\nkind: KubeArmorPolicy\nmetadata:\n  name: no-secrets\n";
const FILE: &str = "/etc/gorget/policies/a.yaml";

fn name() -> PolicyName {
    PolicyName {
        kind: "KubeArmorPolicy".to_owned(),
        namespace: "shop".to_owned(),
        name: "no-secrets".to_owned(),
    }
}

fn given() -> Given {
    let PolicyName {
        kind,
        namespace,
        name,
    } = name();
    Given {
        policy: Some(Policy {
            kind,
            namespace,
            name,
            file: FILE.to_owned(),
            replaced: false,
        }),
        origin: "directory".to_owned(),
        generation: 3,
        text: TEXT.to_owned(),
    }
}

fn agent_status() -> AgentStatus {
    AgentStatus {
        workloads: vec![
            Workload {
                id: "c0ffee".to_owned(),
                name: "web".to_owned(),
                namespace: "shop".to_owned(),
                pod: "web-0".to_owned(),
                policies: vec![name()],
                ..Workload::default()
            },
            Workload {
                id: "beef".to_owned(),
                name: "other".to_owned(),
                ..Workload::default()
            },
        ],
        policies: vec![PolicyState {
            policy: Some(name()),
            file: FILE.to_owned(),
            workloads: 1,
            limits: vec![Limit {
                what: "lines under `apparmor`".to_owned(),
                count: 2,
                reason: "BPF LSM does not know AppArmor's language".to_owned(),
                line: 9,
            }],
            ..PolicyState::default()
        }],
        refused: vec![Refused {
            file: FILE.to_owned(),
            problems: vec![format!("{FILE}:3: unknown field `matchPath`")],
            last_good_in_force: true,
            ..Refused::default()
        }],
        ..AgentStatus::default()
    }
}

/// Runs the program beside an agent that has one policy.
fn run(arguments: &[&str]) -> Output {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("gorget.sock");
    let path = socket.clone();
    let (ready, is_ready) = std_mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = bind(&path).unwrap();
            let (asking, mut asked) = mpsc::channel(1);
            let (asking_status, mut status_asked) = mpsc::channel(1);
            let services = Services::new(Feeder::new())
                .with_policies(asking)
                .with_status(Status {
                    asking: asking_status,
                    state: watch::channel(Arc::default()).1,
                });
            ready.send(()).unwrap();
            let serving = services.serve(listener, async {
                drop(stopped.await);
            });
            let answering = async {
                loop {
                    tokio::select! {
                        Some(asked) = asked.recv() => {
                            let Asked::Get(request, answer) = asked else {
                                panic!("asked for something else: {asked:?}");
                            };
                            let is_it = request.name == "no-secrets"
                                && ["", "shop"].contains(&request.namespace.as_str());
                            answer.send(is_it.then(given).into_iter().collect()).unwrap();
                        }
                        Some(status::Asked::Status(answer)) = status_asked.recv() => {
                            answer.send(agent_status()).unwrap();
                        }
                        else => std::future::pending::<()>().await,
                    }
                }
            };
            tokio::select! {
                served = serving => served.unwrap(),
                () = answering => {}
            }
        });
    });
    is_ready.recv().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(["policy", "get", "--socket", socket.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap();
    stop.send(()).unwrap();
    server.join().unwrap();
    output
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_policy_is_printed_as_it_was_given_with_what_has_become_of_it() {
    expect![[r"
        policy      KubeArmorPolicy `shop/no-secrets`
        origin      the file `/etc/gorget/policies/a.yaml`
        generation  3
        in force    for 1 workload: shop/web-0/web
        degraded    lines under `apparmor` (2 rules, first at line 9): BPF LSM does not know AppArmor's language
        refused     /etc/gorget/policies/a.yaml:3: unknown field `matchPath`

        # Nobody reads tokens.
        kind: KubeArmorPolicy
        metadata:
          name: no-secrets
    "]]
    .assert_eq(&printed(&["no-secrets"]));
}

#[test]
fn as_yaml_it_can_be_applied_again() {
    let text = printed(&["no-secrets", "-n", "shop", "-o", "yaml"]);
    assert!(text.ends_with(TEXT), "{text}");
    let (comments, _) = text.split_at(text.len() - TEXT.len());
    assert_eq!(comments.lines().count(), 6);
    assert!(
        comments.lines().all(|line| line.starts_with("# ")),
        "{text}"
    );
}

#[test]
fn as_json_it_has_both() {
    let json: serde_json::Value =
        serde_json::from_str(&printed(&["no-secrets", "-o", "json"])).unwrap();
    assert_eq!(json[0]["generation"], 3);
    assert_eq!(json[0]["workloads"][0], "shop/web-0/web");
    assert_eq!(json[0]["degraded"][0]["count"], 2);
    assert_eq!(json[0]["text"], TEXT);
    assert_eq!(json[0]["policy"]["metadata"]["name"], "no-secrets");
}

#[test]
fn a_policy_that_is_not_there_is_named_with_what_to_do() {
    for arguments in [&["nothing"][..], &["no-secrets", "-n", "other"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("gorget policy list"), "{said}");
    }
}
