// SPDX-License-Identifier: Apache-2.0
//! What [`gorget_containers::watch`] promises of the containers of a CRI runtime, against a fake one
//! that speaks the real protocol.
//!
//! Nothing here waits for time to pass: a test that says something does not happen lets something
//! else happen afterwards and finds that it is the next change.
#![cfg(test)]

mod fake;

/// Generated from `proto/`, the server half.
#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
mod proto {
    pub(crate) mod runtime {
        pub(crate) mod v1 {
            include!(concat!(env!("OUT_DIR"), "/server/runtime.v1.rs"));
        }
    }
}

use fake::Fake;
use gorget_containers::{Change, Problem, ProblemKind, Started, watch};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Far more than anything here takes; only a failing test reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watched {
    changes: mpsc::Receiver<Change>,
    _tasks: JoinSet<()>,
}

impl Watched {
    /// Connected; what runs already comes next.
    async fn connected(fake: &Fake) -> Self {
        let (changes, future) = watch(fake.config());
        let mut tasks = JoinSet::new();
        tasks.spawn(future);
        let mut watched = Self {
            changes,
            _tasks: tasks,
        };
        watched.is_connected().await;
        watched
    }

    async fn is_connected(&mut self) {
        let runtime = "cri-o 1.30.0 (CRI)".to_owned();
        let connected = self.next().await;
        assert!(
            matches!(&connected, Change::Connected { runtime: it, .. } if *it == runtime),
            "{connected:?}"
        );
    }

    async fn next(&mut self) -> Change {
        tokio::time::timeout(PATIENCE, self.changes.recv())
            .await
            .expect("a change in time")
            .expect("the stream goes on")
    }

    async fn started(&mut self) -> Started {
        match self.next().await {
            Change::Started(started) => started,
            other => panic!("not a start: {other:?}"),
        }
    }

    async fn problem(&mut self) -> Problem {
        match self.next().await {
            Change::Problem(problem) => problem,
            other => panic!("not a problem: {other:?}"),
        }
    }
}

fn synced(ids: &[&str]) -> Change {
    Change::Synced {
        running: ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn stopped(id: &str) -> Change {
    Change::Stopped { id: id.to_owned() }
}

#[tokio::test]
async fn containers_that_run_already_are_started_with_their_whole_identity() {
    let fake = Fake::running();
    fake.run("aa", 10);
    fake.run("over", 20);
    fake.end("over");
    let mut watched = Watched::connected(&fake).await;
    let Started {
        container,
        pid,
        cgroup,
        already_running,
    } = watched.started().await;
    assert_eq!(container.id, "aa");
    assert_eq!(container.name, "web");
    assert_eq!(container.image, "docker.io/library/nginx:1@sha256:beef");
    assert_eq!(container.namespace.as_deref(), Some("prod"));
    assert_eq!(container.pod.as_deref(), Some("web-0"));
    // The pod's labels, and the container's own where both have one.
    assert_eq!(container.labels["app"], "shop");
    assert_eq!(container.labels["tier"], "of the container");
    assert_eq!(pid, 10);
    assert_eq!(cgroup.path, "/kubepods.slice/crio-aa.scope");
    assert!(already_running);
    assert_eq!(watched.next().await, synced(&["aa"]));
}

#[tokio::test]
async fn a_container_starts_ends_starts_again_and_is_removed() {
    let fake = Fake::running();
    let mut watched = Watched::connected(&fake).await;
    assert_eq!(watched.next().await, synced(&[]));
    fake.run("aa", 10);
    fake.emit("aa");
    assert_eq!(watched.started().await.pid, 10);
    fake.end("aa");
    fake.emit("aa");
    assert_eq!(watched.next().await, stopped("aa"));
    fake.run("aa", 11);
    fake.emit("aa");
    assert_eq!(watched.started().await.pid, 11);
    fake.remove("aa");
    fake.emit("aa");
    assert_eq!(watched.next().await, stopped("aa"));
}

#[tokio::test]
async fn events_of_sandboxes_and_events_that_come_twice_change_nothing() {
    let fake = Fake::running();
    let mut watched = Watched::connected(&fake).await;
    assert_eq!(watched.next().await, synced(&[]));
    fake.run("aa", 10);
    for id in ["pod-0", "aa", "aa", ""] {
        fake.emit(id);
    }
    fake.run("bb", 20);
    fake.emit("bb");
    assert_eq!(watched.started().await.container.id, "aa");
    assert_eq!(watched.started().await.container.id, "bb");
}

#[tokio::test]
async fn a_container_that_starts_during_the_scan_is_not_missed_before_events_begin() {
    let fake = Fake::running();
    fake.run("aa", 10);
    fake.run("bb", 20);
    fake.end("bb");
    fake.start_during_scan("bb", 20);
    let mut watched = Watched::connected(&fake).await;
    assert_eq!(watched.started().await.container.id, "aa");
    assert_eq!(watched.started().await.container.id, "bb");
    assert_eq!(watched.next().await, synced(&["aa", "bb"]));
}

#[tokio::test]
async fn an_answer_without_a_pid_is_a_problem_and_the_next_container_is_reported() {
    let fake = Fake::running();
    let mut watched = Watched::connected(&fake).await;
    assert_eq!(watched.next().await, synced(&[]));
    for (info, expected) in [
        (None, "lacks the pid"),
        (Some("{}"), "lacks the pid"),
        (Some("{\"pid\": -1}"), "cannot be understood"),
        (Some("nonsense"), "cannot be understood"),
    ] {
        fake.run("aa", 10);
        fake.info("aa", info);
        fake.emit("aa");
        let problem = watched.problem().await;
        assert_eq!(problem.kind, ProblemKind::Answer);
        assert_eq!(problem.container.as_deref(), Some("aa"));
        assert!(problem.reason.contains(expected), "{}", problem.reason);
    }
    fake.run("bb", 20);
    fake.emit("bb");
    assert_eq!(watched.started().await.container.id, "bb");
}

#[tokio::test]
async fn a_runtime_without_events_has_its_containers_known_and_that_is_told() {
    let fake = Fake::without_events();
    fake.run("aa", 10);
    let mut watched = Watched::connected(&fake).await;
    assert_eq!(watched.started().await.container.id, "aa");
    assert_eq!(watched.next().await, synced(&["aa"]));
    let problem = watched.problem().await;
    assert_eq!(problem.kind, ProblemKind::Watch);
    assert!(
        problem.reason.contains("has no events"),
        "{}",
        problem.reason
    );
}

#[tokio::test]
async fn after_a_restart_only_differences_and_the_list_are_told() {
    let mut fake = Fake::running();
    fake.run("aa", 10);
    fake.run("bb", 20);
    let mut watched = Watched::connected(&fake).await;
    watched.started().await;
    watched.started().await;
    assert_eq!(watched.next().await, synced(&["aa", "bb"]));
    fake.kill();
    let lost = watched.next().await;
    assert!(matches!(lost, Change::Disconnected { .. }), "{lost:?}");
    fake.remove("aa");
    fake.run("bb", 21);
    fake.start();
    watched.is_connected().await;
    assert_eq!(watched.started().await.pid, 21);
    assert_eq!(watched.next().await, synced(&["bb"]));
}
