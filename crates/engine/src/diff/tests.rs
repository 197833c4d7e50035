// SPDX-License-Identifier: Apache-2.0
//! Where a comparison ends because it would take too long. What it finds is tested through the
//! public API.

use super::*;
use crate::compile::{PolicySet, compile};
use gorget_model::{Posture, Postures};
use gorget_policy::parse;
use std::sync::Arc;

fn ruleset(paths: &[&str]) -> Ruleset {
    let mut text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                    metadata: {name: p}\nspec:\n  selector: {matchLabels: {app: a}}\n  \
                    action: Block\n  file:\n    matchPatterns:\n"
        .to_owned();
    for path in paths {
        text.push_str(&format!("    - pattern: '{path}'\n"));
    }
    let policies = parse("p.yaml", &text).policies.into_iter().map(Arc::new);
    let set = PolicySet::new(policies.collect(), Postures::all(Posture::Block));
    compile(&set).unwrap()
}

#[test]
fn patterns_that_multiply_each_other_are_refused() {
    let (old, new) = (ruleset(&["/*a*b*c*d"]), ruleset(&["/*d*c*b*a"]));
    let limits = Limits {
        states: 10,
        ..LIMITS
    };
    let refused = diff_within(&old, &new, limits).unwrap_err();
    let part = Part::Objects(Category::File);
    assert_eq!(refused, DiffError::TooComplex { part, limit: 10 });
    assert_eq!(
        refused.to_string(),
        "going through file rules takes more than 10 states"
    );
    assert!(!diff(&old, &new).unwrap().is_empty());
}

#[test]
fn too_many_answers_are_refused() {
    let (old, new) = (ruleset(&["/a"]), ruleset(&["/b"]));
    let limits = Limits {
        answers: 5,
        ..LIMITS
    };
    let part = Part::Objects(Category::File);
    let refused = diff_within(&old, &new, limits);
    assert_eq!(refused, Err(DiffError::TooManyDecisions { part, limit: 5 }));
}
