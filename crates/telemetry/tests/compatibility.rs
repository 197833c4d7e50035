// SPDX-License-Identifier: Apache-2.0
//! Every kind of message, from a real server to a client that was generated from definitions of its
//! own, and all numbers of all messages as a golden file.
#![cfg(test)]

mod client;
mod events;

use client::feeder::log_service_client::LogServiceClient;
use client::feeder::{Ask, Nonce};
use client::policy::policy_service_client::PolicyServiceClient;
use client::policy::probe_service_client::ProbeServiceClient;
use client::policy::{Nothing, Outcome, Sent};
use client::state::state_agent_client::StateAgentClient;
use events::{container, container_alert, host_alert, log, message};
use expect_test::expect_file;
use gorget_model::{Alert, Container, Event, Log, Workload};
use gorget_telemetry::proto::policy::{ContainerData, PolicyStatus, ProbeResponse};
use gorget_telemetry::proto::v1::{self, AgentStatus};
use gorget_telemetry::status::{Asked, Status};
use gorget_telemetry::{Client, ENFORCEMENT, Feeder, Limits, Services, bind, policies};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// A server of everything, whose agent has one container, and what a test changes.
struct Server {
    feeder: Feeder,
    services: Services,
    state: watch::Sender<Arc<AgentStatus>>,
    path: PathBuf,
}

fn workload(id: &str) -> v1::Workload {
    v1::Workload {
        id: id.to_owned(),
        name: format!("name-{id}"),
        ..v1::Workload::default()
    }
}

fn status(workloads: &[&str]) -> Arc<AgentStatus> {
    Arc::new(AgentStatus {
        version: "1.2.3".to_owned(),
        node: Some(v1::Node {
            host: "node-1".to_owned(),
            ..v1::Node::default()
        }),
        workloads: workloads.iter().map(|id| workload(id)).collect(),
        ..AgentStatus::default()
    })
}

async fn answer(mut asked: mpsc::Receiver<Asked>, state: watch::Receiver<Arc<AgentStatus>>) {
    while let Some(asked) = asked.recv().await {
        match asked {
            Asked::Status(answer) => {
                let status = AgentStatus::clone(&state.borrow());
                answer.send(status).unwrap();
            }
            Asked::Costs(request, answer) => {
                let costs = v1::Costs {
                    at_nanos: request.measure_seconds.into(),
                    ..v1::Costs::default()
                };
                answer.send(costs).unwrap();
            }
            Asked::Probe(answer) => {
                let data = ContainerData {
                    policy_list: vec!["one".to_owned()],
                    policy_enabled: 1,
                    policy_data_list: Vec::new(),
                };
                answer
                    .send(ProbeResponse {
                        container_list: vec!["web".to_owned()],
                        container_map: [("web".to_owned(), data)].into(),
                        host_map: [("node-1".to_owned(), Default::default())].into(),
                    })
                    .unwrap();
            }
        }
    }
}

async fn answer_policies(mut asked: mpsc::Receiver<policies::Asked>) {
    while let Some(asked) = asked.recv().await {
        match asked {
            policies::Asked::Event(kind, _event, answer) => {
                let status = match kind {
                    "KubeArmorPolicy" => PolicyStatus::Applied,
                    "KubeArmorHostPolicy" => PolicyStatus::NotExist,
                    _ => PolicyStatus::NotEnabled,
                };
                answer.send(status).unwrap();
            }
            other => panic!("nobody asks that: {other:?}"),
        }
    }
}

async fn with_server<T>(test: impl AsyncFnOnce(Server) -> T) -> T {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gorget.sock");
    let listener = bind(&path).unwrap();
    let feeder = Feeder::new().with_history(Limits {
        events: 10,
        bytes: 1 << 20,
    });
    let state = watch::Sender::new(status(&["a"]));
    let (asking, asked) = mpsc::channel(1);
    let (asking_policies, asked_policies) = mpsc::channel(1);
    let services = Services::new(feeder.clone())
        .with_policies(asking_policies)
        .with_status(Status {
            asking,
            state: state.subscribe(),
        });
    let answering = answer(asked, state.subscribe());
    let serving = services.clone().serve(listener, std::future::pending());
    let server = Server {
        feeder,
        services,
        state,
        path,
    };
    tokio::select! {
        done = test(server) => done,
        ended = async {
            tokio::join!(serving, answering, answer_policies(asked_policies)).0
        } => panic!("the server ended: {ended:?}"),
    }
}

impl Server {
    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.path.display())).unwrap();
        endpoint.connect().await.unwrap()
    }
}

fn ask(filter: &str) -> Ask {
    Ask {
        filter: filter.to_owned(),
    }
}

#[tokio::test]
async fn every_field_of_an_alert_arrives_where_kubearmors_client_looks_for_it() {
    let got = with_server(async |server| {
        let mut client = LogServiceClient::new(server.channel().await);
        let mut alerts = client
            .watch_alerts(ask("policy"))
            .await
            .unwrap()
            .into_inner();
        let Workload::Container(plain) = container() else {
            panic!("not a container");
        };
        let workload = Arc::new(Workload::Container(Container {
            namespace: Some("shop".to_owned()),
            pod: Some("web-0".to_owned()),
            ..plain
        }));
        server.feeder.publish(Event::Alert(Alert {
            workload,
            ..container_alert()
        }));
        server.feeder.publish(Event::Alert(host_alert()));
        let container = alerts.message().await.unwrap().unwrap();
        (container, alerts.message().await.unwrap().unwrap())
    })
    .await;
    expect_file!["testdata/alerts.txt"].assert_debug_eq(&got);
}

#[tokio::test]
async fn every_field_of_a_log_and_a_message_arrives_where_kubearmors_client_looks_for_it() {
    let got = with_server(async |server| {
        let mut client = LogServiceClient::new(server.channel().await);
        let mut logs = client.watch_logs(ask("system")).await.unwrap().into_inner();
        let mut notes = client
            .watch_messages(ask("all"))
            .await
            .unwrap()
            .into_inner();
        server.feeder.publish(Event::Log(log(container())));
        server.feeder.publish(Event::Message(message("hello")));
        let log = logs.message().await.unwrap().unwrap();
        (log, notes.message().await.unwrap().unwrap())
    })
    .await;
    expect_file!["testdata/logs.txt"].assert_debug_eq(&got);
}

#[tokio::test]
async fn kubearmors_clients_are_answered_by_all_services() {
    with_server(async |server| {
        let channel = server.channel().await;
        let mut feed = LogServiceClient::new(channel.clone());
        let echo = feed.health_check(Nonce { value: 42 }).await.unwrap();
        assert_eq!(echo.into_inner().value, 42);

        let mut changes = PolicyServiceClient::new(channel.clone());
        let sent = || Sent {
            json: b"{}".to_vec(),
        };
        let outcome = changes.container_policy(sent()).await.unwrap();
        assert_eq!(outcome.into_inner().outcome(), Outcome::Applied);
        let outcome = changes.host_policy(sent()).await.unwrap();
        assert_eq!(outcome.into_inner().outcome(), Outcome::NotExist);
        let outcome = changes.network_policy(sent()).await.unwrap();
        assert_eq!(outcome.into_inner().outcome(), Outcome::NotEnabled);

        let mut probe = ProbeServiceClient::new(channel.clone());
        let found = probe.get_probe_data(Nothing {}).await.unwrap().into_inner();
        assert_eq!(found.containers, ["web"]);
        let web = found.by_container.get("web").unwrap();
        assert_eq!(
            (web.names.as_slice(), web.enabled),
            (["one".to_owned()].as_slice(), 1)
        );
        assert!(found.by_host.contains_key("node-1"));

        let mut state = StateAgentClient::new(channel);
        let mut all = state
            .get_state(client::state::Nothing {})
            .await
            .unwrap()
            .into_inner();
        let all = all.message().await.unwrap().unwrap().all;
        let told: Vec<_> = all
            .iter()
            .map(|it| (it.kind.as_str(), it.name.as_str()))
            .collect();
        assert_eq!(told, [("node", "node-1"), ("container", "name-a")]);
    })
    .await;
}

#[tokio::test]
async fn who_watches_the_state_gets_it_and_then_its_changes() {
    with_server(async |server| {
        let mut client = StateAgentClient::new(server.channel().await);
        let mut changes = client
            .watch_state(client::state::Nothing {})
            .await
            .unwrap()
            .into_inner();
        let mut next = async || {
            let change = changes.message().await.unwrap().unwrap();
            let json: serde_json::Value = serde_json::from_slice(&change.json).unwrap();
            assert!(json.is_object());
            format!("{} {} {}", change.how, change.kind, change.name)
        };
        assert_eq!(next().await, "added node node-1");
        assert_eq!(next().await, "added container name-a");
        server.state.send_replace(status(&["b"]));
        assert_eq!(next().await, "deleted container name-a");
        assert_eq!(next().await, "added container name-b");
    })
    .await;
}

#[tokio::test]
async fn the_agent_says_what_it_is_and_does() {
    with_server(async |server| {
        let mut client = Client::connect(&server.path).await.unwrap();
        let status = client.status().await.unwrap();
        assert_eq!(client.costs(7).await.unwrap().at_nanos, 7);
        assert_eq!(status.version, "1.2.3");
        assert_eq!(status.workloads, [workload("a")]);
    })
    .await;
}

#[tokio::test]
async fn health_tells_of_the_server_and_of_what_is_in_force() {
    with_server(async |server| {
        let mut client = HealthClient::new(server.channel().await);
        let mut check = async |service: &str| {
            let service = service.to_owned();
            let answer = client.check(HealthCheckRequest { service }).await;
            answer.map(|answer| answer.into_inner().status)
        };
        for service in [
            "",
            "feeder.LogService",
            "policy.ProbeService",
            "gorget.v1.Agent",
        ] {
            assert_eq!(check(service).await.unwrap(), 1, "{service}");
        }
        assert_eq!(check(ENFORCEMENT).await.unwrap_err().code(), Code::NotFound);
        server.services.set_enforcement(true).await;
        assert_eq!(check(ENFORCEMENT).await.unwrap(), 1);
        server.services.set_enforcement(false).await;
        assert_eq!(check(ENFORCEMENT).await.unwrap(), 2);
        assert_eq!(check("").await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn reflection_lists_what_is_offered_and_describes_it() {
    with_server(async |server| {
        let mut client = ServerReflectionClient::new(server.channel().await);
        let request = |message| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let questions = [
            request(MessageRequest::ListServices(String::new())),
            request(MessageRequest::FileContainingSymbol(
                "feeder.Alert".to_owned(),
            )),
        ];
        let answers = client.server_reflection_info(tokio_stream::iter(questions));
        let mut answers = answers.await.unwrap().into_inner();
        let mut next = async || {
            answers
                .message()
                .await
                .unwrap()
                .unwrap()
                .message_response
                .unwrap()
        };
        let MessageResponse::ListServicesResponse(listed) = next().await else {
            panic!("not a list");
        };
        let mut names: Vec<_> = listed.service.into_iter().map(|it| it.name).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "feeder.LogService",
                "gorget.v1.Agent",
                "gorget.v1.Policies",
                "grpc.health.v1.Health",
                "policy.PolicyService",
                "policy.ProbeService",
                "state_agent.StateAgent",
            ]
        );
        let described = next().await;
        assert!(
            matches!(&described, MessageResponse::FileDescriptorResponse(file)
                if !file.file_descriptor_proto.is_empty()),
            "{described:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn filters_are_applied_by_the_server_and_a_bad_one_is_explained() {
    with_server(async |server| {
        let mut client = LogServiceClient::new(server.channel().await);
        let filter =
            r"policy,namespace=container_namespace,operation=File,action=Block,policyName=~^ksp-";
        let mut alerts = client.watch_alerts(ask(filter)).await.unwrap().into_inner();
        let mut logs = client
            .watch_logs(ask("resource=~shadow$"))
            .await
            .unwrap()
            .into_inner();
        server.feeder.publish(Event::Alert(host_alert()));
        server.feeder.publish(Event::Alert(container_alert()));
        server.feeder.publish(Event::Log(log(container())));
        server.feeder.publish(Event::Log(Log {
            resource: "/etc/shadow".to_owned(),
            ..log(container())
        }));
        assert_eq!(alerts.message().await.unwrap().unwrap().policy, "ksp-token");
        assert_eq!(
            logs.message().await.unwrap().unwrap().resource,
            "/etc/shadow"
        );
        for (bad, part) in [
            ("policy,user=root", "unknown field `user`"),
            ("policy=~(", "is no regular expression"),
            ("since=yesterday", "`since=yesterday` is neither"),
            ("alerts", "unknown filter `alerts`"),
        ] {
            let refused = client.watch_alerts(ask(bad)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().contains(part), "{refused:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_before_comes_first_if_asked_for_and_each_event_once() {
    with_server(async |server| {
        let mut client = LogServiceClient::new(server.channel().await);
        let at = |seconds: i64, name: &str| {
            let mut alert = container_alert();
            alert.unix_micros = seconds * 1_000_000;
            alert.policy.name = name.to_owned();
            Event::Alert(alert)
        };
        server.feeder.publish(at(1_000, "long-ago"));
        server.feeder.publish(at(2_000, "before"));
        server.feeder.publish(Event::Log(log(container())));
        let mut filtered =
            async |filter: &str| client.watch_alerts(ask(filter)).await.unwrap().into_inner();
        let mut since = filtered("policy,since=2000").await;
        let mut other = filtered("since=0,policy=long-ago,policy=after").await;
        let mut new = filtered("all").await;
        // Long before now.
        let mut span = filtered("since=1h").await;
        server.feeder.publish(at(3_000, "after"));
        for (stream, names) in [
            (&mut since, ["before", "after"].as_slice()),
            (&mut other, &["long-ago", "after"]),
            (&mut new, &["after"]),
            (&mut span, &["after"]),
        ] {
            for name in names {
                assert_eq!(stream.message().await.unwrap().unwrap().policy, *name);
            }
        }
    })
    .await;
}

/// Everything that is a contract: messages with the numbers, names and types of their fields (`*`:
/// repeated), enumerations, and services.
#[test]
fn no_number_of_any_message_changes() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let names = [
        "feeder.proto",
        "policy.proto",
        "state.proto",
        "policies.proto",
        "status.proto",
    ];
    let files = protox::compile(names, [directory]).unwrap();
    let mut text = String::new();
    for file in files
        .file
        .iter()
        .filter(|file| file.package() != "google.protobuf")
    {
        let package = file.package();
        for message in &file.message_type {
            text += &format!("message {package}.{}\n", message.name());
            for field in &message.field {
                let kind = match field.type_name() {
                    "" => format!("{:?}", field.r#type()).to_lowercase(),
                    name => name.trim_start_matches('.').to_owned(),
                };
                let repeated = if field.label() as i32 == 3 { "*" } else { "" };
                text += &format!("  {} {} {kind}{repeated}\n", field.number(), field.name());
            }
        }
        for list in &file.enum_type {
            text += &format!("enum {package}.{}\n", list.name());
            for value in &list.value {
                text += &format!("  {} {}\n", value.number(), value.name());
            }
        }
        for service in &file.service {
            text += &format!("service {package}.{}\n", service.name());
            for method in &service.method {
                let stream = if method.server_streaming() {
                    "stream "
                } else {
                    ""
                };
                let short = |name: &str| name.trim_start_matches('.').to_owned();
                text += &format!(
                    "  {}({}) {stream}{}\n",
                    method.name(),
                    short(method.input_type()),
                    short(method.output_type())
                );
            }
        }
    }
    expect_file!["testdata/numbers.txt"].assert_eq(&text);
}
