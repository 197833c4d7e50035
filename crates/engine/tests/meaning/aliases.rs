// SPDX-License-Identifier: Apache-2.0
//! Symbolic links: a rule covers its path as written and what that path points to.

use crate::build::*;
use gorget_engine::{Aliases, Ruleset, compile, literal_paths};
use gorget_model::{Outcome, Posture};
use gorget_policy::Rule;

const FREE: (Outcome, i64) = (Outcome::Pass, 0);
const BLOCKED: (Outcome, i64) = (Outcome::Block, 1);

fn linked(rules: Vec<Rule>, links: &[(&str, &str)]) -> Ruleset {
    let mut set = set(vec![policy("p", rules)], Posture::Audit);
    set.aliases = Aliases(
        links
            .iter()
            .map(|(link, to)| ((*link).into(), (*to).into()))
            .collect(),
    );
    compile(&set).unwrap()
}

#[test]
fn every_path_that_may_be_a_link_is_asked_for() {
    let policy = policy(
        "p",
        vec![
            rule(File, path("/etc/mtab"), Block)
                .from("/bin/sh")
                .from("/opt//"),
            rule(File, dir("/var/run/"), Block),
            rule(File, tree("/"), Block),
            rule(File, glob("/bin/*sh"), Block),
            rule(File, glob("/lib/x/y"), Block),
            rule(File, glob("/*/x"), Block),
            rule(File, glob("**/x"), Block),
            rule(Process, execname("nc"), Block),
        ],
    );
    let paths: Vec<_> = literal_paths(&[policy])
        .into_iter()
        .map(|path| String::from_utf8(path).unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/bin",
            "/bin/sh",
            "/etc/mtab",
            "/lib/x/y",
            "/opt",
            "/var/run"
        ]
    );
}

#[test]
fn a_path_covers_link_and_target() {
    let rules = linked(
        vec![rule(File, path("/etc/mtab"), Block)],
        &[("/etc/mtab", "/run/mounts")],
    );
    assert_eq!(read(&rules, "/etc/mtab"), BLOCKED);
    assert_eq!(read(&rules, "/run/mounts"), BLOCKED);
    assert_eq!(read(&rules, "/run/mounts/x"), FREE);
}

#[test]
fn a_directory_covers_both_trees() {
    let rules = linked(
        vec![rule(File, tree("/var/run/"), Block)],
        &[("/var/run", "/run")],
    );
    for named in ["/var/run", "/var/run/a/b", "/run", "/run/a/b"] {
        assert_eq!(read(&rules, named), BLOCKED, "{named}");
    }
    assert_eq!(read(&rules, "/runner"), FREE);
}

#[test]
fn a_pattern_has_its_prefix_replaced() {
    let rules = linked(
        vec![rule(Process, glob("/bin/*sh"), Block)],
        &[("/bin", "/usr/bin")],
    );
    assert_eq!(run(&rules, "/usr/bin/bash"), BLOCKED);
    assert_eq!(run(&rules, "/bin/bash"), BLOCKED);
    assert_eq!(run(&rules, "/usr/bin/x/bash"), FREE);
}

#[test]
fn sources_are_covered_likewise() {
    let rules = linked(
        vec![rule(File, path("/k"), Block).from("/bin/sh").from("/opt//")],
        &[("/bin/sh", "/usr/bin/dash"), ("/opt", "/srv/opt")],
    );
    for image in ["/bin/sh", "/usr/bin/dash", "/opt/x", "/srv/opt/a/b"] {
        assert_eq!(ask(&rules, File, image, "/k", READ), BLOCKED, "{image}");
    }
    assert_eq!(ask(&rules, File, "/usr/bin/sh", "/k", READ), FREE);
}

#[test]
fn the_target_counts_for_the_length_of_a_directory() {
    let rules = linked(
        vec![
            rule(File, tree("/l/"), Block),
            rule(File, tree("/very/long/"), Audit),
        ],
        &[("/l", "/very/long/target")],
    );
    assert_eq!(read(&rules, "/very/long/target/x"), BLOCKED);
}

#[test]
fn the_target_is_guarded_against_moves() {
    let rules = linked(
        vec![rule(File, path("/l/k"), Block)],
        &[("/l/k", "/deep/down/k")],
    );
    assert_eq!(ask(&rules, File, "/bin/x", "/deep", MOVE), BLOCKED);
    assert_eq!(ask(&rules, File, "/bin/x", "/l", MOVE), BLOCKED);
}

#[test]
fn a_link_to_the_root_covers_everything() {
    let rules = linked(
        vec![rule(File, tree("/rootfs/"), Block)],
        &[("/rootfs", "/")],
    );
    assert_eq!(read(&rules, "/etc/x"), BLOCKED);
    assert_eq!(read(&rules, "/"), BLOCKED);
    let rules = linked(
        vec![rule(File, glob("/rootfs/*/x"), Block)],
        &[("/rootfs", "/")],
    );
    assert_eq!(read(&rules, "/etc/x"), BLOCKED);
}

#[test]
fn an_alias_for_what_no_rule_names_has_no_effect() {
    let rules = linked(
        vec![rule(File, path("/a/k"), Block)],
        &[("/a", "/b"), ("/", "/c")],
    );
    assert_eq!(read(&rules, "/b/k"), FREE);
    assert_eq!(read(&rules, "/c/a/k"), FREE);
}
