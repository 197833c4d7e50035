// SPDX-License-Identifier: Apache-2.0
//! Questions about policies over the wire, with KubeArmor's client and with our own.
#![cfg(test)]

use gorget_telemetry::policies::{Asked, Refusal};
use gorget_telemetry::proto::policy::policy_service_client::PolicyServiceClient;
use gorget_telemetry::proto::policy::{Policy, PolicyStatus};
use gorget_telemetry::proto::v1::{self, ApplyReply, DeleteRequest, GetRequest, Given};
use gorget_telemetry::{Client, Feeder, bind, serve};
use std::path::Path;
use tokio::sync::mpsc::{Receiver, channel};
use tonic::Code;
use tonic::transport::Endpoint;

/// Answers as an agent would that keeps nothing.
async fn answer(mut asked: Receiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        match asked {
            Asked::Event(kind, event, answer) => {
                let is_it = (kind, event.as_slice()) == ("KubeArmorHostPolicy", b"{}");
                let status = if is_it {
                    PolicyStatus::Modified
                } else {
                    PolicyStatus::Invalid
                };
                answer.send(status).unwrap();
            }
            Asked::Apply(request, answer) => {
                let refusal = Refusal::Invalid(format!("{}:1: {}", request.name, request.text));
                answer.send(Err::<ApplyReply, _>(refusal)).unwrap();
            }
            Asked::Delete(policy, answer) => {
                answer.send(Err(Refusal::NotFound(policy.name))).unwrap();
            }
            Asked::Get(request, answer) => {
                let given = Given {
                    text: format!("name: {}", request.name),
                    ..Given::default()
                };
                answer.send(vec![given]).unwrap();
            }
            Asked::List(answer) => {
                let name = "one".to_owned();
                answer
                    .send(vec![v1::Policy {
                        name,
                        ..v1::Policy::default()
                    }])
                    .unwrap();
            }
        }
    }
}

async fn with_server<T>(
    owner: impl Future<Output = ()>,
    asking: tokio::sync::mpsc::Sender<Asked>,
    ask: impl AsyncFnOnce(&Path) -> T,
) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gorget.sock");
    let listener = bind(&path).unwrap();
    let server = serve(Feeder::new(), asking, listener, std::future::pending());
    tokio::select! {
        done = ask(&path) => done,
        ended = async { tokio::join!(server, owner).0 } => panic!("the server ended: {ended:?}"),
    }
}

#[tokio::test]
async fn kubearmors_client_gets_kubearmors_status() {
    let (asking, asked) = channel(1);
    with_server(answer(asked), asking, async |path| {
        let address = format!("unix:{}", path.display());
        let channel = Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut client = PolicyServiceClient::new(channel);
        let sent = || Policy {
            policy: b"{}".to_vec(),
        };
        let status = client
            .host_policy(sent())
            .await
            .unwrap()
            .into_inner()
            .status;
        assert_eq!(status, i32::from(PolicyStatus::Modified));
        let status = client
            .container_policy(sent())
            .await
            .unwrap()
            .into_inner()
            .status;
        assert_eq!(status, i32::from(PolicyStatus::Invalid));
    })
    .await;
}

#[tokio::test]
async fn our_client_learns_why_not() {
    let (asking, asked) = channel(1);
    with_server(answer(asked), asking, async |path| {
        let mut client = Client::connect(path).await.unwrap();
        let refused = client
            .apply_policies("a.yaml".to_owned(), "x".to_owned())
            .await;
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::InvalidArgument, "a.yaml:1: x")
        );
        let name = "gone".to_owned();
        let unknown = client
            .delete_policy(DeleteRequest {
                name,
                ..DeleteRequest::default()
            })
            .await;
        assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
        assert_eq!(client.policies().await.unwrap()[0].name, "one");
        let one = GetRequest {
            name: "one".to_owned(),
            ..GetRequest::default()
        };
        let given = client.given_policies(one).await.unwrap();
        assert_eq!(given[0].text, "name: one");
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_ending_says_so() {
    let (asking, asked) = channel(1);
    drop(asked);
    with_server(async {}, asking, async |path| {
        let mut client = Client::connect(path).await.unwrap();
        assert_eq!(
            client.policies().await.unwrap_err().code(),
            Code::Unavailable
        );
    })
    .await;
}
