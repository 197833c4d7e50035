// SPDX-License-Identifier: Apache-2.0
//! `gorget probe` against an agent that is played here, and against no agent.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use expect_test::expect_file;
use gorget_telemetry::proto::v1::agent_server::{Agent, AgentServer};
use gorget_telemetry::proto::v1::{
    AgentStatus, Costs, FeedClient, GetCostsRequest, GetStatusRequest, Health, LeftOut, Limit,
    Loss, Node, Output as Sink, PolicyName, PolicyState, Postures, Refused, Runtime, Starts,
    Workload,
};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Says what it was given.
struct Played(AgentStatus);

#[tonic::async_trait]
impl Agent for Played {
    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<AgentStatus>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn get_costs(
        &self,
        _request: Request<GetCostsRequest>,
    ) -> Result<Response<Costs>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// An agent on a socket, until it is dropped.
struct Served {
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    fn start(status: AgentStatus) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("gorget.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let server = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(path).unwrap();
                ready.send(()).unwrap();
                Server::builder()
                    .add_service(AgentServer::new(Played(status)))
                    .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
                        drop(stopped.await);
                    })
                    .await
                    .unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self {
            directory,
            stop: Some(stop),
            server: Some(server),
        }
    }

    fn probe(&self, arguments: &[&str]) -> Output {
        probe(&self.directory.path().join("gorget.sock"), arguments)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

fn probe(socket: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(["probe", "--socket", socket.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap()
}

fn policy(kind: &str, namespace: &str, name: &str) -> PolicyName {
    PolicyName {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn in_force(policy: &PolicyName, workloads: u32) -> PolicyState {
    PolicyState {
        policy: Some(policy.clone()),
        file: format!("/etc/gorget/policies/{}.yaml", policy.name),
        workloads,
        ..PolicyState::default()
    }
}

fn workload(id: &str, name: &str, policies: &[&PolicyName]) -> Workload {
    Workload {
        id: id.to_owned(),
        name: name.to_owned(),
        backend: "bpf".to_owned(),
        policies: policies.iter().map(|policy| (*policy).clone()).collect(),
        ..Workload::default()
    }
}

/// Everything is as it should be.
fn well() -> AgentStatus {
    let netcat = policy("KubeArmorPolicy", "shop", "no-netcat");
    let shadow = policy("KubeArmorHostPolicy", "", "shadow-is-roots");
    let everywhere = policy("KubeArmorClusterPolicy", "", "no-miners");
    let postures = |device: &str| Postures {
        file: "audit".to_owned(),
        network: "audit".to_owned(),
        capabilities: "block".to_owned(),
        device: device.to_owned(),
    };
    let web = Workload {
        namespace: "shop".to_owned(),
        pod: "web-7f9c".to_owned(),
        image: "docker.io/library/nginx:1.27".to_owned(),
        ..workload("c0ffee", "nginx", &[&netcat, &everywhere])
    };
    AgentStatus {
        version: "0.1.0".to_owned(),
        node: Some(Node {
            cluster: "default".to_owned(),
            host: "web-1".to_owned(),
            id: "1f0c".to_owned(),
            kernel: "6.12.117+deb13-amd64".to_owned(),
            labels: [("zone".to_owned(), "b".to_owned())].into(),
        }),
        started_unix_micros: 1_767_323_045_000_006,
        uptime_seconds: 273_600,
        backend: "bpf".to_owned(),
        hooks: (0..86).map(|number| format!("hook{number}")).collect(),
        container_postures: Some(postures("")),
        host_postures: Some(postures("audit")),
        container_visibility: vec!["process".to_owned(), "network".to_owned()],
        self_protection: "block".to_owned(),
        on_stop: "keep".to_owned(),
        host: Some(workload("", "web-1", &[&shadow])),
        workloads: vec![web, workload("beef", "tools", &[])],
        policies: [(&netcat, 1), (&shadow, 1), (&everywhere, 1)]
            .map(|(policy, count)| in_force(policy, count))
            .into(),
        losses: ["ring_full", "no_memory"]
            .map(|stage| Loss {
                stage: stage.to_owned(),
                count: 0,
            })
            .into(),
        runtimes: vec![Runtime {
            name: "containerd".to_owned(),
            connected: true,
            version: "containerd v1.7.24".to_owned(),
            error: String::new(),
        }],
        health: Some(Health {
            healthy: true,
            problems: Vec::new(),
        }),
        starts: Some(Starts {
            containers: 12,
            late: 0,
            most_micros: 0,
            ..Starts::default()
        }),
        clients: vec![FeedClient {
            name: "alerts".to_owned(),
            queued: 3,
            capacity: 8192,
            lost: 0,
        }],
        resident_bytes: 22 << 20,
        ..AgentStatus::default()
    }
}

/// Everything that can go wrong has.
fn ill() -> AgentStatus {
    let mut status = well();
    status.backend = "apparmor".to_owned();
    status.left_out = vec![LeftOut {
        hook: "path_post_mknod".to_owned(),
        instead: "path_mknod".to_owned(),
    }];
    for workload in &mut status.workloads {
        workload.backend = "audit-only".to_owned();
        workload.remark = "it does not run in the profile `kubearmor_nginx`".to_owned();
        workload.not_in_force = "the kernel has no room for 10,000 rules".to_owned();
    }
    if let Some(policy) = status.policies.first_mut() {
        policy.limits = vec![Limit {
            what: "rules about system calls".to_owned(),
            count: 2,
            reason: "AppArmor does not enforce them".to_owned(),
            line: 14,
        }];
        policy.workloads = 0;
    }
    status.refused = vec![Refused {
        file: "/etc/gorget/policies/b.yaml".to_owned(),
        problems: vec!["b.yaml:3:7: `Bock` is no action, allowed are ...".to_owned()],
        last_good_in_force: true,
        ..Refused::default()
    }];
    if let Some(loss) = status.losses.first_mut() {
        loss.count = 12;
    }
    status.runtimes.push(Runtime {
        name: "podman of user 1000".to_owned(),
        error: "connection refused".to_owned(),
        ..Runtime::default()
    });
    status.starts = Some(Starts {
        containers: 12,
        late: 2,
        most_micros: 3_240,
        ..Starts::default()
    });
    status.outputs = vec![Sink {
        kind: "file".to_owned(),
        target: "/var/log/gorget.jsonl".to_owned(),
        error: "no space left on device".to_owned(),
        lost: 7,
    }];
    status.health = Some(Health {
        healthy: false,
        problems: vec!["the log cannot be written: no space left on device".to_owned()],
    });
    status
}

fn text(output: &Output) -> String {
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.ends_with(' '), "{line:?}");
    }
    text
}

#[test]
fn an_agent_that_is_well_is_shown_with_what_it_protects() {
    let output = Served::start(well()).probe(&[]);
    assert_eq!(output.status.code(), Some(0));
    expect_file!["../testdata/probe/agent.txt"].assert_eq(&text(&output));
}

#[test]
fn what_is_not_as_it_should_be_is_shown_at_its_place() {
    let output = Served::start(ill()).probe(&[]);
    assert_eq!(output.status.code(), Some(1));
    expect_file!["../testdata/probe/agent-ill.txt"].assert_eq(&text(&output));
}

#[test]
fn the_same_is_there_as_json() {
    let output = Served::start(ill()).probe(&["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["running"], true);
    assert_eq!(json["full"], false);
    let status = &json["status"];
    assert_eq!(status["backend"], "apparmor");
    assert_eq!(
        status["workloads"][0]["policies"][1]["kind"],
        "KubeArmorClusterPolicy"
    );
    assert_eq!(status["policies"][0]["limits"][0]["line"], 14);
    assert_eq!(status["refused"][0]["lastGoodInForce"], true);
}

#[test]
fn one_policy_that_is_not_enforced_whole_is_enough_for_another_exit_status() {
    let mut status = well();
    if let (Some(policy), Some(limited)) = (status.policies.first_mut(), ill().policies.first()) {
        policy.limits.clone_from(&limited.limits);
    }
    assert_eq!(Served::start(status).probe(&[]).status.code(), Some(1));
}

#[test]
fn an_agent_that_was_named_and_does_not_answer_is_an_error_with_advice() {
    let directory = TempDir::new().unwrap();
    let output = probe(&directory.path().join("none.sock"), &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is `gorgetd` running?"), "{said}");
}

#[test]
fn this_machine_is_looked_at_without_an_agent() {
    let output = Command::new(env!("CARGO_BIN_EXE_gorget"))
        // Nothing is to be tried in the kernel of whoever runs the tests.
        .args(["probe", "--machine", "--only-read", "-o", "json"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = match json["verdict"].as_str().unwrap() {
        "full" => 0,
        "degraded" => 1,
        "impossible" => 2,
        other => panic!("{other}"),
    };
    assert_eq!(output.status.code(), Some(expected));
    assert!(
        json["facts"]["kernel"]["release"]
            .as_str()
            .unwrap()
            .contains('.')
    );
}
