// SPDX-License-Identifier: Apache-2.0
//! A server that answers as it is told, in a time that does not pass.

use super::*;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

const CLUSTER: Watched = Watched::Policies(PolicyResource::Cluster);

/// What the server answers, in this order; then it keeps who asks waiting.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

enum Answer {
    Json(u16, Value),
    /// Lines, and then the end.
    Events(Vec<Value>),
    Text(String),
    /// The connection breaks.
    Broken,
}

impl Server {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            asked: Arc::default(),
        }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = server.take(&request);
            async move {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        });
        Client::new(service, "default")
    }

    fn take(
        &self,
        request: &Request<Body>,
    ) -> Option<Result<Response<Full<Bytes>>, std::io::Error>> {
        self.asked.lock().unwrap().push(request.uri().to_string());
        let answer = self.answers.lock().unwrap().pop_front()?;
        let with = |status: u16, text: String| {
            let body = Full::from(text);
            let status = StatusCode::from_u16(status).unwrap();
            Response::builder().status(status).body(body).unwrap()
        };
        Some(match answer {
            Answer::Json(status, value) => Ok(with(status, value.to_string())),
            Answer::Events(lines) => {
                let lines = lines.iter().map(|line| format!("{line}\n"));
                Ok(with(200, lines.collect()))
            }
            Answer::Text(text) => Ok(with(200, text)),
            Answer::Broken => Err(std::io::Error::other("the wire is cut")),
        })
    }

    /// Follows until `count` things were seen. Time passes as fast as everybody waits.
    fn see(&self, what: Watched, count: usize) -> Vec<Seen> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (sender, mut seen) = mpsc::channel(1);
            let following =
                Following::new(self.client(), what, "worker-1", sender, Pace::default());
            let collected = async {
                let mut all = Vec::new();
                while all.len() < count {
                    all.push(seen.recv().await.unwrap());
                }
                all
            };
            tokio::select! {
                all = collected => all,
                () = following.run() => panic!("it does not end by itself"),
            }
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn policy(name: &str, version: u32) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": version.to_string(), "generation": 1 },
        "spec": { "severity": 1 },
    })
}

fn listed(version: u32, items: &[Value]) -> Answer {
    let metadata = json!({ "resourceVersion": version.to_string() });
    Answer::Json(200, json!({ "metadata": metadata, "items": items }))
}

fn refused(code: u16, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": "x",
    });
    Answer::Json(code, status)
}

fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// What was seen, in a few words.
fn words(seen: &[Seen]) -> Vec<String> {
    let names = |objects: &[Object]| -> Vec<String> {
        objects.iter().map(|it| it.key().to_string()).collect()
    };
    let word = |seen: &Seen| match seen {
        Seen::Listed { objects, .. } => format!("listed {}", names(objects).join(",")),
        Seen::Changed { object, .. } => format!("changed {}", object.key()),
        Seen::Gone { key, .. } => format!("gone {key}"),
        Seen::Unreadable { key, .. } => {
            format!(
                "unreadable {}",
                key.as_ref().map(ToString::to_string).unwrap_or_default()
            )
        }
        Seen::Connected { .. } => "connected".to_owned(),
        Seen::Away { trouble, .. } => format!("away: {trouble}"),
    };
    seen.iter().map(word).collect()
}

#[test]
fn a_kind_is_listed_in_pages_and_then_followed() {
    let first = json!({
        "metadata": { "resourceVersion": "5", "continue": "more" },
        "items": [policy("a", 1)],
    });
    let server = Server::new([
        Answer::Json(200, first),
        listed(5, &[policy("b", 2)]),
        Answer::Events(vec![
            event("ADDED", &policy("c", 6)),
            event("MODIFIED", &policy("a", 7)),
            event("DELETED", &policy("b", 8)),
        ]),
    ]);
    let seen = server.see(CLUSTER, 5);
    assert_eq!(
        words(&seen),
        [
            "listed a,b",
            "connected",
            "changed c",
            "changed a",
            "gone b"
        ]
    );
    let asked = server.asked();
    assert!(asked[0].starts_with("/apis/security.kubearmor.com/v1/kubearmorclusterpolicies?"));
    assert!(asked[1].contains("continue=more"), "{asked:?}");
    assert!(
        asked[2].contains("watch=true") && asked[2].contains("resourceVersion=5"),
        "{asked:?}"
    );
    assert!(asked[2].contains("allowWatchBookmarks=true"), "{asked:?}");
}

#[test]
fn only_what_concerns_the_node_is_asked_for() {
    let server = Server::new([listed(1, &[])]);
    server.see(Watched::Pods, 1);
    let asked = &server.asked()[0];
    assert!(
        asked.contains("fieldSelector=spec.nodeName%3Dworker-1"),
        "{asked}"
    );
    let origin = SettingsOrigin::KubeArmor;
    let namespace = "gorget".to_owned();
    let server = Server::new([listed(1, &[])]);
    server.see(Watched::Settings { origin, namespace }, 1);
    let asked = &server.asked()[0];
    assert!(
        asked.starts_with("/api/v1/namespaces/gorget/configmaps?"),
        "{asked}"
    );
    assert!(
        asked.contains("kubearmor-app%3Dkubearmor-configmap"),
        "{asked}"
    );
}

#[test]
fn an_interruption_goes_on_where_the_last_bookmark_was() {
    let bookmark = json!({
        "type": "BOOKMARK",
        "object": { "kind": "KubeArmorClusterPolicy", "apiVersion": "security.kubearmor.com/v1",
                    "metadata": { "resourceVersion": "90" } },
    });
    let server = Server::new([
        listed(5, &[]),
        Answer::Events(vec![bookmark]),
        Answer::Broken,
        Answer::Events(vec![event("ADDED", &policy("late", 91))]),
    ]);
    let seen = words(&server.see(CLUSTER, 5));
    assert_eq!(seen[..2], ["listed ", "connected"]);
    assert!(seen[2].contains("the wire is cut"), "{seen:?}");
    assert_eq!(seen[3..], ["connected", "changed late"]);
    let asked = server.asked();
    assert!(asked[2].contains("resourceVersion=90") && asked[3].contains("resourceVersion=90"));
}

#[test]
fn a_version_that_the_server_forgot_has_the_kind_listed_again_as_it_is_now() {
    let gone = json!({ "type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
        "message": "too old resource version", "reason": "Expired" } });
    let server = Server::new([
        listed(5, &[policy("a", 1)]),
        Answer::Events(vec![gone]),
        listed(50, &[policy("b", 40)]),
        refused(410, "too old"),
        listed(60, &[]),
    ]);
    let seen = words(&server.see(CLUSTER, 4));
    assert_eq!(seen, ["listed a", "connected", "listed b", "listed "]);
    let asked = server.asked();
    assert!(asked[0].contains("resourceVersion=0"), "{asked:?}");
    // A cached list could be older than what was seen.
    assert!(!asked[2].contains("resourceVersion"), "{asked:?}");
}

#[test]
fn an_object_that_cannot_be_read_costs_only_itself() {
    let bad = |name: &str| json!({ "metadata": { "name": name, "resourceVersion": "9", "labels": { "a": 1 } } });
    let server = Server::new([
        listed(5, &[bad("x"), policy("a", 1)]),
        Answer::Events(vec![
            event("MODIFIED", &bad("y")),
            event("ADDED", &policy("b", 10)),
        ]),
    ]);
    let seen = server.see(CLUSTER, 5);
    assert_eq!(
        words(&seen),
        [
            "unreadable x",
            "listed a",
            "connected",
            "unreadable y",
            "changed b"
        ]
    );
    let Seen::Listed { unreadable, .. } = &seen[1] else {
        panic!("{seen:?}");
    };
    assert_eq!(*unreadable, [Key::new("", "x")]);
}

#[test]
fn a_line_that_is_no_event_has_the_kind_listed_again() {
    let server = Server::new([
        listed(5, &[]),
        Answer::Text("{\"type\": \"ADDED\"}\n".to_owned()),
        listed(6, &[policy("a", 6)]),
        Answer::Text("no JSON\n".to_owned()),
        listed(7, &[]),
    ]);
    let seen = words(&server.see(CLUSTER, 6));
    assert_eq!(
        seen,
        [
            "listed ",
            "connected",
            "unreadable ",
            "listed a",
            "unreadable ",
            "listed "
        ]
    );
}

#[test]
fn a_refusal_is_told_once_with_what_would_help() {
    let server = Server::new([
        refused(403, "pods is forbidden"),
        refused(403, "pods is forbidden"),
        listed(5, &[]),
    ]);
    let seen = words(&server.see(Watched::Pods, 3));
    assert_eq!(
        seen,
        [
            "away: pods is forbidden; to get it: give the agent's role the verbs `list` and `watch` of `pods`",
            "listed ",
            "connected"
        ]
    );
}

#[test]
fn a_kind_that_is_not_installed_is_asked_for_quietly_until_it_is() {
    let missing = || refused(404, "the server could not find the requested resource");
    let server = Server::new([
        missing(),
        missing(),
        missing(),
        listed(5, &[policy("a", 1)]),
        Answer::Events(vec![event("ADDED", &policy("b", 6))]),
        missing(),
    ]);
    let seen = words(&server.see(CLUSTER, 7));
    assert_eq!(
        seen,
        [
            "listed ",
            "away: the cluster has no such kind",
            "listed a",
            "connected",
            "changed b",
            // With its CRD the policies went.
            "listed ",
            "away: the cluster has no such kind"
        ]
    );
}

#[test]
fn a_server_that_ends_every_answer_at_once_is_asked_less_and_less() {
    let answers = (0..3).map(|_| Answer::Events(Vec::new()));
    let server = Server::new(std::iter::once(listed(5, &[])).chain(answers));
    let seen = words(&server.see(CLUSTER, 3));
    assert_eq!(seen[2], "away: the server ends its answers at once");
}

#[test]
fn kubearmors_namespace_may_be_refused_without_a_word() {
    let what = Watched::Settings {
        origin: SettingsOrigin::KubeArmor,
        namespace: "kubearmor".to_owned(),
    };
    let server = Server::new([refused(403, "no"), listed(5, &[])]);
    assert_eq!(words(&server.see(what, 2)), ["listed ", "connected"]);
}

#[test]
fn waits_grow_to_a_limit_and_are_not_the_same_for_all() {
    let (sender, _seen) = mpsc::channel(1);
    let server = Server::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let mut following = Following::new(server.client(), CLUSTER, "n", sender, Pace::default());
    let waits: Vec<_> = (0..40).map(|_| following.delay()).collect();
    assert!(waits[0] < waits[2] && waits[2] < waits[4], "{waits:?}");
    let limit = Pace::default().limit;
    assert!(waits.iter().all(|wait| *wait <= limit * 3 / 2), "{waits:?}");
    let last: std::collections::BTreeSet<_> = waits[10..].iter().collect();
    assert!(last.len() > 1, "{waits:?}");
}
