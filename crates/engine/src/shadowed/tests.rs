// SPDX-License-Identifier: Apache-2.0
//! For every rule that is not reported, the access that keeps it from being reported is held against
//! the other readings of the semantics. What is reported is tested through the public API.

use super::*;
use crate::{compile, decide, explain};
use gorget_model::{Cause, RuleId};
use gorget_policy::Policy;
use proptest::prelude::*;
use std::sync::Arc;

#[expect(dead_code, reason = "of interest here are only policy sets")]
#[path = "../../tests/meaning/generate.rs"]
mod generate;

fn findings(set: &PolicySet) -> Findings {
    let prepared = Prepared::new(set, BUDGET).unwrap();
    let compiler = Compiler {
        set,
        prepared: &prepared,
        budget: BUDGET,
        max_cells: MAX_CELLS,
    };
    Search::new(&compiler, LIMITS).unwrap().run().unwrap()
}

fn without(set: &PolicySet, rule: &RuleInfo) -> PolicySet {
    let mut set = set.clone();
    for policy in &mut set.policies {
        if policy.name == rule.policy && policy.namespace == rule.namespace {
            let policy: &mut Policy = Arc::make_mut(policy);
            policy.rules.retain(|other| other.at != rule.at);
        }
    }
    set
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_rule_that_is_not_reported_decides_an_access(set in generate::sets()) {
        let rules = compile(&set).unwrap();
        for (id, finding) in (0..).zip(&findings(&set).rules) {
            let id = RuleId(id);
            if let Some(access) = &finding.decides {
                let explanation = explain(&set, access);
                let won = explanation.winner().map(|winner| winner.rule.id);
                let named = decide(&rules, access).cause;
                prop_assert!(won == Some(id) || named == Cause::Rule(id), "{access:?}");
            }
            if let Some(access) = &finding.matters {
                let rest = compile(&without(&set, &rules.rules()[id.0 as usize])).unwrap();
                let [with, without] = [&rules, &rest].map(|rules| decide(rules, access).outcome);
                prop_assert!(with != without, "{access:?}");
            }
        }
    }
}

#[test]
fn a_search_that_takes_too_long_is_refused() {
    use proptest::strategy::ValueTree;
    let set = generate::sets()
        .new_tree(&mut proptest::test_runner::TestRunner::deterministic())
        .unwrap()
        .current();
    let steps = Limits {
        answers: 3,
        ..LIMITS
    };
    let refused = shadowed_within(&set, steps).unwrap_err();
    let ShadowedError::Search(DiffError::TooManyDecisions { limit: 3, .. }) = refused else {
        panic!("{refused:?}");
    };
    let states = Limits {
        states: 2,
        ..LIMITS
    };
    let refused = shadowed_within(&set, states).unwrap_err();
    let ShadowedError::Search(DiffError::TooComplex { limit: 2, .. }) = refused else {
        panic!("{refused:?}");
    };
}
