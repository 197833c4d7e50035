// SPDX-License-Identifier: Apache-2.0
//! Sections 3 and 4: which rules apply, which one wins, and what happens when none applies.
//!
//! Unless a test says otherwise the posture is `block` and lines number the rules from 1.

use crate::build::*;
use gorget_engine::{compile, decide};
use gorget_model::Outcome;
use gorget_model::Outcome::Pass;
use gorget_model::{Access, Cause, Object, Posture, Subject};
use gorget_policy::Token;

const BLOCKED: Outcome = Outcome::Block;
const AUDITED: Outcome = Outcome::Audit;
const LISTED: Outcome = Pass;

#[test]
fn a_path_is_exactly_that_path() {
    let rules = ruleset(vec![rule(File, path("/etc/shadow"), Block)]);
    assert_eq!(read(&rules, "/etc/shadow"), (BLOCKED, 1));
    for other in [
        "/etc/shado",
        "/etc/shadow-",
        "/etc/shadow/x",
        "/x/etc/shadow",
        "/",
        "/etc",
    ] {
        assert_eq!(read(&rules, other), (Pass, 0), "{other}");
    }
}

#[test]
fn an_execname_is_the_last_component() {
    let rules = ruleset(vec![rule(Process, execname("nc"), Block)]);
    for named in ["/nc", "/bin/nc", "/a/b/c/nc"] {
        assert_eq!(run(&rules, named), (BLOCKED, 1), "{named}");
    }
    for other in ["/bin/ncat", "/bin/xnc", "/nc/x", "/bin/n"] {
        assert_eq!(run(&rules, other), (Pass, 0), "{other}");
    }
}

#[test]
fn a_directory_is_itself_and_its_direct_children() {
    let rules = ruleset(vec![rule(File, dir("/etc/ssl/"), Block)]);
    for named in ["/etc/ssl", "/etc/ssl/key"] {
        assert_eq!(read(&rules, named), (BLOCKED, 1), "{named}");
    }
    for other in ["/etc", "/etc/sslx", "/etc/ssl/private/key"] {
        assert_eq!(read(&rules, other), (Pass, 0), "{other}");
    }
}

#[test]
fn a_recursive_directory_is_everything_below_as_well() {
    let rules = ruleset(vec![rule(File, tree("/etc/ssl/"), Block)]);
    for named in ["/etc/ssl", "/etc/ssl/key", "/etc/ssl/private/key"] {
        assert_eq!(read(&rules, named), (BLOCKED, 1), "{named}");
    }
    assert_eq!(read(&rules, "/etc/sslx/key"), (Pass, 0));
}

#[test]
fn the_root_directory_is_itself_and_its_direct_children() {
    let rules = ruleset(vec![rule(File, dir("/"), Block)]);
    assert_eq!(read(&rules, "/"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/x"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/x/y"), (Pass, 0));
}

#[test]
fn star_stops_at_a_slash_and_double_star_does_not() {
    let rules = ruleset(vec![rule(File, glob("/home/*/.ssh/**"), Block)]);
    assert_eq!(read(&rules, "/home/bob/.ssh/keys/id"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/home//.ssh/id"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/home/a/b/.ssh/id"), (Pass, 0));
}

#[test]
fn a_question_mark_is_one_byte_but_no_slash() {
    let rules = ruleset(vec![rule(File, glob("/a?c"), Block)]);
    assert_eq!(read(&rules, "/abc"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/a/c"), (Pass, 0));
    assert_eq!(read(&rules, "/ac"), (Pass, 0));
}

#[test]
fn a_class_is_one_byte_of_its_ranges() {
    let class = Token::Class(vec![(b'0', b'9'), (b'x', b'x')]);
    let tokens = [tokens("/v"), vec![class]].concat();
    let rules = ruleset(vec![rule(File, pattern(tokens), Block)]);
    assert_eq!(read(&rules, "/v7"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/vx"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/vy"), (Pass, 0));
    assert_eq!(read(&rules, "/v77"), (Pass, 0));
}

#[test]
fn alternatives_may_be_empty_and_nested() {
    let inner = Token::Alternatives(vec![tokens("local/"), vec![]]);
    let usr = [tokens("usr/"), vec![inner]].concat();
    let outer = Token::Alternatives(vec![usr, vec![]]);
    let tokens = [tokens("/"), vec![outer], tokens("bin/*")].concat();
    let rules = ruleset(vec![rule(Process, pattern(tokens), Block)]);
    for named in ["/bin/x", "/usr/bin/x", "/usr/local/bin/x"] {
        assert_eq!(run(&rules, named), (BLOCKED, 1), "{named}");
    }
    assert_eq!(run(&rules, "/local/bin/x"), (Pass, 0));
}

#[test]
fn bytes_are_compared_not_characters() {
    let rules = ruleset(vec![rule(File, glob("/?"), Block)]);
    assert_eq!(read(&rules, "/x"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/ä"), (Pass, 0));
}

#[test]
fn a_source_path_is_exact() {
    let rules = ruleset(vec![rule(File, path("/k"), Block).from("/bin/x")]);
    assert_eq!(ask(&rules, File, "/bin/x", "/k", READ), (BLOCKED, 1));
    assert_eq!(ask(&rules, File, "/bin/xx", "/k", READ), (Pass, 0));
}

#[test]
fn a_source_directory_is_recursive_only_when_it_says_so() {
    let flat = ruleset(vec![rule(File, path("/k"), Block).from("/opt/")]);
    assert_eq!(ask(&flat, File, "/opt/x", "/k", READ), (BLOCKED, 1));
    assert_eq!(ask(&flat, File, "/opt/d/x", "/k", READ), (Pass, 0));
    let deep = ruleset(vec![rule(File, path("/k"), Block).from("/opt//")]);
    assert_eq!(ask(&deep, File, "/opt/d/x", "/k", READ), (BLOCKED, 1));
}

#[test]
fn any_of_several_sources_is_enough() {
    let rules = ruleset(vec![
        rule(File, path("/k"), Block).from("/bin/x").from("/opt/"),
    ]);
    assert_eq!(ask(&rules, File, "/bin/x", "/k", READ), (BLOCKED, 1));
    assert_eq!(ask(&rules, File, "/opt/y", "/k", READ), (BLOCKED, 1));
    assert_eq!(ask(&rules, File, "/bin/y", "/k", READ), (Pass, 0));
}

#[test]
fn no_source_matches_the_runtime() {
    let rules = ruleset(vec![
        rule(Process, tree("/"), Block).from("//"),
        rule(Process, path("/bin/y"), Audit),
    ]);
    let start = |object: &str| Access {
        category: Process,
        subject: Subject::Runtime,
        object: Object::Path(object.into()),
        modes: RUN,
        arguments: Vec::new(),
    };
    assert_eq!(explain(&rules, decide(&rules, &start("/bin/x"))), (Pass, 0));
    assert_eq!(
        explain(&rules, decide(&rules, &start("/bin/y"))),
        (AUDITED, 2)
    );
}

#[test]
fn no_rule_matches_an_image_without_a_name() {
    let nameless = Access {
        category: Process,
        subject: Subject::Image("/bin/x".into()),
        object: Object::Nameless,
        modes: RUN,
        arguments: Vec::new(),
    };
    let free = ruleset(vec![
        rule(Process, tree("/"), Block),
        rule(Process, glob("**"), Block),
    ]);
    assert_eq!(explain(&free, decide(&free, &nameless)), (Pass, 0));
    let listed = ruleset(vec![rule(Process, tree("/"), Allow)]);
    assert_eq!(explain(&listed, decide(&listed, &nameless)), (BLOCKED, -1));
}

#[test]
fn a_matching_source_beats_any_rule_without() {
    let rules = ruleset(vec![
        rule(File, path("/d/k"), Block),
        rule(File, tree("/"), Allow).from("/bin/x"),
    ]);
    assert_eq!(ask(&rules, File, "/bin/x", "/d/k", READ), (LISTED, 2));
    assert_eq!(ask(&rules, File, "/bin/y", "/d/k", READ), (BLOCKED, 1));
}

#[test]
fn a_path_beats_an_execname() {
    let rules = ruleset(vec![
        rule(Process, execname("nc"), Block),
        rule(Process, path("/bin/nc"), Allow),
    ]);
    assert_eq!(run(&rules, "/bin/nc"), (LISTED, 2));
    assert_eq!(run(&rules, "/usr/bin/nc"), (BLOCKED, 1));
}

#[test]
fn an_execname_beats_directories_and_patterns() {
    let rules = ruleset(vec![
        rule(Process, tree("/bin/"), Block),
        rule(Process, glob("/bin/*"), Block),
        rule(Process, execname("nc"), Allow),
    ]);
    assert_eq!(run(&rules, "/bin/nc"), (LISTED, 3));
    assert_eq!(run(&rules, "/bin/ls"), (BLOCKED, 1));
}

#[test]
fn a_path_beats_directories_and_patterns() {
    let rules = ruleset(vec![
        rule(File, tree("/etc/"), Block),
        rule(File, glob("/etc/**"), Block),
        rule(File, path("/etc/hosts"), Allow),
    ]);
    assert_eq!(read(&rules, "/etc/hosts"), (LISTED, 3));
}

#[test]
fn the_longest_directory_wins() {
    let rules = ruleset(vec![
        rule(File, tree("/a/"), Block),
        rule(File, tree("/a/b/"), Allow),
        rule(File, tree("/a/b/c/"), Audit),
    ]);
    assert_eq!(read(&rules, "/a/x"), (BLOCKED, 1));
    assert_eq!(read(&rules, "/a/b/x"), (LISTED, 2));
    assert_eq!(read(&rules, "/a/b/c/x"), (AUDITED, 3));
}

#[test]
fn the_length_of_a_directory_counts_also_for_the_directory_itself() {
    let rules = ruleset(vec![
        rule(File, tree("/a/"), Block),
        rule(File, dir("/a/b/"), Allow),
    ]);
    assert_eq!(read(&rules, "/a/b"), (LISTED, 2));
    assert_eq!(read(&rules, "/a/b/c/d"), (BLOCKED, 1));
}

#[test]
fn a_flat_directory_beats_the_same_directory_recursive() {
    let rules = ruleset(vec![
        rule(File, tree("/a/"), Block),
        rule(File, dir("/a/"), Allow),
    ]);
    assert_eq!(read(&rules, "/a/x"), (LISTED, 2));
    assert_eq!(read(&rules, "/a/x/y"), (BLOCKED, 1));
}

#[test]
fn a_pattern_stays_beside_the_winning_directory_and_the_stricter_wins() {
    let rules = ruleset(vec![
        rule(File, tree("/a/"), Block),
        rule(File, tree("/a/b/"), Allow),
        rule(File, glob("/a/b/*.key"), Audit),
    ]);
    assert_eq!(read(&rules, "/a/b/x.key"), (AUDITED, 3));
    assert_eq!(read(&rules, "/a/b/x"), (LISTED, 2));
    let rules = ruleset(vec![
        rule(File, tree("/a/b/"), Block),
        rule(File, glob("/a/b/*.key"), Allow),
    ]);
    assert_eq!(read(&rules, "/a/b/x.key"), (BLOCKED, 1));
}

#[test]
fn block_then_audit_then_allow_then_posture() {
    let all = [
        rule(File, path("/k"), Allow).read_only(),
        rule(File, path("/k"), Allow),
        rule(File, path("/k"), Audit),
        rule(File, path("/k"), Block),
    ];
    let expected = [(BLOCKED, -1), (LISTED, 2), (AUDITED, 3), (BLOCKED, 4)];
    for (last, expected) in expected.into_iter().enumerate() {
        let rules = ruleset(all[..=last].to_vec());
        assert_eq!(ask(&rules, File, "/bin/x", "/k", WRITE), expected);
    }
}

#[test]
fn of_several_equal_rules_the_policy_that_sorts_first_is_named() {
    let late = policy("z", vec![rule(File, path("/k"), Block)]);
    let early = policy(
        "a",
        vec![rule(File, path("/j"), Block), rule(File, path("/k"), Block)],
    );
    let rules = compile(&set(vec![late, early], Posture::Block)).unwrap();
    let decided = decide(&rules, &access(File, "/bin/x", "/k", READ));
    let Cause::Rule(id) = decided.cause else {
        panic!("{decided:?}")
    };
    assert_eq!(rules.rules()[id.0 as usize].policy, "a");
    assert_eq!(rules.rules()[id.0 as usize].at.line, 2);
}

#[test]
fn names_sort_as_one_text_with_the_namespace_in_front() {
    let named = |namespace: Option<&str>, name: &str| {
        let mut policy = (*policy(name, vec![rule(File, path("/k"), Block)])).clone();
        policy.namespace = namespace.map(Into::into);
        policy.into()
    };
    // `-` sorts before `/`, and no namespace means `default`.
    let policies = vec![
        named(Some("a"), "p"),
        named(Some("a-b"), "q"),
        named(None, "r"),
    ];
    let rules = compile(&set(policies, Posture::Block)).unwrap();
    let order: Vec<_> = rules
        .rules()
        .iter()
        .map(|rule| rule.policy.as_str())
        .collect();
    assert_eq!(order, ["q", "p", "r"]);
}

#[test]
fn without_an_allow_rule_what_is_not_listed_passes() {
    for posture in [Posture::Allow, Posture::Audit, Posture::Block] {
        let policy = policy("p", vec![rule(File, path("/k"), Block)]);
        let rules = compile(&set(vec![policy], posture)).unwrap();
        assert_eq!(read(&rules, "/other"), (Pass, 0));
    }
}

#[test]
fn with_an_allow_rule_the_posture_decides_about_the_rest() {
    for (posture, outcome) in [
        (Posture::Allow, Pass),
        (Posture::Audit, AUDITED),
        (Posture::Block, BLOCKED),
    ] {
        let policy = policy("p", vec![rule(File, path("/k"), Allow)]);
        let rules = compile(&set(vec![policy], posture)).unwrap();
        assert_eq!(read(&rules, "/other"), (outcome, -1));
        assert_eq!(read(&rules, "/k"), (LISTED, 1));
    }
}

#[test]
fn an_allow_rule_of_another_policy_makes_the_allow_list() {
    let one = policy("a", vec![rule(File, path("/k"), Allow)]);
    let other = policy("b", vec![rule(File, path("/s"), Audit)]);
    let rules = compile(&set(vec![one, other], Posture::Block)).unwrap();
    assert_eq!(read(&rules, "/other"), (BLOCKED, -1));
}

#[test]
fn an_allow_rule_for_one_source_makes_the_allow_list_for_all() {
    let rules = ruleset(vec![rule(File, path("/k"), Allow).from("/bin/x")]);
    assert_eq!(ask(&rules, File, "/bin/y", "/k", READ), (BLOCKED, -1));
    assert_eq!(ask(&rules, File, "/bin/y", "/other", READ), (BLOCKED, -1));
}

#[test]
fn categories_are_independent() {
    let rules = ruleset(vec![rule(Process, path("/bin/x"), Allow)]);
    assert_eq!(run(&rules, "/bin/y"), (BLOCKED, -1));
    assert_eq!(read(&rules, "/etc/hosts"), (Pass, 0));
    let rules = ruleset(vec![rule(File, tree("/etc/"), Allow)]);
    assert_eq!(read(&rules, "/tmp/x"), (BLOCKED, -1));
    assert_eq!(run(&rules, "/bin/y"), (Pass, 0));
}

#[test]
fn what_only_an_audit_rule_names_is_listed() {
    let rules = ruleset(vec![
        rule(File, tree("/a/"), Allow),
        rule(File, path("/s"), Audit),
    ]);
    assert_eq!(read(&rules, "/s"), (AUDITED, 2));
    assert_eq!(read(&rules, "/t"), (BLOCKED, -1));
}

#[test]
fn the_lenient_allow_list() {
    let rules = ruleset(vec![
        rule(Process, tree("/"), Allow),
        rule(File, tree("/secret/"), Block),
        rule(File, tree("/"), Allow),
        rule(File, tree("/secret/"), Allow).from("/bin/p"),
    ]);
    for modes in [READ, WRITE, BOTH] {
        assert_eq!(
            ask(&rules, File, "/bin/p", "/secret/a/b", modes),
            (LISTED, 4)
        );
        assert_eq!(
            ask(&rules, File, "/bin/q", "/secret/a/b", modes),
            (BLOCKED, 2)
        );
        assert_eq!(
            ask(&rules, File, "/bin/q", "/elsewhere", modes),
            (LISTED, 3)
        );
    }
    assert_eq!(run(&rules, "/bin/anything"), (LISTED, 1));
}
