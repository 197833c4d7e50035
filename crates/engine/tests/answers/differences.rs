// SPDX-License-Identifier: Apache-2.0
//! What `diff` answers to changes that people make.

use crate::build::*;
use gorget_engine::{Answer, Decider, Difference, Region, Variant, compile, diff};
use gorget_model::network::{AF_INET, SOCK_STREAM, Socket};
use gorget_model::{
    Access, Capability, Category, Modes, Object, Outcome, Posture, Postures, Preset, Protocol,
    Subject, Syscall,
};
use gorget_policy::{Glob, ObjectMatcher, Policy, Rule, Token};
use std::sync::Arc;

fn difference(old: Vec<Rule>, new: Vec<Rule>) -> Difference {
    diff(&ruleset(old), &ruleset(new)).unwrap()
}

fn between(old: Vec<Arc<Policy>>, new: Vec<Arc<Policy>>) -> Difference {
    let compiled = |policies| compile(&set(policies, Posture::Block)).unwrap();
    diff(&compiled(old), &compiled(new)).unwrap()
}

fn nothing(difference: &Difference) {
    assert!(difference.is_empty(), "{difference:#?}");
}

/// The only region.
fn only(difference: &Difference) -> &Region {
    let regions: Vec<_> = difference.regions().collect();
    assert_eq!(regions.len(), 1, "{difference:#?}");
    regions[0]
}

fn object(region: &Region) -> String {
    match &region.witness.object {
        Object::Path(path) => String::from_utf8(path.clone()).unwrap(),
        other => format!("{other:?}"),
    }
}

/// The line of the rule that decides; 0 no rule, -1 default posture.
fn line(answer: &Answer) -> (Outcome, i64) {
    let line = match &answer.decider {
        Decider::NoRule => 0,
        Decider::DefaultPosture => -1,
        Decider::Rule(rule) => i64::from(rule.at.line),
    };
    (answer.outcome, line)
}

fn etc_conf(class: Option<(u8, u8)>) -> ObjectMatcher {
    let mut tokens = tokens("/etc/");
    tokens.extend(class.map(|range| Token::Class(vec![range])));
    tokens.extend(self::tokens("*.conf"));
    pattern(tokens)
}

#[test]
fn a_narrowed_glob_is_witnessed_by_what_it_no_longer_names() {
    let difference = difference(
        vec![rule(File, etc_conf(None), Block)],
        vec![rule(File, etc_conf(Some((b'a', b'm'))), Block)],
    );
    let region = only(&difference);
    assert_eq!(difference.newly_allowed.len(), 1);
    assert_eq!(object(region), "/etc/.conf");
    assert_eq!(line(&region.old), (Outcome::Block, 1));
    assert_eq!(line(&region.new), (Outcome::Pass, 0));
    assert!(region.any_subject);
    assert!(matches!(region.witness.subject, Subject::Image(_)));
}

#[test]
fn a_glob_with_a_name_before_its_run_is_narrowed_to_a_readable_letter() {
    let named = |class: (u8, u8)| {
        let mut tokens = tokens("/etc/");
        tokens.push(Token::Class(vec![class]));
        tokens.extend(self::tokens("*.conf"));
        rule(File, pattern(tokens), Block)
    };
    let difference = difference(vec![named((b'a', b'z'))], vec![named((b'a', b'm'))]);
    assert_eq!(object(only(&difference)), "/etc/n.conf");
}

#[test]
fn a_recursive_flag_that_is_removed_opens_what_lies_deeper() {
    let difference = difference(
        vec![rule(File, tree("/secret/"), Block)],
        vec![rule(File, dir("/secret/"), Block)],
    );
    let region = only(&difference);
    assert_eq!(difference.newly_allowed.len(), 1);
    assert_eq!(object(region), "/secret/a/a");
    assert_eq!(region.witness.modes, READ);
}

#[test]
fn an_allow_rule_that_made_the_allow_list_is_missed_everywhere_else() {
    let web = rule(Process, path("/bin/web"), Allow);
    let shell = rule(Process, path("/bin/sh"), Block);
    let difference = difference(vec![shell.clone(), web], vec![shell]);
    assert!(difference.newly_denied.is_empty() && difference.alerts.is_empty());
    let listed = &difference.newly_allowed;
    let processes: Vec<_> = listed.iter().filter(|r| r.category == Process).collect();
    assert_eq!(processes.len(), 1, "{listed:#?}");
    assert_eq!(object(processes[0]), "/a");
    assert_eq!(line(&processes[0].old), (Outcome::Block, -1));
    assert_eq!(line(&processes[0].new), (Outcome::Pass, 0));
    let moved: Vec<_> = listed.iter().filter(|r| r.category == File).collect();
    assert!(
        moved.is_empty(),
        "/bin stays in place because of /bin/sh: {moved:#?}"
    );
}

#[test]
fn read_only_lets_readers_in() {
    let difference = difference(
        vec![rule(File, path("/etc/shadow"), Block)],
        vec![rule(File, path("/etc/shadow"), Block).read_only()],
    );
    let region = only(&difference);
    assert_eq!(difference.newly_allowed.len(), 1);
    assert_eq!(
        (object(region).as_str(), region.witness.modes),
        ("/etc/shadow", READ)
    );
    let reading = [0, Variant::OWNER].map(Variant::from_bits);
    assert_eq!(region.variants, reading);
}

#[test]
fn reordered_and_split_policies_make_no_difference() {
    let rules = [
        rule(File, tree("/etc/"), Block),
        rule(File, path("/etc/hosts"), Allow).from("/bin/cat"),
        rule(Process, execname("sh"), Audit),
    ];
    let [a, b, c] = rules.clone();
    let whole = || vec![policy("p", rules.to_vec())];
    nothing(&between(
        whole(),
        vec![policy("p", vec![c.clone(), a.clone(), b.clone()])],
    ));
    nothing(&between(
        whole(),
        vec![
            policy("x", vec![c]),
            policy("y", vec![b]),
            policy("z", vec![a]),
        ],
    ));
}

#[test]
fn the_same_meaning_in_other_words_makes_no_difference() {
    let directory = vec![rule(File, tree("/data/"), Block)];
    let glob_and_itself = vec![
        rule(File, glob("/data/**"), Block),
        rule(File, glob("/data"), Block),
    ];
    nothing(&difference(directory, glob_and_itself));
    let both = vec![rule(File, path("/a"), Block), rule(File, path("/b"), Block)];
    let class = Glob {
        text: "/[ab]".into(),
        tokens: vec![Token::Byte(b'/'), Token::Class(vec![(b'a', b'b')])],
    };
    nothing(&difference(
        both,
        vec![rule(File, ObjectMatcher::Pattern(class), Block)],
    ));
}

#[test]
fn what_only_strings_that_are_no_path_could_tell_apart_makes_no_difference() {
    let all = |text| vec![rule(File, glob(text), Block)];
    nothing(&difference(
        all("/data/**"),
        vec![
            rule(File, glob("/data/**"), Block),
            rule(File, glob("/data/**/"), Audit),
            rule(File, path("/data//x"), Audit),
            rule(File, glob("/data/../**"), Audit),
        ],
    ));
}

#[test]
fn who_is_told_by_another_policy_is_counted_and_no_difference() {
    let rules = || vec![rule(File, path("/a"), Block), rule(File, path("/b"), Audit)];
    let renamed = between(vec![policy("p", rules())], vec![policy("q", rules())]);
    nothing(&renamed);
    assert_eq!(renamed.renamed, 2);
    let mut moved = policy("p", rules());
    Arc::make_mut(&mut moved).rules[0].at.line = 70;
    assert_eq!(between(vec![policy("p", rules())], vec![moved]).renamed, 0);
}

#[test]
fn an_alert_that_appears_is_neither_denied_nor_allowed() {
    let difference = difference(vec![], vec![rule(File, path("/etc/passwd"), Audit)]);
    assert!(difference.newly_denied.is_empty() && difference.newly_allowed.is_empty());
    assert_eq!(object(&difference.alerts[0]), "/etc/passwd");
}

#[test]
fn the_subject_of_a_witness_is_one_that_the_rule_is_about() {
    let difference = difference(
        vec![rule(File, path("/key"), Block)],
        vec![
            rule(File, path("/key"), Block),
            rule(File, path("/key"), Allow).from("/usr/bin/vault"),
        ],
    );
    let allowed = &difference.newly_allowed[0];
    assert_eq!(
        allowed.witness,
        access(File, "/usr/bin/vault", "/key", READ)
    );
    assert_eq!(
        allowed.subjects,
        [Subject::Image(b"/usr/bin/vault".to_vec())]
    );
    assert!(!allowed.any_subject);
    let unlisted = &difference.newly_denied[0];
    assert_eq!(
        line(&unlisted.new),
        (Outcome::Block, -1),
        "in allow-list mode now"
    );
}

#[test]
fn arguments_that_made_the_difference_are_shown() {
    let python =
        |arguments: &[&str]| vec![rule(Process, path("/bin/python"), Block).only_with(arguments)];
    let wider = difference(python(&["-m"]), python(&["-m", "-c"]));
    let region = only(&wider);
    assert_eq!(region.witness.arguments, [b"-c".to_vec()]);
    assert_eq!(
        (region.old.outcome, region.new.outcome),
        (Outcome::Block, Outcome::Pass)
    );
    let narrower = difference(python(&["-m", "-c"]), python(&["-m"]));
    assert_eq!(only(&narrower).witness.arguments, [b"-c".to_vec()]);
    assert_eq!(narrower.newly_denied.len(), 1);
    let other = difference(
        python(&["-m"]),
        vec![rule(Process, path("/bin/python"), Allow)],
    );
    let freed = other
        .newly_allowed
        .iter()
        .find(|r| object(r) == "/bin/python")
        .unwrap();
    assert_eq!(freed.witness.arguments, [b"other".to_vec()]);
}

#[test]
fn a_terminal_that_made_the_difference_is_shown() {
    let shell = || rule(Process, path("/bin/sh"), Audit);
    let difference = difference(vec![shell()], vec![shell().no_terminal()]);
    let region = only(&difference);
    assert!(!region.witness.modes.terminal);
    assert_eq!(line(&region.new), (Outcome::Pass, 0));
    let back = crate::differences::difference(vec![], vec![shell().no_terminal()]);
    assert!(only(&back).witness.modes.terminal);
}

#[test]
fn every_category_has_witnesses_of_its_own_kind() {
    let unlink = Syscall::from_name("unlink").unwrap();
    let raw = Capability::from_name("net_raw").unwrap();
    let cases = [
        (
            rule(
                Category::Network,
                ObjectMatcher::Protocol(Protocol::Tcp),
                Block,
            ),
            Object::Socket(Socket {
                family: AF_INET,
                kind: SOCK_STREAM,
                protocol: 0,
            }),
        ),
        (
            rule(
                Category::Dns,
                ObjectMatcher::Domain("example.com".into()),
                Block,
            ),
            Object::Domain(b"example.com".to_vec()),
        ),
        (
            rule(Category::Capability, ObjectMatcher::Capability(raw), Block),
            Object::Capability(raw),
        ),
        (
            rule(
                Category::Syscall,
                ObjectMatcher::SyscallPath(unlink, "/k".into()),
                Audit,
            ),
            Object::Syscall {
                call: unlink,
                path: Some(b"/k".to_vec()),
            },
        ),
        (
            rule(
                Category::Preset,
                ObjectMatcher::Preset(Preset::ProtectEnv),
                Block,
            ),
            Object::Preset(Preset::ProtectEnv),
        ),
    ];
    for (rule, object) in cases {
        let witness = only(&difference(vec![], vec![rule.clone()]))
            .witness
            .clone();
        let wanted = Access {
            category: rule.category,
            subject: witness.subject.clone(),
            object,
            modes: Modes::default(),
            arguments: Vec::new(),
        };
        assert_eq!(witness, wanted);
    }
}

#[test]
fn a_posture_that_changes_is_a_difference_where_an_allow_list_is() {
    let allow = || vec![policy("p", vec![rule(File, path("/a"), Allow)])];
    let with = |policies, posture| {
        compile(&gorget_engine::PolicySet::new(
            policies,
            Postures::all(posture),
        ))
        .unwrap()
    };
    let (audit, block) = (with(allow(), Posture::Audit), with(allow(), Posture::Block));
    let difference = diff(&audit, &block).unwrap();
    assert_eq!(object(&difference.newly_denied[0]), "/");
    assert_eq!(line(&difference.newly_denied[0].old), (Outcome::Audit, -1));
    let none = |posture| with(vec![], posture);
    nothing(&diff(&none(Posture::Audit), &none(Posture::Block)).unwrap());
}

#[test]
fn a_directory_that_can_no_longer_be_moved_is_denied_to_movers() {
    let difference = difference(
        vec![rule(File, path("/srv/key"), Audit)],
        vec![rule(File, path("/srv/key"), Block)],
    );
    let moving = |r: &&Region| r.witness.modes.tree;
    let moved = difference.newly_denied.iter().find(moving);
    let objects: Vec<_> = difference.newly_denied.iter().map(object).collect();
    assert_eq!(objects, ["/", "/srv/key"], "{difference:#?}");
    assert_eq!(line(&moved.unwrap().old), (Outcome::Pass, 0));
}
