// SPDX-License-Identifier: Apache-2.0
//! What policies make of a record: counts by rule, changes, samples, and bounds.

use crate::{access, policies, policy};
use gorget_engine::{RecordedAccess, Replay, Replayed, RuleUse};
use gorget_model::{
    Access, Category, Container, Host, Modes, Outcome, Posture, Postures, Workload,
};
use std::collections::BTreeMap;

fn web(namespace: &str) -> Workload {
    Workload::Container(Container {
        name: "web".to_owned(),
        namespace: Some(namespace.to_owned()),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        ..Container::default()
    })
}

/// Rules on lines 8, 9 and 19.
fn two_policies() -> String {
    let secrets = "  file:
    matchPaths:
      - { path: /k }
      - { path: /never }";
    let listed = "  action: Allow
  process:
    matchPaths:
      - { path: /bin/web }";
    [policy("secrets", secrets), policy("listed", listed)].join("---\n")
}

fn replay() -> Replay {
    let policies = policies(&two_policies());
    Replay::new(policies, Postures::all(Posture::Audit), Vec::new())
}

fn happened(access: &Access, workload: &Workload, line: u64, was: Option<Outcome>) -> Replayed {
    let mut replay = replay();
    add(&mut replay, access, workload, line, was);
    replay.finish()
}

fn add(replay: &mut Replay, access: &Access, workload: &Workload, line: u64, was: Option<Outcome>) {
    let recorded = RecordedAccess {
        line,
        workload,
        access,
        or: &[],
        happened: was,
    };
    replay.access(recorded).unwrap();
}

fn rule<'a>(replayed: &'a Replayed, policy: &str) -> &'a RuleUse {
    let mut rules = replayed.by_rule.iter();
    rules.find(|rule| rule.rule.policy == policy).unwrap()
}

#[test]
fn every_rule_is_counted_also_one_that_decides_nothing() {
    let workload = web("default");
    let mut replay = replay();
    let (key, other) = (
        access("file:read:/k", "/bin/cat"),
        access("file:read:/o", "/bin/cat"),
    );
    add(&mut replay, &key, &workload, 1, Some(Outcome::Pass));
    add(&mut replay, &key, &workload, 2, Some(Outcome::Block));
    add(&mut replay, &other, &workload, 3, Some(Outcome::Block));
    add(
        &mut replay,
        &access("exec:/bin/web", "/init"),
        &workload,
        4,
        None,
    );
    add(
        &mut replay,
        &access("exec:/bin/sh", "/init"),
        &workload,
        5,
        None,
    );
    let replayed = replay.finish();

    let lines: Vec<(u32, u64)> = replayed
        .by_rule
        .iter()
        .map(|rule| (rule.rule.at.line, rule.used.tally.accesses()))
        .collect();
    assert_eq!(lines, [(19, 1), (8, 2), (9, 0)]);
    let denied = &rule(&replayed, "default/secrets").used;
    assert_eq!((denied.tally.denied, denied.tally.newly_denied), (2, 1));
    let sample = &denied.samples[0];
    assert_eq!(
        (
            sample.line,
            sample.operation.as_str(),
            sample.subject.as_str(),
            sample.workload.as_str()
        ),
        (1, "file:read:/k", "/bin/cat", "default/web")
    );
    assert_eq!(
        (replayed.no_rule.allowed, replayed.no_rule.newly_allowed),
        (1, 1)
    );
    assert_eq!(replayed.by_posture[&Category::Process].tally.audited, 1);
    let total = replayed.total;
    assert_eq!((total.allowed, total.audited, total.denied), (2, 1, 2));
    assert_eq!(
        (total.newly_denied, total.newly_allowed, total.accesses()),
        (1, 1, 5)
    );
}

#[test]
fn each_workload_is_decided_by_the_policies_that_select_it() {
    let key = access("file:read:/k", "/bin/cat");
    let host = Workload::Host(Host::default());
    for elsewhere in [web("other"), host] {
        let replayed = happened(&key, &elsewhere, 1, Some(Outcome::Pass));
        assert_eq!(replayed.no_rule.allowed, 1);
    }
    let here = happened(&key, &web("default"), 1, Some(Outcome::Pass));
    assert_eq!(here.total.denied, 1);
}

#[test]
fn an_access_that_may_have_been_another_is_unsure_when_that_would_matter() {
    let text = policy(
        "p",
        "  file: { matchPaths: [ { path: /k, readOnly: true } ] }",
    );
    let mut replay = Replay::new(policies(&text), Postures::default(), Vec::new());
    let opened = access("file:read:/k", "/bin/cat");
    let modes = Modes {
        write: true,
        ..opened.modes
    };
    let written = [Access {
        modes,
        ..opened.clone()
    }];
    let other = [Access {
        modes: Modes {
            owner: false,
            ..opened.modes
        },
        ..opened.clone()
    }];
    for or in [&written[..], &other, &[]] {
        let recorded = RecordedAccess {
            line: 1,
            workload: &web("default"),
            access: &opened,
            or,
            happened: None,
        };
        replay.access(recorded).unwrap();
    }
    let total = replay.finish().total;
    assert_eq!((total.allowed, total.unsure), (3, 1));
}

#[test]
fn samples_are_few_different_and_show_changes_first() {
    let workload = web("default");
    let mut replay = replay();
    for line in 1..100 {
        let source = format!("/bin/{}", line % 10);
        let key = access("file:read:/k", &source);
        add(&mut replay, &key, &workload, line, Some(Outcome::Block));
    }
    let changed = access("file:read:/k", "/bin/new");
    add(&mut replay, &changed, &workload, 100, Some(Outcome::Pass));
    let replayed = replay.finish();
    let used = &rule(&replayed, "default/secrets").used;
    let lines: Vec<u64> = used.samples.iter().map(|sample| sample.line).collect();
    assert_eq!(lines, [100, 2, 3, 4, 5]);
    assert_eq!(used.tally.denied, 100);
}

#[test]
fn lines_that_cannot_be_read_are_counted_by_reason_with_the_first_as_sample() {
    let mut replay = replay();
    replay.unreadable(3, b"\xffgarbage", "is not JSON");
    replay.unreadable(4, &[b'x'; 100_000], "is not JSON");
    replay.unreadable(5, &[b'x'; 100_000], "is not an event");
    for line in 10..1_000 {
        replay.unreadable(line, b"{}", &format!("has the number {line}"));
    }
    let unreadable = replay.finish().unreadable;
    let json = &unreadable["is not JSON"];
    assert_eq!(
        (json.count, &json.sample),
        (2, &(3, "\u{fffd}garbage".to_owned()))
    );
    assert!(unreadable["is not an event"].sample.1.len() < 1_000);
    assert!(unreadable.len() <= 65, "{}", unreadable.len());
    let counted: u64 = unreadable.values().map(|unread| unread.count).sum();
    assert_eq!(counted, 3 + 990);
}

#[test]
fn more_workloads_than_are_remembered_are_still_decided() {
    let text: Vec<String> = (0..300)
        .map(|number| {
            policy(
                &format!("p{number}"),
                "  file: { matchPaths: [ { path: /k } ] }",
            )
            .replace("app: web", &format!("app: a{number}"))
        })
        .collect();
    let policies = policies(&text.join("---\n"));
    let mut replay = Replay::new(policies, Postures::default(), Vec::new());
    let key = access("file:read:/k", "/bin/cat");
    for number in (0..300).chain(0..300) {
        let workload = Workload::Container(Container {
            labels: BTreeMap::from([("app".to_owned(), format!("a{number}"))]),
            ..Container::default()
        });
        add(&mut replay, &key, &workload, 1, None);
    }
    let replayed = replay.finish();
    assert_eq!(replayed.total.denied, 600);
    assert!(
        replayed
            .by_rule
            .iter()
            .all(|rule| rule.used.tally.denied == 2)
    );
}
