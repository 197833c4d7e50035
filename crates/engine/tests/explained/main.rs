// SPDX-License-Identifier: Apache-2.0
//! Answers about policies, through the public API: why an access is decided as it is (`reasons`), the
//! text form of operations (`operations`), what policies make of a record (`replays`).
//!
//! That explanations agree with `decide` is tested on random sets in `meaning`.
#![cfg(test)]

mod operations;
mod reasons;
mod replays;

use gorget_engine::{Actor, OperationSpec, PolicySet};
use gorget_model::{Access, Posture, Postures, Subject};
use gorget_policy::{Policy, parse};
use std::sync::Arc;

/// The policies of a file; `rules` are the blocks below `spec`, indented by two.
fn policy(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\n\
         kind: KubeArmorPolicy\n\
         metadata: {{ name: {name} }}\n\
         spec:\n  selector: {{ matchLabels: {{ app: web }} }}\n{rules}\n"
    )
}

fn policies(text: &str) -> Vec<Arc<Policy>> {
    let parsed = parse("p.yaml", text);
    assert_eq!(parsed.problems, [], "{text}");
    parsed.policies.into_iter().map(Arc::new).collect()
}

fn set(text: &str) -> PolicySet {
    PolicySet {
        policies: policies(text),
        postures: Postures::all(Posture::Block),
        aliases: gorget_engine::Aliases::default(),
        search_domains: Vec::new(),
    }
}

fn access(operation: &str, source: &str) -> Access {
    OperationSpec::parse(operation).unwrap().by(Actor {
        subject: Subject::Image(source.into()),
        owner: true,
        terminal: false,
        arguments: Vec::new(),
    })
}
