// SPDX-License-Identifier: Apache-2.0
//! Server and client over a Unix socket, as agent and command line use them.
//!
//! A subscription is in place when the call that asks for it has returned; what is published after
//! that arrives, so that nothing here has to wait for time to pass.
#![cfg(test)]

mod events;

use events::{container, container_alert, host_alert, log, message};
use gorget_model::Event;
use gorget_telemetry::{BindError, Client, Feeder, bind, proto, serve};
use proto::log_service_client::LogServiceClient;
use proto::{NonceMessage, RequestMessage};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// Runs `client` while a server serves `feeder`, shuts the server down, and waits until it is.
async fn served<F: Future>(client: impl FnOnce(Feeder, PathBuf) -> F) -> F::Output {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("run/gorget.sock");
    let listener = bind(&path).unwrap();
    let feeder = Feeder::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve(feeder.clone(), nobody(), listener, async {
        stopped.await.unwrap();
    });
    let client = async {
        let output = client(feeder, path).await;
        stop.send(()).unwrap();
        output
    };
    let (served, output) = tokio::join!(server, client);
    served.unwrap();
    output
}

async fn raw_client(path: &Path) -> LogServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    LogServiceClient::new(endpoint.connect().await.unwrap())
}

fn filter(filter: &str) -> RequestMessage {
    RequestMessage {
        filter: filter.to_owned(),
    }
}

#[tokio::test]
async fn a_container_alert_arrives_whole() {
    let alert = served(|feeder, path| async move {
        let mut client = Client::connect(&path).await.unwrap();
        let mut alerts = client.alerts().await.unwrap();
        feeder.publish(Event::Message(message("not an alert")));
        feeder.publish(Event::Log(log(container())));
        feeder.publish(Event::Alert(container_alert()));
        alerts.message().await.unwrap().unwrap()
    })
    .await;
    assert_eq!(alert.timestamp, 1_767_323_045);
    assert_eq!(alert.updated_time, "2026-01-02T03:04:05.000006Z");
    assert_eq!(alert.r#type, "MatchedPolicy");
    assert_eq!(alert.policy_name, "ksp-token");
    assert_eq!(alert.severity, "7");
    assert_eq!(alert.tags, "secrets,MITRE");
    assert_eq!(alert.a_tags, ["secrets", "MITRE"]);
    assert_eq!(alert.message, "a token was asked for");
    assert_eq!(alert.namespace_name, "container_namespace");
    assert_eq!(alert.container_id, "c0ffee");
    assert_eq!(alert.container_name, "web");
    assert_eq!(alert.container_image, "docker.io/library/nginx:1.29");
    assert_eq!(alert.labels, "app=web,tier=front");
    assert_eq!((alert.host_pid, alert.host_ppid), (4242, 4241));
    assert_eq!((alert.pid, alert.ppid, alert.uid), (42, 41, 1000));
    assert_eq!(alert.process_name, "/usr/bin/head");
    assert_eq!(alert.parent_process_name, "/usr/bin/bash");
    assert_eq!(alert.source, "/usr/bin/head -c1 /run/secrets/token");
    assert_eq!(alert.operation, "File");
    assert_eq!(alert.resource, "/run/secrets/token");
    assert_eq!(alert.event_data.get("Flags").unwrap(), "O_RDONLY");
    assert_eq!(alert.action, "Block");
    assert_eq!(alert.result, "Permission denied");
    assert_eq!(alert.enforcer, "BPFLSM");
}

#[tokio::test]
async fn a_host_alert_arrives_without_a_container() {
    let alert = served(|feeder, path| async move {
        let mut client = Client::connect(&path).await.unwrap();
        let mut alerts = client.alerts().await.unwrap();
        feeder.publish(Event::Alert(host_alert()));
        alerts.message().await.unwrap().unwrap()
    })
    .await;
    assert_eq!(alert.r#type, "MatchedHostPolicy");
    assert_eq!(alert.host_name, "node-1");
    assert_eq!(alert.user_name, "alice");
    assert_eq!(alert.action, "Audit");
    assert_eq!(alert.operation, "Process");
    for empty in [
        &alert.container_id,
        &alert.container_name,
        &alert.container_image,
        &alert.namespace_name,
        &alert.labels,
    ] {
        assert_eq!(empty, "");
    }
}

#[tokio::test]
async fn logs_and_messages_have_streams_of_their_own() {
    let (log, message) = served(|feeder, path| async move {
        let mut client = Client::connect(&path).await.unwrap();
        let mut logs = client.logs().await.unwrap();
        let mut messages = client.messages().await.unwrap();
        feeder.publish(Event::Alert(container_alert()));
        feeder.publish(Event::Message(message("hello")));
        feeder.publish(Event::Log(log(container())));
        let log = logs.message().await.unwrap().unwrap();
        (log, messages.message().await.unwrap().unwrap())
    })
    .await;
    assert_eq!(log.r#type, "ContainerLog");
    assert_eq!(log.resource, "/etc/motd");
    assert_eq!(
        (message.level.as_str(), message.message.as_str()),
        ("INFO", "hello")
    );
}

#[tokio::test]
async fn every_client_gets_every_alert() {
    served(|feeder, path| async move {
        let mut first = Client::connect(&path).await.unwrap();
        let mut second = Client::connect(&path).await.unwrap();
        let mut first_alerts = first.alerts().await.unwrap();
        let mut second_alerts = second.alerts().await.unwrap();
        feeder.publish(Event::Alert(container_alert()));
        feeder.publish(Event::Alert(host_alert()));
        for alerts in [&mut first_alerts, &mut second_alerts] {
            for policy in ["ksp-token", "hsp-head"] {
                let alert = alerts.message().await.unwrap().unwrap();
                assert_eq!(alert.policy_name, policy);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_keep_others_from_their_alerts() {
    served(|feeder, path| async move {
        let mut leaving = Client::connect(&path).await.unwrap();
        let mut staying = Client::connect(&path).await.unwrap();
        let left = leaving.alerts().await.unwrap();
        let mut alerts = staying.alerts().await.unwrap();
        drop((left, leaving));
        feeder.publish(Event::Alert(container_alert()));
        let alert = alerts.message().await.unwrap().unwrap();
        assert_eq!(alert.policy_name, "ksp-token");
    })
    .await;
}

#[tokio::test]
async fn an_unknown_filter_is_refused_with_those_that_are_known() {
    let (alerts, logs) = served(|_feeder, path| async move {
        let mut client = raw_client(&path).await;
        let alerts = client.watch_alerts(filter("system")).await.unwrap_err();
        (
            alerts,
            client.watch_logs(filter("policy")).await.unwrap_err(),
        )
    })
    .await;
    assert_eq!(alerts.code(), Code::InvalidArgument);
    assert_eq!(
        alerts.message(),
        "unknown filter `system`, allowed are `all`, `policy`"
    );
    assert_eq!(logs.code(), Code::InvalidArgument);
    assert_eq!(
        logs.message(),
        "unknown filter `policy`, allowed are `all`, `system`"
    );
}

#[tokio::test]
async fn the_filters_of_kubearmors_client_are_known() {
    served(|_feeder, path| async move {
        let mut client = raw_client(&path).await;
        for known in ["", "all", "policy"] {
            client.watch_alerts(filter(known)).await.unwrap();
        }
        for known in ["", "all", "system"] {
            client.watch_logs(filter(known)).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_health_check_gives_the_nonce_back() {
    let reply = served(|_feeder, path| async move {
        let mut client = raw_client(&path).await;
        client.health_check(NonceMessage { nonce: 42 }).await
    })
    .await;
    assert_eq!(reply.unwrap().into_inner().retval, 42);
}

#[tokio::test]
async fn shutdown_ends_the_server_and_the_streams_of_its_clients() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("gorget.sock");
    let listener = bind(&path).unwrap();
    let feeder = Feeder::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve(feeder.clone(), nobody(), listener, async {
        stopped.await.unwrap();
    });
    let client = async {
        let mut client = Client::connect(&path).await.unwrap();
        let mut alerts = client.alerts().await.unwrap();
        feeder.publish(Event::Alert(container_alert()));
        stop.send(()).unwrap();
        let last = alerts.message().await.unwrap().unwrap();
        assert_eq!(last.policy_name, "ksp-token");
        assert_eq!(alerts.message().await.unwrap(), None);
    };
    let (served, ()) = tokio::join!(server, client);
    served.unwrap();
    Client::connect(&path).await.unwrap_err();
}

#[tokio::test]
async fn only_its_owner_can_open_the_socket() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("gorget.sock");
    let _listener = bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_socket_that_was_left_over_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("gorget.sock");
    drop(bind(&path).unwrap());
    assert!(path.exists());
    let listener = bind(&path).unwrap();
    let (accepted, connected) =
        tokio::join!(listener.accept(), tokio::net::UnixStream::connect(&path));
    accepted.unwrap();
    connected.unwrap();
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("gorget.sock");
    let listener = bind(&path).unwrap();
    let refused = bind(&path).unwrap_err();
    assert!(matches!(&refused, BindError::InUse(used) if *used == path));
    assert!(
        refused
            .to_string()
            .ends_with("is in use: another agent is running")
    );
    let (accepted, connected) =
        tokio::join!(listener.accept(), tokio::net::UnixStream::connect(&path));
    accepted.unwrap();
    connected.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_an_error_that_names_the_socket() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("gorget.sock");
    let error = Client::connect(&path).await.unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()));
}

/// Nobody answers questions about policies.
fn nobody() -> tokio::sync::mpsc::Sender<gorget_telemetry::policies::Asked> {
    tokio::sync::mpsc::channel(1).0
}
