// SPDX-License-Identifier: Apache-2.0
//! What [`gorget_containers::watch`] promises of Podman's containers, against a fake service.
//!
//! Nothing here waits for time to pass: a test that says something does not happen lets something
//! else happen afterwards and finds that it is the next change.
#![cfg(test)]

mod fake;

use fake::{Fake, event};
use gorget_containers::{Change, Config, Problem, ProblemKind, Started, watch};
use serde_json::json;
use std::fs;
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
    fn from_the_beginning(config: Config) -> Self {
        let (changes, future) = watch(config);
        let mut tasks = JoinSet::new();
        tasks.spawn(future);
        Self {
            changes,
            _tasks: tasks,
        }
    }

    /// Connected to a Podman that runs nothing.
    async fn synced(fake: &Fake) -> Self {
        let mut watched = Self::from_the_beginning(fake.config());
        watched.connected("Podman 4.3.1").await;
        assert_eq!(watched.next().await, synced(&[]));
        watched
    }

    async fn next(&mut self) -> Change {
        tokio::time::timeout(PATIENCE, self.changes.recv())
            .await
            .expect("a change in time")
            .expect("the stream goes on")
    }

    async fn connected(&mut self, runtime: &str) {
        let runtime = runtime.to_owned();
        let connected = self.next().await;
        assert!(
            matches!(&connected, Change::Connected { runtime: it, .. } if *it == runtime),
            "{connected:?}"
        );
    }

    async fn disconnected(&mut self) -> String {
        match self.next().await {
            Change::Disconnected { reason, .. } => reason,
            other => panic!("not a disconnection: {other:?}"),
        }
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
async fn containers_that_run_already_are_started_before_the_sync() {
    let fake = Fake::running();
    fake.run("aa", 10);
    fake.run("bb", 20);
    fake.run("cc", 30);
    fake.end("cc");
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected("Podman 4.3.1").await;
    for (id, pid) in [("aa", 10), ("bb", 20)] {
        let started = watched.started().await;
        assert_eq!((started.container.id.as_str(), started.pid), (id, pid));
        assert!(started.already_running);
    }
    assert_eq!(watched.next().await, synced(&["aa", "bb"]));
}

#[tokio::test]
async fn a_start_is_reported_with_the_whole_identity() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.pod("90d", json!({"Name": "shop-pod"}));
    fake.image("d00d", json!({"Digest": "sha256:cafe"}));
    let labels = json!({"app": "shop", "kubearmor.io/namespace": "edge"});
    let whole = json!({
        "Id": "4f2a", "Name": "web", "ImageName": "localhost/shop:1", "Image": "d00d",
        "Pod": "90d", "State": {"Pid": 10, "Status": "running"}, "Config": {"Labels": labels},
    });
    fake.container("4f2a", whole);
    let inode = fake.process(10, "/machine.slice/libpod-4f2a.scope/container");
    fake.emit(&event("start", "4f2a"));

    let started = watched.started().await;
    let container = started.container;
    assert_eq!(container.id, "4f2a");
    assert_eq!(container.name, "web");
    assert_eq!(container.image, "localhost/shop:1@sha256:cafe");
    assert_eq!(container.namespace.as_deref(), Some("edge"));
    assert_eq!(container.pod.as_deref(), Some("shop-pod"));
    assert_eq!(container.labels["app"], "shop");
    assert_eq!(started.pid, 10);
    assert_eq!(started.cgroup.path, "/machine.slice/libpod-4f2a.scope");
    assert_ne!(started.cgroup.id, inode);
}

#[tokio::test]
async fn what_podman_leaves_out_is_left_out() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    let bare = json!({"Id": "4f2a", "State": {"Pid": 10}, "Config": {"Labels": null}});
    fake.container("4f2a", bare);
    fake.process(10, "/x/libpod-4f2a.scope");
    fake.emit(&event("start", "4f2a"));
    let container = watched.started().await.container;
    assert_eq!(container.name, "4f2a");
    assert_eq!((container.image.as_str(), container.pod), ("", None));
    assert!(container.labels.is_empty());
}

#[tokio::test]
async fn a_container_ends_is_started_again_and_is_removed() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("aa", 10);
    fake.emit(&event("start", "aa"));
    assert_eq!(watched.started().await.pid, 10);
    fake.end("aa");
    fake.emit(&event("died", "aa"));
    assert_eq!(watched.next().await, stopped("aa"));
    fake.run("aa", 11);
    fake.emit(&event("start", "aa"));
    assert_eq!(watched.started().await.pid, 11);
    fake.remove("aa");
    fake.emit(&event("remove", "aa"));
    assert_eq!(watched.next().await, stopped("aa"));
}

#[tokio::test]
async fn a_container_that_is_removed_while_podman_answers_has_ended() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("aa", 10);
    fake.emit(&event("start", "aa"));
    assert_eq!(watched.started().await.pid, 10);
    fake.container("aa", json!(null));
    fake.emit(&event("died", "aa"));
    assert_eq!(watched.next().await, stopped("aa"));
}

#[tokio::test]
async fn events_that_come_twice_or_late_change_nothing() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("aa", 10);
    for action in ["start", "start", "died", "exec", "health_status"] {
        fake.emit(&event(action, "aa"));
    }
    fake.run("bb", 20);
    fake.emit(&event("start", "bb"));
    assert_eq!(watched.started().await.container.id, "aa");
    assert_eq!(watched.started().await.container.id, "bb");
}

#[tokio::test]
async fn a_restart_whose_end_was_missed_is_told_with_the_new_process() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("aa", 10);
    fake.emit(&event("start", "aa"));
    assert_eq!(watched.started().await.pid, 10);
    fake.run("aa", 11);
    fake.emit(&event("restart", "aa"));
    assert_eq!(watched.started().await.pid, 11);
}

#[tokio::test]
async fn a_container_that_is_started_during_the_scan_is_not_missed() {
    let fake = Fake::running();
    fake.run("aa", 10);
    fake.during_scan(event("start", "bb"));
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected("Podman 4.3.1").await;
    assert_eq!(watched.started().await.container.id, "aa");
    assert_eq!(watched.next().await, synced(&["aa"]));
    let asked = fake.questions();
    let events = asked
        .iter()
        .position(|question| question.starts_with("events?"));
    let list = asked
        .iter()
        .position(|question| question.starts_with("containers/json"));
    assert!(events < list, "{asked:?}");
    assert!(asked.iter().any(|question| question.contains("since=")));
}

#[tokio::test]
async fn a_container_about_which_podman_is_in_disorder_is_a_problem_and_the_next_is_reported() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    for (id, answer, expected) in [
        ("ab", json!(500), "in disorder"),
        ("cd", json!("{\"Id\": \"cd\""), "cannot be understood"),
        ("de", json!({"Id": "de"}), "missing field `State`"),
        (
            "ef",
            json!({"Id": "aa", "State": {}}),
            "about another container, `aa`",
        ),
    ] {
        fake.container(id, answer);
        fake.emit(&event("start", id));
        let problem = watched.problem().await;
        assert_eq!(problem.kind, ProblemKind::Answer);
        assert_eq!(problem.container.as_deref(), Some(id));
        assert!(problem.reason.contains(expected), "{}", problem.reason);
    }
    fake.run("aa", 10);
    fake.emit(&event("start", "aa"));
    assert_eq!(watched.started().await.container.id, "aa");
}

#[tokio::test]
async fn a_cgroup_that_must_not_be_bound_is_a_problem() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("aa", 10);
    fake.process(10, "/");
    fake.emit(&event("start", "aa"));
    let problem = watched.problem().await;
    assert_eq!(problem.kind, ProblemKind::Cgroup);
    assert!(problem.reason.contains("the root cgroup"));
}

#[tokio::test]
async fn what_is_no_event_ends_the_connection_and_the_next_one_finds_what_runs() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("aa", 10);
    fake.emit(r#"{"cause":"events are disabled","message":"m","response":500}"#);
    let reason = watched.disconnected().await;
    assert!(reason.contains("`events` cannot be understood"), "{reason}");
    watched.connected("Podman 4.3.1").await;
    assert_eq!(watched.started().await.container.id, "aa");
    assert_eq!(watched.next().await, synced(&["aa"]));
}

#[tokio::test]
async fn after_a_restart_of_the_service_only_differences_and_the_list_are_told() {
    let mut fake = Fake::running();
    for (id, pid) in [("aa", 10), ("bb", 20), ("cc", 30)] {
        fake.run(id, pid);
    }
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected("Podman 4.3.1").await;
    for _ in 0..3 {
        watched.started().await;
    }
    assert_eq!(watched.next().await, synced(&["aa", "bb", "cc"]));
    fake.kill();
    assert!(watched.disconnected().await.contains("Podman"));
    fake.end("aa");
    fake.run("bb", 21);
    fake.start();
    watched.connected("Podman 4.3.1").await;
    assert_eq!(watched.started().await.pid, 21);
    assert_eq!(watched.next().await, synced(&["bb", "cc"]));
}

#[tokio::test]
async fn without_a_runtime_nothing_runs_and_one_that_comes_is_found() {
    let mut fake = Fake::stopped_at("run/podman/podman.sock");
    let mut watched = Watched::from_the_beginning(fake.config());
    assert_eq!(watched.next().await, synced(&[]));
    fake.run("aa", 10);
    fake.start();
    watched.connected("Podman 4.3.1").await;
    assert_eq!(watched.started().await.container.id, "aa");
    assert_eq!(watched.next().await, synced(&["aa"]));
}

#[tokio::test]
async fn a_users_podman_speaks_for_the_users_processes_only() {
    let fake = Fake::running_at("run/user/1000/podman/podman.sock");
    fake.run("aa", 10);
    fake.run("bb", 20);
    fake.uid_map(20, "0 1000 1\n1 100000 65536\n");
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected("Podman 4.3.1 of user 1000").await;
    let problem = watched.problem().await;
    assert_eq!(problem.container.as_deref(), Some("aa"));
    assert!(problem.reason.contains("user namespace of user 1000"));
    assert_eq!(watched.started().await.container.id, "bb");
    assert_eq!(watched.next().await, synced(&["bb"]));
}

#[tokio::test]
async fn a_user_who_logs_in_later_is_found() {
    let mut fake = Fake::stopped_at("run/user/1000/podman/podman.sock");
    fs::create_dir_all(fake.root().join("run/user")).unwrap();
    let mut watched = Watched::from_the_beginning(fake.config());
    assert_eq!(watched.next().await, synced(&[]));
    fake.start();
    watched.connected("Podman 4.3.1 of user 1000").await;
    assert_eq!(watched.next().await, synced(&[]));
}

#[tokio::test]
async fn any_number_of_problems_makes_few_messages() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    for number in 0..300 {
        let id = format!("{number:04x}");
        fake.container(&id, json!(500));
        fake.emit(&event("start", &id));
    }
    fake.run("aa", 10);
    fake.emit(&event("start", "aa"));
    let mut problems = 0;
    while let Change::Problem(_) = watched.next().await {
        problems += 1;
    }
    assert_eq!(problems, 66);
}
