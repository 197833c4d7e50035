// SPDX-License-Identifier: Apache-2.0
//! What the server tells becomes what is in force.

use super::*;
use gorget_k8s::{Key, Object, Pod, PolicyResource};
use gorget_telemetry::Feeder;
use std::sync::mpsc::{Receiver, channel as std_channel};

fn setup(dir: &Path) -> (Setup, Receiver<Command>) {
    let (commands, received) = std_channel();
    let node = Arc::new(Node::default());
    let setup = Setup {
        settings: ClusterSettings {
            access: gorget_k8s::Access::InCluster,
            node: "worker-1".to_owned(),
            untracked: BTreeSet::new(),
        },
        state_dir: dir.to_owned(),
        commands,
        reporter: Reporter::new(Arc::clone(&node), Feeder::new()),
        tracker: Arc::new(Mutex::new(Tracker::new(
            Arc::clone(&node),
            0,
            Default::default(),
        ))),
        node,
        throttle: None,
    };
    (setup, received)
}

fn pod(name: &str) -> Seen {
    Seen::Changed {
        what: Watched::Pods,
        object: Object::Pod(Pod {
            key: Key::new("shop", name),
            ..Pod::default()
        }),
    }
}

fn policy(name: &str) -> Seen {
    let resource = PolicyResource::Container;
    Seen::Changed {
        what: Watched::Policies(resource),
        object: Object::Policy(PolicyObject {
            name: PolicyKey {
                resource,
                key: Key::new("shop", name),
            },
            uid: "u".to_owned(),
            generation: 1,
            text: "{}".to_owned(),
        }),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn what_was_known_is_known_after_a_restart_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let _entered = runtime();
    let _entered = _entered.enter();
    let (setup_, _commands) = setup(&state);
    let (mut cluster, heard) = Cluster::start(setup_);
    assert!(heard.policies.borrow().is_empty());
    for seen in [pod("web"), policy("no-shell")] {
        let touched = cluster.take(seen);
        cluster.tell(touched);
    }
    assert!(cluster.write_at.is_some());
    cluster.write();
    assert_eq!(heard.policies.borrow().len(), 1);

    let (setup_, commands) = setup(&state);
    let (_cluster, heard) = Cluster::start(setup_);
    assert_eq!(heard.policies.borrow().len(), 1);
    let Ok(Command::Cluster(index)) = commands.try_recv() else {
        panic!("the enforcer is told");
    };
    assert_eq!(index.pods().count(), 1);
    let status = heard.status.borrow().clone().unwrap();
    assert!(!status.current);
    assert_eq!((status.pods, status.policies), (1, 1));
}

#[test]
fn a_state_that_cannot_be_read_counts_as_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), "{").unwrap();
    let (setup, _commands) = setup(dir.path());
    let (cluster, _heard) = Cluster::start(setup);
    assert_eq!(cluster.index.pods().count(), 0);
}

#[test]
fn a_server_that_goes_away_is_counted_once_for_all_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let (setup, _commands) = setup(dir.path());
    let (mut cluster, heard) = Cluster::start(setup);
    let all = [Watched::Pods, Watched::Node, Watched::Namespaces];
    let unanswered = || Trouble::Unanswered {
        reason: "nobody is there".to_owned(),
    };
    for what in all.clone() {
        let trouble = unanswered();
        let touched = cluster.take(Seen::Away { what, trouble });
        cluster.tell(touched);
    }
    let status = heard.status.borrow().clone().unwrap();
    assert_eq!((status.interruptions, status.troubles.len()), (1, 3));
    for what in all {
        let touched = cluster.take(Seen::Connected { what });
        cluster.tell(touched);
    }
    assert!(heard.status.borrow().as_ref().unwrap().troubles.is_empty());
}

#[test]
fn settings_of_a_configmap_reach_who_acts_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let (setup, commands) = setup(dir.path());
    let (mut cluster, heard) = Cluster::start(setup);
    assert_eq!(*heard.throttle.borrow(), None);
    drop(commands.try_recv());
    let _entered = runtime();
    let _entered = _entered.enter();
    let origin = gorget_k8s::SettingsOrigin::KubeArmor;
    let data = [
        ("alertThrottling", "true"),
        ("maxAlertPerSec", "3"),
        ("defaultFilePosture", "block"),
    ];
    let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let touched = cluster.take(Seen::Changed {
        what: Watched::Settings {
            origin,
            namespace: "gorget".to_owned(),
        },
        object: Object::Settings(gorget_k8s::SettingsMap {
            origin,
            key: Key::new("gorget", "config"),
            data: data.into(),
        }),
    });
    cluster.tell(touched);
    let limit = Limit {
        max_per_second: 3,
        seconds: Limit::DEFAULT.seconds,
    };
    assert_eq!(*heard.throttle.borrow(), Some(limit));
    assert!(matches!(commands.try_recv(), Ok(Command::Cluster(_))));
}
