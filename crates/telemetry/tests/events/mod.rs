// SPDX-License-Identifier: Apache-2.0
//! Events that the contract tests send: each field has a value of its own, so that two that are
//! mixed up are noticed.

use gorget_model::{
    Alert, AlertAction, AlertKind, Category, Container, Host, Level, Log, Message, Node, Owner,
    PolicyRef, Process, Workload,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// 2026-01-02T03:04:05.000006Z.
const TIME: i64 = 1_767_323_045_000_006;

fn node() -> Arc<Node> {
    Arc::new(Node {
        cluster: "default".to_owned(),
        host: "node-1".to_owned(),
        id: "machine-id".to_owned(),
    })
}

pub(crate) fn container() -> Workload {
    Workload::Container(Container {
        id: "c0ffee".to_owned(),
        name: "web".to_owned(),
        image: "docker.io/library/nginx:1.29".to_owned(),
        namespace: None,
        pod: None,
        labels: BTreeMap::from([
            ("app".to_owned(), "web".to_owned()),
            ("tier".to_owned(), "front".to_owned()),
        ]),
        owner: Some(Arc::new(Owner {
            kind: "Deployment".to_owned(),
            name: "shop".to_owned(),
            namespace: "front".to_owned(),
        })),
    })
}

fn process() -> Process {
    Process {
        host_pid: 4242,
        host_ppid: 4241,
        pid: 42,
        ppid: 41,
        uid: 1000,
        user: String::new(),
        exe: "/usr/bin/head".to_owned(),
        parent_exe: "/usr/bin/bash".to_owned(),
        cwd: "/srv".to_owned(),
        tty: "pts0".to_owned(),
        session: Some(gorget_model::ExecSession {
            id: "824416229130095".to_owned(),
            program: "bash".to_owned(),
        }),
        hashes: gorget_model::Hashes {
            process: Some(Box::new(gorget_model::FileHash {
                algorithm: "sha256",
                digest: vec![0x5a; 32],
            })),
            parent: None,
        },
    }
}

/// A file in a container is kept from being read.
pub(crate) fn container_alert() -> Alert {
    Alert {
        unix_micros: TIME,
        node: node(),
        workload: Arc::new(container()),
        process: process(),
        policy: PolicyRef {
            name: "ksp-token".to_owned(),
            severity: Some(7),
            tags: vec!["secrets".to_owned(), "MITRE".to_owned()],
            message: "a token was asked for".to_owned(),
        },
        kind: AlertKind::Policy,
        category: Category::File,
        source: "/usr/bin/head -c1 /run/secrets/token".to_owned(),
        resource: "/run/secrets/token".to_owned(),
        data: "lsm=FILE_OPEN flags=O_RDONLY".to_owned(),
        action: AlertAction::Block,
        result: "Permission denied",
        enforcer: "BPFLSM",
    }
}

/// A program is started on the host, and that is audited.
pub(crate) fn host_alert() -> Alert {
    Alert {
        workload: Arc::new(Workload::Host(Host {
            name: "node-1".to_owned(),
            labels: BTreeMap::new(),
        })),
        process: Process {
            user: "alice".to_owned(),
            ..process()
        },
        policy: PolicyRef {
            name: "hsp-head".to_owned(),
            severity: None,
            tags: Vec::new(),
            message: String::new(),
        },
        kind: AlertKind::HostPolicy,
        category: Category::Process,
        source: "/usr/bin/bash".to_owned(),
        resource: "/usr/bin/head -c1 /etc/motd".to_owned(),
        data: "lsm=SECURITY_BPRM_CHECK".to_owned(),
        action: AlertAction::Audit,
        result: "Passed",
        ..container_alert()
    }
}

pub(crate) fn log(workload: Workload) -> Log {
    Log {
        unix_micros: TIME,
        node: node(),
        workload: Arc::new(workload),
        process: process(),
        category: Category::File,
        source: "/usr/bin/head -c1 /etc/motd".to_owned(),
        resource: "/etc/motd".to_owned(),
        data: "lsm=FILE_OPEN".to_owned(),
        result: "Passed",
    }
}

pub(crate) fn message(text: &str) -> Message {
    Message {
        unix_micros: TIME,
        node: node(),
        level: Level::Info,
        text: text.to_owned(),
    }
}
