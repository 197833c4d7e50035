// SPDX-License-Identifier: Apache-2.0
//! `decide` against the naive reading, on random policy sets over an alphabet small enough that rules
//! collide all the time.

use crate::generate::{accesses, sets};
use crate::naive::{self, Answer, Reason};
use crate::shape::assert_minimal;
use gorget_engine::{Ruleset, compile, decide};
use gorget_model::{Category, Cause, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

const ACCESSES_PER_SET: usize = 100;
/// With [`ACCESSES_PER_SET`], 100,000 pairs; `PROPTEST_CASES` sets another number.
const SETS: u32 = 1_000;

fn in_words(rules: &Ruleset, verdict: Verdict) -> Answer {
    let reason = match verdict.cause {
        Cause::NoRule => Reason::NoRule,
        Cause::DefaultPosture => Reason::Posture,
        Cause::Rule(id) => {
            let rule = &rules.rules()[id.0 as usize];
            let namespace = rule.namespace.as_deref().unwrap_or("default");
            Reason::Rule(format!("{namespace}/{}", rule.policy), rule.at.clone())
        }
    };
    Answer {
        outcome: verdict.outcome,
        reason,
    }
}

/// The number of policy sets; `PROPTEST_CASES` changes it.
fn sets_to_try() -> u32 {
    let wanted = std::env::var("PROPTEST_CASES");
    wanted.map_or(SETS, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: sets_to_try(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn decide_gives_the_answers_of_the_text(
        set in sets(),
        accesses in vec(accesses(), ACCESSES_PER_SET),
    ) {
        let rules = compile(&set).unwrap();
        for access in &accesses {
            let decided = in_words(&rules, decide(&rules, access));
            prop_assert_eq!(decided, naive::decide(&set, access), "{:?}", access);
        }
    }

    #[test]
    fn the_order_of_policies_does_not_matter(set in sets(), accesses in vec(accesses(), 8)) {
        let mut reversed = set.clone();
        reversed.policies.reverse();
        let (one, other) = (compile(&set).unwrap(), compile(&reversed).unwrap());
        prop_assert_eq!(one.content_id(), other.content_id());
        prop_assert_eq!(one.rules(), other.rules());
        for access in &accesses {
            prop_assert_eq!(decide(&one, access), decide(&other, access));
        }
    }

    #[test]
    fn automata_are_minimal(set in sets()) {
        let rules = compile(&set).unwrap();
        for category in Category::ALL {
            assert_minimal(rules.objects(category));
        }
        assert_minimal(rules.sources());
        assert_minimal(rules.arguments().automaton());
    }

    #[test]
    fn an_uncovered_category_never_speaks(set in sets(), accesses in vec(accesses(), 16)) {
        let rules = compile(&set).unwrap();
        for access in &accesses {
            let category = access.category;
            let ordinary = !access.modes.tree;
            if !rules.covers(category) || (ordinary && rules.covers_only_trees(category)) {
                prop_assert_eq!(decide(&rules, access).cause, Cause::NoRule);
            }
        }
    }
}

#[test]
fn the_random_run_is_large_enough() {
    assert!(sets_to_try() as usize * ACCESSES_PER_SET >= 100_000);
}
