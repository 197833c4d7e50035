// SPDX-License-Identifier: Apache-2.0
//! What a policy means.
//!
//! [`compile`] turns the policies of one workload into a [`Ruleset`]: everything they say, with
//! nothing left to interpret. [`decide`] answers one access from it and is the reference that every
//! backend is tested against: a backend that differs from it has a bug or a listed limit.
//!
//! A ruleset holds, for each category, an [`Automaton`] over the bytes of the object
//! ([`object_bytes`]: a path, or what stands for a socket, a domain and so on) and a
//! [`DecisionTable`]; and one automaton over the path of the subject's image. An answer is two
//! passes and one indexed load, whatever the number of rules:
//!
//! ```text
//! row      = objects(category).run(bytes of the object)   0 when no rule names the object
//! source   = sources().run(subject's image path)          0 when no fromSource names the subject
//! decision = decisions(category).decision(row, source, variant of the access)
//! ```
//!
//! The decision is a verdict, or, where `pts` or `allowedArgs` matter, a [`Branch`] that leads to one.
//!
//! All rules about precedence are applied while compiling (`precedence`, `trees`). The result does
//! not depend on the order of the policies, and equal policy sets give the same bytes
//! ([`Ruleset::content_id`]). No I/O, no clock, no state; hostile patterns cost a bounded amount of
//! work and end in a [`CompileError`].
//!
//! Answers for people: [`explain`] says why, rule by rule and apart from the automata; [`verify`] decides
//! the cases of a test file ([`Scenario`], operations as text in [`OperationSpec`]); [`Replay`] counts
//! what policies make of recorded accesses; [`diff`] and [`diff_policies`] say what a change of policies
//! changes, [`shadowed`] which rules decide nothing, both with accesses that show it; [`limits`] what a backend leaves undone.
//! [`conformance`] runs the scenarios that every backend must
//! agree on.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
extern crate self as gorget_engine;

mod arguments;
mod automaton;
mod compile;
pub mod conformance;
mod decisions;
mod diff;
mod explain;
mod forms;
mod limits;
mod listing;
mod minimise;
mod nfa;
mod objects;
mod operation;
mod precedence;
mod replay;
mod ruleset;
mod shadowed;
mod subsets;
mod table;
mod trees;
mod verify;

pub use arguments::Arguments;
pub use automaton::Automaton;
pub use compile::{CompileError, Part, PolicySet, compile};
pub use decisions::{Branch, Decision, Test};
pub use diff::{
    Answer, Decider, DiffError, DiffPoliciesError, Difference, PolicyDifference, Region,
    WorkloadDifference, diff, diff_policies,
};
pub use explain::{
    Considered, Effect, Explanation, Fate, Modifier, Naming, RuleRef, Side, Unlisted, explain,
};
pub use forms::{Aliases, literal_paths};
pub use gorget_policy::Token;
pub use limits::{Backend, Limit, Unenforced, limits, network_limits};
pub use listing::{Listing, Listings, Named, Step};
pub use objects::{object_bytes, object_from_bytes};
pub use operation::{Actor, OperationError, OperationSpec};
pub use replay::{RecordedAccess, Replay, Replayed, RuleUse, Sample, Tally, Unread, Use};
pub use ruleset::{ContentId, RuleInfo, Ruleset, decide};
pub use shadowed::{HiddenBy, Shadowed, ShadowedError, Why, shadowed};
pub use table::{DecisionTable, Variant};
pub use verify::{Case, CaseError, Observed, ReadError, Scenario, ScenarioError, Verified, verify};
