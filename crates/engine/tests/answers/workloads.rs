// SPDX-License-Identifier: Apache-2.0
//! What a change of policies changes for the workloads that they select.

use crate::build::*;
use gorget_engine::{DiffPoliciesError, PolicyDifference, diff_policies};
use gorget_model::{Object, Posture, Postures, Workload};
use gorget_policy::{Kind, Policy, Rule, Token};
use std::sync::Arc;

fn between(old: &[Arc<Policy>], new: &[Arc<Policy>]) -> PolicyDifference {
    diff_policies(old, new, Postures::all(Posture::Block)).unwrap()
}

/// A policy for containers with these labels.
fn labelled(name: &str, labels: &[(&str, &str)], rules: Vec<Rule>) -> Arc<Policy> {
    let mut policy = policy(name, rules);
    Arc::make_mut(&mut policy).selector.labels = labels
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect();
    policy
}

fn labels(workload: &Workload) -> Vec<String> {
    let Workload::Container(container) = workload else {
        panic!("{workload:?}");
    };
    let labels = container.labels.iter();
    labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

fn block(name: &str) -> Vec<Rule> {
    vec![rule(File, path(name), Block)]
}

#[test]
fn a_change_is_found_for_the_workload_that_the_selector_asks_for() {
    let db = labelled("db", &[("app", "db")], block("/k"));
    let old = labelled("web", &[("app", "web")], block("/k"));
    let new = labelled("web", &[("app", "web")], block("/l"));
    let found = between(&[old, Arc::clone(&db)], &[new, db]);
    assert!(found.complete && !found.is_none());
    let [workload] = found.workloads.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(labels(&workload.workload), ["app=web"]);
    assert_eq!(
        (&workload.old, &workload.new),
        (&vec!["ns/web".into()], &vec!["ns/web".into()])
    );
    let freed = &workload.difference.newly_allowed[0].witness.object;
    assert_eq!(freed, &Object::Path(b"/k".to_vec()));
}

#[test]
fn moved_reordered_and_split_policies_make_no_difference() {
    let web = |name, rules| labelled(name, &[("app", "web")], rules);
    let both = || vec![rule(File, path("/k"), Block), rule(File, path("/l"), Audit)];
    let mut moved = web("p", both());
    for rule in &mut Arc::make_mut(&mut moved).rules {
        rule.at.line += 100;
        rule.at.file = "other.yaml".into();
    }
    assert!(between(&[web("p", both())], &[moved]).is_none());
    let [k, l] = [0, 1].map(|at| vec![both()[at].clone()]);
    let found = between(&[web("p", both())], &[web("b", k), web("a", l)]);
    assert!(found.is_none(), "{found:#?}");
    assert_eq!(found.renamed, 2);
}

#[test]
fn a_difference_that_shows_only_where_policies_meet_is_found() {
    let web = labelled("web", &[("app", "web")], vec![rule(File, tree("/"), Block)]);
    let tier = |rules| labelled("tier", &[("tier", "front")], rules);
    // What one of them allows would pass anyway; only the other would block it.
    let found = diff_policies(
        &[Arc::clone(&web), tier(vec![rule(File, path("/l"), Allow)])],
        &[web, tier(vec![])],
        Postures::all(Posture::Allow),
    )
    .unwrap();
    let [workload] = found.workloads.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(labels(&workload.workload), ["app=web", "tier=front"]);
    assert_eq!(
        workload.difference.newly_denied[0].witness.object,
        Object::Path(b"/l".to_vec())
    );
}

#[test]
fn what_was_said_of_one_workload_is_not_said_again_of_another() {
    let plain = |name: &str, rules| labelled(name, &[], rules);
    let others: Vec<_> = ["a", "b", "c"]
        .map(|app| labelled(app, &[("app", app)], vec![rule(File, path("/o"), Audit)]))
        .to_vec();
    let with = |policy: Arc<Policy>| [others.clone(), vec![policy]].concat();
    let found = between(
        &with(plain("p", block("/k"))),
        &with(plain("p", block("/l"))),
    );
    assert_eq!(found.workloads.len(), 1, "{found:#?}");
}

#[test]
fn hosts_and_containers_are_compared_apart() {
    let host = |rules| {
        let mut policy = labelled("h", &[("kubearmor.io/hostname", "*")], rules);
        let host = Arc::make_mut(&mut policy);
        (host.kind, host.namespace) = (Kind::Host, None);
        policy
    };
    let found = between(&[host(block("/k"))], &[host(vec![])]);
    assert!(matches!(found.workloads[0].workload, Workload::Host(_)));
    assert_eq!(found.workloads[0].old, ["h"]);
}

#[test]
fn many_selectors_end_the_comparison_with_a_word() {
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let policies = |path: &str| -> Vec<Arc<Policy>> {
        keys.iter()
            .map(|key| labelled(key, &[(key, "v")], block(path)))
            .collect()
    };
    let found = between(&policies("/k"), &policies("/l"));
    assert!(!found.complete);
    assert_eq!(found.workloads.len(), 12, "every selector was compared");
}

#[test]
fn policies_that_do_not_compile_together_are_named() {
    let optional = Token::Alternatives(vec![vec![Token::Byte(b'a')], vec![]]);
    let hostile = rule(File, pattern(vec![optional; 6_000]), Block);
    let p = labelled("p", &[], vec![hostile]);
    let refused = diff_policies(&[p], &[], Postures::default()).unwrap_err();
    assert!(
        matches!(&refused, DiffPoliciesError::Compile { policies, .. } if policies == &["ns/p"])
    );
    assert_eq!(refused.to_string(), "`ns/p` cannot be compiled together");
}
