// SPDX-License-Identifier: Apache-2.0
//! Against a server of the test, which answers what it was told to and keeps what it got.

use super::*;
use crate::hub::Hub;
use gorget_telemetry::{Sorts, proto};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn alert(resource: &str) -> Received {
    Received::Alert(Box::new(proto::Alert {
        resource: resource.to_owned(),
        ..proto::Alert::default()
    }))
}

/// One request: its head and its body.
async fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let line = line.to_ascii_lowercase();
                line.strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            if body.len() >= length.unwrap() {
                return (head.to_owned(), body.to_owned());
            }
        }
        let mut more = [0; 4096];
        let count = stream.read(&mut more).await.unwrap();
        assert_ne!(count, 0, "the request ended early");
        bytes.extend_from_slice(&more[..count]);
    }
}

/// Resources of the events that were sent.
fn resources(body: &str) -> Vec<String> {
    let lines = body.lines().skip(1).step_by(2);
    let of = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    lines
        .map(|line| of(line)["Resource"].as_str().unwrap().to_owned())
        .collect()
}

fn items(statuses: &[u16]) -> (u16, String) {
    let items = statuses.iter().map(
        |status| serde_json::json!({ "create": { "status": status, "error": { "type": "e" } } }),
    );
    let items: Vec<_> = items.collect();
    (
        200,
        serde_json::json!({ "errors": true, "items": items }).to_string(),
    )
}

/// What a server that answers so gets, in resources, and what is told.
async fn stored(events: &[&str], answers: Vec<(u16, String)>) -> (Vec<Vec<String>>, Vec<Sent>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = ElasticSettings {
        url,
        alerts_index: "gorget-alerts".to_owned(),
        logs_index: None,
        authorization: Some("Basic eDp5".to_owned()),
        ca: None,
        batch: Duration::from_millis(50),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
    };
    let hub = Hub::default();
    let sorts = Sorts {
        alerts: true,
        logs: true,
        messages: true,
    };
    let subscription = hub.subscribe("elasticsearch", sorts).unwrap();
    events
        .iter()
        .for_each(|resource| hub.publish(alert(resource)));
    hub.publish(Received::Log(Box::default()));
    hub.publish(Received::Message(proto::Message::default()));
    hub.close();
    let (got, mut seen) = mpsc::unbounded_channel();
    let server = async move {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (head, sent) = request(&mut stream).await;
            assert!(head.starts_with("POST /_bulk "), "{head}");
            assert!(
                head.to_ascii_lowercase()
                    .contains("authorization: basic edp5"),
                "{head}"
            );
            got.send(resources(&sent)).unwrap();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let told = Mutex::new(Vec::new());
    let run = Elastic::new(settings)
        .unwrap()
        .run(subscription, |sent| told.lock().unwrap().push(sent));
    tokio::join!(server, run);
    let mut requests = Vec::new();
    while let Ok(request) = seen.try_recv() {
        requests.push(request);
    }
    (requests, told.into_inner().unwrap())
}

#[tokio::test]
async fn of_a_batch_that_is_stored_in_part_only_the_rest_is_sent_again() {
    let answers = vec![items(&[201, 429, 409, 503]), items(&[201, 201])];
    let (requests, told) = stored(&["a", "b", "c", "d"], answers).await;
    assert_eq!(requests, [vec!["a", "b", "c", "d"], vec!["b", "d"]]);
    assert!(matches!(&told[0], Sent::Fails { lost: 0, reason } if reason.contains("429")));
    assert_eq!(told[1], Sent::Works);
}

#[tokio::test]
async fn what_is_refused_for_good_is_lost_and_said() {
    let (requests, told) = stored(&["a", "b"], vec![items(&[400, 201])]).await;
    assert_eq!(requests.len(), 1);
    assert!(matches!(&told[..], [Sent::Fails { lost: 1, reason }] if reason.contains("400")));
}

#[tokio::test]
async fn a_server_that_is_away_or_refuses_the_user_is_asked_again() {
    let bad = |status| (status, "not now".to_owned());
    let odd = (200, "{}".to_owned());
    let answers = vec![bad(503), bad(401), odd, items(&[201])];
    let (requests, told) = stored(&["a"], answers).await;
    assert_eq!(requests.len(), 4);
    assert_eq!(told.len(), 4);
    assert_eq!(told.last(), Some(&Sent::Works));
}

#[tokio::test]
async fn what_is_too_much_at_once_is_sent_in_parts() {
    let much = (413, String::new());
    let answers = [much.clone(), items(&[201]), much, items(&[201])];
    let (requests, told) = stored(
        &["a", "b"],
        answers[..2]
            .iter()
            .cloned()
            .chain([items(&[201])])
            .collect(),
    )
    .await;
    assert_eq!(requests, [vec!["a", "b"], vec!["a"], vec!["b"]]);
    assert_eq!(told, [Sent::Works, Sent::Works]);
    // One that is too long by itself will always be.
    let (_, told) = stored(&["a"], vec![(413, String::new())]).await;
    assert!(matches!(&told[..], [Sent::Fails { lost: 1, .. }]));
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let with = |url: &str, index: &str| {
        Elastic::new(ElasticSettings {
            url: url.to_owned(),
            alerts_index: index.to_owned(),
            logs_index: None,
            authorization: None,
            ca: None,
            batch: Duration::ZERO,
            first_pause: Duration::ZERO,
            longest_pause: Duration::ZERO,
        })
    };
    with("http://x:9200", "alerts").unwrap();
    for (url, index) in [
        ("x:9200", "a"),
        ("ftp://x", "a"),
        ("https://x:9200", "a"),
        ("http://x:9200", "A"),
        ("http://x:9200", "a\""),
        ("http://x:9200", ""),
    ] {
        with(url, index).unwrap_err();
    }
}
