// SPDX-License-Identifier: Apache-2.0
//! The table of section 2: what a rule with modifiers asks for.
//!
//! The posture is `audit`, so that it can be told from Block.

use crate::build::*;
use gorget_engine::{Ruleset, compile, decide};
use gorget_model::{Modes, Outcome, Posture};
use gorget_policy::{Action, Rule};

const ALLOW: (Outcome, i64) = (Outcome::Pass, 1);
const AUDIT: (Outcome, i64) = (Outcome::Audit, 1);
const BLOCK: (Outcome, i64) = (Outcome::Block, 1);
const POSTURE: (Outcome, i64) = (Outcome::Audit, -1);
const NO_MATCH: (Outcome, i64) = (Outcome::Pass, 0);

fn compiled(rules: Vec<Rule>) -> Ruleset {
    compile(&set(vec![policy("p", rules)], Posture::Audit)).unwrap()
}

fn with(action: Action, modify: fn(Rule) -> Rule, modes: Modes) -> (Outcome, i64) {
    let rules = compiled(vec![modify(rule(File, path("/k"), action))]);
    ask(&rules, File, "/bin/x", "/k", modes)
}

fn row(modify: fn(Rule) -> Rule, modes: Modes) -> [(Outcome, i64); 3] {
    [Allow, Block, Audit].map(|action| with(action, modify, modes))
}

#[test]
fn without_modifiers_the_action_is_given_in_full() {
    for modes in [READ, WRITE, owned(READ), owned(WRITE)] {
        assert_eq!(row(|rule| rule, modes), [ALLOW, BLOCK, AUDIT]);
    }
}

#[test]
fn read_only_is_satisfied_by_reading() {
    for modes in [READ, owned(READ)] {
        assert_eq!(row(RuleExt::read_only, modes), [ALLOW, ALLOW, NO_MATCH]);
    }
}

#[test]
fn read_only_is_not_satisfied_by_writing() {
    for modes in [WRITE, owned(WRITE)] {
        assert_eq!(row(RuleExt::read_only, modes), [POSTURE, BLOCK, AUDIT]);
    }
}

#[test]
fn owner_only_is_satisfied_by_the_owner() {
    for modes in [owned(READ), owned(WRITE)] {
        assert_eq!(row(RuleExt::owner_only, modes), [ALLOW, ALLOW, NO_MATCH]);
    }
}

#[test]
fn owner_only_is_not_satisfied_by_anyone_else() {
    for modes in [READ, WRITE] {
        assert_eq!(row(RuleExt::owner_only, modes), [POSTURE, BLOCK, AUDIT]);
    }
}

#[test]
fn two_modifiers_must_both_be_satisfied() {
    let both = |rule: Rule| rule.read_only().owner_only();
    assert_eq!(row(both, owned(READ)), [ALLOW, ALLOW, NO_MATCH]);
    for modes in [READ, WRITE, owned(WRITE)] {
        assert_eq!(row(both, modes), [POSTURE, BLOCK, AUDIT]);
    }
}

#[test]
fn owner_only_works_for_processes() {
    let rules = compiled(vec![rule(Process, path("/bin/x"), Block).owner_only()]);
    assert_eq!(ask(&rules, Process, "/bin/sh", "/bin/x", RUN), BLOCK);
    assert_eq!(ask(&rules, Process, "/bin/sh", "/bin/x", owned(RUN)), ALLOW);
}

#[test]
fn reading_and_writing_takes_the_stricter_answer() {
    let rules = compiled(vec![
        rule(File, path("/k"), Block).read_only(),
        rule(File, path("/j"), Allow).read_only(),
    ]);
    assert_eq!(ask(&rules, File, "/bin/x", "/k", BOTH), BLOCK);
    assert_eq!(ask(&rules, File, "/bin/x", "/j", BOTH), POSTURE);
}

#[test]
fn on_a_tie_the_answer_for_writing_is_given() {
    let rules = compiled(vec![
        rule(File, path("/k"), Audit),
        rule(File, path("/k"), Block).read_only().owner_only(),
    ]);
    // Reading as the owner: line 2 allows, line 1 audits. Writing: line 2 blocks.
    assert_eq!(ask(&rules, File, "/bin/x", "/k", owned(READ)), AUDIT);
    assert_eq!(
        ask(&rules, File, "/bin/x", "/k", owned(BOTH)),
        (Outcome::Block, 2)
    );
    let tie = compiled(vec![
        rule(File, path("/k"), Audit).read_only(),
        rule(File, tree("/"), Audit),
    ]);
    assert_eq!(ask(&tie, File, "/bin/x", "/k", READ), (Outcome::Audit, 2));
    assert_eq!(ask(&tie, File, "/bin/x", "/k", BOTH), (Outcome::Audit, 1));
}

#[test]
fn a_silenced_rule_takes_no_part_in_precedence() {
    let rules = compiled(vec![
        rule(File, path("/d/k"), Audit).read_only(),
        rule(File, tree("/d/"), Block),
        rule(File, path("/d/k"), Audit).owner_only().from("/bin/x"),
    ]);
    assert_eq!(
        ask(&rules, File, "/bin/y", "/d/k", READ),
        (Outcome::Block, 2)
    );
    assert_eq!(
        ask(&rules, File, "/bin/y", "/d/k", WRITE),
        (Outcome::Audit, 1)
    );
    assert_eq!(
        ask(&rules, File, "/bin/x", "/d/k", owned(READ)),
        (Outcome::Block, 2)
    );
    assert_eq!(
        ask(&rules, File, "/bin/x", "/d/k", READ),
        (Outcome::Audit, 3)
    );
}

#[test]
fn what_is_listed_but_not_in_this_way_is_left_to_the_posture() {
    for (posture, outcome) in [
        (Posture::Allow, Outcome::Pass),
        (Posture::Audit, Outcome::Audit),
        (Posture::Block, Outcome::Block),
    ] {
        let policy = policy("p", vec![rule(File, path("/k"), Allow).read_only()]);
        let rules = compile(&set(vec![policy], posture)).unwrap();
        assert_eq!(ask(&rules, File, "/bin/x", "/k", WRITE), (outcome, -1));
    }
}

fn in_terminal(terminal: bool) -> Modes {
    Modes { terminal, ..RUN }
}

/// A rule with each action; the answers without and with a terminal.
#[test]
fn without_a_terminal_is_what_pts_false_asks_for() {
    let answers = |action| {
        let rules = ruleset(vec![rule(Process, path("/bin/y"), action).no_terminal()]);
        [false, true]
            .map(|terminal| ask(&rules, Process, "/bin/x", "/bin/y", in_terminal(terminal)))
    };
    assert_eq!(answers(Allow), [(Outcome::Pass, 1), (Outcome::Block, -1)]);
    assert_eq!(answers(Block), [(Outcome::Pass, 0), (Outcome::Block, 1)]);
    assert_eq!(answers(Audit), [(Outcome::Pass, 0), (Outcome::Audit, 1)]);
}

#[test]
fn a_rule_silenced_by_a_missing_terminal_gives_way_to_a_weaker_one() {
    let rules = ruleset(vec![
        rule(Process, path("/bin/y"), Block).no_terminal(),
        rule(Process, tree("/bin/"), Audit),
    ]);
    let run = |terminal| ask(&rules, Process, "/bin/x", "/bin/y", in_terminal(terminal));
    assert_eq!(run(false), (Outcome::Audit, 2));
    assert_eq!(run(true), (Outcome::Block, 1));
}

fn run_with(rules: &Ruleset, arguments: &[&str]) -> (Outcome, i64) {
    let mut access = access(Process, "/bin/x", "/bin/y", RUN);
    access.arguments = arguments.iter().map(|a| a.as_bytes().to_vec()).collect();
    explain(rules, decide(rules, &access))
}

#[test]
fn every_argument_must_be_in_the_list() {
    let answers = |action| {
        let listed = rule(Process, path("/bin/y"), action).only_with(&["-l", "-a"]);
        let rules = ruleset(vec![listed]);
        [&[][..], &["-l"], &["-a", "-l", "-a"], &["-l", "x"]].map(|args| run_with(&rules, args))
    };
    let (allowed, denied) = ((Outcome::Pass, 1), (Outcome::Block, -1));
    assert_eq!(answers(Allow), [allowed, allowed, allowed, denied]);
    let blocked = (Outcome::Block, 1);
    assert_eq!(answers(Block), [allowed, allowed, allowed, blocked]);
    let (silent, audited) = ((Outcome::Pass, 0), (Outcome::Audit, 1));
    assert_eq!(answers(Audit), [silent, silent, silent, audited]);
}

#[test]
fn several_lists_for_one_program_are_several_rules() {
    let rules = ruleset(vec![
        rule(Process, path("/bin/y"), Allow).only_with(&["start"]),
        rule(Process, path("/bin/y"), Allow).only_with(&["stop", "now"]),
        rule(Process, path("/bin/y"), Block)
            .only_with(&["start", "stop", "now"])
            .from("/opt/"),
    ]);
    assert_eq!(run_with(&rules, &["start"]), (Outcome::Pass, 1));
    assert_eq!(run_with(&rules, &["now", "stop"]), (Outcome::Pass, 2));
    assert_eq!(run_with(&rules, &["start", "stop"]), (Outcome::Block, -1));
}

#[test]
fn a_hundred_lists_for_one_program_are_refused_with_the_limit() {
    let listed = |n: usize| rule(Process, path("/bin/y"), Audit).only_with(&[&n.to_string()]);
    let rules = (0..100).map(listed).collect();
    let error = compile(&set(vec![policy("p", rules)], Posture::Block)).unwrap_err();
    assert!(error.to_string().contains("`allowedArgs`"), "{error}");
}
