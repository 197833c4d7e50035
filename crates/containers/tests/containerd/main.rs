// SPDX-License-Identifier: Apache-2.0
//! What [`gorget_containers::watch`] promises, against a fake containerd that speaks the real protocol.
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
    include!(concat!(env!("OUT_DIR"), "/server/containerd.rs"));
}

use fake::{Fake, create, delete, event, exit, start};
use gorget_containers::{Change, Config, Problem, ProblemKind, Started, watch};
use proto::containerd::v1::types::Status as TaskStatus;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Far more than anything here takes; only a failing test reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watched {
    changes: mpsc::Receiver<Change>,
    tasks: JoinSet<()>,
}

impl Watched {
    fn from_the_beginning(config: Config) -> Self {
        let (changes, future) = watch(config);
        let mut tasks = JoinSet::new();
        tasks.spawn(future);
        Self { changes, tasks }
    }

    /// Connected to a containerd that runs nothing.
    async fn synced(fake: &Fake) -> Self {
        let mut watched = Self::from_the_beginning(fake.config());
        watched.connected().await;
        assert_eq!(watched.next().await, synced(&[]));
        watched
    }

    async fn next(&mut self) -> Change {
        tokio::time::timeout(PATIENCE, self.changes.recv())
            .await
            .expect("a change in time")
            .expect("the stream goes on")
    }

    async fn connected(&mut self) {
        let runtime = "containerd v1.7.24".to_owned();
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
    fake.run("default", "a", 10);
    fake.run("default", "b", 20);
    fake.task("default", "b", 20, TaskStatus::Paused);
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    for (id, pid) in [("a", 10), ("b", 20)] {
        let started = watched.started().await;
        assert_eq!((started.container.id.as_str(), started.pid), (id, pid));
        assert!(started.already_running);
    }
    assert_eq!(watched.next().await, synced(&["a", "b"]));
}

#[tokio::test]
async fn a_task_that_is_created_only_is_not_already_running_and_a_stopped_one_is_nothing() {
    let fake = Fake::running();
    fake.run("default", "created", 10);
    fake.task("default", "created", 10, TaskStatus::Created);
    fake.run("default", "over", 20);
    fake.task("default", "over", 20, TaskStatus::Stopped);
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    assert!(!watched.started().await.already_running);
    assert_eq!(watched.next().await, synced(&["created"]));
}

#[tokio::test]
async fn a_creation_is_reported_with_the_whole_identity() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    let labels = [
        ("io.kubernetes.container.name", "web"),
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "prod"),
    ];
    fake.image("k8s.io", "docker.io/library/nginx:1", "sha256:abcd");
    fake.container("k8s.io", "4f2a", "docker.io/library/nginx:1", &labels);
    let inode = fake.process(10, "/kubepods.slice/cri-containerd-4f2a.scope");
    fake.emit(create("k8s.io", "4f2a", 10));

    let Started {
        container,
        pid,
        cgroup,
        already_running,
    } = watched.started().await;
    assert_eq!(container.id, "4f2a");
    assert_eq!(container.name, "web");
    assert_eq!(container.image, "docker.io/library/nginx:1@sha256:abcd");
    assert_eq!(container.namespace.as_deref(), Some("prod"));
    assert_eq!(container.pod.as_deref(), Some("web-0"));
    let expected: BTreeMap<_, _> = labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    assert_eq!(container.labels, expected);
    assert_eq!(pid, 10);
    assert_eq!(cgroup.path, "/kubepods.slice/cri-containerd-4f2a.scope");
    assert_eq!(cgroup.id, inode);
    assert!(!already_running);
}

#[tokio::test]
async fn what_docker_knows_is_read_from_its_own_file() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    let directory = fake.docker_directory("4f2a");
    fs::create_dir_all(&directory).unwrap();
    let config = r#"{"Name":"/web","Config":{"Image":"nginx:1","Labels":{"app":"shop"}}}"#;
    fs::write(directory.join("config.v2.json"), config).unwrap();
    fake.container(
        "moby",
        "4f2a",
        "",
        &[("com.docker/engine.bundle.path", "/run/x")],
    );
    fake.process(10, "/system.slice/docker-4f2a.scope");
    fake.emit(create("moby", "4f2a", 10));
    let container = watched.started().await.container;
    assert_eq!(
        (container.name.as_str(), container.image.as_str()),
        ("web", "nginx:1")
    );
    assert_eq!(container.labels["app"], "shop");
}

#[tokio::test]
async fn a_container_that_docker_says_nothing_about_is_known_by_its_id_and_that_is_told() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.container("moby", "4f2a", "", &[]);
    fake.process(10, "/system.slice/docker-4f2a.scope");
    fake.emit(create("moby", "4f2a", 10));
    match watched.next().await {
        Change::Problem(problem) => assert!(problem.reason.contains("config.v2.json")),
        other => panic!("not a problem: {other:?}"),
    }
    assert_eq!(watched.started().await.container.name, "4f2a");
}

#[tokio::test]
async fn a_container_without_a_stored_image_keeps_the_reference() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.container("default", "a", "example.org/gone:1", &[("nginx", "")]);
    fake.process(10, "/default/a");
    fake.emit(create("default", "a", 10));
    assert_eq!(
        watched.started().await.container.image,
        "example.org/gone:1"
    );
}

#[tokio::test]
async fn a_start_after_its_creation_is_not_reported_again() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("default", "a", 10);
    fake.emit(create("default", "a", 10));
    fake.emit(start("default", "a", 10));
    fake.emit(exit("default", "a", "a", 10));
    assert_eq!(watched.started().await.container.id, "a");
    assert_eq!(watched.next().await, stopped("a"));
}

#[tokio::test]
async fn a_start_whose_creation_was_missed_is_already_running() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("default", "a", 10);
    fake.emit(start("default", "a", 10));
    assert!(watched.started().await.already_running);
}

#[tokio::test]
async fn the_end_of_an_exec_does_not_stop_the_container() {
    let fake = Fake::running();
    fake.run("default", "a", 10);
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    watched.started().await;
    watched.next().await;
    fake.emit(exit("default", "a", "my-exec", 11));
    fake.emit(delete("default", "a", "my-exec", 11));
    fake.run("default", "b", 20);
    fake.emit(create("default", "b", 20));
    assert_eq!(watched.started().await.container.id, "b");
}

#[tokio::test]
async fn the_removal_of_a_task_stops_a_container_whose_exit_was_missed() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("default", "a", 10);
    fake.emit(create("default", "a", 10));
    watched.started().await;
    fake.emit(delete("default", "a", "", 10));
    fake.emit(exit("default", "a", "a", 10));
    assert_eq!(watched.next().await, stopped("a"));
    fake.emit(create("default", "a", 10));
    assert_eq!(watched.started().await.container.id, "a");
}

#[tokio::test]
async fn containers_of_every_namespace_are_seen_by_scan_and_by_event() {
    let fake = Fake::running();
    fake.run("nerdctl", "a", 10);
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    assert_eq!(watched.started().await.container.id, "a");
    assert_eq!(watched.next().await, synced(&["a"]));
    fake.run("made-later", "b", 20);
    fake.emit(create("made-later", "b", 20));
    assert_eq!(watched.started().await.container.id, "b");
}

#[tokio::test]
async fn the_same_id_in_two_namespaces_is_two_containers() {
    let fake = Fake::running();
    fake.run("default", "web", 10);
    fake.run("other", "web", 20);
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    assert_eq!(watched.started().await.container.id, "web");
    assert_eq!(watched.started().await.container.id, "other/web");
    assert_eq!(watched.next().await, synced(&["other/web", "web"]));
    fake.emit(exit("other", "web", "web", 20));
    assert_eq!(watched.next().await, stopped("other/web"));
}

#[tokio::test]
async fn a_container_that_is_created_during_the_scan_is_not_missed() {
    let fake = Fake::running();
    fake.run("default", "a", 10);
    fake.container("default", "late", "", &[]);
    fake.process(20, "/default/late");
    fake.during_scan(create("default", "late", 20));
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    assert_eq!(watched.started().await.container.id, "a");
    assert_eq!(watched.next().await, synced(&["a"]));
    let started = watched.started().await;
    assert_eq!(started.container.id, "late");
    assert!(!started.already_running);
}

#[tokio::test]
async fn events_of_an_earlier_task_do_not_touch_the_one_that_the_scan_found() {
    let fake = Fake::running();
    fake.run("default", "a", 11);
    fake.process(10, "/default/a");
    fake.during_scan(create("default", "a", 10));
    fake.during_scan(exit("default", "a", "a", 10));
    fake.during_scan(delete("default", "a", "", 10));
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    assert_eq!(watched.started().await.pid, 11);
    assert_eq!(watched.next().await, synced(&["a"]));
    fake.emit(exit("default", "a", "a", 11));
    assert_eq!(watched.next().await, stopped("a"));
}

#[tokio::test]
async fn a_new_task_of_a_known_container_is_started_again_with_its_pid() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("default", "a", 10);
    fake.emit(create("default", "a", 10));
    assert_eq!(watched.started().await.pid, 10);
    fake.run("default", "a", 11);
    fake.emit(create("default", "a", 11));
    assert_eq!(watched.started().await.pid, 11);
}

#[tokio::test]
async fn a_process_that_is_gone_is_not_reported() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.container("default", "short", "", &[]);
    fake.emit(create("default", "short", 10));
    fake.emit(exit("default", "short", "short", 10));
    fake.run("default", "b", 20);
    fake.emit(create("default", "b", 20));
    assert_eq!(watched.started().await.container.id, "b");
}

#[tokio::test]
async fn a_container_that_containerd_does_not_know_is_a_problem_and_the_next_one_is_reported() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("default", "b", 20);
    fake.process(10, "/default/missing");
    fake.emit(create("default", "missing", 10));
    fake.emit(create("default", "b", 20));
    let problem = watched.problem().await;
    assert_eq!(problem.kind, ProblemKind::Answer);
    assert_eq!(problem.container.as_deref(), Some("missing"));
    assert!(
        problem.reason.contains("`Containers.Get`"),
        "{}",
        problem.reason
    );
    assert_eq!(watched.started().await.container.id, "b");
}

#[tokio::test]
async fn events_that_make_no_sense_are_problems_and_the_next_one_is_reported() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.run("default", "b", 20);
    let topic = "/tasks/create";
    let name = "containerd.events.TaskCreate";
    let mut empty = create("default", "b", 20);
    empty.event = None;
    for (envelope, expected) in [
        (empty, "has no payload"),
        (
            event("default", topic, name, vec![0xff; 9]),
            "cannot decode",
        ),
        (
            event("default", topic, "x.Y", vec![]),
            "has a payload of type `x.Y`",
        ),
        (create("default", "", 20), "names no container"),
        (create("default", "b", 0), "has no process id"),
    ] {
        fake.emit(envelope);
        let problem = watched.problem().await;
        assert_eq!(problem.kind, ProblemKind::Event);
        assert!(problem.reason.contains(expected), "{}", problem.reason);
    }
    fake.emit(create("default", "b", 20));
    assert_eq!(watched.started().await.container.id, "b");
}

#[tokio::test]
async fn a_cgroup_that_must_not_be_bound_is_a_problem() {
    let fake = Fake::running();
    let mut watched = Watched::synced(&fake).await;
    fake.container("default", "a", "", &[]);
    fake.process(10, "/");
    fake.emit(create("default", "a", 10));
    let problem = watched.problem().await;
    assert_eq!(problem.kind, ProblemKind::Cgroup);
    assert_eq!(problem.container.as_deref(), Some("a"));
}

#[tokio::test]
async fn after_a_restart_only_differences_and_the_list_are_told() {
    let mut fake = Fake::running();
    for (id, pid) in [("stays", 10), ("leaves", 20), ("again", 30)] {
        fake.run("default", id, pid);
    }
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    for _ in 0..3 {
        watched.started().await;
    }
    assert_eq!(watched.next().await, synced(&["again", "leaves", "stays"]));

    fake.kill();
    assert!(!watched.disconnected().await.is_empty());
    fake.remove_task("default", "leaves");
    fake.end_process(20);
    fake.run("default", "again", 31);
    fake.run("default", "new", 40);
    fake.start();

    watched.connected().await;
    let again = watched.started().await;
    assert_eq!((again.container.id.as_str(), again.pid), ("again", 31));
    assert_eq!(watched.started().await.container.id, "new");
    assert_eq!(watched.next().await, synced(&["again", "new", "stays"]));
    fake.emit(exit("default", "stays", "stays", 10));
    assert_eq!(watched.next().await, stopped("stays"));
}

#[tokio::test]
async fn a_runtime_that_is_not_there_is_told_once_and_found_when_it_comes() {
    let mut fake = Fake::stopped();
    let mut watched = Watched::from_the_beginning(fake.config());
    let reason = watched.disconnected().await;
    assert!(reason.contains("containerd.sock"), "{reason}");
    fake.start();
    watched.connected().await;
    assert_eq!(watched.next().await, synced(&[]));
}

#[tokio::test]
async fn a_namespace_that_cannot_be_listed_keeps_what_was_known_of_it() {
    let mut fake = Fake::running();
    fake.run("default", "a", 10);
    fake.run("k8s.io", "b", 20);
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    watched.started().await;
    watched.started().await;
    assert_eq!(watched.next().await, synced(&["a", "b"]));
    fake.kill();
    watched.disconnected().await;
    fake.fail_task_list("default", true);
    fake.start();
    watched.connected().await;
    let problem = watched.problem().await;
    assert!(problem.reason.contains("in disorder"), "{}", problem.reason);
    assert_eq!(watched.next().await, synced(&["a", "b"]));
}

#[tokio::test]
async fn a_known_container_whose_shim_does_not_answer_is_not_gone() {
    let mut fake = Fake::running();
    fake.run("default", "a", 10);
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    watched.started().await;
    assert_eq!(watched.next().await, synced(&["a"]));
    fake.kill();
    watched.disconnected().await;
    fake.task("default", "a", 0, TaskStatus::Unknown);
    fake.start();
    watched.connected().await;
    assert_eq!(watched.next().await, synced(&["a"]));
}

#[tokio::test]
async fn a_full_queue_loses_nothing() {
    let fake = Fake::running();
    let count: u32 = 600;
    for n in 0..count {
        fake.run("default", &format!("c{n:04}"), 1000 + n);
    }
    let mut watched = Watched::from_the_beginning(fake.config());
    watched.connected().await;
    for n in 0..count {
        assert_eq!(watched.started().await.container.id, format!("c{n:04}"));
    }
    assert!(matches!(watched.next().await, Change::Synced { running } if running.len() == 600));
}

#[tokio::test]
async fn the_watch_ends_when_its_receiver_is_dropped() {
    let fake = Fake::running();
    let Watched { changes, mut tasks } = Watched::synced(&fake).await;
    drop(changes);
    let ended = tokio::time::timeout(PATIENCE, tasks.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(())))), "{ended:?}");
}

#[tokio::test]
async fn the_watch_ends_when_its_receiver_is_dropped_before_anything_answers() {
    let fake = Fake::stopped();
    let Watched { changes, mut tasks } = Watched::from_the_beginning(fake.config());
    drop(changes);
    let ended = tokio::time::timeout(PATIENCE, tasks.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(())))), "{ended:?}");
}
