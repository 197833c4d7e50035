// SPDX-License-Identifier: Apache-2.0
//! Outputs, against somebody who takes what they send: syslog and journald as sockets, Prometheus as a
//! client of HTTP.
#![cfg(test)]

mod events;

use events::{container, container_alert, host_alert, log, message};
use expect_test::expect_file;
use gorget_model::{Alert, Event};
use gorget_telemetry::proto::v1::{self, AgentStatus};
use gorget_telemetry::{DatagramSink, Feeder, Metrics, Place, serve_metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram};

fn all() -> [Event; 4] {
    [
        Event::Alert(container_alert()),
        Event::Alert(host_alert()),
        Event::Log(log(container())),
        Event::Message(message("hello")),
    ]
}

async fn received(socket: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 64 << 10];
    let length = socket.recv(&mut bytes).await.unwrap();
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn syslog_gets_one_message_an_event_in_the_form_of_rfc_5424() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let syslog = UnixDatagram::bind(&path).unwrap();
    let mut sink = DatagramSink::syslog(Place::Local(path));
    let pid = std::process::id();
    for (event, head) in all().iter().zip([
        format!("<108>1 2026-01-02T03:04:05.000006Z node-1 gorgetd {pid} Alert - {{"),
        format!("<109>1 2026-01-02T03:04:05.000006Z node-1 gorgetd {pid} Alert - {{"),
        format!("<110>1 2026-01-02T03:04:05.000006Z node-1 gorgetd {pid} Log - {{"),
        format!("<110>1 2026-01-02T03:04:05.000006Z node-1 gorgetd {pid} Message - {{"),
    ]) {
        sink.send(event).await.unwrap();
        let text = String::from_utf8(received(&syslog).await).unwrap();
        assert!(text.starts_with(&head), "{text}");
        assert!(text.ends_with(&gorget_telemetry::line(event)), "{text}");
    }
}

#[tokio::test]
async fn syslog_over_udp_gets_the_same() {
    let syslog = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut sink = DatagramSink::syslog(Place::Udp(syslog.local_addr().unwrap()));
    sink.send(&Event::Message(message("hello"))).await.unwrap();
    let mut bytes = [0; 4096];
    let length = syslog.recv(&mut bytes).await.unwrap();
    let text = std::str::from_utf8(&bytes[..length]).unwrap();
    assert!(
        text.starts_with("<110>1 ") && text.contains("\"Message\":\"hello\""),
        "{text}"
    );
}

#[tokio::test]
async fn a_syslog_that_is_not_there_is_an_error_and_one_that_came_back_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut sink = DatagramSink::syslog(Place::Local(path.clone()));
    let event = Event::Message(message("hello"));
    sink.send(&event).await.unwrap_err();
    let first = UnixDatagram::bind(&path).unwrap();
    sink.send(&event).await.unwrap();
    received(&first).await;
    drop(first);
    std::fs::remove_file(&path).unwrap();
    sink.send(&event).await.unwrap_err();
    let second = UnixDatagram::bind(&path).unwrap();
    sink.send(&event).await.unwrap();
    received(&second).await;
    // Somebody restarts while nothing is sent.
    drop(second);
    std::fs::remove_file(&path).unwrap();
    let third = UnixDatagram::bind(&path).unwrap();
    sink.send(&event).await.unwrap();
    received(&third).await;
}

/// Reads the native protocol: `NAME=VALUE` in a line, or `NAME` in a line and a value of a length.
fn fields(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&bytes[..end]).unwrap();
        bytes = &bytes[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            fields.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let length = usize::try_from(length).unwrap();
        let value = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
        assert_eq!(bytes[8 + length], b'\n');
        bytes = &bytes[8 + length + 1..];
        fields.push((line.to_owned(), value.to_owned()));
    }
    fields
}

#[tokio::test]
async fn journald_gets_fields_that_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let mut sink = DatagramSink::journal(path);
    let event = Event::Alert(Alert {
        // Somebody hopes to write a field of his own.
        source: "sh -c x\nPRIORITY=7".to_owned(),
        ..container_alert()
    });
    sink.send(&event).await.unwrap();
    let fields = fields(&received(&journal).await);
    let of = |name: &str| -> Vec<&str> {
        let found = fields.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(of("MESSAGE"), [gorget_telemetry::line(&event)]);
    assert_eq!(of("PRIORITY"), ["4"]);
    assert_eq!(of("SYSLOG_IDENTIFIER"), ["gorgetd"]);
    assert_eq!(of("GORGET_POLICY"), ["ksp-token"]);
    assert_eq!(of("GORGET_SOURCE"), ["sh -c x\nPRIORITY=7"]);
    assert_eq!(of("GORGET_CONTAINER"), ["web"]);
}

fn status() -> AgentStatus {
    let workload = |name: &str, backend: &str| v1::Workload {
        name: name.to_owned(),
        backend: backend.to_owned(),
        ..v1::Workload::default()
    };
    let policy = |name: &str, workloads, limits| v1::PolicyState {
        policy: Some(v1::PolicyName {
            kind: "KubeArmorPolicy".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        }),
        workloads,
        limits: vec![v1::Limit::default(); limits],
        ..v1::PolicyState::default()
    };
    let client = |name: &str, queued, lost| v1::FeedClient {
        name: name.to_owned(),
        queued,
        capacity: 8192,
        lost,
    };
    AgentStatus {
        version: "1.2.3".to_owned(),
        node: Some(v1::Node {
            host: "node \"1\"".to_owned(),
            kernel: "6.1.0".to_owned(),
            ..v1::Node::default()
        }),
        uptime_seconds: 60,
        backend: "bpf".to_owned(),
        workloads: vec![workload("web", "bpf"), workload("db", "bpf")],
        policies: vec![policy("one", 2, 0), policy("two", 0, 1)],
        refused: vec![v1::Refused::default()],
        losses: vec![v1::Loss {
            stage: "ring_full".to_owned(),
            count: 3,
        }],
        runtimes: vec![v1::Runtime {
            name: "containerd".to_owned(),
            connected: true,
            ..v1::Runtime::default()
        }],
        health: Some(v1::Health {
            healthy: true,
            problems: Vec::new(),
        }),
        starts: Some(v1::Starts {
            containers: 3,
            late: 1,
            most_micros: 85_000,
            sum_micros: 85_000,
            buckets: [(0, 2), (1_000, 2), (100_000, 3)]
                .map(|(at_most_micros, count)| v1::Bucket {
                    at_most_micros,
                    count,
                })
                .into(),
        }),
        clients: vec![client("alerts", 5, 0), client("alerts", 2, 7)],
        outputs: vec![v1::Output {
            kind: "file".to_owned(),
            target: "/var/log/x".to_owned(),
            error: "full".to_owned(),
            lost: 4,
        }],
        resident_bytes: 20_000_000,
        ..AgentStatus::default()
    }
}

fn costs() -> v1::Costs {
    let program = |id, name: &str| v1::ProgramCost {
        id,
        name: name.to_owned(),
        runs: 3,
        nanos: 1_500,
    };
    v1::Costs {
        // The second one of another build.
        programs: vec![program(7, "file_open"), program(9, "file_open")],
        maps: vec![v1::MapFill {
            name: "workloads".to_owned(),
            entries: 2,
            capacity: 1024,
        }],
        ..v1::Costs::default()
    }
}

#[test]
fn what_is_not_measured_is_no_metric() {
    let costs = v1::Costs {
        programs: Vec::new(),
        ..costs()
    };
    let metrics = Metrics::new(&status(), &Feeder::new().counted(), 0).with_costs(&costs);
    let text = metrics.text();
    assert!(!text.contains("gorget_hook_seconds_total{"), "{text}");
    assert!(
        text.contains("gorget_map_entries{map=\"workloads\"} 2"),
        "{text}"
    );
}

fn text() -> String {
    let feeder = Feeder::new();
    all().into_iter().for_each(|event| feeder.publish(event));
    feeder.publish(Event::Alert(host_alert()));
    Metrics::new(&status(), &feeder.counted(), 9)
        .with_costs(&costs())
        .text()
}

#[test]
fn the_names_of_metrics_are_a_contract() {
    expect_file!["testdata/metrics.txt"].assert_eq(&text());
}

async fn fetch(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_are_fetched_by_http_from_one_path_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asking = async {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = fetch(address, &get("/metrics")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.ends_with(&text()), "{answer}");
        let answer = fetch(address, &get("/etc/passwd")).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
        let answer = fetch(address, post).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        let answer = fetch(address, "\0\0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    };
    tokio::select! {
        () = asking => {}
        () = serve_metrics(listener, text, |error| panic!("{error}")) => panic!("it ended"),
    }
}
