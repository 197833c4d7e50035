// SPDX-License-Identifier: Apache-2.0
//! `decide` against `explain`, the second reading of the same text, on random policy sets over an alphabet small enough that rules
//! collide all the time.

use crate::generate::{accesses, sets};
use crate::shape::assert_minimal;
use gorget_engine::{
    Explanation, Fate, RuleRef, Ruleset, Side, Unlisted, compile, decide, explain,
};
use gorget_model::{Access, Category, Cause};
use proptest::collection::vec;
use proptest::prelude::*;

const ACCESSES_PER_SET: usize = 100;
/// With [`ACCESSES_PER_SET`], 100,000 pairs; `PROPTEST_CASES` sets another number.
const SETS: u32 = 1_000;

/// The number of policy sets; `PROPTEST_CASES` changes it.
fn sets_to_try() -> u32 {
    let wanted = std::env::var("PROPTEST_CASES");
    wanted.map_or(SETS, |text| text.parse().unwrap())
}

/// What the parts of an explanation say against each other.
fn contradiction(
    rules: &Ruleset,
    access: &Access,
    explanation: &Explanation,
) -> Option<&'static str> {
    let with = |fate: &Fate| explanation.rules.iter().filter(|r| r.fate == *fate).count();
    let (deciding, leaving) = (with(&Fate::Decides), with(&Fate::LeavesToPosture));
    let winner = explanation.winner().map(|winner| winner.rule.id);
    let by_posture = matches!(explanation.unlisted, Unlisted::Posture { .. });
    let told = |rule: &RuleRef| {
        let info = &rules.rules()[rule.id.0 as usize];
        info.at == rule.at && info.action == rule.action
    };
    let checks = [
        (
            "who decides",
            match explanation.verdict.cause {
                Cause::Rule(id) => (deciding, leaving, winner) == (1, 0, Some(id)),
                Cause::DefaultPosture => deciding == 0 && (leaving == 1) == winner.is_some(),
                Cause::NoRule => (deciding, leaving) == (0, 0) && !by_posture,
            },
        ),
        (
            "a file's posture decides in allow-list mode, or when a listed program would move",
            explanation.verdict.cause != Cause::DefaultPosture
                || by_posture
                || explanation.side == Side::Moving
                || matches!(access.category, Category::Syscall | Category::Preset),
        ),
        (
            "the side",
            match explanation.side {
                Side::Whole => {
                    access.category != Category::File || !(access.modes.write || access.modes.tree)
                }
                Side::Reading => access.modes.read,
                Side::Writing => access.modes.write && !access.modes.tree,
                Side::Moving => access.modes.tree,
            },
        ),
        (
            "the rules are those that were compiled",
            explanation.rules.iter().all(|r| told(&r.rule)),
        ),
        (
            "who could win says something",
            explanation.rules.iter().all(|r| {
                r.asks.is_some()
                    || matches!(
                        r.fate,
                        Fate::SourceDiffers | Fate::ObjectDiffers | Fate::Silenced(_)
                    )
            }),
        ),
    ];
    checks
        .iter()
        .find(|(_, holds)| !holds)
        .map(|(what, _)| *what)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: sets_to_try(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn decide_and_explain_give_the_same_answer_for_a_stated_reason(
        set in sets(),
        accesses in vec(accesses(), ACCESSES_PER_SET),
    ) {
        let rules = compile(&set).unwrap();
        for access in &accesses {
            let explanation = explain(&set, access);
            prop_assert_eq!(decide(&rules, access), explanation.verdict, "{:?}", access);
            prop_assert_eq!(contradiction(&rules, access, &explanation), None, "{:?}", explanation);
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
