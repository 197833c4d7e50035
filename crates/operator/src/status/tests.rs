// SPDX-License-Identifier: Apache-2.0
//! What is said of a policy, by what agents say of it.

use super::*;
use crate::admission::{Verdict, judge_text};
use serde_json::json;

fn policy(action: &str) -> PolicyObject {
    let object = json!({
        "metadata": { "name": "p", "namespace": "shop", "uid": "u", "generation": 2 },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "file": { "matchPaths": [{ "path": "/a" }] },
            "action": action,
        },
    });
    PolicyObject::read(PolicyResource::Container, &object).unwrap()
}

fn name() -> v1::PolicyName {
    v1::PolicyName {
        kind: "KubeArmorPolicy".to_owned(),
        namespace: "shop".to_owned(),
        name: "p".to_owned(),
    }
}

fn state(uid: &str, generation: i64, reasons: &[&str]) -> v1::PolicyState {
    v1::PolicyState {
        policy: Some(name()),
        origin: "cluster".to_owned(),
        generation,
        uid: uid.to_owned(),
        state: if reasons.is_empty() {
            "enforced"
        } else {
            "degraded"
        }
        .to_owned(),
        reasons: reasons.iter().map(|it| (*it).to_owned()).collect(),
        ..v1::PolicyState::default()
    }
}

fn agent(policies: Vec<v1::PolicyState>) -> Option<Arc<Digest>> {
    Some(Arc::new(Digest::of(v1::AgentStatus {
        backend: "bpf".to_owned(),
        policies,
        ..v1::AgentStatus::default()
    })))
}

fn nodes(agents: impl IntoIterator<Item = Option<Arc<Digest>>>) -> Nodes {
    let names = ('a'..='z').map(|letter| format!("node-{letter}"));
    names.zip(agents).collect()
}

/// The word, and each condition in a line.
fn said(action: &str, nodes: &Nodes) -> Vec<String> {
    let policy = policy(action);
    let judged = judge_text(&policy.text, &Verdict::errors_only());
    let wanted = aggregate(&policy, &judged, nodes);
    assert_eq!(wanted.generation, 2);
    let lines = wanted.conditions.iter().map(|it| {
        let Condition {
            kind,
            status,
            reason,
            message,
        } = it;
        format!("{kind} {status:?} {reason}: {message}")
    });
    std::iter::once(wanted.word.to_owned())
        .chain(lines)
        .collect()
}

#[test]
fn a_policy_is_enforced_when_all_nodes_have_this_version() {
    let all = nodes([
        agent(vec![state("u", 2, &[])]),
        agent(vec![state("u", 2, &[])]),
    ]);
    assert_eq!(
        said("Block", &all),
        [
            "Enforced",
            "Accepted True Valid: ",
            "Enforced True Enforced: 2 of 2 nodes",
            "Degraded False AsWritten: ",
        ]
    );
}

#[test]
fn nodes_that_have_another_version_or_another_policy_or_none_count_as_pending() {
    let some = nodes([
        agent(vec![state("u", 2, &[])]),
        agent(vec![state("u", 1, &[])]),
        agent(vec![state("v", 2, &[])]),
        agent(vec![]),
    ]);
    let said = said("Block", &some);
    assert_eq!(said[0], "Pending");
    assert_eq!(said[2], "Enforced False Pending: 1 of 4 nodes; 3 not yet");
}

#[test]
fn a_policy_of_the_same_name_from_a_file_is_not_the_clusters() {
    let mut of_file = state("", 2, &[]);
    of_file.origin = "directory".to_owned();
    let said = said("Block", &nodes([agent(vec![of_file])]));
    assert_eq!(said[2], "Enforced False Pending: 0 of 1 nodes; 1 not yet");
}

#[test]
fn an_agent_that_does_not_answer_is_neither_enforced_nor_not() {
    let some = nodes([agent(vec![state("u", 2, &[])]), None]);
    let said_of_some = said("Block", &some);
    assert_eq!(said_of_some[0], "Unknown");
    assert_eq!(
        said_of_some[2],
        "Enforced Unknown NoAnswer: 1 of 2 nodes; 1 not known, because the agent does not answer"
    );
    let said_of_none = said("Block", &nodes([]));
    assert_eq!(
        said_of_none[2],
        "Enforced Unknown NoAgents: there are no agents"
    );
}

#[test]
fn what_is_missing_is_said_with_where_most_frequent_first() {
    let partly = |reasons: &[&str]| agent(vec![state("u", 2, reasons)]);
    let some = nodes([
        partly(&["a", "b"]),
        partly(&["b"]),
        partly(&["b"]),
        partly(&["b"]),
        partly(&[]),
    ]);
    assert_eq!(
        said("Block", &some),
        [
            "Degraded",
            "Accepted True Valid: ",
            "Enforced False Degraded: 1 of 5 nodes; 4 not as it is written",
            "Degraded True NotAsWritten: b (on node-a, node-b, node-c and 1 more); a (on node-a)",
        ]
    );
}

#[test]
fn a_policy_that_is_wrong_is_refused_with_the_field_and_what_is_in_force() {
    let refused = v1::Refused {
        policy: Some(name()),
        uid: "u".to_owned(),
        generation: 2,
        last_good_in_force: true,
        problems: vec!["as above".to_owned()],
        ..v1::Refused::default()
    };
    let agent = Some(Arc::new(Digest::of(v1::AgentStatus {
        policies: vec![state("u", 1, &[])],
        refused: vec![refused],
        ..v1::AgentStatus::default()
    })));
    let said = said("Bock", &nodes([agent]));
    assert_eq!(said[0], "Refused");
    assert!(
        said[1].starts_with("Accepted False Invalid: spec.action: `Bock` "),
        "{}",
        said[1]
    );
    assert_eq!(
        said[2],
        "Enforced False NotAccepted: an earlier version is in force on 1 of 1 nodes"
    );
    assert_eq!(said[3], "Degraded False AsWritten: ");
}

#[test]
fn an_agent_of_another_version_that_refuses_what_is_valid_here_is_named() {
    let refused = v1::Refused {
        policy: Some(name()),
        uid: "u".to_owned(),
        generation: 2,
        problems: vec!["`spec.file` is not known".to_owned()],
        ..v1::Refused::default()
    };
    let agent = Some(Arc::new(Digest::of(v1::AgentStatus {
        refused: vec![refused],
        ..v1::AgentStatus::default()
    })));
    let said = said("Block", &nodes([agent]));
    assert_eq!(
        said[3],
        "Degraded True NotAsWritten: `spec.file` is not known (on node-a)"
    );
}

#[test]
fn a_kind_that_nothing_enforces_is_not_said_to_be_on_its_way() {
    let object = json!({
        "metadata": { "name": "n", "uid": "u", "generation": 1 },
        "spec": {
            "nodeSelector": { "matchLabels": { "a": "b" } },
            "egress": [{ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }] }],
            "action": "Block",
        },
    });
    let policy = PolicyObject::read(PolicyResource::Network, &object).unwrap();
    let judged = judge_text(&policy.text, &Verdict::errors_only());
    assert_eq!(judged.errors, []);
    let wanted = aggregate(&policy, &judged, &nodes([agent(vec![])]));
    assert_eq!(wanted.word, "Degraded");
    assert_eq!(wanted.conditions[1].reason, "NotEnforced");
    assert_eq!(wanted.conditions[2].message, "packets are not filtered yet");
}

#[test]
fn messages_have_an_end() {
    let long = "x".repeat(900);
    let reasons: Vec<_> = (0..9).map(|number| format!("{number}{long}")).collect();
    let reasons: Vec<_> = reasons.iter().map(String::as_str).collect();
    let said = said("Block", &nodes([agent(vec![state("u", 2, &reasons)])]));
    assert!(said[3].ends_with('…') && said[3].chars().count() < 1_100);
}

#[test]
fn backends_are_those_of_nodes_that_enforce() {
    let of = |backend: &str| {
        Some(Arc::new(Digest::of(v1::AgentStatus {
            backend: backend.to_owned(),
            ..v1::AgentStatus::default()
        })))
    };
    assert_eq!(
        backends(&nodes([of("bpf"), None, of("audit-only")])),
        BTreeSet::from([Backend::BpfLsm])
    );
    assert_eq!(
        backends(&nodes([of("apparmor")])),
        BTreeSet::from([Backend::AppArmor])
    );
    assert!(all_have_profiles(&nodes([of("apparmor")])));
    for some in [
        vec![],
        vec![of("apparmor"), None],
        vec![of("apparmor"), of("bpf")],
    ] {
        assert!(!all_have_profiles(&nodes(some)));
    }
}
