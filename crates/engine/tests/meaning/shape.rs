// SPDX-License-Identifier: Apache-2.0
//! What backends rely on: small, total, absorbing states first, tables without holes.

use crate::build::*;
use gorget_engine::{Automaton, Ruleset, Variant, compile};
use gorget_model::{Category, Modes, Posture};
use std::collections::{BTreeSet, HashSet};

fn mixed() -> Ruleset {
    ruleset(vec![
        rule(File, tree("/usr/"), Block),
        rule(File, glob("/home/*/.ssh/**"), Audit).from("/bin/x"),
        rule(File, path("/etc/passwd"), Allow)
            .read_only()
            .from("/opt/"),
        rule(Process, execname("nc"), Block),
        rule(Process, tree("/bin/"), Allow),
    ])
}

fn automata(rules: &Ruleset) -> [&Automaton; 3] {
    [rules.objects(Process), rules.objects(File), rules.sources()]
}

#[test]
fn the_empty_set_is_one_state_that_decides_nothing() {
    let rules = compile(&set(vec![], Posture::Block)).unwrap();
    for automaton in automata(&rules) {
        assert_eq!(automaton.state_count(), 1);
        assert_eq!(automaton.class_count(), 1);
        assert_eq!(automaton.sinks(), 1);
        assert_eq!(automaton.accept(automaton.start()), 0);
    }
    assert_eq!(rules.source_classes(), 1);
    assert!(!rules.covers(File) && !rules.covers(Process));
}

#[test]
fn one_path_takes_one_state_a_byte_and_the_two_ends() {
    let rules = ruleset(vec![rule(File, path("/k/x"), Audit)]);
    let automaton = rules.objects(File);
    assert_eq!(automaton.state_count(), 4 + 2);
    assert_eq!(automaton.class_count(), 4);
    assert_eq!(automaton.sinks(), 1);
}

#[test]
fn equal_tails_are_shared() {
    let names = ["/aa/very/long/tail", "/bb/very/long/tail"];
    let audit = |name: &&str| rule(File, path(name), Audit);
    let both = ruleset(vec![rule(File, glob(names[0]), Audit)]);
    let alternatives = gorget_policy::Token::Alternatives(vec![tokens("aa"), tokens("bb")]);
    let tokens = [tokens("/"), vec![alternatives], tokens("/very/long/tail")].concat();
    let shared = ruleset(vec![rule(File, pattern(tokens), Audit)]);
    assert_eq!(
        shared.objects(File).state_count(),
        both.objects(File).state_count() + 1
    );
    let separate = ruleset(names.iter().map(audit).collect());
    assert!(separate.objects(File).state_count() > shared.objects(File).state_count());
}

#[test]
fn a_rule_that_changes_nothing_adds_no_state() {
    let alone = ruleset(vec![rule(File, tree("/a/"), Audit)]);
    let beside = ruleset(vec![
        rule(File, tree("/a/"), Audit),
        rule(File, glob("/a/b*/c?/**"), Audit),
    ]);
    assert_eq!(beside.objects(File), alone.objects(File));
}

#[test]
fn states_below_sinks_absorb_and_no_others() {
    for automaton in automata(&mixed()) {
        for state in 0..automaton.state_count() {
            let absorbs =
                (0..automaton.class_count()).all(|class| automaton.next(state, class) == state);
            assert_eq!(absorbs, state < automaton.sinks(), "{state}");
        }
    }
}

#[test]
fn no_two_states_are_equivalent() {
    automata(&mixed()).into_iter().for_each(assert_minimal);
}

/// Splits states by value and successors until nothing changes: each must end up alone.
pub(crate) fn assert_minimal(automaton: &Automaton) {
    let states: Vec<u32> = (0..automaton.state_count()).collect();
    let mut block: Vec<usize> = states
        .iter()
        .map(|state| automaton.accept(*state) as usize)
        .collect();
    loop {
        let key = |state: &u32| {
            let classes = 0..automaton.class_count();
            let next = classes.map(|class| block[automaton.next(*state, class) as usize]);
            [block[*state as usize]].into_iter().chain(next).collect()
        };
        let keys: Vec<Vec<usize>> = states.iter().map(key).collect();
        let distinct: Vec<&Vec<usize>> = keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let before = block.iter().collect::<BTreeSet<_>>().len();
        if distinct.len() == before {
            assert_eq!(before, states.len(), "{automaton:?}");
            return;
        }
        block = keys
            .iter()
            .map(|key| distinct.binary_search(&key).unwrap())
            .collect();
    }
}

#[test]
fn no_two_classes_are_equivalent_and_every_class_has_a_byte() {
    for automaton in automata(&mixed()) {
        let columns: HashSet<Vec<u32>> = (0..automaton.class_count())
            .map(|class| {
                (0..automaton.state_count())
                    .map(|s| automaton.next(s, class))
                    .collect()
            })
            .collect();
        assert_eq!(columns.len(), automaton.class_count() as usize);
        let used: HashSet<u32> = (1..=255).map(|byte| automaton.class_of(byte)).collect();
        assert_eq!(used.len(), automaton.class_count() as usize);
    }
}

#[test]
fn accept_values_are_rows_of_the_table_and_source_classes() {
    let rules = mixed();
    for category in Category::ALL {
        let automaton = rules.objects(category);
        let rows: HashSet<u32> = (0..automaton.state_count())
            .map(|state| automaton.accept(state))
            .collect();
        assert_eq!(rows.len(), rules.decisions(category).row_count() as usize);
        assert!(
            rows.iter()
                .all(|row| *row < rules.decisions(category).row_count())
        );
    }
    let sources = rules.sources();
    assert!((0..sources.state_count()).all(|s| sources.accept(s) < rules.source_classes()));
}

#[test]
fn variants_are_made_of_modes() {
    let all = Modes {
        read: true,
        write: true,
        owner: true,
        tree: true,
        terminal: true,
    };
    let none = Modes::default();
    let bits = |variant: Variant| variant.bits();
    assert_eq!(bits(Variant::read(all)), Variant::OWNER);
    assert_eq!(bits(Variant::read(none)), 0);
    assert_eq!(bits(Variant::write(none)), Variant::WRITE);
    assert_eq!(bits(Variant::write(all)), 7);
    assert_eq!(
        Variant::of(Process, all),
        (Variant::from_bits(Variant::OWNER), None)
    );
    assert_eq!(
        Variant::of(File, BOTH),
        (Variant::write(BOTH), Some(Variant::read(BOTH)))
    );
    assert_eq!(Variant::of(File, none), (Variant::read(none), None));
}

#[test]
fn a_tree_variant_is_a_write_with_or_without_the_bit() {
    let rules = mixed();
    for category in Category::ALL {
        let table = rules.decisions(category);
        for row in 0..table.row_count() {
            for source in 0..rules.source_classes() {
                for owner in [0, Variant::OWNER] {
                    let with = Variant::from_bits(Variant::TREE | Variant::WRITE | owner);
                    let without = Variant::from_bits(Variant::TREE | owner);
                    let decision = |variant| table.decision(row, source, variant);
                    assert_eq!(decision(with), decision(without));
                }
            }
        }
    }
}

#[test]
fn four_thousand_bytes_and_two_thousand_components_are_ordinary() {
    let long = format!("/{}", vec!["x".repeat(250); 15].join("/"));
    let deep = "/d".repeat(2_000);
    let rules = ruleset(vec![
        rule(File, path(&long), Block),
        rule(File, path(&deep), Block),
        rule(File, tree("/y/"), Audit),
    ]);
    assert_eq!(read(&rules, &long).1, 1);
    assert_eq!(read(&rules, &format!("{long}x")).1, 0);
    assert_eq!(read(&rules, &deep).1, 2);
    assert_eq!(read(&rules, &format!("/y{deep}")).1, 3);
}

#[test]
fn every_byte_but_zero_can_be_in_a_path() {
    let ranges = vec![(1, b'.'), (b'0', 255)];
    let tokens = [tokens("/"), vec![gorget_policy::Token::Class(ranges)]].concat();
    let rules = ruleset(vec![rule(File, pattern(tokens), Block)]);
    let automaton = rules.objects(File);
    for byte in 1..=255 {
        assert_eq!(automaton.run(&[b'/', byte]) != 0, byte != b'/', "{byte}");
    }
}
