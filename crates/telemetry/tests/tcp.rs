// SPDX-License-Identifier: Apache-2.0
//! The services over TCP, asked by a client that shares no code with them: messages and methods are
//! written here again, from what KubeArmor's clients send.
#![cfg(test)]

use gorget_telemetry::policies::Asked;
use gorget_telemetry::proto::policy::PolicyStatus;
use gorget_telemetry::{ENFORCEMENT, Feeder, ListenError, Services, Tcp, Tls};
use std::fs;
use std::net::SocketAddr;
use tokio::sync::mpsc::{Receiver, channel};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct SentPolicy {
    #[prost(bytes, tag = "1")]
    policy: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nonce {
    #[prost(int32, tag = "1")]
    nonce: i32,
}

fn pem(file: &str) -> Vec<u8> {
    fs::read(format!("testdata/tls/{file}")).unwrap()
}

fn tls() -> Tls {
    Tls {
        ca: pem("ca.crt"),
        certificate: pem("server.crt"),
        key: pem("server.key"),
    }
}

async fn answer(mut asked: Receiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        match asked {
            Asked::Event("KubeArmorPolicy", event, answer) if event == b"{}" => {
                answer.send(PolicyStatus::Applied).unwrap();
            }
            other => panic!("not what was sent: {other:?}"),
        }
    }
}

/// Serves, with or without what changes policies, while `ask` asks.
async fn with_port<T>(
    tls: Option<Tls>,
    with_policies: bool,
    ask: impl AsyncFnOnce(SocketAddr) -> T,
) -> T {
    let tcp = Tcp::bind("127.0.0.1:0".parse().unwrap(), tls)
        .await
        .unwrap();
    let address = tcp.address().unwrap();
    let (asking, asked) = channel(1);
    let all = Services::new(Feeder::new()).with_policies(asking);
    let services = if with_policies {
        all
    } else {
        all.without_policies()
    };
    let server = tcp.serve(services, std::future::pending());
    tokio::select! {
        done = ask(address) => done,
        ended = async { tokio::join!(server, answer(asked)).0 } => panic!("it ended: {ended:?}"),
    }
}

async fn plain(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// A client that shows a certificate, if it has one.
async fn secure(
    address: SocketAddr,
    certificate: Option<&str>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem("ca.crt")))
        .domain_name("localhost");
    if let Some(name) = certificate {
        let (certificate, key) = (pem(&format!("{name}.crt")), pem(&format!("{name}.key")));
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Endpoint::from_shared(format!("https://{address}"))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
}

/// As `karmor vm policy add` does.
async fn add_policy(channel: Channel) -> Result<i32, Status> {
    let mut client = Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/policy.PolicyService/containerPolicy");
    let request = Request::new(SentPolicy {
        policy: b"{}".to_vec(),
    });
    let codec = ProstCodec::<SentPolicy, Answer>::default();
    let answer = client.unary(request, path, codec).await?;
    Ok(answer.into_inner().status)
}

async fn is_healthy(channel: Channel) -> Result<i32, Status> {
    let mut client = Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/feeder.LogService/HealthCheck");
    let request = Request::new(Nonce { nonce: 7 });
    let codec = ProstCodec::<Nonce, Answer>::default();
    Ok(client
        .unary(request, path, codec)
        .await?
        .into_inner()
        .status)
}

#[tokio::test]
async fn a_plain_port_with_policies_serves_kubearmors_client() {
    with_port(None, true, async |address| {
        assert_eq!(add_policy(plain(address).await).await.unwrap(), 1);
        assert_eq!(is_healthy(plain(address).await).await.unwrap(), 7);
    })
    .await;
}

#[tokio::test]
async fn a_plain_port_without_policies_serves_the_feed_only() {
    with_port(None, false, async |address| {
        let refused = add_policy(plain(address).await).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert_eq!(is_healthy(plain(address).await).await.unwrap(), 7);
    })
    .await;
}

#[tokio::test]
async fn a_client_with_a_certificate_of_the_authority_changes_policies() {
    with_port(Some(tls()), true, async |address| {
        let channel = secure(address, Some("client")).await.unwrap();
        assert_eq!(add_policy(channel).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_client_without_a_certificate_or_with_a_strangers_gets_nothing() {
    with_port(Some(tls()), true, async |address| {
        for certificate in [None, Some("stranger")] {
            // The handshake may fail after the client believes that it is done.
            if let Ok(channel) = secure(address, certificate).await {
                assert!(add_policy(channel).await.is_err(), "{certificate:?}");
            }
        }
        assert!(add_policy(plain_lazily(address)).await.is_err());
    })
    .await;
}

/// Nothing is sent before the first question.
fn plain_lazily(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_lazy()
}

#[tokio::test]
async fn the_port_for_health_tells_health_and_nothing_else() {
    let tcp = Tcp::bind("127.0.0.1:0".parse().unwrap(), None)
        .await
        .unwrap();
    let address = tcp.address().unwrap();
    let services = Services::new(Feeder::new());
    services.set_enforcement(false).await;
    let asking = async {
        let channel = plain(address).await;
        let mut health = HealthClient::new(channel.clone());
        let mut check = async |service: &str| {
            let service = service.to_owned();
            let answer = health.check(HealthCheckRequest { service }).await;
            answer.unwrap().into_inner().status
        };
        assert_eq!((check("").await, check(ENFORCEMENT).await), (1, 2));
        let refused = is_healthy(channel).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
    };
    tokio::select! {
        () = asking => {}
        ended = tcp.serve_health(services) => panic!("it ended: {ended:?}"),
    }
}

#[tokio::test]
async fn certificates_that_do_not_belong_together_are_refused_before_anything_is_served() {
    let address = "127.0.0.1:0".parse().unwrap();
    let mismatched = Tls {
        key: pem("client.key"),
        ..tls()
    };
    let nonsense = Tls {
        ca: b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_vec(),
        ..tls()
    };
    for unusable in [mismatched, nonsense] {
        let refused = Tcp::bind(address, Some(unusable)).await;
        assert!(matches!(refused, Err(ListenError::Tls(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let first = Tcp::bind("127.0.0.1:0".parse().unwrap(), None)
        .await
        .unwrap();
    let address = first.address().unwrap();
    let second = Tcp::bind(address, None).await.unwrap_err().to_string();
    assert!(second.contains(&address.to_string()), "{second}");
}
