// SPDX-License-Identifier: Apache-2.0
//! What the content id depends on, and what it does not.

use crate::build::*;
use gorget_engine::{ContentId, compile};
use gorget_model::Posture;
use gorget_policy::{Policy, Rule};
use std::sync::Arc;

fn id(policies: Vec<Arc<Policy>>) -> ContentId {
    compile(&set(policies, Posture::Audit))
        .unwrap()
        .content_id()
}

fn one(rule: Rule) -> ContentId {
    id(vec![policy("p", vec![rule])])
}

fn sample() -> Vec<Arc<Policy>> {
    vec![
        policy("a", vec![rule(File, tree("/a/"), Block).from("/bin/x")]),
        policy(
            "b",
            vec![
                rule(File, glob("/a/*.k"), Allow),
                rule(Process, execname("x"), Audit),
            ],
        ),
        policy("c", vec![rule(File, path("/a/k"), Audit).read_only()]),
    ]
}

#[test]
fn every_order_of_the_policies_gives_the_same_id_and_the_same_rules() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let compiled = orders.map(|order| {
        let policies = order.map(|at| Arc::clone(&sample()[at])).to_vec();
        compile(&set(policies, Posture::Audit)).unwrap()
    });
    for other in &compiled[1..] {
        assert_eq!(other.content_id(), compiled[0].content_id());
        assert_eq!(other.rules(), compiled[0].rules());
    }
}

#[test]
fn a_policy_that_is_given_twice_counts_once() {
    let twice = [sample(), sample()].concat();
    assert_eq!(id(twice), id(sample()));
}

#[test]
fn lines_of_a_file_are_not_part_of_the_id() {
    let mut moved = (*policy("p", vec![rule(File, path("/k"), Block)])).clone();
    moved.rules[0].at.line += 10;
    assert_eq!(id(vec![moved.into()]), one(rule(File, path("/k"), Block)));
}

#[test]
fn what_an_alert_says_is_part_of_the_id() {
    let plain = rule(File, path("/k"), Block);
    let severe = Rule {
        severity: Some(3),
        ..plain.clone()
    };
    let tagged = Rule {
        tags: vec!["t".into()],
        ..plain.clone()
    };
    let told = Rule {
        message: "t".into(),
        ..plain.clone()
    };
    let renamed = id(vec![policy("q", vec![plain.clone()])]);
    let mut ids = vec![one(plain), one(severe), one(tagged), one(told), renamed];
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[test]
fn what_is_decided_is_part_of_the_id() {
    let base = [
        rule(File, tree("/a/"), Block),
        rule(File, path("/k"), Allow),
    ];
    let with_posture = |posture| {
        compile(&set(vec![policy("p", base.to_vec())], posture))
            .unwrap()
            .content_id()
    };
    let mut ids = vec![
        with_posture(Posture::Allow),
        with_posture(Posture::Audit),
        with_posture(Posture::Block),
        id(vec![policy(
            "p",
            vec![rule(File, dir("/a/"), Block), base[1].clone()],
        )]),
        id(vec![policy(
            "p",
            vec![base[0].clone().from("/x"), base[1].clone()],
        )]),
        id(vec![policy(
            "p",
            vec![base[0].clone().owner_only(), base[1].clone()],
        )]),
    ];
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[test]
fn the_same_language_gives_the_same_automaton_however_it_is_written() {
    let by_directory = ruleset(vec![rule(File, tree("/"), Block)]);
    let by_pattern = ruleset(vec![rule(File, glob("/**"), Block)]);
    assert_eq!(by_directory.objects(File), by_pattern.objects(File));
}
