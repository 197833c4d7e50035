// SPDX-License-Identifier: Apache-2.0
//! Rules that never decide anything, as people write them.

use crate::build::*;
use gorget_engine::{Shadowed, Why, shadowed};
use gorget_model::{Access, Category, Object, Posture, Protocol, Subject};
use gorget_policy::{Glob, ObjectMatcher, Rule, Token};

fn reported(rules: Vec<Rule>) -> Vec<Shadowed> {
    shadowed(&set(vec![policy("p", rules)], Posture::Block)).unwrap()
}

/// Lines of the rules that are reported.
fn lines(rules: Vec<Rule>) -> Vec<u32> {
    reported(rules).iter().map(|r| r.rule.at.line).collect()
}

/// Lines of the rules that hide the only one reported, with the paths that show it.
fn hidden_by(rules: Vec<Rule>) -> Vec<(u32, String)> {
    let reported = reported(rules);
    let [
        Shadowed {
            why: Why::Hidden(by),
            ..
        },
    ] = reported.as_slice()
    else {
        panic!("{reported:#?}");
    };
    by.iter()
        .map(|by| (by.rule.at.line, object(&by.witness)))
        .collect()
}

fn object(access: &Access) -> String {
    match &access.object {
        Object::Path(path) => String::from_utf8(path.clone()).unwrap(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_second_of_two_equal_rules_decides_nothing() {
    let twice = vec![rule(File, path("/a"), Block), rule(File, path("/a"), Block)];
    assert_eq!(hidden_by(twice), [(1, "/a".into())]);
}

#[test]
fn an_allow_for_what_another_rule_blocks_by_the_same_name_decides_nothing() {
    let rules = vec![
        rule(File, tree("/etc/"), Allow),
        rule(File, tree("/etc/"), Block),
        rule(File, path("/srv"), Allow),
    ];
    assert_eq!(hidden_by(rules), [(2, "/etc".into())]);
}

#[test]
fn several_rules_can_hide_one_together() {
    let rules = vec![
        rule(File, dir("/a/"), Audit),
        rule(File, dir("/a/"), Block).from("/x"),
        rule(File, glob("/a/*"), Block),
        rule(File, path("/a"), Block),
    ];
    let reported = reported(rules);
    assert_eq!(reported.len(), 1, "{reported:#?}");
    assert_eq!(reported[0].rule.at.line, 1);
    let Why::Hidden(by) = &reported[0].why else {
        panic!("{reported:#?}");
    };
    let by: Vec<_> = by
        .iter()
        .map(|by| (by.rule.at.line, object(&by.witness), &by.witness.subject))
        .collect();
    let (x, other) = (
        Subject::Image(b"/x".to_vec()),
        Subject::Image(b"/a".to_vec()),
    );
    assert_eq!(
        by,
        [
            (2, "/a".into(), &x),
            (3, "/a/a".into(), &other),
            (4, "/a".into(), &other),
        ]
    );
}

#[test]
fn a_rule_that_decides_for_one_subject_only_is_not_reported() {
    let rules = vec![
        rule(File, path("/a"), Audit).from("/x"),
        rule(File, path("/a"), Block),
    ];
    assert_eq!(lines(rules), [0; 0]);
}

#[test]
fn a_more_general_rule_is_not_reported_while_anything_is_left_to_it() {
    let rules = vec![
        rule(File, tree("/a/"), Block),
        rule(File, path("/a/b"), Audit),
    ];
    assert_eq!(lines(rules), [0; 0]);
}

#[test]
fn a_directory_that_keeps_a_shorter_one_from_deciding_is_not_reported() {
    let rules = vec![
        rule(File, tree("/a/"), Block),
        rule(File, dir("/a/b/"), Allow),
        rule(File, glob("/a/b/*"), Audit),
        rule(File, glob("/a/b"), Audit),
        rule(File, path("/srv"), Allow),
    ];
    assert_eq!(lines(rules), [0; 0]);
}

#[test]
fn a_name_that_no_path_can_have_is_reported_with_what_it_matches() {
    for (text, matched) in [
        ("/etc/*/", Some("/etc//")),
        ("etc/x", Some("etc/x")),
        ("/etc//x", Some("/etc//x")),
        ("/etc/../x", Some("/etc/../x")),
    ] {
        let reported = reported(vec![rule(File, glob(text), Audit)]);
        let matches = matched.map(|text| text.as_bytes().to_vec());
        assert_eq!(reported[0].why, Why::NamesNothing { matches }, "{text}");
    }
    let empty = Glob {
        text: "/[]".into(),
        tokens: vec![Token::Byte(b'/'), Token::Class(vec![])],
    };
    let reported = reported(vec![rule(File, ObjectMatcher::Pattern(empty), Audit)]);
    assert_eq!(reported[0].why, Why::NamesNothing { matches: None });
}

#[test]
fn a_pattern_that_no_path_matches_still_keeps_its_directory_in_place() {
    assert_eq!(lines(vec![rule(File, glob("/etc/*/"), Block)]), [0; 0]);
}

#[test]
fn modifiers_that_leave_nothing_to_say_are_reported() {
    let silent = rule(Process, path("/bin/sh"), Audit).read_only();
    assert_eq!(reported(vec![silent])[0].why, Why::SaysNothing);
}

#[test]
fn sources_that_no_image_can_be_are_reported() {
    let nobody = rule(File, path("/a"), Audit).from("/bin//sh");
    assert_eq!(reported(vec![nobody])[0].why, Why::NoSubject);
}

#[test]
fn the_only_allow_rule_makes_the_allow_list_even_if_it_never_decides() {
    let rules = || {
        vec![
            rule(Process, path("/bin/sh"), Allow),
            rule(Process, path("/bin/sh"), Block),
        ]
    };
    let reported = reported(rules());
    assert_eq!(reported.len(), 1);
    let unlisted = reported[0].allow_list.as_ref().unwrap();
    assert_eq!(object(unlisted), "/a");
    let open = shadowed(&set(vec![policy("p", rules())], Posture::Allow)).unwrap();
    assert_eq!(
        open[0].allow_list, None,
        "the posture says what no rule would"
    );
    let mut more = rules();
    more.push(rule(Process, path("/bin/ls"), Allow));
    assert_eq!(crate::idle::reported(more)[0].allow_list, None);
}

#[test]
fn protocols_are_hidden_by_the_rule_for_all() {
    let protocol =
        |protocol, action| rule(Category::Network, ObjectMatcher::Protocol(protocol), action);
    let rules = vec![
        protocol(Protocol::Tcp, Audit),
        protocol(Protocol::All, Block),
    ];
    assert_eq!(hidden_by(rules).len(), 1);
}
