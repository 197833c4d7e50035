// SPDX-License-Identifier: Apache-2.0
//! A cluster of two nodes, one of which has an agent: an API server that lists what there is and forwards
//! ports, and behind it the agent, with the certificates that `gorget install` makes, and a relay without any.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use gorget_model::{Event, Level, Message as Said, Node};
use gorget_telemetry::proto::v1::AgentStatus;
use gorget_telemetry::status::{Asked, Status};
use gorget_telemetry::{Feeder, Limits, Services, Tcp, Tls};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const PROTOCOL: &str = "v4.channel.k8s.io";

#[derive(Default)]
struct State {
    asked: Mutex<Vec<String>>,
    /// What the node says instead of reaching the port.
    refused: Mutex<Option<String>>,
    /// Whether the relay's pod is there.
    relay: Mutex<bool>,
}

/// Where they really are.
#[derive(Clone, Copy)]
struct Behind {
    agent: SocketAddr,
    relay: SocketAddr,
}

/// It is played on a thread that ends with the test's process.
pub(crate) struct Cluster {
    pub(crate) kubeconfig: PathBuf,
    state: Arc<State>,
    _directory: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let state = Arc::<State>::default();
        let (ready, is_ready) = channel();
        let of_server = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let secret = secret();
                let tcp = Tcp::bind(([127, 0, 0, 1], 0).into(), Some(tls(&secret)));
                let tcp = tcp.await.unwrap();
                let plain = Tcp::bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
                let behind = Behind {
                    agent: tcp.address().unwrap(),
                    relay: plain.address().unwrap(),
                };
                let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(server.local_addr().unwrap()).unwrap();
                tokio::join!(
                    run_agent(tcp, "it is well"),
                    run_agent(plain, "all are well"),
                    serve(server, &of_server, &secret, behind),
                );
            });
        });
        let server = is_ready.recv().unwrap();
        let directory = TempDir::new().unwrap();
        let kubeconfig = directory.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             clusters: [{{name: c, cluster: {{server: 'http://{server}'}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n\
             contexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n"
        );
        fs::write(&kubeconfig, text).unwrap();
        Self {
            kubeconfig,
            state,
            _directory: directory,
        }
    }

    /// Has the node not reach the agent's port, and say so.
    pub(crate) fn refuse(&self, why: &str) {
        *self.state.refused.lock().unwrap() = Some(why.to_owned());
    }

    /// Has a relay, too.
    pub(crate) fn add_relay(&self) {
        *self.state.relay.lock().unwrap() = true;
    }

    /// What the server was asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

/// The one that would be applied.
fn secret() -> Value {
    let printed = Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(["install", "--print"])
        .output()
        .unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let is_it = |it: &Value| it["metadata"]["name"] == "gorget-feed-tls";
    objects.into_iter().find(is_it).unwrap()
}

fn tls(secret: &Value) -> Tls {
    let part = |name: &str| {
        STANDARD
            .decode(secret["data"][name].as_str().unwrap())
            .unwrap()
    };
    Tls {
        ca: part("ca.crt"),
        certificate: part("tls.crt"),
        key: part("tls.key"),
    }
}

async fn run_agent(tcp: Tcp, said: &str) {
    let feeder = Feeder::new().with_history(Limits {
        events: 10,
        bytes: 1 << 16,
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    feeder.publish(Event::Message(Said {
        unix_micros: i64::try_from(now.as_micros()).unwrap(),
        node: Arc::new(Node::default()),
        level: Level::Info,
        text: said.to_owned(),
    }));
    let (asking, mut asked) = mpsc::channel(1);
    let services = Services::new(feeder).with_status(Status {
        asking,
        state: watch::channel(Arc::default()).1,
    });
    let answer = async {
        while let Some(asked) = asked.recv().await {
            if let Asked::Status(answer) = asked {
                let status = AgentStatus {
                    version: "9.9.9".to_owned(),
                    ..AgentStatus::default()
                };
                answer.send(status).unwrap();
            }
        }
    };
    let served = tcp.serve(services, std::future::pending());
    let (served, ()) = tokio::join!(served, answer);
    served.unwrap();
}

async fn serve(server: TcpListener, state: &Arc<State>, secret: &Value, behind: Behind) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = server.accept().await.unwrap();
        connections.spawn(connection(
            stream,
            Arc::clone(state),
            secret.clone(),
            behind,
        ));
    }
}

/// One question; the connection ends with the answer.
async fn connection(mut stream: TcpStream, state: Arc<State>, secret: Value, behind: Behind) {
    let mut head = vec![0; 16_384];
    let mut length = 0;
    while !head[..length].ends_with(b"\r\n\r\n") {
        // Looked at only: whoever speaks WebSockets reads it again.
        let now = stream.peek(&mut head).await.unwrap();
        if now == 0 {
            return;
        }
        length = now;
    }
    let text = String::from_utf8_lossy(&head[..length]).into_owned();
    let path = text.split(' ').nth(1).unwrap().to_owned();
    if path.contains("/portforward") {
        let port = path.rsplit('=').next().unwrap();
        let question = format!("portforward {port}");
        state.asked.lock().unwrap().push(question);
        let refused = state.refused.lock().unwrap().clone();
        let there = match path.contains("/pods/gorget-relay-x/") {
            true => behind.relay,
            false => behind.agent,
        };
        return forward(stream, port.parse().unwrap(), there, refused).await;
    }
    stream.read_exact(&mut head[..length]).await.unwrap();
    let has_relay = *state.relay.lock().unwrap();
    let (code, body) = match found(&path, &secret, has_relay) {
        Some(body) => ("200 OK", body),
        None => (
            "404 Not Found",
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                "code": 404, "message": "not found"}),
        ),
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {code}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// As a kubelet does: of each port a channel for bytes and one for errors, which begin with the port.
async fn forward(stream: TcpStream, port: u16, there: SocketAddr, refused: Option<String>) {
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let protocol = |_: &Request, mut response: Response| {
        let headers = response.headers_mut();
        headers.insert("sec-websocket-protocol", PROTOCOL.parse().unwrap());
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, protocol).await.unwrap();
    let [low, high] = port.to_le_bytes();
    for channel in [0, 1] {
        socket
            .send(Message::binary(vec![channel, low, high]))
            .await
            .unwrap();
    }
    if let Some(why) = refused {
        let said = [&[1], why.as_bytes()].concat();
        socket.send(Message::binary(said)).await.unwrap();
        socket.close(None).await.unwrap();
        // Until the other side has read that.
        while let Some(Ok(_)) = socket.next().await {}
        return;
    }
    let mut there = TcpStream::connect(there).await.unwrap();
    let mut buffer = vec![0; 16_384];
    loop {
        tokio::select! {
            read = there.read(&mut buffer[1..]) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let said = buffer[..=length].to_vec();
                    socket.send(Message::binary(said)).await.unwrap();
                }
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => there.write_all(&bytes[1..]).await.unwrap(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

fn found(path: &str, secret: &Value, has_relay: bool) -> Option<Value> {
    let items = |items: Value| Some(json!({ "items": items }));
    match path.split('?').next().unwrap() {
        "/api/v1/namespaces/gorget/pods" if path.contains("gorget-agent") => {
            items(json!([pod("gorget-agent-x")]))
        }
        "/api/v1/namespaces/gorget/pods" if path.contains("gorget-relay") && has_relay => {
            items(json!([pod("gorget-relay-x")]))
        }
        "/api/v1/namespaces/gorget/secrets/gorget-feed-tls" => Some(secret.clone()),
        "/api/v1/nodes" => {
            let node = |name: &str| json!({"metadata": {"name": name}});
            items(json!([node("worker-2"), node("worker-1")]))
        }
        "/apis/security.kubearmor.com/v1/kubearmorpolicies" => items(json!([policy()])),
        "/apis/security.kubearmor.com/v1/kubearmorhostpolicies" => items(json!([{
            "metadata": {"name": "quiet-nodes", "generation": 1},
            "spec": {"nodeSelector": {"matchLabels": {"zone": "a"}},
                "process": {"matchPaths": [{"path": "/usr/bin/nc"}]}},
        }])),
        _ => None,
    }
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "gorget"},
        "spec": {
            "nodeName": "worker-1",
            "containers": [{"name": "agent", "ports": [{"name": "feed", "containerPort": 32767}]}],
            "volumes": [{"name": "tls", "secret": {"secretName": "gorget-feed-tls"}}],
        },
        "status": {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]},
    })
}

fn policy() -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message});
    json!({
        "metadata": {"name": "no-secrets", "namespace": "shop", "generation": 3, "uid": "u"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "file": {"matchPaths": [{"path": "/data/secret"}]},
            "action": "Block",
        },
        "status": {"status": "Enforced", "observedGeneration": 3, "conditions": [
            condition("Accepted", "True", "Valid", ""),
            condition("Enforced", "True", "AllNodes", "1 of 1 nodes"),
            condition("Degraded", "False", "AsWritten", ""),
        ]},
    })
}
