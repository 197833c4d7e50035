// SPDX-License-Identifier: Apache-2.0
//! Moving or removing a directory with everything below it.
//!
//! The posture is `audit`, so that it can be told from Block.

use crate::build::*;
use gorget_engine::{Ruleset, compile};
use gorget_model::{Outcome, Posture};
use gorget_policy::Rule;

const FREE: (Outcome, i64) = (Outcome::Pass, 0);
const BLOCKED: (Outcome, i64) = (Outcome::Block, 1);
const POSTURE: (Outcome, i64) = (Outcome::Audit, -1);

fn compiled(rules: Vec<Rule>) -> Ruleset {
    compile(&set(vec![policy("p", rules)], Posture::Audit)).unwrap()
}

fn moved(rules: &Ruleset, directory: &str) -> (Outcome, i64) {
    ask(rules, File, "/bin/x", directory, MOVE)
}

#[test]
fn a_directory_above_a_blocked_file_stays() {
    let rules = compiled(vec![rule(File, path("/a/b/c/k"), Block)]);
    for above in ["/", "/a", "/a/b", "/a/b/c"] {
        assert_eq!(moved(&rules, above), BLOCKED, "{above}");
    }
    for beside in ["/a/x", "/a/b/c/x", "/a/b/c/k/x", "/b", "/a/b/cc"] {
        assert_eq!(moved(&rules, beside), FREE, "{beside}");
    }
}

#[test]
fn an_ordinary_write_above_a_blocked_file_is_free() {
    let rules = compiled(vec![rule(File, path("/a/b/k"), Block)]);
    assert_eq!(ask(&rules, File, "/bin/x", "/a/b", WRITE), FREE);
    assert_eq!(ask(&rules, File, "/bin/x", "/a/b", READ), FREE);
}

#[test]
fn a_move_needs_no_write_flag_to_be_a_write() {
    let rules = compiled(vec![rule(File, path("/a"), Block).read_only()]);
    let modes = gorget_model::Modes {
        write: false,
        ..MOVE
    };
    assert_eq!(ask(&rules, File, "/bin/x", "/a", modes), BLOCKED);
}

#[test]
fn the_directory_that_a_rule_names_stays_too() {
    for named in [dir("/a/b/"), tree("/a/b/"), glob("/a/b/*.key")] {
        let rules = compiled(vec![rule(File, named, Block)]);
        assert_eq!(moved(&rules, "/a/b"), BLOCKED);
        assert_eq!(moved(&rules, "/a"), BLOCKED);
    }
}

#[test]
fn a_pattern_guards_up_to_the_last_slash_before_its_first_wildcard() {
    let rules = compiled(vec![rule(File, glob("/a/b*/c/k"), Block)]);
    assert_eq!(moved(&rules, "/a"), BLOCKED);
    assert_eq!(moved(&rules, "/a/bb"), FREE);
    let rules = compiled(vec![rule(File, glob("/a/b/k"), Block)]);
    assert_eq!(moved(&rules, "/a/b"), BLOCKED);
}

#[test]
fn an_execname_guards_nothing() {
    let rules = compiled(vec![rule(Process, execname("nc"), Block)]);
    assert_eq!(moved(&rules, "/"), FREE);
    assert!(!rules.covers(File));
}

#[test]
fn audit_rules_and_allow_rules_for_files_guard_nothing() {
    let rules = compiled(vec![
        rule(File, path("/a/k"), Audit),
        rule(Process, path("/a/x"), Audit),
        rule(File, tree("/"), Allow),
    ]);
    assert_eq!(moved(&rules, "/a"), (Outcome::Pass, 3));
}

#[test]
fn a_source_specific_allow_for_the_object_frees_the_move() {
    let rules = compiled(vec![
        rule(File, tree("/a/secret/"), Block),
        rule(File, tree("/"), Allow),
        rule(File, tree("/a/secret/"), Allow).from("/bin/p"),
    ]);
    assert_eq!(ask(&rules, File, "/bin/p", "/a", MOVE), (Outcome::Pass, 2));
    assert_eq!(ask(&rules, File, "/bin/q", "/a", MOVE), BLOCKED);
}

#[test]
fn a_block_for_one_source_holds_only_that_source() {
    let rules = compiled(vec![rule(File, path("/a/k"), Block).from("/bin/p")]);
    assert_eq!(ask(&rules, File, "/bin/p", "/a", MOVE), BLOCKED);
    assert_eq!(ask(&rules, File, "/bin/q", "/a", MOVE), FREE);
}

#[test]
fn the_rules_for_the_guarded_object_decide_about_it() {
    let rules = compiled(vec![
        rule(File, tree("/a/b/"), Block),
        rule(File, path("/a/b"), Audit),
        rule(File, glob("/a/b"), Block),
    ]);
    assert_eq!(moved(&rules, "/a"), (Outcome::Audit, 2));
}

#[test]
fn a_pattern_is_judged_at_its_literal_directory_beside_the_rules_that_name_it() {
    let rules = compiled(vec![
        rule(File, glob("/a/b/*"), Block),
        rule(File, dir("/a/b/"), Audit),
    ]);
    assert_eq!(moved(&rules, "/a"), BLOCKED);
}

#[test]
fn a_block_rule_for_processes_holds_everybody() {
    let rules = compiled(vec![rule(Process, path("/a/x"), Block).from("/bin/p")]);
    assert_eq!(ask(&rules, File, "/bin/p", "/a", MOVE), BLOCKED);
    assert_eq!(ask(&rules, File, "/bin/q", "/a", MOVE), BLOCKED);
    assert_eq!(moved(&rules, "/a/x"), BLOCKED);
}

#[test]
fn an_allow_rule_for_processes_leaves_it_to_the_posture() {
    let rules = compiled(vec![rule(Process, path("/a/b/x"), Allow)]);
    assert_eq!(moved(&rules, "/a/b"), POSTURE);
    assert_eq!(moved(&rules, "/a"), POSTURE);
    assert_eq!(moved(&rules, "/a/c"), FREE);
}

#[test]
fn an_allowed_directory_of_programs_is_guarded_and_a_program_is_no_directory() {
    for named in [dir("/a/"), tree("/a/"), glob("/a/*")] {
        let rules = compiled(vec![rule(Process, named, Allow)]);
        assert_eq!(moved(&rules, "/a"), POSTURE);
    }
    let rules = compiled(vec![rule(Process, path("/a"), Allow)]);
    assert_eq!(moved(&rules, "/a"), FREE);
}

#[test]
fn the_strictest_counts_and_the_directory_itself_wins_a_tie() {
    let rules = compiled(vec![
        rule(File, path("/a/k"), Block),
        rule(File, path("/a"), Block),
        rule(File, path("/b/k"), Block),
        rule(File, path("/b"), Audit),
    ]);
    assert_eq!(moved(&rules, "/a"), (Outcome::Block, 2));
    assert_eq!(moved(&rules, "/b"), (Outcome::Block, 3));
}

#[test]
fn nobody_counts_as_the_owner_of_what_lies_below() {
    let rules = compiled(vec![rule(File, path("/a/b/k"), Block).owner_only()]);
    assert_eq!(ask(&rules, File, "/bin/x", "/a/b", owned(MOVE)), BLOCKED);
    assert_eq!(
        ask(&rules, File, "/bin/x", "/a/b/k", owned(WRITE)),
        (Outcome::Pass, 1)
    );
}

#[test]
fn the_owner_of_the_named_directory_itself_is_known() {
    let rules = compiled(vec![rule(File, tree("/a/b/"), Block).owner_only()]);
    assert_eq!(
        ask(&rules, File, "/bin/x", "/a/b", owned(MOVE)),
        (Outcome::Pass, 1)
    );
    assert_eq!(ask(&rules, File, "/bin/x", "/a/b", MOVE), BLOCKED);
    assert_eq!(ask(&rules, File, "/bin/x", "/a", owned(MOVE)), BLOCKED);
}

#[test]
fn a_policy_about_processes_covers_files_only_for_moves() {
    let rules = compiled(vec![rule(Process, path("/a/x"), Block)]);
    assert!(rules.covers(File) && rules.covers_only_trees(File));
    let rules = compiled(vec![rule(File, path("/a/x"), Block)]);
    assert!(rules.covers(File) && !rules.covers_only_trees(File));
    assert!(!rules.covers(Process) && !rules.covers_only_trees(Process));
}
